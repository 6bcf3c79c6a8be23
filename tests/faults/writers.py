"""Sixteen processes that write at once, without a lock: one and the same run, and different runs below one folder."""

import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet
import safetensors.torch
import torch
from safetensors.torch import load_file

import peftbench
from peftbench.errors import DataError
from peftbench.finished import complete, read_record, write_record
from peftbench.index import read_index
from peftbench.predictions import Prediction, read_predictions, write_predictions
from peftbench.records import EvalRecord, RunConfig, RunResult, TrainRecord
from peftbench.store import RunFolder, stored_results
from tests.faults.world import DONE, Line, World, digest, leftovers, timed
from tests.synthetic import config_of, evaluation_of, training_of

WRITERS = 16
RECORDS = 20
"""Runs of a round, which all writers go through in the same order."""


def run(world: World, quick: bool, seed: int) -> list[Line]:
    """Real runs first, then records alone, which are many more."""
    chance = random.Random(seed)
    return [
        _one_run(world, 1 if quick else 6, seed),
        _one_record(world, 2 if quick else 20, seed, chance),
        _many_runs(world, 5 if quick else 60, seed),
    ]


def _together(world: World, task: Callable[[int], None], kill: random.Random | None = None) -> list[int]:
    """Let sixteen processes do a task at the same moment; how they ended. With `kill` half of them are killed."""
    begin = time.time() + 0.15

    def waiting(number: int) -> None:
        while time.time() < begin:
            pass
        task(number)

    children = [world.start(waiting, number) for number in range(WRITERS)]
    if kill is not None:
        time.sleep(max(0.0, begin - time.time()))
        for child in kill.sample(children, WRITERS // 2):
            time.sleep(kill.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
    return [world.end(child) for child in children]


# ------------------------------------------------------------------------------------------------------ one run


def _one_run(world: World, rounds: int, seed: int) -> Line:
    """Train and evaluate one run sixteen times at once, as on machines that see no lock of one another.

    Each writes other bytes into adapter and predictions, so that a mixture of two would be seen.
    """
    line = Line("16 trainings of one run at once, no lock", seed)
    told = Counter[str]()
    with timed(line):
        for number in range(rounds):
            output = world.folder / f"crowd-{number}"
            config = world.config(output.name, "ia3", seed=number)
            statuses = _together(world, lambda writer, config=config: _as_another_machine(world, config, writer))
            line.count += WRITERS
            line.lost += sum(status != DONE for status in statuses)
            [file] = output.rglob("train.json")
            said = [json.loads(each.read_text()) for each in world.folder.glob("said-*")]
            line.duplicated += sum(each != said[0] for each in said) + len(leftovers(output))
            [result] = stored_results(output)
            evaluation = file.parent / f"eval-{result.evaluation.eval_id}" / "result.json"
            whole = complete(file, result.train) and complete(evaluation, result.evaluation)
            line.wrong += not whole or said[0] != [digest(file), digest(evaluation)]
            told[f"{len({*map(str, said)})} answers"] += 1
            for each in world.folder.glob("said-*"):
                each.unlink()
            shutil.rmtree(output)
    line.remarks.append(str(dict(told)))
    return line


def _as_another_machine(world: World, config: dict[str, Any], writer: int) -> None:
    """Run with a way of writing of one's own, and keep what the records were when the run was done."""
    tensors, table = safetensors.torch.save_file, pyarrow.parquet.write_table

    def marked(values: Any, file: Path, **options: Any) -> None:
        tensors(values, file, metadata={"format": "pt", "writer": str(writer)})

    def squeezed(values: Any, file: Path, **options: Any) -> None:
        table(values, file, compression="zstd", compression_level=writer + 1, data_page_size=100 + writer)

    with (
        mock.patch.object(RunFolder, "training_alone", return_value=nullcontext()),
        mock.patch.object(safetensors.torch, "save_file", marked),
        mock.patch.object(pyarrow.parquet, "write_table", squeezed),
    ):
        result = peftbench.run(config, rows=world.rows)
    folder = Path(result.folder)
    files = [folder / "train.json", folder / f"eval-{result.evaluation.eval_id}" / "result.json"]
    (world.folder / f"said-{writer}").write_text(json.dumps([digest(file) for file in files]))


# ---------------------------------------------------------------------------------------------------- one record


def _one_record(world: World, rounds: int, seed: int, chance: random.Random) -> Line:
    """Finish the same trainings and evaluations in sixteen processes; in every other round half of them are killed."""
    line = Line("16 writers of the same records, in every other round 8 of them killed", seed)
    with timed(line):
        for number in range(rounds):
            output = world.folder / f"records-{number}"
            configs = [config_of(output, seed=each) for each in range(RECORDS)]
            folders = [RunFolder.of(config, "small", "a" * 12) for config in configs]

            def task(writer: int, folders: Any = folders, configs: Any = configs) -> None:
                for folder, config in zip(folders, configs, strict=True):
                    _finish(folder, config, writer)

            statuses = _together(world, task, chance if number % 2 else None)
            line.count += WRITERS * RECORDS
            line.lost += sum(status not in (DONE, -signal.SIGKILL) for status in statuses)
            line.wrong += world.process(task, WRITERS) != DONE
            results = stored_results(output)
            line.lost += RECORDS - len(results)
            for result in results:
                _check_record(line, Path(result.folder), result)
            line.duplicated += len(leftovers(output))
            shutil.rmtree(output)
    return line


def _check_record(line: Line, folder: Path, result: RunResult) -> None:
    """All writers must have been told of the records that stand, and what stands beside them be by the same writer."""
    assert result.train is not None
    assert result.evaluation is not None
    said = {each.read_text() for each in folder.glob("said-*")} - {""}
    line.duplicated += said != {f"{result.train.seconds} {result.evaluation.seconds}"}
    line.lost += not complete(folder / "train.json", result.train)
    file = folder / f"eval-{result.evaluation.eval_id}" / "predictions.parquet"
    [row] = read_predictions(file, result.evaluation.predictions_sha256)
    line.wrong += row.text != f"by {result.evaluation.seconds:.0f}"
    by = load_file(folder / "adapter" / "adapter_model.safetensors")["by"]
    line.wrong += not bool((by == result.train.seconds).all())


def _finish(folder: RunFolder, config: RunConfig, writer: int) -> None:
    """Write a training and an evaluation that say who made them, and keep what then stands."""
    folder.open("a" * 12, config)
    file = folder.evaluation("e" * 12) / "result.json"

    def train() -> TrainRecord:
        hashes, size = folder.write_adapter({"by": writer}, {"by": torch.full((300,), float(writer))})
        record = training_of(config, "a" * 12, adapter_bytes=size, seconds=float(writer), **hashes)
        return write_record(folder.path / "train.json", record)

    def evaluate() -> EvalRecord:
        row = Prediction("1", "0" * 64, f"by {writer}", ("a",), True, False, 1, False)
        sha256 = write_predictions(file.with_name("predictions.parquet"), [row])
        evaluation = evaluation_of(config, "a" * 12, predictions_sha256=sha256, seconds=float(writer))
        return write_record(file, evaluation)

    # Who came first may have tidied up under our hands; then its record stands, as in a real run.
    try:
        trained = train()
    except DataError:
        trained = folder.train_record()
    try:
        evaluated = evaluate()
    except DataError:
        evaluated = read_record(EvalRecord, file)
    assert trained is not None
    assert evaluated is not None
    (folder.path / f"said-{writer}").write_text(f"{trained.seconds} {evaluated.seconds}")


# ----------------------------------------------------------------------------------------------------- many runs


def _many_runs(world: World, each: int, seed: int) -> Line:
    """Different runs below one folder, while the index of the folder is read."""
    line = Line("16 writers of different runs below one folder, read meanwhile", seed)
    output = world.folder / "many"
    output.mkdir()

    def task(writer: int) -> None:
        if writer == 0:
            for _ in range(each):
                assert not read_index(output).problems
        for number in range(each):
            config = config_of(output, seed=writer * each + number)
            folder = RunFolder.of(config, "small", f"{config.seed:012x}")
            folder.open(f"{config.seed:012x}", config)
            hashes, _ = folder.write_adapter({}, {"by": torch.full((30,), float(config.seed))})
            record = training_of(config, f"{config.seed:012x}", seconds=float(config.seed), **hashes)
            assert write_record(folder.path / "train.json", record) == record

    with timed(line):
        statuses = _together(world, task)
        line.count = WRITERS * each
        line.wrong += sum(status != DONE for status in statuses)
        found = stored_results(output)
        line.lost += line.count - len({result.config.seed for result in found})
        line.duplicated += len(found) - len({result.config.seed for result in found}) + len(leftovers(output))
        line.wrong += sum(result.train.seconds != result.config.seed for result in found)
        line.wrong += sum(not complete(Path(result.folder) / "train.json", result.train) for result in found)
    shutil.rmtree(output)
    return line
