"""Writes a made-up data folder for work on the page: `python web/dev/sample.py OUT [--records 10000]`.

Deterministic. The numbers mean nothing; they are there to have many models, missing and failed cells, hostile
strings, right-to-left and very long names in every place where text is shown. Needs numpy.
"""

import argparse
import base64
import csv
import json
import shutil
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = [
    "<script>globalThis.hit=1</script>",
    "<img src=x onerror=globalThis.hit=1>",
    "entail\u202etnem",
    "=HYPERLINK(1)",
    "a\u200bb\u0007c\x1b[31mred",
    "`\"'><svg onload=globalThis.hit=1>",
    "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd",
    "$\\input{/etc/passwd}$ **bold** [x](javascript:globalThis.hit=1)",
]
AREAS = {
    "NLU and reasoning": [
        "mnli",
        "qqp",
        "qnli",
        "sst2",
        "stsb",
        "mrpc",
        "rte",
        "cola",
        "multirc",
        "record",
        "boolq",
        "wic",
        "wsc",
        "cb",
        "copa",
        "mmlu",
        "piqa",
        "siqa",
        "hellaswag",
        "winogrande",
        "openbookqa",
    ],
    "math": ["math_qa", "gsm8k", "svamp"],
    "code generation": ["conala", "codealpacapy", "apps"],
}
DATASETS = {name: area for area, names in AREAS.items() for name in names}
METHODS = {
    "base": ("base model", "base"),
    "ia3": ("IA3", "additive"),
    "prompt_tuning": ("Prompt Tuning", "additive"),
    "p_tuning": ("P-Tuning", "additive"),
    "prefix_tuning": ("Prefix Tuning", "additive"),
    "lora": ("LoRA", "reparametrized"),
    "ln_tuning": ("LN tuning", "selective"),
}
SKILL = {
    "base": 35,
    "ia3": 71,
    "prompt_tuning": 52,
    "p_tuning": 50,
    "prefix_tuning": 47,
    "lora": 73,
    "ln_tuning": 72.6,
}
PARAMS = {
    "base": 0,
    "ia3": 524_288,
    "prompt_tuning": 409_600,
    "p_tuning": 53_130_752,
    "prefix_tuning": 34_177_536,
    "lora": 14_680_064,
    "ln_tuning": 266_240,
}
SEEDS = (42, 123, 456)
REPLICATES = 1000


