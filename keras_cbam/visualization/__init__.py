"""What a model learned and attends to, as pictures."""

from keras_cbam.visualization.figures import plot_learning_curves

__all__ = ["plot_learning_curves"]
