"""What is refused of grids and their folders, and in which words."""

from pathlib import Path

import pytest

from tests.e2e.grids import GRID, grid, status
from tests.e2e.test_cli import refused


def test_two_grids_do_not_share_a_folder(place):
    grid("run")
    (place / "other.yaml").write_text(GRID.replace("name: drill", "name: other").replace(
        "run: {", "run: {output: runs/drill, "))  # fmt: skip
    refused(
        "holds the grid 'drill', not 'other'; choose another output", "grid", "run", "other.yaml", "--rehearse"
    )


@pytest.mark.parametrize("command", ["status", "retry", "gc", "stop"])
def test_nothing_is_done_to_the_folder_of_another_grid(place, command):
    grid("run")
    (place / "other.yaml").write_text(GRID.replace("name: drill", "name: other").replace(
        "run: {", "run: {output: runs/drill, "))  # fmt: skip
    refused("holds the grid 'drill', not 'other'", "grid", command, "other.yaml", "--rehearse")


def test_a_grid_that_was_never_run_cannot_be_stopped(place):
    refused(
        "drill has not been run in runs/drill-rehearsal, so that there is nothing to stop",
        "grid",
        "stop",
        "grid.yaml",
        "--rehearse",
    )
    assert not (place / "runs").exists()


def test_a_folder_of_a_newer_version_is_left_alone(place):
    grid("run")
    note = Path("runs/drill-rehearsal/.grid/grid.json")
    note.write_text('{"version": 99, "name": "drill"}')
    refused("was used by a newer version of peftbench", "grid", "run", "grid.yaml", "--rehearse")


def test_a_folder_that_cannot_be_written_to(place):
    (place / "runs").write_text("a file")
    refused("cannot write", "grid", "run", "grid.yaml", "--rehearse")


def test_a_record_that_cannot_be_read_is_named_and_its_cell_done_again(place):
    grid("run")
    [*_, record] = Path("runs/drill-rehearsal").rglob("result.json")
    record.write_text("{")
    found = status()
    assert found["done"] == 13
    assert "is not a record of this version" in found["unreadable"][0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--workers", 0), "--workers is 0, expected a number above 0"),
        (("--max-hours", -1), "--max-hours is -1.0, expected a number above 0"),
        (("--patience", "nan"), "--patience is nan"),
        (("--attempts", 0), "--attempts is 0"),
        (("--devices", ","), "--devices names none"),
        (("--ray", "127.0.0.1:1"), "--ray means nothing on here"),
        (("--shard", "5/4"), "--shard is '5/4'"),
        (("--set", "overrides=[{seeds: 1, set: {output: elsewhere}}]"), "the cells go to 2 folders"),
        (("--set", "methods=[]"), "methods"),
    ],
)
def test_mistakes_are_one_sentence(place, arguments, expected):
    refused(expected, "grid", "run", "grid.yaml", "--rehearse", *arguments)
