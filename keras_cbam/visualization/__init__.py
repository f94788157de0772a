"""Shows what a model learned and attends to, as arrays and as figures."""

from keras_cbam.visualization.class_maps import ClassActivation, class_activation, grad_cam
from keras_cbam.visualization.figures import compare_grad_cam, plot_attention, plot_grad_cam
from keras_cbam.visualization.layer_maps import AttentionScores, attention_maps
from keras_cbam.visualization.localization import area_share, energy_inside, pointing_game
from keras_cbam.visualization.run_figures import (
    plot_comparison,
    plot_confusion_matrix,
    plot_learning_curves,
)

__all__ = [
    "AttentionScores",
    "ClassActivation",
    "area_share",
    "attention_maps",
    "class_activation",
    "compare_grad_cam",
    "energy_inside",
    "grad_cam",
    "plot_attention",
    "plot_comparison",
    "plot_confusion_matrix",
    "plot_grad_cam",
    "plot_learning_curves",
    "pointing_game",
]
