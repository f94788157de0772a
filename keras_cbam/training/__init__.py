"""The engine: trains, saves, measures and checks the model of a task, whatever the task is."""

from typing import TYPE_CHECKING

from keras_cbam._lazy import import_lazily

if TYPE_CHECKING:
    from keras_cbam.training.comparison import Comparison as Comparison
    from keras_cbam.training.comparison import compare_trainings as compare_trainings
    from keras_cbam.training.saved_run import SavedRun as SavedRun
    from keras_cbam.training.saved_run import find_run as find_run
    from keras_cbam.training.task import Phase as Phase
    from keras_cbam.training.trainer import Run as Run
    from keras_cbam.training.trainer import fit as fit
    from keras_cbam.training.trainer import train as train

import_lazily(__name__)
