import keras
from keras import ops

from keras_cbam.layers.attention_layer import AttentionLayer, clone_initializer
from keras_cbam.layers.channel_attention import ChannelAttention
from keras_cbam.layers.spatial_attention import SpatialAttention
from keras_cbam.ops import fused_cbam
from keras_cbam.ops.attention import apply_gates, gated

ELEMENTWISE = tuple(
    map(keras.activations.get, ("sigmoid", "hard_sigmoid", "tanh", "relu", "relu6", "linear"))
)
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
        residual: bool, whether the inputs are added to the refined features. Defaults to `False`.
        start_as_identity: bool. If `True` each gate map `M` becomes `1 + s * (M - 1)` with a
            trainable scalar `s` of its own that starts at 0: the new layer returns its inputs
            exactly, and at `s = 1` the gate is exactly the paper's. With `"parallel"` there is one
            scalar; with `residual=True` one too, and the outputs are `inputs + s * refined`.
            Defaults to `False`.
        data_format: `"channels_last"`, `"channels_first"` or `None`, the Keras default.
        spatial_pooling: pools of the spatial gate, see `SpatialAttention`.
            Defaults to `("avg", "max")`.
        activation: activation of the MLP's hidden units. Defaults to `"relu"`.
        gate_activation: activation of both gates. Defaults to `"sigmoid"`.
        use_bias: bool, whether the MLP has biases. Defaults to `True`.
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
        Tensor of the inputs' shape and the layer's compute dtype. The scores are the pair
        `(channel_scores, spatial_scores)` of shapes `(batch, 1, 1, channels)` and
        `(batch, height, width, 1)` for images, the maps that multiply the inputs; a gate that the
        arrangement lacks has the score `None`. With `"parallel"` they are each branch's own map
        (the inputs are multiplied by the activation of the summed logits).

    Raises:
        ValueError: if an argument is outside its range, or the inputs are not floating-point, of
            rank 3 to 5 and with known channels; or if a Functional graph, which cannot hold `None`,
            asks for the scores of a single-gate arrangement.

    Example:

    >>> inputs = keras.Input((32, 32, 3))
    >>> x = keras.layers.Conv2D(64, 3, activation="relu")(inputs)
    >>> model = keras.Model(inputs, CBAM()(x))

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
            (gate_activation, start_as_identity, data_format),
            (kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer),
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
        given = self._gate_arguments("channel_attention", use_bias=use_bias)
        channel = ChannelAttention(reduction_ratio, pooling, activation, **given)
        given = self._gate_arguments("spatial_attention", use_batch_norm=use_batch_norm)
        spatial = SpatialAttention(kernel_size, spatial_pooling, **given)
        for name in ("reduction_ratio", "pooling", "activation", "use_bias"):
            setattr(self, name, getattr(channel, name))
        self.kernel_size, self.use_batch_norm = spatial.kernel_size, spatial.use_batch_norm
        self.spatial_pooling = spatial.pooling
        self.channel_attention = None if arrangement == "spatial" else channel
        self.spatial_attention = None if arrangement == "channel" else spatial

    def _gate_arguments(self, name, **own):
        names = ("gate_activation", "data_format", "kernel_regularizer", "bias_regularizer")
        return {
            **{each: getattr(self, each) for each in (*names, "trainable")},
            "kernel_initializer": clone_initializer(self.kernel_initializer),
            "bias_initializer": clone_initializer(self.bias_initializer),
            "start_as_identity": self.start_as_identity and not self._has_own_scale(),
            "dtype": self.dtype_policy,
            "name": name,
            **own,
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
        if self._is_fusible() and fused_cbam.takes(inputs):
            attend = self._fused
        else:
            attend = self._in_parallel if self.arrangement == "parallel" else self._in_sequence
        outputs, scores = attend(inputs, training)
        if self.residual:
            outputs = inputs + outputs
        dtype = self.compute_dtype
        return outputs, tuple(None if map_ is None else ops.cast(map_, dtype) for map_ in scores)

    def _is_fusible(self):
        """Whether `fused_cbam` computes this layer: the paper's, with functions of Keras.

        An activation of the user may hold variables, and a subclass compute something else. The
        gates of the pair have other shapes: their activation looks at one number at a time.
        """
        gates = self.channel_attention, self.spatial_attention
        return (
            type(self) is CBAM
            and self.arrangement == "channel_spatial"
            and self.identity_scale is None
            and all(set(gate.pooling) == {"avg", "max"} for gate in gates)
            and all(gate.gate_activation is self.gate_activation for gate in gates)
            and self.gate_activation in ELEMENTWISE
            and self.channel_attention.activation in vars(keras.activations).values()
        )

    def _fused(self, inputs, training):
        gates = self.channel_attention, self.spatial_attention
        channel, spatial = ({w.name: ops.convert_to_tensor(w) for w in g.weights} for g in gates)
        norm = self.spatial_attention.batch_norm
        if training and norm is not None and norm.trainable:
            del spatial["moving_mean"], spatial["moving_variance"]
        if self.spatial_attention.pooling == ("max", "avg"):
            spatial["kernel"] = ops.flip(spatial["kernel"], -2)
        settings = fused_cbam.Settings(
            self.channel_axis(len(inputs.shape)),
            self.channel_attention.activation,
            self.gate_activation,
            None if norm is None else norm.epsilon,
            fused_cbam.is_on_cpu(),
        )
        outputs, *scores, moments = fused_cbam.cbam(inputs, (channel, spatial), settings)
        moving = (norm.moving_mean, norm.moving_variance) if moments else ()
        for statistic, moment in zip(moving, moments):
            statistic.assign(statistic * norm.momentum + moment * (1 - norm.momentum))
        shapes = [spec.shape[1:] for spec in self.compute_scores_spec(inputs.shape)]
        return outputs, [ops.reshape(score, (-1, *shape)) for score, shape in zip(scores, shapes)]

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
        return self.map_specs(input_shape)

    def get_config(self):
        names = ("reduction_ratio", "kernel_size", "pooling", "arrangement", "use_batch_norm")
        names += ("residual", "spatial_pooling", "use_bias")
        activation = keras.activations.serialize(self.activation)
        config = {name: getattr(self, name) for name in names}
        return {**super().get_config(), **config, "activation": activation}
