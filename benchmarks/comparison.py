"""What the benchmarks of speed and memory compare with, and how they time it."""

import importlib.util
import os
import platform
import statistics
import time

import keras
from keras import ops

from keras_cbam import attention_classifier
from keras_cbam.classification.arguments import RECIPES


@keras.saving.register_keras_serializable(package="benchmarks")
class Port(keras.layers.Layer):
    """CBAM as it is usually written for Keras: one operation of the formula after the other."""

    def __init__(self, reduction_ratio=16, kernel_size=7, **kwargs):
        super().__init__(**kwargs)
        self.reduction_ratio = reduction_ratio
        self.kernel_size = kernel_size

    def build(self, input_shape):
        channels, space = input_shape[-1], len(input_shape) - 2
        hidden = max(1, channels // self.reduction_ratio)
        self.hidden = keras.layers.Dense(hidden, activation="relu", dtype=self.dtype_policy)
        self.hidden.build((None, channels))
        self.logits = keras.layers.Dense(channels, dtype=self.dtype_policy)
        self.logits.build((None, hidden))
        convolution = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}
        self.convolution = convolution[space](
            1,
            self.kernel_size,
            padding="same",
            use_bias=False,
            activation="sigmoid",
            data_format="channels_last",
            dtype=self.dtype_policy,
        )
        self.convolution.build((*input_shape[:-1], 2))

    def call(self, inputs):
        space = tuple(range(1, len(inputs.shape) - 1))
        logits = [
            self.logits(self.hidden(pool(inputs, axis=space, keepdims=True)))
            for pool in (ops.mean, ops.max)
        ]
        x = inputs * ops.sigmoid(logits[0] + logits[1])
        maps = [pool(x, axis=-1, keepdims=True) for pool in (ops.mean, ops.max)]
        return x * self.convolution(ops.concatenate(maps, axis=-1))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        config = {"reduction_ratio": self.reduction_ratio, "kernel_size": self.kernel_size}
        return {**super().get_config(), **config}


def default_classifier():
    """The network that `keras-cbam train` makes of the embedded images."""
    default = RECIPES["default"]
    return attention_classifier(
        default["backbone"],
        10,
        weights=None,
        input_shape=(32, 32, 3),
        where=default["where"],
        **default["backbone_arguments"],
    )


def has_torch():
    return importlib.util.find_spec("torch") is not None


def torch_twin(channels):
    """CBAM of the formula as a PyTorch module, for tensors `(batch, channels, height, width)`."""
    import torch
    from torch import nn

    class Twin(nn.Module):
        def __init__(self):
            super().__init__()
            hidden = max(1, channels // 16)
            self.mlp = nn.Sequential(
                nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
            )
            self.convolution = nn.Conv2d(2, 1, 7, padding=3, bias=False)

        def forward(self, x):
            average, top = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
            x = x * (self.mlp(average) + self.mlp(top)).sigmoid()
            maps = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
            return x * self.convolution(maps).sigmoid()

    return Twin()


def interleaved(functions, rounds):
    """Median milliseconds of each function of a dict, run in turn, so that noise falls on all."""
    for function in functions.values():
        function()
        function()
    times = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(values) for name, values in times.items()}


def accelerators():
    """Names of the devices beside the CPU."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")
        ]
    import jax

    return [device.device_kind for device in jax.devices() if device.platform != "cpu"]


def is_cpu():
    return not accelerators()


def machine():
    """The devices that Keras computes on, in words."""
    devices = ", ".join(accelerators()) or f"{os.cpu_count()} CPU cores, {platform.machine()}"
    return f"{devices}; Keras {keras.__version__}, {keras.backend.backend()}"
