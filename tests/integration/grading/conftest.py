"""A guest, digits and a classifier for pipelines of the size of `pipelines.RECIPE`."""

from collections.abc import Iterator

import pytest
from pipelines import RECIPE

from grading.real_digits import Equipment, load_real_digits
from reference.classifiers import Classifier, load_classifier
from reference.datasets import Digits
from sandbox.backends import choose_backend
from sandbox.guest_client import Guest
from sandbox.limits import Limits


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    """Without a sandbox: what is tested here is the judge's side of the wall."""
    with choose_backend("none").start(Limits()) as started:
        yield started


@pytest.fixture(scope="session")
def equipment() -> Equipment:
    return Equipment(digits=load_real_digits(RECIPE), classifier=load_classifier("digits16"))


@pytest.fixture(scope="session")
def digits(equipment: Equipment) -> Digits:
    return equipment.digits.training


@pytest.fixture(scope="session")
def classifier(equipment: Equipment) -> Classifier:
    return equipment.classifier
