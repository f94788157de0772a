"""The layer `BAM`: CBAM's predecessor, which stands between the stages of a network."""

from typing import Any

import keras
from keras import ops

from keras_cbam._types import Activation, Initializer, Regularizer
from keras_cbam.errors import one_of, positive_integer
from keras_cbam.layers.attention_layer import AttentionLayer, Shape, shared_arguments
from keras_cbam.ops.attention import (
    affine,
    apply_map,
    convolve,
    pool_over_space,
    project_channels,
    space_axes,
)


@keras.saving.register_keras_serializable(package="keras_cbam")
class BAM(AttentionLayer):
    """Bottleneck Attention Module: a channel branch and a spatial branch, side by side.

    ```
    Mc(F) = W1 relu(BN(W0 avg(F) + b0)) + b1                avg over space
    Ms(F) = f1x1(g(g(h(F))))    h = relu(BN(f1x1)), g = relu(BN(f3x3, dilated))
    outputs = (1 + sigmoid(Mc(F) + Ms(F))) * F
    ```

    All convolutions have biases; `h` reduces the channels as `W0` does.

    Args:
        reduction_ratio: int. Both branches have `max(1, channels // reduction_ratio)` hidden
            channels. Defaults to `16`.
        dilation_rate: int, of the two 3x3 convolutions. Defaults to `4`.
        combine: string, `"add"` for the sum of both branches, as in the paper, or `"multiply"`
            for their product, as in the official code and its checkpoints. Defaults to `"add"`.
        gate_activation: activation of the combined branches. Defaults to `"sigmoid"`.
        start_as_identity: bool. If `True` the map `M = 1 + sigmoid(...)` becomes `1 + s * (M - 1)`
            with a trainable scalar `s` that starts at 0: the new layer returns its inputs. Defaults
            to `False`, which `insert_attention` replaces by its own argument.
        data_format: `"channels_last"`, `"channels_first"` or `None`, the Keras default.
        kernel_initializer, bias_initializer: default to `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer: default to `None`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        inputs: floating tensor of rank 3 to 5, `(batch, ..., channels)` or, channels first,
            `(batch, channels, ...)`. Every size except the channels may be unknown.
        training: bool, mode of the batch normalizations (epsilon 1e-5, momentum 0.9).
        return_attention_scores: bool, whether to return `(outputs, scores)`. Defaults to `False`.
        mask: bool tensor `(batch, steps)`, for rank-3 inputs: both branches look only at steps
            where it is true. It is passed on; a mask of another rank is only passed on.

    Output:
        Tensor of the inputs' shape and the layer's compute dtype. The scores are the pair
        `(channel_scores, spatial_scores)` of shapes `(batch, 1, 1, channels)` and
        `(batch, height, width, 1)` for images: each branch's own map `1 + sigmoid(...)` (the inputs
        are multiplied by that of the combined branches).

    Raises:
        ValueError: if an argument or the inputs are not as said here.

    Example:

    >>> features = keras.random.normal((2, 28, 28, 64))
    >>> BAM()(features).shape
    (2, 28, 28, 64)

    Reference:

    - [Park et al., BAM: Bottleneck Attention Module, BMVC 2018](
      https://arxiv.org/abs/1807.06514), section 3
    """

    pooling = ("avg",)
    own_arguments = ("reduction_ratio", "dilation_rate", "combine")

    def __init__(
        self,
        reduction_ratio: int = 16,
        dilation_rate: int = 4,
        combine: str = "add",
        gate_activation: Activation = "sigmoid",
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
        self.dilation_rate = positive_integer("dilation_rate", dilation_rate)
        one_of("add", "multiply")("combine", combine)
        self.combine = combine
        self.channel_norm = self.make_batch_norm("channel_norm", 0.9)
        self.reduce_norm = self.make_batch_norm("reduce_norm", 0.9)
        self.dilated_norms = [self.make_batch_norm(f"dilated_{i}_norm", 0.9) for i in range(2)]

    def build(self, input_shape: Shape) -> None:
        channels = self.validate_input_shape(input_shape)
        hidden = max(1, channels // self.reduction_ratio)
        window = (3,) * (len(input_shape) - 2)
        self.hidden_kernel = self.add_parameter("hidden_kernel", channels, hidden)
        self.hidden_bias = self.add_parameter("hidden_bias", hidden)
        self.channel_kernel = self.add_parameter("channel_kernel", hidden, channels)
        self.channel_bias = self.add_parameter("channel_bias", channels)
        self.reduce_kernel = self.add_parameter("reduce_kernel", channels, hidden)
        self.reduce_bias = self.add_parameter("reduce_bias", hidden)
        self.dilated_kernels = [
            self.add_parameter(f"dilated_{i}_kernel", *window, hidden, hidden) for i in range(2)
        ]
        self.dilated_biases = [self.add_parameter(f"dilated_{i}_bias", hidden) for i in range(2)]
        self.spatial_kernel = self.add_parameter("spatial_kernel", hidden, 1)
        self.spatial_bias = self.add_parameter("spatial_bias", 1)
        self.channel_norm.build((None, hidden))
        for norm in (self.reduce_norm, *self.dilated_norms):
            norm.build((None,) * (len(input_shape) - 1) + (hidden,))
        self.add_identity_scale()

    def _channel_logits(self, inputs, training, mask) -> Any:
        axis = self.channel_axis(len(inputs.shape))
        (x,) = pool_over_space(inputs, self.pooling, axis, mask)
        x = affine(x, self.hidden_kernel, self.hidden_bias)
        x = ops.relu(self.channel_norm(x, training=training))
        x = affine(x, self.channel_kernel, self.channel_bias)
        return ops.expand_dims(x, space_axes(len(inputs.shape), axis))

    def _spatial_logits(self, inputs, training, mask) -> Any:
        axis = self.channel_axis(len(inputs.shape))
        x = project_channels(inputs, self.reduce_kernel, axis, self.reduce_bias)
        x = ops.relu(self.reduce_norm(x, training=training, mask=mask))
        parts = zip(self.dilated_kernels, self.dilated_biases, self.dilated_norms)
        for kernel, bias, norm in parts:
            x = convolve(x, kernel, bias, self.dilation_rate, mask)
            x = ops.relu(norm(x, training=training, mask=mask))
        return ops.moveaxis(affine(x, self.spatial_kernel, self.spatial_bias), -1, axis)

    def refine(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        channel = self._channel_logits(inputs, training, mask)
        spatial = self._spatial_logits(inputs, training, mask)
        joint = channel + spatial if self.combine == "add" else channel * spatial
        joint_map, *scores = (
            self.blend(1 + self.gate_activation(logits)) for logits in (joint, channel, spatial)
        )
        return apply_map(inputs, joint_map), tuple(scores)
