"""Records as one sheet of scores: methods by datasets, every seed, under both scoring rules.

What is missing stays missing: a mean is over all that it should be over, or there is none. No predictions are
read.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from peftbench.errors import DataError
from peftbench.leaderboard import MethodRuns, runs_by_method
from peftbench.records import EvalRecord, RunResult
from peftbench.report.layout import dataset_order, method_order, method_title
from peftbench.schema import Protocol
from peftbench.selection import listed, names_of, of_one

RULES: tuple[Protocol, Protocol] = ("published", "corrected")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean, or how much of it is missing."""

    value: float | None
    missing: int
    """Runs that it should be over and that are not there."""
    noted: bool = False
    """Whether it is over less than it should be, as was asked for."""
    deviation: float | None = None
    """Standard deviation over seeds, seeds - 1 in the denominator; None for one seed or several datasets."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row."""

    name: str
    title: str
    seeds: int
    """Seeds that are expected of every dataset."""
    trained: bool
    params: int | None
    """Trained parameters, the most where datasets differ; None for the base model."""
    missing: tuple[str, ...] = ()
    """Runs that failed or were not made, as `dataset, seed`."""


@dataclass(frozen=True)
class Sheet:
    """The scores of one model under one protocol."""

    model: str
    protocol: Protocol
    """Of data and prompts; scores are there under both rules."""
    methods: tuple[Method, ...]
    datasets: tuple[str, ...]
    scores: Mapping[tuple[str, str, Protocol], tuple[float, ...]]
    """Method, dataset and scoring rule to the scores of its seeds."""
    allow_missing: bool = False
    """Means over what is there, marked, in place of none."""
    rows: Mapping[str, str] = field(default_factory=dict)
    """Dataset to its test rows, in words, limits included."""
    provenance: tuple[tuple[str, str], ...] = ()
    digest: str = ""
    """What stands for the set of records in one word."""
    runs: tuple[RunResult, ...] = ()

    def score(self, method: Method, dataset: str, rule: Protocol) -> Estimate:
        """Mean over the seeds of one method on one dataset."""
        found = self.scores.get((method.name, dataset, rule), ())
        missing = method.seeds - len(found)
        if missing and not (self.allow_missing and found):
            return Estimate(None, missing)
        deviation = float(np.std(found, ddof=1)) if len(found) > 1 else None
        return Estimate(float(np.mean(found)), missing, bool(missing), deviation)

    def mean(self, method: Method, datasets: Sequence[str], rule: Protocol) -> Estimate:
        """Mean over datasets of the mean over seeds.

        Where runs are missing there is none, or with `allow_missing` one over the datasets that all methods have.
        """
        of_method = [self.score(method, dataset, rule) for dataset in datasets]
        missing = sum(each.missing for each in of_method)
        if not self.allow_missing:
            whole = [each.value for each in of_method if each.value is not None]
            return Estimate(float(np.mean(whole)) if whole and not missing else None, missing)
        shared = self.shared(datasets)
        values = [self.score(method, dataset, rule).value for dataset in shared]
        value = float(np.mean([each for each in values if each is not None])) if shared else None
        noted = len(shared) < len(datasets) or missing > 0
        return Estimate(value, missing, noted and value is not None)

    def averaged(self, datasets: Sequence[str]) -> list[str]:
        """The datasets that a mean over these is over, where there is one."""
        return self.shared(datasets) if self.allow_missing else list(datasets)

    def shared(self, datasets: Sequence[str]) -> list[str]:
        """The datasets of which every method has a run."""
        return [
            dataset
            for dataset in datasets
            if all(self.scores.get((method.name, dataset, rule)) for method in self.methods for rule in RULES)
        ]

    def gaps(self, datasets: Sequence[str]) -> str:
        """What is missing on these datasets and what that means, in words; empty where nothing is."""
        lacking = [
            f"{method.title} lacks {gap}"
            for method in self.methods
            for gap in method.missing
            if gap.partition(",")[0] in datasets
        ]
        if not lacking:
            return ""
        text = f"The set is not complete: {listed(lacking)}."
        if not self.allow_missing:
            return f"{text} What needs these runs is left out, and its column has no marks."
        left = [dataset for dataset in datasets if dataset not in self.shared(datasets)]
        text = f"* {text} Values with an asterisk are over the seeds that are there"
        return f"{text}; means leave out {', '.join(left)} for all methods." if left else f"{text}."


