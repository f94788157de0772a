import math

import keras
from keras import ops

from keras_cbam.errors import different_ones, positive_integer
from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.ops.attention import CHANNEL_DESCRIPTORS, channel_logits, pool_over_space


@keras.saving.register_keras_serializable(package="keras_cbam")
class ChannelAttention(AttentionLayer):
    """Channel attention gate of CBAM: which channels matter.

    Every channel is described by its pools over space; a shared two-layer MLP turns each
    descriptor into logits, and the sum of the logits becomes one factor for each channel:

    ```
    Mc(F) = sigmoid(W1 relu(W0 avg(F) + b0) + b1 + W1 relu(W0 max(F) + b0) + b1)
    outputs = Mc(F) * F
    ```

    With `pooling=("avg",)` this is the Squeeze-and-Excitation gate.

    Args:
        reduction_ratio: int. The MLP has `max(1, channels // reduction_ratio)` hidden units.
            Defaults to `16`.
        pooling: string or tuple of strings, any of `"avg"`, `"max"`, `"lp"` (L2 norm over space)
            and `"lse"` (log of the sum of exponentials). Defaults to `("avg", "max")`.
        activation: activation of the hidden units. Defaults to `"relu"`.
        gate_activation: activation of the summed logits. Defaults to `"sigmoid"`.
        use_bias: bool, whether both layers of the MLP have a bias. Defaults to `True`.
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
        training: unused; the layer computes the same in training and in inference.
        return_attention_scores: bool, whether to return `(outputs, scores)`. Defaults to `False`.

    Output:
        Tensor of the inputs' shape and the layer's compute dtype. The scores have shape
        `(batch, 1, 1, channels)` for images, the channel axis where the inputs have it.

    Raises:
        ValueError: if an argument is outside its range, or the inputs are not floating-point, of
            rank 3 to 5 and with known channels.

    Example:

    >>> features = keras.random.normal((2, 28, 28, 64))
    >>> outputs, scores = ChannelAttention()(features, return_attention_scores=True)
    >>> outputs.shape, scores.shape
    ((2, 28, 28, 64), (2, 1, 1, 64))

    Reference:

    - [Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018](
      https://arxiv.org/abs/1807.06521), section 3.1, equation 2
    """

    def __init__(
        self,
        reduction_ratio=16,
        pooling=("avg", "max"),
        activation="relu",
        gate_activation="sigmoid",
        use_bias=True,
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
        self.reduction_ratio = positive_integer("reduction_ratio", reduction_ratio)
        self.pooling = different_ones("pooling", pooling, CHANNEL_DESCRIPTORS)
        self.activation = keras.activations.get(activation)
        self.use_bias = bool(use_bias)

    def build(self, input_shape):
        channels = self.validate_input_shape(input_shape)
        hidden = max(1, channels // self.reduction_ratio)
        self.hidden_kernel = self.add_kernel("hidden_kernel", (channels, hidden))
        self.output_kernel = self.add_kernel("output_kernel", (hidden, channels))
        if self.use_bias:
            self.hidden_bias = self.add_bias("hidden_bias", hidden)
            self.output_bias = self.add_bias("output_bias", channels)
        self.add_identity_scale()

    def compute_logits(self, inputs, training=None):
        """Logits of the gate, with size 1 on the spatial axes, in the accumulation dtype."""
        axis = self.channel_axis(len(inputs.shape))
        logits = channel_logits(
            pool_over_space(inputs, self.pooling, axis),
            (self.hidden_kernel, self.output_kernel),
            (self.hidden_bias, self.output_bias) if self.use_bias else None,
            self.activation,
        )
        space = [position for position in range(1, len(inputs.shape)) if position != axis]
        return ops.expand_dims(logits, space)

    def multiply_adds(self, input_shape):
        """Of the MLP, for one example of that shape (without the batch)."""
        return len(self.pooling) * sum(
            math.prod(kernel.shape) for kernel in (self.hidden_kernel, self.output_kernel)
        )

    def compute_scores_spec(self, input_shape):
        return self.map_specs(input_shape)[0]

    def get_config(self):
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "pooling": self.pooling,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }
