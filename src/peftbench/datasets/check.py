"""Whether the rows of a dataset will be there, found out without reading them: files, commits and columns."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peftbench.datasets.catalog import under_protocol
from peftbench.datasets.examples import Role
from peftbench.datasets.hub import remote_columns
from peftbench.datasets.own import is_here
from peftbench.datasets.sources import choose_source, open_split
from peftbench.errors import DataError
from peftbench.schema import DatasetSpec, LocalSource, Protocol


def problems_of(
    spec: DatasetSpec, roles: Iterable[Role], *, protocol: Protocol, data_dir: Path | None, online: bool
) -> list[str]:
    """One sentence for each split whose file is absent or lacks a column.

    Nothing is said of files that lie beside an entry of which only a record was met.

    A folder is looked into; of the hub only the heads of the pinned files are asked for, and only if `online`.
    """
    if isinstance(spec.source, LocalSource) and not is_here(spec):
        return []
    effective = under_protocol(spec, protocol)
    source = choose_source(effective, data_dir, None)
    problems = []
    for role in roles:
        try:
            if source.kind in ("directory", "files"):
                present: Any = next(iter(open_split(source, effective, role).rows), None)
                where = f"the {role} split of {spec.name}"
            elif source.kind == "hub" and online:
                present = remote_columns(effective.hub, effective.splits[role])
                where = f"the {role} split of {spec.name} in {spec.hub.repository}"
            else:
                continue
        except DataError as error:
            problems.append(str(error))
            continue
        if present is None:
            problems.append(f"the {role} split of {spec.name} holds no row; fetch it again")
        elif absent := [column for column in effective.columns if column not in present]:
            problems.append(
                f"{where} has no column {', '.join(absent)}; it has {', '.join(sorted(present))}; rename or add it"
            )
    return problems


def in_hub(spec: DatasetSpec, data_dir: Path | None) -> bool:
    """Whether the rows would be fetched from the hub."""
    return choose_source(spec, data_dir, None).kind == "hub"
