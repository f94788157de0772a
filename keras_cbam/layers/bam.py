import math

import keras
from keras import ops

from keras_cbam.errors import positive_integer
from keras_cbam.layers.attention_layer import AttentionLayer
from keras_cbam.ops.attention import apply_gates, pool_over_space, project_channels

COMBINATIONS = ("add", "multiply")


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
            with a trainable scalar `s` that starts at 0: the new layer changes nothing.
            Defaults to `False`.
        data_format: `"channels_last"`, `"channels_first"` or `None`, the Keras default.
        kernel_initializer, bias_initializer: initializers. Default to `"glorot_uniform"` and
            `"zeros"`.
        kernel_regularizer, bias_regularizer: regularizers. Default to `None`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        inputs: floating tensor of rank 3 to 5, `(batch, ..., channels)` or, channels first,
            `(batch, channels, ...)`. Every size except the channels may be unknown.
        training: bool, mode of the batch normalizations (epsilon 1e-5, momentum 0.9).
        return_attention_scores: bool, whether to return `(outputs, scores)`. Defaults to `False`.

    Output:
        Tensor of the inputs' shape and the layer's compute dtype. The scores are the pair
        `(channel_scores, spatial_scores)` of shapes `(batch, 1, 1, channels)` and
        `(batch, height, width, 1)` for images: each branch's own map `1 + sigmoid(...)` (the inputs
        are multiplied by that of the combined branches).

    Raises:
        ValueError: if an argument is outside its range, or the inputs are not floating-point, of
            rank 3 to 5 and with known channels.

    Example:

    >>> features = keras.random.normal((2, 28, 28, 64))
    >>> BAM()(features).shape
    (2, 28, 28, 64)

    Reference:

    - [Park et al., BAM: Bottleneck Attention Module, BMVC 2018](
      https://arxiv.org/abs/1807.06514), section 3
    """

    def __init__(
        self,
        reduction_ratio=16,
        dilation_rate=4,
        combine="add",
        gate_activation="sigmoid",
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
        self.dilation_rate = positive_integer("dilation_rate", dilation_rate)
        if combine not in COMBINATIONS:
            raise ValueError(
                f"`combine` must be one of {COMBINATIONS}. Received: combine={combine!r}"
            )
        self.combine = combine
        self.channel_norm = self.make_batch_norm("channel_norm", 0.9)
        self.reduce_norm = self.make_batch_norm("reduce_norm", 0.9)
        self.dilated_norms = [self.make_batch_norm(f"dilated_{i}_norm", 0.9) for i in range(2)]

    def build(self, input_shape):
        channels = self.validate_input_shape(input_shape)
        hidden = max(1, channels // self.reduction_ratio)
        window = (3,) * (len(input_shape) - 2)
        self.hidden_kernel = self.add_kernel("hidden_kernel", (channels, hidden))
        self.hidden_bias = self.add_bias("hidden_bias", hidden)
        self.channel_kernel = self.add_kernel("channel_kernel", (hidden, channels))
        self.channel_bias = self.add_bias("channel_bias", channels)
        self.reduce_kernel = self.add_kernel("reduce_kernel", (channels, hidden))
        self.reduce_bias = self.add_bias("reduce_bias", hidden)
        self.dilated_kernels = [
            self.add_kernel(f"dilated_{i}_kernel", (*window, hidden, hidden)) for i in range(2)
        ]
        self.dilated_biases = [self.add_bias(f"dilated_{i}_bias", hidden) for i in range(2)]
        self.spatial_kernel = self.add_kernel("spatial_kernel", (hidden, 1))
        self.spatial_bias = self.add_bias("spatial_bias", 1)
        self.channel_norm.build((None, hidden))
        for norm in (self.reduce_norm, *self.dilated_norms):
            norm.build((None,) * (len(input_shape) - 1) + (hidden,))
        self.add_identity_scale()

    def _channel_logits(self, inputs, training):
        axis = self.channel_axis(len(inputs.shape))
        x = pool_over_space(inputs, ["avg"], axis)[0]
        x = project_channels(x, self.hidden_kernel, 1) + ops.cast(self.hidden_bias, x.dtype)
        x = ops.relu(self.channel_norm(x, training=training))
        x = project_channels(x, self.channel_kernel, 1) + ops.cast(self.channel_bias, x.dtype)
        space = [position for position in range(1, len(inputs.shape)) if position != axis]
        return ops.expand_dims(x, space)

    def _spatial_logits(self, inputs, training):
        axis = self.channel_axis(len(inputs.shape))
        x = project_channels(inputs, self.reduce_kernel, axis)
        x = x + ops.cast(self.reduce_bias, x.dtype)
        x = ops.relu(self.reduce_norm(x, training=training))
        for kernel, bias, norm in zip(
            self.dilated_kernels, self.dilated_biases, self.dilated_norms
        ):
            x = ops.conv(
                x,
                ops.cast(kernel, x.dtype),
                padding="same",
                dilation_rate=self.dilation_rate,
                data_format="channels_last",
            )
            x = ops.relu(norm(x + ops.cast(bias, x.dtype), training=training))
        x = project_channels(x, self.spatial_kernel, len(x.shape) - 1)
        x = x + ops.cast(self.spatial_bias, x.dtype)
        return ops.expand_dims(ops.squeeze(x, -1), axis)

    def refine(self, inputs, training=None):
        channel = self._channel_logits(inputs, training)
        spatial = self._spatial_logits(inputs, training)
        combined = channel + spatial if self.combine == "add" else channel * spatial
        joint, *scores = (
            self.blend(1 + self.gate_activation(logits)) for logits in (combined, channel, spatial)
        )
        return apply_gates(inputs, [joint]), tuple(
            ops.cast(score, self.compute_dtype) for score in scores
        )

    def multiply_adds(self, input_shape):
        """Of both branches, for one example of that shape (without the batch)."""
        axis = self.channel_axis(len(input_shape) + 1) - 1
        positions = math.prod(size for i, size in enumerate(input_shape) if i != axis)
        mlp = (self.hidden_kernel, self.channel_kernel)
        convolutions = (self.reduce_kernel, *self.dilated_kernels, self.spatial_kernel)
        return sum(math.prod(kernel.shape) for kernel in mlp) + positions * sum(
            math.prod(kernel.shape) for kernel in convolutions
        )

    def compute_scores_spec(self, input_shape):
        return self.map_specs(input_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "dilation_rate": self.dilation_rate,
            "combine": self.combine,
        }
