"""Different methods and settings in one pass, and what happens when memory runs out."""

import pytest
import torch

from peftbench.engine.adapter import DishonestAdapter
from peftbench.engine.mixture import Mixture
from peftbench.engine.step import Batches, gradients
from peftbench.engine.train import Group, train
from peftbench.methods.native import LoRA
from peftbench.records import EngineConfig
from peftbench.testing import FAMILIES
from tests.oracle import SMALL, build, engine_model, float64_throughout, settings_of
from tests.unit.test_train import a_run, losses, settings, trained


@pytest.fixture(autouse=True)
def _float64():
    with float64_throughout():
        yield


WEIGHT_SIDE = [("lora", {"rank": 4}), ("ia3", {}), ("lora", {"rank": 2, "dropout": 0.3}), ("ln_tuning", {})]
SOFT = [
    ("prompt_tuning", {}),
    ("p_tuning", {"encoder_dropout": 0.3}),
    ("prompt_tuning", {}),
    ("p_tuning_mlp", {}),
]
PREFIX = [("prefix_tuning", {}), ("prefix_tuning", {"encoder_hidden": 5})]


def mixed(model, family, seeds):
    return Mixture(
        [build(name, model.module, [seed], **own) for (name, own), seed in zip(family, seeds, strict=True)]
    )


@pytest.mark.parametrize("family", [WEIGHT_SIDE, SOFT, PREFIX], ids=["weight-side", "soft", "prefix"])
def test_runs_of_different_methods_and_ranks_equal_the_same_runs_alone(family, tmp_path):
    """Other learning rates; one ends early, one fails, one goes on from a checkpoint; in float64 to 1e-10."""
    changes = [{}, {"epochs": 1}, {"learning_rate": 1e300}, {"learning_rate": 3e-3}][: len(family)]
    model = engine_model("llama")
    runs = [a_run(tmp_path / str(i), seed=3 + i, **own) for i, own in enumerate(changes)]
    together = train(model, mixed(model, family, range(3, 3 + len(runs))), runs)
    for number, ((name, own), outcome) in enumerate(zip(family, together, strict=True)):
        run = a_run(seed=3 + number, **changes[number])
        assert outcome.group == len(runs)
        if number == 2:
            assert outcome.failure is not None
            continue
        alone = train(model, build(name, model.module, [3 + number], **own), [run])[0]
        assert (alone.step, alone.best_step) == (outcome.step, outcome.best_step)
        torch.testing.assert_close(outcome.best, alone.best, rtol=1e-10, atol=1e-10)
        for ours, theirs in zip(losses(outcome), losses(alone), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-10)
    # A run of the group can go on alone from its checkpoint, which is that of the run alone.
    name, own = family[0]
    again = train(model, build(name, model.module, [3], **own), [a_run(tmp_path / "0", seed=3)])[0]
    assert again.resumed == 1
    assert torch.equal(again.best, together[0].best)


def test_methods_with_other_numbers_of_virtual_tokens_do_not_mix():
    module = engine_model("llama").module
    with pytest.raises(ValueError, match="same number of virtual tokens"):
        Mixture([build("lora", module), build("prompt_tuning", module)])


@pytest.mark.parametrize("method", SMALL)
@pytest.mark.parametrize("share", ["auto", "always", "never"])
def test_a_step_in_parts_and_a_step_with_checkpointing_are_the_same_step(method, share):
    """Dropout included: what a part or a second pass draws is what the whole draws."""
    model = engine_model("llama")
    run = a_run(seed=3)
    results = []
    for change in ({}, {"micro_batch_size": 1}, {"micro_batch_size": 3}, {"gradient_checkpointing": True}):
        engine = EngineConfig(shared_prefix=share, **change)
        results.append(train(model, build(method, model.module, [3], **settings(method)), [run], engine=engine)[0])
    assert [each.passes for each in results] == [1, 4, 2, 1]
    for other in results[1:]:
        torch.testing.assert_close(other.best, results[0].best, rtol=1e-9, atol=1e-10)


def test_checkpointing_really_computes_layers_again_and_leaves_the_model_as_it_was():
    model = engine_model("llama")
    calls = []
    model.module.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    group_of = lambda: Group(model, build("lora", model.module, [3]), [a_run()])  # noqa: E731
    group = group_of()
    with group.adapter.attached():
        group.update()
    once = sum(calls)
    train(
        model,
        build("lora", model.module, [3]),
        [a_run(epochs=1)],
        engine=EngineConfig(gradient_checkpointing=True),
    )
    assert once == 1
    assert sum(calls) == 1 + 2 * 5, "five steps, each layer twice; validation has no gradients"
    assert not any(module.training for module in model.module.modules())
    assert not any(getattr(module, "gradient_checkpointing", False) for module in model.module.modules())


