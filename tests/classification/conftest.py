import pytest

from tests.classification.runs import framed_images, train


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory):
    """The folder of a tiny run of one epoch, on the images of `framed_images`, never changed."""
    folder = tmp_path_factory.mktemp("classifier")
    with pytest.MonkeyPatch.context() as patch:
        train(patch, framed_images(folder / "images"), folder / "run")
    return folder / "run"
