"""The base class of the attention layers, which add their own arguments and their formula to it.

It has the shared arguments, the configuration, checks of the inputs, the new weights, masks, the
attention scores and the start as an identity.
"""

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

import keras
from keras import ops

from keras_cbam._types import Activation, Initializer, Regularizer
from keras_cbam.errors import boolean, one_of
from keras_cbam.ops.attention import accumulation_dtype, apply_map, blend_with_identity

Shape = tuple[int | None, ...]
# The kernels of the MLPs, which see each pool once; all others see each position.
OF_POOLS = ("hidden_kernel", "output_kernel", "channel_kernel")
SHARED = (
    *("gate_activation", "start_as_identity", "data_format"),
    *("kernel_initializer", "bias_initializer", "kernel_regularizer", "bias_regularizer"),
)
# The modules of Keras for the arguments that may be functions, by the end of their names.
FUNCTIONS = {
    name: getattr(keras, f"{name}s") for name in ("activation", "initializer", "regularizer")
}


def shared_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `AttentionLayer` among the `locals()` of a subclass's constructor."""
    return {**{name: arguments[name] for name in SHARED}, **arguments["kwargs"]}


def validate_dtype(dtype: Any) -> None:
    """Raises ValueError for a dict that is not a valid dtype policy: Keras fails in many ways."""
    if not isinstance(dtype, dict):
        return
    message = f"`dtype` is not a valid dtype policy. Received: dtype={dtype!r}"
    try:
        policy = keras.dtype_policies.deserialize(dtype)
    except Exception as error:
        raise ValueError(message) from error
    if not isinstance(policy, keras.dtype_policies.DTypePolicy):
        raise ValueError(message)


def clone_initializer(initializer: Any) -> Any:
    """A copy, so that two weights never draw from one initializer object."""
    is_object = isinstance(initializer, keras.initializers.Initializer)
    return initializer.clone() if is_object else initializer


class WideBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization whose weights keep their dtype when another layer reads them."""

    def add_weight(self, *args, **kwargs):
        return super().add_weight(*args, **{**kwargs, "autocast": False})

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if mask is None or not (training and self.trainable):
            return super().call(inputs, training=training)
        # Keras' own moments with a mask lose their axis where there is one channel.
        is_real = ops.cast(ops.expand_dims(mask, -1), "bool")
        number = ops.maximum(ops.sum(ops.cast(is_real, inputs.dtype)), 1)
        mean = ops.divide(ops.sum(ops.where(is_real, inputs, 0), (0, 1)), number)
        squares = ops.where(is_real, ops.square(ops.subtract(inputs, mean)), 0)
        moments = mean, ops.divide(ops.sum(squares, (0, 1)), number)
        self.move_statistics(moments)
        return ops.batch_normalization(inputs, *moments, -1, self.beta, self.gamma, self.epsilon)

    def move_statistics(self, moments: Iterable[Any]) -> None:
        for statistic, moment in zip(self.non_trainable_variables, moments):
            statistic.assign(statistic * self.momentum + moment * (1 - self.momentum))


class AttentionLayer(keras.layers.Layer):
    """Base of the attention layers: a feature map in, the same shape out.

    All layers have the arguments of this class, see `CBAM`; a subclass names its further ones in
    `own_arguments`. It gives `compute_logits` if it has one attention map, and otherwise `refine`.
    """

    own_arguments: tuple[str, ...] = ()
    pooling: tuple[str, ...]
    has_maps = True

    def __init__(
        self,
        gate_activation: Activation,
        start_as_identity: bool,
        data_format: str | None,
        kernel_initializer: Initializer,
        bias_initializer: Initializer,
        kernel_regularizer: Regularizer,
        bias_regularizer: Regularizer,
        **kwargs: Any,
    ) -> None:
        validate_dtype(kwargs.get("dtype"))
        super().__init__(**kwargs)
        data_format = keras.config.image_data_format() if data_format is None else data_format
        one_of("channels_first", "channels_last")("data_format", data_format)
        self.gate_activation: Any = keras.activations.get(gate_activation)
        self.start_as_identity = boolean("start_as_identity", start_as_identity)
        self.data_format = data_format
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.identity_scale = None
        self.supports_masking = True

    def channel_axis(self, rank: int) -> int:
        return 1 if self.data_format == "channels_first" else rank - 1

    def validate_input_shape(self, input_shape: Shape) -> int:
        """Sets the input specification and returns the number of channels."""
        rank = len(input_shape)
        if not 3 <= rank <= 5:
            raise ValueError(
                f"{self.__class__.__name__} needs inputs of rank 3 to 5: a batch axis, one to "
                f"three spatial axes and a channel axis. Received: input_shape={input_shape}"
            )
        axis = self.channel_axis(rank)
        channels = input_shape[axis]
        if channels is None:
            raise ValueError(
                f"The channel axis (axis {axis}, data_format={self.data_format!r}) of the inputs "
                f"of {self.__class__.__name__} must be defined, found None. "
                f"Received: input_shape={input_shape}"
            )
        self.input_spec = keras.layers.InputSpec(ndim=rank, axes={axis: channels})
        return channels

    def validate_input_dtype(self, inputs: Any) -> None:
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if "float" not in dtype:
            raise ValueError(
                f"{self.__class__.__name__} needs floating-point inputs. "
                f"Received: inputs of dtype {dtype}"
            )

    # The weights are never autocast: attention maps are computed in the accumulation dtype.

    def add_parameter(self, name: str, *shape: int) -> keras.Variable:
        """Adds a kernel or a bias: the end of its name says which."""
        kind = name.rpartition("_")[2]
        initializer = clone_initializer(getattr(self, f"{kind}_initializer"))
        options = {"regularizer": getattr(self, f"{kind}_regularizer"), "autocast": False}
        return self.add_weight(shape, initializer, name=name, **options)

    def add_identity_scale(self) -> None:
        if self.start_as_identity:
            options = {"name": "identity_scale", "autocast": False}
            self.identity_scale = self.add_weight((), "zeros", **options)

    def make_batch_norm(self, name: str, momentum: float, **options: Any) -> WideBatchNormalization:
        # float16 could hold neither the sums nor their variance.
        dtype = accumulation_dtype(self.compute_dtype)
        options = {"epsilon": 1e-5, "trainable": self.trainable, **options}
        return WideBatchNormalization(momentum=momentum, dtype=dtype, name=name, **options)

    def compute_logits(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        raise NotImplementedError

    def compute_map(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The attention map for the inputs."""
        return self.blend(self.gate_activation(self.compute_logits(inputs, training, mask)))

    def blend(self, attention_map: Any) -> Any:
        """The attention map, blended with all ones if the layer starts as an identity."""
        return blend_with_identity(attention_map, self.identity_scale)

    def refine(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The outputs and the attention scores, in any dtype."""
        attention_map = self.compute_map(inputs, training, mask)
        return apply_map(inputs, attention_map), attention_map

    def call(
        self,
        inputs: Any,
        training: bool | None = None,
        return_attention_scores: bool = False,
        mask: Any = None,
    ) -> Any:
        self.validate_input_dtype(inputs)
        # Another mask, such as `TimeDistributed` gives, does not tell which steps are real.
        if mask is not None and (len(inputs.shape), len(mask.shape)) != (3, 2):
            mask = None
        outputs, scores = self.refine(inputs, training, mask)
        outputs = ops.cast(outputs, inputs.dtype)
        if not return_attention_scores:
            return outputs
        return outputs, keras.tree.map_structure(
            lambda score: None if score is None else ops.cast(score, self.compute_dtype), scores
        )

    def multiply_adds(self, input_shape: tuple[int, ...]) -> int:
        """Counts those of all kernels, for one example of that shape (without the batch)."""
        channels = input_shape[self.channel_axis(len(input_shape) + 1) - 1]
        numbers = {True: len(self.pooling), False: math.prod(input_shape) // channels}
        kernels = [weight for weight in self.weights if weight.name.endswith("kernel")]
        return sum(math.prod(each.shape) * numbers[each.name in OF_POOLS] for each in kernels)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def compute_scores_spec(self, input_shape: Shape) -> Any:
        """Symbolic attention scores: the pair of a channel and a spatial attention map."""
        axis = self.channel_axis(len(input_shape))
        sizes = list(enumerate(input_shape))
        channel = [size if i in (0, axis) else 1 for i, size in sizes]
        spatial = [1 if i == axis else size for i, size in sizes]
        return tuple(keras.KerasTensor(shape, self.compute_dtype) for shape in (channel, spatial))

    def compute_output_spec(
        self, inputs: Any, return_attention_scores: bool = False, **call_arguments: Any
    ) -> Any:
        self.validate_input_dtype(inputs)
        outputs = keras.KerasTensor(inputs.shape, self.compute_dtype)
        with_scores = return_attention_scores
        return (outputs, self.compute_scores_spec(inputs.shape)) if with_scores else outputs

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "AttentionLayer":
        validate_dtype(config.get("dtype"))
        # Keras' loader of legacy `.h5` files turns strings that name a function into the function.
        names = [name for name in config if name.rpartition("_")[2] not in FUNCTIONS]
        functions = {name: config[name] for name in names if inspect.isfunction(config[name])}
        names = {name: function.__name__ for name, function in functions.items()}
        return super().from_config({**config, **names})

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        for name in (*SHARED, *self.own_arguments):
            module, value = FUNCTIONS.get(name.rpartition("_")[2]), getattr(self, name)
            config[name] = module.serialize(value) if module else value
        return config
