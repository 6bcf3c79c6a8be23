"""Methods on quantized bases: those that claim to work there do, the others are refused in a sentence."""

import pytest

from peftbench.errors import ConfigError
from peftbench.methods.specs import check_base, methods
from peftbench.testing.quantized import broken_on_quantized

TRAINED = [spec for spec in methods if spec.build]


@pytest.mark.parametrize("spec", [spec for spec in TRAINED if spec.quantized_base], ids=lambda spec: spec.name)
def test_a_method_that_claims_it_works_on_a_quantized_base(spec):
    assert broken_on_quantized(spec) == {}


@pytest.mark.parametrize("spec", [spec for spec in TRAINED if not spec.quantized_base], ids=lambda spec: spec.name)
def test_a_method_that_does_not_is_refused(spec):
    with pytest.raises(ConfigError, match=f"{spec.name}.* needs the weights themselves.*leave quantization out"):
        check_base(spec, "nf4")
    check_base(spec, None)


def test_what_needs_the_weights_does_not_claim_otherwise():
    assert {spec.name for spec in TRAINED if not spec.quantized_base} >= {
        "full",
        "last_layers",
        "pissa",
        "olora",
        "osf",
    }