class Memory:
    """A device with room for so many tokens of a pass."""

    def __init__(self, monkeypatch, tokens):
        from peftbench.engine.model import LanguageModel

        self.sizes = []
        real = LanguageModel.logits

        def logits(model, stream, adapter, **others):
            self.sizes.append(stream.token_ids.numel())
            if torch.is_grad_enabled() and stream.token_ids.numel() > tokens:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return real(model, stream, adapter, **others)

        monkeypatch.setattr(LanguageModel, "logits", logits)


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_out_of_memory_splits_the_step_with_the_same_result_and_says_so(method, monkeypatch):
    whole, _ = trained(method, a_run(), dtype=torch.float64)
    assert whole.passes == 1
    for tokens, passes in ((60, 2), (40, 4)):
        Memory(monkeypatch, tokens)
        parts, _ = trained(method, a_run(), dtype=torch.float64)
        assert parts.passes == passes
        assert sum("out of memory" in note for note in parts.notes) == passes // 2
        torch.testing.assert_close(parts.best, whole.best, rtol=1e-10, atol=1e-10)
        monkeypatch.undo()


def test_a_group_that_does_not_fit_is_trained_in_two(monkeypatch):
    runs = [a_run(seed=3), a_run(seed=4), a_run(seed=5)]
    alone = [trained("lora", run, dtype=torch.float64)[0] for run in runs]
    Memory(monkeypatch, 60)
    model = engine_model("llama")
    together = train(model, build("lora", model.module, [3, 4, 5], **settings("lora")), runs)
    assert all("wait for the others" in " ".join(outcome.notes) for outcome in together)
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.failure is None
        assert [p.step for p in ours.curve] == [p.step for p in theirs.curve]
        torch.testing.assert_close(ours.best, theirs.best, rtol=1e-10, atol=1e-10)


def test_a_run_that_does_not_fit_at_all_fails_with_the_remedy(monkeypatch):
    Memory(monkeypatch, 5)
    outcome, _ = trained("lora", a_run())
    assert outcome.failure is not None
    assert outcome.failure.reason == "out_of_memory"
    assert "gradient_checkpointing" in outcome.failure.message


class Liar(LoRA):
    def constant_over_batch(self):
        return True


def test_an_adapter_that_lies_about_its_prefix_is_found_in_debug_mode():
    model = engine_model("llama", torch.float32)
    settings = settings_of("lora", dropout=0.3, targets=("key", "value"))
    liar = Liar(model.module, settings, [3])
    assert train(model, liar, [a_run()])[0].failure is None, "without the check nobody notices"
    liar = Liar(model.module, settings, [3])
    with pytest.raises(DishonestAdapter, match="differs from one without"):
        train(model, liar, [a_run()], debug=True)
    liar = Liar(model.module, settings_of("lora", dropout=0.3), [3])
    with pytest.raises(DishonestAdapter, match="although constant_over_batch"):
        train(model, liar, [a_run()])


