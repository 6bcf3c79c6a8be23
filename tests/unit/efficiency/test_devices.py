"""Times and energies from work and a device: by hand, and what a calibration changes."""

import json

import pytest

from peftbench.efficiency import devices
from peftbench.efficiency.calibrate import calibrate
from peftbench.efficiency.cost import Operation, Work
from peftbench.efficiency.devices import (
    Calibration,
    device_called,
    device_names,
    find_device,
    load_calibration,
    roofline,
    run_cost,
)
from peftbench.efficiency.plan import predict
from peftbench.errors import DataError, UnknownName
from peftbench.schema import MethodChoice


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(devices.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    return tmp_path / "peftbench" / "devices"


@pytest.fixture(scope="module")
def prediction():
    return predict(
        "llama-3.2-1b", None, MethodChoice(name="lora"), batch=4, tokens=128, dtype="bfloat16", engine="packed",
        gradient_checkpointing=False,
    )  # fmt: skip


def work(*operations):
    found = tuple(Operation(count=c, matmul_flops=f, moved_bytes=b, dtype="float32") for c, f, b in operations)
    return Work(matmul_flops=0, elementwise_flops=0, launches=sum(each.count for each in found), operations=found)


A_CALIBRATION = {
    "measured_on": "a test",
    "measured_at": "2026-11-24T00:00:00+00:00",
    "matmul_flops_per_second": {"float32": {"low": 1e9, "high": 2e9}},
    "bandwidth_bytes_per_second": {"low": 1e9, "high": 4e9},
    "cached_bandwidth_bytes_per_second": {"low": 5e9, "high": 1e10},
    "launch_seconds": {"low": 1e-3, "high": 2e-3},
}


def calibrated(name):
    calibration = Calibration.model_validate({**A_CALIBRATION, "device": name})
    return find_device(name).model_copy(update={"calibration": calibration})


def test_every_device_says_where_its_numbers_come_from():
    assert {"a100-40", "a100-80", "h100", "h200", "l40s", "rtx-4090", "rtx-3090", "t4", "cpu"} <= set(
        device_names()
    )
    for name in device_names():
        device = find_device(name)
        assert len(device.source) > 20
        assert device.power_watts > 0
        assert device.matmul_flops_per_second["float32"] > 1e12
        assert device.kind == "cpu" or device.memory_bytes >= 16e9


def test_an_unknown_device_is_told_with_the_nearest():
    with pytest.raises(UnknownName, match=r"unknown device 'a100-4'; did you mean 'a100-40'"):
        find_device("a100-4")
    assert find_device("H200").name == "h200"


def test_devices_are_known_by_what_torch_calls_them():
    found = {
        "NVIDIA H200": "h200",
        "NVIDIA A100-SXM4-80GB": "a100-80",
        "NVIDIA A100-PCIE-40GB": "a100-40",
        "NVIDIA H100 80GB HBM3": "h100",
        "NVIDIA GeForce RTX 3090": "rtx-3090",
        "cpu": "cpu",
    }
    for called, name in found.items():
        assert device_called(called).name == name
    assert device_called("Radeon VII") is None


def test_an_operator_takes_its_arithmetic_or_its_bytes_whichever_is_longer():
    gpu, cpu = calibrated("t4"), calibrated("cpu")

    def took(what, device):
        found = devices._seconds(what, device)
        return found.low, found.high

    arithmetic = work((10, 8_000_000, 1000))  # 4 ms at best, 8 ms at worst, each
    assert took(arithmetic, gpu) == pytest.approx((0.04, 0.08))
    large, small = work((1, 0, 40_000_000)), work((1, 0, 1_000_000))
    assert took(large, gpu) == pytest.approx((0.01, 0.04))
    assert took(small, cpu) == pytest.approx((0.0011, 0.0022))  # in its cache
    # On a GPU a launch is hidden behind work that takes longer, on a CPU it comes on top.
    assert took(work((5, 0, 8)), gpu) == pytest.approx((0.005, 0.010))
    assert took(arithmetic, cpu) == pytest.approx((0.05, 0.10))


def test_a_faster_device_is_faster_and_says_what_it_rests_on(prediction):
    slow, fast = (roofline(prediction, find_device(name)) for name in ("t4", "h200"))
    assert slow.step_seconds.low > 5 * fast.step_seconds.low
    assert fast.step_seconds.low < fast.step_seconds.high
    assert not slow.calibrated
    assert fast.step_joules.high == pytest.approx(700 * fast.step_seconds.high)
    assert slow.fits
    assert slow.first_token_seconds.low > slow.next_token_seconds.low > 0
    assert fast.answer_token_seconds.low < 64 * fast.next_token_seconds.low


def test_whether_it_fits_counts_what_a_gpu_needs_beside_tensors(prediction):
    for extra, fits in ((-1, True), (0, True), (1, False)):
        bytes_ = find_device("t4").memory_bytes - devices.CONTEXT_BYTES + extra
        full = prediction.model_copy(update={"peak_train_memory_bytes": bytes_})
        assert roofline(full, find_device("t4")).fits is fits
    assert roofline(prediction, find_device("cpu")).fits is None


def test_a_run_is_its_steps_validations_and_answers(prediction):
    cost = roofline(prediction, find_device("a100-40"))
    run = run_cost(cost, steps=100, validation_steps=20, answer_batches=3, answer_tokens=7)
    assert run.train_seconds == cost.step_seconds.times(100)
    assert run.generation_seconds.low == pytest.approx(
        3 * (cost.answer_prefill_seconds.low + 7 * cost.answer_token_seconds.low)
    )
    assert run.seconds.low == pytest.approx(
        run.train_seconds.low + run.validation_seconds.low + run.generation_seconds.low
    )
    assert run.joules.high == pytest.approx(run.seconds.high * 250)
    assert (
        run_cost(cost.model_copy(update={"step_seconds": None}), steps=0, answer_batches=1).train_seconds.high == 0
    )


def test_a_calibration_is_kept_and_used(cache, monkeypatch, prediction):
    monkeypatch.setattr("peftbench.efficiency.calibrate._SECONDS", 0.01)
    monkeypatch.setattr("peftbench.efficiency.calibrate._PRODUCTS", ((8, 8, 8), (64, 64, 64)))
    monkeypatch.setattr("peftbench.efficiency.calibrate._LARGE", 1 << 20)
    found = calibrate("cpu")
    assert load_calibration("cpu") == found
    assert find_device("cpu").calibration == found
    assert find_device("cpu", calibrated=False).calibration is None
    assert roofline(prediction, find_device("cpu")).calibrated
    assert found.matmul_flops_per_second["float32"].low <= found.matmul_flops_per_second["float32"].high


def test_a_damaged_calibration_is_told_and_can_be_made_again(cache, monkeypatch):
    cache.mkdir(parents=True)
    (cache / "cpu.json").write_text(json.dumps({"device": "cpu"}))
    with pytest.raises(DataError, match=r"cpu\.json cannot be read; remove it or run `peftbench calibrate` again"):
        find_device("cpu")
    monkeypatch.setattr("peftbench.efficiency.calibrate._SECONDS", 0.01)
    monkeypatch.setattr("peftbench.efficiency.calibrate._PRODUCTS", ((8, 8, 8),))
    monkeypatch.setattr("peftbench.efficiency.calibrate._LARGE", 1 << 20)
    calibrate("cpu")
    assert find_device("cpu").calibration is not None
