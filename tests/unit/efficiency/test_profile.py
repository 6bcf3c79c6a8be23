"""Measured costs: what is in the records, and that measuring changes nothing."""

import json
import sys
import types
from contextlib import contextmanager

import pytest

import peftbench
from peftbench.efficiency import profile as profiles
from peftbench.efficiency.energy import Energy, metered
from peftbench.efficiency.profile import measure
from peftbench.errors import ConfigError
from peftbench.records import EfficiencyProfile, EvalRecord, TrainRecord
from peftbench.schema import MethodChoice
from peftbench.testing import save_tiny_model

ROWS = {
    split: [
        {"idx": i, "sentence1": f"premise {i}", "sentence2": f"hypothesis {i % 3}", "label": i % 2}
        for i in range(start, start + count)
    ]
    for split, start, count in (("train", 0, 24), ("test", 100, 6))
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(str(tmp_path_factory.mktemp("model")))


def a_run(model, output, method="lora", **changes):
    return peftbench.run(
        {
            "model": model, "dataset": "rte", "method": method, "output": str(output),
            "training": {"epochs": 1, "validations": 2}, "evaluation": {"max_new_tokens": 4}, **changes,
        },
        rows=ROWS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def result(model, tmp_path_factory):
    return a_run(model, tmp_path_factory.mktemp("runs"))


def test_a_training_says_what_it_took(result):
    record, found = result.train, result.train.efficiency
    assert found.device == "cpu"
    assert found.train_seconds > 0
    assert found.validation_seconds > 0
    assert found.train_seconds + found.validation_seconds == pytest.approx(record.seconds, rel=0.2)
    assert found.train_tokens_per_second > 0
    assert found.adapter_bytes == record.adapter_bytes
    assert found.train_peak_reserved_bytes is None  # no CUDA
    if found.memory_kind is not None:
        assert found.train_peak_memory_bytes <= record.peak_memory_bytes
    assert found.generation_seconds is None
    assert (found.energy_joules, found.energy_source) == (None, None)  # codecarbon is not installed


def test_an_evaluation_says_what_it_took(result):
    record, found = result.evaluation, result.evaluation.efficiency
    assert found.generation_seconds == record.seconds
    assert found.generated_tokens_per_second > 0
    assert found.evaluation_peak_memory_bytes == record.peak_memory_bytes
    assert found.latency_prompt_tokens > 10
    for name in ("first_token", "next_token", "merged_first_token", "merged_next_token"):
        assert 0 <= getattr(found, f"{name}_seconds") < 60, name
    assert found.first_token_seconds > 0
    assert found.train_seconds is None


def test_what_cannot_be_merged_has_no_latency_of_it(model, tmp_path):
    found = a_run(model, tmp_path, {"name": "prompt_tuning", "virtual_tokens": 5}).evaluation.efficiency
    assert found.first_token_seconds > 0
    assert (found.merged_first_token_seconds, found.merged_next_token_seconds) == (None, None)
    base = a_run(model, tmp_path, "base").evaluation.efficiency
    assert base.merged_first_token_seconds == base.first_token_seconds


def test_every_figure_has_a_definition():
    for name, field in EfficiencyProfile.model_fields.items():
        assert name == "merged_next_token_seconds" or len(field.description) > 10, name


def test_memory_of_runs_that_shared_passes_is_not_told_apart(model, tmp_path):
    configs = [
        {
            "model": model, "dataset": "rte", "method": "ia3", "seed": seed, "output": str(tmp_path),
            "training": {"epochs": 1, "validations": 1}, "engine": {"tokens_per_step": 100_000},
        }
        for seed in (1, 2)
    ]  # fmt: skip
    for result in peftbench.run_many(configs, rows=ROWS, evaluate=False):
        assert result.train.group_size == 2
        assert result.train.efficiency.train_peak_memory_bytes is None
        assert result.train.efficiency.train_seconds > 0


def test_measuring_changes_no_result(result, model, tmp_path, monkeypatch):
    """The same run with nothing measured has the same weights and the same predictions, to the last bit."""
    nothing = EfficiencyProfile(device="cpu", memory_kind=None)
    monkeypatch.setattr("peftbench.training.training_profile", lambda *_, **__: nothing)
    monkeypatch.setattr("peftbench.execute.evaluation_profile", lambda *_, **__: nothing)
    plain = a_run(model, tmp_path)
    assert plain.train.adapter_sha256 == result.train.adapter_sha256
    assert plain.train.best_validation_loss == result.train.best_validation_loss
    assert plain.evaluation.scores == result.evaluation.scores
    read = [next(iter_predictions(each.folder)) for each in (plain, result)]
    assert read[0] == read[1]


def iter_predictions(folder):
    from pathlib import Path

    import pyarrow.parquet

    for file in sorted(Path(folder).glob("eval-*/predictions.parquet")):
        yield pyarrow.parquet.read_table(file).to_pylist()


def test_records_of_earlier_versions_can_be_read(result):
    for record, kind in ((result.train, TrainRecord), (result.evaluation, EvalRecord)):
        old = json.loads(record.model_dump_json())
        del old["efficiency"]
        assert kind.model_validate_json(json.dumps(old)).efficiency is None


class AMeter:
    """Stands for codecarbon's offline tracker: so many kilowatt-hours, by counters or not."""

    def __init__(self, mode, **settings):
        self._hardware = [type("CPU", (), {"_mode": mode})()]
        self.settings = settings

    def start(self):
        self.final_emissions_data = types.SimpleNamespace(energy_consumed=0.0)

    def stop(self):
        self.final_emissions_data.energy_consumed = 2e-6


@contextmanager
def codecarbon(monkeypatch, mode):
    module = types.ModuleType("codecarbon")
    made = []
    module.OfflineEmissionsTracker = lambda **settings: made.append(AMeter(mode, **settings)) or made[-1]
    monkeypatch.setitem(sys.modules, "codecarbon", module)
    monkeypatch.setattr("peftbench.efficiency.energy.find_spec", lambda _: object())
    yield made


@pytest.mark.parametrize(("mode", "source"), [("intel_rapl", "measured"), ("constant", "estimated")])
def test_energy_says_whether_it_was_measured(monkeypatch, mode, source):
    with codecarbon(monkeypatch, mode) as made, metered() as energy:
        assert energy == Energy()
    assert energy == Energy(joules=pytest.approx(7.2), source=source)
    assert made[0].settings["save_to_file"] is False


def test_energy_comes_into_the_records(model, tmp_path, monkeypatch):
    with codecarbon(monkeypatch, "intel_rapl"):
        found = a_run(model, tmp_path)
    assert found.train.efficiency.energy_joules == pytest.approx(7.2)
    assert found.evaluation.efficiency.energy_source == "measured"


# ------------------------------------------------------------------------------------------- peftbench profile


@pytest.mark.parametrize("engine", ["packed", "padded"])
@pytest.mark.parametrize("method", ["base", "lora", {"name": "prefix_tuning", "virtual_tokens": 4}])
def test_a_profile_is_measured_as_it_is_predicted(model, method, engine):
    from peftbench.efficiency.plan import predict

    choice = MethodChoice.model_validate(method)
    given = {"batch": 2, "tokens": 32, "answer_tokens": 4, "engine": engine}
    measured = measure(model, None, choice, **given)
    predicted = predict(model, None, choice, dtype="float32", gradient_checkpointing=False, kernels="cpu", **given)
    assert measured.trainable_params == predicted.trainable_params
    assert measured.first_token_seconds > 0
    if choice.name == "base":
        assert measured.step_seconds is None
        return
    assert measured.adapter_bytes == predicted.adapter_bytes
    assert measured.peak_train_memory_bytes == pytest.approx(predicted.peak_train_memory_bytes, rel=0.05)
    assert measured.step_seconds_range.low <= measured.step_seconds <= measured.step_seconds_range.high


def test_a_prompt_that_fills_the_context_has_no_latency(model):
    from peftbench.engine.loading import choose_device, load_model

    loaded = load_model(model, None, choose_device("cpu"))
    assert profiles._latency(loaded, None, tuple([5] * 512)) == (None, None)
    first, then = profiles._latency(loaded, None, tuple([5] * 510))
    assert first > 0
    assert then >= 0


def test_a_model_that_cannot_be_packed_says_what_to_do(tmp_path, monkeypatch):
    from peftbench.engine.probe import CannotBePacked

    folder = save_tiny_model(str(tmp_path))

    def refuse(module):
        raise CannotBePacked("of a test")

    monkeypatch.setattr("peftbench.engine.probe.packable", refuse)
    with pytest.raises(ConfigError, match=r"cannot be packed \(of a test\); take the padded engine"):
        measure(folder, None, MethodChoice(name="ia3"), batch=1, tokens=16)
