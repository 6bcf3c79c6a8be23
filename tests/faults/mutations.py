"""Files of a finished and of a stopped run, damaged one after another, and then read by everything that reads them.

A mutation is accepted, and so wrong, if any reader gives something else than what was written and does not say so.
What is refused, not there, or still the same is in order: a bit can fall into white space.
"""

import json
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peftbench
from peftbench.config import run_config
from peftbench.engine import checkpoint
from peftbench.finished import complete, read_record, seal
from peftbench.index import read_index
from peftbench.observer import Observer
from peftbench.plan import make_plan
from peftbench.records import EvalRecord
from peftbench.rescore import rescore
from peftbench.store import RunFolder, find_run, stored_results
from peftbench.training import _finished
from tests.faults.world import BROKEN, DONE, Line, World, outcome, timed

Files = dict[Path, bytes]
DEEP = 250
"""Each so manieth mutation is followed by the command itself, in a process of its own."""


class KilledAt(Observer):
    """Kills its own process at a step."""

    def step(self, run: int, step: int, steps: int, loss: float) -> None:
        if step == 7:
            os.kill(os.getpid(), signal.SIGKILL)


def run(world: World, quick: bool, seed: int) -> list[Line]:
    """Damage records, predictions and adapters of a finished run, then checkpoints of a stopped one."""
    chance = random.Random(seed)
    count = 300 if quick else 5000
    return [_finished_run(world, chance, count, seed), _stopped_run(world, chance, count, seed)]


# ------------------------------------------------------------------------------------------------ what is done


def mutate(chance: random.Random, files: Files, stale: dict[Path, list[bytes]]) -> str:
    """Damage one or two of the files in one way; returns what was done."""
    file = chance.choice(sorted(files))
    content = files[file]
    how = chance.choice(["truncate", "flip", "flip", "delete", "swap", "stale", "empty", "extend"])
    if how == "truncate":
        file.write_bytes(content[: chance.randrange(len(content))])
    elif how == "flip":
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 1, 1, 2, 5])):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        file.write_bytes(damaged)
    elif how == "delete":
        file.unlink()
    elif how == "swap":
        other = chance.choice([each for each in sorted(files) if each != file])
        file.write_bytes(files[other])
        other.write_bytes(content)
        return f"swap {file.name} and {other.name}"
    elif how == "stale":
        file.write_bytes(chance.choice(stale[file]))
    elif how == "empty":
        file.write_bytes(b"")
    else:
        more = [chance.randbytes(chance.randint(1, 64)), content, b"\0" * 512, b"{}", b"\n"]
        file.write_bytes(content + chance.choice(more))
    return f"{how} {file.name}"


def mend(folder: Path, files: Files) -> None:
    """Put everything back as it was."""
    for file in folder.rglob("*"):
        if file.is_file() and file not in files:
            file.unlink()
    for file, content in files.items():
        if not file.exists() or file.read_bytes() != content:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)


