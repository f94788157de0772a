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


def test_plain_operations_on_a_cpu():
    """Where forward mode works too."""
    import jax

    with float64():
        f, x, t = prepared()
        assert "custom_vjp" not in str(jax.make_jaxpr(f)(x))
        step = 1e-4 * t
        expected = to_numpy((f(x + step) - f(x - step)) / 2e-4)
        # JAX's products of float64 matrices are hardly better than float32's.
        for function in (f, jax.jit(f), jax.checkpoint(f)):
            assert_close(jax.jvp(function, (x,), (t,))[1], expected, 1e-3)


def test_forward_mode_is_one_clear_error_on_an_accelerator(fused_calls):
    """JAX differentiates a `custom_vjp` in reverse only, and says so."""
    import jax

    f, x, t = prepared("float32")
    for function in (f, jax.jit(f), jax.checkpoint(f)):
        with pytest.raises(TypeError, match="forward-mode"):
            jax.jvp(function, (x,), (t,))
