"""Prepared datasets kept in memory, so that runs over the same rows read and prepare them once."""

from pathlib import Path
from typing import Any

from peftbench.datasets.load import PreparedDataset, load_dataset
from peftbench.datasets.lock import read_lock
from peftbench.datasets.own import bare, folder_of
from peftbench.datasets.sources import RowsByRole, Source, choose_source
from peftbench.recent import Recent
from peftbench.schema import DatasetSpec, LocalSource

MOST_DATASETS = 4
MOST_ROWS = 200_000
"""How many datasets stay, and how many prepared rows of more than one: some 1 to 2 kB each."""


class KeptDatasets:
    """The datasets that were loaded last."""

    def __init__(self) -> None:
        self._recent: Recent[PreparedDataset] = Recent(MOST_DATASETS, MOST_ROWS)

    def load(
        self, spec: DatasetSpec, *, data_dir: Path | None, rows: RowsByRole | None, **settings: Any
    ) -> PreparedDataset:
        """What `load_dataset` gives for these arguments, with its errors, or gave while nothing has changed.

        Rows given in Python are known by their identity, so they must not change while this object is used.
        """
        source = choose_source(spec, data_dir, rows)
        before = _state(source, spec)
        key = (spec, settings, before)
        kept = self._recent.get(key)
        if kept is not None:
            return kept
        made = load_dataset(spec, data_dir=data_dir, rows=rows, **settings)
        if _state(source, spec) == before:  # else it is unknown which of the two was read
            self._recent.put(key, made, len(made.train) + len(made.validation) + len(made.test))
        return made


_OF_THE_PROCESS = KeptDatasets()


def kept_for(rows: RowsByRole | None) -> KeptDatasets:
    """Datasets that may be used again: those of the process, or none yet where rows are the user's own.

    Nobody can tell whether rows in Python were changed between two calls, so each call begins with none.
    """
    return _OF_THE_PROCESS if rows is None else KeptDatasets()


def _state(source: Source, spec: DatasetSpec) -> tuple[object, ...]:
    """What the rows are read from, as far as it can be seen without reading them."""
    if source.directory is not None:
        folder = source.directory.absolute() / (bare(spec.name) if spec.own else spec.name)
        try:
            files = sorted(folder.iterdir())
        except OSError:  # loading says what is wrong with it
            files = []
        return ("directory", folder, [_seen(file) for file in files])
    if source.rows is not None:
        return ("rows", id(source.rows))
    if source.generated:
        return ("generated",)
    if isinstance(spec.source, LocalSource):
        folder = folder_of(spec)
        return ("files", [_seen(folder / name) for name in spec.source.files.values()])
    # A commit never changes; which one it is and what its files must be stands in the lock.
    return ("hub", read_lock(spec.hub.repository))


def _seen(file: Path) -> tuple[object, ...]:
    try:
        status = file.stat()
    except OSError:  # a link that leads nowhere
        return (file.name,)
    # The time of the last change of its entry is seen too: that of the content can be put back.
    return (file.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
