"""Cells of a grid that are sent to another machine: a text that holds all that is needed, and what is done there.

The folder of records, on a file system that all machines share, is the only meeting point. A folder that is not
there is refused, because records would otherwise end on the disk of a machine that nobody looks at.
"""

import os
import socket
from collections.abc import Sequence
from pathlib import Path

from peftbench.cellwork import Job
from peftbench.errors import DataError
from peftbench.grid import Cell
from peftbench.gridrun import Prepared, look
from peftbench.gridstate import GridState
from peftbench.launch import LaunchOptions
from peftbench.schema import Frozen


class Errand(Frozen):
    """Cells to be done elsewhere. Its JSON is what crosses machines."""

    name: str
    """Of the grid."""
    directory: str
    """The working directory of the sender, from which paths in the cells count."""
    output: str
    """Folder of the records."""
    jobs: tuple[Job, ...]
    options: LaunchOptions


def errand_of(prepared: Prepared, cells: Sequence[Cell], options: LaunchOptions) -> Errand:
    """An errand for some cells of a grid that was prepared here."""
    jobs = tuple(Job(cell=cell.id, label=str(cell), config=cell.config) for cell in cells)
    return Errand(
        name=prepared.name,
        directory=str(Path.cwd()),
        output=str(prepared.state.output),
        jobs=jobs,
        options=options,
    )


def arrive(errand: Errand) -> Prepared:
    """The cells of an errand with what the records here hold of them; goes to the sender's working directory.

    Raises `DataError` if the folders are not here.
    """
    state = GridState(Path(errand.output))
    if not (Path(errand.directory) / state.folder).is_dir():
        raise DataError(
            f"folder {errand.output} of {errand.directory} is not on {socket.gethostname()}; start from a file "
            "system that all machines share, or put the records on one by --set run.output=<folder>"
        )
    os.chdir(errand.directory)
    return look(errand.name, [Cell(job.cell, job.config) for job in errand.jobs], state)
