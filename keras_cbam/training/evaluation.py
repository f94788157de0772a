"""How good a classifier's predictions are."""

import numpy as np


def classification_report(labels, probabilities, class_names):
    """Accuracy, recall of each class and the confusion matrix.

    Args:
        labels: int array of shape `(pictures,)`.
        probabilities: float array of shape `(pictures, classes)`.
        class_names: list of strings.

    Returns:
        Dict: `"accuracy"`, `"per_class_recall"` (`{name: recall}`, `None` for a class without
        pictures) and `"confusion_matrix"`, rows the true and columns the predicted classes.
    """
    classes = len(class_names)
    predicted = np.argmax(probabilities, axis=-1)
    matrix = np.bincount(labels * classes + predicted, minlength=classes**2)
    matrix = matrix.reshape(classes, classes)
    pictures = matrix.sum(axis=1)
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "per_class_recall": {
            name: float(matrix[i, i] / pictures[i]) if pictures[i] else None
            for i, name in enumerate(class_names)
        },
        "confusion_matrix": matrix.tolist(),
    }
