"""What `peftbench pscp` says: performance against cost, from records or from a table, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from peftbench.candidates import TOKENS, from_records
from peftbench.costtable import MOST, SHIPPED, CostTable, imported_costs, read_costs, shipped_costs
from peftbench.efficiency.devices import Device, find_device
from peftbench.errors import ConfigError, DataError, UnknownName
from peftbench.observer import Observer
from peftbench.penalty import GIGA, TERA, CostModel, Penalised, pscp
from peftbench.sensitivity import COSTS as NAMES
from peftbench.sensitivity import (
    BreakEven,
    Candidate,
    SensitivityMap,
    break_even,
    exponent_axes,
    exponent_map,
    reference_axes,
    reference_map,
    win_shares,
)
from peftbench.stats import REPLICATES, Interval, interval_of
from peftbench.store import stored_results

UNITS = {"params": ("params", 1.0), "flops": ("tflops", TERA), "memory": ("memory_gb", GIGA)}
"""How a cost is called on the command line and in tables, and how much of ours one of it is."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """One method with its PSCP."""

    candidate: Candidate
    performance: Interval
    """Mean over datasets of the mean over seeds, 0 to 100."""
    penalised: Penalised
    score: Interval
    """PSCP; costs are taken as they are, so that its interval is that of the performance."""
    wins: float | None
    """Share of replicates, 0 to 1, in which no other method scores as high; None without replicates."""
    missing: tuple[str, ...] = ()
    """Runs that are not there."""


@dataclass(frozen=True, slots=True)
class Tradeoff:
    """Methods by falling PSCP, and what has to be known to read their scores."""

    title: str
    costs: CostModel
    methods: tuple[Weighed, ...]
    base: float | None
    """Performance of the base model, which has no PSCP because it is not trained."""
    notes: tuple[str, ...] = ()

    @property
    def candidates(self) -> list[Candidate]:
        """What is compared."""
        return [each.candidate for each in self.methods]

    def maps(self, *, slices: bool = False) -> tuple[SensitivityMap, SensitivityMap]:
        """Who wins over the importances, and over the references; with `slices` on the grid of a figure."""
        return (
            exponent_map(self.candidates, self.costs, exponent_axes(slices=slices)),
            reference_map(self.candidates, self.costs, reference_axes(slices=slices)),
        )

    def break_evens(self) -> list[BreakEven]:
        """Where any two methods change places; those that score nothing are left out."""
        able = [each for each in self.candidates if each.performance > 0]
        return [break_even(first, second, self.costs) for first, second in combinations(able, 2)]


def weigh(
    source: str,
    *,
    exponents: str | None = None,
    references: str = "paper",
    memory: str = "measured",
    device: str | None = None,
    model: str | None = None,
    protocol: str | None = None,
    allow_missing: bool = False,
    imported: str | None = None,
    replicates: int = REPLICATES,
    observer: Observer | None = None,
) -> Tradeoff:
    """PSCP of what `source` holds: a folder of runs, a table of costs, or the name of a shipped table.

    `imported` names an import of that folder, which is taken in place of its runs.

    `exponents` and `references` are read by `cost_model`. From records, `memory` is `measured` (the mean of the
    runs' maxima, one kind of device) or `predicted` for `device`. Raises `ConfigError`, `DataError` or
    `UnknownName` for what cannot be compared: runs that are missing unless `allow_missing`, several models or
    protocols of which none is chosen, evaluations on different rows, memory of several devices.
    """
    named = _named_device(memory, device)
    if imported is not None:
        if named or protocol or allow_missing:
            raise ConfigError("--memory, --device, --protocol and --allow-missing are for runs, not for an import")
        return _of_import(Path(source), imported, exponents, references, model)
    kind = _kind(source)
    if kind == "table":
        if named or model or protocol or allow_missing:
            raise ConfigError(
                f"{source!r} is a table with its own figures; --memory, --device, --model, --protocol and "
                "--allow-missing are for a folder of runs"
            )
        table: CostTable = shipped_costs(source) if source in SHIPPED else read_costs(Path(source))
        costs = cost_model(exponents, references, table.candidates)
        erring = table.candidates[0].draws is not None
        said = "Intervals are of normal draws by the table's standard errors, each method on its own."
        return _weighed(
            table.title, table.candidates, costs, table.base_performance, notes=(said,) if erring else ()
        )
    if kind is None:
        raise DataError(
            f"{source!r} is no folder of runs and no table of costs; tables that are shipped are "
            f"{', '.join(SHIPPED)}"
        )
    # What is wrong with the options is said before the work: a method that costs 1 stands in for those to come.
    cost_model(exponents, references, [Candidate("", 0, 1, 1, 1)])
    found = from_records(
        stored_results(Path(source)),
        model=model,
        protocol=protocol,
        device=named,
        allow_missing=allow_missing,
        replicates=replicates,
        observer=observer or Observer(),
    )
    costs = cost_model(exponents, references, found.candidates)
    said = (
        f"FLOPs are predicted for {TOKENS} tokens. Intervals resample seeds and test rows, the same rows for all "
        f"methods; costs are taken as they are. {found.caution}"
    )
    notes = (said,) if found.note is None else (said, found.note)
    return _weighed(found.title, found.candidates, costs, found.base_performance, found.missing, notes)


def _of_import(folder: Path, name: str, exponents: str | None, references: str, model: str | None) -> Tradeoff:
    """PSCP of an import, without FLOPs, of which it says nothing."""
    table = imported_costs(folder, name, model)
    costs = cost_model(exponents, references, table.candidates)
    if costs.flops.importance != 0:
        raise ConfigError("imported results say nothing of FLOPs; leave them out by --exponents flops=0")
    note = "Imported results, which were not measured here; FLOPs are not known and left out."
    return _weighed(table.title, table.candidates, costs, None, notes=(note,))


def _kind(source: str) -> Literal["table", "folder"] | None:
    """What a source is; a shipped name goes before a folder or file of that name, which `./` in front reaches."""
    try:
        if source in SHIPPED or Path(source).is_file():
            return "table"
        return "folder" if source and Path(source).is_dir() else None
    except (OSError, ValueError):  # no name that a file could have
        return None


def _named_device(memory: str, device: str | None) -> Device | None:
    """The device that memory is predicted for; None where it was measured."""
    if memory not in ("measured", "predicted"):
        raise UnknownName("kind of memory", memory, ("measured", "predicted"))
    if memory == "measured":
        if device is not None:
            raise ConfigError("--device names what memory is predicted for; pass --memory predicted with it")
        return None
    if device is None:
        raise ConfigError("--memory predicted needs a device; pass one, such as --device h100")
    return find_device(device, calibrated=False)


def cost_model(exponents: str | None, references: str, candidates: Sequence[Candidate]) -> CostModel:
    """The cost model that two options of the command line describe.

    `exponents` is `1,1,1` (params, flops, memory) or names some, as in `memory=2`. `references` begins with
    `paper`, `median` or `geometric-mean` (of the methods at hand), or with nothing; then `5e8,10,94` (parameters,
    TFLOP, GB), or some by name, as in `median,tflops=0.5`. Raises `ConfigError` for anything else.
    """
    basis, _, rest = references.partition(",")
    if basis not in ("paper", "median", "geometric-mean"):
        basis, rest = "paper", references
    units = {name: unit for name, (unit, _) in UNITS.items()}
    own = _three("--references", rest, units, "above 0") if rest or not references else {}
    costs = CostModel()
    if basis != "paper":
        rows = [{name: getattr(each, name) for name in NAMES if name not in own} for each in candidates]
        try:
            costs = CostModel.from_costs(rows, reference="median" if basis == "median" else "geometric mean")
        except ConfigError as error:
            raise ConfigError(f"{error}, as in --references {basis},tflops=0.1") from error
    plain = {name: name for name in NAMES}
    importances = {} if exponents is None else _three("--exponents", exponents, plain, "of at least 0")
    changed = {}
    for name in NAMES:
        factor = getattr(costs, name)
        reference = own[name] * UNITS[name][1] if name in own else factor.reference
        update = {"reference": reference, "importance": importances.get(name, factor.importance)}
        changed[name] = factor.model_copy(update=update)
    return costs.model_copy(update=changed)


def _three(option: str, text: str, called: Mapping[str, str], expected: str) -> dict[str, float]:
    """Values of costs: three in order, or some by the names that they are called by."""
    parts = [part.strip() for part in text.split(",")]
    order = ",".join(called.values())
    if not any("=" in part for part in parts):
        if len(parts) != len(called):
            raise ConfigError(f"{option} is {text!r}, expected three numbers, {order}, or some by name")
        parts = [f"{name}={part}" for name, part in zip(called.values(), parts, strict=True)]
    own = {name: ours for ours, name in called.items()}
    found: dict[str, float] = {}
    for part in parts:
        name, _, given = part.partition("=")
        if name.strip() not in own:
            raise UnknownName("cost", name.strip(), own, f"{option}: ")
        try:
            value = float(given)
        except ValueError:
            value = float("nan")
        if not (value > 0 or (value == 0 and expected != "above 0")) or value > MOST:
            expected += f", {MOST:g} at most" if value > MOST else ""
            raise ConfigError(f"{option}: {name.strip()} is {given.strip()!r}, expected a number {expected}")
        found[own[name.strip()]] = value
    return found


def _weighed(
    title: str,
    candidates: Sequence[Candidate],
    costs: CostModel,
    base: float | None,
    missing: Mapping[str, tuple[str, ...]] | None = None,
    notes: tuple[str, ...] = (),
) -> Tradeoff:
    scored = [pscp(each.performance, each.params, each.flops, each.memory, costs) for each in candidates]
    wins = win_shares(candidates, costs) if len(candidates) > 1 else None
    methods = [
        Weighed(
            candidate=each,
            performance=interval_of(each.performance, each.draws),
            penalised=score,
            score=interval_of(score.score, None if each.draws is None else each.draws * each.weight(costs)),
            wins=None if wins is None else wins[number],
            missing=(missing or {}).get(each.method, ()),
        )
        for number, (each, score) in enumerate(zip(candidates, scored, strict=True))
    ]
    methods.sort(key=lambda each: -each.score.estimate)
    return Tradeoff(title, costs, tuple(methods), base, notes)
