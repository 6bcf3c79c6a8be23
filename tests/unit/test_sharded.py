"""A model in shares over two processes against one that holds it alone, with each method, in float64."""

import pytest
import torch
from torch.distributed.tensor import DTensor

from peftbench.engine.base import load_base
from peftbench.engine.generate import generate
from peftbench.engine.loading import Where, load_model
from peftbench.engine.messages import Call, arguments, arguments_of, described, read, read_arguments, write
from peftbench.engine.mixture import Mixture
from peftbench.engine.padded import PaddedModel
from peftbench.engine.processes import check_processes, let_go
from peftbench.engine.ranks import Ranks
from peftbench.engine.sharded import load_sharded, load_share, shard, weight_bytes
from peftbench.engine.step import Batches, gradients
from peftbench.engine.train import train
from peftbench.errors import ConfigError, ProcessEnded, UnknownName
from peftbench.follower import FUNCTIONS, adapter_of, function_of
from peftbench.methods import build_adapter, load_adapter
from peftbench.methods.native import LoRA
from peftbench.methods.specs import methods
from peftbench.records import EngineConfig
from peftbench.testing import save_tiny_model, tiny_model
from tests.oracle import SIX, build, settings_of, some_samples
from tests.unit.test_padded import odd_model
from tests.unit.test_train import a_run, losses, settings

WIDE = Where("cpu", "float64")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """GPT-2 computes in the precision of its weights throughout; its embeddings are its head."""
    return save_tiny_model(str(tmp_path_factory.mktemp("sharded") / "gpt2"), "gpt2")


@pytest.fixture(scope="module")
def alone(folder):
    return load_model(folder, None, WIDE)


@pytest.fixture(scope="module")
def sharded(folder):
    """The model and its two processes, which are started once."""
    yield load_sharded(folder, None, WIDE, 2)
    let_go()


def again(sharded, folder, dtype="float64"):
    """Another model in shares over the processes that are there."""
    return sharded.ranks.load(load_share, str(folder), str(folder), Where("cpu", dtype), 1)


def trained(model, adapter, runs, **engine):
    """What the runs became, the last values of all of them, and answers of the first."""
    outcomes = train(model, adapter, runs, engine=EngineConfig(**engine))
    values = torch.cat([tensor.detach().flatten() for tensor in adapter.tensors.values()])
    deployed = adapter.deployed(0)
    prompts = [sample.prompt for sample in some_samples(5, seed=8)]
    with deployed.attached():
        answers = generate(model, deployed, prompts, max_new_tokens=5, stop_ids=frozenset({7}), batch_size=4)
    return outcomes, values, answers


def assert_same(found, wanted):
    torch.testing.assert_close(found[1], wanted[1], rtol=0, atol=1e-10)
    assert found[2] == wanted[2]
    for ours, theirs in zip(found[0], wanted[0], strict=True):
        for one, other in zip(losses(ours), losses(theirs), strict=True):
            assert one == pytest.approx(other, rel=1e-9)


def test_each_process_keeps_its_part_of_every_matrix(sharded, alone):
    (whole,) = weight_bytes(alone)
    parts = weight_bytes(sharded)
    vectors = sum(each.numel() * 8 for each in alone.module.parameters() if each.dim() < 2)
    assert len(parts) == 2
    assert sum(parts) == whole + vectors
    assert max(parts) < 0.52 * whole
    own = dict(sharded.module.named_parameters())
    for name, each in alone.module.named_parameters():
        assert isinstance(own[name], DTensor) == (each.dim() > 1)
        if each.dim() > 1:
            assert own[name].to_local().numel() < each.numel()
            assert torch.equal(own[name].to_local(), each[: len(own[name].to_local())])


@pytest.mark.parametrize("method", SIX)
def test_two_processes_train_and_answer_as_one(method, sharded, alone):
    """Dropout included; the last batch of an epoch has three samples for two processes."""
    runs = [a_run(epochs=1)]
    found, wanted = (
        trained(model, build(method, model.module, [3], **settings(method)), runs) for model in (sharded, alone)
    )
    assert_same(found, wanted)
    assert all(isinstance(each, DTensor) for each in sharded.module.parameters() if each.dim() > 1)


@pytest.mark.parametrize(
    "engine",
    [{"micro_batch_size": 1}, {"gradient_checkpointing": True}, {"shared_prefix": "never"}],
    ids=str,
)
def test_engine_settings_on_two_processes(engine, sharded, alone):
    found, wanted = (
        trained(model, build("lora", model.module, [3]), [a_run(epochs=1)], **engine) for model in (sharded, alone)
    )
    assert_same(found, wanted)
    assert found[0][0].passes == (2 if "micro_batch_size" in engine else 1)


def test_a_batch_of_one_leaves_a_process_idle(sharded, alone):
    found, wanted = (
        trained(model, build("prefix_tuning", model.module, [3]), [a_run(epochs=1, batch_size=1)])
        for model in (sharded, alone)
    )
    assert_same(found, wanted)


