"""What a method gives the engine: trainable tensors with a leading run axis, and where they act.

An adapter never changes the base model's classes or weights: `attached()` puts new forward functions on the
instances of the modules that it targets and takes them away again. It holds one or several runs of one shape;
the engine trains them together and each run's slice is independent of the others.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftbench.engine.roles import (
    Heads,
    Target,
    by_module,
    features,
    find_norms,
    find_targets,
    heads_of,
    whole_weights,
)
from peftbench.errors import ConfigError

if TYPE_CHECKING:
    from peftbench.engine.model import LanguageModel
    from peftbench.engine.runs import TrainingRun
    from peftbench.methods import Recipe

__all__ = [
    "Adapter",
    "AdapterFiles",
    "DishonestAdapter",
    "Forward",
    "Heads",
    "Initial",
    "Noise",
    "RunNoise",
    "Target",
    "by_module",
    "dropped",
    "features",
    "find_norms",
    "find_targets",
    "generator",
    "heads_of",
    "per_run",
    "seeded",
    "uniform",
    "whole_weights",
]

Forward = Callable[..., Any]
Initial = Callable[[torch.Generator], Tensor]


def generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A random stream that belongs to one run's `seed` and one `purpose`, independent of all others."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Code of others draws from the global streams: they belong to one run meanwhile, and are put back."""
    number = generator(seed, "init").initial_seed()
    kept, kept_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            torch.manual_seed(number)
            random.seed(number)
            np.random.seed(number % 2**32)
            yield
        finally:
            random.setstate(kept)
            np.random.set_state(kept_numpy)


@dataclass(frozen=True)
class RunNoise:
    """Dropout of one run in one step.

    What is drawn is a function of `seed`, `step` and the place where it is used, for all tokens of the step at
    once. So a part of the step, a second pass over it, and a step in a group draw what the whole would.
    """

    seed: int
    step: int
    tokens: int
    """Tokens of the whole step."""
    spans: tuple[tuple[int, int], ...]
    """Which of them a pass holds, as ranges, in order."""
    samples: tuple[int, ...] = ()
    """Numbers in the step of the samples that a pass holds; none where they share what stands before them."""
    places: Tensor | None = None
    """Where those stand in what the pass computes, where that is not simply in order."""

    def generator(self, place: str, device: torch.device) -> torch.Generator:
        """The random stream of one place; tensors without data take one of the CPU."""
        return generator(self.seed, f"dropout/{self.step}/{place}", "cpu" if device.type == "meta" else device)


class DishonestAdapter(AssertionError):
    """An adapter says that its prefix is the same in all samples, and it is not."""


Noise = Sequence[RunNoise]
"""Dropout of one pass, for each run."""


def dropped(x: Tensor, probability: float, noise: Noise, place: str) -> Tensor:
    """`x` of shape (runs, tokens, width) with entries zeroed and the rest scaled up; padding is left alone."""
    keep = torch.ones_like(x)
    for run, each in enumerate(noise):
        source = each.generator(place, x.device)
        whole = torch.empty(each.tokens, x.shape[-1], dtype=x.dtype, device=x.device)
        whole.bernoulli_(1 - probability, generator=source)
        held = torch.cat([whole[start:end] for start, end in each.spans]) / (1 - probability)
        if each.places is not None:
            keep[run].index_copy_(0, each.places, held)
            continue
        if len(held) > x.shape[1]:  # rows are cut short only for adapters that say they draw nothing
            raise DishonestAdapter(f"dropout is drawn at {place} although constant_over_batch() says that none is")
        keep[run, : len(held)] = held
    return x * keep


@dataclass(frozen=True)
class AdapterFiles:
    """One run's trained adapter as Hugging Face PEFT stores it."""

    config: dict[str, Any]
    """Content of `adapter_config.json`."""
    tensors: dict[str, Tensor]
    """Content of `adapter_model.safetensors`."""


