"""Bottleneck adapters: a small network after the sub-layers of a block, or beside its feed-forward part.

Hugging Face PEFT has no such method, so that an exported adapter is read by this package alone.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftbench.engine.adapter import Adapter, AdapterFiles, Forward, features, find_targets, per_run, uniform
from peftbench.errors import ConfigError
from peftbench.methods import peft_format
from peftbench.methods.specs import ParallelAdapterSettings, SequentialAdapterSettings

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu}


class Bottleneck(Adapter):
    """y + scale (U f(D z + d) + u), with U and u from zero; z is what `forwards` says."""

    format = "BOTTLENECK"

    def __init__(
        self,
        model: PreTrainedModel,
        settings: SequentialAdapterSettings | ParallelAdapterSettings,
        seeds: Sequence[int],
    ) -> None:
        super().__init__(model, seeds)
        self.settings = settings
        self.places = self.find_places()
        for name, (_, inputs, outputs) in self.places.items():
            bound = inputs**-0.5
            self.add(f"{name}.adapter_down.weight", uniform(settings.hidden, inputs, bound=bound))
            self.add(f"{name}.adapter_down.bias", uniform(settings.hidden, bound=bound), decay=False)
            self.add(f"{name}.adapter_up.weight", lambda _, o=outputs: torch.zeros(o, settings.hidden))  # type: ignore[misc]
            self.add(f"{name}.adapter_up.bias", lambda _, o=outputs: torch.zeros(o), decay=False)  # type: ignore[misc]

    def find_places(self) -> dict[str, tuple[nn.Module, int, int]]:
        """The modules at which networks stand, with the widths of what goes in and comes out, by name."""
        raise NotImplementedError

    def network(self, name: str, x: Tensor) -> Tensor:
        """What the network at one place adds: (runs, tokens, inputs) -> (runs, tokens, outputs)."""
        low = self._linear(f"{name}.adapter_down", x.to(self.dtype))
        added = self._linear(f"{name}.adapter_up", ACTIVATIONS[self.settings.activation](low))
        return self.settings.scale * added

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return torch.baddbmm(per_run(self.tensors[f"{name}.bias"]), x, self.tensors[f"{name}.weight"].mT)

    def export(self, run: int) -> AdapterFiles:
        return peft_format.own_files(self.format, self.settings, self.state(run))

    def load_files(self, files: AdapterFiles) -> None:
        """Put the values of an exported adapter into run 0."""
        self.load_state(0, files.tensors)


class SequentialAdapter(Bottleneck):
    """After a projection: z is its output, which the network changes before it is added to the residual stream."""

    format = "SEQUENTIAL_ADAPTER"

    def find_places(self) -> dict[str, tuple[nn.Module, int, int]]:
        found: dict[str, tuple[nn.Module, int, int]] = {}
        for target in find_targets(self.model, self.settings.targets):  # type: ignore[union-attr]
            if target.outputs is not None:
                raise ConfigError(
                    f"a bottleneck adapter cannot follow a part of the fused projection {target.name}; name the "
                    "projection itself in targets"
                )
            found[target.name] = (target.module, target.out_features, target.out_features)
        return found

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for name, (module, _, _) in self.places.items():
            yield module, self._after(name, module)

    def _after(self, name: str, module: nn.Module) -> Forward:
        base: Forward = type(module).forward

        def forward(x: Tensor) -> Tensor:
            out: Tensor = base(module, x)
            return (out + self.network(name, out)).to(out.dtype)

        return forward


class ParallelAdapter(Bottleneck):
    """Beside the feed-forward part of a block: z is its input."""

    format = "PARALLEL_ADAPTER"

    def find_places(self) -> dict[str, tuple[nn.Module, int, int]]:
        found: dict[str, tuple[nn.Module, int, int]] = {}
        width = int(self.model.config.get_text_config().hidden_size)
        for target in find_targets(self.model, ("down",)):
            name = target.name.rpartition(".")[0]
            outputs = features(target.module)[1]
            found[name] = (self.model.get_submodule(name), width, outputs)
        return found

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for name, (module, _, _) in self.places.items():
            yield module, self._beside(name, module)

    def _beside(self, name: str, module: nn.Module) -> Forward:
        base: Forward = type(module).forward

        def forward(x: Tensor) -> Tensor:
            out: Tensor = base(module, x)
            return (out + self.network(name, x)).to(out.dtype)

        return forward
