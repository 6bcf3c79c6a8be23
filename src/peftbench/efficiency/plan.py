"""What a method will cost on a model, from the model's dimensions alone: no weights, no device.

The passes of `passes` run on tensors without data while `Trace` counts. `Prediction` says what came of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from transformers import PreTrainedModel

from peftbench.efficiency.cost import ANSWER_TOKENS, Engine, Kernels, Prediction, Work
from peftbench.efficiency.kernels import GRANULE_BYTES, weightless_kernels
from peftbench.efficiency.models import config_of
from peftbench.efficiency.passes import Answering, Load, Training, check, stock_attention, stock_forward
from peftbench.efficiency.trace import Trace
from peftbench.engine.adapter import Adapter
from peftbench.engine.loading import DTYPES, explained, weightless
from peftbench.engine.probe import strange_layers
from peftbench.engine.quantized import parameter_count, quantize
from peftbench.errors import ConfigError, PeftBenchError, first_line
from peftbench.methods import build_adapter
from peftbench.methods.plugins import spec_of
from peftbench.methods.specs import check_base
from peftbench.records import EvaluationConfig
from peftbench.schema import MethodChoice, MethodSpec, Quantization

INPUT_TOKENS = 512
"""Length of the input whose FLOPs are stated, as in the paper."""
ANSWERING_BATCH = EvaluationConfig().batch_size
"""Prompts that an evaluation answers at a time."""


def predict(
    model: str,
    revision: str | None,
    method: MethodChoice,
    *,
    batch: int,
    tokens: int,
    dtype: str,
    engine: Engine,
    quantization: Quantization | None = None,
    gradient_checkpointing: bool = False,
    answer_tokens: int = ANSWER_TOKENS,
    shared_tokens: int = 0,
    kernels: Kernels = "fused",
) -> Prediction:
    """The cost of `method` on `model`, trained on `batch` samples of `tokens` tokens a step.

    `model` is a folder, a `config.json`, a hub id with its commit as `revision`, or a name of `models`. Of each
    sample the last `answer_tokens` are learned and the first `shared_tokens` stand in all samples; virtual tokens
    come on top. `dtype` is the precision of the frozen base, `quantization` how its
    projections are kept. Raises `ConfigError` for what cannot be: a model
    that transformers does not know, a method that needs values, a packed engine for a model that has none.
    """
    load = Load(batch, tokens, min(answer_tokens, tokens - 1), shared_tokens, gradient_checkpointing)
    check(load, dtype)
    spec = spec_of(method)
    settings = method.settings_for(spec)
    check_base(spec, quantization)
    module, estimated = _module(model, revision, dtype, "padded", quantization)
    base_params = parameter_count(module)
    base_work = _base_forward(model, revision, dtype, quantization)
    known = f"{base_params:,} parameters and {base_work.matmul_flops / 1e12:.3f} TFLOPs for {INPUT_TOKENS} tokens"
    with _without_data(spec, model, known), weightless_kernels(kernels):
        adapter = _built(spec, module, settings)
        deployed = adapter.deployed(0) if adapter else None
        stored = list(adapter.export(0).tensors.values()) if adapter else []
        forward = _forward(module, deployed) if deployed else base_work
        running, _ = _module(model, revision, dtype, engine, quantization)
        if engine == "packed" and (strange := strange_layers(running)):
            raise ConfigError(
                f"model {model!r} cannot be packed (it has {', '.join(strange)} layers); take the padded engine"
            )
        there = _built(spec, running, settings)
        deployed_there = there.deployed(0) if there else None
        trace = _training(spec, running, settings, load, engine, kernels) if adapter else None
        prefill, token = _answering(running, deployed_there, load.tokens, engine, 1)
        answers = _answering(running, deployed_there, load.tokens, engine, ANSWERING_BATCH)
    timeline = trace.timeline() if trace else ()
    peak = max(timeline, key=lambda point: point.total_bytes) if timeline else None
    inference = sum(tensor[0].numel() for tensor in deployed.tensors.values()) if deployed else 0
    return Prediction(
        model=model,
        revision=revision,
        estimated=estimated,
        method=method,
        batch=batch,
        tokens=tokens,
        answer_tokens=load.answer_tokens,
        shared_tokens=shared_tokens,
        dtype=dtype,
        quantization=quantization,
        engine=engine,
        kernels=kernels,
        gradient_checkpointing=gradient_checkpointing,
        base_params=base_params,
        base_bytes=sum(each.nbytes for each in (*module.parameters(), *module.buffers())),
        trainable_params=adapter.trainable_params if adapter else 0,
        adapter_params=sum(tensor.numel() for tensor in stored),
        inference_params=inference,
        merged_inference_params=0 if spec.merges_into(quantization) else None,
        adapter_bytes=sum(tensor.numel() * tensor.element_size() for tensor in stored),
        input_tokens=INPUT_TOKENS,
        base_forward_flops=base_work.matmul_flops,
        forward_flops=forward.matmul_flops,
        merged_forward_flops=base_work.matmul_flops if spec.merges_into(quantization) else None,
        base_forward_elementwise_flops=base_work.elementwise_flops,
        forward_elementwise_flops=forward.elementwise_flops,
        step=trace.work() if trace else None,
        prefill=prefill,
        token=token,
        answer_batch=ANSWERING_BATCH,
        answer_prefill=answers[0],
        answer_token=answers[1],
        peak_train_memory_bytes=peak.total_bytes if peak else None,
        peak_train_memory=peak.bytes if peak else None,
        memory_timeline=timeline,
    )


@lru_cache(maxsize=4)
def _module(
    model: str, revision: str | None, dtype: str, engine: Engine, quantization: Quantization | None
) -> tuple[PreTrainedModel, bool]:
    """A model without weights, for one engine: the packed one puts an attention of its own into it."""
    config, estimated = config_of(model, revision)
    module = weightless(config, model).to(DTYPES[dtype]).eval()
    if quantization is not None:
        quantize(module, quantization, torch.device("meta"))
    if engine == "padded":
        stock_attention(module)
    return module, estimated


@contextmanager
def _without_data(spec: MethodSpec, model: str, known: str) -> Iterator[None]:
    """Whatever a method or a family does with values that are not there becomes one sentence."""
    try:
        with explained(model):
            yield
    except PeftBenchError as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, PeftBenchError):
            raise
        raise ConfigError(
            f"method {spec.name!r} on {model!r} cannot be traced without weights ({type(cause).__name__}: "
            f"{first_line(cause)}); what is known is the base model, {known}"
        ) from error


def _built(spec: MethodSpec, module: PreTrainedModel, settings: Any) -> Adapter | None:
    return build_adapter(spec, module, settings, [0]) if spec.build else None


@lru_cache(maxsize=16)
def _base_forward(model: str, revision: str | None, dtype: str, quantization: Quantization | None) -> Work:
    module, _ = _module(model, revision, dtype, "padded", quantization)
    with explained(model):
        return _forward(module, None)


def _forward(module: PreTrainedModel, adapter: Adapter | None) -> Work:
    """A forward pass of the stock model over one input, logits at all positions."""
    ids = torch.zeros(1, INPUT_TOKENS, dtype=torch.long, device="meta")
    answering = Answering(module, adapter, INPUT_TOKENS, "padded")
    with weightless_kernels("fused"), answering.attached(), Trace() as trace:
        stock_forward(module, ids, adapter)
    work: Work = trace.work()
    return work


def _training(
    spec: MethodSpec, module: PreTrainedModel, settings: Any, load: Load, engine: Engine, kernels: Kernels
) -> Trace:
    """The trace of one training step, with all that is alive before it."""
    vocabulary = int(module.config.get_text_config().vocab_size)
    trace = Trace(vocabulary=vocabulary, granule_bytes=GRANULE_BYTES[kernels])
    with trace:
        training = begun(trace, spec, module, settings, load, engine)
        training.step(lambda: begin_update(trace, training))
    return trace


def begun(
    trace: Trace, spec: MethodSpec, module: PreTrainedModel, settings: Any, load: Load, engine: Engine
) -> Training:
    """A training whose tensors the trace follows from here on; what is alive is told apart by kind."""
    trace.hold([*module.parameters(), *module.buffers()], "weights")
    with trace.making("adapters"):
        adapter = build_adapter(spec, module, settings, [0])
    with trace.making("optimizer"):
        training = Training(module, adapter, load, engine)
    trace.hold([training.optimizer.flat, training.best], "adapters")
    trace.start()
    return training


def begin_update(trace: Trace, training: Training) -> None:
    """Say between backward pass and optimizer what the gradients are."""
    trace.hold([tensor.grad for tensor in training.adapter.tensors.values()], "gradients")
    trace.kind = "optimizer"


def _answering(
    module: PreTrainedModel, adapter: Adapter | None, tokens: int, engine: Engine, prompts: int
) -> tuple[Work, Work]:
    """Work of prompts, and of one token after each of them."""
    answering = Answering(module, adapter, tokens, engine, prompts)
    with answering.attached(), Trace() as trace:
        answering.prefill()
        prefill = trace.work()
        trace.start()
        answering.token()
    return prefill, trace.work()
