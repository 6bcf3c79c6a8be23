"""What a grid asks of a cluster: the section `cluster` of a grid file. Pure; no cluster is spoken to.

Resources hold for all models, or under `models` for one. GPUs, cores and memory are those of one task of a job
array, in which every GPU has a worker of its own.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from peftbench.errors import suggestion
from peftbench.schema import Frozen

Text = Annotated[str, Field(pattern=r"^[^\s\x00-\x1f\x7f]{1,200}$")]


class Resources(Frozen):
    """What one task gets; what is not given is left to the cluster."""

    gpus: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Without it one, or none where runs are asked to be on a CPU or are rehearsed."""
    cpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Cores; without GPUs as many workers as they give room for, each with `run.threads`."""
    memory_gb: Annotated[float, Field(gt=0, le=1e6)] | None = None
    minutes: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Time limit of a task of a job array, which goes on in the queue when it is over."""
    partition: Text | None = None
    account: Text | None = None
    qos: Text | None = None
    constraint: Text | None = None


class Cluster(Resources):
    """Everything under `cluster`, such as

    cluster:
      gpus: 1
      minutes: 240
      partition: gpu
      setup: [module load cuda]
      models: {big-model: {gpus: 2, memory_gb: 160}}
    """

    tasks: Annotated[int, Field(ge=1, le=10_000)] = 8
    """Most tasks of one job array."""
    at_once: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Most tasks of one job array that run at the same time."""
    setup: tuple[str, ...] = ()
    """Lines of shell before a task."""
    stop_seconds: Annotated[int, Field(ge=10, le=65_535)] = 120
    """How long before its time limit a task is told to keep its last step and stop."""
    restarts: Annotated[int, Field(ge=0, le=10_000)] = 50
    """How often a task that ran out of time, or was killed, is put into the queue again."""
    models: dict[str, Resources] = {}
    """Resources that are others for a model, by its name under `models`."""

    def of(self, model: str) -> Resources:
        """Resources of the runs of a model."""
        own = self.models.get(model, Resources()).model_dump(exclude_unset=True)
        common = {name: getattr(self, name) for name in Resources.model_fields}
        return Resources.model_validate({**common, **own})

    def unknown_models(self, known: Iterable[str]) -> Iterator[str]:
        """One sentence for each name under `models` that no model of the grid has."""
        names = list(known)
        for name in self.models:
            if name not in names:
                yield f"cluster.models: {name!r} is not among the grid's models{suggestion(name, names)}"
