"""What every method does and does not do here, found by running it: docs/methods.csv and docs/methods.md.

    python -m tools.method_table [METHOD ...]    without names all methods, and the files are written

Each method is put through its contract on a tiny model of two layers, counted on Llama-3-8B without weights, and
run once through `peftbench.run` on the model that comes with the package: what it scores is no result.
"""

import csv
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from transformers import LlamaConfig

import peftbench
from peftbench.engine.loading import weightless
from peftbench.errors import PeftBenchError
from peftbench.methods import build_adapter
from peftbench.methods.hf_refused import REFUSED
from peftbench.methods.specs import methods
from peftbench.schema import MethodChoice, MethodSpec
from peftbench.testing import Trial, broken_promises, tiny_settings
from peftbench.testing.quantized import broken_on_quantized

DOCS = Path(__file__).resolve().parents[1] / "docs"
LLAMA_3_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=8192,
    tie_word_embeddings=False,
)
INTRODUCTION = """# Methods

{methods} methods, of which {by_peft} are computed by Hugging Face PEFT {version}; {works} work. Made by
`python -m tools.method_table`, which puts each through the contract of `peftbench.testing` and runs it once from
rows to scores. The same as [CSV](methods.csv).

Trainable, stored and merged parameters are those of a tiny Llama of two layers, 32 wide, with settings that fit
it; those on Llama-3-8B are of the default settings, `?` where they depend on the weights. *Works*: some parameters
are trained, in float32 under a bfloat16 base; gradients reach each tensor; the loss falls; the base stays as it
was; a run gives a score. *Resumes exactly*: bit for bit, on a CPU. *Files*: who reads the exported adapter, with
the same logits. *Same in any batch*: alone, in a stream and padded. *Quantized base*: nf4 and int8,
tried with all of this but merging.

Methods that PEFT computes, `full` and `last_layers` have one run in a pass and need whole weights
(`engine.processes=1`). They act on whole projections, not on parts of fused ones. What they draw at the start
comes from the run's seed. Settings of PEFT's methods have the names of PEFT's configuration.
"""
BASICS = (
    "trains_some_parameters",
    "gradients_reach_every_tensor",
    "changes_what_the_model_says",
    "begins_by_its_seed",
    "learns_a_toy_task",
    "leaves_the_base_alone",
)
COLUMNS = (
    "method",
    "computed by",
    "works",
    "begins as base",
    "trainable",
    "stored",
    "beside the base when merged",
    "on Llama-3-8B",
    "mergeable",
    "resumes exactly",
    "files",
    "same in any batch",
    "quantized base",
    "limits",
)


def row_of(spec: MethodSpec, llama: Any) -> dict[str, Any]:
    """One line of the table."""
    broken = broken_promises(spec)
    trial = Trial(spec, tiny_settings(spec))
    adapter = trial.moved()
    files = adapter.export(0)
    merged: int | str = "-"
    if spec.mergeable and "merges_if_it_says_so" not in broken:
        known = {name for name, _ in trial.model.module.named_parameters()}
        merged = sum(value.numel() for name, value in adapter.merged(0).items() if name not in known)
    entry = getattr(spec.settings, "entry", None)
    problems = [broken[name] for name in BASICS if name in broken] + ran(spec)
    others = [f"{name}: {said}" for name, said in broken.items() if name not in BASICS]
    return {
        "method": spec.name,
        "computed by": f"PEFT, {entry.peft_type}" if entry else "peftbench",
        "works": "yes" if not problems else "no: " + "; ".join(problems),
        "begins as base": claim(spec.identity_at_start, "begins_as_the_base_if_it_says_so", broken),
        "trainable": adapter.trainable_params,
        "stored": sum(tensor.numel() for tensor in files.tensors.values()),
        "beside the base when merged": merged,
        "on Llama-3-8B": counted(spec, llama),
        "mergeable": claim(spec.mergeable, "merges_if_it_says_so", broken),
        "resumes exactly": claim(True, "resumes_exactly", broken),
        "files": files_of(files.config["peft_type"], broken),
        "same in any batch": claim(True, "answers_alike_in_any_batch", broken),
        "quantized base": on_quantized(spec),
        "limits": " ".join([spec.limits, *others]).strip(),
    }


