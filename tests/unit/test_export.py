"""Exported adapters: Hugging Face PEFT loads them in a new process and gives the same logits; so do we."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from peftbench.engine.adapter import AdapterFiles
from peftbench.engine.model import LanguageModel
from peftbench.engine.pack import pack
from peftbench.methods import load_adapter
from peftbench.methods.specs import methods
from peftbench.testing import FAMILIES, tiny_model
from tests.oracle import SMALL, build, disturb, settings_of, some_samples

SAMPLES = some_samples(3, seed=41)

READER = """
import json, sys, warnings
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

warnings.simplefilter("ignore")
root, samples, jobs = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
found = {}
for family, method in jobs:
    base = AutoModelForCausalLM.from_pretrained(f"{root}/{family}", dtype=torch.float32)
    base.set_attn_implementation("eager" if family == "gemma2" else "sdpa")
    adapted = PeftModel.from_pretrained(base, f"{root}/{family}-{method}").eval()
    rows = []
    for prompt, answer in samples:
        ids = torch.tensor([prompt + answer[:-1]])
        with torch.no_grad():
            logits = adapted(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        rows.append(logits[-len(answer):])
    found[f"{family}-{method}"] = torch.cat(rows)
save_file(found, f"{root}/found.safetensors")
"""


def logits_of(model, adapter):
    stream = pack(
        [SAMPLES],
        embedded_tokens=adapter.embedded_tokens,
        first_position=adapter.virtual_tokens - adapter.embedded_tokens,
    )
    with torch.no_grad(), adapter.attached():
        return model.logits(stream, adapter)[0]


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[Path, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Every method on every family: our logits, and those of PEFT from the files in a new process."""
    root = tmp_path_factory.mktemp("adapters")
    ours, jobs = {}, []
    for family in FAMILIES:
        base = tiny_model(family)
        base.save_pretrained(root / family)
        model = LanguageModel(base)
        for method in SMALL:
            adapter = build(method, model.module)
            disturb(adapter)
            files = adapter.export(0)
            folder = root / f"{family}-{method}"
            folder.mkdir()
            (folder / "adapter_config.json").write_text(json.dumps(files.config))
            save_file(files.tensors, folder / "adapter_model.safetensors")
            ours[folder.name] = logits_of(model, adapter)
            jobs.append((family, method))
    samples = json.dumps([[list(sample.prompt), list(sample.answer)] for sample in SAMPLES])
    command = [sys.executable, "-c", READER, str(root), samples, json.dumps(jobs)]
    subprocess.run(command, check=True, timeout=600)
    return root, ours, load_file(root / "found.safetensors")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", SMALL)
def test_peft_loads_an_exported_adapter_in_a_new_process_with_the_same_logits(exported, family, method):
    _, ours, theirs = exported
    mine, other = ours[f"{family}-{method}"], theirs[f"{family}-{method}"]
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    base = LanguageModel(tiny_model(family))
    with torch.no_grad():
        plain = base.logits(pack([SAMPLES]), None)[0]
    assert float((plain - mine).abs().max()) > 1e-2, "the adapter must change something"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", SMALL)
def test_we_read_an_exported_adapter_back_bit_for_bit(exported, family, method):
    root, ours, _ = exported
    folder = root / f"{family}-{method}"
    config = json.loads((folder / "adapter_config.json").read_text())
    files = AdapterFiles(config, load_file(folder / "adapter_model.safetensors"))
    model = LanguageModel(tiny_model(family))
    adapter = load_adapter(methods.get(method), model.module, settings_of(method), files, seed=1)
    assert torch.equal(logits_of(model, adapter), ours[folder.name])


def test_the_reset_of_the_published_prompt_tuning_happens_when_it_is_loaded():
    model = LanguageModel(tiny_model())
    spec = methods.get("prompt_tuning_published")
    settings = settings_of("prompt_tuning")
    from peftbench.methods.soft_prompts import PromptTuningPublished

    trained = PromptTuningPublished(model.module, settings, [5])
    start = trained.tensors["embeddings"][0].detach().clone()
    vocabulary = model.module.get_input_embeddings().weight.to(torch.bfloat16).float()
    assert all((vocabulary == row).all(1).any() for row in start), "it begins with tokens of the vocabulary"
    disturb(trained)
    stored = trained.export(0)
    assert not torch.equal(stored.tensors["prompt_embeddings"], start), "what was trained is what is stored"
    loaded = load_adapter(spec, model.module, settings, stored, seed=5)
    assert torch.equal(loaded.tensors["embeddings"][0], start), "what is used is the untrained prompt"


def test_parameters_kept_for_use_are_fewer_where_an_encoder_made_them():
    model = LanguageModel(tiny_model())
    counts = {}
    for method in ("p_tuning", "p_tuning_mlp", "prefix_tuning", "prompt_tuning", "lora"):
        adapter = build(method, model.module)
        stored = sum(tensor.numel() for tensor in adapter.export(0).tensors.values())
        counts[method] = (adapter.trainable_params, stored)
    assert counts["p_tuning"][1] == counts["p_tuning_mlp"][1] == counts["prompt_tuning"][1] == 7 * 32
    assert counts["prefix_tuning"][1] == 7 * 3 * 2 * 16
    assert counts["lora"][0] == counts["lora"][1]