def test_two_runs_in_one_pass_over_two_processes(sharded, alone):
    runs = [a_run(epochs=1), a_run(epochs=2, seed=4)]
    found, wanted = (trained(model, build("ia3", model.module, [3, 4]), runs) for model in (sharded, alone))
    assert_same(found, wanted)
    assert [each.group for each in found[0]] == [2, 2]


def test_two_methods_in_one_pass_over_two_processes(sharded, alone):
    """One ends before the other, which then goes on without it."""
    runs = [a_run(epochs=1), a_run(epochs=2, seed=4)]
    found, wanted = (
        train(model, Mixture([build("lora", model.module, [3]), build("ln_tuning", model.module, [4])]), runs)
        for model in (sharded, alone)
    )
    for ours, theirs in zip(found, wanted, strict=True):
        for one, other in zip(losses(ours), losses(theirs), strict=True):
            assert one == pytest.approx(other, rel=1e-9)
        torch.testing.assert_close(ours.best, theirs.best, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", ["p_tuning", "prefix_tuning", "prompt_tuning_published"])
def test_a_stored_adapter_answers_over_two_processes(method, sharded, alone):
    files = build(method, alone.module, [3], virtual_tokens=7).export(0)
    answers = []
    for model in (sharded, alone):
        loaded = load_adapter(methods.get(method), model.module, settings_of(method, virtual_tokens=7), files, 3)
        with loaded.attached():
            prompts = [sample.prompt for sample in some_samples(3)]
            answers.append(generate(model, loaded, prompts, max_new_tokens=4, stop_ids=frozenset(), batch_size=2))
    assert answers[0] == answers[1]


def test_a_stopped_training_goes_on_with_one_process(tmp_path, sharded, alone):
    calls = iter(range(100))
    run = a_run(tmp_path, epochs=1)
    with pytest.raises(KeyboardInterrupt):
        train(sharded, build("lora", sharded.module, [3]), [run], stop=lambda: next(calls) == 2)
    found = trained(alone, build("lora", alone.module, [3]), [run])
    assert found[0][0].resumed == 1
    assert_same(found, trained(alone, build("lora", alone.module, [3]), [a_run(epochs=1)]))


def test_predictions_in_float32_with_a_head_of_its_own(tmp_path, sharded):
    folder = save_tiny_model(str(tmp_path), "llama")
    model, whole = again(sharded, folder, "float32"), load_model(folder, None, Where("cpu", "float32"))
    assert max(weight_bytes(model)) < 0.52 * weight_bytes(whole)[0]
    for method in ("prompt_tuning", "ln_tuning"):
        found, wanted = (
            trained(each, build(method, each.module, [3]), [a_run(epochs=1)]) for each in (model, whole)
        )
        torch.testing.assert_close(found[1], wanted[1], rtol=1e-4, atol=1e-4)
        assert found[2] == wanted[2]


def test_a_padded_model_in_shares(tmp_path, sharded):
    odd_model("mamba").save_pretrained(tmp_path)
    model, whole = again(sharded, tmp_path), load_model(str(tmp_path), None, WIDE)
    assert isinstance(model, PaddedModel)
    assert max(weight_bytes(model)) < 0.6 * weight_bytes(whole)[0]
    found, wanted = (
        trained(each, build("lora", each.module, [3], targets=("in_proj",)), [a_run(epochs=1)])
        for each in (model, whole)
    )
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-5, atol=1e-6)  # its norms compute in float32
    assert found[2] == wanted[2]


def test_a_process_ends_with_its_leader_and_the_leader_says_so(sharded):
    """A pipe that closes is all that a follower sees of a leader that was killed."""
    (follower,) = sharded.ranks.followers
    follower.process.stdin.close()
    assert follower.process.wait(10) == 1
    with pytest.raises(ProcessEnded, match="process 1 of 2 ended"):
        weight_bytes(sharded)
    with pytest.raises(ProcessEnded, match="load it again"):
        weight_bytes(sharded)


def test_a_method_that_the_others_do_not_know_ends_with_a_sentence(folder):
    spec = methods.get("ia3").model_copy(update={"name": "known_here"})
    model = load_sharded(folder, None, WIDE, 2)
    adapter = build_adapter(spec, model.module, settings_of("ia3"), [3])
    with pytest.raises(ProcessEnded, match=r"process 1 of 2 ended \(unknown method 'known_here'"):
        train(model, adapter, [a_run(epochs=1)])