def on_quantized(spec: MethodSpec) -> str:
    """Whether it can stand on a base that is kept in 4 or 8 bits, tried where it says so."""
    if not spec.quantized_base:
        return "no"
    broken = broken_on_quantized(spec)
    return "broken: " + "; ".join(f"{where}: {said}" for where, said in broken.items()) if broken else "nf4, int8"


def claim(made: bool, check: str, broken: dict[str, str]) -> str:
    """Whether a claim is made, and kept, in a word."""
    return "no" if not made else "broken" if check in broken else "yes"


def files_of(kind: str, broken: dict[str, str]) -> str:
    """Who reads what is exported."""
    import peft

    if "is_read_back" in broken or "peft_reads_it" in broken:
        return "broken"
    return f"PEFT, {kind}" if kind in peft.PeftType.__members__ else "own"


def counted(spec: MethodSpec, llama: Any) -> int | None:
    """Trainable parameters with default settings, or None where they depend on the weights."""
    try:
        return build_adapter(spec, llama, MethodChoice(name=spec.name).settings_for(spec), [0]).trainable_params
    except PeftBenchError:
        return None


def ran(spec: MethodSpec) -> list[str]:
    """What went wrong when the method was run from rows to scores on the model that comes with the package."""
    settings = tiny_settings(spec).model_dump(mode="json", exclude_defaults=True)
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "model": "peftbench-tiny",
            "dataset": "sst2@mini",
            "method": {"name": spec.name, **settings},
            "data": {"train_rows": 32},
            "training": {"epochs": 2, "learning_rate": 1e-3, "validations": 2},
            "evaluation": {"test_rows": 8},
            "output": folder,
            "threads": 1,
        }
        try:
            result = peftbench.run(config)
        except PeftBenchError as error:
            return [str(error)]
    return [] if result.status == "done" else [f"a run ended as {result.status}"]


def shown(value: Any) -> str:
    """A cell: what is not known is a question mark, never a zero."""
    return "?" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    """Run the methods that are named, or all, and then write the files."""
    import peft

    llama = weightless(LLAMA_3_8B)
    wanted = sys.argv[1:] or [spec.name for spec in methods if spec.build]
    rows = []
    for name in wanted:
        rows.append(row_of(methods.get(name), llama))
        print(json.dumps(rows[-1]), flush=True)
    if sys.argv[1:]:
        return
    with (DOCS / "methods.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    (DOCS / "methods.md").write_text(page(rows, peft.__version__), encoding="utf-8")


def page(rows: list[dict[str, Any]], version: str) -> str:
    """The table and what is not offered, as Markdown."""
    right = {"trainable", "stored", "beside the base when merged", "on Llama-3-8B"}
    columns = [name for name in COLUMNS if name != "limits"]
    works = sum(row["works"] == "yes" for row in rows)
    by_peft = sum(row["computed by"].startswith("PEFT") for row in rows)
    lines = [
        INTRODUCTION.format(methods=len(rows), by_peft=by_peft, version=version, works=works),
        "| " + " | ".join(columns) + " |",
        "|" + "|".join("---:" if name in right else "---" for name in columns) + "|",
        *("| " + " | ".join(shown(row[name]) for name in columns) + " |" for row in rows),
        "",
        "## Limits",
        "",
        *(f"- `{row['method']}`: {row['limits']}" for row in rows if row["limits"]),
        "",
        "## Not offered",
        "",
        "| method | of PEFT | why | upstream |",
        "|---|---|---|---|",
        *(f"| {each.name} | {each.peft_type} | {each.reason} | {each.upstream} |" for each in REFUSED),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
