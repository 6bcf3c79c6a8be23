"""The contract of every method in the registry: a new one is tested without a new test."""

import pytest

from peftbench.methods.specs import methods
from peftbench.testing import METHOD_CONTRACT, Trial, tiny_settings

TRAINED = [spec for spec in methods if spec.build]


@pytest.fixture(scope="module", params=TRAINED, ids=lambda spec: spec.name)
def trial(request):
    return Trial(request.param, tiny_settings(request.param))


@pytest.mark.parametrize("check", METHOD_CONTRACT, ids=lambda check: check.__name__)
def test_method(trial, check):
    check(trial)
