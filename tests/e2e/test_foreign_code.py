"""Methods in files that do what they must not: nothing of it reaches another run, and each is told by name."""

import pytest
import torch

import peftbench
from peftbench.engine.base import load_base
from peftbench.engine.loading import choose_device
from peftbench.engine.untouched import untouched
from peftbench.errors import MethodError, PeftBenchError
from tests.own_methods import forgotten, text_of, write  # noqa: F401

RUN = {
    "model": "peftbench-tiny",
    "dataset": "sst2@mini",
    "seed": 1,
    "threads": 1,
    "device": "cpu",
    "data": {"train_rows": 30},
    "training": {"epochs": 1, "validations": 1, "learning_rate": 1e-2},
    "evaluation": {"test_rows": 8},
}
IN_BUILD, IN_FORWARD = "    targets = find", "        return base(x)"


def bad(tmp_path, name, before, code):
    tmp_path.mkdir(exist_ok=True)
    text = text_of(name)
    assert text.count(before) == 1
    return write(tmp_path, name, text=text.replace(before, f"{code}{before}"))


def lora_of(tmp_path, *files):
    """What LoRA gives after methods of these files, each of which must fail or be done."""
    said = []
    for number, file in enumerate(files):
        try:
            peftbench.run({**RUN, "method": str(file), "output": str(tmp_path / f"own{number}")})
        except PeftBenchError as error:
            said.append(str(error))
    output = str(tmp_path / f"lora{len(files)}")
    return peftbench.run({**RUN, "method": "lora", "output": output}).train.best_validation_loss, said


def test_a_method_that_changes_the_base_fails_and_harms_no_other_run(tmp_path):
    alone, _ = lora_of(tmp_path)
    files = [
        bad(
            tmp_path / "a",
            "halves",
            IN_BUILD,
            "    for each in model.parameters():\n        each.data.mul_(0.5)\n",
        ),
        bad(tmp_path / "b", "hooks", IN_BUILD, "    model.register_forward_hook(lambda *_: None)\n"),
        bad(tmp_path / "c", "shrinks", IN_FORWARD, "        OURS.data.mul_(0.999)\n"),
    ]
    third = files[2].read_text()
    files[2].write_text(
        third.replace(
            IN_BUILD, f"    global OURS\n    OURS = model.get_parameter('model.norm.weight')\n{IN_BUILD}"
        )
    )
    after, said = lora_of(tmp_path, *files)
    assert [each.split(",")[0].split(" changed the base model's own ")[0] for each in said] == [
        "method 'halves'", "method 'hooks'", "method 'shrinks'"
    ]  # fmt: skip
    assert "model.norm.weight" in said[2]
    assert after == alone


@pytest.mark.parametrize("when", ["looked at", "trained", "evaluated"])
def test_each_time_that_a_method_is_built_the_base_is_compared(tmp_path, when):
    number = ["looked at", "trained", "evaluated"].index(when) + 1
    code = (
        "    import peftbench\n"
        "    peftbench.built = getattr(peftbench, 'built', 0) + 1\n"
        f"    if peftbench.built == {number}:\n"
        "        model.get_parameter('model.norm.weight').data.mul_(0.5)\n"
    )
    file = bad(tmp_path, f"counts{number}", IN_BUILD, code)
    try:
        with pytest.raises(
            MethodError, match=f"method 'counts{number}' changed the base model's own model.norm.weight"
        ):
            peftbench.run({**RUN, "method": str(file), "output": str(tmp_path / "runs")})
        assert peftbench.built == number
    finally:
        del peftbench.built
    assert not list((tmp_path / "runs").rglob("result.json")), "no score is kept"


def test_what_a_method_sets_for_all_of_torch_is_put_back(tmp_path):
    alone, _ = lora_of(tmp_path)
    code = (
        "    import torch\n    torch.set_default_dtype(torch.float64)\n"
        "    torch.use_deterministic_algorithms(True)\n    torch.set_grad_enabled(False)\n"
    )
    after, said = lora_of(tmp_path, bad(tmp_path, "sets", IN_BUILD, code))
    assert said == []
    assert after == alone
    assert torch.get_default_dtype() == torch.float32
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("changed", ["weight", "buffer", "hook", "forward", "module", "gradient"])
def test_every_change_of_the_base_is_seen(changed):
    where = choose_device("cpu", "float32")
    base = load_base("peftbench-tiny", None, where)
    with untouched(base, "method 'quiet'"):
        base.model.module.get_submodule("model.norm")(torch.ones(2, 128))
    said = "method 'loud' changed the base model's own"
    with pytest.raises(MethodError, match=said), untouched(base, "method 'loud'"):
        change(base.model.module, changed)
    assert load_base("peftbench-tiny", None, where) is not base, "it is loaded anew"


def change(module, what):
    norm = module.get_submodule("model.norm")
    match what:
        case "weight":
            norm.weight.data[3] += 1e-3
        case "buffer":
            next(module.buffers()).mul_(2)
        case "hook":
            norm.register_forward_pre_hook(lambda *_: None)
        case "forward":
            norm.forward = lambda x: x
        case "module":
            module.model.norm = torch.nn.Identity()
        case "gradient":
            norm.weight.requires_grad_()