@pytest.mark.parametrize("method", SMALL)
def test_honest_adapters_pass_the_check_and_are_not_changed_by_it(method):
    model = engine_model("llama", torch.float32)
    plain, checked = (
        train(model, build(method, model.module, [3]), [a_run()], debug=debug)[0] for debug in (False, True)
    )
    assert torch.equal(plain.best, checked.best)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_several_runs_equal_each_run_alone_in_every_family(family):
    model = engine_model(family)
    runs = [a_run(seed=3, epochs=1), a_run(seed=4, epochs=1)]
    together = train(model, build("lora", model.module, [3, 4]), runs)
    for seed, run, ours in zip((3, 4), runs, together, strict=True):
        alone = train(model, build("lora", model.module, [seed]), [run])[0]
        torch.testing.assert_close(ours.best, alone.best, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("method", ["lora", "ia3", "ln_tuning"])
@pytest.mark.parametrize(("validations", "where"), [(5, "validation loss"), (1, "training loss")])
def test_a_run_that_breaks_in_the_first_row_leaves_the_others_alone(method, validations, where):
    """Rows of other lengths are padded; what stands in the padding must not come from the broken run."""
    model = engine_model("llama", torch.float32)
    broken = a_run(seed=3, learning_rate=1e38, max_grad_norm=1e38, validations=validations)
    outcomes = train(model, build(method, model.module, [3, 4, 5]), [broken, a_run(seed=4), a_run(seed=5)])
    assert [outcome.failure is not None for outcome in outcomes] == [True, False, False]
    assert where in outcomes[0].failure.message


def test_a_gradient_that_is_not_finite_ends_the_run(monkeypatch):
    from peftbench.engine.optimizer import AdamW

    real = AdamW.step
    monkeypatch.setattr(AdamW, "step", lambda self, *given: real(self, *given) * float("inf"))
    outcome, _ = trained("lora", a_run())
    assert outcome.failure is not None
    assert "gradient norm became inf at step 1" in outcome.failure.message


def test_runs_that_wait_for_memory_are_kept_when_the_training_is_stopped(tmp_path, monkeypatch):
    Memory(monkeypatch, 60)
    model = engine_model("llama")
    runs = [a_run(tmp_path / str(seed), seed=seed) for seed in (3, 4)]
    asked = []

    def stop():
        asked.append(1)
        return len(asked) == 4

    with pytest.raises(KeyboardInterrupt):
        train(model, build("lora", model.module, [3, 4], **settings("lora")), runs, stop=stop)
    assert all(list((tmp_path / str(seed)).glob("step-*")) for seed in (3, 4))


def test_validation_that_does_not_fit_splits_the_group(monkeypatch):
    from peftbench.engine import train as module

    real = module.validation_losses

    def small(model, adapter, rows, **others):
        if len(rows) > 1:
            raise RuntimeError("CUDA error: out of memory")
        return real(model, adapter, rows, **others)

    monkeypatch.setattr(module, "validation_losses", small)
    model = engine_model("llama")
    runs = [a_run(seed=3), a_run(seed=4)]
    together = train(model, build("ia3", model.module, [3, 4]), runs)
    monkeypatch.undo()
    for seed, run, outcome in zip((3, 4), runs, together, strict=True):
        alone = train(model, build("ia3", model.module, [seed]), [run])[0]
        assert [p.step for p in outcome.curve] == [p.step for p in alone.curve]
        torch.testing.assert_close(outcome.best, alone.best, rtol=1e-10, atol=1e-10)


def test_a_pass_that_breaks_off_in_the_last_layer_leaves_nothing_behind():
    from peftbench.engine.pack import pack
    from tests.oracle import some_samples

    model = engine_model("llama")
    mlp = model.module.model.layers[-1].mlp.down_proj
    expected = model.logits(pack([some_samples(3)]), None)
    handle = mlp.register_forward_pre_hook(
        lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory"))
    )
    with pytest.raises(torch.OutOfMemoryError):
        model.logits(pack([some_samples(3)]), None)
    handle.remove()
    assert model.keep((7, 8, 9), None) is not None
    assert torch.equal(model.logits(pack([some_samples(3)]), None), expected)


class Pulled(LoRA):
    """LoRA with a loss of its own, and a schedule that remembers its updates."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen = [0] * self.runs

    def penalty(self):
        return 3 * torch.stack(
            [tensor.sum(tuple(range(1, tensor.dim()))) for tensor in self.tensors.values()]
        ).sum(0)

    def updated(self, steps):
        self.seen = list(steps)

    def extra_state(self, run):
        return {"seen": torch.tensor(self.seen[run])}

    def load_extra_state(self, run, state):
        self.seen[run] = int(state["seen"])


def pulled(module, seed):
    return Pulled(module, settings_of("lora", rank=3), [seed])


@pytest.mark.parametrize("passes", [1, 2])
def test_a_penalty_counts_once_and_for_its_own_runs_alone(passes):
    """Its gradient is 3 for each value, alone, beside another method, and in a step of several passes."""
    model = engine_model("llama")
    rows = a_run().train[:4]

    def found(adapter):
        batches = Batches([rows] * adapter.runs, [(3, 0)] * adapter.runs, (), share=False)
        with adapter.attached():
            gradients(model, adapter, batches, passes)
        return [{name: each.grad for name, each in part.tensors.items()} for part in adapter.members()]

    plain = found(build("lora", model.module, [3], rank=3))[0]
    beside = found(build("ia3", model.module, [4]))[0]
    [alone] = found(pulled(model.module, 3))
    mixed_own, mixed_other = found(Mixture([pulled(model.module, 3), build("ia3", model.module, [4])]))
    for name, each in plain.items():
        torch.testing.assert_close(alone[name], each + 3)
        torch.testing.assert_close(mixed_own[name], each + 3)
    for name, each in beside.items():
        torch.testing.assert_close(mixed_other[name], each)


def test_a_schedule_in_one_pass_with_others_goes_on_where_it_was(tmp_path):
    model = engine_model("llama")
    runs = [a_run(tmp_path / str(i), seed=3 + i) for i in range(2)]
    made = Mixture([build("ia3", model.module, [3]), pulled(model.module, 4)])
    steps = iter(range(100))
    with pytest.raises(KeyboardInterrupt):
        train(model, made, runs, stop=lambda: next(steps) == 2)
    again = pulled(model.module, 4)
    seen = []
    again.updated = lambda steps: seen.append(again.seen[0])
    train(model, again, [runs[1]])
    assert seen[0] == made.parts[1].seen[0] > 0
