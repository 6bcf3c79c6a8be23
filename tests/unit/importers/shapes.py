"""Small files in the shapes that other tools write, made by hand; a test changes what it wants to be wrong."""

import json

MODEL, SHA = "meta-llama/Llama-3.2-3B", "13afe5124825b4f3751f836b40dafda64c1ed062"


def comparison(method="LORA", accuracy=0.4821834723, **peft):
    """A result of `method_comparison/MetaMathQA`; `accuracy` None is a run that failed."""
    last = {"step": 500, "train loss": 0.61, "train samples": 2000, "train total tokens": 4198051}
    if accuracy is not None:
        last["test accuracy"] = accuracy
    return {
        "run_info": {
            "created_at": "2025-06-19T19:15:35+00:00",
            "total_time": 1993.5,
            "experiment_name": f"{method.lower()}/llama-3.2-3B-rank32",
            "peft_branch": "main",
            "train_config": {"model_id": MODEL, "dtype": "bfloat16", "max_steps": 500, "seed": 0, "attn_implementation": None},
            "peft_config": None if method == "FULL" else {
                "task_type": "CAUSAL_LM", "peft_type": method, "auto_mapping": None, "base_model_name_or_path": MODEL,
                "revision": None, "inference_mode": False, "r": 32, "target_modules": ["v_proj", "q_proj"],
                "rank_pattern": {}, **peft,
            },
            "error_msg": "" if accuracy is not None else "CUDA out of memory",
        },
        "train_info": {
            "cuda_memory_reserved_avg": 11868689976,
            "cuda_memory_max": 22273851392,
            "train_time": 1796.25,
            "file_size": 36715216,
            "num_trainable_params": 9175040,
            "num_total_params": 3221924864,
            "status": "success" if accuracy is not None else "failed",
            "metrics": [{"step": 250, "valid accuracy": 0.34, "train loss": 0.98, "tokens / sec": 6743.6}, last],
        },
        "meta_info": {
            "model_info": {"sha": SHA, "created_at": "2024-09-18T15:23:48+00:00"},
            "dataset_info": {"metamath": {"sha": "aa4f"}, "gsm8k": {"sha": "e53f"}},
            "package_info": {"peft-version": "0.15.2.dev0", "peft-commit-hash": "5fe7f8f", "torch-version": "2.7.1+cu126"},
            "system_info": {"system": "Linux", "gpu": "NVIDIA L40S"},
            "pytorch_info": "PyTorch built with:\n",
        },
    }  # fmt: skip


def harness(**changes):
    """A `results_<time>.json` of lm-evaluation-harness."""
    return {
        "results": {
            "gsm8k": {
                "alias": "gsm8k",
                "exact_match,strict-match": 0.5,
                "exact_match_stderr,strict-match": 0.0138,
                "exact_match,flexible-extract": 0.75,
                "exact_match_stderr,flexible-extract": "N/A",
            },
            "wikitext": {"alias": "wikitext", "word_perplexity,none": 7.5, "word_perplexity_stderr,none": "N/A"},
            "mmlu": {"alias": "mmlu", "acc,none": 0.25, "acc_stderr,none": 0.004},
        },
        "group_subtasks": {"mmlu": ["mmlu_anatomy", "mmlu_astronomy"], "gsm8k": []},
        "configs": {"gsm8k": {"task": "gsm8k", "dataset_path": "gsm8k", "num_fewshot": 5}},
        "versions": {"gsm8k": 3.0, "wikitext": "Yaml", "mmlu": 2},
        "n-shot": {"gsm8k": 5, "wikitext": 0, "mmlu": " "},
        "higher_is_better": {"gsm8k": {"exact_match": True}},
        "n-samples": {"gsm8k": {"original": 1319, "effective": 1319}, "wikitext": {"original": 62, "effective": 10}},
        "config": {
            "model": "hf",
            "model_args": f"pretrained={MODEL},dtype=bfloat16,api_key=hunter2-hunter2",
            "batch_size": "8", "device": "cuda:0", "limit": None, "random_seed": 0, "model_sha": SHA,
        },
        "git_hash": "034ab036", "date": 1757000000.5, "lm_eval_version": "0.4.9", "model_name": MODEL,
        "total_evaluation_time_seconds": "123.4",
        **changes,
    }  # fmt: skip


PREDICTED = ["duplicate", "not_duplicate", " Duplicate", "The answer is duplicate."]
GOLD = ["duplicate", "not_duplicate", "duplicate", "not_duplicate"]


def factory(
    root, dataset="qqp", predicted=PREDICTED, gold=GOLD, scores=({"f1": 0.8}, {"exact_match": 0.5}), method="lora"
):
    """An output tree of PEFT-Factory; gives the folder of the evaluation."""
    name, model = f"{dataset}_42_1758000000", "llama-3-8b-instruct"
    trained = root / method / model / f"train_{name}"
    evaluated = root / method / model / f"eval_{name}"
    for folder in (trained, evaluated):
        folder.mkdir(parents=True)
    (trained / "adapter_config.json").write_text(json.dumps({
        "peft_type": "LORA", "r": 16, "lora_alpha": 16, "target_modules": ["k_proj", "v_proj"], "base_model_name_or_path": "x",
    }))  # fmt: skip
    (trained / "train_results.json").write_text(
        json.dumps({"epoch": 10.0, "train_loss": 0.1, "train_runtime": 321.5})
    )
    (evaluated / "eval.yaml").write_text(
        f"seed: 42\nmodel_name_or_path: meta-llama/Meta-Llama-3-8B-Instruct\nadapter_name_or_path: saves/{method}/{model}/train_{name}\n"
        f"finetuning_type: {method}\neval_dataset: {dataset}_eval\ntemperature: null\nlearning_rate: 5.0e-5\nrun_name: \n"
    )
    (evaluated / "generated_predictions.jsonl").write_text(
        "".join(
            json.dumps({"prompt": "user\n", "predict": p, "label": g}) + "\n"
            for p, g in zip(predicted, gold, strict=True)
        )
    )
    (evaluated / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in scores))
    return evaluated


def written(folder, values, name="result.json"):
    """A JSON file with these values."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(values if isinstance(values, str) else json.dumps(values))
    return file
