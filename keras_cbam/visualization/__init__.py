"""What a model learned and attends to, as arrays and as figures."""

from keras_cbam.visualization.class_maps import grad_cam
from keras_cbam.visualization.figures import (
    compare_grad_cam,
    plot_attention,
    plot_confusion_matrix,
    plot_grad_cam,
    plot_learning_curves,
)
from keras_cbam.visualization.layer_maps import AttentionScores, attention_maps

__all__ = [
    "AttentionScores",
    "attention_maps",
    "compare_grad_cam",
    "grad_cam",
    "plot_attention",
    "plot_confusion_matrix",
    "plot_grad_cam",
    "plot_learning_curves",
]
