"""A method on tiny models whose projections are kept in 4 or 8 bits: what it says of them, tried."""

from typing import get_args

from peftbench.errors import first_line
from peftbench.schema import MethodSpec, Quantization
from peftbench.testing.contract import (
    BrokenPromise,
    answers_alike_in_any_batch,
    begins_as_the_base_if_it_says_so,
    changes_what_the_model_says,
    gradients_reach_every_tensor,
    is_read_back,
    learns_a_toy_task,
    leaves_the_base_alone,
    resumes_exactly,
)
from peftbench.testing.trial import Trial, tiny_settings

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
    found: dict[str, str] = {}
    for kind in get_args(Quantization):
        trial = Trial(spec, tiny_settings(spec), kind)
        for check in _CHECKS:
            try:
                check(trial)
            except BrokenPromise as broken:
                found[f"{kind}, {check.__name__}"] = str(broken)
            except Exception as error:  # a method may fail in any way
                found[f"{kind}, {check.__name__}"] = f"{type(error).__name__}: {first_line(error)}"
    return found
