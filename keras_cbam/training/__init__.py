"""The engine: trains, saves, measures and checks the model of a task, whatever the task is."""

from keras_cbam._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Comparison": "keras_cbam.training.comparison",
        "Phase": "keras_cbam.training.task",
        "Run": "keras_cbam.training.trainer",
        "SavedRun": "keras_cbam.training.saved_run",
        "compare_trainings": "keras_cbam.training.comparison",
        "find_run": "keras_cbam.training.saved_run",
        "fit": "keras_cbam.training.trainer",
        "train": "keras_cbam.training.trainer",
    },
)
