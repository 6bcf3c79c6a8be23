"""LoRA and its variants as Hugging Face PEFT computes them, with the paper's rank for LoRA.

The rest is in `hf_table`.
"""

from peftbench.methods.hf_settings import HFEntry, Setting, count, positive, share, whole

_RANK = "Width of the low-rank factors."
_ALPHA = "The product of the factors is scaled by it over the rank."
_DROPOUT = "Share of the inputs of the low-rank path that is zeroed in training."
_TINY_LORA = {"r": 4, "lora_alpha": 8}


def _lora(**more: Setting) -> dict[str, Setting]:
    return {
        "r": count(16, _RANK),
        "lora_alpha": positive(16, _ALPHA),
        "lora_dropout": share(0.0, _DROPOUT),
        **more,
    }


LORA_FAMILY = (
    HFEntry(
        "hf_lora", "LORA", "LoRA (Hugging Face)", "reparametrized",
        "LoRA as Hugging Face PEFT computes it, to check the one of this package against.",
        "Hu et al. 2021, arXiv:2106.09685", _lora(), tiny=_TINY_LORA,
    ),
    HFEntry(
        "rslora", "LORA", "rsLoRA", "reparametrized",
        "LoRA whose product is scaled by alpha over the square root of the rank.",
        "Kalajdzievski 2023, arXiv:2312.03732", _lora(), {"use_rslora": True}, _TINY_LORA,
    ),
    HFEntry(
        "dora", "LORA", "DoRA", "reparametrized",
        "Trains the direction of a weight by LoRA and its magnitude by a vector.",
        "Liu et al. 2024, arXiv:2402.09353",
        {"r": count(16, _RANK), "lora_alpha": positive(16, _ALPHA)}, {"use_dora": True}, _TINY_LORA,
        limits="Without dropout, which PEFT would apply to the base's outputs too.",
    ),
    HFEntry(
        "pissa", "LORA", "PiSSA", "reparametrized",
        "LoRA that begins with the largest singular values of the weights, which the base gives up.",
        "Meng et al. 2024, arXiv:2404.02948", _lora(), {"init_lora_weights": "pissa"}, _TINY_LORA,
        code="hf_schedules:MovedBase", changes_base=True,
        limits="Holds copies of its targets' weights; stored as LoRA of twice the rank on the untouched base.",
    ),
    HFEntry(
        "olora", "LORA", "OLoRA", "reparametrized",
        "LoRA that begins with an orthonormal part of the weights, which the base gives up.",
        "Buyukakyuz 2024, arXiv:2406.01775", _lora(), {"init_lora_weights": "olora"}, _TINY_LORA,
        code="hf_schedules:MovedBase", changes_base=True,
        limits="Holds copies of its targets' weights; stored as LoRA of twice the rank on the untouched base.",
    ),
    HFEntry(
        "eva", "LORA", "EVA", "reparametrized",
        "LoRA whose first factor begins with the main directions of the inputs in the training rows.",
        "Paischer et al. 2024, arXiv:2410.07170",
        _lora(init_rows=count(64, "Training rows that are looked at before the first step.")),
        tiny={**_TINY_LORA, "init_rows": 8}, code="hf_schedules:EVA",
        limits="Looks at training rows before the first step, also when a run goes on; one rank for all.",
    ),
    HFEntry(
        "lora_plus", "LORA", "LoRA+", "reparametrized",
        "LoRA whose second factor learns at a higher rate than the first.",
        "Hayou et al. 2024, arXiv:2402.12354",
        _lora(ratio=positive(16.0, "The second factor's learning rate over the first's.")), tiny=_TINY_LORA,
        code="hf_schedules:LoRAPlus",
    ),
    HFEntry(
        "lora_fa", "LORA", "LoRA-FA", "reparametrized",
        "LoRA that trains the second factor alone, with its gradient projected by the frozen first.",
        "Zhang et al. 2023, arXiv:2308.03303", _lora(), tiny=_TINY_LORA, code="hf_schedules:LoRAFA",
        limits="The gradient is projected before it is clipped; PEFT's own optimizer does it after.",
    ),
    HFEntry(
        "kasa", "LORA", "KaSA", "reparametrized",
        "LoRA with trained singular values on a base without its smallest ones.",
        "Wang et al. 2024, arXiv:2412.06071",
        _lora(
            beta=positive(1e-4, "Weight of the penalty on singular values."),
            gamma=positive(1e-3, "Weight of the penalty on factors that are not orthogonal."),
        ),
        tiny=_TINY_LORA, code="hf_schedules:KaSA", changes_base=True, identity_at_start=False,
        limits="Cuts the smallest singular values out of its targets: it does not begin as the base model.",
    ),
    HFEntry(
        "adalora", "ADALORA", "AdaLoRA", "reparametrized",
        "Low-rank changes as singular values and vectors; the least important are given up in training.",
        "Zhang et al. 2023, arXiv:2303.10512",
        {
            "init_r": count(12, "Rank of each target at the beginning."),
            "target_r": count(8, "Mean rank at the end."),
            "lora_alpha": positive(8, _ALPHA),
            "lora_dropout": share(0.0, _DROPOUT),
            "tinit": whole(0, "Steps before ranks are given up."),
            "tfinal": whole(0, "Last steps in which none are."),
            "deltaT": count(1, "Steps between two decisions."),
            "beta1": positive(0.85, "Memory of the importance of a weight."),
            "beta2": positive(0.85, "Memory of how much it varies."),
            "orth_reg_weight": positive(0.5, "Weight of the penalty on factors that are not orthogonal."),
        },
        tiny={"init_r": 6, "target_r": 3}, code="hf_schedules:AdaLoRA",
        limits="Needs more steps than tinit and tfinal; ranks that were given up are stored as zeros.",
    ),
)  # fmt: skip
