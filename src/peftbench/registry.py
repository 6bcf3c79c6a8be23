"""One table of named things (datasets, methods, metrics), filled by hand or from entry points.

A name is looked up among what was added first; entry points are loaded only when a name is asked for that is
not there, or when all names are listed. Nothing is found by scanning a folder.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from peftbench.errors import ConfigError, UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind and the values behind them.

    `kind` is the word used in messages. `group` is the entry-point group that other packages fill. `built_in`
    gives the values of this package on first use, so that importing a registry costs nothing. `otherwise` is asked
    for what has none of these names, and its answers are on no list.
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str | None = None,
        built_in: Callable[[], dict[str, T]] | None = None,
        otherwise: Callable[[str], T | None] | None = None,
    ) -> None:
        self.kind = kind
        self._group = group
        self._built_in = built_in
        self._otherwise = otherwise
        self._values: dict[str, T] | None = None

    def add(self, name: str, value: T) -> T:
        """Add a value under a new name; a name that is taken raises `ConfigError`."""
        values = self._loaded()
        if name in values:
            raise ConfigError(f"{self.kind} {name!r} exists already; choose another name")
        values[name] = value
        return value

    def get(self, name: str) -> T:
        """Return the value of `name`; raises `UnknownName` with the nearest names."""
        values = self._loaded()
        if name not in values:
            self._load_entry_points(only=name)
        if name not in values:
            found = self._otherwise(name) if self._otherwise else None
            if found is not None:
                return found
            raise UnknownName(self.kind, name, self.names())
        return values[name]

    def names(self) -> list[str]:
        """All names in their order of definition, those of other packages included."""
        self._load_entry_points()
        return list(self._loaded())

    def __contains__(self, name: str) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[T]:
        return iter([self.get(name) for name in self.names()])

    def _loaded(self) -> dict[str, T]:
        if self._values is None:
            self._values = dict(self._built_in()) if self._built_in else {}
        return self._values

    def _load_entry_points(self, only: str | None = None) -> None:
        if self._group is None:
            return
        values = self._loaded()
        for point in entry_points(group=self._group):
            if point.name in values or (only is not None and point.name != only):
                continue
            try:
                values[point.name] = point.load()
            except Exception as error:
                package = point.dist.name if point.dist else "unknown"
                raise ConfigError(
                    f"{self.kind} {point.name!r} of package {package!r} cannot be loaded from {point.value!r}: "
                    f"{type(error).__name__}: {error}; mend or uninstall that package"
                ) from error
