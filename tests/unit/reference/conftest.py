"""What the tests of data sets and classifiers share."""

from collections.abc import Iterator

import pytest
import torch

from reference.datasets import import_torchvision_mnist


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small work: on a busy machine threads that wait for each other cost more than they bring."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_download(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests need no network: MNIST is used where it lies, and a download fails as it does on a train."""
    mnist = import_torchvision_mnist()

    def fail(_: object) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr(mnist, "download", fail)