def put(folder: Path, name: str, value: object) -> None:
    """One data file: a classic script of one statement."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    path = folder / "data" / f"{name}.js"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'peftbench.put("{name}", {text});\n', encoding="ascii")


def text_column(values: list[str | None]) -> dict[str, object]:
    """Dictionary encoded."""
    order = {
        value: place for place, value in enumerate(dict.fromkeys(each for each in values if each is not None))
    }
    return {"values": list(order), "codes": [-1 if each is None else order[each] for each in values]}


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--records", type=int, default=0, help="about so many records, in groups of 567")
    parser.add_argument("--live", action="store_true", help="with runs in progress")
    options = parser.parse_args()
    out = options.out
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(ROOT / "src/peftbench/site/assets", out)
    random = np.random.default_rng(7)
    models = [
        "Llama-3-8B-Instruct",
        "Qwen3-1.7B",
        "\u05de\u05d5\u05d3\u05dc-\u05e7\u05d8\u05df <b>x</b>",
        "long-" + "name-" * 99,
    ]
    if options.records:
        models = [f"model-{number:02d}" for number in range(max(1, round(options.records / 567)))]
    rows: list[dict[str, object]] = []
    groups = [one_group(random, place, model, rows) for place, model in enumerate(models)]
    for group in groups:
        draws = group.pop("drawn")
        put(out, f"draws/{group['id']}", {"replicates": REPLICATES, "cells": draws})
    imported(rows)
    runs = [row for row in rows if row["source"] == "measured"]
    for row in runs if not options.records else runs[:567]:
        one_run(random, out, row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns: dict[str, object] = {}
    for name in names:
        values = [row.get(name) for row in rows]
        is_text = any(isinstance(each, str) for each in values)
        columns[name] = text_column(values) if is_text else values  # type: ignore[arg-type]
    index = {
        "format": 1,
        "title": "runs",
        "made_at": "2026-11-29T03:00:00+00:00",
        "version": "0.1.0",
        "live": options.live,
        "notes": [
            "2 records could not be read: `runs/x/y` is damaged.",
            f"A note with hostile text: {HOSTILE[1]}",
        ],
        "records": {"count": len(rows), "columns": columns},
        "groups": groups,
        "tables": tables(),
        "printed": printed(),
        "errata": errata(),
        "penalty": {
            "references": {"trainable_params": 5e8, "flops": 1e13, "memory_bytes": 94e9},
            "exponents": {"trainable_params": 1, "flops": 1, "memory_bytes": 1},
        },
        "datasets": {
            name: {
                "name": name,
                "area": area,
                "task": "Classification",
                "metric": "macro_f1",
                "metric_title": "macro-F1",
                "test_rows": 277,
                "labels": ["entailment", "not_entailment"],
            }
            for name, area in DATASETS.items()
        },
        "methods": {
            name: {"name": name, "title": title, "family": family, "variant_of": None}
            for name, (title, family) in METHODS.items()
        },
    }
    put(out, "index", index)
    details(random, out)
    if options.live:
        curve = [[step, 2 / (1 + step / 40) + 0.4] for step in range(0, 300, 10)]
        put(
            out,
            "live",
            {
                "at": "2026-11-29T03:00:00+00:00",
                "changed": 0,
                "grids": [{"name": "paper", "total": 837, "done": 411, "failed": 3, "running": 2, "waiting": 421}],
                "runs": [
                    {
                        "cell": f"c{n}",
                        "model": models[0],
                        "method": method,
                        "dataset": "rte",
                        "seed": 42,
                        "phase": "training",
                        "step": 290,
                        "steps": 1000,
                        "curve": curve,
                    }
                    for n, method in enumerate(("lora", "ia3"))
                ],
            },
        )


def one_group(
    random: np.random.Generator, place: int, model: str, rows: list[dict[str, object]]
) -> dict[str, object]:
    """A group with its records, cells and draws; the second model lacks cells, the third has failed ones."""
    cells: dict[str, dict[str, object]] = {}
    drawn: dict[str, dict[str, object]] = {}
    group = f"g{place}"
    for dataset in DATASETS:
        level, cells[dataset], names, columns = random.normal(0, 9), {}, [], []
        shared = random.normal(0, 9, REPLICATES)
        for method in METHODS:
            if place == 1 and (method, dataset) in {("p_tuning", "apps"), ("p_tuning", "wsc"), ("ia3", "apps")}:
                continue
            scores = np.clip(SKILL[method] + level + random.normal(0, 3) + random.normal(0, 1.2, 3), 0, 100)
            seeds = SEEDS[:1] if method == "base" else SEEDS
            failed = place == 2 and method == "prefix_tuning" and dataset in ("gsm8k", "mmlu", "record")
            kept = [float(each) for each in scores[: len(seeds)]][: 2 if failed else 3]
            for number, seed in enumerate(seeds):
                fine = not (failed and number == 2)
                rows.append(
                    {
                        "key": f"{group}-{method}-{dataset}-{seed}",
                        "source": "measured",
                        "group": group,
                        "model": model,
                        "dataset": dataset,
                        "protocol": "corrected",
                        "method": method,
                        "label": method,
                        "settings": "{}",
                        "seed": seed,
                        "dtype": "bfloat16",
                        "learning_rate": 5e-5,
                        "score": kept[number] if fine else None,
                        "score_corrected": kept[number] if fine else None,
                        "metric": "macro_f1",
                        "invalid_rate": float(random.beta(1, 12)) if fine else None,
                        "trainable_params": PARAMS[method],
                        "train_seconds": float(random.uniform(300, 900)) if method != "base" else None,
                        "test_rows": 277,
                        "status": "done" if fine else "failed",
                        "failure_reason": None if fine else "out_of_memory",
                        "failure": None if fine else "CUDA out of memory " + HOSTILE[0],
                        "train_id": "ab12",
                        "eval_id": "cd34",
                        "device": "H100",
                        "started_at": "2026-11-20T10:00:00+00:00",
                        "epochs": 10,
                        "batch_size": 4,
                    }
                )
            mean = float(np.mean(kept))
            values = mean + shared + random.normal(0, 4, REPLICATES)
            names.append(method)
            columns.append(values)
            low, high = np.percentile(values, [2.5, 97.5])
            cells[dataset][method] = {
                "estimate": mean,
                "low": float(low),
                "high": float(high),
                "seeds": len(kept),
                "sd": float(np.std(kept, ddof=1)) if len(kept) > 1 else None,
                "rows": 277,
                "missing": [],
                "failed": ["seed 456: out_of_memory"] if failed else [],
            }
        array = np.stack(columns, axis=1).astype("<f4")
        drawn[dataset] = {"methods": names, "values": base64.b64encode(array.tobytes()).decode()}
    costs = {
        method: {
            "trainable_params": PARAMS[method],
            "adapter_bytes": PARAMS[method] * 4,
            "flops": 1e11 * number,
            "memory_bytes": None if method == "base" else 27e9 + 2e9 * number,
            "train_seconds": None if method == "base" else 500 + 40 * number,
            "energy_joules": None,
            "first_token_seconds": 0.02 + 0.001 * number,
            "next_token_seconds": 0.015,
        }
        for number, method in enumerate(METHODS)
    }
    return {
        "id": group,
        "model": model,
        "label": f"{model}, bfloat16",
        "protocol": "corrected",
        "datasets": list(DATASETS),
        "methods": list(METHODS),
        "seeds": list(SEEDS),
        "cells": cells,
        "why_no_interval": None,
        "refused": None,
        "draws": True,
        "costs": costs,
        "costs_of": {"memory_bytes": "Measured on H100, cuda allocated."},
        "drawn": drawn,
    }


def imported(rows: list[dict[str, object]]) -> None:
    """The paper's scores, as records of another source."""
    with (ROOT / "docs/paper-scores.csv").open(encoding="utf-8") as lines:
        for line in csv.DictReader(each for each in lines if not each.startswith("#")):
            dataset = line.pop("dataset")
            rows.extend(
                {
                    "key": f"paper-{method}-{dataset}",
                    "source": "paper",
                    "group": None,
                    "model": "Llama-3-8B-Instruct",
                    "dataset": dataset,
                    "protocol": "published",
                    "method": method,
                    "label": method,
                    "score": float(score),
                    "status": "done",
                }
                for method, score in line.items()
            )


