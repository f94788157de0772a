"""What the attention layers share: arguments, shapes, weights, scores, the start as an identity."""

import keras
from keras import ops

from keras_cbam.ops.attention import accumulation_dtype, apply_gates, blend_with_identity


def validate_dtype(dtype):
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


def clone_initializer(initializer):
    """A copy, so that two weights never draw from one initializer object."""
    if isinstance(initializer, keras.initializers.Initializer):
        return initializer.clone()
    return initializer


class WideBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization whose weights keep their dtype when another layer reads them."""

    def add_weight(self, *args, **kwargs):
        return super().add_weight(*args, **{**kwargs, "autocast": False})


class AttentionLayer(keras.layers.Layer):
    """Base of the attention layers: a feature map in, the same shape out.

    A subclass with one gate gives `compute_logits(inputs, training)`, another one
    `refine(inputs, training)`; every subclass gives `compute_scores_spec(input_shape)`, its
    symbolic attention scores.

    Args:
        gate: triple of `gate_activation`, `start_as_identity` and `data_format`.
        weights: quadruple of the kernels' and the biases' initializers, and their regularizers.
        **kwargs: `name`, `dtype`, `trainable` of `keras.layers.Layer`.
    """

    def __init__(self, gate, weights, **kwargs):
        validate_dtype(kwargs.get("dtype"))
        super().__init__(**kwargs)
        gate_activation, start_as_identity, data_format = gate
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer = weights
        if data_format is None:
            data_format = keras.config.image_data_format()
        if data_format not in ("channels_first", "channels_last"):
            raise ValueError(
                '`data_format` must be "channels_first", "channels_last" or None. '
                f"Received: data_format={data_format!r}"
            )
        self.gate_activation = keras.activations.get(gate_activation)
        self.start_as_identity = bool(start_as_identity)
        self.data_format = data_format
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.identity_scale = None

    @property
    def accumulation_dtype(self):
        return accumulation_dtype(self.compute_dtype)

    def channel_axis(self, rank):
        return 1 if self.data_format == "channels_first" else rank - 1

    def validate_input_shape(self, input_shape):
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

    def validate_input_dtype(self, inputs):
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if "float" not in dtype:
            raise ValueError(
                f"{self.__class__.__name__} needs floating-point inputs. "
                f"Received: inputs of dtype {dtype}"
            )

    # The weights are never autocast: gates are computed in the accumulation dtype.

    def add_kernel(self, name, shape):
        return self._add(name, shape, self.kernel_initializer, self.kernel_regularizer)

    def add_bias(self, name, size):
        return self._add(name, (size,), self.bias_initializer, self.bias_regularizer)

    def _add(self, name, shape, initializer, regularizer):
        options = {"regularizer": regularizer, "autocast": False}
        return self.add_weight(shape, clone_initializer(initializer), name=name, **options)

    def add_identity_scale(self):
        if self.start_as_identity:
            self.identity_scale = self.add_weight(
                name="identity_scale", shape=(), initializer="zeros", autocast=False
            )

    def make_batch_norm(self, name, momentum, gamma_initializer="ones"):
        # float16 could hold neither the sums nor their variance.
        return WideBatchNormalization(
            momentum=momentum,
            epsilon=1e-5,
            gamma_initializer=gamma_initializer,
            dtype=self.accumulation_dtype,
            trainable=self.trainable,
            name=name,
        )

    def compute_gate(self, inputs, training=None):
        """The gate map for the inputs."""
        return self.blend(self.gate_activation(self.compute_logits(inputs, training=training)))

    def blend(self, gate):
        """The gate map, blended with all ones if the layer starts as an identity."""
        return blend_with_identity(gate, self.identity_scale)

    def refine(self, inputs, training=None):
        """The outputs and the attention scores."""
        gate = self.compute_gate(inputs, training=training)
        return apply_gates(inputs, [gate]), ops.cast(gate, self.compute_dtype)

    def call(self, inputs, training=None, return_attention_scores=False):
        self.validate_input_dtype(inputs)
        outputs, scores = self.refine(inputs, training)
        return (outputs, scores) if return_attention_scores else outputs

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def map_specs(self, input_shape):
        """Symbolic maps of a channel gate and of a spatial gate."""
        axis = self.channel_axis(len(input_shape))
        sizes = list(enumerate(input_shape))
        channel = tuple(size if i in (0, axis) else 1 for i, size in sizes)
        spatial = tuple(1 if i == axis else size for i, size in sizes)
        return tuple(keras.KerasTensor(shape, self.compute_dtype) for shape in (channel, spatial))

    def compute_output_spec(self, inputs, training=None, return_attention_scores=False):
        self.validate_input_dtype(inputs)
        outputs = keras.KerasTensor(inputs.shape, self.compute_dtype)
        if return_attention_scores:
            return outputs, self.compute_scores_spec(inputs.shape)
        return outputs

    @classmethod
    def from_config(cls, config):
        validate_dtype(config.get("dtype"))
        return super().from_config(config)

    def get_config(self):
        return {
            **super().get_config(),
            "gate_activation": keras.activations.serialize(self.gate_activation),
            "start_as_identity": self.start_as_identity,
            "data_format": self.data_format,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
        }
