"""The contract that every method keeps, as functions that say in words what is wrong.

Each check takes a method on a tiny model and raises `BrokenPromise`; `promises` names them all. Nothing is assumed
but what a `MethodSpec` claims.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import Tensor

from peftbench.engine.memory import recomputing
from peftbench.engine.pack import common_prefix, pack
from peftbench.engine.step import Batches, gradients
from peftbench.engine.train import train
from peftbench.errors import ConfigError, NeedsWeights
from peftbench.methods import build_adapter, load_adapter
from peftbench.testing.models import tiny_model
from peftbench.testing.trial import Trial, logits_of, toy_samples, with_weights


class BrokenPromise(AssertionError):
    """A method does not do what it says."""


def _require(kept: bool, sentence: str) -> None:
    if not kept:
        raise BrokenPromise(sentence)


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


def trains_some_parameters(trial: Trial) -> None:
    """Something is trained and not everything, unless it is a reference that trains the base itself."""
    base = sum(each.numel() for each in trial.model.module.parameters())
    adapter = trial.build()
    _require(adapter.trainable_params > 0, "it trains nothing")
    whole = trial.spec.category == "reference"
    _require(
        adapter.trainable_params < base or whole,
        f"it trains {adapter.trainable_params:,} parameters beside a model of {base:,}",
    )


def trains_in_float32(trial: Trial) -> None:
    """What is trained is float32 whatever the base's precision, with a leading axis of runs."""
    adapter = trial.build(trial.fresh_model(torch.bfloat16))
    wrong = {name for name, tensor in adapter.tensors.items() if tensor.dtype != torch.float32}
    _require(not wrong, f"trainable tensors must be float32, which {sorted(wrong)[:3]} are not")
    odd = {name for name, tensor in adapter.tensors.items() if tensor.shape[0] != adapter.runs}
    _require(not odd, f"tensors must have a leading axis of runs, which {sorted(odd)[:3]} have not")


def gradients_reach_every_tensor(trial: Trial) -> None:
    """Once values are off their start, the loss has a gradient in every tensor, and none in the base."""
    adapter = trial.moved()
    samples = toy_samples(8)
    stream = pack(
        [samples],
        embedded_tokens=adapter.embedded_tokens,
        first_position=adapter.virtual_tokens - adapter.embedded_tokens,
    )
    with adapter.attached():
        loss = trial.model.logits(stream, adapter).logsumexp(-1).sum()
        _require(loss.requires_grad, "no gradient reaches any of its tensors")
        loss.backward()  # type: ignore[no-untyped-call]
    unmoved = [name for name, each in adapter.tensors.items() if each.grad is None or not each.grad.any()]
    _require(not unmoved, f"no gradient reaches {unmoved[:3]}")
    asked = [name for name, each in trial.model.module.named_parameters() if each.requires_grad]
    _require(not asked, f"the base's {asked[:3]} would be trained")


def begins_as_the_base_if_it_says_so(trial: Trial) -> None:
    """A method that claims identity at the start gives the base's logits before the first step."""
    if not trial.spec.identity_at_start:
        return
    samples = toy_samples(4)
    apart = _distance(logits_of(trial.model, trial.build(), samples), logits_of(trial.model, None, samples))
    _require(apart < 1e-5, f"it says that it begins as the base model, and its logits differ by {apart:.1e}")


def changes_what_the_model_says(trial: Trial) -> None:
    """Once values are off their start, the logits are others than the base's."""
    samples = toy_samples(4)
    apart = _distance(logits_of(trial.model, trial.moved(), samples), logits_of(trial.model, None, samples))
    _require(
        apart > 1e-4, f"with its values changed the logits differ from the base's by no more than {apart:.1e}"
    )


def learns_a_toy_task(trial: Trial) -> None:
    """The loss falls on eight samples that are seen again and again."""
    _, outcome = trial.trained
    _require(outcome.failure is None, f"training failed: {outcome.failure and outcome.failure.message}")
    first, last = (outcome.curve[place].validation_loss or 0.0 for place in (0, -1))
    _require(last < first, f"the loss on a toy task went from {first:.3f} to {last:.3f}")


