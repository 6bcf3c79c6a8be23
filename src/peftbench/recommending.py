"""Which method to take on a model and device: costs there, what records say of scores, and the answer."""

from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import cast, get_args

from peftbench.answering import answer_of
from peftbench.datasets.catalog import dataset_given
from peftbench.efficiency.cost import Range
from peftbench.efficiency.devices import CONTEXT_BYTES, Device, device_names, find_device
from peftbench.engine.loading import located
from peftbench.errors import ConfigError, UnknownName
from peftbench.forecast import CellForecast, Forecast, forecast
from peftbench.grid import Cell
from peftbench.leaderboard import Gathered, gather
from peftbench.observer import Observer
from peftbench.outlook import Outlook, Recommendation, Verdict, Within, decide
from peftbench.planning import device_at_hand
from peftbench.schema import Protocol
from peftbench.selection import check_rows
from peftbench.stats import REPLICATES, interval_of, paired_means
from peftbench.store import stored_results
from peftbench.workload import Asked, Workload, workload


def recommend(
    model: str,
    device: str | None = None,
    *,
    revision: str | None = None,
    hours: float | None = None,
    records: Path | None = None,
    datasets: Sequence[str] = (),
    more_methods: Sequence[str] = (),
    settings: Sequence[str] = (),
    protocol: str = "corrected",
    data_dir: Path | None = None,
    online: bool = False,
    replicates: int = REPLICATES,
    observer: Observer | None = None,
) -> Recommendation:
    """Costs, scores and the answer for the methods of the paper, those of the records and `more_methods`.

    `model` is a folder, a hub id or a name of shipped dimensions, `device` a name of the table or None for the
    device at hand, `hours` the most that one run on each dataset may take together. Without `datasets` they are
    those of the model's records below `records`, and without records those of the grid `subset`. `settings` change
    the runs, as in `training.epochs=3`. Raises `ConfigError`, `DataError` or `UnknownName` for what cannot be:
    hours of 0 or below, a model whose dimensions are not known, records of a run under several settings or on
    different rows.
    """
    if hours is not None and not (isfinite(hours) and hours > 0):
        raise ConfigError(f"--hours is {hours}, expected a number above 0, such as 12")
    if protocol not in get_args(Protocol):
        raise UnknownName("protocol", protocol, get_args(Protocol))
    rules = cast(Protocol, protocol)
    given, datasets = datasets, [dataset_given(each).name for each in datasets]
    _check_name(model)
    where = find_device(device) if device is not None else device_at_hand()
    if where is None:
        raise ConfigError(
            f"the device here is not in the table; pass --device, one of {', '.join(device_names())}"
        )
    unread: list[str] = []
    results = stored_results(records, unread) if records is not None else []
    work = workload(
        Asked(model, revision, rules, tuple(datasets), tuple(settings), data_dir, tuple(more_methods)), results
    )
    # What is wrong with the records is said before the costs, which take longer.
    groups = _groups(work, rules)
    observer = observer or Observer()
    observer.phase("predicting costs")  # a minute for a large model
    costs = forecast("recommend", work.cells, where, online=online)
    names = _short(list(dict.fromkeys(cell.method for cell in costs.cells)))
    found = [_outlook(costs, choice, name, groups.get(choice), work, hours) for choice, name in names.items()]
    blamed = [each.why[-1:] for each in found if each.method != "base" and each.fits is not False]
    if len(blamed) == len(found) - 1 and all(blamed):
        # Not for want of memory: a mistake in the model, the rows or the settings.
        raise ConfigError(dict.fromkeys(why for whys in blamed for why in whys))
    found, verdict = _compared(found, groups, work.datasets, replicates, observer)
    trained = [each for each in found if each.method != "base"]
    base = next((each for each in found if each.method == "base"), None)
    said = dict.fromkeys(note for cell in costs.cells for note in cell.notes)
    return Recommendation(
        title=f"{model} on {where.title}; one run, with one seed, on each of {', '.join(work.datasets)}",
        model=model,
        device=where.name,
        protocol=rules,
        datasets=work.datasets,
        hours=hours,
        basis=costs.basis,
        methods=tuple(trained),
        base=base,
        verdict=verdict,
        notes=(*work.notes, *said, *(f"Not read: {problem}" for problem in unread)),
        answer=answer_of(
            trained,
            verdict,
            model=model,
            device=where.name,
            hours=hours,
            remedy=_remedy(work.cells, costs, where) if all(each.why for each in trained) else None,
            base=base,
            making=_making(model, revision, given),
        ),
    )


def _making(model: str, revision: str | None, datasets: Sequence[str]) -> str:
    """What a grid of records has to be told: a model that can be run, and the datasets that were asked for."""
    entry = model
    if not Path(located(model)).exists():
        commit = revision or "<commit>"
        entry = f"{{model: {model}, model_revision: {commit}}}" if model.count("/") == 1 else "path/to/model"
    own = f" --set 'datasets=[{', '.join(datasets)}]'" if datasets else ""
    return f" --set 'models=[{entry}]'{own}"


def _check_name(model: str) -> None:
    try:
        if model.strip():
            Path(model).exists()
            return
    except (OSError, ValueError):  # no name that a folder could have
        pass
    raise ConfigError(f"the model is {model[:80]!r}, expected a folder, a hub id or a name such as llama-3-8b")


def _groups(work: Workload, protocol: Protocol) -> dict[str, Gathered]:
    """What the records have of each method; those that have every dataset must have the same rows of it."""
    if not work.records:
        return {}
    groups = {each.method: each for each in gather(work.records, protocol=protocol)}
    complete = _complete(groups, work.datasets)
    check_rows({name: each for name, each in complete.items() if name != "base"}, work.datasets)
    return groups


