"""The layer `CBAM`: channel attention and spatial attention, in the paper's or another order."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_cbam._types import Activation, Initializer, Regularizer
from keras_cbam.errors import boolean, different_ones, one_of
from keras_cbam.layers.attention_layer import (
    SHARED,
    AttentionLayer,
    Shape,
    clone_initializer,
    shared_arguments,
)
from keras_cbam.layers.channel_attention import ChannelAttention
from keras_cbam.layers.spatial_attention import SpatialAttention
from keras_cbam.ops import fused_cbam
from keras_cbam.ops.attention import SPATIAL_POOLING, apply_map

ELEMENTWISE = tuple(
    map(keras.activations.get, ("sigmoid", "hard_sigmoid", "tanh", "relu", "relu6", "linear"))
)
ARRANGEMENTS = ("channel_spatial", "spatial_channel", "parallel", "channel", "spatial")


@keras.saving.register_keras_serializable(package="keras_cbam")
class CBAM(AttentionLayer):
    """Convolutional Block Attention Module: channel attention, then spatial attention.

    ```
    Mc(F)  = sigmoid(MLP(avg(F)) + MLP(max(F)))         avg, max over space
    F'     = Mc(F) * F
    Ms(F') = sigmoid(conv7x7([avg(F'); max(F')]))       avg, max over channels
    F''    = Ms(F') * F'
    ```

    Args:
        reduction_ratio: int. The MLP has `max(1, channels // reduction_ratio)` hidden units.
            Defaults to `16`.
        kernel_size: odd int, or a tuple of it for each spatial axis, size of the spatial gate's
            convolution. Defaults to `7`.
        pooling: pools of the channel gate, see `ChannelAttention`. Defaults to `("avg", "max")`.
        arrangement: string. `"channel_spatial"` (the paper's), `"spatial_channel"`, `"parallel"`
            (both gates see the inputs, and their logits are added before the gate activation),
            `"channel"` or `"spatial"` (one gate only). Defaults to `"channel_spatial"`.
        use_batch_norm: bool, whether the spatial gate has batch normalization, see
            `SpatialAttention`. Defaults to `False`.
        residual: bool, whether the inputs are added to the refined features. Defaults to `False`.
        start_as_identity: bool. If `True` each attention map `M` becomes `1 + s * (M - 1)` with a
            trainable scalar `s` of its own that starts at 0: the new layer returns its inputs
            exactly, and at `s = 1` the map is exactly the paper's. With `"parallel"` there is one
            scalar; with `residual=True` one too, and the outputs are `inputs + s * refined`.
            Defaults to `False`, which `insert_attention` replaces by its own argument.
        data_format: `"channels_last"`, `"channels_first"` or `None`, the Keras default.
        spatial_pooling: pools of the spatial gate, see `SpatialAttention`.
            Defaults to `("avg", "max")`.
        activation: activation of the MLP's hidden units. Defaults to `"relu"`.
        gate_activation: activation of both gates. Defaults to `"sigmoid"`.
        use_bias: bool, whether the MLP has biases. Defaults to `True`.
        kernel_initializer, bias_initializer: default to `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer: default to `None`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments:
        inputs: floating tensor of rank 3 to 5, `(batch, ..., channels)` or, channels first,
            `(batch, channels, ...)`. Every size except the channels may be unknown.
        training: bool, mode of the batch normalization.
        return_attention_scores: bool, whether to return `(outputs, scores)`. Defaults to `False`.
        mask: bool tensor `(batch, steps)`, for rank-3 inputs: both gates look only at steps where
            it is true. It is passed on; a mask of another rank is only passed on.

    Output:
        Tensor of the inputs' shape and the layer's compute dtype. The scores are the pair
        `(channel_scores, spatial_scores)` of shapes `(batch, 1, 1, channels)` and
        `(batch, height, width, 1)` for images, the maps that multiply the inputs; a gate that the
        arrangement lacks has the score `None`. With `"parallel"` they are each branch's own map
        (the inputs are multiplied by the activation of the summed logits).

    Raises:
        ValueError: if an argument or the inputs are not as said here; or if a Functional graph,
            which cannot hold `None`, asks for the scores of a single-gate arrangement.

    Example:

    >>> inputs = keras.Input((32, 32, 3))
    >>> x = keras.layers.Conv2D(64, 3, activation="relu")(inputs)
    >>> model = keras.Model(inputs, CBAM()(x))

    Reference:

    - [Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018](
      https://arxiv.org/abs/1807.06521), section 3; arrangements: table 3
    """

    own_arguments = (
        *("reduction_ratio", "kernel_size", "pooling", "arrangement", "use_batch_norm"),
        *("residual", "spatial_pooling", "activation", "use_bias"),
    )

    def __init__(
        self,
        reduction_ratio: int = 16,
        kernel_size: int | Sequence[int] = 7,
        pooling: str | Sequence[str] = ("avg", "max"),
        arrangement: str = "channel_spatial",
        use_batch_norm: bool = False,
        residual: bool = False,
        start_as_identity: bool = False,
        data_format: str | None = None,
        spatial_pooling: str | Sequence[str] = ("avg", "max"),
        activation: Activation = "relu",
        gate_activation: Activation = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**shared_arguments(locals()))
        one_of(*ARRANGEMENTS)("arrangement", arrangement)
        self.arrangement = arrangement
        self.residual = boolean("residual", residual)
        self.spatial_pooling = different_ones("spatial_pooling", spatial_pooling, SPATIAL_POOLING)
        # Both gates are made whatever the arrangement, so that their arguments are checked.
        given = self._gate_arguments("channel_attention", use_bias=use_bias)
        channel = ChannelAttention(reduction_ratio, pooling, activation, **given)
        given = self._gate_arguments("spatial_attention", use_batch_norm=use_batch_norm)
        spatial = SpatialAttention(kernel_size, self.spatial_pooling, **given)
        for name in ("reduction_ratio", "pooling", "activation", "use_bias"):
            setattr(self, name, getattr(channel, name))
        self.kernel_size, self.use_batch_norm = spatial.kernel_size, spatial.use_batch_norm
        self.channel_attention: Any = None if arrangement == "spatial" else channel
        self.spatial_attention: Any = None if arrangement == "channel" else spatial

    def _gate_arguments(self, name, **own):
        shared = {each: clone_initializer(getattr(self, each)) for each in (*SHARED, "trainable")}
        shared["start_as_identity"] = self.start_as_identity and not self._has_own_scale()
        return {**shared, "dtype": self.dtype_policy, "name": name, **own}

    def _has_own_scale(self):
        return self.residual or self.arrangement == "parallel"

    @property
    def gates(self) -> list[ChannelAttention | SpatialAttention]:
        """The gates of the arrangement, the channel gate first."""
        gates = self.channel_attention, self.spatial_attention
        return [gate for gate in gates if gate is not None]

    def build(self, input_shape: Shape) -> None:
        self.validate_input_shape(input_shape)
        for gate in self.gates:
            gate.build(input_shape)
        if self._has_own_scale():
            self.add_identity_scale()

    def refine(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if mask is None and self._is_fusible() and fused_cbam.takes(inputs):
            outputs, scores = self._fused(inputs, training)
        elif self.arrangement == "parallel":
            outputs, scores = self._in_parallel(inputs, training, mask)
        else:
            outputs, scores = self._in_sequence(inputs, training, mask)
        if self.residual:
            outputs = inputs + ops.cast(outputs, inputs.dtype)
        return outputs, tuple(scores)

    def _is_fusible(self):
        """Whether `fused_cbam` computes this layer: the paper's, with functions of Keras.

        An activation of the user may hold variables, and a subclass may compute something else. The
        fused path has maps of other shapes: their activation must see one number at a time.
        """
        return (
            type(self) is CBAM
            and self.arrangement == "channel_spatial"
            and self.identity_scale is None
            and all(set(gate.pooling) == {"avg", "max"} for gate in self.gates)
            and all(gate.gate_activation is self.gate_activation for gate in self.gates)
            and self.gate_activation in ELEMENTWISE
            and self.channel_attention.activation in vars(keras.activations).values()
        )

    def _fused(self, inputs, training):
        channel, spatial = (
            {w.name: ops.convert_to_tensor(w) for w in gate.weights} for gate in self.gates
        )
        norm = self.spatial_attention.batch_norm
        if training and norm is not None and norm.trainable:
            del spatial["moving_mean"], spatial["moving_variance"]
        if self.spatial_attention.pooling == ("max", "avg"):
            spatial["kernel"] = ops.flip(spatial["kernel"], -2)
        axis, epsilon = self.channel_axis(len(inputs.shape)), None if norm is None else norm.epsilon
        activations = self.channel_attention.activation, self.gate_activation
        settings = fused_cbam.Settings(axis, *activations, epsilon, fused_cbam.is_on_cpu())
        outputs, *maps, moments = fused_cbam.cbam(inputs, (channel, spatial), settings)
        if norm is not None and moments:
            norm.move_statistics(moments)
        shapes = [spec.shape[1:] for spec in self.compute_scores_spec(inputs.shape)]
        return outputs, [ops.reshape(each, (-1, *shape)) for each, shape in zip(maps, shapes)]

    def _in_sequence(self, inputs, training, mask):
        order = self.gates[::-1] if self.arrangement == "spatial_channel" else self.gates
        maps = {"channel_attention": None, "spatial_attention": None}
        for gate in order:
            maps[gate.name] = attention_map = gate.compute_map(inputs, training, mask)
            if gate is order[-1]:
                attention_map = self.blend(attention_map)
            inputs = apply_map(inputs, attention_map)
        return inputs, maps.values()

    def _in_parallel(self, inputs, training, mask):
        channel = self.channel_attention.compute_logits(inputs, training, mask)
        spatial = self.spatial_attention.compute_logits(inputs, training, mask)
        maps = [self.gate_activation(logits) for logits in (channel + spatial, channel, spatial)]
        blended = [self.blend(attention_map) for attention_map in maps]
        return apply_map(inputs, blended[0]), (maps if self.residual else blended)[1:]

    def blend(self, attention_map: Any) -> Any:
        if self.residual and self.identity_scale is not None:
            return attention_map * ops.cast(self.identity_scale, attention_map.dtype)
        return super().blend(attention_map)

    def compute_scores_spec(self, input_shape: Shape) -> tuple[keras.KerasTensor, ...]:
        if len(self.gates) == 1:
            raise ValueError(
                "A Functional graph cannot hold the score `None` of the gate that this arrangement "
                "lacks: use ChannelAttention or SpatialAttention there. "
                f"Received: arrangement={self.arrangement!r}, return_attention_scores=True"
            )
        return super().compute_scores_spec(input_shape)
