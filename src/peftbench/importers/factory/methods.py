"""From `finetuning_type` and its keys to a method of ours with its settings.

Where the reference would have trained or evaluated something else than its file says, that is told; with
`as_published` its variant is taken.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peftbench.efficiency.models import shipped_model
from peftbench.errors import ConfigError, suggestion
from peftbench.importers.factory.conversion import Conversion
from peftbench.importers.factory.file import FactoryFile
from peftbench.importers.factory.keys import METHOD_KEYS

_ROLES = {
    "q_proj": "query", "k_proj": "key", "v_proj": "value", "o_proj": "output", "gate_proj": "gate",
    "up_proj": "up", "down_proj": "down",
}  # fmt: skip
_ALL = ("query", "key", "value", "output", "gate", "up", "down")
_LLAMA_NORMS = {"input_layernorm", "post_attention_layernorm", "norm"}
_SOFT = ("prompt-tuning", "prefix-tuning", "p-tuning")


def kind_of(file: FactoryFile) -> str:
    """What `finetuning_type` says, or `peft_method` where that only says peft; LoRA if neither is given."""
    kind = file.text("finetuning_type") or "lora"
    if kind == "peft":
        kind = file.text("peft_method") or kind
    return kind.replace("_", "-")


def convert_method(file: FactoryFile, made: Conversion, *, trains: bool) -> None:
    """Put `method` into the conversion; problems for a method that is not known or cannot be."""
    kind, place = kind_of(file), file.place("finetuning_type")
    if not trains:
        made.taken(file, "finetuning_type", "method.name", "base", ", since nothing is trained or loaded")
        return
    if "method" in made.chosen or "method.name" in made.chosen:
        made.left_out(file, "finetuning_type", "--set method stands in for it")
        return
    if kind not in METHOD_KEYS:
        where = "; --set method=NAME takes one of ours (peftbench list methods)"
        made.problems.append(f"{place}: unknown finetuning_type {kind!r}{suggestion(kind, METHOD_KEYS)}{where}")
        return
    if kind == "mtp":
        made.problems.append(
            f"{place}: finetuning_type mtp shares a prompt among several tasks, and a run has one; it cannot "
            "run in PEFT-Factory either, where nothing gives the task of a row; take prompt-tuning"
        )
        return
    name, settings = _CONVERT[kind](file, made)
    made.values["method"] = {"name": name, **settings}
    more = "".join(f", {key} {_listed(value)}" for key, value in settings.items())
    made.say(
        file,
        "finetuning_type",
        "taken" if "finetuning_type" in file.values else "default",
        f"method: {name}{more}",
    )
    for key in (*METHOD_KEYS[kind], "peft_method"):
        if key in file.values and not made.is_said(file, key):
            made.say(file, key, "taken", "a setting of the method")


def other_methods_keys(kind: str) -> set[str]:
    """Keys of methods that `kind` does not read."""
    return set().union(*METHOD_KEYS.values()) - set(METHOD_KEYS.get(kind, ()))


def virtual_tokens(file: FactoryFile) -> int:
    """Virtual tokens that the reference puts in front of its own limit."""
    return (file.whole("num_virtual_tokens", 0) or 0) if kind_of(file) in _SOFT else 0


# ------------------------------------------------------------------------------------------------- one by one

_Settings = tuple[str, dict[str, Any]]


def _lora(file: FactoryFile, made: Conversion) -> _Settings:
    rank = file.whole("lora_rank", 8) or 8
    alpha = file.number("lora_alpha", 0) or 2 * rank
    dropout = file.number("lora_dropout", 0.0)
    targets = _targets(file, made, "lora_target", ("all",))
    ratio = file.number("loraplus_lr_ratio", 0)
    variants = {
        "rslora": file.switch("use_rslora", False), "dora": file.switch("use_dora", False),
        "pissa": file.switch("pissa_init", False), "lora_plus": bool(ratio),
    }  # fmt: skip
    chosen = [name for name, on in variants.items() if on]
    made.warnings.append(
        "LoRA is merged into the bfloat16 weights for evaluation, the other methods are not; here it stays "
        "beside them"
    )
    if len(chosen) > 1:
        made.problems.append(
            f"{file.name}: LoRA is asked for as {' and '.join(chosen)} at once, and a method is one of them; "
            "keep one"
        )
    if not chosen:
        return "lora", {"rank": rank, "alpha": alpha, "dropout": dropout, "targets": targets}
    settings: dict[str, Any] = {"r": rank, "lora_alpha": alpha}
    if chosen[0] != "dora":
        settings["lora_dropout"] = dropout
    elif dropout:
        made.differs(
            file, "lora_dropout", "`dora` has no dropout here, because PEFT would drop the base's outputs too"
        )
    if chosen[0] == "lora_plus":
        settings["ratio"] = ratio
    if chosen[0] == "pissa" and file.whole("pissa_iter", 16) != -1:
        made.notes.append(
            "PiSSA begins with an exact decomposition here, not with `pissa_iter` rounds of a fast one."
        )
    return chosen[0], {**settings, "targets": targets}


def _oft(file: FactoryFile, made: Conversion) -> _Settings:
    if file.whole("oft_rank", 0):
        made.differs(file, "oft_rank", "`oft` is given by the size of its blocks")
    if file.number("module_dropout", 0.0):
        made.differs(file, "module_dropout", "`oft` has no dropout here")
    size = file.whole("oft_block_size", 32)
    return "oft", {"oft_block_size": size, "targets": _targets(file, made, "oft_target", ("all",))}


def _freeze(file: FactoryFile, made: Conversion) -> _Settings:
    layers = file.whole("freeze_trainable_layers", 2) or 0
    if layers < 1:
        made.problems.append(
            f"{file.place('freeze_trainable_layers')}: freeze_trainable_layers is {layers}; `last_layers` "
            "trains the last ones, so give a number from 1 on"
        )
    if file.text("freeze_trainable_modules", "all") != "all" or file.given("freeze_extra_modules"):
        key = "freeze_extra_modules" if file.given("freeze_extra_modules") else "freeze_trainable_modules"
        made.differs(file, key, "`last_layers` trains whole blocks and the final norm")
    made.differs(file, "finetuning_type", "`last_layers` trains the final norm as well, which freeze leaves")
    return "last_layers", {"layers": max(1, layers)}


def _ia3(file: FactoryFile, made: Conversion) -> _Settings:
    targets = _targets(file, made, "target_modules", ("k_proj", "v_proj", "down_proj"))
    given = file.values.get("feedforward_modules")
    forward = _targets(file, made, "feedforward_modules", ()) if given else []
    plain = isinstance(given, str) and re.fullmatch(r"\w+", given.strip())
    if plain:
        made.warnings.append(
            f"feedforward_modules is the text {str(given).strip()!r}, which Hugging Face PEFT takes for a "
            "pattern of the whole path: it matches nothing, and outputs are scaled in place of inputs "
            "(ERRATA.md, ia3-feed-forward)"
        )
        if made.as_published:
            return "ia3_published", {"targets": targets}
        made.notes.append("`--published` takes `ia3_published`, which scales outputs as the reference did.")
    stray = [name for name in forward if name not in targets]
    if stray:
        made.problems.append(
            f"{file.place('feedforward_modules')}: {', '.join(stray)} is in feedforward_modules and not in "
            "target_modules; name it in both"
        )
    if not file.switch("init_ia3_weights", True):
        made.differs(file, "init_ia3_weights", "IA3 begins with ones, as the base model")
    kept = [name for name in targets if name not in forward]
    return "ia3", {"targets": kept, "feedforward_targets": forward}


def _ln_tuning(file: FactoryFile, made: Conversion) -> _Settings:
    names = file.names("target_modules")
    if names is not None and set(names) != _LLAMA_NORMS:
        made.differs(
            file, "target_modules", "`ln_tuning` trains every norm of hidden width, the final one included"
        )
    made.warnings.append(
        "norms are trained in the base's bfloat16, where a weight near 1 does not move at 5e-5, and without "
        "target_modules some norms of Qwen, Phi-3 and GPT-NeoX are skipped (ERRATA.md, half-precision and "
        "ln-targets)"
    )
    return "ln_tuning", {}


def _prompt_tuning(file: FactoryFile, made: Conversion) -> _Settings:
    made.warnings.append(
        "the trained prompt is overwritten by random embeddings when it is loaded, so that an untrained prompt "
        "is evaluated (ERRATA.md, prompt-tuning-reset)"
    )
    if (file.text("prompt_tuning_init", "RANDOM") or "").upper() not in ("RANDOM", "SAMPLE_VOCAB"):
        made.differs(file, "prompt_tuning_init", "a soft prompt begins with embeddings drawn from the vocabulary")
    else:
        made.notes.append(
            "The soft prompt begins with embeddings of tokens from the whole vocabulary; the reference takes "
            "the first 5,000."
        )
    if not made.as_published:
        made.notes.append("`--published` takes `prompt_tuning_published`, which resets it as the reference did.")
    name = "prompt_tuning_published" if made.as_published else "prompt_tuning"
    return name, {"virtual_tokens": _virtual(file, made)}


def _prefix_tuning(file: FactoryFile, made: Conversion) -> _Settings:
    projection = file.switch("prefix_projection", False)
    settings = {"virtual_tokens": _virtual(file, made), "projection": projection}
    if projection:
        settings |= _encoder_hidden(file, made)
    return "prefix_tuning", settings


def _p_tuning(file: FactoryFile, made: Conversion) -> _Settings:
    kind = (file.text("encoder_reparameterization_type", "MLP") or "").upper()
    settings = {"virtual_tokens": _virtual(file, made), **_encoder_hidden(file, made)}
    dropout = file.number("encoder_dropout", 0.0)
    if kind == "LSTM":
        layers = file.whole("encoder_num_layers", 2)
        return "p_tuning", {**settings, "encoder_layers": layers, "encoder_dropout": dropout}
    if kind != "MLP":
        made.problems.append(
            f"{file.place('encoder_reparameterization_type')}: encoder_reparameterization_type is {kind!r}, "
            "expected MLP or LSTM"
        )
    if dropout:
        made.left_out(file, "encoder_dropout", "the MLP of Hugging Face PEFT has no dropout, whatever is given")
    made.warnings.append(
        "P-Tuning is trained through an MLP; the paper's tables and costs are those of an LSTM (ERRATA.md, "
        "p-tuning-encoder)"
    )
    made.notes.append("`--set method=p_tuning` takes the LSTM of the paper.")
    return "p_tuning_mlp", settings


def _bitfit(file: FactoryFile, made: Conversion) -> _Settings:
    made.warnings.append(
        "biases begin with random values and the base's own are dropped, so that the first step is not the "
        "base model (ERRATA.md, bitfit)"
    )
    return "bitfit", {"targets": _targets(file, made, "target_modules", ("q_proj", "v_proj"))}


def _svft(file: FactoryFile, made: Conversion) -> _Settings:
    rank = file.whole("rank", None)
    if (file.text("pattern", "banded") or "").lower() != "banded":
        made.differs(file, "pattern", "`svft` trains a band around the diagonal")
    if rank is not None:
        made.warnings.append(
            "below full rank the weight is replaced by its truncated decomposition, so that the model is "
            "another one at the start (ERRATA.md, svft)"
        )
        if file.switch("fill_orthonormal", False):
            made.differs(file, "fill_orthonormal", "`svft` takes the singular vectors alone")
    targets = _targets(file, made, "target_modules", ("q_proj", "k_proj"))
    settings = {"targets": targets, "off_diagonals": file.whole("off_diag", 1)}
    return "svft", settings if rank is None else {**settings, "rank": rank}


def _bottleneck(kind: str) -> Callable[[FactoryFile, Conversion], _Settings]:
    name = "parallel_adapter" if kind == "par-adapter" else "adapter"

    def convert(file: FactoryFile, made: Conversion) -> _Settings:
        factor = file.number("reduction_factor", 2 if kind == "par-adapter" else 16)
        width = _width(file.text("model_name_or_path") or "")
        settings: dict[str, Any] = {}
        if width and factor >= 1:
            settings["hidden"] = max(1, int(width / factor))
        else:
            made.needs(
                file, "reduction_factor", "method.hidden",
                f"is {factor:g}, a share of the model's width, which is not known here; give the width of the "
                "small networks by --set method.hidden=NUMBER",
            )  # fmt: skip
        shape = (file.text("non_linearity") or "relu").lower()
        shape = "silu" if shape == "swish" else shape
        if shape not in ("relu", "gelu", "silu"):
            made.differs(file, "non_linearity", "the small networks have relu, gelu or silu; relu is taken")
            shape = "relu"
        settings["activation"] = shape
        if kind == "seq-bn-adapter":
            settings["targets"] = ["down"]
        if kind == "par-adapter":
            settings["scale"] = file.number("scaling", 4.0)
        made.differs(
            file, "finetuning_type",
            f"`{name}` begins with zeros behind the small network and has no norm of its own, where AdapterHub "
            "begins with random values and puts norm and residual elsewhere",
        )  # fmt: skip
        return name, settings

    return convert


_CONVERT: dict[str, Callable[[FactoryFile, Conversion], _Settings]] = {
    "lora": _lora, "oft": _oft, "freeze": _freeze,
    "full": lambda _file, _made: ("full", {}), "ia3": _ia3, "lntuning": _ln_tuning,
    "prompt-tuning": _prompt_tuning, "prefix-tuning": _prefix_tuning, "p-tuning": _p_tuning, "bitfit": _bitfit,
    "svft": _svft, "bn-adapter": _bottleneck("bn-adapter"), "seq-bn-adapter": _bottleneck("seq-bn-adapter"),
    "par-adapter": _bottleneck("par-adapter"),
}  # fmt: skip


# -------------------------------------------------------------------------------------------------- its parts


def _targets(file: FactoryFile, made: Conversion, key: str, default: tuple[str, ...]) -> list[str]:
    """Module names as roles where they have one, else as endings of names."""
    names = file.names(key) or default
    if names in (("all",), ("all-linear",)):
        return list(_ALL)
    pattern = isinstance(file.values.get(key), str) and key.endswith("modules")
    found = []
    for name in names:
        ending = re.sub(r"^\.\*(\\?\.)?", "", name) if pattern else name
        if not re.fullmatch(r"[\w.]+", ending):
            made.problems.append(
                f"{file.place(key)}: {key} holds {name!r}, which is a pattern; name the modules one by one"
            )
            continue
        found.append(_ROLES.get(ending, ending))
    if pattern and key == "target_modules" and all(re.fullmatch(r"[\w, ]+", name) for name in names):
        made.warnings.append(
            f"{key} is a text, which Hugging Face PEFT takes for a pattern of the whole path: it matches no "
            "module, and training ends with an error"
        )
    return list(dict.fromkeys(found))


def _virtual(file: FactoryFile, made: Conversion) -> int:
    tokens = file.whole("num_virtual_tokens", None)
    if tokens is None:
        made.needs(
            file, "num_virtual_tokens", "method.virtual_tokens",
            "is missing; give it, or --set method.virtual_tokens=NUMBER",
        )  # fmt: skip
    return tokens or 1


def _encoder_hidden(file: FactoryFile, made: Conversion) -> dict[str, int]:
    hidden = file.whole("encoder_hidden_size", None)
    if hidden is None:
        hidden = _width(file.text("model_name_or_path") or "")
        if hidden is None:
            made.needs(
                file, "encoder_hidden_size", "method.encoder_hidden",
                "is not given, which means the model's width, and that is not known here; give it, or --set "
                "method.encoder_hidden=NUMBER",
            )  # fmt: skip
    return {} if hidden is None else {"encoder_hidden": hidden}


def _width(model: str) -> int | None:
    """Hidden width of a model whose folder is here or whose dimensions are shipped."""
    try:
        config = Path(model) / "config.json"
        if model and config.is_file() and config.stat().st_size < 1_000_000:
            width = json.loads(config.read_bytes()).get("hidden_size")
            return width if isinstance(width, int) else None
    except (OSError, ValueError, AttributeError, ConfigError):
        return None
    known = shipped_model(model) if model else None
    return known.dimensions.get("hidden_size") if known else None


def _listed(value: Any) -> str:
    return (
        " ".join(map(str, value))
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
