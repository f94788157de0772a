"""The engine: trains, saves, measures and checks the model of a task, whatever the task is."""

from keras_cbam._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Phase": "keras_cbam.training.task",
        "Run": "keras_cbam.training.trainer",
        "SavedRun": "keras_cbam.training.saved_run",
        "find_run": "keras_cbam.training.saved_run",
        "fit": "keras_cbam.training.trainer",
        "train": "keras_cbam.training.trainer",
    },
)
