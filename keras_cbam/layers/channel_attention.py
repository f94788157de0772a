"""The layer `ChannelAttention`: one factor for each channel of a feature map."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_cbam._types import Activation, Initializer, Regularizer
from keras_cbam.errors import boolean, different_ones, positive_integer
from keras_cbam.layers.attention_layer import AttentionLayer, Shape, shared_arguments
from keras_cbam.ops.attention import CHANNEL_POOLING, channel_logits, pool_over_space, space_axes


@keras.saving.register_keras_serializable(package="keras_cbam")
class ChannelAttention(AttentionLayer):
    """Channel attention of CBAM: which channels matter.

    Every channel is described by its pools over space; a shared two-layer MLP turns each
    descriptor into logits, and the sum of the logits becomes one factor for each channel:

    ```
    Mc(F) = sigmoid(W1 relu(W0 avg(F) + b0) + b1 + W1 relu(W0 max(F) + b0) + b1)
    outputs = Mc(F) * F
    ```

    With `pooling=("avg",)` this is Squeeze-and-Excitation.

    Args:
        reduction_ratio: int. The MLP has `max(1, channels // reduction_ratio)` hidden units.
            Defaults to `16`.
        pooling: string or tuple of strings, any of `"avg"`, `"max"`, `"lp"` (L2 norm over space)
            and `"lse"` (log of the sum of exponentials). Defaults to `("avg", "max")`.
        activation: activation of the hidden units. Defaults to `"relu"`.
        gate_activation: activation of the summed logits. Defaults to `"sigmoid"`.
        use_bias: bool, whether both layers of the MLP have a bias. Defaults to `True`.
        start_as_identity: bool, whether the attention map `M` becomes `1 + s * (M - 1)`, where `s`
            is a trainable scalar that starts at 0: the new layer returns its inputs. Defaults to
            `False`, which `insert_attention` replaces by its own argument.
        data_format: `"channels_last"`, `"channels_first"` or `None`, the Keras default.
        kernel_initializer, bias_initializer: default to `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer: default to `None`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        inputs: floating tensor of rank 3 to 5, `(batch, ..., channels)` or, channels first,
            `(batch, channels, ...)`. Every size except the channels may be unknown.
        training: unused; the layer computes the same in training and in inference.
        return_attention_scores: bool, whether to return `(outputs, scores)`. Defaults to `False`.
        mask: bool tensor `(batch, steps)`, for rank-3 inputs: the pools look only at steps where
            it is true. It is passed on; a mask of another rank is only passed on.

    Output:
        Tensor of the inputs' shape and the layer's compute dtype. The scores have shape
        `(batch, 1, 1, channels)` for images, the channel axis where the inputs have it.

    Raises:
        ValueError: if an argument or the inputs are not as said here.

    Example:

    >>> features = keras.random.normal((2, 28, 28, 64))
    >>> outputs, scores = ChannelAttention()(features, return_attention_scores=True)
    >>> outputs.shape, scores.shape
    ((2, 28, 28, 64), (2, 1, 1, 64))

    Reference:

    - [Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018](
      https://arxiv.org/abs/1807.06521), section 3.1, equation 2
    """

    own_arguments = ("reduction_ratio", "pooling", "activation", "use_bias")

    def __init__(
        self,
        reduction_ratio: int = 16,
        pooling: str | Sequence[str] = ("avg", "max"),
        activation: Activation = "relu",
        gate_activation: Activation = "sigmoid",
        use_bias: bool = True,
        start_as_identity: bool = False,
        data_format: str | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**shared_arguments(locals()))
        self.reduction_ratio = positive_integer("reduction_ratio", reduction_ratio)
        self.pooling = different_ones("pooling", pooling, CHANNEL_POOLING)
        self.activation = keras.activations.get(activation)
        self.use_bias = boolean("use_bias", use_bias)

    def build(self, input_shape: Shape) -> None:
        channels = self.validate_input_shape(input_shape)
        hidden = max(1, channels // self.reduction_ratio)
        self.hidden_kernel = self.add_parameter("hidden_kernel", channels, hidden)
        self.output_kernel = self.add_parameter("output_kernel", hidden, channels)
        if self.use_bias:
            self.hidden_bias = self.add_parameter("hidden_bias", hidden)
            self.output_bias = self.add_parameter("output_bias", channels)
        self.add_identity_scale()

    def compute_logits(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The logits, with size 1 on the spatial axes, in the accumulation dtype."""
        axis = self.channel_axis(len(inputs.shape))
        logits = channel_logits(
            pool_over_space(inputs, self.pooling, axis, mask),
            (self.hidden_kernel, self.output_kernel),
            (self.hidden_bias, self.output_bias) if self.use_bias else None,
            self.activation,
        )
        return ops.expand_dims(logits, space_axes(len(inputs.shape), axis))

    def compute_scores_spec(self, input_shape: Shape) -> keras.KerasTensor:
        return super().compute_scores_spec(input_shape)[0]
