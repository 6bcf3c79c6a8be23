"""A method on tiny models whose projections are kept in 4 or 8 bits: what it says of them, tried."""

from typing import get_args

from peftbench.schema import MethodSpec, Quantization
from peftbench.testing.contract import (
    answers_alike_in_any_batch,
    begins_as_the_base_if_it_says_so,
    changes_what_the_model_says,
    gradients_reach_every_tensor,
    is_read_back,
    learns_a_toy_task,
    leaves_the_base_alone,
    resumes_exactly,
)
from peftbench.testing.promises import broken_promises

_CHECKS = (
    begins_as_the_base_if_it_says_so,
    changes_what_the_model_says,
    gradients_reach_every_tensor,
    learns_a_toy_task,
    leaves_the_base_alone,
    is_read_back,
    resumes_exactly,
    answers_alike_in_any_batch,
)


def broken_on_quantized(spec: MethodSpec) -> dict[str, str]:
    """What a method does not keep on quantized bases: kind of base and check to what was found."""
    return {
        f"{kind}, {check}": sentence
        for kind in get_args(Quantization)
        for check, sentence in broken_promises(spec, quantization=kind, checks=_CHECKS).items()
    }
