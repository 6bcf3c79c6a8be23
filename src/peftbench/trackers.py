"""Four trackers behind one small interface, each in a process of its own that hears of runs on standard input.

A process apart, because a tracker prints, waits, retries, hooks into the interpreter and takes memory: none of
that may touch a training or what is measured of it. It is told nothing but what `mirrors` lists, and answers with
one line for each call that failed. Not for import: `python -m peftbench.trackers NAME`.
"""

import contextvars
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, TextIO

Values = Mapping[str, float]
Status = Literal["done", "failed", "stopped"]

LINGER_SECONDS = 60.0
"""How long a tracker may go on once nobody speaks to it any more, as after a kill of the training."""


class Run(Protocol):
    """A run as one tracker keeps it; made from what `mirrors` says of it and the folder of runs."""

    def __init__(self, run: Mapping[str, Any], output: Path) -> None: ...

    def log(self, values: Values, step: int) -> None:
        """Keep the values of one validation."""

    def finish(self, values: Values, step: int, status: Status) -> None:
        """Keep the final values, and close the run."""


class TensorBoardRun:
    """An event file below `<output>/tensorboard`.

    Records are written one by one: the library's own writer puts the machine's name into that of the file.
    """

    def __init__(self, run: Mapping[str, Any], output: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder = output / "tensorboard" / run["place"]
        folder.mkdir(parents=True, exist_ok=True)
        self.file = (folder / f"events.out.tfevents.{time.time_ns()}.peftbench").open("wb")
        self.writer = RecordWriter(self.file)
        self._write(file_version="brain.Event:2")
        self._write_session("session_start_info", {"hparams": run["config"]})

    def log(self, values: Values, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=scalars))

    def finish(self, values: Values, step: int, status: Status) -> None:
        self.log(values, step)
        self._write_session(
            "session_end_info", {"status": "STATUS_SUCCESS" if status == "done" else "STATUS_FAILURE"}
        )
        self.file.close()

    def _write(self, **event: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.writer.write(Event(wall_time=time.time(), **event).SerializeToString())
        self.file.flush()

    def _write_session(self, kind: str, info: Mapping[str, Any]) -> None:
        """Begin or end the run's row in the table of hyperparameters."""
        from google.protobuf.json_format import ParseDict
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.plugins.hparams.metadata import PLUGIN_DATA_VERSION, PLUGIN_NAME
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        content = ParseDict({kind: info, "version": PLUGIN_DATA_VERSION}, HParamsPluginData())
        data = SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=content.SerializeToString())
        value = Summary.Value(tag=f"_hparams_/{kind}", metadata=SummaryMetadata(plugin_data=data))
        self._write(summary=Summary(value=[value]))


