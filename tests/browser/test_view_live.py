"""A page that is served takes up records that come while it is open: counts, draws and what it shows of them."""

from tests.browser.conftest import serving
from tests.predicted import DATASETS, SKILL, add


def test_new_records_come_by_themselves(tmp_path, watch):
    runs = tmp_path / "runs"
    for method in ("base", "lora"):
        for dataset in DATASETS[:2]:
            add(runs, method, dataset, 1, SKILL[method])
    with serving([runs]) as address:
        tab = watch(address)
        tab.tab.locator("main table").wait_for()
        assert [row[0] for row in tab.cells()[1:]] == ["LoRA", "Base"]
        for dataset in DATASETS[:2]:
            add(runs, "ia3", dataset, 1, SKILL["ia3"])
        tab.tab.locator("main table").get_by_text("IA3").wait_for(timeout=60_000)
        # Its tie group is there too: the draws were read anew with the index.
        tab.tab.wait_for_function("document.querySelectorAll('main .whisker g').length === 3", timeout=30_000)
        assert all(row[3] in ("1", "2", "3") for row in tab.cells()[1:])
        tab.go("#/live")
        assert "Nothing runs at the moment" in tab.text()
        tab.check()
