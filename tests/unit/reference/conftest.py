"""What the tests of data sets and classifiers share."""

import pytest

from reference.datasets import import_torchvision_mnist


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests need no network: MNIST is used where it lies, and a download fails as it does on a train."""
    mnist = import_torchvision_mnist()

    def fail(_: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(mnist, "download", fail)
