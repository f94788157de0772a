"""A copy of a Functional model with attention in it."""

from keras_cbam.attention import attention_template, is_choice, layer_for_site
from keras_cbam.insertion.copying import Copier
from keras_cbam.insertion.graph import data_format
from keras_cbam.insertion.sites import select_sites


def insert_attention(model, attention="cbam", where="auto", start_as_identity=True):
    """Copies a model, with an attention layer after each chosen layer.

    The given model is untouched and shares no variable with the copy, which is not compiled.
    Weights, layer names, trainable flags and dtype policies are carried over. An inserted layer is
    named `<site>_<attention>`, `conv5_block3_3_bn_cbam` for example, and has its site's dtype
    policy. A layer that is called several times gets one for each call.

    Args:
        model: Functional or built Sequential `keras.Model`; nested models are searched too.
        attention: string, `"cbam"`, `"se"` (Squeeze-and-Excitation: `ChannelAttention` with the
            mean alone), `"channel"`, `"spatial"` or `"bam"`; dict `{"class_name": ..., "config":
            {...}}` of such a name or of `keras.saving.serialize_keras_object`; layer, whose config
            is copied; or callable `site name -> one of these, or None`. Defaults to `"cbam"`.
        where: the layers that get attention. `"auto"` for those of `find_sites`, a regular
            expression that is searched for in the layers' names (`<model>/<layer>` in nested
            models), a collection of names, or a predicate on the layer. Defaults to `"auto"`.
        start_as_identity: bool, whether the copy computes exactly what the model does until it
            is trained; overrides that of a config or a layer. Defaults to `True`.

    Returns:
        A `keras.Model` with the model's inputs and outputs. A backbone of keras_cv or keras_hub
        keeps its class, with the attention in its pyramid levels, and is saved as its graph.

    Raises:
        ValueError: if the model is subclassed, nothing or an unknown name is chosen (the message
            lists the layers), the attention is unknown, or a site has this attention already.

    Example:

    >>> model = keras.applications.ResNet50(weights=None)
    >>> with_attention = insert_attention(model)
    >>> len(with_attention.layers) - len(model.layers)
    16
    """
    sites = {id(layer) for layer in select_sites(model, where).values()}
    model_format = data_format(model)
    if not is_choice(attention):
        attention = attention_template(attention)

    def added(layer):
        if id(layer) not in sites:
            return None
        form = getattr(layer, "data_format", None) or model_format
        return layer_for_site(attention, layer.name, start_as_identity, layer.dtype_policy, form)

    return Copier(added=added).copy_model(model)