def _complete(groups: Mapping[str, Gathered], datasets: Sequence[str]) -> dict[str, Gathered]:
    return {name: each for name, each in groups.items() if not each.missing and set(datasets) <= set(each.cells)}


def _short(choices: Sequence[str]) -> dict[str, str]:
    """Methods with their settings to their names alone, where these tell them apart."""
    names = [each.partition("(")[0] for each in choices]
    return {each: name if names.count(name) == 1 else each for each, name in zip(choices, names, strict=True)}


def _outlook(
    costs: Forecast, choice: str, name: str, group: Gathered | None, work: Workload, hours: float | None
) -> Outlook:
    """The costs of one method over the datasets, and the scores that are there; not yet compared."""
    cells = [cell for cell in costs.cells if cell.method == choice]
    first, fits = cells[0], {cell.fits for cell in cells}
    peaks = [cell.peak_memory_bytes for cell in cells if cell.peak_memory_bytes is not None]
    seconds = Forecast.total_of(cells, "seconds")
    recorded = {each.config.dataset for each in work.records} if group else set()
    return Outlook(
        method=name,
        choice=choice,
        trainable_params=first.trainable_params,
        extra_forward_flops=first.extra_forward_flops,
        peak_memory_bytes=max(peaks, default=None),
        fits=False if False in fits else None if None in fits else True,
        several_passes=any(cell.several_passes for cell in cells),
        why=tuple(dict.fromkeys(why for cell in cells for why in cell.why)),
        seconds=seconds,
        joules=Forecast.total_of(cells, "joules"),
        within_hours=_within(seconds, hours),
        performance=None,
        scores={each: cell.estimate() for each, cell in group.cells.items()} if group else {},
        seeds=group.seeds if group else 0,
        missing=(*(group.missing if group else ()), *(each for each in work.datasets if each not in recorded)),
    )


def _within(seconds: Range | None, hours: float | None) -> Within | None:
    if seconds is None or hours is None:
        return None
    return "yes" if seconds.high <= 3600 * hours else "perhaps" if seconds.low <= 3600 * hours else "no"


def _compared(
    found: Sequence[Outlook],
    groups: Mapping[str, Gathered],
    datasets: Sequence[str],
    replicates: int,
    observer: Observer,
) -> tuple[list[Outlook], Verdict | None]:
    """The same with mean scores where records are complete, and which of those that can be run is best."""
    complete = _complete(groups, datasets)
    trained = [name for name in complete if name != "base"]
    if "base" in complete and any(
        complete["base"].cells[each].ids != complete[name].cells[each].ids
        for name in trained[:1]
        for each in datasets
    ):
        del complete["base"]  # shown for reference alone, so that other rows are no reason to refuse the rest
    if not trained:
        return list(found), None
    observer.phase("resampling seeds and test rows", total=replicates)
    every = paired_means(
        [each.cells for each in complete.values()], replicates=replicates, advance=observer.advance
    )
    draws = {} if every is None else {name: every[:, number] for number, name in enumerate(complete)}
    able = [each for each in found if each.possible and each.choice in trained]
    compared = {each.method: draws[each.choice] for each in able} if draws else {}
    verdict = decide(compared, draws.get("base")) if compared else None
    scored = []
    for each in found:
        if each.choice in complete:
            mean = sum(each.scores[dataset] for dataset in datasets) / len(datasets)
            share = verdict.shares.get(each.method) if verdict else None
            each = each.model_copy(
                update={"performance": interval_of(mean, draws.get(each.choice)), "best_share": share}
            )
        scored.append(each)
    return scored, verdict


def _remedy(cells: Sequence[Cell], costs: Forecast, where: Device) -> str:
    """The smallest change with which a method fits, where none does: layers computed again, another device."""
    sized = [each for each in costs.cells if each.seed is not None and each.peak_memory_bytes]
    longest = {each.method: each for each in sorted(sized, key=_peak)}
    least = min(longest.values(), key=_peak)
    [asked] = [cell for cell in cells if cell.id == least.id]
    plain, again = (_alone(asked, where, checkpointing=each) for each in (False, True))
    if again.fits:
        return (
            f"--set engine.gradient_checkpointing=true would let {least.method} fit, layers being computed twice"
        )
    table = [find_device(name, calibrated=False) for name in device_names()]
    for cell, how in ((plain, ""), (again, " and --set engine.gradient_checkpointing=true")):
        rooms = [(each.memory_bytes, each.name) for each in table if each.memory_bytes is not None]
        enough = [each for each in rooms if _peak(cell) + CONTEXT_BYTES <= each[0]]
        if enough:
            return f"the smallest device of the table on which {least.method} fits is {min(enough)[1]}{how}"
    size = f"{_peak(again) / 1e9:.1f} GB"
    return f"{least.method} takes {size}, more than any device of the table has; take a smaller model"


def _alone(cell: Cell, where: Device, *, checkpointing: bool) -> CellForecast:
    """A run with one sample in a pass."""
    engine = cell.config.engine
    changed = {"micro_batch_size": 1, "gradient_checkpointing": checkpointing or engine.gradient_checkpointing}
    config = cell.config.model_copy(update={"engine": engine.model_copy(update=changed)})
    return forecast("", [Cell(cell.id, config)], where).cells[0]


def _peak(cell: CellForecast) -> int:
    return cell.peak_memory_bytes or 0
