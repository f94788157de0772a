"""The layer `SpatialAttention`: one factor for each position of a feature map."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_cbam._types import Activation, Initializer, Regularizer
from keras_cbam.errors import boolean, different_ones, positive_integer
from keras_cbam.layers.attention_layer import AttentionLayer, Shape, shared_arguments
from keras_cbam.ops.attention import SPATIAL_POOLING, convolve, pool_over_channels, project_channels


@keras.saving.register_keras_serializable(package="keras_cbam")
class SpatialAttention(AttentionLayer):
    """Spatial attention of CBAM: which positions matter.

    Every position is described by the mean and the maximum of its channels; one convolution of
    the two maps gives one factor for each position:

    ```
    Ms(F) = sigmoid(conv7x7([avg(F); max(F)]))
    outputs = Ms(F) * F
    ```

    Args:
        kernel_size: odd int, size of the convolution on every spatial axis, or a tuple of that size
            for each of them. Defaults to `7`.
        pooling: string or tuple of strings, any of `"avg"`, `"max"` and `"conv"` (a learned 1x1
            convolution without bias to two maps). Their order is the order of the convolution's
            input maps. Defaults to `("avg", "max")`.
        gate_activation: activation of the logits. Defaults to `"sigmoid"`.
        use_bias: bool, whether the convolution has a bias. Defaults to `False`.
        use_batch_norm: bool, whether batch normalization (epsilon 1e-5, momentum 0.99, gamma
            starting at 0) follows the convolution, as in the official PyTorch code.
            Defaults to `False`.
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
        training: bool, mode of the batch normalization.
        return_attention_scores: bool, whether to return `(outputs, scores)`. Defaults to `False`.
        mask: bool tensor `(batch, steps)`, for rank-3 inputs: the gate looks only at steps where
            it is true. It is passed on; a mask of another rank is only passed on.

    Output:
        Tensor of the inputs' shape and the layer's compute dtype. The scores have shape
        `(batch, height, width, 1)` for images, the channel axis where the inputs have it.

    Raises:
        ValueError: if an argument or the inputs are not as said here.

    Example:

    >>> features = keras.random.normal((2, 28, 28, 64))
    >>> outputs, scores = SpatialAttention()(features, return_attention_scores=True)
    >>> outputs.shape, scores.shape
    ((2, 28, 28, 64), (2, 28, 28, 1))

    Reference:

    - [Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018](
      https://arxiv.org/abs/1807.06521), section 3.2, equation 3; `"conv"` pooling: table 2
    """

    own_arguments = ("kernel_size", "pooling", "use_bias", "use_batch_norm")

    def __init__(
        self,
        kernel_size: int | Sequence[int] = 7,
        pooling: str | Sequence[str] = ("avg", "max"),
        gate_activation: Activation = "sigmoid",
        use_bias: bool = False,
        use_batch_norm: bool = False,
        start_as_identity: bool = False,
        data_format: str | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**shared_arguments(locals()))
        self.kernel_size = _odd_size(kernel_size)
        self.pooling = different_ones("pooling", pooling, SPATIAL_POOLING)
        self.use_bias = boolean("use_bias", use_bias)
        self.use_batch_norm = boolean("use_batch_norm", use_batch_norm)
        self.batch_norm = None
        if self.use_batch_norm:
            self.batch_norm = self.make_batch_norm("batch_norm", 0.99, gamma_initializer="zeros")

    def build(self, input_shape: Shape) -> None:
        channels, rank = self.validate_input_shape(input_shape), len(input_shape)
        window = self.kernel_size
        window = (window,) * (rank - 2) if isinstance(window, int) else window
        if len(window) != rank - 2:
            raise ValueError(
                f"`kernel_size` must have one size for each of the {rank - 2} spatial axes. "
                f"Received: kernel_size={window}, input_shape={input_shape}"
            )
        if "conv" in self.pooling:
            self.pooling_kernel = self.add_parameter("pooling_kernel", channels, 2)
        maps = len(self.pooling) + ("conv" in self.pooling)
        self.kernel = self.add_parameter("kernel", *window, maps, 1)
        self.bias = self.add_parameter("bias", 1) if self.use_bias else None
        if self.batch_norm is not None:
            self.batch_norm.build((None,) * (rank - 1) + (1,))
        self.add_identity_scale()

    def compute_logits(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """The logits, with size 1 on the channel axis, in the accumulation dtype."""
        axis = self.channel_axis(len(inputs.shape))
        maps = [
            project_channels(inputs, self.pooling_kernel, axis)
            if method == "conv"
            else pool_over_channels(inputs, method, axis)
            for method in self.pooling
        ]
        logits = convolve(ops.concatenate(maps, axis=-1), self.kernel, self.bias, 1, mask)
        if self.batch_norm is not None:
            logits = self.batch_norm(logits, training=training, mask=mask)
        return ops.moveaxis(logits, -1, axis)

    def compute_scores_spec(self, input_shape: Shape) -> keras.KerasTensor:
        return super().compute_scores_spec(input_shape)[1]


def _odd_size(kernel_size):
    is_tuple = isinstance(kernel_size, (list, tuple))
    sizes = kernel_size if is_tuple else [kernel_size]
    sizes = tuple(positive_integer("kernel_size", each) for each in sizes)
    if len(set(sizes)) != 1 or sizes[0] % 2 == 0:
        raise ValueError(
            "`kernel_size` must be odd, so that the map stays centred on its position, and the "
            f"same for each spatial axis. Received: kernel_size={kernel_size}"
        )
    return sizes if is_tuple else sizes[0]
