"""A model of a family that is not among the named ones: a tiny Falcon without chat template and pad token, a tiny OPT."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from peftbench.engine.roles import find_targets, heads_of
from peftbench.errors import ConfigError
from peftbench.execute import predict, run
from peftbench.schema import Prompt
from peftbench.testing.models import tiny_tokenizer
from tests.own_files import put, rows

COMMON = {"vocab_size": 261, "bos_token_id": 1, "eos_token_id": 2, "hidden_size": 32, "num_hidden_layers": 2,
          "num_attention_heads": 4}  # fmt: skip
FALCON = {**COMMON, "alibi": False, "multi_query": True, "new_decoder_architecture": False}
OPT = {**COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 256, "pad_token_id": 0}


def saved(folder, kind, settings, *, end=True):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).save_pretrained(folder)
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.pad_token = None
    if not end:
        tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unusual")
    saved(folder / "falcon", "falcon", FALCON)
    saved(folder / "opt", "opt", OPT)
    put(folder, rows(12), rows(4, 100), max_new_tokens=3)
    return folder


def result_of(place, model, method):
    return run(
        {
            "model": str(place / model),
            "dataset": str(place / "tickets.yaml"),
            "method": method,
            "output": str(place / "runs"),
            "device": "cpu",
            "threads": 1,
            "training": {"epochs": 1, "validations": 1, "learning_rate": 1e-2},
        }
    )


def test_a_falcon_is_trained_by_modules_that_its_user_names(place):
    with pytest.raises(
        ConfigError, match=r"'key' .* matches no module of this falcon model; name roles"
    ) as caught:
        result_of(place, "falcon", "lora")
    assert "self_attention.query_key_value" in str(caught.value)
    assert "--set 'method.targets=[" in str(caught.value)
    named = {"name": "lora", "rank": 2, "targets": ["query_key_value", "dense_4h_to_h"]}
    result = result_of(place, "falcon", named)
    assert result.status == "done"
    assert result.evaluation.model.padded_because
    assert result.evaluation.model.chat_template is False
    # (32 + 48) x 2 for the fused projection of 4 queries, a key and a value of width 8; (128 + 32) x 2; two layers.
    assert result.train.trainable_params == 2 * (2 * (32 + 48) + 2 * (128 + 32))
    answers = predict(place / result.folder, [Prompt("", (("", "The screen."),))])
    assert len(answers) == 1


def test_a_prefix_has_the_heads_that_a_falcon_has(place):
    config = AutoConfig.for_model("falcon", **FALCON)
    assert heads_of(config).key_value_heads == 1
    assert heads_of(AutoConfig.for_model("falcon", **{**FALCON, "multi_query": False})).key_value_heads == 4
    modern = AutoConfig.for_model("falcon", **{**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2})
    assert heads_of(modern).key_value_heads == 2
    assert result_of(place, "falcon", {"name": "prefix_tuning", "virtual_tokens": 3}).status == "done"


def test_roles_of_an_opt_are_its_own_projections(place):
    model = AutoModelForCausalLM.from_pretrained(place / "opt")
    found = {role: [each.name for each in find_targets(model, [role])] for role in ("key", "output", "up", "down")}
    assert found["key"][0] == "model.decoder.layers.0.self_attn.k_proj"
    assert found["output"][0] == "model.decoder.layers.0.self_attn.out_proj"
    assert found["up"] == ["model.decoder.layers.0.fc1", "model.decoder.layers.1.fc1"]
    assert found["down"] == ["model.decoder.layers.0.fc2", "model.decoder.layers.1.fc2"]
    assert result_of(place, "opt", {"name": "lora", "rank": 2}).evaluation.model.padded_because is None


def test_a_method_that_cannot_compute_a_module_says_so(place):
    with pytest.raises(ConfigError, match="given more than its input"):
        result_of(place, "opt", "full")


def test_a_tokenizer_without_an_end_token_is_refused(place):
    saved(place / "endless", "falcon", FALCON, end=False)
    with pytest.raises(ConfigError, match="has no end token, so an answer could never end"):
        result_of(place, "endless", "base")
