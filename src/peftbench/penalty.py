"""PSCP, the paper's score with soft penalties for costs (section 3.3, equation 3). Pure arithmetic.

A cost that is minimised multiplies the performance by (1 + m / C) ** -b, one that is maximised by
(1 + C / m) ** -b, where C is a reference and b an importance. One gigabyte is 1e9 bytes.
"""

import math
from collections.abc import Iterable, Mapping
from statistics import geometric_mean, median
from typing import Annotated, Literal, Self

from pydantic import Field

from peftbench.errors import ConfigError
from peftbench.schema import Frozen

Reference = Annotated[float, Field(gt=0)]
Importance = Annotated[float, Field(ge=0)]

TERA, GIGA = 1e12, 1e9


class Factor(Frozen):
    """One cost: its reference C, its importance b, and which way is better."""

    reference: Reference
    importance: Importance = 1.0
    maximise: bool = False

    def penalty(self, measured: float) -> float:
        """The factor in (0, 1] for a measured cost of at least 0; 0 for a maximised cost of 0."""
        if self.importance == 0:
            return 1.0
        if self.maximise and measured == 0:
            return 0.0
        ratio = self.reference / measured if self.maximise else measured / self.reference
        return math.pow(1 + ratio, -self.importance)


class CostModel(Frozen):
    """References and importances; the defaults are those of section 4 of the paper."""

    params: Factor = Factor(reference=5e8)
    """Trainable parameters; some of the smallest language models have half a billion."""
    flops: Factor = Factor(reference=10 * TERA)
    """Additional floating-point operations of one forward pass over the base model."""
    memory: Factor = Factor(reference=94 * GIGA)
    """Peak training memory in bytes; the memory of an H100 NVL."""
    extra: dict[str, Factor] = {}
    """Further costs by name, given to `pscp` as keyword arguments."""

    @classmethod
    def from_costs(
        cls,
        costs: Iterable[Mapping[str, float]],
        *,
        reference: Literal["median", "geometric mean"] = "median",
        maximise: Iterable[str] = (),
    ) -> Self:
        """References from a table of costs: one row a method with `params`, `flops`, `memory` and what else.

        Negative extra FLOPs count as 0, and the geometric mean, which 0 would make 0, is taken over costs above
        0. Raises `ConfigError` where a column has nothing to take a reference from.
        """
        rows = list(costs)
        if reference not in ("median", "geometric mean"):
            raise ConfigError(f"reference is {reference!r}, expected 'median' or 'geometric mean'")
        if not rows:
            raise ConfigError("the table of costs is empty; give one row for each method")
        factors = {}
        for name in dict.fromkeys(name for row in rows for name in row):
            values = [max(0.0, _checked(name, row.get(name), negative=name == "flops")) for row in rows]
            positive = [value for value in values if value > 0]
            found = geometric_mean(positive) if positive and reference == "geometric mean" else median(values)
            if found <= 0:
                raise ConfigError(
                    f"the {reference} of cost {name!r} is 0, expected more; set that reference yourself"
                )
            factors[name] = Factor(reference=found, maximise=name in set(maximise))
        own = {name: factors.pop(name) for name in ("params", "flops", "memory") if name in factors}
        return cls(**own, extra=factors)


PAPER_COSTS = CostModel()
"""The cost model of the paper."""


class Penalised(Frozen):
    """A PSCP score with the penalties that made it."""

    score: float
    performance: float
    params_penalty: float
    flops_penalty: float
    memory_penalty: float
    extra_penalties: dict[str, float] = {}
    extra_flops: float
    """The difference to the base model as it was given; below 0 it counts as 0."""


def pscp(
    performance: float,
    trainable_params: float,
    extra_flops: float,
    memory_bytes: float,
    costs: CostModel = PAPER_COSTS,
    **extra: float,
) -> Penalised:
    """PSCP of a performance on 0 to 100 under the costs of a method (equation 3 of the paper).

    `extra_flops` is the difference to the base model for one forward pass, `memory_bytes` the peak of training;
    `extra` has a value for each extra factor of `costs`. Raises `ConfigError` for values that cannot be costs.
    """
    if extra.keys() != costs.extra.keys():
        raise ConfigError(f"extra costs are {sorted(extra)}, expected {sorted(costs.extra)}, as in the cost model")
    _checked("performance", performance)
    params = costs.params.penalty(_checked("trainable_params", trainable_params))
    flops = costs.flops.penalty(max(0.0, _checked("extra_flops", extra_flops, negative=True)))
    memory = costs.memory.penalty(_checked("memory_bytes", memory_bytes))
    others = {name: factor.penalty(_checked(name, extra[name])) for name, factor in costs.extra.items()}
    return Penalised(
        score=performance * params * flops * memory * math.prod(others.values()),
        performance=performance,
        params_penalty=params,
        flops_penalty=flops,
        memory_penalty=memory,
        extra_penalties=others,
        extra_flops=extra_flops,
    )


def _checked(name: str, value: float | None, *, negative: bool = False) -> float:
    allowed = isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300
    if value is None or not allowed or (value < 0 and not negative):
        expected = "a finite number" if negative else "a finite number of at least 0"
        raise ConfigError(f"{name} is {value!r}, expected {expected}")
    return float(value)