def everything(folder: Path) -> Files:
    """The files below a folder."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# ------------------------------------------------------------------------------------------------ a finished run


def _finished_run(world: World, chance: random.Random, count: int, seed: int) -> Line:
    line = Line("mutations of records, predictions, adapters: accepted", seed)
    config = world.config("mutated", "lora")
    assert world.process(world.run, config) == DONE
    assert world.process(world.run, world.config("other", "lora", seed=2)) == DONE
    output = world.folder / "mutated"
    [whole] = output.rglob("train.json")
    [other] = (world.folder / "other").rglob("train.json")
    genuine, expected = everything(output), outcome(output)
    readers = _readers(world, output, whole.parent)
    files = {file: content for file, content in genuine.items() if file.name != "curve.jsonl"}
    stale = {
        file: [_same_of(other.parent, file, whole.parent).read_bytes(), *_earlier_attempt(file, content)]
        for file, content in files.items()
    }
    told, outcomes = world.folder / "told", Counter[str]()
    with timed(line):
        for number in range(count):
            what = mutate(chance, files, stale)
            problems = [problem for reader in readers if (problem := _asked(reader, outcomes))]
            if number % DEEP == 0:
                status = world.process(world.run, config, told=told)
                outcomes[f"the command itself: {status}"] += 1
                if status == BROKEN or (status == DONE and outcome(output) != expected):
                    problems.append(
                        f"the command: {told.read_text()[-2000:] if status == BROKEN else 'another result'}"
                    )
            line.count += 1
            if problems:
                line.wrong += 1
                line.remarks.append(f"{what}: {problems}")
            mend(output, genuine)
    line.remarks.insert(0, str(dict(outcomes)))
    shutil.rmtree(output)
    return line


def _same_of(run: Path, file: Path, own: Path) -> Path:
    """The file of another run that stands where `file` stands in its own."""
    where = file.relative_to(own)
    if where.parts[0].startswith("eval-"):
        return next(run.glob("eval-*")) / where.name
    return run / where


def _earlier_attempt(file: Path, content: bytes) -> list[bytes]:
    """Whole records of the same run that belong to weights or predictions which are not there any more."""
    if file.name not in ("train.json", "result.json"):
        return []
    record = {name: value for name, value in json.loads(content).items() if name != "sha256"}
    part = "adapter_sha256" if file.name == "train.json" else "predictions_sha256"
    return [seal({**record, part: "0" * 64}).encode()]


def _readers(world: World, output: Path, run: Path) -> list[Callable[[], str]]:
    """Each reads the run in its way and says what it found: as it was written, or not all of it there."""
    evaluation = next(run.glob("eval-*"))
    plan = make_plan(run_config(world.config("mutated", "lora")), world.rows, Observer(), folder=RunFolder(run))
    [result], [scored], own = stored_results(output), rescore(run), RunFolder(run).config()
    weights, predictions = _weights(run), (evaluation / "predictions.parquet").read_bytes()
    gone = {"adapter_sha256": "0" * 64}, {"predictions_sha256": "0" * 64}
    earlier = [result.train.model_copy(update=gone[0]), result.evaluation.model_copy(update=gone[1])]
    columns = read_index(output).table.to_pylist()
    for missing in ("train.json", f"{evaluation.name}/result.json"):
        away = (run / missing).rename(world.folder / "away")
        columns += read_index(output).table.to_pylist()
        away.rename(run / missing)
    mend(output, {file: content for file, content in everything(output).items() if "scores-" not in file.name})

    def said(same: bool, there: bool = True) -> str:
        assert same or not there, "something else than was written"
        return "the same" if there else "not there"

    def results() -> str:
        found = stored_results(output)
        for each in found:
            # What was written for this very run may be shown; weights and predictions of it are asked for below.
            assert each.train in (None, result.train, *earlier)
            assert each.evaluation in (None, result.evaluation, *earlier)
        return said(found == [result], found == [result])

    def rows() -> str:
        found = read_index(output).table.to_pylist()
        return said(all(row in columns for row in found), bool(found))

    def scores() -> str:
        return said(rescore(run) == [scored])

    def training() -> str:
        found = _finished(plan)
        if found is None:
            return "made again"
        assert _weights(run) == weights
        return said(found == result.train)

    def evaluated() -> str:
        found = read_record(EvalRecord, evaluation / "result.json")
        if found is None or not complete(evaluation / "result.json", found):
            return "made again"
        assert (evaluation / "predictions.parquet").read_bytes() == predictions
        return said(found == result.evaluation)

    def configured() -> str:
        found = find_run(run)
        config, _ = found.config(), found.train_record()  # which are asked for together, by predict and eval
        return said(config == own)

    return [results, rows, scores, training, evaluated, configured]


def _weights(run: Path) -> Files:
    return everything(run / "adapter")


def _asked(reader: Callable[[], str], outcomes: Counter[str]) -> str | None:
    """What is wrong with what a reader said, or None."""
    try:
        outcomes[reader()] += 1
    except peftbench.DataError as error:
        outcomes["refused"] += 1
        return f"{reader.__name__}: more than a sentence: {error}" if "\n" in str(error) else None
    except Exception as error:
        return f"{reader.__name__}: {type(error).__name__}: {error}"
    return None


# ------------------------------------------------------------------------------------------------- a stopped run


def _stopped_run(world: World, chance: random.Random, count: int, seed: int) -> Line:
    line = Line("mutations of checkpoints: accepted", seed)
    config = world.config("stopped", "lora")
    assert world.process(world.run, world.config("unstopped", "lora")) == DONE
    expected = outcome(world.folder / "unstopped")

    def stopped(config: dict[str, Any]) -> None:
        peftbench.run(config, rows=world.rows, observer=KilledAt())

    for each in (config, world.config("other-stopped", "lora", seed=2)):
        assert world.process(stopped, each) == -signal.SIGKILL
    output = world.folder / "stopped"
    [folder] = output.rglob("checkpoint")
    genuine = everything(output)
    files = {file: content for file, content in genuine.items() if folder in file.parents}
    elsewhere = [file for file in (world.folder / "other-stopped").rglob("step-*/*") if file.is_file()]
    stale = {
        file: [content for each, content in files.items() if each.name == file.name and each != file]
        + [each.read_bytes() for each in elsewhere if each.name == file.name]
        for file in files
    }
    written = {
        checkpoint._step(each): (_bits(checkpoint.load_file(each / checkpoint._TENSORS)), json.loads((each / checkpoint._STATE).read_text()))
        for each in folder.glob("step-*")
    }  # fmt: skip
    assert sorted(written) == [4, 6]
    told, outcomes = world.folder / "told", Counter[str]()
    with timed(line):
        for number in range(count):
            what = _mutate_whole(chance, files) if number % 20 == 0 else mutate(chance, files, stale)
            problem = None
            try:
                found = checkpoint.load_newest(folder)
                outcomes[f"step {found.step}" if found and found.tensors else "begins anew"] += 1
                if found and found.tensors and written.get(found.step) != (_bits(found.tensors), found.state):
                    problem = f"step {found.step} is not what was written"
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            if problem is None and number % DEEP == 0:
                status = world.process(world.run, config, told=told)
                outcomes[f"the command itself: {status}"] += 1
                if status != DONE or outcome(output) != expected:
                    problem = f"the command ended with {status}: {told.read_text() if told.exists() else ''}"
            line.count += 1
            if problem:
                line.wrong += 1
                line.remarks.append(f"{what}: {problem}")
            mend(output, genuine)
    line.remarks.insert(0, str(dict(outcomes)))
    return line


def _mutate_whole(chance: random.Random, files: Files) -> str:
    """A whole checkpoint in the place of another, or both exchanged."""
    older, newer = sorted({file.parent for file in files})
    both = chance.random() < 0.5
    for file in older.iterdir():
        content = file.read_bytes()
        if both:
            file.write_bytes((newer / file.name).read_bytes())
        (newer / file.name).write_bytes(content)
    return "exchanged" if both else "older in the place of newer"


def _bits(tensors: dict[str, Any]) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
