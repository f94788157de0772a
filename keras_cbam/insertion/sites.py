"""Finds the layers of a Functional model after which attention goes: by family, or by the graph."""

import re

import keras

from keras_cbam._types import Where
from keras_cbam.errors import near_names
from keras_cbam.insertion.graph import (
    choose,
    data_format,
    graph_nodes,
    is_possible_site,
    layer_calls,
    searched_model,
)
from keras_cbam.layers.attention_layer import AttentionLayer

# The families of keras.applications and keras_hub that the residual rule does not describe: two
# patterns of whole names, one that only layers of the family match, and that of the sites. Of the
# layers that agree in the group `block`, the last is the site.
FAMILIES = {
    # Before the layer scale, which starts at 1e-6 and would leave the gates nothing to see.
    "ConvNeXt": (r"convnext_.*_layer_scale", r".*_pointwise_conv_2"),
    "DenseNet": (r"(conv|stack)\d_block\d+_concat", r"(conv|stack)\d_block\d+_2_conv"),
    # Inverted residuals: a block with stride 2 or other channels has no addition, but gets
    # attention at its last layer all the same. Here before the stochastic depth.
    "EfficientNet": (
        r"block\d[a-z]_project_bn",
        r"(?P<block>block\d[a-z])_project_(bn|activation)",
    ),
    "MobileNetV2": (r"block_\d+_project_BN", r"(expanded_conv|block_\d+)_project_BN"),
    "MobileNetV3": (r"expanded_conv(_\d+)?_project_bn",) * 2,
    # Its additions are in layers of its own. The cells without one get attention at their concat.
    "InceptionResNet": (r"block35_\d+_mixed", r"block(35|17|8)_\d+_conv|mixed_\d[ab]"),
    "Inception": (r"mixed\d+",) * 2,
    # No residual connections. "After each depthwise and each pointwise unit" is the reading that
    # gives the paper's parameter counts.
    "MobileNet": (r"conv_(dw|pw)_\d+_relu",) * 2,
    # Of keras_hub, where each block is a layer.
    "MobileNetBlocks": (r"block_\d+_\d+",) * 2,
    "NASNet": (r"(normal|reduction)_concat_.+",) * 2,
    "VGG": (r"block\d_conv\d", r"(?P<block>block\d)_conv\d"),
}
# A residual network with such names is of none of these families.
WITHOUT_RESIDUALS = {"DenseNet", "Inception", "MobileNet", "MobileNetBlocks", "VGG"}
# Layers that only drop and rescale, in training.
DROPS = re.compile(r"Dropout|DropPath|StochasticDepth")


def residual_sites(model):
    """The last layers of the residual branches of one graph, in the order of their calls."""
    nodes = graph_nodes(model)
    model_format = data_format(model)
    producer = {id(tensor): node for node in nodes for tensor in node.outputs}
    # Bit sets of positions in the graph. `reached`: what a node depends on, itself included.
    reached, with_weights, additions = {}, 0, 0
    sites = []
    for index, node in enumerate(nodes):
        parents = [producer[id(t)] for t in node.input_tensors if id(t) in producer]
        bits = 1 << index
        for parent in parents:
            bits |= reached[id(parent)]
        reached[id(node)] = bits
        if getattr(node.operation, "weights", None):
            with_weights |= 1 << index
        if node.operation.__class__.__name__ != "Add" or len(parents) != 2:
            continue
        additions |= 1 << index
        first, second = (reached[id(parent)] for parent in parents)
        branches = [first & ~second, second & ~first]
        weights = [(branch & with_weights).bit_count() for branch in branches]
        residual = 0 if weights[0] > weights[1] else 1
        # Another addition in a branch is the top-down path of a feature pyramid.
        if weights[0] == weights[1] or branches[residual] & additions:
            continue
        site = parents[residual]
        while not _ends_branch(site.operation):
            # Past a product with a gate, for example, to the layer that is gated.
            shape = site.outputs[0].shape
            same = [t for t in site.input_tensors if t.shape == shape and id(t) in producer]
            if len(same) != 1:
                break
            site = producer[id(same[0])]
        if is_possible_site(site, model_format) and site.operation not in sites:
            sites.append(site.operation)
    return sites


