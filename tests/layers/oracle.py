"""The formulas in NumPy float64, written from the paper and not from the package's code.

Each function takes the inputs, the layer's weights by name (`tests.checks.weights_of`) and the
layer's own arguments, and returns `(outputs, scores)`. The defaults are the promised ones.
"""

import itertools

import numpy as np

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
}


def space_axes(x):
    return tuple(range(1, x.ndim - 1))


def pool_over_space(x, method):
    """`(batch, channels)` of channels-last inputs."""
    space = space_axes(x)
    if method == "avg":
        return x.mean(space)
    if method == "max":
        return x.max(space)
    if method == "lp":
        return np.sqrt((x**2).sum(space))
    assert method == "lse"
    return np.log(np.exp(x).sum(space))


def same_convolution(maps, kernel, dilation_rate=1):
    """Cross-correlation with zeros around the maps, one product for each kernel element."""
    size = kernel.shape[0]
    space = maps.shape[1:-1]
    margin = size // 2 * dilation_rate
    around = [(0, 0)] + [(margin, margin)] * len(space) + [(0, 0)]
    padded = np.pad(maps, around)
    result = np.zeros((*maps.shape[:-1], kernel.shape[-1]))
    for offset in itertools.product(range(size), repeat=len(space)):
        starts = [dilation_rate * index for index in offset]
        window = tuple(slice(start, start + length) for start, length in zip(starts, space))
        result += padded[(slice(None), *window)] @ kernel[offset]
    return result


def normalize(x, weights, training, momentum=0.99):
    """Batch normalization over all axes but the last; also the moving statistics after the call."""
    axes = tuple(range(x.ndim - 1))
    batch = (x.mean(axes), x.var(axes))
    mean, variance = batch if training else (weights["moving_mean"], weights["moving_variance"])
    y = weights["gamma"] * (x - mean) / np.sqrt(variance + 1e-5) + weights["beta"]
    moving = tuple(
        momentum * weights[name] + (1 - momentum) * value
        for name, value in zip(("moving_mean", "moving_variance"), batch)
    )
    return y, moving


def channel_logits(x, weights, pooling, activation, use_bias):
    logits = 0
    for method in [pooling] if isinstance(pooling, str) else pooling:
        hidden = pool_over_space(x, method) @ weights["hidden_kernel"]
        hidden = ACTIVATIONS[activation](hidden + (weights["hidden_bias"] if use_bias else 0))
        logits = logits + hidden @ weights["output_kernel"]
        logits = logits + (weights["output_bias"] if use_bias else 0)
    return np.expand_dims(logits, space_axes(x))


def spatial_logits(x, weights, kernel_size, pooling, use_bias, use_batch_norm, training):
    maps = []
    for method in [pooling] if isinstance(pooling, str) else pooling:
        if method == "conv":
            maps.append(x @ weights["pooling_kernel"])
        else:
            maps.append({"avg": np.mean, "max": np.max}[method](x, axis=-1, keepdims=True))
    assert weights["kernel"].shape[:-2] == (kernel_size,) * (x.ndim - 2)
    logits = same_convolution(np.concatenate(maps, -1), weights["kernel"])
    if use_bias:
        logits = logits + weights["bias"]
    if use_batch_norm:
        logits, _ = normalize(logits, part(weights, "batch_norm"), training)
    return logits


def part(weights, name):
    return {
        key.removeprefix(name + "/"): value
        for key, value in weights.items()
        if key.startswith(name + "/")
    }


def gate_map(logits, weights, gate_activation, start_as_identity):
    gate = ACTIVATIONS[gate_activation](logits)
    return 1 + weights["identity_scale"] * (gate - 1) if start_as_identity else gate


def in_channels_last(function):
    """Lets a channels-last oracle take and return channels-first tensors."""

    def oracle(inputs, weights, data_format="channels_last", **arguments):
        inputs = np.asarray(inputs, "float64")
        if data_format == "channels_last":
            return function(inputs, weights, **arguments)
        outputs, scores = function(np.moveaxis(inputs, 1, -1), weights, **arguments)
        return np.moveaxis(outputs, -1, 1), move_scores(scores)

    def move_scores(scores):
        if isinstance(scores, tuple):
            return tuple(move_scores(score) for score in scores)
        return None if scores is None else np.moveaxis(scores, -1, 1)

    return oracle


