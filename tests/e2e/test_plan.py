"""`peftbench plan`: what a grid will cost, what is done of it, and what in it cannot be."""

import json
import shutil
from pathlib import Path

import pytest

from peftbench.testing import save_tiny_model
from tests.e2e.test_cli import call, call_process, put_model_and_rows, refused
from tests.e2e.test_model_hub import COMMIT, NAME
from tests.e2e.test_model_hub import call as call_hub
from tests.hub_server import HubServer, Repository


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with a model, a small `rte` and a grid over them."""
    root = tmp_path_factory.mktemp("plan")
    put_model_and_rows(root)
    (root / "grid.yaml").write_text(
        f"name: small\nmodels: [{root / 'model'}]\nmethods: [base, {{name: lora, each: {{rank: [2, 4]}}}}, ia3]\n"
        f"datasets: [rte]\nseeds: [1, 2]\nrun:\n  data: {{directory: {root / 'data'}, allow_partial: true}}\n"
        f"  training: {{epochs: 1, max_tokens: 200}}\n  device: cpu\n  threads: 1\n  output: {root / 'runs'}\n"
    )
    return root


def planned(*arguments, status=0):
    code, out, err = call("plan", *arguments, "--json")
    assert code == status, (out, err)
    return json.loads(out)


def by_cell(found):
    return {cell["cell"]: cell for cell in found["cells"]}


def test_a_grid_says_what_it_costs(world):
    found = planned(world / "grid.yaml", "--price", 2, "--carbon", 0.5)
    assert found["totals"]["cells"] == {"done": 0, "failed": 0, "pending": 7, "impossible": 0}
    cells = by_cell(found)
    assert list(cells)[:2] == ["base on rte", "lora(rank=2) on rte, seed 1"]
    four, two = cells["lora(rank=4) on rte, seed 1"], cells["lora(rank=2) on rte, seed 1"]
    assert four["trainable_params"] == 2 * two["trainable_params"]
    assert four["extra_forward_flops"] > two["extra_forward_flops"] > 0
    assert four["peak_memory_bytes"] > two["peak_memory_bytes"] > cells["base on rte"]["peak_memory_bytes"]
    # 2,490 rows in Table 4, a tenth held out, batches of 4
    assert four["steps"] == -(-(2490 - 249) // 4)
    total = found["totals"]
    assert total["device_hours"]["low"] == pytest.approx(sum(c["seconds"]["low"] for c in cells.values()) / 3600)
    assert total["money"]["high"] == pytest.approx(2 * total["device_hours"]["high"])
    assert total["co2_kilograms"]["high"] == pytest.approx(0.5 * total["kilowatt_hours"]["high"])
    assert found["device"] == "cpu"
    assert found["basis"].startswith("estimated")
    assert found["downloads"] == []


def test_money_and_carbon_are_not_made_up(world):
    total = planned(world / "grid.yaml")["totals"]
    assert total["money"] is total["co2_kilograms"] is None


def test_what_is_done_is_not_planned_again(world, tmp_path):
    text = (world / "grid.yaml").read_text().replace(str(world / "runs"), str(tmp_path / "runs"))
    (tmp_path / "grid.yaml").write_text(text)
    (tmp_path / "train.yaml").write_text(
        f"model: {world / 'model'}\ndataset: rte\nmethod: ia3\nseed: 2\n"
        f"data: {{directory: {world / 'data'}, allow_partial: true}}\ntraining: {{epochs: 1, max_tokens: 200}}\n"
        f"device: cpu\nthreads: 1\noutput: {tmp_path / 'runs'}\n"
    )
    code, _, err = call("run", tmp_path / "train.yaml")
    assert code == 0, err
    found = planned(tmp_path / "grid.yaml")
    done = [cell["cell"] for cell in found["cells"] if cell["status"] == "done"]
    assert done == ["ia3 on rte, seed 2"]
    assert planned(tmp_path / "train.yaml")["totals"]["cells"]["done"] == 1
    # Another training asks for another cell; a record that cannot be read is named and hides nothing.
    assert planned(tmp_path / "grid.yaml", "--set", "run.training.epochs=2")["totals"]["cells"]["done"] == 0
    [record] = (tmp_path / "runs").rglob("result.json")
    copy = tmp_path / "runs" / "model" / "ia3" / "rte" / "seed9-0"
    shutil.copytree(record.parents[1], copy)
    (copy / "train.json").write_text("{")
    found = planned(tmp_path / "grid.yaml", status=1)
    assert found["totals"]["cells"]["done"] == 1
    [problem] = found["unreadable"]
    assert "train.json is not a record of this version" in problem


def test_one_run_can_be_planned_and_tables_are_printed(world):
    code, out, _ = call("plan", world / "grid.yaml", "--cells")
    assert code == 0
    assert out.splitlines()[0].startswith("small, 7 cells on cpu; estimated")
    assert sum("lora(rank=2)" in line for line in out.splitlines()) == 2
    code, out, _ = call("plan", world / "grid.yaml")
    assert code == 0
    assert sum("lora(rank=2)" in line for line in out.splitlines()) == 1
    assert "Cells: 7 pending" in out
    assert "Left to do: " in out


def test_shards_are_parts_of_the_whole(world):
    parts = [planned(world / "grid.yaml", "--shard", f"{i}/2")["cells"] for i in (1, 2)]
    assert sorted(cell["id"] for part in parts for cell in part) == sorted(
        cell["id"] for cell in planned(world / "grid.yaml")["cells"]
    )


def test_the_shipped_dimensions_need_no_network():
    code, out, err = call_process(
        "plan",
        "subset",
        "--device",
        "a100-40",
        "--json",
        "--set",
        "methods=[base, lora]",
        "--set",
        "datasets=[rte]",
    )
    assert code == 0, err
    found = json.loads(out)
    cell = by_cell(found)["lora on rte, seed 42"]
    assert cell["trainable_params"] == 14_680_064
    assert cell["extra_forward_flops"] == pytest.approx(15.032e9, rel=1e-4)
    assert cell["fits"] is True
    assert "dimensions shipped" in found["basis"]
    kinds = {each["kind"]: each for each in found["downloads"]}
    assert kinds["model"]["revision"] == "8afb486c1db24fe5011ec46dfbe5b5dccdb575c2"
    assert kinds["model"]["estimated_bytes"] == 2 * 8_030_261_248
    assert kinds["dataset"]["repository"] == "nyu-mll/glue"
    assert len(kinds["dataset"]["files"]) == 2


# ------------------------------------------------------------------------------------- what would fail later


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (["methods=[{name: lora, targets: [nothing]}]"], "nothing"),
        (["run.training.max_tokens=30"], "the context is too short: instruction and answer of rte take about"),
        (["methods=[{name: prompt_tuning, virtual_tokens: 190}]"], "190 virtual ones"),
        (["run.data.directory=/nowhere"], "the folder of datasets '/nowhere' does not exist"),
        (["models=[/nowhere/model]"], "no folder of that name is here"),
    ],
)
def test_what_would_fail_later_is_found_now(world, settings, why):
    found = planned(world / "grid.yaml", *(part for each in settings for part in ("--set", each)), status=2)
    assert found["totals"]["cells"]["impossible"] == len(found["cells"])
    assert any(why in text for cell in found["cells"] for text in cell["why"]), found["cells"][0]["why"]
    assert all(len(set(cell["why"])) == len(cell["why"]) for cell in found["cells"])


def test_missing_columns_are_named(world, tmp_path):
    folder = tmp_path / "data" / "rte"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text('{"sentence1": "a", "hypothesis": "b", "label": 0, "idx": 0}\n')
    found = planned(world / "grid.yaml", "--data-dir", tmp_path / "data", status=2)
    [why, _] = by_cell(found)["ia3 on rte, seed 1"]["why"]
    assert "the train split of rte has no column sentence2; it has hypothesis, idx" in why


def test_a_model_that_does_not_fit_is_impossible_and_told_why():
    code, out, _ = call("plan", "subset", "--device", "t4", "--set", "methods=[ia3]", "--set", "datasets=[rte]")
    assert code == 2
    assert "the weights alone take 16.1 GB, and NVIDIA T4 16 GB has 15.0 GB beside what it needs itself" in out
    found = planned("subset", "--device", "t4", "--set", "models=[llama-3.2-3b]", "--set", "methods=[lora]",
                    "--set", "datasets=[record]", "--set", "run.dtype=float32", status=2)  # fmt: skip
    [why] = found["cells"][0]["why"]
    assert why.startswith("one sample takes about")
    assert "engine.gradient_checkpointing=true" in why


def test_what_fits_in_several_passes_alone_is_called_so():
    code, out, err = call("plan", "subset", "--device", "a100-40", "--set", "methods=[lora]", "--set",
                          "datasets=[record]", "--set", "run.training.batch_size=16")  # fmt: skip
    assert code == 0, err
    [row] = [line for line in out.splitlines() if line.startswith("lora ")]
    assert "in several passes" in row


def test_a_model_that_is_only_dimensions_can_be_planned_and_is_called_so():
    found = planned("subset", "--device", "h100", "--set", "models=[qwen3-0.6b]", "--set", "methods=[lora]",
                    "--set", "datasets=[rte]")  # fmt: skip
    assert "names dimensions alone" in found["cells"][0]["notes"][0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("papr",), "unknown grid 'papr'; did you mean 'paper'?"),
        (("paper", "--device", "a100"), "unknown device 'a100'; did you mean 'a100-40' or 'a100-80'?"),
        (("paper", "--shard", "3/2"), "--shard is '3/2', expected i/n"),
        (("missing.yaml",), "'missing.yaml' does not exist"),
        (("demo", "--price", "-1"), "--price is -1.0, expected a number of at least 0"),
        (("demo", "--carbon", "nan"), "--carbon is nan, expected a number of at least 0"),
        (("demo", "--set", "run.training.epoch=1"), "unknown key 'training.epoch'"),
    ],
)
def test_mistakes_are_one_sentence(arguments, expected):
    refused(expected, "plan", *arguments)


def test_a_shard_of_one_run(world, tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text(f"model: {world / 'model'}\ndataset: rte\nmethod: ia3\n")
    refused("describes one run; leave it out", "plan", file, "--shard", "1/2")


# ----------------------------------------------------------------------------------------------- with the hub


@pytest.fixture
def grid_on_hub(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(
        f"name: hub\nmodels: [{{model: {NAME}, model_revision: {COMMIT}}}]\nmethods: [ia3]\ndatasets: [sst2@mini]\n"
        "run: {device: cpu, training: {epochs: 1}}\n"
    )
    return file


@pytest.fixture
def hub(tmp_path):
    folder = Path(save_tiny_model(str(tmp_path / "model")))
    files = {each.name: each.read_bytes() for each in folder.iterdir()}
    with HubServer({NAME: Repository(COMMIT, {COMMIT: files})}) as server:
        yield server


def test_the_hub_is_asked_only_if_that_was_said(hub, tmp_path, grid_on_hub):
    code, out, err = call_hub(hub, tmp_path, "plan", grid_on_hub)
    assert code == 2, err
    assert "are not here; pass --online to read its config.json" in out
    assert not hub.requests
    code, out, err = call_hub(hub, tmp_path, "plan", grid_on_hub, "--online", "--json")
    assert code == 0, (out, err)
    assert by_cell(json.loads(out))["ia3 on sst2@mini, seed 42"]["status"] == "pending"
    assert hub.transfers(".safetensors") == 0
    assert {request.split()[0] for request in hub.requests} <= {"GET", "HEAD"}


def test_a_gated_model_is_found_before_the_run(hub, tmp_path, grid_on_hub):
    hub.refusal = (403, "GatedRepo")
    code, out, _ = call_hub(hub, tmp_path, "plan", grid_on_hub, "--online")
    assert code == 2
    assert "is gated: accept its terms on its hub page and give a token by HF_TOKEN" in out


def test_columns_on_the_hub_are_looked_at_without_the_rows(tmp_path, monkeypatch):
    from huggingface_hub import constants

    from peftbench.datasets.check import problems_of
    from tests.unit.datasets.cola_on_hub import TEST, cola, repository, use_endpoint

    monkeypatch.delenv("PEFTBENCH_DATA", raising=False)
    monkeypatch.setenv("PEFTBENCH_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "theirs"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    spec = cola()
    given = {"protocol": "corrected", "data_dir": None}
    with HubServer({"nyu-mll/glue": repository()}) as server:
        use_endpoint(monkeypatch, server.endpoint)
        assert problems_of(spec, ["train", "test"], online=False, **given) == []
        assert not server.requests
        assert problems_of(spec, ["train", "test"], online=True, **given) == []
        more = spec.model_copy(update={"columns": {**spec.columns, "author": "text"}})
        [problem] = problems_of(more, ["test"], online=True, **given)
        assert (
            "the test split of cola in nyu-mll/glue has no column author; it has idx, label, sentence" in problem
        )
        server.repositories["nyu-mll/glue"].commits[spec.source.revision].pop(TEST)
        [problem] = problems_of(spec, ["test"], online=True, **given)
        assert f"{TEST} of nyu-mll/glue" in problem
        assert not list((tmp_path / "theirs").rglob("*.parquet"))
