"""Methods of the installed Hugging Face PEFT that are not offered here, each with the reason.

A method that becomes possible moves from here to `hf_table`; a test holds the two together with what PEFT has.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Refused:
    """A method that is not offered."""

    name: str
    peft_type: str
    reason: str
    upstream: str = ""
    """Where its makers discuss what stands in the way."""


_CALIBRATION = "its start needs passes over data with another loop than training has"

REFUSED = (
    Refused(
        "hf_prompt_tuning", "PROMPT_TUNING",
        "`prompt_tuning` is the same here, with left padding right and exact resume",
        "peft issues 54, 1093, 2256",
    ),
    Refused(
        "hf_p_tuning", "P_TUNING",
        "`p_tuning` is the same here; PEFT drops the encoder when it saves",
        "peft issues 2043, 2256",
    ),
    Refused(
        "hf_prefix_tuning", "PREFIX_TUNING",
        "`prefix_tuning` is the same here, with gradient checkpointing on the packed path",
        "peft issue 869",
    ),
    Refused(
        "hf_ln_tuning", "LN_TUNING",
        "`ln_tuning` finds all norms and trains them in float32; PEFT's stay in the base's precision",
        "spec of PEFT: `_cast_adapter_dtype` is empty",
    ),
    Refused(
        "multitask_prompt_tuning", "MULTITASK_PROMPT_TUNING",
        "it shares one prompt among several tasks, and a run has one",
    ),
    Refused(
        "cartridge", "CARTRIDGE",
        "its prefix is initialised from the keys and values of a text that a run does not name",
    ),
    Refused(
        "cpt", "CPT",
        "it needs a prompt of tokens with a mask of their types, and a loss of its own",
    ),
    Refused(
        "adaption_prompt", "ADAPTION_PROMPT",
        "it takes the place of the attention and keeps its values in the base's precision; its output "
        "depends on padding",
    ),
    Refused(
        "lily", "LILY",
        "its router is averaged over every token of the batch, so that an answer depends on its "
        "neighbours",
    ),
    Refused(
        "xlora", "XLORA",
        "it mixes LoRA adapters that were trained before",
    ),
    Refused(
        "shadow", "SHADOW",
        "it runs a second network beside the layers and adds a loss of that network",
    ),
    Refused(
        "trainable_tokens", "TRAINABLE_TOKENS",
        "it trains embeddings of chosen tokens, which tune no task by themselves",
    ),
    Refused(
        "loftq", "LORA",
        "it puts a 4-bit approximation of its own in the place of the weights, which its files would have to hold",
    ),
    Refused(
        "qalora", "LORA",
        "PEFT computes it on GPTQ bases alone, which are not read here",
    ),
    Refused(
        "corda", "LORA",
        _CALIBRATION,
    ),
    Refused(
        "lora_ga", "LORA",
        _CALIBRATION,
    ),
    Refused(
        "alora", "LORA",
        "it acts from an invocation string on, which prompts of the datasets do not have",
    ),
    Refused(
        "arrow", "LORA",
        "it routes between LoRA adapters that were trained before",
    ),
    Refused(
        "bd_lora", "LORA",
        "it is LoRA with block-diagonal factors for tensor parallelism, which is not used here",
    ),
    Refused(
        "monteclora", "LORA",
        "it draws whole factors in training from generators of its own, which a resume does not repeat",
    ),
    Refused(
        "velora", "LORA",
        "it changes what is kept for the backward pass, and its state is not stored",
    ),
    Refused(
        "riemannian", "LORA",
        "it is an optimizer of its own, and all methods have the same here",
    ),
)  # fmt: skip