class Adapter:
    """Trainable tensors of `runs` runs and the places where they act.

    A method subclasses this: it calls `add` for each trainable tensor, and overrides `forwards` (weight-side
    methods), `soft_prompt` or `prefix` (soft-prompt methods), `export`, and what else differs.
    """

    virtual_tokens = 0
    """Positions that the adapter puts before the text; they count against the token limit."""
    embedded_tokens = 0
    """How many of them are soft tokens that pass through the model as inputs."""
    recipe: "Recipe | None" = None
    """How other processes make the same: set by `build_adapter` and `load_adapter`."""

    def __init__(self, model: PreTrainedModel, seeds: Sequence[int]) -> None:
        base = next(model.parameters())
        self.model = model
        self.seeds = tuple(seeds)
        self.device = base.device
        self.base_dtype = base.dtype
        # Trainable tensors are float32 whatever the base's precision: at 5e-5 a bfloat16 norm weight would
        # not move at all. A float64 base (tests against the oracle) keeps float64.
        self.dtype = torch.promote_types(base.dtype, torch.float32)
        self.tensors: dict[str, Tensor] = {}
        self.undecayed: set[str] = set()
        self.rates: dict[str, float] = {}
        """Learning rates of single tensors as multiples of the run's; one where not named."""
        self.noise: Noise | None = None
        self._generators = [generator(seed, "init") for seed in self.seeds]

    @property
    def runs(self) -> int:
        """Number of runs; the leading size of every tensor."""
        return len(self.seeds)

    @property
    def trainable_params(self) -> int:
        """Trainable parameters of one run."""
        return sum(tensor[0].numel() for tensor in self.tensors.values())

    def add(self, name: str, initial: Initial, *, decay: bool = True) -> None:
        """Add a trainable tensor of shape (runs, *shape); `initial` draws one run's values on the CPU."""
        with self.device if self.device.type == "meta" else nullcontext():  # without data nothing need be drawn
            values = [initial(source) for source in self._generators]
        stacked = torch.stack([value.to(self.device, self.dtype) for value in values])
        self.tensors[name] = stacked.requires_grad_()
        if not decay:
            self.undecayed.add(name)

    # -- what a method overrides -------------------------------------------------------------------------

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        """Modules with the forward function that stands in for theirs while the adapter is attached."""
        return iter(())

    def soft_prompt(self) -> Tensor | None:
        """Embeddings put before the text, of shape (runs, embedded tokens, width), or None.

        With dropout that differs by sample, (runs, samples of the pass, embedded tokens, width).
        """
        return None

    def prefix(self) -> list[tuple[Tensor, Tensor]] | None:
        """For each layer the keys and values put before the text: (runs, heads, virtual tokens, width)."""
        return None

    def constant_over_batch(self) -> bool:
        """Whether what the adapter does to a token is the same in every sample while training.

        Only then may the tokens that all samples share be computed once. Dropout makes it false.
        """
        return True

    def begin(self, model: "LanguageModel", runs: Sequence["TrainingRun"]) -> None:
        """Called once before a training, also one that goes on: here is made what depends on rows or steps."""

    def updated(self, steps: Sequence[int]) -> None:
        """Called after an update, while its gradients are there; `steps` has the number of updates of each run."""

    def penalty(self) -> Tensor | None:
        """What training adds to the loss of each run, (runs,); never part of a validation loss."""
        return None

    def extra_state(self, _: int) -> dict[str, Tensor]:
        """What a run needs to go on beside the trainable tensors: the memory of a schedule."""
        return {}

    def load_extra_state(self, _: int, state: dict[str, Tensor]) -> None:
        """Put back what `extra_state` gave for a run."""

    def merged(self, run: int) -> dict[str, Tensor]:
        """One run folded into the base: new values by the names of parameters, biases that it lacks included.

        For methods that claim to be mergeable, in the base's precision.
        """
        from peftbench.engine.folding import folded

        return folded(self.select([run]))

    def members(self) -> list["Adapter"]:
        """The adapters that this one is made of, in the order of their runs: itself."""
        return [self]

    def hear(self, noise: Noise | None) -> None:
        """Train the next pass with this dropout; None for none."""
        self.noise = noise

    def draws(self) -> bool:
        """Whether the next pass is one with dropout."""
        return self.noise is not None and not self.constant_over_batch()

    def deployed(self, run: int) -> "Adapter":
        """The adapter of one run as it is used for prediction; encoders of soft prompts are run once here."""
        return self.select([run])

    def export(self, run: int) -> AdapterFiles:
        """One run in the format of Hugging Face PEFT."""
        raise NotImplementedError

    def load_files(self, files: AdapterFiles) -> None:
        """Put the values of an exported adapter into run 0."""
        raise NotImplementedError

    @classmethod
    def from_files(cls, model: PreTrainedModel, settings: Any, files: AdapterFiles, seed: int) -> "Adapter":
        """The deployed adapter of a finished run, from what `export` gave."""
        adapter = cls(model, settings, [seed])  # type: ignore[call-arg]
        adapter.load_files(files)
        return adapter.deployed(0)

    # -- what the engine calls ---------------------------------------------------------------------------

    def mixes_with(self, other: "Adapter") -> bool:
        """Whether the two can be in one pass: the rows of a stream begin at one position."""
        return (self.virtual_tokens, self.embedded_tokens) == (other.virtual_tokens, other.embedded_tokens)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The model with this adapter in place; the model is left as it was, errors included."""
        touched: list[nn.Module] = []
        try:
            for module, forward in self.forwards():
                if "forward" in module.__dict__:
                    raise RuntimeError(f"another adapter is attached to {type(module).__name__}")
                module.forward = _by_rows(forward, self.runs)
                touched.append(module)
            yield
        finally:
            for module in touched:
                del module.forward

    def select(self, runs: Sequence[int]) -> "Adapter":
        """The same adapter with only some of its runs, in that order; tensors are copies without gradient."""
        chosen = object.__new__(type(self))
        chosen.__dict__.update(self.__dict__)
        chosen.seeds = tuple(self.seeds[run] for run in runs)
        chosen.noise = None
        index = torch.tensor(list(runs), device=self.device)
        chosen.tensors = {
            name: tensor.detach().index_select(0, index).requires_grad_() for name, tensor in self.tensors.items()
        }
        return chosen

    def empty(self) -> None:
        """Let go of the values: what is selected from here on holds zeros until values are put in."""
        for member in self.members():
            for name, tensor in member.tensors.items():
                member.tensors[name] = tensor.new_zeros(()).expand(tensor.shape)

    def state(self, run: int) -> dict[str, Tensor]:
        """Copies of one run's trainable tensors by name, without the run axis: everything training needs."""
        return {name: tensor[run].detach().clone() for name, tensor in self.tensors.items()}

    def load_flat(self, run: int, values: Tensor) -> None:
        """Put one run's values back from one vector, (parameters,), in the order of the tensors."""
        sizes = [tensor[0].numel() for tensor in self.tensors.values()]
        parts = zip(self.tensors.items(), torch.split(values, sizes), strict=True)
        self.load_state(run, {name: part.view(tensor.shape[1:]) for (name, tensor), part in parts})

    def load_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Put one run's tensors back; names and shapes must be exactly those of `state()`."""
        if state.keys() != self.tensors.keys():
            differing = sorted(state.keys() ^ self.tensors.keys())
            raise ValueError(f"state and adapter differ in {differing[:5]}")
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                tensor[run].copy_(state[name])


def _by_rows(forward: Forward, runs: int) -> Forward:
    """A forward function of (runs, tokens, width) that takes padded batches of one run as well."""

    def of_any_shape(x: Tensor, *more: Any, **named: Any) -> Any:
        if more or named:
            raise ConfigError(
                "this method acts on a module of the model that is given more than its input "
                f"({', '.join(named) or 'unnamed'}), which it cannot compute; choose other targets or another "
                "method"
            )
        if x.dim() == 3 and x.shape[0] == runs:
            return forward(x)
        return forward(x.reshape(runs, -1, x.shape[-1])).unflatten(1, x.shape[:-1]).squeeze(0)

    return of_any_shape


def uniform(*shape: int, bound: float) -> Initial:
    """Values drawn evenly from -bound to bound."""
    return lambda source: (torch.rand(*shape, generator=source) * 2 - 1) * bound


def per_run(tensor: Tensor) -> Tensor:
    """(runs, width) as (runs, 1, width), to broadcast over the tokens of each run."""
    return tensor[:, None, :]