def one_run(random: np.random.Generator, out: Path, row: dict[str, object]) -> None:
    """Curve and, for some, predictions."""
    steps = np.arange(0, 400, 20)
    noise = random.normal(0, 0.03, len(steps))
    curve = [
        {
            "step": int(step),
            "tokens": int(step) * 900,
            "loss": float(1.8 / (1 + step / 60) + 0.3 + wobble),
            "validation_loss": float(1.7 / (1 + step / 60) + 0.4 + wobble / 2),
            "learning_rate": float(5e-5 * (1 - step / 400)),
        }
        for step, wobble in zip(steps, noise, strict=True)
    ]
    some = row["dataset"] in ("rte", "svamp") and row["group"] == "g0" and row["status"] == "done"
    put(
        out,
        f"run/{row['key']}",
        {
            "key": row["key"],
            "row": row,
            "config": {
                "model": row["model"],
                "method": {"name": row["method"], "rank": 16},
                "dataset": row["dataset"],
            },
            "train": None if row["method"] == "base" else {"seconds": 512.3, "versions": {"torch": "2.13.0"}},
            "evaluation": {"hostile": HOSTILE[0]},
            "curve": [] if row["method"] == "base" else curve,
            "predictions": {"rows": 1200, "pages": 3} if some else None,
            "notes": [HOSTILE[2]],
        },
    )
    for page in range(3) if some else ():
        answers = [
            {
                "id": page * 500 + number,
                "prompt": f"Text: row {page * 500 + number}.\nConclusion: {HOSTILE[number % len(HOSTILE)]}",
                "text": HOSTILE[number % len(HOSTILE)] if number % 7 == 0 else "entailment",
                "references": ["entailment"],
                "right": bool(number % 7 and random.random() < 0.7),
                "score": None,
                "valid": bool(number % 7),
            }
            for number in range(500 if page < 2 else 200)
        ]
        put(out, f"predictions/{row['key']}/{page}", {"first": page * 500, "rows": answers})


