"""The contract finds what is wrong with a method: each of these breaks one promise on purpose."""

import pytest
import torch

from peftbench.methods.native import LoRA
from peftbench.methods.specs import LoRASettings, methods
from peftbench.testing import broken_promises

SETTINGS = LoRASettings(rank=4, alpha=8, dropout=0.0)


class Silent(LoRA):
    """One factor has no gradient."""

    def _forward(self, module, targets):
        self.tensors = {name: each.detach() if ".A" in name else each for name, each in self.tensors.items()}
        return super()._forward(module, targets)


class Rough(LoRA):
    """Half precision."""

    def __init__(self, model, settings, seeds):
        super().__init__(model, settings, seeds)
        self.tensors = {name: each.detach().bfloat16().requires_grad_() for name, each in self.tensors.items()}


class Loud(LoRA):
    """Does not begin as the base."""

    def __init__(self, model, settings, seeds):
        super().__init__(model, settings, seeds)
        with torch.no_grad():
            for tensor in self.tensors.values():
                tensor.add_(0.1)


class Forgetful(LoRA):
    """Exports its start."""

    def export(self, run):
        return LoRA(self.model, self.settings, [self.seeds[run]]).export(0)


class Unseeded(LoRA):
    """Draws from the global stream."""

    def __init__(self, model, settings, seeds):
        super().__init__(model, settings, seeds)
        with torch.no_grad():
            for name, tensor in self.tensors.items():
                if ".A" in name:
                    tensor.add_(torch.rand(()))


class Sociable(LoRA):
    """A token's output depends on what else is in the stream."""

    def _forward(self, module, targets):
        plain = super()._forward(module, targets)
        return lambda x: plain(x) + 0.1 * x.mean() * self.tensors[f"{targets[0].key}.A"].sum()


class Meddling(LoRA):
    """Changes a weight of the base."""

    def __init__(self, model, settings, seeds):
        super().__init__(model, settings, seeds)
        with torch.no_grad():
            self.targets[0].module.weight.mul_(0.9)


class Mixed(LoRA):
    """A run sees the values of another."""

    def _forward(self, module, targets):
        plain = super()._forward(module, targets)
        return lambda x: (
            plain(x) + self.tensors[f"{targets[0].key}.A"].sum() - self.tensors[f"{targets[0].key}.A"][:1].sum()
        )


class Unmergeable(LoRA):
    """Not linear, and says that it can be merged."""

    def _forward(self, module, targets):
        plain = super()._forward(module, targets)
        return lambda x: (
            plain(x) + self.tensors[f"{targets[0].key}.A"].sum() * 0.1 * x.square().mean(-1, keepdim=True)
        )


class Remembering(LoRA):
    """Training depends on how often it was asked, which no checkpoint holds."""

    def begin(self, model, runs):
        self.count = 0

    def updated(self, steps):
        self.count += 1
        with torch.no_grad():
            for tensor in self.tensors.values():
                tensor.mul_(1 + 1e-3 * self.count)


class Idle(LoRA):
    """Acts on nothing."""

    def forwards(self):
        return iter(())


BROKEN = {
    Silent: "gradients_reach_every_tensor",
    Rough: "trains_in_float32",
    Loud: "begins_as_the_base_if_it_says_so",
    Forgetful: "peft_reads_it",
    Unseeded: "begins_by_its_seed",
    Sociable: "answers_alike_in_any_batch",
    Meddling: "leaves_the_base_alone",
    Mixed: "trains_runs_together_if_it_says_so",
    Unmergeable: "merges_if_it_says_so",
    Remembering: "resumes_exactly",
    Idle: "changes_what_the_model_says",
}


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_a_promise_that_is_broken_is_named(kind):
    spec = methods.get("lora").model_copy(update={"build": f"{__name__}:{kind.__name__}"})
    found = broken_promises(spec, SETTINGS)
    assert BROKEN[kind] in found, found
    assert all(sentence and "\n" not in sentence for sentence in found.values())


def test_a_method_that_keeps_its_promises_has_nothing_said_against_it():
    assert broken_promises(methods.get("lora"), SETTINGS) == {}
