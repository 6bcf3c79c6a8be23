"""BitFit, full fine-tuning and the last layers alone: methods that train parameters as the model has them.

BitFit has a run axis. The other two are references to compare with; they hold a copy of the weights that they
train and therefore have one run in a pass.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftbench.engine.adapter import (
    Adapter,
    AdapterFiles,
    Forward,
    Initial,
    Target,
    by_module,
    find_norms,
    find_targets,
    whole_weights,
)
from peftbench.errors import ConfigError
from peftbench.methods import peft_format
from peftbench.methods.specs import BitFitSettings, LastLayersSettings, NoSettings


class BitFit(Adapter):
    """W x + b with b trained: from the base's bias where there is one, from zero where there is none."""

    def __init__(self, model: PreTrainedModel, settings: BitFitSettings, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        self.settings = settings
        self.targets = find_targets(model, settings.targets)
        for target in self.targets:
            self.add(f"{target.key}.bias", _begin_with(self.base_bias(target)), decay=False)

    def base_bias(self, target: Target) -> Tensor:
        """The base's bias for the outputs of a target, (outputs,); zeros where it has none."""
        bias = getattr(target.module, "bias", None)
        if bias is None:
            return torch.zeros(target.out_features, dtype=self.dtype, device=self.device)
        own: Tensor = bias.detach().to(self.dtype)
        return own if target.outputs is None else own[target.outputs.to(self.device)]

    def moved(self, target: Target) -> Tensor:
        """How far the biases of a target have moved, (runs, outputs)."""
        return self.tensors[f"{target.key}.bias"] - self.base_bias(target)

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for module, targets in by_module(self.targets):
            yield module, self._forward(module, targets)

    def _forward(self, module: nn.Module, targets: list[Target]) -> Forward:
        base: Forward = type(module).forward

        def forward(x: Tensor) -> Tensor:
            out: Tensor = base(module, x)
            result = out.to(self.dtype)
            for target in targets:
                moved = self.moved(target)[:, None, :]
                if target.outputs is None:
                    result = result + moved
                else:
                    index = target.outputs.to(result.device)
                    result = result.index_add(-1, index, moved.expand(-1, result.shape[1], -1))
            return result.to(out.dtype)

        return forward

    def export(self, run: int) -> AdapterFiles:
        return peft_format.bias_files(self, run)

    def load_files(self, files: AdapterFiles) -> None:
        """Put the values of an exported adapter into run 0."""
        peft_format.load_biases(self, files)


class Copied(Adapter):
    """Some of the model's parameters, trained in place of the frozen ones, which stay as they are."""

    format = "FULL_FINE_TUNING"

    def __init__(self, model: PreTrainedModel, settings: NoSettings, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        if len(self.seeds) != 1:
            raise ConfigError("a method that trains the model's own weights has one run in a pass")
        whole_weights(model, "training the model's own weights")
        self.settings = settings
        norms = {id(norm) for _, norm in find_norms(model)}
        self.names = {id(value): name for name, value in self.chosen(model)}
        values = dict(model.named_parameters())
        kinds = {id(value): module for module in model.modules() for value in module.parameters(recurse=False)}
        for name in self.names.values():
            free = name.endswith("bias") or id(kinds[id(values[name])]) in norms
            self.add(name, _begin_with(values[name].detach()), decay=not free)

    def chosen(self, model: PreTrainedModel) -> Iterable[tuple[str, nn.Parameter]]:
        """The parameters that are trained, by name."""
        yield from model.named_parameters()

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for module in self.model.modules():
            own = {
                key: self.names.get(id(value)) for key, value in module._parameters.items() if value is not None
            }
            if any(own.values()):
                yield module, self._forward(module, {key: name for key, name in own.items() if name})

    def _forward(self, module: nn.Module, own: dict[str, str]) -> Forward:
        # The family's own code runs on a shallow copy that has our values where the module has its parameters.
        twin, base = copy.copy(module), type(module).forward
        twin._parameters = {key: value for key, value in module._parameters.items() if key not in own}

        def forward(x: Tensor) -> Tensor:
            for key, name in own.items():
                setattr(twin, key, self.tensors[name][0].to(self.base_dtype))
            out: Tensor = base(twin, x)
            return out

        return forward

    def merged(self, run: int) -> dict[str, Tensor]:
        return {name: tensor[run].detach() for name, tensor in self.tensors.items()}

    def export(self, run: int) -> AdapterFiles:
        return peft_format.own_files(self.format, self.settings, self.state(run))

    def load_files(self, files: AdapterFiles) -> None:
        """Put the values of an exported adapter into run 0."""
        self.load_state(0, files.tensors)


class FullFineTuning(Copied):
    """All parameters of the model."""


class LastLayers(Copied):
    """The last blocks of the model and its final norm."""

    format = "LAST_LAYERS"

    def __init__(self, model: PreTrainedModel, settings: LastLayersSettings, seeds: Sequence[int]) -> None:
        self.count = settings.layers
        super().__init__(model, settings, seeds)  # type: ignore[arg-type]

    def chosen(self, model: PreTrainedModel) -> Iterable[tuple[str, nn.Parameter]]:
        depth = int(model.config.get_text_config().num_hidden_layers)
        if self.count > depth:
            raise ConfigError(f"the model has {depth} layers, not {self.count}; set layers lower")
        blocks = [
            (name, module)
            for name, module in model.named_modules()
            if isinstance(module, nn.ModuleList) and len(module) == depth
        ]
        if not blocks:
            raise ConfigError(
                f"the layers of {type(model).__name__} are not in one list, so the last are not known"
            )
        path, layers = blocks[0]
        final, norm = find_norms(model)[-1]
        for number in range(depth - self.count, depth):
            yield from layers[number].named_parameters(prefix=f"{path}.{number}")
        if not final.startswith(f"{path}."):
            yield from norm.named_parameters(prefix=final)


def _begin_with(value: Tensor) -> Initial:
    return lambda _: value.clone()
