"""The page on many records: how long it takes to build, to show and to filter.

    python -m bench.page --records 10000 --runs FOLDER

Writes records with predictions of runs that were never made (kept in FOLDER for the next time), builds the page of
them, opens it in Chromium from the disk and takes medians. Needs Playwright and Chromium.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tests.predicted import GOLD, add

import peftbench.disk
from peftbench.datasets import dataset_names, get_dataset
from peftbench.observer import Observer
from peftbench.site.build import build

METHODS = {"base": 0.4, "ia3": 0.7, "prompt_tuning": 0.5, "p_tuning": 0.52, "prefix_tuning": 0.6, "lora": 0.85,
           "ln_tuning": 0.8}  # fmt: skip
ROWS = 12


def cells() -> Iterator[tuple[str, str, str, int]]:
    """Model, method, dataset and seed without end."""
    names = [name for name in dataset_names() if name in GOLD or get_dataset(name).label_set]
    number = 0
    while True:
        number += 1
        for dataset in names:
            for method in METHODS:
                for seed in (42,) if method == "base" else (42, 123, 456, 789, 1011):
                    yield f"models/model-{number}", method, dataset, seed


def write(folder: Path, count: int) -> None:
    """Records of so many runs; none is flushed to the disk one by one, which would take most of the time."""
    sync, peftbench.disk.sync = peftbench.disk.sync, lambda _path: None
    try:
        for model, method, dataset, seed in islice(cells(), count):
            add(folder, method, dataset, seed, METHODS[method], ROWS, model=model)
    finally:
        peftbench.disk.sync = sync


class Phases(Observer):
    """Keeps when each phase of the building began."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, float, float]] = []

    def phase(self, name: str, total: int | None = None) -> None:  # noqa: ARG002
        """The next phase."""
        self.begun.append((name, time.perf_counter(), time.process_time()))

    def taken(self) -> Iterator[tuple[str, float, float]]:
        """Seconds of each phase, by the clock and of the processor; from its beginning to that of the next."""
        ends = [(wall, cpu) for _, wall, cpu in self.begun[1:]] + [(time.perf_counter(), time.process_time())]
        for (name, wall, cpu), end in zip(self.begun, ends, strict=True):
            yield name, end[0] - wall, end[1] - cpu


def opened(page: Path, repeats: int) -> dict[str, float]:
    """Seconds from the start of the navigation to the first table, and of one filter, medians."""
    from playwright.sync_api import sync_playwright

    paints, filters = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(repeats):
            tab = browser.new_page()
            tab.goto(f"file://{page}/index.html", wait_until="commit")
            tab.wait_for_selector("table tbody tr")
            paints.append(tab.evaluate("performance.now()"))
            filters += tab.evaluate(FILTERING)
            tab.close()
        browser.close()
    return {"first table": statistics.median(paints) / 1e3, "filter": statistics.median(filters) / 1e3}


FILTERING = """async () => {
    const times = [];
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    for (const dataset of ["rte", "cola", "mnli", "sst2", "rte,cola,mnli"]) {
        const begun = performance.now();
        const before = document.querySelector("main").innerHTML;
        const query = new URLSearchParams(location.hash.split("?")[1] ?? "");
        query.set("dataset", dataset);
        location.hash = `#/leaderboard?${query}`;
        const same = () => document.querySelector("main").innerHTML === before;
        while (same() && performance.now() - begun < 5000) await frame();
        times.push(performance.now() - begun);
    }
    return times;
}"""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--runs", type=Path, help="where the records lie, or are to lie")
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs = given.runs or Path(folder) / "runs"
        if not runs.is_dir():
            begun = time.perf_counter()
            write(runs, given.records)
            print(f"writing the records: {time.perf_counter() - begun:.1f} s", flush=True)
        page, phases = Path(folder) / "page", Phases()
        found = build(page, [runs], observer=phases)
        taken = list(phases.taken())
        print(f"building, {len(found.entries):,} records in {len(found.groups)} groups:")
        for name, wall, cpu in taken:
            print(f"  {name}: {wall:.1f} s, of the processor {cpu:.1f} s")
        print(f"index.js: {(page / 'data' / 'index.js').stat().st_size / 1e6:.1f} MB", flush=True)
        for name, seconds in opened(page, given.repeats).items():
            print(f"{name}: {1e3 * seconds:.0f} ms")


if __name__ == "__main__":
    main()
