"""What a number was made with: versions, commit, device, threads, time. Nothing is sent anywhere."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from peftbench.records import Provenance

PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "numpy",
    "pyarrow",
    "tree-sitter",
)


def provenance(device: str, threads: int) -> Provenance:
    """The state of this process now; `device` in words, such as a GPU's name."""
    return Provenance(
        peftbench=own_version(),
        commit=_commit(),
        python=platform.python_version(),
        platform=f"{sys.platform} {platform.machine()}",
        packages={name: found for name in PACKAGES if (found := _version(name)) is not None},
        device=device,
        threads=threads,
        started_at=utc_now(),
    )


def utc_now() -> str:
    """The time in UTC to the second, ISO 8601, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def own_version() -> str:
    """Version of this package."""
    return _version("peftbench") or "unknown"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+dirty" if changed else head


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    return done.stdout.strip()
