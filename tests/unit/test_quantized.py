"""Quantized bases against transformers with bitsandbytes, dense arithmetic, and their own predictions."""

import os
import subprocess
import sys

import pytest
import torch
from torch.nn.functional import linear
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from peftbench.efficiency.plan import predict
from peftbench.engine.loading import TINY, Where, choose_device, load_model, located
from peftbench.engine.quantized import QuantizedLinear, check_quantization, parameter_count, quantize
from peftbench.errors import ConfigError
from peftbench.schema import MethodChoice
from peftbench.testing import save_tiny_model, tiny_model

KINDS = ("nf4", "int8")
CPU = torch.device("cpu")


def quantized(kind, dtype=torch.float32, **changes):
    module = tiny_model(dtype=dtype, **changes)
    quantize(module, kind, CPU)
    return module


def projections(module):
    return {name: each for name, each in module.named_modules() if isinstance(each, QuantizedLinear)}


def test_nf4_is_that_of_qlora(tmp_path):
    """With double quantization; logits of the model as transformers loads and runs it. Rows are whole blocks."""
    folder = save_tiny_model(str(tmp_path), hidden_size=64, intermediate_size=128)
    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                  bnb_4bit_compute_dtype=torch.float32)  # fmt: skip
    theirs = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=settings, device_map={"": "cpu"}, dtype=torch.float32
    )
    dense, ours = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for _ in range(2))
    quantize(ours, "nf4", CPU)
    ids = torch.tensor([[3, 8, 5, 9, 7, 11, 20]])
    # As in training: without gradients, transformers computes in bfloat16 on a CPU.
    expected, found, plain = (model(input_ids=ids).logits for model in (theirs.train(), ours, dense))
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert (found - plain).abs().max() > 0.01


def test_int8_has_the_weights_of_llm_int8():
    theirs = AutoModelForCausalLM.from_pretrained(
        located(TINY), quantization_config=BitsAndBytesConfig(load_in_8bit=True), device_map={"": "cpu"}
    )
    ours = load_model(TINY, None, Where("cpu", "float32", "int8")).module
    for name, each in projections(ours).items():
        weight = theirs.get_submodule(name).weight
        assert torch.allclose(each.weight, weight.data.float() * weight.SCB[:, None] / 127, atol=1e-6), name
    assert len(projections(ours)) == 7 * ours.config.num_hidden_layers


@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_and_its_gradient_are_those_of_the_unpacked_weight(kind):
    layer = next(iter(projections(quantized(kind, torch.float64)).values()))
    x = torch.randn(2, 3, layer.in_features, dtype=torch.float64, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    out, expected = layer(x), linear(other, layer.weight, layer.bias)
    assert torch.equal(out, expected)
    out.sin().sum().backward()
    expected.sin().sum().backward()
    assert torch.allclose(x.grad, other.grad, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_error_of_a_weight_is_small(kind):
    dense = tiny_model()
    for name, each in projections(quantized(kind)).items():
        weight = dense.get_submodule(name).weight
        # Half a step of the code: of 127 in a row, of the widest gap of nf4 (0.3) in a block.
        most = weight.abs().amax() * (0.5 / 127 + 1e-3 if kind == "int8" else 0.2)
        assert 0 < (each.weight - weight).abs().max() <= most, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_model_keeps_its_precision_and_its_number_of_parameters(kind, dtype):
    module, dense = quantized(kind, dtype), tiny_model(dtype=dtype)
    assert module(input_ids=torch.tensor([[1, 2, 3]])).logits.dtype == dtype
    assert parameter_count(module) == parameter_count(dense) == sum(each.numel() for each in dense.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_predicted_without_weights_is_what_is_there(kind):
    here = load_model(TINY, None, Where("cpu", "float32", kind)).module
    found = predict(TINY, None, MethodChoice(name="lora"), batch=2, tokens=32, dtype="float32", engine="packed",
                    quantization=kind)  # fmt: skip
    plain = predict(TINY, None, MethodChoice(name="lora"), batch=2, tokens=32, dtype="float32", engine="packed")
    assert found.base_bytes == sum(each.nbytes for each in (*here.parameters(), *here.buffers()))
    assert found.base_params == plain.base_params
    assert found.base_bytes < plain.base_bytes
    assert found.peak_train_memory_bytes < plain.peak_train_memory_bytes
    assert found.base_forward_flops == plain.base_forward_flops
    assert (found.merged_forward_flops, plain.merged_forward_flops) == (None, plain.base_forward_flops)


def test_nf4_of_llama_3_8b_takes_the_memory_that_qlora_says():
    """0.127 bits a weight for the scales (QLoRA, section 3); embeddings and head stay in bfloat16."""
    found = predict("llama-3-8b", None, MethodChoice(name="base"), batch=1, tokens=32, dtype="bfloat16",
                    engine="packed", quantization="nf4")  # fmt: skip
    outside = 2 * 128256 * 4096 + 65 * 4096
    weights = (found.base_params - outside) * 4.127 / 8
    assert found.base_bytes == pytest.approx(weights + 2 * outside, rel=1e-3)


def test_where_it_cannot_be_is_a_sentence(monkeypatch):
    check_quantization(None, "mps", 8)
    for given, said in (
        (("nf4", "mps"), "not computed; use cuda or cpu"),
        (("int8", "cpu", 2), "held by one process"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_quantization(*given)
    with pytest.raises(ConfigError, match="has no linear projections that could be quantized"):
        quantize(tiny_model("gpt2"), "nf4", CPU)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"needs bitsandbytes, .*pip install 'peftbench\[quantized\]'"):
        choose_device("cpu", "float32", "nf4")


@pytest.mark.parametrize(
    "first",
    [
        "from peftbench.engine.quantized import check_quantization; check_quantization('nf4', 'cpu')",
        "import peftbench.methods.hf",
        "import peftbench.methods.hf_schedules",
        "import peftbench.testing; from peftbench.methods.specs import methods; "
        "peftbench.testing.broken_promises(methods.get('lora'))",
    ],
)
def test_no_code_is_fetched_from_a_hub(first, tmp_path):
    """bitsandbytes asks the package `kernels` for some when it is imported; it must not find it."""
    (tmp_path / "kernels.py").write_text("print('asked')\ndef get_kernel(*given, **more): print('fetched')\n")
    code = (
        f"{first}\nimport sys, kernels, bitsandbytes\nprint('bitsandbytes' in sys.modules, kernels.__file__ != '')"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.endswith("True True\n"), done.stderr
    assert "fetched" not in done.stdout
