"""The demo: base and six methods on four tasks of the mini suite, three seeds, with the model that is shipped.

No network, no GPU, no account. Settings of section 4 of the paper are made for a model of eight billion
parameters; the preset scales what would otherwise take hours, and the output names everything that it changes.
"""

import json
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from peftbench.config import load_run_config, shipped
from peftbench.console import observing, print_table
from peftbench.datasets import get_dataset
from peftbench.efficiency.cost import Prediction
from peftbench.efficiency.plan import predict
from peftbench.engine.loading import TINY
from peftbench.execute import run_many
from peftbench.leaderboard import Row, compare
from peftbench.methods.specs import methods
from peftbench.observer import Observer
from peftbench.penalty import CostModel, pscp
from peftbench.records import RunConfig, RunResult, TrainingConfig
from peftbench.schema import MethodChoice

DATASETS = ("sst2@mini", "boolq@mini", "svamp@mini", "conala@mini")
METHODS = ("base", "ia3", "prompt_tuning", "p_tuning", "prefix_tuning", "lora", "ln_tuning")
SEEDS = (42, 123, 456)
TRAINING_FILE = "train_tuned.yaml"

PRESET: dict[str, dict[str, Any]] = {
    "prompt_tuning": {"virtual_tokens": 10},
    "p_tuning": {"virtual_tokens": 10, "encoder_hidden": 64},
    "prefix_tuning": {"virtual_tokens": 10, "encoder_hidden": 64},
    "lora": {"dropout": 0.0},
}
"""Settings of the methods that differ from section 4 of the paper."""
PROCESSES = 4
"""At most; each loads torch anew, which costs more than it saves where there are many."""
TOKENS = 80
"""Prompt and answer of a sample of the four tasks, about; what memory is predicted for."""
TOKENS_PER_STEP = 700
"""Runs of one method are trained together up to so many tokens a step; a model this small gains by it."""


def configs(
    output: Path, datasets: Sequence[str] = DATASETS, names: Sequence[str] = METHODS, seeds: Sequence[int] = SEEDS
) -> list[RunConfig]:
    """The runs of the demo; the base model, which is not trained, is evaluated once a task."""
    return [
        load_run_config(
            shipped(TRAINING_FILE),
            model=TINY,
            dataset=dataset,
            method={"name": name, **PRESET.get(name, {})},
            seed=seed,
            device="cpu",
            threads=1,
            output=str(output / "runs"),
            engine__tokens_per_step=TOKENS_PER_STEP,
        )
        for dataset in datasets
        for name in names
        for seed in (seeds if methods.get(name).build else seeds[:1])
    ]


def show(output: Path, *, as_json: bool = False) -> list[RunResult]:
    """Make the runs, print the comparison, and return the results; finished runs are read back."""
    begun = time.monotonic()
    with observing() as observer:
        results = run_in_processes(configs(output), observer, processes=min(PROCESSES, os.cpu_count() or 1))
    if as_json:
        print(json.dumps([json.loads(result.model_dump_json()) for result in results], indent=1))
    else:
        print_comparison(compare(results), output)
        print(f"Time: {time.monotonic() - begun:.0f} s")
    return results


# --------------------------------------------------------------------------------------- several processes


def run_in_processes(
    runs: Sequence[RunConfig], observer: Observer, *, processes: int, evaluate: bool = True
) -> list[RunResult]:
    """The same as `run_many`, each dataset and method a job of its own for processes of one thread each.

    Matrices of a model this small keep no more than one core busy, so that two processes do twice as much.
    """
    if processes == 1:
        return run_many(runs, observer=observer, evaluate=evaluate)
    jobs: dict[tuple[str, str], list[int]] = {}
    for number, config in enumerate(runs):
        jobs.setdefault((config.dataset, str(config.method)), []).append(number)
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    heard = context.Queue()
    observer.phase(f"{len(runs)} runs in {processes} processes", total=sum(map(_units, runs)))
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_listen, initargs=(heard,)) as pool:
        futures = [pool.submit(_run_job, [runs[number] for number in job], evaluate) for job in jobs.values()]
        try:
            while not all(future.done() for future in futures):
                for future in futures:
                    if future.done():
                        future.result()  # what one of them raised ends all, at once
                _tell(heard, observer)
            found = [result for future in futures for result in future.result()]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()  # a training keeps its last step and ends
            raise
    order = [number for job in jobs.values() for number in job]
    return [result for _, result in sorted(zip(order, found, strict=True), key=lambda each: each[0])]


def _tell(heard: "multiprocessing.Queue[int | str]", observer: Observer) -> None:
    """Pass on what a process said, if one says something soon."""
    with suppress(queue.Empty):
        said = heard.get(timeout=0.2)
        observer.advance(said) if isinstance(said, int) else observer.note(0, said)


