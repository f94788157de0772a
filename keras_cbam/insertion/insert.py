"""Inserts attention: copies a Functional model, with a new layer after each chosen one."""

import keras

from keras_cbam._types import Attention, Where
from keras_cbam.attention import attention_template, is_choice, layer_for_site
from keras_cbam.insertion.copying import Copier
from keras_cbam.insertion.graph import data_format, require_searchable
from keras_cbam.insertion.sites import select_sites


def insert_attention(
    model: keras.Model,
    attention: Attention = "cbam",
    where: Where = "auto",
    start_as_identity: bool = True,
) -> keras.Model:
    """Copies a model, with an attention layer after each chosen layer.

    The given model is untouched and shares no variable with the copy, which is not compiled.
    Weights, what layers keep beside them (adapted tables, for example), layer names, trainable
    flags and dtype policies are carried over. An inserted layer is named `<site>_<attention>`,
    `conv5_block3_3_bn_cbam` for example, has the dtype policy that its site has or, if it is
    quantized, had, and is trainable, also in a frozen model. A layer that is called several times
    gets one for each call.

    Args:
        model: Functional or built Sequential `keras.Model`; nested and wrapped models
            (`TimeDistributed`) are searched too. Of a task of keras_hub or keras_cv its backbone.
        attention: string, `"cbam"`, `"se"` (Squeeze-and-Excitation: `ChannelAttention` with the
            mean alone), `"channel"`, `"spatial"`, `"bam"` or `"control"` (`ConvolutionControl`, no
            attention); dict `{"class_name": ..., "config": {...}}` of such a name or of
            `keras.saving.serialize_keras_object`; layer, whose config is copied; layer class or
            `functools.partial` of one; callable that returns one of these, or `None`, for the
            site's name if it has a parameter; or `None`: an exact copy. Defaults to `"cbam"`.
        where: the layers that get attention. `"auto"` for those of `find_sites`, a regular
            expression that matches the whole name of a layer or its whole path (`<model>/<layer>`
            in nested models), a collection of names, or a predicate on the layer. Defaults to
            `"auto"`.
        start_as_identity: bool, whether the copy computes exactly what the model does until it
            is trained. A key in a config, what a callable returns and a layer's `True` are kept.
            Defaults to `True`. The paper's gates start near one half instead: so a pretrained
            MobileNetV2, fine-tuned with fixed batch normalization, stayed at an accuracy of 0.10;
            from the identity it reached 0.89, without attention 0.90. A small network from random
            weights reached 0.62, from the identity and without attention 0.65.

    Returns:
        A `keras.Model` with the model's inputs and outputs. Models around new attention are
        trainable, and all other layers keep their flags. (To unfreeze the layers of such a model,
        set its `trainable` to `False` and then to `True`: with TensorFlow, Keras ignores a value
        that it has already.) A subclass of Functional keeps its class.
        So does a task with its preprocessor and head, which is compiled again by its own class, and
        a backbone, with the attention in its pyramid levels, which is saved as its graph.

    Raises:
        ValueError: if the model is subclassed or of a class that its config does not rebuild,
            nothing or an unknown name is chosen (the message has near names), the attention is
            unknown, or a site has this attention already.

    Example:

    >>> model = keras.applications.ResNet50(weights=None)
    >>> with_attention = insert_attention(model)
    >>> len(with_attention.layers) - len(model.layers)
    16
    """
    if attention is None:
        require_searchable(model)
        return Copier().copy_model(model)
    sites = {id(layer) for layer in select_sites(model, where).values()}
    model_format = data_format(model)
    wanted = attention if is_choice(attention) else attention_template(attention)

    def added(layer):
        if id(layer) not in sites:
            return None
        # A quantized layer's own policy is for layers that can be quantized.
        policy = layer.dtype_policy.get_config().get("source_name", layer.dtype_policy)
        form = getattr(layer, "data_format", None) or model_format
        return layer_for_site(wanted, layer.name, start_as_identity, policy, form)

    return Copier(added=added).copy_model(model)
