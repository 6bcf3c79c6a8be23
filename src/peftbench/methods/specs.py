"""Names, settings and categories of the methods; the code that builds them is loaded when one is built.

Defaults are section 4 of the paper. A defect of the reference implementation exists only as a variant with a
name of its own (`ia3_published`, `prompt_tuning_published`, `p_tuning_mlp`; see `ERRATA.md`).
"""

from importlib.metadata import EntryPoint
from typing import Annotated, Literal

from pydantic import Field

from peftbench.errors import ConfigError
from peftbench.methods.settings import Count, Share, Targets
from peftbench.registry import Registry
from peftbench.schema import Frozen, MethodSpec, Quantization

_SECTION_4 = "default settings: section 4 of the PEFT-Bench paper"


class NoSettings(Frozen):
    """A method without settings."""


class LoRASettings(Frozen):
    """Settings of LoRA."""

    rank: Count = 16
    """Width of the two low-rank factors."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 16
    """The product of the factors is scaled by alpha / rank."""
    dropout: Share = 0.05
    """Share of a target's inputs that is zeroed in training, on the low-rank path alone."""
    targets: Targets = ("key", "value", "down")
    """Roles (query, key, value, output, gate, up, down) or endings of module names."""


class IA3Settings(Frozen):
    """Settings of IA3."""

    targets: Targets = ("key", "value")
    """Projections whose outputs are scaled: roles or endings of module names."""
    feedforward_targets: Targets = ("down",)
    """Projections whose inputs are scaled."""


class IA3PublishedSettings(Frozen):
    """Settings of the reference's IA3, which scales the down-projection's outputs."""

    targets: Targets = ("key", "value", "down")
    """Projections whose outputs are scaled: roles or endings of module names."""
    feedforward_targets: Targets = ()
    """Projections whose inputs are scaled."""


class PromptTuningSettings(Frozen):
    """Settings of Prompt Tuning."""

    virtual_tokens: Count = 100
    """Length of the soft prompt; its first values are embeddings of tokens drawn from the vocabulary."""


class PTuningSettings(Frozen):
    """Settings of P-Tuning."""

    virtual_tokens: Count = 100
    """Length of the soft prompt."""
    encoder: Literal["lstm", "mlp"] = "lstm"
    """Network that makes the soft prompt from trained embeddings."""
    encoder_hidden: Count = 768
    """Hidden width of the encoder."""
    encoder_layers: Count = 2
    """Layers of the LSTM; the MLP always has three linear layers."""
    encoder_dropout: Share = 0.0
    """Dropout between the layers of the LSTM."""


class PTuningMLPSettings(PTuningSettings):
    """Settings of the reference's P-Tuning, which trains an MLP."""

    encoder: Literal["lstm", "mlp"] = "mlp"
    """Network that makes the soft prompt from trained embeddings."""


class PrefixTuningSettings(Frozen):
    """Settings of Prefix Tuning."""

    virtual_tokens: Count = 32
    """Number of keys and values put before the text in every layer."""
    projection: bool = True
    """Whether a small MLP makes the keys and values from trained embeddings."""
    encoder_hidden: Count = 512
    """Hidden width of that MLP."""


class BitFitSettings(Frozen):
    """Settings of BitFit."""

    targets: Targets = ("query", "value")
    """Projections whose biases are trained: roles or endings of module names."""


class SVFTSettings(Frozen):
    """Settings of SVFT."""

    targets: Targets = ("query", "key")
    """Roles (query, key, value, output, gate, up, down) or endings of module names."""
    rank: Count | None = None
    """Largest singular values whose vectors are combined; all where it is not given."""
    off_diagonals: Annotated[int, Field(ge=0, le=1_000_000)] = 1
    """Trained diagonals on either side of the main one: 0 scales singular values alone."""


class SequentialAdapterSettings(Frozen):
    """Settings of the adapter after a sub-layer."""

    targets: Targets = ("output", "down")
    """Projections after which a network stands: both sub-layers of a block, or ("down",) for the second alone."""
    hidden: Count = 64
    """Hidden width of the network."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    """What is between its two layers."""
    scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Factor of what it adds."""


class ParallelAdapterSettings(Frozen):
    """Settings of the adapter beside the feed-forward part."""

    hidden: Count = 64
    """Hidden width of the network."""
    activation: Literal["relu", "gelu", "silu"] = "relu"
    """What is between its two layers."""
    scale: Annotated[float, Field(gt=0, le=1e6)] = 4.0
    """Factor of what it adds."""


class LastLayersSettings(Frozen):
    """Settings of training the last layers alone."""

    layers: Count = 1
    """How many of the last blocks are trained, beside the final norm."""


