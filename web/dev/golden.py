"""Writes web/test/golden.json: what numpy and the package compute, for the tests of the page's own arithmetic.

`python web/dev/golden.py`; deterministic. Percentiles by numpy, PSCP by peftbench.penalty, the map by
peftbench.sensitivity, intervals of means and of differences from draws as the commands take them.
"""

import base64
import json
from pathlib import Path

import numpy as np

from peftbench.penalty import CostModel, Factor, pscp
from peftbench.sensitivity import Candidate, exponent_map, win_shares

METHODS = ("base", "lora", "ia3", "ln_tuning")
DATASETS = ("rte", "cola", "svamp")


def main() -> None:
    """Write the file."""
    random = np.random.default_rng(11)
    path = Path(__file__).resolve().parents[1] / "test" / "golden.json"
    found = {
        "percentiles": percentiles(random),
        "pscp": scores(random),
        "map": plane(random),
        "means": means(random),
    }
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def percentiles(random: np.random.Generator) -> list[dict[str, object]]:
    """Of samples of many sizes, with ties."""
    samples = [random.normal(0, 10, size) for size in (1, 2, 3, 7, 40, 101)] + [random.integers(0, 3, 25) * 1.5]
    asked = [0, 2.5, 25, 50, 97.5, 100]
    return [
        {"values": each.tolist(), "asked": asked, "expected": np.percentile(each, asked).tolist()}
        for each in samples
    ]


def scores(random: np.random.Generator) -> list[dict[str, object]]:
    """PSCP at random costs, references and importances, 0 and fewer FLOPs than the base model among them."""
    found = []
    for number in range(200):
        costs = [
            10 ** random.uniform(0, 9),
            10 ** random.uniform(6, 13) * (-1 if number % 10 == 0 else 1),
            10 ** random.uniform(6, 11),
        ]
        references = [10 ** random.uniform(4, 9), 10 ** random.uniform(9, 14), 10 ** random.uniform(8, 12)]
        exponents = [0.0 if number % 7 == place else float(random.uniform(0, 4)) for place in range(3)]
        performance = float(random.uniform(0, 100))
        factors = [Factor(reference=c, importance=b) for c, b in zip(references, exponents, strict=True)]
        model = CostModel(params=factors[0], flops=factors[1], memory=factors[2])
        found.append({
            "performance": performance, "costs": costs, "references": references, "exponents": exponents,
            "expected": pscp(performance, costs[0], costs[1], costs[2], model).score,
        })  # fmt: skip
    return found


def plane(random: np.random.Generator) -> dict[str, object]:
    """Winner at each point of importances of parameters and memory, FLOPs at 1; win shares at the paper's."""
    candidates = [
        Candidate(name, float(base), params, flops, memory, draws=base + random.normal(0, 3, 50))
        for name, base, params, flops, memory in (
            ("lora", 80.0, 1.5e7, 2e11, 28e9),
            ("ln_tuning", 78.0, 2.7e5, 0.0, 27e9),
            ("prefix", 60.0, 3e7, 0.0, 20e9),
        )
    ]  # fmt: skip
    values = np.linspace(0, 4, 9).tolist()
    found = exponent_map(candidates, CostModel(), (values, [1.0], values))
    return {
        "values": values,
        "candidates": [
            {
                "method": each.method,
                "performance": each.performance,
                "costs": [each.params, each.flops, each.memory],
                "draws": each.draws.tolist() if each.draws is not None else None,
            }
            for each in candidates
        ],
        "winner": found.winner[:, 0, :].T.ravel().tolist(),
        "sure": (found.share[:, 0, :] >= 0.95).T.ravel().tolist() if found.share is not None else None,
        "shares": win_shares(candidates, CostModel()),
    }  # fmt: skip


def means(random: np.random.Generator) -> dict[str, object]:
    """Draws as the page gets them, and intervals of means over subsets of datasets and of paired differences."""
    draws = {
        name: (random.normal(60, 5, (200, 1)) + random.normal([0, 9, 8.6, 4], 1.5, (200, 4))).astype("<f4")
        for name in DATASETS
    }
    expected = {}
    for chosen in (DATASETS, DATASETS[:1], DATASETS[1:]):
        mean = np.mean([draws[name].astype("f8") for name in chosen], axis=0)
        expected[",".join(chosen)] = {
            "intervals": np.percentile(mean, [2.5, 97.5], axis=0).T.tolist(),
            "behind lora": np.percentile(mean[:, [1]] - mean, [2.5, 97.5], axis=0).T.tolist(),
        }
    cells = {
        name: {"methods": METHODS, "values": base64.b64encode(each.tobytes()).decode()}
        for name, each in draws.items()
    }
    return {"file": {"replicates": 200, "cells": cells}, "expected": expected}


if __name__ == "__main__":
    main()
