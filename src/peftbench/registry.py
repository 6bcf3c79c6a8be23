"""One table of named things (datasets, methods, metrics), filled by hand or from entry points.

A name is looked up among what was added first; an entry point is loaded only when its own name is asked for, so
that a broken package costs its own names and no other. Nothing is found by scanning a folder.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from peftbench.errors import ConfigError, PeftBenchError, UnknownName
from peftbench.outside import contained

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind and the values behind them.

    `kind` is the word used in messages. `group` is the entry-point group that other packages fill, `accept` what
    checks and completes a value of theirs. `built_in` gives the values of this package on first use, so that
    importing a registry costs nothing. `otherwise` is asked for what has none of these names, and its answers are
    on no list.
    """

    def __init__(
        self,
        kind: str,
        *,
        group: str | None = None,
        built_in: Callable[[], dict[str, T]] | None = None,
        accept: Callable[[EntryPoint, T], T] | None = None,
        otherwise: Callable[[str], T | None] | None = None,
    ) -> None:
        self.kind = kind
        self._group = group
        self._built_in = built_in
        self._accept = accept
        self._otherwise = otherwise
        self._values: dict[str, T] | None = None

    def add(self, name: str, value: T) -> T:
        """Add a value under a new name; a name that is taken raises `ConfigError`."""
        if name in self._loaded():
            raise ConfigError(f"{self.kind} {name!r} exists already; choose another name")
        return self.put(name, value)

    def put(self, name: str, value: T) -> T:
        """Add a value, in the place of what had its name."""
        self._loaded()[name] = value
        return value

    def get(self, name: str) -> T:
        """Return the value of `name`; raises `UnknownName` with the nearest names.

        Raises `ConfigError` if the package that brings it cannot be loaded, or if two packages bring it.
        """
        values = self._loaded()
        if name not in values:
            points = self.packages().get(name)
            if not points:
                found = self._otherwise(name) if self._otherwise else None
                if found is not None:
                    return found
                raise UnknownName(self.kind, name, self.names())
            values[name] = self._load(name, points)
        return values[name]

    def known(self, name: str) -> T | None:
        """The value of `name`, None where there is none or its package cannot be loaded."""
        try:
            return self.get(name)
        except PeftBenchError:
            return None

    def names(self) -> list[str]:
        """All names in their order of definition, those of other packages last; loads none of them."""
        return list(dict.fromkeys([*self._loaded(), *self.packages()]))

    def packages(self) -> dict[str, list[EntryPoint]]:
        """What installed packages bring, by name; nothing is loaded."""
        found: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self._group) if self._group else ():
            if point not in found.setdefault(point.name, []):
                found[point.name].append(point)
        return found

    def __contains__(self, name: str) -> bool:
        return name in self._loaded() or name in self.packages()

    def __iter__(self) -> Iterator[T]:
        return iter([self.get(name) for name in self.names()])

    def _loaded(self) -> dict[str, T]:
        if self._values is None:
            self._values = dict(self._built_in()) if self._built_in else {}
        return self._values

    def _load(self, name: str, points: list[EntryPoint]) -> T:
        owners = [package_of(point) for point in points]
        if len(points) > 1:
            raise ConfigError(
                f"the packages {' and '.join(map(repr, owners))} both bring a {self.kind} {name!r}; uninstall one"
            )
        point = points[0]
        what = f"{self.kind} {name!r} of package {owners[0]!r} cannot be loaded from {point.value!r}: its code"
        with contained(what, "mend or uninstall that package"):
            value: T = point.load()
        return value if self._accept is None else self._accept(point, value)


def package_of(point: EntryPoint) -> str:
    """Name of the package that an entry point belongs to."""
    return point.dist.name if point.dist else "unknown"