_NATIVE, _SOFT_PROMPTS = "peftbench.methods.native", "peftbench.methods.soft_prompts"
_SELECTIVE, _BOTTLENECK = "peftbench.methods.selective", "peftbench.methods.bottleneck"

PAPER = ("ia3", "prompt_tuning", "p_tuning", "prefix_tuning", "lora", "ln_tuning")
"""The methods that the paper compares."""

_SPECS = (
    MethodSpec(
        name="base",
        version=1,
        title="Base",
        category="base",
        summary="The model as it is, without training.",
        source="reference point of Tables 1 and 2 of the PEFT-Bench paper",
        settings=NoSettings,
        build=None,
        identity_at_start=True,
        mergeable=True,
    ),
    MethodSpec(
        name="ia3",
        version=1,
        title="IA3",
        category="additive, adapter",
        summary="Scales keys, values and the inputs of the feed-forward down-projection by trained vectors.",
        source=f"Liu et al. 2022, arXiv:2205.05638; {_SECTION_4}",
        settings=IA3Settings,
        build=f"{_NATIVE}:IA3",
        identity_at_start=True,
        mergeable=True,
    ),
    MethodSpec(
        name="prompt_tuning",
        version=1,
        title="Prompt Tuning",
        category="additive, soft prompt",
        summary="Trains embeddings that are put before the text.",
        source=f"Lester et al. 2021, arXiv:2104.08691; {_SECTION_4}",
        settings=PromptTuningSettings,
        build=f"{_SOFT_PROMPTS}:PromptTuning",
        identity_at_start=False,
        mergeable=False,
    ),
    MethodSpec(
        name="p_tuning",
        version=1,
        title="P-Tuning",
        category="additive, soft prompt",
        summary="Trains embeddings put before the text through a bidirectional LSTM.",
        source=f"Liu et al. 2021, arXiv:2103.10385; {_SECTION_4}",
        settings=PTuningSettings,
        build=f"{_SOFT_PROMPTS}:PTuning",
        identity_at_start=False,
        mergeable=False,
    ),
    MethodSpec(
        name="prefix_tuning",
        version=1,
        title="Prefix Tuning",
        category="additive, soft prompt",
        summary="Trains keys and values that are put before the text in every layer, through a small MLP.",
        source=f"Li and Liang 2021, arXiv:2101.00190; {_SECTION_4}",
        settings=PrefixTuningSettings,
        build=f"{_SOFT_PROMPTS}:PrefixTuning",
        identity_at_start=False,
        mergeable=False,
    ),
    MethodSpec(
        name="lora",
        version=1,
        title="LoRA",
        category="reparametrized",
        summary="Adds a trained low-rank product to the weights of keys, values and the down-projection.",
        source=f"Hu et al. 2021, arXiv:2106.09685; {_SECTION_4}",
        settings=LoRASettings,
        build=f"{_NATIVE}:LoRA",
        identity_at_start=True,
        mergeable=True,
    ),
    MethodSpec(
        name="ln_tuning",
        version=1,
        title="LN Tuning",
        category="selective",
        summary="Trains the weights and biases of every norm of hidden width, the final one included.",
        source=f"Zhao et al. 2023, arXiv:2312.11420; {_SECTION_4}",
        settings=NoSettings,
        build=f"{_NATIVE}:LNTuning",
        identity_at_start=True,
        mergeable=True,
    ),
    MethodSpec(
        name="ia3_published",
        version=1,
        title="IA3 (as published)",
        category="additive, adapter",
        summary="IA3 as the reference configures it: the down-projection is scaled on its outputs.",
        source="the reference: 196,608 parameters on Llama-3-8B as in Tables 1 and 2 of the paper",
        settings=IA3PublishedSettings,
        build=f"{_NATIVE}:IA3",
        identity_at_start=True,
        mergeable=True,
    ),
    MethodSpec(
        name="prompt_tuning_published",
        version=1,
        title="Prompt Tuning (as published)",
        category="additive, soft prompt",
        summary="Prompt Tuning as the reference evaluates it: the trained prompt is reset when it is loaded.",
        source="the reference: initial tokens among the first 5,000 ids, in bfloat16, reset at load",
        settings=PromptTuningSettings,
        build=f"{_SOFT_PROMPTS}:PromptTuningPublished",
        identity_at_start=False,
        mergeable=False,
    ),
    MethodSpec(
        name="p_tuning_mlp",
        version=1,
        title="P-Tuning (MLP)",
        category="additive, soft prompt",
        summary="P-Tuning as the reference trains it: through an MLP in place of the LSTM.",
        source="the reference: 7,296,512 parameters on Llama-3-8B",
        settings=PTuningMLPSettings,
        build=f"{_SOFT_PROMPTS}:PTuning",
        identity_at_start=False,
        mergeable=False,
    ),
    MethodSpec(
        name="bitfit",
        version=1,
        title="BitFit",
        category="selective",
        summary="Trains the biases of queries and values, from zero where the base has none.",
        source="Ben Zaken et al. 2021, arXiv:2106.10199; targets of the reference",
        settings=BitFitSettings,
        build=f"{_SELECTIVE}:BitFit",
        identity_at_start=True,
        mergeable=True,
        limits="Stored as PEFT's BEFT, which acts on plain linear layers alone: PEFT cannot load it for GPT-2.",
    ),
    MethodSpec(
        name="svft",
        version=1,
        title="SVFT",
        category="reparametrized",
        summary="Adds a trained, nearly diagonal matrix between the singular vectors of queries and keys.",
        source="Lingam et al. 2024, arXiv:2405.19597; targets and pattern of the reference",
        settings=SVFTSettings,
        build="peftbench.methods.svft:SVFT",
        identity_at_start=True,
        mergeable=True,
        limits="Begins with a decomposition of every target; stored as LoRA with the singular vectors in it.",
    ),
    MethodSpec(
        name="adapter",
        version=1,
        title="Adapter",
        category="additive, adapter",
        summary="A small network after the attention and after the feed-forward part of each block.",
        source="Houlsby et al. 2019, arXiv:1902.00751; of Pfeiffer et al. with targets=[down]",
        settings=SequentialAdapterSettings,
        build=f"{_BOTTLENECK}:SequentialAdapter",
        identity_at_start=True,
        mergeable=False,
        limits="PEFT has no such method: the exported file is read by this package alone.",
    ),
    MethodSpec(
        name="parallel_adapter",
        version=1,
        title="Parallel Adapter",
        category="additive, adapter",
        summary="A small network beside the feed-forward part of each block.",
        source="He et al. 2021, arXiv:2110.04366",
        settings=ParallelAdapterSettings,
        build=f"{_BOTTLENECK}:ParallelAdapter",
        identity_at_start=True,
        mergeable=False,
        limits="PEFT has no such method: the exported file is read by this package alone.",
    ),
    MethodSpec(
        name="full",
        version=1,
        title="Full fine-tuning",
        category="reference",
        summary="Trains all parameters of the model; what the methods are compared with.",
        source="no method of its own; weights in float32, computed in the base's precision",
        settings=NoSettings,
        build=f"{_SELECTIVE}:FullFineTuning",
        identity_at_start=True,
        mergeable=True,
        quantized_base=False,
        fuses=False,
        limits="Holds a float32 copy of all weights; the exported file is read by this package alone.",
    ),
    MethodSpec(
        name="last_layers",
        version=1,
        title="Last layers",
        category="reference",
        summary="Trains the last blocks of the model and its final norm.",
        source="no method of its own",
        settings=LastLayersSettings,
        build=f"{_SELECTIVE}:LastLayers",
        identity_at_start=True,
        mergeable=True,
        quantized_base=False,
        fuses=False,
        limits="The exported file is read by this package alone.",
    ),
)


