"""What the first download of a repository found, so that later downloads can be held to it.

One JSON file for each hub repository in the user's cache folder: the commit that was resolved where none is
pinned, which files a pattern stood for, and the SHA-256 of every file. It never says where a file lies.
"""

from collections.abc import Callable
from pathlib import Path

from pydantic import Field, ValidationError

from peftbench.disk import cache_folder, write_text
from peftbench.errors import DataError
from peftbench.schema import Frozen


class RepositoryLock(Frozen):
    """What is known of one repository; first entries are kept and never replaced."""

    revision: str | None = None
    """The commit in use, where the catalogue pins none."""
    listings: dict[str, dict[str, tuple[str, ...]]] = Field(default_factory=dict)
    """Commit, then file pattern, to the files it stood for."""
    sha256: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Commit, then file, to the SHA-256 of its bytes."""

    def with_revision(self, revision: str) -> "RepositoryLock":
        """The lock with the commit in use, unless one is there."""
        return self.model_copy(update={"revision": self.revision or revision})

    def with_listing(self, revision: str, pattern: str, names: tuple[str, ...]) -> "RepositoryLock":
        """The lock with the files of a pattern, unless they are there."""
        listings = {**self.listings, revision: {pattern: names, **self.listings.get(revision, {})}}
        return self.model_copy(update={"listings": listings})

    def with_sha256(self, revision: str, name: str, sha256: str) -> "RepositoryLock":
        """The lock with the hash of a file, unless one is there."""
        hashes = {**self.sha256, revision: {name: sha256, **self.sha256.get(revision, {})}}
        return self.model_copy(update={"sha256": hashes})


def lock_path(repository: str) -> Path:
    """Where the lock file of a repository lies."""
    return cache_folder() / "locks" / f"{repository.replace('/', '--')}.json"


def read_lock(repository: str) -> RepositoryLock:
    """The lock of a repository, empty before its first download; raises `DataError` for a damaged file."""
    path = lock_path(repository)
    try:
        return RepositoryLock.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return RepositoryLock()
    except (ValidationError, OSError) as error:
        raise DataError(
            f"the lock file {path} of {repository} cannot be read; remove it, after which the next download is "
            "taken as the first"
        ) from error


def update_lock(repository: str, change: Callable[[RepositoryLock], RepositoryLock]) -> RepositoryLock:
    """Read, change and write the lock of a repository; other processes wait, and readers see old or new."""
    # Public by its documentation, but not re-exported for type checkers.
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    path = lock_path(repository)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(path.with_suffix(".lock")):
            before = read_lock(repository)
            after = change(before)
            if after != before:
                write_text(path, after.model_dump_json(indent=1))
            return after
    except OSError as error:
        raise DataError(
            f"the lock file {path} cannot be written ({error.strerror or error}); make room there, or set "
            "PEFTBENCH_CACHE to a folder that can be written"
        ) from error
