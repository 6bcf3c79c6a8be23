"""`peftbench compare` and `peftbench ranks` over synthetic records with predictions, and what they refuse."""

import json
import shutil

import pytest
from scipy import stats as scipy_stats

from peftbench.leaderboard import compare
from peftbench.store import stored_results
from tests.e2e.test_cli import call, refused
from tests.predicted import DATASETS, add, fill
from tests.synthetic import edit


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("compare") / "runs")


@pytest.fixture
def runs(kept, tmp_path):
    shutil.copytree(kept, tmp_path / "runs")
    return tmp_path / "runs"


def run_of(folder, method, dataset, seed):
    [found] = (folder / "small" / method / dataset).glob(f"seed{seed}-*")
    return found


def data(*arguments):
    code, out, err = call(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_two_methods_are_compared_on_each_dataset_and_over_all(kept):
    found = data("compare", "lora", "ia3", kept)
    assert (found["first"], found["second"]) == ("lora", "ia3")
    assert found["title"] == "lora against ia3: models/small, corrected; 5 datasets, 3 seeds"
    means = {row.method.partition("(")[0]: row for row in compare(stored_results(kept), replicates=20)}
    overall = found["overall"]
    assert overall["first"] == pytest.approx(means["lora"].mean.estimate)
    assert overall["second"] == pytest.approx(means["ia3"].mean.estimate)
    estimate, low, high = (overall["difference"][key] for key in ("estimate", "low", "high"))
    assert estimate == pytest.approx(overall["first"] - overall["second"])
    assert 0 < low < estimate < high
    assert overall["ahead"] > 0.99
    assert overall["p"] == pytest.approx(1e-4)
    # 2.80 standard errors, about half the width of the interval to 1.96 of them.
    assert overall["detectable"] == pytest.approx((high - low) / 2 / 1.96 * 2.8, rel=0.1)
    of = found["datasets"]
    assert set(of) == set(DATASETS)
    assert {name for name, each in of.items() if each["right"]} == {"rte", "cb", "svamp"}
    raised = scipy_stats.false_discovery_control  # a weaker correction is never above Holm's
    ps = [each["p"] for each in of.values()]
    assert all(each["holm"] >= each["p"] for each in of.values())
    assert all(low <= each["holm"] for low, each in zip(raised(ps), of.values(), strict=True))
    assert found["over_datasets"] is None
    assert 0.5 < found["improvement"] <= 1
    assert found["notes"] == [
        "Resampling 3 seeds finds 2/3 of their variance, so that intervals are somewhat too narrow where seeds matter."
    ]


def test_the_other_way_round_is_the_mirror_image(kept):
    ours, theirs = data("compare", "lora", "ln_tuning", kept), data("compare", "ln_tuning", "lora", kept)
    for name, each in ours["datasets"].items():
        other = theirs["datasets"][name]
        assert each["difference"]["estimate"] == pytest.approx(-other["difference"]["estimate"])
        assert each["p"] == pytest.approx(other["p"], abs=0.02)
    assert ours["improvement"] == pytest.approx(1 - theirs["improvement"])


def test_the_table_says_what_its_columns_are(kept):
    code, out, err = call("compare", "lora", "base", kept)
    assert code == 0, err
    for part in ("lora against base", "5 datasets, 1 to 3 seeds", "ahead", "McNemar", "detectable", "mean",
                 "fewer than 6 datasets are too few", "2/3 of their variance", "p is approximate"):  # fmt: skip
        assert part in out, out


def test_six_datasets_are_a_sample_of_datasets(runs):
    fill(runs, datasets=("wic", "boolq"), methods=("lora", "ia3"))
    assert data("compare", "lora", "ia3", runs)["over_datasets"] == pytest.approx(2 / 2**7)


def test_a_method_against_itself_under_another_name_is_equal_everywhere(tmp_path):
    for seed in (1, 2):
        for method in ("lora", "ia3"):
            run = add(tmp_path, method, "rte", seed, 1.0)
            assert run.exists()
    found = data("compare", "lora", "ia3", tmp_path)
    each = found["datasets"]["rte"]
    assert each["difference"] == {"estimate": 0.0, "low": 0.0, "high": 0.0, "confidence": 0.95}
    assert (each["p"], each["holm"], each["ahead"], each["detectable"]) == (1.0, 1.0, 0.5, None)
    assert each["right"] == {"only_first": 0, "only_second": 0, "p": 1.0}
    add(tmp_path, "lora", "cb", 1, 1.0)
    ranked = data("ranks", fill(tmp_path / "more", methods=("lora", "ia3")))
    assert ranked["diagram"]["groups"] in ([], [[0, 1]])


def test_one_seed_says_that_it_is_one(tmp_path):
    fill(tmp_path, seeds=(1,), methods=("lora", "ia3"), datasets=("rte",))
    found = data("compare", "lora", "ia3", tmp_path)
    assert found["notes"] == ["One seed each: nothing here says what another seed would give."]
    ranked = data("ranks", tmp_path)
    assert ranked["diagram"] is None
    assert ranked["notes"][0] == "One dataset: whether the order holds on others cannot be tested."
    assert ranked["methods"][0]["seeds"] == {"rte": None}
    assert ranked["equal_spread"] == {}
    refused("a diagram of ranks needs at least two", "ranks", tmp_path, "--diagram", tmp_path / "d.json")


def test_missing_cells_are_refused_by_name_or_left_out(runs):
    shutil.rmtree(run_of(runs, "lora", "cb", 2))
    err = refused("the set is not complete: lora lacks cb, seed 2", "compare", "lora", "ia3", runs)
    assert "--allow-missing" in err
    refused("lora lacks cb, seed 2", "ranks", runs)
    data("compare", "ln_tuning", "ia3", runs)  # of others nothing is missing
    found = data("compare", "lora", "ia3", runs, "--allow-missing")
    assert "lora lacks cb, seed 2" in found["notes"][-1]
    for seed in (1, 3):
        shutil.rmtree(run_of(runs, "lora", "cb", seed))
    found = data("compare", "lora", "ia3", runs, "--allow-missing")
    assert "Left out for all: cb" in found["notes"][-1]
    assert "cb" not in found["datasets"]
    assert "4 datasets" in data("ranks", runs, "--allow-missing")["title"]


def test_different_rows_are_refused_by_name(runs):
    import pyarrow.parquet as pq

    for seed in (1, 2, 3):
        [file] = run_of(runs, "lora", "rte", seed).glob("eval-*/predictions.parquet")
        pq.write_table(pq.read_table(file).slice(1), file)
        edit(file.with_name("result.json"), predictions_sha256=None)
    refused("lora and ia3 were evaluated on different test rows of rte", "compare", "lora", "ia3", runs)


def test_what_cannot_be_compared(kept, tmp_path):
    refused("unknown method 'lorra'; did you mean 'lora'", "compare", "lorra", "ia3", kept)
    refused("are the same method", "compare", "lora", "lora", kept)
    refused("is not a folder", "compare", "lora", "ia3", tmp_path / "none")
    refused("holds no finished run", "compare", "lora", "ia3", tmp_path)
    refused("unknown protocol 'published'", "compare", "lora", "ia3", kept, "--protocol", "published")
    refused("unknown procedure 'nemeny'; did you mean 'nemenyi'", "ranks", kept, "--procedure", "nemeny")
    refused("expected it to end in .svg", "ranks", kept, "--diagram", "ranks.gif")
    fill(tmp_path / "one", methods=("lora",), datasets=("rte",))
    refused("of one method, lora; ranks need at least two", "ranks", tmp_path / "one")


def test_settings_are_told_apart(tmp_path):
    for rank in (4, 8):
        for seed in (1, 2):
            run = add(tmp_path, "lora", "rte", seed, 0.7 + rank / 100)
            shutil.move(run, tmp_path / f"aside{rank}{seed}")
    for rank in (4, 8):
        for seed in (1, 2):
            folder = tmp_path / f"aside{rank}{seed}"
            for file in (*folder.glob("*.json"), *folder.glob("eval-*/result.json")):
                config = json.loads(file.read_text())["config"]
                edit(file, config=config | {"method": config["method"] | {"settings": {"rank": rank}}})
    refused(
        "several settings of lora: lora(rank=4); lora(rank=8); name one in full",
        "compare",
        "lora",
        "lora(rank=4)",
        tmp_path,
    )
    assert data("compare", "lora(rank=8)", "lora(rank=4)", tmp_path)["first"] == "lora(rank=8)"


def test_methods_are_ranked(kept, tmp_path):
    found = data("ranks", kept, "--diagram", tmp_path / "ranks.json")
    assert found["methods"][0]["method"] == "lora"
    assert found["methods"][-1]["method"] == "base"
    assert found["methods"][0]["rank"]["estimate"] == 1
    assert sum(each["rank"]["estimate"] for each in found["methods"]) == pytest.approx(10)
    assert found["methods"][-1]["seeds"]["rte"] is None
    assert found["diagram"]["groups"] == [[0, 3]]
    assert "Fewer than 6 datasets" in found["notes"][0]
    spread = found["methods"][0]["seeds"]["rte"]
    assert spread["low"] < spread["deviation"] < spread["high"]
    profile = list(found["methods"][0]["profile"].values())
    assert profile == sorted(profile, reverse=True)
    assert profile[0] == 1
    assert json.loads((tmp_path / "ranks.json").read_text())["methods"] == found["diagram"]["methods"]
    code, out, _ = call("ranks", kept, "--stability", "--procedure", "nemenyi")
    assert code == 0
    for part in (
        "Friedman over 5 datasets",
        "Not told apart at 0.05 (nemenyi): lora",
        "Standard deviation over seeds",
    ):
        assert part in out


def test_one_seed_says_nothing_of_stability(tmp_path):
    fill(tmp_path, seeds=(1,))
    code, out, _ = call("ranks", tmp_path, "--stability")
    assert code == 0
    assert "Every cell has one seed: how far seeds matter cannot be known." in out


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_diagram_is_drawn(kept, tmp_path, ending):
    pytest.importorskip("matplotlib")
    file = tmp_path / f"ranks.{ending}"
    assert call("ranks", kept, "--procedure", "nemenyi", "--diagram", file)[0] == 0
    first = file.read_bytes()
    assert len(first) > 2000
    assert call("ranks", kept, "--procedure", "nemenyi", "--diagram", file)[0] == 0
    assert file.read_bytes() == first