def leaves_the_base_alone(trial: Trial) -> None:
    """Building, training and detaching change no weight of the base and leave nothing behind."""
    _ = trial.trained
    changed = [
        name
        for name, value in trial.model.module.state_dict().items()
        if not torch.equal(value, trial.weights[name])
    ]
    _require(not changed, f"it changed the base's {changed[:3]}")
    left = [name for name, module in trial.model.module.named_modules() if "forward" in module.__dict__]
    _require(not left, f"it left forward functions on {left[:3]}")


def begins_by_its_seed(trial: Trial) -> None:
    """The same seed gives the same values, bit for bit, whatever was drawn before."""
    first = trial.build()
    torch.rand(7)
    second = trial.build()
    differing = [name for name, value in first.tensors.items() if not torch.equal(value, second.tensors[name])]
    _require(not differing, f"built twice with one seed, {differing[:3]} differ")


def resumes_exactly(trial: Trial) -> None:
    """A training that is stopped and goes on with a new adapter ends with the same bits."""
    whole, outcome = trial.trained
    with TemporaryDirectory() as folder:
        run, steps = trial.run(Path(folder)), iter(range(100))
        try:
            train(trial.model, trial.build(), [run], stop=lambda: next(steps) == 6)
        except KeyboardInterrupt:
            adapter = trial.build()
            resumed = train(trial.model, adapter, [run])[0]
        else:
            raise BrokenPromise("training did not hear that it was to stop")
    _require(resumed.resumed == 1, "it did not go on from its checkpoint")
    differing = [name for name, value in whole.tensors.items() if not torch.equal(value, adapter.tensors[name])]
    _require(not differing, f"after a stop {differing[:3]} end with other values")
    _require(
        [point.validation_loss for point in resumed.curve] == [point.validation_loss for point in outcome.curve],
        "after a stop the validation losses are others",
    )


def keeps_what_was_validated(trial: Trial) -> None:
    """What a schedule remembers changes no logits: weights are of the best validation, memory of the last step."""
    adapter, _ = trial.trained
    fresh = trial.build()
    if not adapter.extra_state(0):
        return
    samples = toy_samples(4)
    fresh.load_state(0, adapter.state(0))
    apart = _distance(logits_of(trial.model, fresh, samples), logits_of(trial.model, adapter.select([0]), samples))
    _require(
        apart < 1e-5, f"with the memory of its schedule put back to the start the logits differ by {apart:.1e}"
    )


def is_read_back(trial: Trial) -> None:
    """An exported adapter that is loaded gives the logits of the one that was trained."""
    adapter, _ = trial.trained
    samples = toy_samples(4, seed=3)
    loaded = load_adapter(trial.spec, trial.model.module, trial.settings, adapter.export(0), 1)
    apart = _distance(
        logits_of(trial.model, adapter.deployed(0), samples), logits_of(trial.model, loaded, samples)
    )
    _require(apart < 1e-5, f"loaded from its files it gives logits that differ by {apart:.1e}")


def answers_alike_in_any_batch(trial: Trial) -> None:
    """A sample alone, among others in a stream, and padded beside others has the same logits."""
    adapter = trial.moved()
    samples = toy_samples(4)
    together = logits_of(trial.model, adapter, samples)
    alone = torch.cat([logits_of(trial.model, adapter, [sample]) for sample in samples])
    apart = _distance(together, alone)
    _require(apart < 1e-4, f"a sample's logits differ by {apart:.1e} when others are in the stream")
    padded = trial.padded()
    apart = _distance(together, logits_of(padded, trial.moved(padded), samples))
    _require(apart < 1e-4, f"on the padded path the logits differ by {apart:.1e}")


def merges_if_it_says_so(trial: Trial) -> None:
    """A method that claims to be mergeable gives the same logits from the base with merged weights."""
    if not trial.spec.mergeable:
        return
    adapter = trial.moved()
    samples = toy_samples(4)
    apart = _distance(logits_of(with_weights(trial.fresh_model(), adapter.merged(0)), None, samples),
                      logits_of(trial.model, adapter, samples))  # fmt: skip
    _require(apart < 1e-4, f"merged into the base it gives logits that differ by {apart:.1e}")


