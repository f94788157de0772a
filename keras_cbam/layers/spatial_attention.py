import math

import keras
from keras import ops

from keras_cbam.errors import different_ones, positive_integer
from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.ops.attention import (
    SPATIAL_DESCRIPTORS,
    pool_over_channels,
    project_channels,
    spatial_logits,
)


@keras.saving.register_keras_serializable(package="keras_cbam")
class SpatialAttention(AttentionLayer):
    """Spatial attention gate of CBAM: which positions matter.

    Every position is described by the mean and the maximum of its channels; one convolution of
    the two maps gives one factor for each position:

    ```
    Ms(F) = sigmoid(conv7x7([avg(F); max(F)]))
    outputs = Ms(F) * F
    ```

    Args:
        kernel_size: odd int, size of the convolution on every spatial axis. Defaults to `7`.
        pooling: string or tuple of strings, any of `"avg"`, `"max"` and `"conv"` (a learned 1x1
            convolution without bias to two maps). Their order is the order of the convolution's
            input maps. Defaults to `("avg", "max")`.
        gate_activation: activation of the logits. Defaults to `"sigmoid"`.
        use_bias: bool, whether the convolution has a bias. Defaults to `False`.
        use_batch_norm: bool, whether batch normalization (epsilon 1e-5, momentum 0.99, gamma
            starting at 0) follows the convolution, as in the official PyTorch code.
            Defaults to `False`.
        start_as_identity: bool, whether the gate map `M` becomes `1 + s * (M - 1)` with a trainable
            scalar `s` that starts at 0: the new layer changes nothing. Defaults to `False`.
        data_format: `"channels_last"`, `"channels_first"` or `None`, the Keras default.
        kernel_initializer, bias_initializer: initializers. Default to `"glorot_uniform"` and
            `"zeros"`.
        kernel_regularizer, bias_regularizer: regularizers. Default to `None`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        inputs: floating tensor of rank 3 to 5, `(batch, ..., channels)` or, channels first,
            `(batch, channels, ...)`. Every size except the channels may be unknown.
        training: bool, mode of the batch normalization.
        return_attention_scores: bool, whether to return `(outputs, scores)`. Defaults to `False`.

    Output:
        Tensor of the inputs' shape and the layer's compute dtype. The scores have shape
        `(batch, height, width, 1)` for images, the channel axis where the inputs have it.

    Raises:
        ValueError: if an argument is outside its range, or the inputs are not floating-point, of
            rank 3 to 5 and with known channels.

    Example:

    >>> features = keras.random.normal((2, 28, 28, 64))
    >>> outputs, scores = SpatialAttention()(features, return_attention_scores=True)
    >>> outputs.shape, scores.shape
    ((2, 28, 28, 64), (2, 28, 28, 1))

    Reference:

    - [Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018](
      https://arxiv.org/abs/1807.06521), section 3.2, equation 3; `"conv"` pooling: table 2
    """

    def __init__(
        self,
        kernel_size=7,
        pooling=("avg", "max"),
        gate_activation="sigmoid",
        use_bias=False,
        use_batch_norm=False,
        start_as_identity=False,
        data_format=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        **kwargs,
    ):
        super().__init__(
            (gate_activation, start_as_identity, data_format),
            (kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer),
            **kwargs,
        )
        self.kernel_size = positive_integer("kernel_size", kernel_size)
        if self.kernel_size % 2 == 0:
            raise ValueError(
                "`kernel_size` must be odd, so that the gate stays centred on its position. "
                f"Received: kernel_size={kernel_size}"
            )
        self.pooling = different_ones("pooling", pooling, SPATIAL_DESCRIPTORS)
        self.use_bias = bool(use_bias)
        self.use_batch_norm = bool(use_batch_norm)
        self.batch_norm = None
        if self.use_batch_norm:
            self.batch_norm = self.make_batch_norm("batch_norm", 0.99, gamma_initializer="zeros")

    def build(self, input_shape):
        channels = self.validate_input_shape(input_shape)
        if "conv" in self.pooling:
            self.pooling_kernel = self.add_kernel("pooling_kernel", (channels, 2))
        maps = len(self.pooling) + ("conv" in self.pooling)
        space = len(input_shape) - 2
        self.kernel = self.add_kernel("kernel", (self.kernel_size,) * space + (maps, 1))
        self.bias = self.add_bias("bias", 1) if self.use_bias else None
        if self.batch_norm is not None:
            self.batch_norm.build((None,) * (len(input_shape) - 1) + (1,))
        self.add_identity_scale()

    def compute_logits(self, inputs, training=None):
        """Logits of the gate, with size 1 on the channel axis, in the accumulation dtype."""
        axis = self.channel_axis(len(inputs.shape))
        maps = []
        for method in self.pooling:
            if method == "conv":
                maps.append(project_channels(inputs, self.pooling_kernel, axis))
            else:
                maps += [ops.expand_dims(x, -1) for x in pool_over_channels(inputs, [method], axis)]
        logits = spatial_logits(ops.concatenate(maps, axis=-1), self.kernel, self.bias)
        if self.batch_norm is not None:
            logits = self.batch_norm(logits, training=training)
        return ops.expand_dims(ops.squeeze(logits, -1), axis)

    def multiply_adds(self, input_shape):
        """Of the convolutions, for one example of that shape (without the batch)."""
        axis = self.channel_axis(len(input_shape) + 1) - 1
        positions = math.prod(size for i, size in enumerate(input_shape) if i != axis)
        kernels = [self.kernel] + ([self.pooling_kernel] if "conv" in self.pooling else [])
        return positions * sum(math.prod(kernel.shape) for kernel in kernels)

    def compute_scores_spec(self, input_shape):
        return self.map_specs(input_shape)[1]

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_size": self.kernel_size,
            "pooling": self.pooling,
            "use_bias": self.use_bias,
            "use_batch_norm": self.use_batch_norm,
        }
