"""What an evaluation file says, how it disagrees with that of training, and every key that is left.

Nothing here decides how a run is trained.
"""

from typing import Any

from peftbench.errors import suggestion
from peftbench.importers.factory.conversion import Conversion
from peftbench.importers.factory.file import FactoryFile, Missing
from peftbench.importers.factory.keys import (
    DEFECTS,
    HF_KINDS,
    LEFT_OUT,
    METHOD_KEYS,
    MUST_BE,
    TASK_KEYS,
    TRAINING_KEYS,
    known_keys,
    scored_on_training,
)
from peftbench.importers.factory.methods import kind_of, other_methods_keys


def convert_evaluation(file: FactoryFile, made: Conversion, *, trains: bool) -> None:
    """What an evaluation file says; of a training file only what would be read in it."""
    evaluation: dict[str, Any] = {"test_rows": None, "max_new_tokens": None}
    made.values["evaluation"] = evaluation
    if trains:
        for key in ("do_sample", "max_new_tokens", "max_length"):
            made.left_out(file, key, "nothing is answered in training")
        return
    if file.switch("do_sample", True):
        made.differs(file, "do_sample", "answers are greedy, and the default there is to draw them")
    else:
        made.same(file, "do_sample", "answers are greedy")
    made.left_out(file, "max_length", "max_new_tokens is the limit of an answer")
    tokens = file.whole("max_new_tokens", None)
    if tokens is not None:
        made.taken(file, "max_new_tokens", "evaluation.max_new_tokens", tokens)
    else:
        made.notes.append(
            "max_new_tokens is not given, which means 1,024 there and the limit of the dataset here; under "
            "`protocol: published` it is 1,024 as well."
        )
    if (rows := file.whole("max_samples", None)) is not None:
        made.taken(
            file, "max_samples", "evaluation.test_rows", rows, ", a seeded sample, where the first are taken there"
        )
    if file.given("eval_dataset") and not made.is_said(file, "eval_dataset"):
        _tested(file, made)


def _tested(file: FactoryFile, made: Conversion) -> None:
    names, trained = file.names("eval_dataset") or (), made.values.get("dataset")
    if [name.removesuffix("_eval") for name in names] != [trained] and "dataset" not in made.chosen and trained:
        made.problems.append(
            f"{file.place('eval_dataset')}: eval_dataset is {', '.join(names)} and dataset is {trained}; a run "
            "is tested on the dataset that it is trained on"
        )
    elif names and not names[0].endswith("_eval"):
        made.warnings.append(scored_on_training(names[0]))
    made.left_out(file, "eval_dataset", "the test split of the dataset is taken")


def compare(first: FactoryFile, other: FactoryFile, made: Conversion) -> None:
    """Settings of method and model that the two files do not share: the evaluation is of something else there."""
    kind = kind_of(first)
    if kind_of(other) != kind and other.given("finetuning_type"):
        made.warnings.append(
            f"{other.name} says {kind_of(other)} and {first.name} {kind}: the adapter would not fit the method "
            "it is loaded into, and the evaluation fails or is of an untrained one"
        )
    for key in ("model_name_or_path", "template", "cutoff_len", *METHOD_KEYS.get(kind, ())):
        before, after = first.values.get(key), other.values.get(key)
        told = key in first.values and key in other.values
        if told and before != after and not isinstance(before, Missing) and not isinstance(after, Missing):
            made.warnings.append(
                f"{key} is {first.shown(key)} in training and {other.shown(key)} in evaluation, so that "
                "what is evaluated is not what was trained"
            )
    for key in other.values:
        if key in first.values and key not in {*MUST_BE, *TRAINING_KEYS, *_OWN}:
            made.left_out(other, key, f"{first.name} says it")
    made.left_out(other, "adapter_name_or_path", "the run that was trained is evaluated")


_OWN = {
    "dataset", "eval_dataset", "output_dir", "run_name", "do_train", "do_eval", "do_predict", "do_sample",
    "report_to",
    "per_device_eval_batch_size", "max_samples", "push_to_hub", "save_steps", "logging_steps", *LEFT_OUT,
} | {key for keys in LEFT_OUT.values() for key in keys} | {*TASK_KEYS}  # fmt: skip
"""Keys in which a training and an evaluation file may differ."""


