"""Files in the shape of LLaMA-Factory's and PEFT-Factory's, made up here from what is known of their keys."""

import json

TRAIN = {
    "seed": 42,
    "model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 4,
    "lora_alpha": 8,
    "lora_target": "q_proj,down_proj",
    "dataset": "rte",
    "template": "llama3",
    "cutoff_len": 1024,
    "output_dir": "saves/somewhere",
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 8,
    "learning_rate": 1e-3,
    "num_train_epochs": 5.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.2,
    "weight_decay": 0.01,
    "bf16": True,
    "val_size": 0.1,
    "eval_strategy": "steps",
    "eval_steps": 0.1,
    "load_best_model_at_end": True,
}
EVAL = {
    "seed": 42,
    "model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct",
    "adapter_name_or_path": "saves/somewhere",
    "stage": "sft",
    "do_train": False,
    "finetuning_type": "lora",
    "eval_dataset": "rte_eval",
    "template": "llama3",
    "cutoff_len": 1024,
    "output_dir": "saves/elsewhere",
    "do_predict": True,
    "predict_with_generate": True,
    "do_sample": False,
}
METHOD_KEYS = ("lora_rank", "lora_alpha", "lora_target")


def train(**changes):
    """A training file's settings; a key that is set to `...` is taken out, and so are LoRA's of another method."""
    settings = {**TRAIN, **changes}
    if settings["finetuning_type"] != "lora":
        settings = {key: value for key, value in settings.items() if key not in METHOD_KEYS or key in changes}
    return {key: value for key, value in settings.items() if value is not ...}


def evaluation(**changes):
    """An evaluation file's settings, changed in the same way."""
    return {key: value for key, value in {**EVAL, **changes}.items() if value is not ...}


def written(folder, settings, name="theirs.yaml"):
    """A file with settings, or with a text as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    text = (
        settings
        if isinstance(settings, str)
        else "".join(f"{json.dumps(k)}: {json.dumps(v)}\n" for k, v in settings.items())
    )
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def alpaca(**changes):
    """An entry of `dataset_info.json` with local rows."""
    entry = {
        "file_name": "mood.json",
        "instruction": "Say how it sounds.",
        "columns": {"prompt": "text", "query": "hint", "response": "mood"},
    }
    return {key: value for key, value in {**entry, **changes}.items() if value is not ...}


def on_hub(split, **changes):
    """An entry that is RTE on the hub."""
    entry = {
        "hf_hub_url": "nyu-mll/glue",
        "subset": "rte",
        "split": split,
        "instruction": "Does the second follow from the first? Say entailment or not_entailment.",
        "columns": {"prompt": "sentence1", "query": "sentence2", "response": "label"},
    }
    return {key: value for key, value in {**entry, **changes}.items() if value is not ...}


MOODS = [
    {"text": f"The tram number {number} was late.", "hint": "" if number % 2 else "trams", "mood": mood}
    for number, mood in enumerate(["sour", "sweet", "plain"] * 10)
]
TEST_MOODS = [{**row, "text": f"The bus was like this: {row['text']}"} for row in MOODS[:6]]


def moods(folder, **more):
    """A folder with a description of made-up rows and the rows beside it; gives the description."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mood.json").write_text(json.dumps(MOODS), encoding="utf-8")
    (folder / "mood_eval.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in TEST_MOODS), encoding="utf-8"
    )
    entries = {"mood": alpaca(), "mood_eval": alpaca(file_name="mood_eval.jsonl"), **more}
    return described(folder, entries)


def described(folder, entries):
    """A `dataset_info.json` with these entries."""
    return written(folder, json.dumps(entries), "dataset_info.json")
