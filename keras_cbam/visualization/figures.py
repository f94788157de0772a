"""Figures of Matplotlib. Each function returns a `Figure` and shows nothing on screen."""

from matplotlib.figure import Figure

# The first two of Okabe and Ito's colours that stay distinct for colour-blind readers.
TRAINING_COLOUR, VALIDATION_COLOUR = "#0072B2", "#D55E00"


def plot_learning_curves(history):
    """Loss and accuracy over the epochs, of the training and the validation data.

    Args:
        history: dict of lists with one number for each epoch, as in `History.history`: `"loss"`,
            `"accuracy"` and, if there are any, `"val_loss"`, `"val_accuracy"`.

    Returns:
        A `matplotlib.figure.Figure`.

    Example:

    >>> figure = plot_learning_curves({"loss": [1.2, 0.8], "accuracy": [0.6, 0.7]})
    >>> len(figure.axes)
    2
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, metric, title in zip(axes, ("loss", "accuracy"), ("Loss", "Accuracy")):
        for prefix, label, colour in (
            ("", "training", TRAINING_COLOUR),
            ("val_", "test", VALIDATION_COLOUR),
        ):
            values = history.get(prefix + metric)
            if values:
                epochs = range(1, len(values) + 1)
                axis.plot(epochs, values, color=colour, label=label, marker="o", markersize=3)
        axis.set(title=title, xlabel="Epoch", ylabel=title)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend()
    return figure
