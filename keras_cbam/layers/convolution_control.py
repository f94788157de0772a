"""The layer `ConvolutionControl`, a control of equal parameters: plain 1x1 convolutions."""

from typing import Any

import keras
from keras import ops

from keras_cbam._types import Initializer, Regularizer
from keras_cbam.errors import positive_integer
from keras_cbam.layers.attention_layer import AttentionLayer, Shape, shared_arguments
from keras_cbam.ops.attention import affine, project_channels


@keras.saving.register_keras_serializable(package="keras_cbam")
class ConvolutionControl(AttentionLayer):
    """A residual bottleneck of 1x1 convolutions, with as many parameters as CBAM's MLP.

    ```
    outputs = F + s * (W1 relu(W0 F + b0) + b1)         at each position; s = 1
    ```

    It is no attention. A network with it shows what as many parameters do at the same sites.

    Args:
        reduction_ratio: int. There are `max(1, channels // reduction_ratio)` hidden channels.
            Defaults to `16`.
        start_as_identity: bool, whether `s` is trainable and starts at 0: the new layer returns its
            inputs. Defaults to `False`, which `insert_attention` replaces by its own argument.
        data_format: `"channels_last"`, `"channels_first"` or `None`, the Keras default.
        kernel_initializer, bias_initializer: default to `"glorot_uniform"` and `"zeros"`.
        kernel_regularizer, bias_regularizer: default to `None`.
        **kwargs: `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Call arguments: those of `ChannelAttention`; with `return_attention_scores=True` the scores are
        `(None, None)`, as there is no attention map.

    Output: tensor of the inputs' shape and the layer's compute dtype.

    Raises:
        ValueError: if an argument or the inputs are not as said here.

    Example:

    >>> ConvolutionControl()(keras.random.normal((2, 28, 28, 64))).shape
    (2, 28, 28, 64)

    Reference:

    - [Woo et al., CBAM: Convolutional Block Attention Module, ECCV 2018](
      https://arxiv.org/abs/1807.06521), section 3.1, for the numbers of channels
    """

    own_arguments = ("reduction_ratio",)
    pooling = ()
    has_maps = False

    def __init__(
        self,
        reduction_ratio: int = 16,
        start_as_identity: bool = False,
        data_format: str | None = None,
        kernel_initializer: Initializer = "glorot_uniform",
        bias_initializer: Initializer = "zeros",
        kernel_regularizer: Regularizer = None,
        bias_regularizer: Regularizer = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**shared_arguments({"gate_activation": None, **locals()}))
        self.reduction_ratio = positive_integer("reduction_ratio", reduction_ratio)

    def build(self, input_shape: Shape) -> None:
        channels = self.validate_input_shape(input_shape)
        hidden = max(1, channels // self.reduction_ratio)
        self.reduce_kernel = self.add_parameter("reduce_kernel", channels, hidden)
        self.expand_kernel = self.add_parameter("expand_kernel", hidden, channels)
        self.reduce_bias = self.add_parameter("reduce_bias", hidden)
        self.expand_bias = self.add_parameter("expand_bias", channels)
        self.add_identity_scale()

    def refine(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        axis = self.channel_axis(len(inputs.shape))
        hidden = ops.relu(project_channels(inputs, self.reduce_kernel, axis, self.reduce_bias))
        added: Any = affine(hidden, self.expand_kernel, self.expand_bias)
        if self.identity_scale is not None:
            added = ops.multiply(added, ops.cast(self.identity_scale, added.dtype))
        outputs = ops.add(ops.cast(inputs, added.dtype), ops.moveaxis(added, -1, axis))
        return outputs, (None, None)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {name: value for name, value in config.items() if name != "gate_activation"}