def _built_in() -> tuple[MethodSpec, ...]:
    from peftbench.methods.hf_settings import spec_of
    from peftbench.methods.hf_table import ENTRIES

    return (*_SPECS, *map(spec_of, ENTRIES))


def _from_package(point: EntryPoint, value: MethodSpec) -> MethodSpec:
    from peftbench.methods.plugins import from_package

    return from_package(point, value)


def _refused(name: str) -> None:
    """Say why a method of Hugging Face PEFT is not offered, where `name` is one."""
    from peftbench.methods.hf_refused import REFUSED

    for each in REFUSED:
        if each.name == name:
            raise ConfigError(
                f"method {name!r} of Hugging Face PEFT is not offered: {each.reason}; take another one"
            )


methods: Registry[MethodSpec] = Registry(
    "method",
    otherwise=_refused,
    group="peftbench.methods",
    built_in=lambda: {spec.name: spec for spec in _built_in()},
    accept=_from_package,
)


def check_base(spec: MethodSpec, quantization: Quantization | None) -> None:
    """Raise `ConfigError` for a quantized base under a method that needs the weights themselves."""
    if quantization is not None and not spec.quantized_base:
        raise ConfigError(
            f"method {spec.name!r} needs the weights themselves, which quantization: {quantization} does not "
            "keep; leave quantization out, or take a method of which `peftbench show method` says "
            "quantized bases: true"
        )