def _ends_branch(operation):
    if not isinstance(operation, keras.layers.Layer) or isinstance(operation, AttentionLayer):
        return False
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is not keras.activations.linear
    return not DROPS.search(operation.__class__.__name__)


def _chosen_names(model, names):
    """The names of the sites of one graph, by its family or by its residual branches."""
    residual = [layer.name for layer in residual_sites(model)]
    for family, (mark, pattern) in FAMILIES.items():
        if residual and family in WITHOUT_RESIDUALS:
            continue
        if any(re.fullmatch(mark, name) for name in names):
            found = filter(None, (re.fullmatch(pattern, name) for name in names))
            return {match.groupdict().get("block", match[0]): match[0] for match in found}.values()
    return residual


def _automatic_sites(model, prefix=""):
    layers = [node.operation for node in graph_nodes(model)]
    chosen = _chosen_names(model, [layer.name for layer in layers])
    found = {}
    for layer in layers:
        if searched_model(layer):
            found.update(_automatic_sites(searched_model(layer), prefix=f"{prefix}{layer.name}/"))
        if layer.name in chosen:
            found[prefix + layer.name] = layer
    return found


def select_sites(model: keras.Model, where: Where = "auto") -> dict[str, keras.Layer]:
    """`{path: layer}` of the layers that `where` chooses; see `insert_attention`."""
    calls = list(layer_calls(model))
    possible = {path: node.operation for path, node, form in calls if is_possible_site(node, form)}
    if possible and not (isinstance(where, str) and where == "auto"):
        return choose(possible, where)
    chosen = _automatic_sites(searched_model(model)) if possible else {}
    if not chosen:
        reason = "It has no layer with spatial axes."
        if possible:
            reason = f"Pass `where`. {near_names('', possible, most=10)}"
        elif any(isinstance(node.operation, AttentionLayer) for _, node, _ in calls):
            reason = "All of its layers with spatial axes are attention layers."
        raise ValueError(
            f"No site for attention found in model {model.name!r}. {reason} "
            f"Received: where={where!r}"
        )
    return chosen


def find_sites(model: keras.Model) -> list[str]:
    """The layers after which `insert_attention(model, where="auto")` puts attention.

    | model | sites |
    |---|---|
    | ResNet, ResNetV2, Xception, any residual graph | end of each residual branch |
    | MobileNetV2/V3, EfficientNet/V2 | last layer of each block, before its stochastic depth |
    | ConvNeXt, DenseNet | last convolution of each block, before ConvNeXt's layer scale |
    | InceptionResNetV2 | end of each residual branch; concatenation of each other cell |
    | InceptionV3, NASNet | concatenation of each cell |
    | MobileNet | end of each depthwise and each pointwise unit |
    | MobileNet of keras_hub | each block |
    | VGG | last convolution of each stage |

    Other models are read as residual graphs: at every addition of two tensors, by the layer `Add`
    or the operator `+`, the residual branch is the one with more layers with weights since the two
    parted. Dropout and stochastic depth at its end are passed over.

    Args:
        model: Functional or built Sequential `keras.Model`; nested models are searched too.

    Returns:
        List of layer names in the order of the graph, `<model>/<layer>` in nested models.

    Raises:
        ValueError: if the model is subclassed, or no site is found (the message lists the layers).

    Example:

    >>> find_sites(keras.applications.ResNet50(weights=None))[:2]
    ['conv2_block1_3_bn', 'conv2_block2_3_bn']

    Reference:

    - [Woo et al., CBAM](https://arxiv.org/abs/1807.06521), section 4.1 and figure 3
    """
    return list(select_sites(model))
