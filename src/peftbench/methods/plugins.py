"""Methods that are not part of this package: in a file that is named, or brought by an installed package.

A file is run once for each content, under a name that nothing else has; its hash is part of what its runs are.
Nothing is scanned. Of records only those of the run that `predict` and `eval` are given name code that is run.
"""

import hashlib
import importlib.util
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

from peftbench.errors import ConfigError, PeftBenchError
from peftbench.methods.specs import methods
from peftbench.outside import contained
from peftbench.plugin_file import read_file, run_file
from peftbench.registry import package_of
from peftbench.schema import MethodChoice, MethodCode, MethodSpec

_specs: dict[str, MethodSpec] = {}
"""What was loaded from files, by the hash of their content."""
_texts: dict[str, bytes] = {}


def is_file(name: str) -> bool:
    """Whether a method is named by its file: it ends in .py or has a slash."""
    return name.endswith(".py") or "/" in name or "\\" in name


def spec_named(name: str) -> MethodSpec:
    """The method of a name or of a file; raises `UnknownName`, or `ConfigError` for a file that is none."""
    if is_file(name):
        return load_file(name)
    if name not in methods and Path(name).is_file():
        raise ConfigError(f"method file {name!r} does not end in .py; call it {Path(name).stem}.py")
    return methods.get(name)


def spec_of(choice: MethodChoice) -> MethodSpec:
    """The method of a choice; where the choice says what its code was, it is that or `ConfigError` is raised."""
    if choice.code is None:
        return spec_named(choice.name)
    found = known_spec(choice)
    if found is not None:
        return found
    wanted, path = choice.code.sha256, choice.code.path
    if path is None:
        methods.get(choice.name)  # which may say why there is none
        raise ConfigError(
            f"method {choice.name!r} of an installed package is not what it was for this run (its code was "
            f"{wanted[:8]}); install the version that the run was made with"
        )
    for place in (Path(path), Path(Path(path).name)):
        if place.is_file() and _sha256(_content(place)) == wanted:
            return load_file(place)
    now = f"is now {_sha256(_content(Path(path)))[:8]}" if Path(path).is_file() else "is not there"
    raise ConfigError(
        f"method {choice.name!r} was {wanted[:8]} of {path!r}, which {now}; put that file back, "
        "there or into this folder: a run keeps its text as method.py"
    )


def resolved(choice: MethodChoice) -> MethodChoice:
    """The choice by the method's own name, with what its code is; itself where its method cannot be loaded."""
    try:
        spec = spec_of(choice)
    except PeftBenchError:
        return choice  # told where the choice is checked
    return choice.model_copy(update={"name": spec.name, "code": choice.code or spec.code})


def known_spec(choice: MethodChoice) -> MethodSpec | None:
    """The method of a record where it is at hand, None where it is not or was another; runs no file."""
    if choice.code is not None and choice.code.path is not None:
        return _specs.get(choice.code.sha256)
    found = None if is_file(choice.name) else methods.known(choice.name)
    if found is None or (choice.code is not None and found.code != choice.code):
        return None
    return found


def theirs(specs: Iterable[MethodSpec]) -> str:
    """Which of these methods are not part of this package, in words; nothing where none is."""
    names = dict.fromkeys(repr(each.name) for each in specs if each.code is not None)
    return f"method{'s' * (len(names) > 1)} {' or '.join(names)}" if names else ""


def text_of(spec: MethodSpec) -> str | None:
    """The text of the file that a method was loaded from; None for another."""
    kept = _texts.get(spec.code.sha256) if spec.code and spec.code.path else None
    return None if kept is None else kept.decode("utf-8")


def load_file(name: str | Path) -> MethodSpec:
    """The method that a file defines; raises `ConfigError` with what is wrong with the file.

    The file is Python and defines one `MethodSpec`, whose name is no other method's.
    """
    path, content = Path(name), _content(Path(name))
    code = MethodCode(path=str(name), sha256=_sha256(content))
    if code.sha256 in _specs:
        return _specs[code.sha256].model_copy(update={"code": code})
    module = run_file(path, content, f"method file {str(path)!r}")
    spec = _one_spec(module, path).model_copy(update={"code": code})
    if spec.build is None:
        raise ConfigError(
            f"method file {str(path)!r}: its MethodSpec has no build; give it what builds the method"
        )
    _check_name(spec, path)
    _specs[code.sha256], _texts[code.sha256] = spec, content
    return methods.put(spec.name, spec)


def from_package(point: EntryPoint, value: Any) -> MethodSpec:
    """What an entry point gave, with the hash of the files that it and its build function lie in."""
    what = f"method {point.name!r} of package {package_of(point)!r}"
    if not isinstance(value, MethodSpec):
        raise ConfigError(
            f"{what} is a {type(value).__name__}, expected a peftbench MethodSpec; mend that package"
        )
    if value.name != point.name:
        raise ConfigError(f"{what} calls itself {value.name!r}; give both one name in that package")
    build = value.build
    module = build.partition(":")[0] if isinstance(build, str) else getattr(build, "__module__", point.module)
    return value.model_copy(update={"code": MethodCode(path=None, sha256=_hash_of((point.module, module), what))})


# ------------------------------------------------------------------------------------------------------ files


def _content(path: Path) -> bytes:
    return read_file(path, "method file", ", or the name of a method")


def _one_spec(module: ModuleType, path: Path) -> MethodSpec:
    found = list({id(each): each for each in vars(module).values() if isinstance(each, MethodSpec)}.values())
    if len(found) != 1:
        what = "none" if not found else f"{len(found)}: {', '.join(each.name for each in found)}"
        raise ConfigError(
            f"method file {str(path)!r} must define one MethodSpec and defines {what}; see what "
            "`peftbench new method NAME` writes"
        )
    return found[0]


def _check_name(spec: MethodSpec, path: Path) -> None:
    """Raise `ConfigError` if the name of a file's method is that of another."""
    what, fix = f"method file {str(path)!r} calls its method {spec.name!r}", "choose another name"
    if spec.name in (packages := methods.packages()):
        raise ConfigError(f"{what}, as does package {package_of(packages[spec.name][0])!r}; {fix}")
    other = methods.known(spec.name)
    if other is None:
        return
    if other.code is None or other.code.path is None:
        raise ConfigError(f"{what}, which is a built-in one; {fix}")
    if Path(other.code.path).absolute() != path.absolute():
        raise ConfigError(f"{what}, as does {other.code.path!r}; {fix}")


def _hash_of(modules: Sequence[str], what: str) -> str:
    found = hashlib.sha256()
    for name in dict.fromkeys(modules):
        with contained(f"the code of {what} cannot be found: looking for {name}", "mend that package"):
            spec = importlib.util.find_spec(name)
        origin = None if spec is None or not spec.has_location else spec.origin
        try:
            found.update(Path(origin).read_bytes() if origin else name.encode())
        except OSError as error:
            raise ConfigError(f"the code of {what} cannot be read: {error.strerror}; mend that package") from error
    return found.hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
