"""JAX: transformations of a layer, inside and outside of what is compiled."""

import numpy as np
import pytest
from keras import ops

from keras_cbam import CBAM
from keras_cbam.ops import fused_cbam
from tests.checks import BACKEND, assert_close, built, float64, random_input, to_numpy
from tests.layers.test_fused import fused_calls

pytestmark = pytest.mark.skipif(BACKEND != "jax", reason="JAX's")
__all__ = ["fused_calls"]


def reverse(f, x, t):
    import jax

    return jax.grad(lambda x: ops.sum(f(x) * t))(x)


def reverse_over_reverse(f, x, t):
    return reverse(lambda x: reverse(lambda x: f(x) ** 2, x, t), x, t)


def vmap(f, x, t):
    import jax

    return jax.vmap(lambda x, t: reverse(lambda x: f(x[None])[0], x, t))(x, t)


def scan(f, x, t):
    import jax

    return reverse(lambda x: jax.lax.scan(lambda x, _: (f(x), None), x, length=2)[0], x, t)


def checkpoint(f, x, t):
    import jax

    return reverse(jax.checkpoint(f), x, t)


def prepared(dtype="float64"):
    x = random_input((2, 4, 4, 8)).astype(dtype)
    layer = built(CBAM, {"kernel_size": 3, "dtype": dtype}, x)
    values = [variable.value for variable in layer.trainable_variables]
    return (
        lambda x: layer.stateless_call(values, [], x)[0],
        x,
        random_input(x.shape, 3).astype(dtype),
    )


@pytest.mark.parametrize("transformation", [reverse, reverse_over_reverse, vmap, scan, checkpoint])
def test_reverse_mode(transformation, fused_calls, monkeypatch):
    import jax

    with float64():
        f, x, t = prepared()
        result = jax.jit(lambda x, t: transformation(f, x, t))(x, t)
        assert fused_calls
        inner = transformation(jax.jit(f), x, t)
        monkeypatch.setattr(fused_cbam, "takes", lambda inputs: False)
        expected = to_numpy(jax.jit(lambda x, t: transformation(f, x, t))(x, t))
        assert np.abs(expected).max() > 1e-3
        assert_close(result, expected, 1e-6)
        assert_close(inner, expected, 1e-6)


def test_forward_mode_is_one_clear_error():
    """JAX differentiates a `custom_vjp` in reverse only, and says so."""
    import jax

    f, x, t = prepared("float32")
    for function in (f, jax.jit(f), jax.checkpoint(f)):
        with pytest.raises(TypeError, match="forward-mode"):
            jax.jvp(function, (x,), (t,))
