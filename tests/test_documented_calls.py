import inspect

import pytest

from tests import documented_calls

RUN = ("layers", "insertion", "applications", "cost", "visualization", "models", "data")


@pytest.mark.parametrize("name", [*RUN, "classification"])
def test_documented_calls_run(name, tmp_path):
    function = getattr(documented_calls, name)
    function(*([tmp_path] if inspect.signature(function).parameters else []))
