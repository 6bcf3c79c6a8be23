"""Records in which every text that can be hostile is, written as a real run leaves its own."""

import hashlib

from peftbench.datasets import add_dataset, dataset_names, get_dataset
from peftbench.finished import write_record
from peftbench.parts import settle
from peftbench.predictions import Prediction, write_predictions
from peftbench.records import CurvePoint, Failure
from peftbench.schema import MethodChoice
from peftbench.scoring import as_record, score_both
from peftbench.store import RunFolder
from tests.browser.payloads import PAYLOADS, as_name
from tests.synthetic import config_of, evaluation_of, made_with, model_of, tokens_of, training_of

DATASET = "hostile"


def hostile_dataset():
    """A dataset whose descriptions are hostile; registered once."""
    if DATASET not in dataset_names():
        first = get_dataset("rte")
        texts = {
            name: PAYLOADS[place]
            for place, name in enumerate(("title", "task", "licence", "citation", "instruction"))
        }
        labels = {"0": PAYLOADS[5], "1": PAYLOADS[60]}
        add_dataset(first.model_copy(update={"name": DATASET, **texts, "labels": labels}))
    return DATASET


def write(
    folder, place, payload, *, model=None, method=None, settings=None, dataset="rte", rows=None, failed=False
):
    """One run with a payload in each text of its records; `rows` are outputs with their references."""
    config = config_of(folder, "lora", dataset, 42, model=model or "models/small").model_copy(
        update={"method": MethodChoice(name=method or "lora", settings=settings or {})}
    )
    identity = hashlib.sha256(f"{place}{model}{method}{settings}{dataset}".encode()).hexdigest()[:12]
    run = RunFolder(folder / f"run-{identity}")
    run.open(identity, config)
    facts = model_of(config).model_copy(update={"family": payload, "padded_because": payload})
    made = made_with().model_copy(
        update={
            "device": payload,
            "platform": payload,
            "python": payload,
            "packages": {payload: payload},
            "commit": payload,
        }
    )
    failure = Failure(reason="nonfinite", message=payload, step=7) if failed else None
    point = CurvePoint(step=1, epoch=0.5, learning_rate=1e-4, train_loss=1.0, validation_loss=0.9,
                       validation_loss_of_batches=0.9, grad_norm=1.0, peak_memory_bytes=None, seconds=1.0)  # fmt: skip
    run.add_to_curve(point)
    training = training_of(config, identity, model=facts, provenance=made, trainable_dtype=payload)
    write_record(
        run.path / "train.json",
        training.model_copy(update={"status": "failed" if failed else "done", "failure": failure}),
    )
    if failed:
        return
    outputs = rows or [(payload, (payload,)), ("entailment", ("entailment",))]
    spec = get_dataset(dataset)
    label = spec.label_set[0]
    golds = [references if references[0] in spec.label_set else (label,) for _, references in outputs]
    scores = score_both(spec, [text for text, _ in outputs], golds)
    target = run.evaluation("e" * 12)
    target.mkdir()
    stored = [
        Prediction(f"{number} {payload}", "0" * 64, text, gold, None, False, 3, False)
        for number, ((text, _), gold) in enumerate(zip(outputs, golds, strict=True))
    ]
    sha256 = write_predictions(target / "predictions.parquet", stored)
    settle(target / "predictions.parquet", sha256)
    record = evaluation_of(
        config, identity, model=facts, provenance=made, predictions_sha256=sha256,
        scores={name: as_record(each) for name, each in scores.items()},
        tokens=tokens_of("test").model_copy(update={"rows": len(outputs)}),
    )  # fmt: skip
    write_record(target / "result.json", record)


def imports(folder):
    """Every payload in the names of results of others, where they can be imported."""
    try:
        from peftbench.importers.results import ImportedResult, keep
    except ImportError:
        return
    results = [
        ImportedResult(
            source="lm-eval",
            **dict.fromkeys(
                ("file", "tool", "experiment", "model", "original_dataset", "method", "metric"), payload
            ),
            file_sha256="a" * 64,
            score=50.0,
            original_value=0.5,
            original_scale="0 to 1",
            notes=payload,
        )
        for payload in PAYLOADS
    ]
    keep(results, "lm-eval", folder, None, PAYLOADS)


def fill(folder):
    """Every payload as a model, as a setting, as a method's name and in a failure; all of them as outputs."""
    folder.mkdir(parents=True)
    every = [(payload, ("entailment",)) for payload in PAYLOADS]
    for place, payload in enumerate(PAYLOADS):
        write(folder, place, payload, settings={"targets": payload, payload: 1})
        write(folder, place, payload, model=as_name(payload) or "m")
        write(folder, place, payload, method=payload, dataset="cb")
        if place % 8 == 0:
            write(folder, place, payload, failed=True, dataset="mrpc", settings={"targets": payload})
    for dataset in ("rte", hostile_dataset()):
        write(folder, -1, PAYLOADS[0], method="ia3", dataset=dataset, rows=every)
        write(folder, -1, PAYLOADS[0], method="ln_tuning", dataset=dataset, rows=every[::-1])
    imports(folder)
    # Names of folders come into sentences about what cannot be read.
    for place, payload in enumerate(PAYLOADS):
        name = "".join(c for c in payload if c not in "/\x00")[:60].strip()
        broken = folder / f"{place} {name}"
        broken.mkdir()
        (broken / "config.json").write_text("{}")
        (broken / "train.json").write_text("{}")
    return folder