def _units(config: RunConfig) -> int:
    """Steps and predictions of one run."""
    spec = get_dataset(config.dataset)
    if methods.get(config.method.name).build is None:
        return spec.counts.test
    learned = spec.counts.train - spec.counts.train // 10
    return config.training.epochs * -(-learned // config.training.batch_size) + spec.counts.test


class _Relay(Observer):
    """Tells another process how much was done, now and then, and what the user should know."""

    queue: "multiprocessing.Queue[int | str]"
    done, told, stopped = 0, 0.0, False

    def step(self, run: int, step: int, steps: int, loss: float) -> None:
        """Count one step."""
        self.advance(1)

    def advance(self, count: int) -> None:
        """Count, and tell now and then."""
        self.done += count
        if time.monotonic() - self.told > 0.5:
            self.flush()

    def note(self, run: int, text: str) -> None:
        """Tell at once."""
        self.queue.put(text)

    def flush(self) -> None:
        """Tell what was not told yet."""
        self.queue.put(self.done)
        self.done, self.told = 0, time.monotonic()


_relay = _Relay()


def _listen(heard: "multiprocessing.Queue[int | str]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, which tells
    _relay.queue = heard
    heard.cancel_join_thread()  # what nobody listens to any more must not keep a process from ending


def _run_job(runs: Sequence[RunConfig], evaluate: bool) -> list[RunResult]:
    if _relay.stopped:  # a pool hands out jobs ahead of time
        raise KeyboardInterrupt
    try:
        return run_many(runs, observer=_relay, evaluate=evaluate)
    except KeyboardInterrupt:
        _relay.stopped = True
        raise
    finally:
        _relay.flush()


# ------------------------------------------------------------------------------------------------- the table


def predicted_costs(training: TrainingConfig) -> dict[str, Prediction]:
    """What each method costs on the model, before anything is run."""
    return {
        str(choice): predict(
            TINY,
            None,
            choice,
            batch=training.batch_size,
            tokens=TOKENS,
            dtype="float32",
            engine="packed",
            kernels="cpu",
        )
        for name in METHODS
        for choice in [MethodChoice(name=name, settings=PRESET.get(name, {}))]
        if methods.get(name).build
    }


def print_comparison(rows: Sequence[Row], output: Path) -> None:
    """The comparison as a table, and what has to be known to read it."""
    training = configs(output, DATASETS[:1], METHODS[-1:], SEEDS[:1])[0].training
    costs = predicted_costs(training)
    columns = (
        "method",
        *DATASETS,
        "mean",
        "95 % interval",
        "lenient",
        "invalid",
        "trainable",
        "memory",
        "PSCP",
        "seconds",
    )
    print_table("", columns, [_cells(row, costs) for row in rows], right=columns[1:])
    missing = [f"{row.method}: {', '.join(row.missing)}" for row in rows if row.missing]
    if missing:
        print(f"No mean where a run is missing or failed: {'; '.join(missing)}.")
    print(
        f"""
{TINY} on generated rows, {len(SEEDS)} seeds: what is true here need not be true of a model of another size.
Scores from 0 to 100: macro-F1 (sst2, boolq), accuracy (svamp), CodeBLEU (conala); their mean, with the interval
of a bootstrap over seeds and test rows. Lenient: the same outputs, read with the least care for their form.
Memory: predicted, of a training step of one run with {training.batch_size} samples of {TOKENS} tokens.
PSCP: the mean under soft penalties for trainable parameters, extra FLOPs and memory, each relative to the median
of the methods.
Learning rates: one for each method, found on training and validation rows (configs/{TRAINING_FILE}).
Preset `demo`: {training.epochs} epochs, {training.validations} validations, and unlike section 4 of the paper"""
    )
    for method, settings in PRESET.items():
        print(
            f"  {method:14}" + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
        )
    print(f"Records: {output / 'runs'}")


def _cells(row: Row, costs: Mapping[str, Prediction]) -> tuple[str | None, ...]:
    interval, cost = row.mean, costs.get(row.method)
    memory = cost.peak_train_memory_bytes if cost else None
    return (
        row.method.partition("(")[0],
        *(f"{row.scores[dataset]:.1f}" if dataset in row.scores else None for dataset in DATASETS),
        None if interval is None else f"{interval.estimate:.1f}",
        None if interval is None or interval.low is None else f"{interval.low:.1f} to {interval.high:.1f}",
        None if row.lenient is None else f"{row.lenient:.1f}",
        None if row.invalid_rate is None else f"{100 * row.invalid_rate:.0f} %",
        f"{row.trainable_params:,}",
        None if memory is None else f"{memory / 1e6:.0f} MB",
        None if interval is None or cost is None else f"{_pscp(interval.estimate, cost, costs):.1f}",
        f"{row.seconds:.0f}",
    )


def _pscp(performance: float, cost: Prediction, costs: Mapping[str, Prediction]) -> float:
    """The paper's references are made for models a thousand times larger; here they are medians of the table."""
    references = CostModel.from_costs(map(_three, costs.values()))
    own = _three(cost)
    return pscp(performance, own["params"], own["flops"], own["memory"], references).score


def _three(cost: Prediction) -> dict[str, float]:
    return {
        "params": cost.trainable_params,
        "flops": cost.extra_forward_flops,
        "memory": cost.peak_train_memory_bytes or 0,
    }