def tables() -> list[dict[str, object]]:
    """The paper's table of costs."""
    golden = json.loads((ROOT / "tests/golden/pscp.json").read_text(encoding="utf-8"))
    methods = [
        {
            "method": name,
            "performance": each["performance"],
            "standard_error": None,
            "trainable_params": each["params"],
            "flops": (each["tflops"] - golden["base_tflops"]) * 1e12,
            "memory_bytes": each["memory_gb"] * 1e9,
        }
        for name, each in golden["costs"].items()
    ]
    return [
        {
            "name": "paper",
            "title": "Table 3 of the paper",
            "source": golden["source"],
            "methods": methods,
            "base": None,
            "errata": ["pscp"],
        }
    ]


def printed() -> list[dict[str, object]]:
    """One of the paper's tables."""
    with (ROOT / "docs/paper-scores.csv").open(encoding="utf-8") as lines:
        head, *body = csv.reader(each for each in lines if not each.startswith("#"))
    rows = [[each[0], *map(float, each[1:])] for each in body]
    return [
        {
            "name": "tables1and2",
            "title": "Tables 1 and 2: scores on 27 datasets",
            "columns": head,
            "rows": rows,
            "errata": ["printed-rows"],
        }
    ]


def errata() -> list[dict[str, object]]:
    """Two of the errata."""
    return [
        {
            "id": "methods",
            "columns": ["the reference", "here", "the difference"],
            "ids": ["printed-rows"],
            "title": "Methods",
            "paragraphs": ["What the reference does, and what is done here."],
            "rows": [
                [
                    "Prompt Tuning: after the trained prompt is loaded it is overwritten",
                    "the trained prompt is evaluated; *variant* `prompt_tuning_published`",
                    "correlation 0.90 over 27 datasets",
                ]
            ],
        },
        {
            "id": "pscp",
            "columns": ["the reference", "here", "the difference"],
            "ids": [None],
            "title": "PSCP and efficiency",
            "paragraphs": [HOSTILE[0]],
            "rows": [["LoRA's FLOPs were measured without LoRA", "", "8.38 TFLOP printed for both"]],
        },
    ]


def details(random: np.random.Generator, out: Path) -> None:
    """Files of methods and datasets."""
    for name, (title, _) in METHODS.items():
        put(
            out,
            f"method/{name}",
            {
                "name": name,
                "title": title,
                "description": "Adds a trained low-rank product to the weights.",
                "settings": [
                    {"name": "rank", "value": 16, "meaning": "Width of the two low-rank factors."},
                    {"name": "targets", "value": "key, value, down", "meaning": HOSTILE[1]},
                ],
                "source": "Hu et al. 2021, arXiv:2106.09685",
                "trainable": "2 x rank x width for each target",
            },
        )
    for name in DATASETS:
        put(
            out,
            f"dataset/{name}",
            {
                "name": name,
                "spec": {
                    "title": name.upper(),
                    "task": "Natural language inference",
                    "counts": {"train": 2490, "test": 277},
                    "licence": HOSTILE[5],
                },
                "example": {
                    "corrected": {
                        "prompt": "Does it follow?\nText: The museum will open again.\nConclusion: A museum.",
                        "target": "entailment",
                    },
                    "published": {"prompt": "premise: The museum", "target": "entailment"},
                },
                "lengths": {
                    "edges": list(range(0, 650, 50)),
                    "counts": [int(each) for each in random.integers(5, 200, 12)],
                    "tokenizer": "characters",
                },
            },
        )


if __name__ == "__main__":
    main()
