"""How a detector starts and is optimized: weights from a classifier, and the two recipes."""

import contextlib
import math
import os
from typing import Any

import keras

from keras_cbam.errors import WeightsError, quoted
from keras_cbam.files.weight_files import finalize, named_layers, read_named_weights
from keras_cbam.training.optimization import (
    MOMENTUM,
    coupled_weight_decay,
    divided_by_ten,
    layers_without_attention,
    warmed_up_cosine,
)
from keras_cbam.training.precision import jit_compile
from keras_cbam.training.task import Phase

CLIPNORM = 10.0
# Part of the steps in which the rate of the default recipe rises.
WARMUP = 0.1


def recipe_phases(arguments: Any, model: Any, steps: int) -> list[Phase]:
    """Returns the one phase of a recipe, for so many `steps` an epoch.

    `"default"`: AdamW with decoupled weight decay. The rate rises linearly in the first tenth of
    the steps and falls by a cosine; the gradient of each variable is clipped to a norm of 10.

    `"paper"`: stochastic gradient descent with momentum 0.9; the rate is divided by ten after each
    of `decay_iterations`; the weight decay is part of the gradient of the kernels.

    - `ssd`, as SSD300 on VOC 2007 and 2012 ([code](https://github.com/weiliu89/caffe/tree/ssd),
      `examples/ssd/ssd_pascal.py`): rate 1e-3, divided after 80,000 and 100,000 of 120,000 steps
      with 32 images, decay 5e-4, VGG16. Other than there: images keep their aspect and are padded
      to 300 x 300, not stretched; colours change in brightness, contrast and saturation, not in
      hue; the limit of a crop is drawn before the crop; difficult objects are not trained on; the
      first feature map has six default boxes a position, as the CBAM paper's parameters tell, not
      four; further convolutions start by He's rule, not by Xavier's; biases learn at the rate of
      the kernels, not at twice that.
    - `stairnet`: SSD's training, with its differences. [StairNet](
      https://arxiv.org/abs/1709.05788) builds on SSD300 and published no code to compare with.
    - `faster_rcnn`, as on COCO in [tf-faster-rcnn](https://github.com/endernewton/tf-faster-rcnn),
      which the CBAM paper follows: rate 1e-3, divided after 350,000 of 490,000 steps with one
      image, decay 1e-4, the shorter side 600 and the longer at most 1000 pixels, flips. Other than
      there: a feature pyramid and two fully connected layers stand for the fourth stage's feature
      map and the fifth stage as the head; anchors are 8 times the stride of each level, 32 to 512
      pixels, for 4 to 32 times 16; of the 1,000 best proposals of an image, not 2,000, 128 are
      sampled, not 256; smooth L1 of the second stage has a beta of 1/9, not 1; an IoU above 0.45
      suppresses, not above 0.3; no stage of the backbone is fixed; images are padded to 1000 x
      1000.

    In both papers' trainings the length is rounded to whole epochs, and the drops with it. Keras'
    momentum holds the rate, as Caffe's: TensorFlow's and PyTorch's are scaled when it drops.
    """
    recipe = _paper if arguments.recipe == "paper" else _default
    return [Phase(arguments.epochs, lambda: recipe(arguments, model, arguments.epochs * steps))]


@contextlib.contextmanager
def _default(arguments, model, steps):
    rate = warmed_up_cosine(arguments.learning_rate, steps, max(1, math.ceil(WARMUP * steps)))
    optimizer = keras.optimizers.AdamW(rate, arguments.weight_decay, clipnorm=CLIPNORM)
    model.compile(optimizer, jit_compile=jit_compile(arguments.xla))
    yield


@contextlib.contextmanager
def _paper(arguments, model, steps):
    part = steps / arguments.iterations
    drops = [round(drop * part) for drop in arguments.decay_iterations]
    optimizer = keras.optimizers.SGD(divided_by_ten(arguments.learning_rate, drops), MOMENTUM)
    kernels = [each for each in model.trainable_variables if len(each.shape) > 1]
    with coupled_weight_decay(kernels, arguments.weight_decay):
        model.compile(optimizer, jit_compile=jit_compile(arguments.xla))
        yield


def freeze_batch_norm(backbone: keras.Model) -> None:
    """The backbone's batch normalization is constant from now on, except that of attention."""
    for layer in layers_without_attention(backbone):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def take_weights(backbone: keras.Model, path: str | os.PathLike) -> dict[str, Any]:
    """Sets the layers that have the name and the shapes of one in a `.keras` file.

    Returns:
        Dict for the report: `"file"`, `"layers_taken"`, and `"layers_left"`, names of the others.

    Raises:
        WeightsError: if there is no such layer, or the file cannot be read.
    """
    given, layers = read_named_weights(path), named_layers(backbone)
    left = []
    for name, layer in layers.items():
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if [array.shape for array in given.get(name, [])] == shapes:
            layer.set_weights(given[name])
            finalize(layer)
        else:
            left.append(name)
    if len(left) == len(layers):
        raise WeightsError(
            f"The model {quoted(path)} has no layer with the name and the shapes of one of the "
            f"{len(layers)} of the backbone, such as {left[0]!r}."
        )
    return {"file": str(path), "layers_taken": len(layers) - len(left), "layers_left": left}
