import hypothesis
import pytest

from tests.checks import BACKEND
from tests.fuzzing import PROPERTIES

# A layer's call compiles anew under JAX.
EXAMPLES = {"valid layers": 10 if BACKEND == "jax" else 30}


@pytest.mark.parametrize("name", PROPERTIES)
def test_any_input(name):
    strategy, check = PROPERTIES[name]
    tried = []

    @hypothesis.settings(
        max_examples=EXAMPLES.get(name, 100),
        derandomize=True,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategy)
    def run(value):
        tried.append(value)
        check(value)

    run()
    assert len(tried) >= EXAMPLES.get(name, 100)
