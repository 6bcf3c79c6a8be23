"""The page as a folder that opens from a disk and can be put on any static host.

It is written beside its place and takes it when it is whole. A folder that was not made here is never replaced.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from peftbench.disk import explained
from peftbench.errors import ConfigError
from peftbench.observer import Observer
from peftbench.records import TrainRecord
from peftbench.site import content, pages
from peftbench.site.costs import flops_of
from peftbench.site.payload import statement
from peftbench.site.shelf import Entry, Opened, Shelf

ASSETS = Path(__file__).with_name("assets")
"""The built page: `make web` builds it from `web/`."""
MARK = ".peftbench-page.json"
"""The file that says that a folder is a page, and what was put into it."""


def build(
    out: Path,
    folders: Sequence[Path],
    *,
    title: str = "Runs",
    data_dir: Path | None = None,
    flops: Callable[[TrainRecord], float | None] = flops_of,
    observer: Observer | None = None,
) -> content.Content:
    """Make the page of the records below some folders, and give what is in it.

    `data_dir` has rows of datasets, to show prompts of. Raises `DataError` where a folder of runs is not there or
    the disk refuses, and `ConfigError` where `out` is something else than such a page.
    """
    observer = observer or Observer()
    shelf = Shelf(folders)
    out = out.absolute()
    _check(out, shelf.folders)
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:80]}-", suffix=".draft"))
    try:
        with explained(out):
            found = _write(draft, shelf, title, data_dir, flops, observer)
            _take_place(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return found


def assets() -> dict[str, bytes]:
    """The built page: path below the page's folder to content; raises `ConfigError` where it was not built."""
    found = {
        file.relative_to(ASSETS).as_posix(): file.read_bytes()
        for file in sorted(ASSETS.rglob("*"))
        if file.is_file()
    }
    if "index.html" not in found:
        raise ConfigError(
            "the built page is not in this installation; in a clone of the repository `make web` builds it"
        )
    return found


def _check(out: Path, folders: Sequence[Path]) -> None:
    """Raise `ConfigError` unless `out` is free, empty, or a page that was made here and holds nothing else."""
    shown = repr(str(out))
    if out.is_symlink():
        raise ConfigError(f"{shown} is a link; name the folder itself")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{shown} is a file; name a folder for the page")
    for folder in folders:
        if folder.resolve().is_relative_to(out.resolve()):
            raise ConfigError(
                f"the runs in {str(folder)!r} lie inside {shown}, which would be replaced; name another"
            )
    if not out.is_dir():
        return
    with explained(out):
        names = {each.name for each in out.iterdir()}
    if not names:
        return
    made: set[str] = set()
    with suppress(OSError, ValueError, KeyError, TypeError):
        made = {MARK, *json.loads((out / MARK).read_text(encoding="utf-8"))["names"]}
    if not made:
        raise ConfigError(f"{shown} is not a page that `peftbench site build` made; name a new or an empty folder")
    if foreign := sorted(names - made):
        raise ConfigError(f"{shown} holds {foreign[0]!r}, which is not of the page; move it away or name another")


def _write(
    draft: Path,
    shelf: Shelf,
    title: str,
    data_dir: Path | None,
    flops: Callable[[TrainRecord], float | None],
    observer: Observer,
) -> content.Content:
    def put(name: str, value: object) -> None:
        file = draft / "data" / f"{name}.js"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(statement(name, value))

    def look(entry: Entry, opened: Opened) -> None:
        for page in range(-(-len(opened.stored) // pages.PAGE_ROWS)):
            put(f"predictions/{entry.key}/{page}", pages.predictions(entry, opened, page, data_dir))

    for path, data in assets().items():
        file = draft / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    shelf.read(look, observer)
    found = content.content_of(shelf, title, flops=flops, observer=observer)
    observer.phase("writing", total=len(found.entries))
    put("index", content.index(found, live=False))
    for group in found.groups:
        if group.draws:
            put(f"draws/{group.id}", content.draws(group))
    for name, method in found.methods.items():
        put(f"method/{name}", pages.method(found, method))
    for name, dataset in found.datasets.items():
        put(f"dataset/{name}", pages.dataset(dataset, data_dir))
    for key, entry in found.entries.items():
        put(f"run/{key}", pages.run(entry))
        observer.advance(1)
    names = sorted({each.name for each in draft.iterdir()})
    (draft / MARK).write_text(json.dumps({"format": content.FORMAT, "names": names}), encoding="utf-8")
    return found


def _take_place(draft: Path, out: Path) -> None:
    """Put the finished folder in its place; the one that was there goes only then."""
    draft.chmod(0o755)
    if not out.exists():
        draft.rename(out)
        return
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name[:80]}-", suffix=".old"))
    try:
        out.rename(old / "page")
        try:
            draft.rename(out)
        except OSError:
            (old / "page").rename(out)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
