import keras
from keras import ops

from keras_cbam.layers.attention_layer import AttentionLayer, clone_initializer
from keras_cbam.layers.channel_attention import ChannelAttention
from keras_cbam.layers.spatial_attention import SpatialAttention
from keras_cbam.ops.attention import apply_gates, gated

ARRANGEMENTS = ("channel_spatial", "spatial_channel", "parallel", "channel", "spatial")


@keras.saving.register_keras_serializable(package="keras_cbam")
class CBAM(AttentionLayer):
    """Convolutional Block Attention Module: a channel gate, then a spatial gate.

    ```
    Mc(F)  = sigmoid(MLP(avg(F)) + MLP(max(F)))         avg, max over space
    F'     = Mc(F) * F
    Ms(F') = sigmoid(conv7x7([avg(F'); max(F')]))       avg, max over channels
    F''    = Ms(F') * F'
    ```

    Args:
        reduction_ratio: int. The MLP has `max(1, channels // reduction_ratio)` hidden units.
            Defaults to `16`.
        kernel_size: odd int, size of the spatial gate's convolution. Defaults to `7`.
        pooling: pools of the channel gate, see `ChannelAttention`. Defaults to `("avg", "max")`.
        arrangement: string. `"channel_spatial"` (the paper's), `"spatial_channel"`, `"parallel"`
            (both gates see the inputs, and their logits are added before the gate activation),
            `"channel"` or `"spatial"` (one gate only). Defaults to `"channel_spatial"`.
        use_batch_norm: bool, whether the spatial gate has batch normalization, see
            `SpatialAttention`. Defaults to `False`.
        residual: bool, whether the outputs are `inputs + attended`. Defaults to `False`.
        start_as_identity: bool. If `True` each gate map `M` becomes `1 + s * (M - 1)` with a
            trainable scalar `s` of its own that starts at 0: the new layer returns its inputs
            exactly, and at `s = 1` the gate is exactly the paper's. With `"parallel"` the one
            joint gate map has one scalar. With `residual=True` one scalar makes the outputs
            `inputs + s * attended` instead. Defaults to `False`.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to
            `keras.config.image_data_format()`.
        spatial_pooling: pools of the spatial gate, see `SpatialAttention`.
            Defaults to `("avg", "max")`.
        activation: activation of the MLP's hidden units. Defaults to `"relu"`.
        gate_activation: activation of both gates. Defaults to `"sigmoid"`.
        use_bias: bool, whether the MLP has biases. Defaults to `True`.
        kernel_initializer: initializer of all kernels. Defaults to `"glorot_uniform"`.
        bias_initializer: initializer of the biases. Defaults to `"zeros"`.
        kernel_regularizer: regularizer of all kernels. Defaults to `None`.
        bias_regularizer: regularizer of the biases. Defaults to `None`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        inputs: floating tensor of rank 3 to 5, `(batch, ..., channels)`, or
            `(batch, channels, ...)` with `data_format="channels_first"`. Every size but the
            channels may be unknown.
        training: bool, mode of the batch normalization.
        return_attention_scores: bool, whether to return `(outputs, scores)`. Defaults to `False`.

    Output:
        Tensor of the inputs' shape and the layer's compute dtype. The scores are the pair
        `(channel_scores, spatial_scores)` of shapes `(batch, 1, 1, channels)` and
        `(batch, height, width, 1)` for images, the maps that multiply the inputs; a gate that the
        arrangement lacks has the score `None`. With `"parallel"` they are each branch's own map
        (the inputs are multiplied by the activation of the summed logits).

    Raises:
        ValueError: if an argument is outside its range, the inputs are not floating-point, their
            rank is not 3 to 5, or their channels are unknown; if scores of a single-gate
            arrangement are asked for in a Functional graph, which cannot hold `None`.

    Example:

    >>> inputs = keras.Input((32, 32, 3))
    >>> x = keras.layers.Conv2D(64, 3, activation="relu")(inputs)
    >>> x = CBAM()(x)
    >>> x = keras.layers.GlobalAveragePooling2D()(x)
    >>> model = keras.Model(inputs, keras.layers.Dense(10)(x))

    Reference:

    - [Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018](
      https://arxiv.org/abs/1807.06521), section 3; arrangements: table 3
    """

    def __init__(
        self,
        reduction_ratio=16,
        kernel_size=7,
        pooling=("avg", "max"),
        arrangement="channel_spatial",
        use_batch_norm=False,
        residual=False,
        start_as_identity=False,
        data_format=None,
        spatial_pooling=("avg", "max"),
        activation="relu",
        gate_activation="sigmoid",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        **kwargs,
    ):
        super().__init__(
            gate_activation=gate_activation,
            start_as_identity=start_as_identity,
            data_format=data_format,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            **kwargs,
        )
        if arrangement not in ARRANGEMENTS:
            raise ValueError(
                f"`arrangement` must be one of {ARRANGEMENTS}. "
                f"Received: arrangement={arrangement!r}"
            )
        self.arrangement = arrangement
        self.residual = bool(residual)
        # Both gates are made whatever the arrangement, so that their arguments are checked.
        channel_attention = ChannelAttention(
            reduction_ratio=reduction_ratio,
            pooling=pooling,
            activation=activation,
            use_bias=use_bias,
            name="channel_attention",
            **self._gate_arguments(),
        )
        spatial_attention = SpatialAttention(
            kernel_size=kernel_size,
            pooling=spatial_pooling,
            use_batch_norm=use_batch_norm,
            name="spatial_attention",
            **self._gate_arguments(),
        )
        for name in ("reduction_ratio", "pooling", "activation", "use_bias"):
            setattr(self, name, getattr(channel_attention, name))
        self.kernel_size = spatial_attention.kernel_size
        self.spatial_pooling = spatial_attention.pooling
        self.use_batch_norm = spatial_attention.use_batch_norm
        self.channel_attention = None if arrangement == "spatial" else channel_attention
        self.spatial_attention = None if arrangement == "channel" else spatial_attention

    def _gate_arguments(self):
        return {
            "gate_activation": self.gate_activation,
            "start_as_identity": self.start_as_identity and not self._has_own_scale(),
            "data_format": self.data_format,
            "kernel_initializer": clone_initializer(self.kernel_initializer),
            "bias_initializer": clone_initializer(self.bias_initializer),
            "kernel_regularizer": self.kernel_regularizer,
            "bias_regularizer": self.bias_regularizer,
            "dtype": self.dtype_policy,
            "trainable": self.trainable,
        }

    def _has_own_scale(self):
        return self.residual or self.arrangement == "parallel"

    def build(self, input_shape):
        self.validate_input_shape(input_shape)
        for layer in (self.channel_attention, self.spatial_attention):
            if layer is not None:
                layer.build(input_shape)
        if self._has_own_scale():
            self.add_identity_scale()

    def refine(self, inputs, training=None):
        attend = self._in_parallel if self.arrangement == "parallel" else self._in_sequence
        outputs, scores = attend(inputs, training)
        if self.residual:
            outputs = inputs + outputs
        return outputs, tuple(
            None if score is None else ops.cast(score, self.compute_dtype) for score in scores
        )

    def _in_sequence(self, inputs, training):
        layers = [self.channel_attention, self.spatial_attention]
        order = [layer for layer in layers if layer is not None]
        if self.arrangement == "spatial_channel":
            order.reverse()
        features, scores = inputs, {}
        for layer in order:
            scores[layer.name] = layer.compute_gate(features, training=training)
            if layer is not order[-1]:
                features = gated(features, scores[layer.name])
        outputs = ops.cast(gated(features, self.blend(scores[order[-1].name])), inputs.dtype)
        return outputs, [None if layer is None else scores[layer.name] for layer in layers]

    def _in_parallel(self, inputs, training):
        channel_logits = self.channel_attention.compute_logits(inputs)
        spatial_logits = self.spatial_attention.compute_logits(inputs, training=training)
        joint, *scores = (
            self.gate_activation(logits)
            for logits in (channel_logits + spatial_logits, channel_logits, spatial_logits)
        )
        if not self.residual:
            scores = [self.blend(gate) for gate in scores]
        return apply_gates(inputs, [self.blend(joint)]), scores

    def blend(self, gate):
        if self.residual and self.identity_scale is not None:
            return gate * ops.cast(self.identity_scale, gate.dtype)
        return super().blend(gate)

    def multiply_adds(self, input_shape):
        """Of both gates, for one example of that shape (without the batch)."""
        gates = (self.channel_attention, self.spatial_attention)
        return sum(gate.multiply_adds(input_shape) for gate in gates if gate is not None)

    def compute_scores_spec(self, input_shape):
        if None in (self.channel_attention, self.spatial_attention):
            raise ValueError(
                "A Functional graph cannot hold the score `None` of the gate that this arrangement "
                "lacks: use ChannelAttention or SpatialAttention there. "
                f"Received: arrangement={self.arrangement!r}, return_attention_scores=True"
            )
        return tuple(
            gate.compute_scores_spec(input_shape)
            for gate in (self.channel_attention, self.spatial_attention)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "reduction_ratio": self.reduction_ratio,
            "kernel_size": self.kernel_size,
            "pooling": self.pooling,
            "arrangement": self.arrangement,
            "use_batch_norm": self.use_batch_norm,
            "residual": self.residual,
            "spatial_pooling": self.spatial_pooling,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }
