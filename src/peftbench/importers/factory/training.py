"""What a training file says: model, dataset, precision, batch, schedule, validation.

Where a key is not given its default there is what counts. Methods are converted in `methods`.
"""

import os
import re
from collections.abc import Mapping
from math import ceil
from pathlib import Path

from peftbench.datasets.catalog import dataset_names, get_dataset
from peftbench.errors import UnknownName, suggestion
from peftbench.importers.factory.conversion import Conversion
from peftbench.importers.factory.file import FactoryFile
from peftbench.importers.factory.keys import TEMPLATES, WITHOUT_CHAT, scored_on_training
from peftbench.importers.factory.methods import convert_method, virtual_tokens

_NO_CLIPPING = 1e30


def convert_training(file: FactoryFile, made: Conversion, gpus: int, *, trains: bool) -> None:
    """Put everything that decides how a run is trained into the conversion; without training, the base model."""
    stage = file.text("stage", "sft")
    if stage != "sft":
        made.problems.append(
            f"{file.place('stage')}: stage is {stage}, and only supervised fine-tuning (sft) is here"
        )
    made.same(file, "stage", "training is supervised fine-tuning")
    made.left_out(file, "do_train", "`peftbench train`, `eval` and `run` say what is done")
    if made.as_published:
        made.put("protocol", "published")
    _model(file, made)
    dataset = _dataset(file, made, "dataset" if trains else "eval_dataset")
    convert_method(file, made, trains=trains)
    made.taken(file, "seed", "seed", file.whole("seed", 42))
    if (data_seed := file.whole("data_seed", None)) is not None and data_seed != file.whole("seed", 42):
        made.differs(file, "data_seed", "the seed of a run is also that of the order of its rows")
    tokens = file.whole("cutoff_len", 2048) or 0
    virtual = virtual_tokens(file)
    made.taken(
        file, "cutoff_len", "training.max_tokens", tokens + virtual,
        f", with {virtual} virtual tokens, which the limit there does not count" if virtual else "",
    )  # fmt: skip
    made.warnings.append(
        "a prompt that is too long loses its end, with the header of the answer, and long references are cut "
        "before they are scored (ERRATA.md, long-prompts); here the middle of the longest field goes"
    )
    _precision(file, made)
    _quantization(file, made)
    if trains:
        batch = _batch(file, made, gpus)
        rows = _rows(file, made, dataset)
        epochs = _epochs(file, made)
        steps = None if rows is None else epochs * ceil(0.9 * rows / batch)
        _schedule(file, made, steps)
        _validation(file, made, steps, epochs)


def _model(file: FactoryFile, made: Conversion) -> None:
    model, key = file.text("model_name_or_path"), "model_name_or_path"
    _template(file, made, made.chosen.get("model") or model or "")
    if model is None:
        made.needs(file, key, "model", "is missing; give it, or --set model=FOLDER")
        made.put("model", "missing")
        return
    here = "model" in made.chosen or os.path.exists(model)  # noqa: PTH110  (pathlib raises for a long name)
    hub = not here and re.fullmatch(r"\w[\w.-]*/[\w.-]+", model) is not None
    made.taken(file, key, "model", model)
    if not here and Path(model).is_absolute():
        made.notes.append(f"model {model} is a path of another machine; put yours, or --set model=FOLDER.")
    elif not here and not hub:
        made.notes.append(
            f"model {model} is a path from another folder, and nothing is there from here; put yours, or --set "
            "model=FOLDER."
        )
    revision = file.text("model_revision")
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        made.taken(file, "model_revision", "model_revision", revision)
    else:
        made.left_out(file, "model_revision", "a branch or tag could move; a commit of 40 digits is taken")
        if hub and "model_revision" not in made.chosen:
            made.notes.append(
                "A hub model needs its commit: --set model_revision=<40 digits>, or a folder as model."
            )
    if file.switch("trust_remote_code", False):
        made.warnings.append("trust_remote_code lets a hub repository run its code, of models and of datasets")
    made.left_out(file, "trust_remote_code", "no code of a model or a dataset is run")
    if file.given("adapter_name_or_path"):
        made.warnings.append(
            "an adapter of PEFT is loaded frozen, so that going on from it trains nothing (ERRATA.md, "
            "loaded-frozen)"
        )
        made.differs(file, "adapter_name_or_path", "a run begins with a new adapter")


def _template(file: FactoryFile, made: Conversion, model: str) -> None:
    template, key = file.text("template"), "template"
    if template is None:
        return
    belongs = TEMPLATES.get(template)
    if template == "llama3" and re.search(r"llama-3\.[1-9]", model.lower()):
        made.differs(
            file, key,
            "the chat template of the tokenizer is used, which from Llama 3.1 on begins with a system "
            "message that "
            "llama3 has not",
        )  # fmt: skip
    elif belongs and belongs in model.lower():
        made.same(file, key, "the chat template of the model's tokenizer is used")
        if template != "llama3":
            made.notes.append(
                f"Template {template} is made for such models; whether it is theirs to the letter was not checked."
            )
    elif template in WITHOUT_CHAT:
        made.differs(
            file, key, "the chat template of the model's tokenizer is used, and a plain one if it has none"
        )
    elif belongs:
        made.differs(
            file, key,
            f"it is the template of {belongs} models and the model's name does not say that it is one; the chat "
            "template of the model's tokenizer is used",
        )  # fmt: skip
    else:
        made.differs(
            file, key, f"this template is not known here{suggestion(template, TEMPLATES)}; the tokenizer's is used"
        )
    if "qwen3" in model.lower() and file.switch("enable_thinking", True):
        made.differs(file, "enable_thinking", "thinking is off where a chat template has it")
    else:
        made.left_out(file, "enable_thinking", "thinking is off where a chat template has it")


def _dataset(file: FactoryFile, made: Conversion, key: str) -> str | None:
    if "dataset" in made.chosen:
        made.left_out(file, key, "--set dataset stands in for it")
        return None
    names = file.names(key)
    if not names:
        made.needs(file, key, "dataset", "is missing; give it, or --set dataset=NAME")
        return None
    if len(names) > 1:
        made.problems.append(
            f"{file.place(key)}: {key} names {len(names)} datasets, {', '.join(names)}; a run has one: make a "
            "grid of them (docs/grids.md), or convert with one dataset; training on a mixture is not offered"
        )
        return None
    [name] = names
    plain = name.removesuffix("_eval")
    if plain != name and key == "dataset" and plain in dataset_names():
        made.problems.append(
            f"{file.place(key)}: dataset {name} is the test split of {plain}, and training on it would leak; "
            f"take {plain}"
        )
        return None
    try:
        spec = get_dataset(plain)
    except UnknownName as unknown:
        made.problems.append(
            f"{file.place(key)}: {unknown}; an entry of your own is made by `peftbench import datasets "
            "dataset_info.json`, and --set dataset=NAME takes another"
        )
        return None
    made.taken(file, key, "dataset", plain)
    if key == "eval_dataset" and plain == name:
        made.warnings.append(scored_on_training(name))
    made.warnings += [f"{plain}: {one[0].lower()}{one[1:].rstrip('.')}" for one in spec.published.differences]
    return plain


def _precision(file: FactoryFile, made: Conversion) -> None:
    if file.switch("pure_bf16", False):
        made.warnings.append(
            "pure_bf16 trains in bfloat16, where small steps are lost (ERRATA.md, half-precision)"
        )
        made.taken(file, "pure_bf16", "dtype", "bfloat16", ", of the frozen base; what is trained is float32")
    elif file.switch("bf16", False):
        made.taken(file, "bf16", "dtype", "bfloat16", ", of the frozen base; what is trained is float32")
    elif file.switch("fp16", False):
        made.taken(file, "fp16", "dtype", "float16", ", of the frozen base; what is trained is float32")
    else:
        made.taken(file, "bf16", "dtype", "auto", ": bfloat16 on a GPU, float32 on a CPU")
    for key in ("pure_bf16", "bf16", "fp16"):
        made.left_out(file, key, "dtype says it")


_NF4: Mapping[str, tuple[object, object]] = {
    "quantization_bit": (4, None),
    "quantization_method": ("bnb", "bnb"),
    "quantization_type": ("nf4", "nf4"),
    "double_quantization": (True, True),
}
"""What means `quantization: nf4`, and the defaults there."""


def _quantization(file: FactoryFile, made: Conversion) -> None:
    key = "quantization_bit"
    found = {name: file.values.get(name, default) for name, (_, default) in _NF4.items()}
    if not found[key]:
        made.same(file, key, "the base is not quantized")
        return
    if found == {name: wanted for name, (wanted, _) in _NF4.items()}:
        made.taken(file, key, "quantization", "nf4", ", of its projections, with double quantization")
        for name in _NF4:
            made.left_out(file, name, "quantization says it")
    elif "quantization" in made.chosen:
        made.left_out(file, key, "--set quantization stands in for it")
    elif found[key] == 8:
        made.differs(
            file, key, "LLM.int8() quantizes inputs as well; --set quantization=int8 keeps its weights alone"
        )
    else:
        made.differs(file, key, "a base is quantized as nf4 or int8 by bitsandbytes, or not at all")


def _batch(file: FactoryFile, made: Conversion, gpus: int) -> int:
    own = file.whole("per_device_train_batch_size", 8) or 1
    passes = file.whole("gradient_accumulation_steps", 1) or 1
    batch = own * passes * gpus
    parts = [
        f"{own} on a GPU",
        *([f"{passes} passes"] if passes > 1 else []),
        *([f"{gpus} GPUs"] if gpus > 1 else []),
    ]
    made.taken(
        file, "per_device_train_batch_size", "training.batch_size", batch, f", which is {' x '.join(parts)}"
    )
    if passes > 1:
        made.taken(file, "gradient_accumulation_steps", "engine.micro_batch_size", own, " samples in a pass")
    else:
        made.left_out(file, "gradient_accumulation_steps", "a step is one pass")
    if any(file.given(key) for key in ("deepspeed", "fsdp")) and gpus == 1:
        made.notes.append(
            "The file is for several GPUs and does not say how many, which multiplies the batch: --gpus NUMBER."
        )
    for key in ("gradient_checkpointing", "disable_gradient_checkpointing"):
        if key in file.values:
            on = file.switch(key, False) != (key == "disable_gradient_checkpointing")
            made.taken(file, key, "engine.gradient_checkpointing", on, ", which changes what a run costs alone")
    return batch


def _rows(file: FactoryFile, made: Conversion, dataset: str | None) -> int | None:
    """Training rows as far as they are known, validation included."""
    counted = get_dataset(dataset).counts.train if dataset else None
    limit = file.whole("max_samples", None)
    if limit is None:
        return counted
    if counted is not None and limit >= counted:
        made.left_out(file, "max_samples", f"{dataset} has no more than {counted:,} rows")
        return counted
    made.taken(
        file,
        "max_samples",
        "data.train_rows",
        limit,
        ", a seeded sample, where the reference takes the first rows",
    )
    return limit


def _epochs(file: FactoryFile, made: Conversion) -> int:
    key, path = "num_train_epochs", "training.epochs"
    if key in file.values and file.values[key] in (None, ""):
        made.needs(file, key, path, f"is empty, as an unset ${{EPOCHS}} leaves it; give it, or --set {path}=10")
        return 1
    epochs = file.number(key, 3)
    if epochs < 1 or epochs != int(epochs):
        made.needs(file, key, path, f"is {epochs:g}, and epochs are whole; give --set {path}=NUMBER")
        epochs = 1
    if (steps := file.whole("max_steps", None)) is not None and steps > 0:
        made.needs(
            file, "max_steps", path, f"is {steps}, and training is measured in epochs; give --set {path}=NUMBER"
        )
    made.left_out(file, "max_steps", "training is measured in epochs")
    made.taken(file, key, path, int(epochs))
    return int(epochs)


def _schedule(file: FactoryFile, made: Conversion, steps: int | None) -> None:
    made.taken(file, "learning_rate", "training.learning_rate", float(file.number("learning_rate", 5e-5)))
    if isinstance(file.values.get("learning_rate"), str):
        made.notes.append(
            "learning_rate is a text there, as readers of YAML 1.1 make of 5e-5; it was read as a number."
        )
    made.taken(file, "weight_decay", "training.weight_decay", float(file.number("weight_decay", 0.0)))
    norm = file.number("max_grad_norm", 1.0)
    if norm == 0:
        made.taken(file, "max_grad_norm", "training.max_grad_norm", _NO_CLIPPING, ", which clips nothing")
    else:
        made.taken(file, "max_grad_norm", "training.max_grad_norm", float(norm))
    warmup, ratio = file.number("warmup_steps", 0), float(file.number("warmup_ratio", 0.0))
    if warmup >= 1:  # counts before the ratio; below 1 it is one
        if steps is None:
            path = "training.warmup_ratio"
            made.needs(
                file,
                "warmup_steps",
                path,
                f"is {warmup:g} of steps that are not known here; give --set {path}=NUMBER",
            )
            return
        # Steps of warmup are rounded up, so that half a step less gives just as many.
        share = max(0.0, (warmup - 0.5) / steps)
        made.taken(file, "warmup_steps", "training.warmup_ratio", share, f", of about {steps:,} steps")
        made.left_out(file, "warmup_ratio", "warmup_steps counts")
        return
    made.left_out(
        file, "warmup_steps", "it is a share below 1, as warmup_ratio" if warmup else "warmup_ratio counts"
    )
    made.taken(file, "warmup_ratio", "training.warmup_ratio", float(warmup) or ratio)


def _validation(file: FactoryFile, made: Conversion, steps: int | None, epochs: int) -> None:
    size, here = file.number("val_size", 0.0), "a tenth of the training rows is held out for validation"
    if file.given("eval_dataset"):
        made.warnings.append("eval_dataset in training chooses the weights by the rows that are tested later")
        made.differs(file, "eval_dataset", f"{here}, and test rows choose nothing")
        made.left_out(file, "val_size", here)
    elif size == 0.1:
        made.same(file, "val_size", f"{here}, by groups and labels, and the same for all seeds")
    else:
        made.differs(file, "val_size", here)
    if not file.switch("load_best_model_at_end", False):
        made.differs(
            file, "load_best_model_at_end", "the weights of the lowest validation loss are kept, not the last ones"
        )
    else:
        made.same(file, "load_best_model_at_end", "the weights of the lowest validation loss are kept")
    key = (
        "eval_strategy"
        if "eval_strategy" in file.values or "evaluation_strategy" not in file.values
        else "evaluation_strategy"
    )
    strategy = str(file.text(key, "no")).lower().replace("false", "no")  # YAML 1.1 reads no as false
    if strategy == "epoch":
        made.taken(file, key, "training.validations", epochs, ", one at the end of each epoch")
        made.left_out(file, "eval_steps", "there is one validation an epoch")
        return
    if strategy != "steps":
        made.left_out(file, key, "without val_size and load_best_model_at_end it says nothing more")
        made.left_out(file, "eval_steps", "there was no validation there")
        return
    made.left_out(file, key, "eval_steps says when")
    every = file.number("eval_steps", 0)
    if 0 < every < 1:
        made.taken(file, "eval_steps", "training.validations", max(1, round(1 / every)), ", spread evenly")
    elif every >= 1 and steps is not None:
        made.taken(
            file, "eval_steps", "training.validations", max(1, round(steps / every)), f" in about {steps:,} steps"
        )
    else:
        path = "training.validations"
        made.needs(
            file, "eval_steps", path, f"does not tell here how often is validated; give --set {path}=NUMBER"
        )