class WandbRun:
    """A run of Weights & Biases, offline under `WANDB_MODE=offline`; its files lie in `<output>/wandb`."""

    def __init__(self, run: Mapping[str, Any], output: Path) -> None:
        import wandb

        # A version that does not know one of these refuses it: better no run than one that says more.
        settings = wandb.Settings(
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            email="",
            host="none",
            label_disable=True,
            program="peftbench",
            save_code=False,
            silent=True,
            sync_tensorboard=False,
            username="",
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self.run = wandb.init(
            project=run["project"],
            name=run["name"],
            id=run["id"],
            config=dict(run["config"]),
            dir=os.environ.get("WANDB_DIR") or str(output),
            reinit="create_new",  # several at once
            resume="allow",
            settings=settings,
        )

    def log(self, values: Values, step: int) -> None:
        self.run.log(dict(values), step=step)

    def finish(self, values: Values, step: int, status: Status) -> None:
        self.run.summary.update(dict(values))
        self.run.finish(exit_code=0 if status == "done" else 1)


class MlflowRun:
    """A run in `MLFLOW_TRACKING_URI` or `<output>/mlflow.db`, made by the client, which adds no tags."""

    def __init__(self, run: Mapping[str, Any], output: Path) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(output / 'mlflow.db').absolute()}"
        self.client = MlflowClient(tracking_uri=uri)
        experiment = self.client.get_experiment_by_name(run["project"])
        number = experiment.experiment_id if experiment else self.client.create_experiment(run["project"])
        found = self.client.search_runs([number], f"tags.`peftbench.run` = '{run['id']}'", max_results=1)
        if found:
            self.id = found[0].info.run_id
            self.client.update_run(self.id, status="RUNNING")
        else:
            tags = {"peftbench.run": run["id"]}
            self.id = self.client.create_run(number, run_name=run["name"], tags=tags).info.run_id
        self.client.log_batch(self.id, params=[Param(name, str(value)) for name, value in run["config"].items()])

    def log(self, values: Values, step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def finish(self, values: Values, step: int, status: Status) -> None:
        self.log(values, step)
        self.client.set_terminated(self.id, {"done": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}[status])


class TrackioRun:
    """A run in trackio's own folder on this machine."""

    def __init__(self, run: Mapping[str, Any], output: Path) -> None:
        import trackio

        # A context of its own, for else a new run would end the one before it.
        self.run = contextvars.Context().run(
            trackio.init,
            project=run["project"],
            name=run["name"],
            config=dict(run["config"]),
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, values: Values, step: int) -> None:
        self.run.log(dict(values), step=step)

    def finish(self, values: Values, step: int, status: Status) -> None:
        self.run.log(dict(values), step=step)
        self.run.finish()


RUNS: dict[str, type[Run]] = {
    "tensorboard": TensorBoardRun,
    "wandb": WandbRun,
    "mlflow": MlflowRun,
    "trackio": TrackioRun,
}

ENVIRONMENT: dict[str, dict[str, str | None]] = {
    "tensorboard": {},
    "wandb": {"WANDB_ERROR_REPORTING": "false"},
    "mlflow": {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",  # where the user names one
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # minutes else, until a server that is away is told of
    },
    "trackio": {
        # Else it asks the hub for the user's name, or keeps its runs there.
        "HF_HUB_OFFLINE": "1",
        "TRACKIO_SPACE_ID": None,
        "TRACKIO_SERVER_URL": None,
        "TRACKIO_DATASET_ID": None,
        "TRACKIO_BUCKET_ID": None,
        "TRACKIO_WEBHOOK_URL": None,
    },
}
"""What is set in the process of each tracker, or taken out of it, before the library is loaded."""


Messages = queue.SimpleQueue[dict[str, Any] | None]


def serve(kind: type[Run], messages: Messages, answers: TextIO) -> None:
    """Do what the messages say until there are no more, then close what is open; tell of each call that failed."""
    runs: dict[int, Run] = {}
    steps: dict[int, int] = {}
    while (message := messages.get()) is not None:
        steps[message["run"]] = message.get("step", 0)
        _follow(message, kind, runs, answers)
    for number in list(runs):  # the training was stopped, or is gone
        last = {"do": "finish", "run": number, "step": steps[number], "values": {}, "status": "stopped"}
        _follow(last, kind, runs, answers)


def _follow(message: Mapping[str, Any], kind: type[Run], runs: dict[int, Run], answers: TextIO) -> None:
    number = message["run"]
    try:
        if message["do"] == "start":
            runs[number] = kind(message, Path(message["output"]))
        elif number in runs and message["do"] == "log":
            runs[number].log(message["values"], message["step"])
        elif number in runs:
            runs.pop(number).finish(message["values"], message["step"], message["status"])
    except BaseException as error:  # a library may even call sys.exit
        lines = str(error).strip().splitlines()
        told = {"during": message["do"], "error": type(error).__name__, "text": lines[0] if lines else ""}
        print(json.dumps(told), file=answers, flush=True)


def _listen(heard: TextIO, messages: Messages) -> None:
    for line in heard:
        messages.put(json.loads(line))
    messages.put(None)
    time.sleep(LINGER_SECONDS)
    os._exit(1)


def main(name: str) -> None:
    """Serve one tracker until standard input ends."""
    for key, value in ENVIRONMENT[name].items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
    # Whatever the library reads or prints goes nowhere: it may hold a secret, or stand in the way of an answer.
    heard, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    messages: Messages = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(heard, messages), daemon=True).start()
    with suppress(BaseException):
        import_module(name)  # in good time; if that fails, so does the first call, which tells of it
    serve(RUNS[name], messages, answers)


if __name__ == "__main__":
    main(sys.argv[1])
