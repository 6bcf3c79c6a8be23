"""One run with its rows, its ids and its folder, before any model is loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from peftbench.datasets import PreparedDataset, get_dataset
from peftbench.datasets.kept import KeptDatasets, kept_for
from peftbench.datasets.prompts import with_prompts
from peftbench.engine.base import Base, load_base
from peftbench.engine.loading import Where, check_name, choose_device, fingerprint, model_label, threads
from peftbench.engine.processes import check_processes
from peftbench.errors import DataError
from peftbench.identity import train_id
from peftbench.methods.plugins import spec_of, text_of
from peftbench.methods.specs import check_base
from peftbench.observer import Observer
from peftbench.records import RunConfig
from peftbench.schema import Frozen, MethodSpec
from peftbench.store import RunFolder

Rows = Mapping[Literal["train", "test"], Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Plan:
    """One run with its rows and ids; no model is loaded yet."""

    config: RunConfig
    method: MethodSpec
    settings: Frozen
    data: PreparedDataset
    train_id: str
    folder: RunFolder
    observer: Observer
    number: int
    """Its place among the runs that were asked for."""


def make_plan(
    config: RunConfig,
    rows: Rows | None,
    observer: Observer,
    *,
    test: bool = True,
    folder: RunFolder | None = None,
    number: int = 0,
    kept: KeptDatasets | None = None,
) -> Plan:
    """Read the rows of a run, work out its id and open its folder.

    `folder` is that of a run that is there already; without it, it is made. `kept` are datasets
    that several plans share. Raises `ConfigError` or `DataError` for what the user can mend, and `DataError` if
    the folder holds another run.
    """
    # The precision is part of what a run is, the device is not: a run of a GPU can be evaluated on a CPU.
    where = _where(config)
    engine, processes = config.engine, check_processes(config.engine.processes, where.device)
    if processes > 1:  # those of torchrun, too, belong into the record
        engine = engine.model_copy(update={"processes": processes})
    config = config.model_copy(update={"dtype": where.dtype, "engine": engine})
    check_name(config.model, config.model_revision)  # before rows are read, which takes longer
    method = spec_of(config.method)
    check_base(method, config.quantization)
    wanted: list[Literal["train", "validation", "test"]] = ["train", "validation"] if method.build else []
    if test:
        wanted.append("test")
    observer.phase("reading rows")
    data = (kept or kept_for(rows)).load(
        with_prompts(get_dataset(config.dataset), config.data.prompts, config.protocol),
        protocol=config.protocol,
        data_dir=_directory(config),
        rows=rows,
        allow_partial=config.data.allow_partial,
        train_rows=config.data.train_rows,
        test_rows=config.evaluation.test_rows,
        split_seed=config.data.split_seed,
        splits=wanted,
    )
    found = train_id(
        config,
        dataset=data.spec,
        method=method,
        model_fingerprint=fingerprint(config.model, config.model_revision),
        dtype=config.dtype,
        data=data.facts,
    )
    if folder is None:
        folder = RunFolder.of(config, model_label(config.model), found)
        folder.open(found, config)
        if (text := text_of(method)) is not None:
            folder.keep_method(text)
    elif folder.train_id() != found:
        raise DataError(
            f"run {folder.path} was made with other rows, another model or other settings than are here now "
            f"({folder.train_id()}, not {found}); give it what it was made with"
        )
    return Plan(config, method, config.method.settings_for(method), data, found, folder, observer, number)


def _directory(config: RunConfig) -> Path | None:
    return Path(config.data.directory) if config.data.directory else None


def _where(config: RunConfig) -> Where:
    return choose_device(config.device, config.dtype, config.quantization)


def load_base_of(config: RunConfig, observer: Observer) -> Base:
    """The base model of a run, with its number of threads set."""
    threads(config.threads)
    observer.phase("loading the model")
    where = _where(config)
    processes = check_processes(config.engine.processes, where.device)
    base = load_base(config.model, config.model_revision, where, processes)
    if base.model.because is not None:
        why = f"model {base.facts.name} cannot be packed ({base.model.because})"
        observer.note(0, f"{why}; its samples are padded, which is slower")
    if not base.chat.has_template:
        observer.note(0, f"model {base.facts.name} has no chat template; a plain one is used (see DECISIONS.md)")
    return base
