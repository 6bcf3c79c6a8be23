"""What the commands about costs say: one profile, predicted and measured side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from peftbench.config import checked_settings
from peftbench.console import bytes_text, flops_text, seconds_text
from peftbench.efficiency.cost import Engine, Measured, Prediction
from peftbench.efficiency.devices import Device, StepCost, device_called, find_device, roofline
from peftbench.errors import ConfigError, UnknownName
from peftbench.methods.plugins import spec_named
from peftbench.schema import MethodChoice, Quantization


@dataclass(frozen=True)
class Profile:
    """The cost of one method on one model."""

    predicted: Prediction
    device: Device | None
    """The device that times are predicted for; None where the one at hand is not in the table."""
    cost: StepCost | None
    measured: Measured | None
    """None where nothing was to be measured."""

    def as_json(self) -> dict[str, Any]:
        """Everything, with a definition for each figure; the list of operators is left out."""
        predicted = self.predicted.model_dump(mode="json")
        for piece in ("step", "prefill", "token", "answer_prefill", "answer_token"):
            if predicted[piece] is not None:
                del predicted[piece]["operations"]
        models = (Prediction, StepCost, Measured)
        return {
            **predicted,
            "extra_forward_flops": self.predicted.extra_forward_flops,
            "cost": None if self.cost is None else self.cost.model_dump(mode="json"),
            "measured": None if self.measured is None else self.measured.model_dump(mode="json"),
            "definitions": {
                model.__name__: {
                    name: info.description for name, info in model.model_fields.items() if info.description
                }
                for model in models
            },
        }

    def table(self) -> tuple[str, list[str], list[tuple[str, str | None, str | None]]]:
        """Title, headings and rows: what it is, predicted, measured."""
        p, m, c = self.predicted, self.measured, self.cost
        basis = (
            "dimensions shipped with peftbench, so estimated" if p.estimated else "the model's own configuration"
        )
        again = ", layers computed again" if p.gradient_checkpointing else ""
        title = (
            f"{p.method} on {p.model}, {p.dtype}, {p.batch} x {p.tokens} tokens a step, {p.engine}{again}; {basis}"
        )
        on = "" if self.device is None else f" on {self.device.name}, {_basis(self.device)}"
        forward = f"forward of {p.input_tokens} tokens"
        rows = [
            ("trainable parameters", f"{p.trainable_params:,}", f"{m.trainable_params:,}" if m else None),
            ("parameters stored", f"{p.adapter_params:,}", None),
            ("parameters added at inference", f"{p.inference_params:,}", None),
            ("adapter", bytes_text(p.adapter_bytes), bytes_text(m.adapter_bytes) if m else None),
            (f"{forward}, base", flops_text(p.base_forward_flops), None),
            (f"{forward}, attached", flops_text(p.forward_flops), None),
            (f"{forward}, merged", flops_text(p.merged_forward_flops), None),
            ("training step", flops_text(p.step.matmul_flops if p.step else None), None),
            ("generated token", flops_text(p.token.matmul_flops), None),
            (
                "peak memory of training",
                bytes_text(p.peak_train_memory_bytes),
                bytes_text(m.peak_train_memory_bytes) if m else None,
            ),
            *((f"  {kind}", bytes_text(size), None) for kind, size in (p.peak_train_memory or {}).items()),
        ]
        times = [
            (f"training step{on}", "step_seconds"),
            ("first token, attached", "first_token_seconds"),
            ("next token, attached", "next_token_seconds"),
            ("first token, merged", "merged_first_token_seconds"),
            ("next token, merged", "merged_next_token_seconds"),
        ]
        rows += [
            (what, seconds_text(getattr(c, name, None)), seconds_text(getattr(m, name, None)))
            for what, name in times
        ]
        joules, taken = (c.step_joules if c else None), (m.step_joules if m else None)
        rows.append(
            (
                "energy of a training step",
                f"{joules.low:.3g} to {joules.high:.3g} J" if joules else None,
                f"{taken:.3g} J, {m.energy_source}" if m and taken is not None else None,
            )
        )
        if c is not None and c.fits is not None:
            rows.append(("fits into the device's memory", "yes" if c.fits else "no", None))
        return title, ["", "predicted", f"measured, {m.device} in {m.dtype}" if m else "measured"], rows


def profile(
    model: str,
    revision: str | None,
    method: str,
    settings: Sequence[str],
    *,
    device: str | None,
    measured: bool,
    batch: int,
    tokens: int,
    answer_tokens: int,
    shared_tokens: int,
    dtype: str,
    quantization: str | None,
    engine: str,
    gradient_checkpointing: bool,
) -> Profile:
    """Predict, and unless `measured` is false measure, the cost of a method: what `peftbench profile` shows."""
    # Names are looked up before torch is loaded.
    spec = spec_named(method)
    choice = MethodChoice(
        name=spec.name,
        code=spec.code,
        settings=checked_settings(spec, settings).model_dump(mode="json", exclude_defaults=True),
    )
    named = find_device(device) if device is not None else None
    if quantization is not None and quantization not in get_args(Quantization):
        raise UnknownName("quantization", quantization, get_args(Quantization))
    if engine not in get_args(Engine):
        raise UnknownName("engine", engine, get_args(Engine))
    from peftbench.efficiency.models import config_of, shipped_model
    from peftbench.efficiency.plan import predict
    from peftbench.efficiency.profile import measure
    from peftbench.engine.loading import choose_device, name_of_device

    where = choose_device("auto", "auto")
    named = named or device_called(name_of_device(where.device))
    kind = named.kind if named is not None else ("cpu" if where.device == "cpu" else "gpu")
    given: dict[str, Any] = {
        "batch": batch,
        "tokens": tokens,
        "answer_tokens": answer_tokens,
        "shared_tokens": shared_tokens,
        "quantization": cast(Quantization | None, quantization),
        "engine": engine,
        "gradient_checkpointing": gradient_checkpointing,
    }
    if measured and revision is None and shipped_model(model) is not None:
        raise ConfigError(
            f"of model {model!r} only the dimensions are here; pass --predict-only, or give its folder to measure"
        )
    context = getattr(config_of(model, revision)[0].get_text_config(), "max_position_embeddings", None)
    if context is not None and tokens > context:
        raise ConfigError(
            f"tokens is {tokens:,}, expected at most the {context:,} of the context of {model!r}; pass fewer "
            "--tokens"
        )
    predicted = predict(
        model,
        revision,
        choice,
        dtype=dtype if dtype != "auto" else ("float32" if kind == "cpu" else "bfloat16"),
        kernels="cpu" if kind == "cpu" else "fused",
        **given,
    )
    return Profile(
        predicted=predicted,
        device=named,
        cost=roofline(predicted, named) if named is not None else None,
        measured=measure(model, revision, choice, dtype=dtype, **given) if measured else None,
    )


def _basis(device: Device) -> str:
    return "calibrated" if device.calibration is not None else "by its data sheet"