def trains_runs_together_if_it_says_so(trial: Trial) -> None:
    """Two runs in one pass are each what they are alone; a method that has one run in a pass refuses two."""
    if not trial.spec.fuses:
        try:
            trial.build(seeds=(1, 2))
        except ConfigError:
            return
        raise BrokenPromise("it says that it has one run in a pass, and takes two")
    samples = toy_samples(4)
    adapter = trial.moved(seeds=(1, 2))
    stream = pack(
        [samples] * 2,
        share=False,
        embedded_tokens=adapter.embedded_tokens,
        first_position=adapter.virtual_tokens - adapter.embedded_tokens,
    )
    with torch.no_grad(), adapter.attached():
        together = trial.model.logits(stream, adapter)
    for run in range(2):
        apart = _distance(together[run], logits_of(trial.model, adapter.select([run]), samples))
        _require(apart < 1e-4, f"run {run} differs by {apart:.1e} when another is in the pass")


def one_pass_or_several_learn_the_same(trial: Trial) -> None:
    """A step in two passes, with its beginning shared or with checkpointing has the gradients of a plain one."""
    adapter = trial.moved()
    if not adapter.constant_over_batch():
        return
    samples = toy_samples(4)

    def found(passes: int = 1, share: bool = False, again: bool = False) -> dict[str, Tensor]:
        for tensor in adapter.tensors.values():
            tensor.grad = None
        shared = common_prefix(samples) if share else ()
        with recomputing(trial.model.module, on=again), adapter.attached():
            gradients(trial.model, adapter, Batches([samples], [(1, 0)], shared, share), passes)
        return {name: tensor.grad for name, tensor in adapter.tensors.items() if tensor.grad is not None}

    plain = found()
    scale = max(float(each.abs().max()) for each in plain.values())
    ways = {
        "in two passes": found(passes=2),
        "with its beginning shared": found(share=True),
        "with gradient checkpointing": found(again=True),
    }
    for what, others in ways.items():
        apart = max(_distance(each, plain[name]) for name, each in others.items()) / scale
        _require(apart < 1e-3, f"a step {what} has gradients that differ by {apart:.1e}")


def peft_has_its_format(trial: Trial) -> bool:
    """Whether Hugging Face PEFT is installed and has the format of the exported files."""
    try:
        from peftbench.methods.peft_library import peft
    except ModuleNotFoundError:
        return False
    return trial.trained[0].export(0).config["peft_type"] in peft.PeftType.__members__


def peft_reads_it(trial: Trial) -> None:
    """`PeftModel.from_pretrained` gives the same logits from the exported files, where PEFT has the format."""
    if not peft_has_its_format(trial):
        return
    from peftbench.methods.peft_library import peft

    adapter, _ = trial.trained
    files = adapter.export(0)
    base = tiny_model(num_hidden_layers=2)
    samples = toy_samples(3, seed=3)
    with TemporaryDirectory() as folder:
        (Path(folder) / "adapter_config.json").write_text(json.dumps(files.config))
        save_file(files.tensors, Path(folder) / "adapter_model.safetensors")
        loaded = peft.PeftModel.from_pretrained(base, folder).eval()
    task = {"task_ids": torch.zeros(1, dtype=torch.long)} if files.config["peft_type"] == "POLY" else {}
    theirs = []
    for sample in samples:
        ids = torch.tensor([[*sample.prompt, *sample.answer[:-1]]])
        with torch.no_grad():
            logits = loaded(input_ids=ids, attention_mask=torch.ones_like(ids), **task).logits[0]
        theirs.append(logits[-len(sample.answer) :])
    apart = _distance(logits_of(trial.model, adapter.select([0]), samples), torch.cat(theirs))
    _require(apart < 1e-4, f"PEFT reads its files and gives logits that differ by {apart:.1e}")


def counts_by_its_formula(trial: Trial) -> None:
    """A method that states the formula of its trainable parameters trains so many."""
    if trial.spec.parameters is None:
        return
    config, found = trial.model.module.config, trial.build().trainable_params
    said = trial.spec.parameters(config, trial.settings)
    _require(said == found, f"its formula gives {said:,} parameters, and it trains {found:,}")


def counts_without_weights(trial: Trial) -> None:
    """On a model without weights it has the parameters that it has on one with weights, unless it needs them."""
    with torch.device("meta"):
        module = tiny_model(num_hidden_layers=2)
    try:
        counted = build_adapter(trial.spec, module, trial.settings, (1,)).trainable_params
    except NeedsWeights:
        return
    found = trial.build().trainable_params
    _require(counted == found, f"without weights it has {counted:,} parameters, with weights {found:,}")