def sheet_of(
    results: Sequence[RunResult], *, model: str | None, protocol: str | None, allow_missing: bool
) -> Sheet:
    """The sheet of finished runs.

    Raises `DataError` or `UnknownName` where they cannot be set side by side: several models or protocols of
    which none is chosen, a run under several settings, evaluations on different rows, no score at all.
    """
    kept = of_one(results, model, protocol)
    groups = sorted(runs_by_method(kept), key=lambda each: method_order(each.method))
    if not any(each.done for each in groups):
        raise DataError("none of the runs has scores; evaluate them, or look at their failures by results")
    names = names_of([each.method for each in groups])
    datasets = sorted({run.config.dataset for run in kept}, key=dataset_order)
    evaluations = [
        run.evaluation for each in groups for runs in each.done.values() for run in runs if run.evaluation
    ]
    _check_rows(evaluations)
    digest = _digest(evaluations)
    return Sheet(
        model=evaluations[0].model.name,
        protocol=kept[0].config.protocol,
        methods=tuple(_method(each, name) for each, name in zip(groups, names, strict=True)),
        datasets=tuple(datasets),
        scores={
            (name, dataset, rule): tuple(
                run.evaluation.scores[rule].primary
                for run in runs
                if run.evaluation is not None and rule in run.evaluation.scores
            )
            for each, name in zip(groups, names, strict=True)
            for dataset, runs in each.done.items()
            for rule in RULES
        },
        allow_missing=allow_missing,
        rows={each: _rows([one for one in evaluations if one.config.dataset == each]) for each in datasets},
        provenance=_provenance(kept, evaluations, digest),
        digest=digest,
        runs=tuple(kept),
    )


def _method(runs: MethodRuns, name: str) -> Method:
    trained = [run.train for run in runs.results if run.train is not None]
    return Method(
        name=name,
        title=method_title(name),
        seeds=runs.seeds,
        trained=bool(trained),
        params=max((each.trainable_params for each in trained), default=None),
        missing=runs.missing,
    )


def _check_rows(evaluations: Sequence[EvalRecord]) -> None:
    """Raise `DataError` where methods or seeds answered different rows of a dataset."""
    seen: dict[str, EvalRecord] = {}
    for each in evaluations:
        other = seen.setdefault(each.config.dataset, each)
        ours, theirs = (one.data.splits.get("test") for one in (each, other))
        if ours is not None and theirs is not None and ours.sha256 != theirs.sha256:
            raise DataError(
                f"{other.config.method} and {each.config.method} were evaluated on different test rows of "
                f"{each.config.dataset}; evaluate them again on the same rows"
            )


def _rows(evaluations: Sequence[EvalRecord]) -> str:
    """Test rows of a dataset with what is special about them."""
    if not evaluations:
        return "none"
    first = evaluations[0]
    said = [f"{first.tokens.rows:,}"]
    if first.data.test_rows_limit is not None:
        said.append("a sample")
    if any(each.data.partial for each in evaluations):
        said.append("partial data")
    return said[0] if len(said) == 1 else f"{said[0]} ({', '.join(said[1:])})"


def _digest(evaluations: Sequence[EvalRecord]) -> str:
    ids = sorted(f"{each.train_id}/{each.eval_id}" for each in evaluations)
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def _provenance(
    kept: Sequence[RunResult], evaluations: Sequence[EvalRecord], digest: str
) -> tuple[tuple[str, str], ...]:
    model = evaluations[0].model
    seeds = sorted({run.config.seed for run in kept if run.train is not None})
    versions = sorted({_version(each) for each in evaluations})
    devices = sorted({each.provenance.device for each in evaluations})
    limits = sorted({run.train.data.train_rows_limit for run in kept if run.train} - {None}, key=str)
    found = [
        ("Records", f"{len(evaluations)} evaluations, set {digest} (SHA-256 of their ids, first 16 digits)"),
        ("Model", f"{model.name}, {model.precision}, fingerprint {model.fingerprint}"),
        ("Protocol", f"{kept[0].config.protocol}, for data, prompts and decoding"),
        ("Seeds", ", ".join(map(str, seeds)) or "none"),
        ("peftbench", ", ".join(versions)),
        ("Devices", ", ".join(devices)),
    ]
    if limits:
        found.append(("Training rows", f"at most {', '.join(f'{each:,}' for each in limits if each)}"))
    return tuple(found)


def _version(record: EvalRecord) -> str:
    commit = record.provenance.commit
    return record.provenance.peftbench + (f" at {commit[:12]}{'+dirty' * ('+dirty' in commit)}" if commit else "")