# ---------------------------------------------------------------------------------------------------- the rest


def account_for_the_rest(file: FactoryFile, made: Conversion, *, inert: bool) -> None:
    """Account for every key that nothing has been said of."""
    if inert:
        for key in TRAINING_KEYS:
            made.left_out(file, key, "evaluation trains nothing")
    for key, (same, default, here) in MUST_BE.items():
        if made.is_said(file, key) or (inert and key in TRAINING_KEYS):
            continue
        if inert and key not in file.values:
            continue
        value = file.values.get(key)
        value = default if value in (None, "") else value
        if isinstance(value, Missing):
            file.text(key)
        elif _same(value, same):
            made.same(file, key, here)
        else:
            made.differs(file, key, here)
    for why, keys in LEFT_OUT.items():
        for key in keys:
            made.left_out(file, key, why)
    _senders(file, made)
    _defects(file, made)
    if file.given("resume_from_checkpoint"):
        made.left_out(
            file, "resume_from_checkpoint", "checkpoints of others cannot be gone on from; a run begins anew"
        )
    made.left_out(file, "resume_from_checkpoint", "a stopped run goes on with the same command")
    if (task := file.text("task_type", "CAUSAL_LM")) != "CAUSAL_LM":
        made.problems.append(
            f"{file.place('task_type')}: task_type is {task}, and models are causal ones (CAUSAL_LM)"
        )
    for key in TASK_KEYS:
        made.left_out(file, key, "methods are for causal models, and need not be told")
    for key in file.values:
        if not made.is_said(file, key):
            if key in other_methods_keys(kind_of(file)):
                made.left_out(file, key, f"{kind_of(file)} does not read it")
            elif key in known_keys():
                made.left_out(file, key, "not given" if not file.given(key) else "it says nothing more here")
            else:
                near = suggestion(key, known_keys()) if _near(key) else ""
                made.differs(file, key, f"this key is not known here, so that nothing can be said of it{near}")


def _near(key: str) -> bool:
    return "did you mean" in suggestion(key, known_keys())


def _same(value: object, same: tuple[object, ...]) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "yes", "on", "false", "no", "off"):
        value = value.lower() in ("true", "yes", "on")
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in same)


def _defects(file: FactoryFile, made: Conversion) -> None:
    """What goes wrong there with settings that are left out here."""
    made.warnings += [sentence for key, sentence in DEFECTS.items() if file.given(key) and file.switch(key, False)]
    kind = kind_of(file)
    if file.given("quantization_bit") and kind not in ("lora", "oft"):
        made.warnings.append(f"a quantized base is refused for {kind}, as for every method but LoRA and OFT")
    if kind in HF_KINDS and "task_type" not in file.values:
        made.warnings.append(
            f"task_type is missing, so that Hugging Face PEFT is not told what {kind} is put on; "
            "CAUSAL_LM is meant"
        )


def _senders(file: FactoryFile, made: Conversion) -> None:
    named = [name for name in file.names("report_to") or () if name.lower() not in ("none", "false")]
    if named:
        made.warnings.append(
            f"curves are sent to {', '.join(named)}, which has to be installed and logged in to, or the run "
            "fails; here nothing is sent unless you ask (`--track`)"
        )
    made.left_out(file, "report_to", "nothing is sent anywhere; `--track NAME` mirrors a run if you want it")
    if file.switch("use_swanlab", False):
        made.warnings.append("curves are sent to SwanLab")
    made.left_out(file, "use_swanlab", "nothing is sent anywhere")
    if file.switch("push_to_hub", False):
        whose = file.text("push_to_hub_organization") or file.text("hub_model_id")
        whom = f"to {whose}" if whose else "to your account"
        made.warnings.append(
            f"push_to_hub uploads the adapter {whom}, which needs the right to write there, or training ends in "
            "an error"
        )
    made.left_out(file, "push_to_hub", "nothing is sent anywhere")