@in_channels_last
def channel_attention(
    x,
    weights,
    reduction_ratio=16,
    pooling=("avg", "max"),
    activation="relu",
    gate_activation="sigmoid",
    use_bias=True,
    start_as_identity=False,
    training=False,
):
    hidden = max(1, x.shape[-1] // reduction_ratio)
    assert weights["hidden_kernel"].shape == (x.shape[-1], hidden)
    logits = channel_logits(x, weights, pooling, activation, use_bias)
    gate = gate_map(logits, weights, gate_activation, start_as_identity)
    return gate * x, gate


@in_channels_last
def convolution_control(x, weights, reduction_ratio=16, start_as_identity=False, training=False):
    assert weights["reduce_kernel"].shape[1] == max(1, x.shape[-1] // reduction_ratio)
    hidden = np.maximum(x @ weights["reduce_kernel"] + weights["reduce_bias"], 0)
    added = hidden @ weights["expand_kernel"] + weights["expand_bias"]
    return x + (weights["identity_scale"] if start_as_identity else 1) * added, (None, None)


@in_channels_last
def spatial_attention(
    x,
    weights,
    kernel_size=7,
    pooling=("avg", "max"),
    gate_activation="sigmoid",
    use_bias=False,
    use_batch_norm=False,
    start_as_identity=False,
    training=False,
):
    logits = spatial_logits(
        x, weights, kernel_size, pooling, use_bias, use_batch_norm, training=training
    )
    gate = gate_map(logits, weights, gate_activation, start_as_identity)
    return gate * x, gate


@in_channels_last
def cbam(
    x,
    weights,
    reduction_ratio=16,
    kernel_size=7,
    pooling=("avg", "max"),
    arrangement="channel_spatial",
    use_batch_norm=False,
    residual=False,
    start_as_identity=False,
    spatial_pooling=("avg", "max"),
    activation="relu",
    gate_activation="sigmoid",
    use_bias=True,
    training=False,
):
    # With a residual connection one scalar multiplies what is added, and no gate is blended.
    blends = start_as_identity and not residual

    def channel_gate(features):
        return channel_attention(
            features,
            part(weights, "channel_attention"),
            reduction_ratio=reduction_ratio,
            pooling=pooling,
            activation=activation,
            gate_activation=gate_activation,
            use_bias=use_bias,
            start_as_identity=blends,
        )

    def spatial_gate(features):
        return spatial_attention(
            features,
            part(weights, "spatial_attention"),
            kernel_size=kernel_size,
            pooling=spatial_pooling,
            gate_activation=gate_activation,
            use_batch_norm=use_batch_norm,
            start_as_identity=blends,
            training=training,
        )

    channel_map = spatial_map = None
    if arrangement == "parallel":
        logits = (
            channel_logits(
                x, part(weights, "channel_attention"), pooling, activation, use_bias=use_bias
            ),
            spatial_logits(
                x,
                part(weights, "spatial_attention"),
                kernel_size,
                spatial_pooling,
                False,
                use_batch_norm,
                training,
            ),
        )
        joint, channel_map, spatial_map = (
            gate_map(logit, weights, gate_activation, blends) for logit in (sum(logits), *logits)
        )
        outputs = joint * x
    elif arrangement == "spatial_channel":
        outputs, spatial_map = spatial_gate(x)
        outputs, channel_map = channel_gate(outputs)
    else:
        outputs = x
        if arrangement != "spatial":
            outputs, channel_map = channel_gate(outputs)
        if arrangement != "channel":
            outputs, spatial_map = spatial_gate(outputs)
    if residual:
        outputs = x + (weights["identity_scale"] if start_as_identity else 1) * outputs
    return outputs, (channel_map, spatial_map)


@in_channels_last
def bam(
    x,
    weights,
    reduction_ratio=16,
    dilation_rate=4,
    combine="add",
    gate_activation="sigmoid",
    start_as_identity=False,
    training=False,
):
    def hidden(features, norm):
        normalized, _ = normalize(features, part(weights, norm), training)
        return np.maximum(normalized, 0)

    assert weights["hidden_kernel"].shape[1] == max(1, x.shape[-1] // reduction_ratio)
    channel = pool_over_space(x, "avg") @ weights["hidden_kernel"] + weights["hidden_bias"]
    channel = hidden(channel, "channel_norm") @ weights["channel_kernel"] + weights["channel_bias"]
    channel = np.expand_dims(channel, space_axes(x))
    spatial = hidden(x @ weights["reduce_kernel"] + weights["reduce_bias"], "reduce_norm")
    for i in range(2):
        spatial = same_convolution(spatial, weights[f"dilated_{i}_kernel"], dilation_rate)
        spatial = hidden(spatial + weights[f"dilated_{i}_bias"], f"dilated_{i}_norm")
    spatial = spatial @ weights["spatial_kernel"] + weights["spatial_bias"]
    combined = channel + spatial if combine == "add" else channel * spatial
    joint, *scores = (
        1 + gate_map(logits, weights, gate_activation, False)
        for logits in (combined, channel, spatial)
    )
    if start_as_identity:
        scale = weights["identity_scale"]
        joint, *scores = (1 + scale * (gate - 1) for gate in (joint, *scores))
    return joint * x, tuple(scores)