def test_a_model_whose_files_name_their_weights_otherwise(tmp_path):
    folder = save_odd(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be sharded: its files hold no weights under the name model\."):
        load_base(folder, None, Where("cpu", "float32"), 2)
    assert load_base(folder, None, Where("cpu", "float32"), 1).model.ranks is None


def save_odd(folder):
    """Experts lie in the files one by one and in the model all in one tensor."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from peftbench.testing import FAMILIES, tiny_tokenizer

    config = AutoConfig.for_model("mixtral", **FAMILIES["llama"], num_local_experts=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def test_what_cannot_be_sharded_is_refused():
    mixed = tiny_model("llama")
    mixed.lm_head.to(torch.float64)
    with pytest.raises(ConfigError, match="LlamaForCausalLM cannot be sharded: it mixes precisions"):
        shard(mixed, None)
    other = tiny_model("llama")
    other.config.num_hidden_layers = 5
    with pytest.raises(ConfigError, match=r"its layers are not in one list; run it with engine\.processes=1"):
        shard(other, None)


def lora_part(module, **changes):
    (part,), _ = described(build("lora", module, [3]))
    return part.model_copy(update=changes)


def test_a_message_builds_only_what_the_tables_hold():
    with pytest.raises(
        ConfigError, match="names the function 'os.system', which is none of gather_embeddings, gen"
    ):
        function_of("os.system")
    call, tensors = read(write(Call(function="gradients", arguments="{}"), {}))
    assert (call.function, call.adapter, tensors) == ("gradients", (), {})
    unreadable = (b"", b"\x80\x04cos\nsystem\n", (2).to_bytes(8, "little") + b"{}")
    for message in unreadable:
        with pytest.raises(ConfigError, match="a message from process 0 cannot be read"):
            read(message)
    for text in ('{"max_tokens": "1", "rows": []}', '{"max_tokens": 1, "rows": [], "observer": 1}', "{}", "1"):
        with pytest.raises(ConfigError, match="a message from process 0 cannot be read"):
            read_arguments(function_of("validation_losses"), text)
    for function in FUNCTIONS.values():
        assert not {"model", "adapter", "ranks", "progress"} & arguments_of(function).model_fields.keys()


def test_arguments_arrive_as_they_were():
    samples = some_samples(3)
    batches = Batches([samples[:2], samples[2:]], [(1, 4), (2, 4)], samples[0].prompt[:5], share=True)
    found = read_arguments(gradients, arguments(gradients, None, None, batches, 2))
    assert found == {"batches": batches, "passes": 2}
    prompts = [sample.prompt for sample in samples]
    told = {"max_new_tokens": 3, "stop_ids": frozenset({7}), "batch_size": 2}
    found = read_arguments(generate, arguments(generate, None, None, prompts, **told, progress=print))
    assert found == {"prompts": prompts, "shared": [], **told}
    where = Where("cpu", "float32")
    found = read_arguments(load_share, arguments(load_share, None, "a", "b", where, 1))
    assert found == {"path": "a", "folder": "b", "where": where, "threads": 1}


def test_an_adapter_that_is_described_wrongly_is_refused():
    module = tiny_model("gpt2")
    assert adapter_of([lora_part(module)], {}, module).seeds == (3,)
    with pytest.raises(UnknownName, match="unknown method 'lor'"):
        adapter_of([lora_part(module, method="lor")], {}, module)
    with pytest.raises(ConfigError, match="a message from process 0 cannot be read at rnk"):
        adapter_of([lora_part(module, settings='{"rnk": 4}')], {}, module)
    with pytest.raises(ConfigError, match="method 'lora' makes other tensors from the same settings and seeds"):
        adapter_of([lora_part(module, seeds=(3, 4))], {}, module)
    own = LoRA(module, settings_of("lora"), [3])
    with pytest.raises(
        ConfigError, match="an adapter of class LoRA cannot be made by other processes; make it by"
    ):
        described(own)


@pytest.mark.parametrize("method", [*SIX, "ia3_published", "prompt_tuning_published", "p_tuning_mlp"])
def test_an_adapter_is_made_again_however_it_came_to_be(method):
    module = tiny_model("gpt2")
    adapter = build(method, module, [3, 4])
    files = adapter.export(1)
    settings = settings_of(method)
    for each in (
        adapter,
        adapter.select([1]),
        adapter.deployed(1),
        load_adapter(methods.get(method), module, settings, files, 4),
        Mixture([build(method, module, [5]), adapter]),
    ):
        parts, files_of = described(each)
        call, tensors = read(write(Call(function="gradients", arguments="{}", adapter=parts), files_of))
        made = adapter_of(call.adapter, tensors, module)
        assert type(made) is type(each)
        assert made.seeds == each.seeds
        assert described(made)[0] == parts


def test_memory_that_runs_out_ends_all_with_what_to_do(monkeypatch):
    ranks = Ranks(0, 2)
    monkeypatch.setattr("peftbench.engine.ranks.broadcast", lambda _: None)

    def too_large():
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ProcessEnded, match=r"process 0 of 2 ran out of memory.*set engine\.micro_batch_size"):
        ranks._together(b"", too_large)
    assert ranks.ended


def test_more_processes_than_there_are_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="2 processes were asked for but torch sees 1 CUDA devices"):
        check_processes(2, "cuda")
    with pytest.raises(ConfigError, match=r"2 processes cannot share device 'cuda:0'"):
        check_processes(2, "cuda:0")
    assert check_processes(None, "cuda") == 1
    assert check_processes(2, "cpu") == 2
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": 0, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))
    assert check_processes(None, "cuda") == 4
    with pytest.raises(ConfigError, match=r"engine\.processes is 2 but torchrun started 4"):
        check_processes(2, "cuda")
