"""Token ids of whole splits, kept for runs over the same rows: the last few in memory, large ones in files.

A file is named by a hash of all that decides the ids, holds that hash and one of its own content, and is believed
only where both are right. Without the folder, a file or the lock everything works, but rows are tokenised again.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from peftbench.disk import cache_folder, draft_of
from peftbench.engine.pack import Sample
from peftbench.engine.tokens import TOKENISING_VERSION, ChatFormat, Encoded, encode
from peftbench.recent import Recent
from peftbench.schema import Example

FORMAT_VERSION = 1
"""Raised when the files are laid out in another way."""
ROWS_IN_FILES = 1000
"""Splits of fewer rows are tokenised faster than it is worth to store them."""
MOST_BYTES = 4_000_000_000
"""What the files may take together; those used longest ago are deleted."""
MOST_ENCODINGS, MOST_TOKENS = 8, 20_000_000
"""How many encodings stay in memory, and how many tokens of more than one: 8 bytes each."""
LONGEST_WAIT = 600.0
"""Seconds after which another process that tokenises the same rows is no longer waited for."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class _Ids:
    """An encoding without its rows, which whoever asks for it has."""

    samples: tuple[Sample, ...]
    places: tuple[int, ...]
    """Which rows the samples belong to; dropped ones are left out."""
    cut_rows: int


_RECENT: Recent[_Ids] = Recent(MOST_ENCODINGS, MOST_TOKENS)
_told: set[Path] = set()
"""Folders of which it was said that they cannot be written to."""


def encode_once(
    examples: Sequence[Example],
    chat: ChatFormat,
    *,
    content: str,
    limit: int,
    reserve: int,
    learn: bool,
    place: str,
    note: Callable[[str], None] = lambda _: None,
) -> Encoded:
    """What `encode` gives for these rows, made or found; `content` is their content hash.

    Raises `DataError` as `encode` does. What goes wrong with the files is one `note` for each folder.
    """
    key = key_of(chat, content=content, limit=limit, reserve=reserve, learn=learn)
    if key is None:
        return encode(examples, chat, limit=limit, reserve=reserve, learn=learn, place=place)
    found = _RECENT.get(key)
    if found is None:

        def make() -> Arrays:
            made = encode(examples, chat, limit=limit, reserve=reserve, learn=learn, place=place)
            return _arrays(made, examples)

        stored = len(examples) >= ROWS_IN_FILES
        found = _ids(_from_file_or(make, key, len(examples), note) if stored else make())
        _RECENT.put(key, found, sum(len(each.prompt) + len(each.answer) for each in found.samples))
    rows = tuple(examples[place] for place in found.places)
    return Encoded(found.samples, rows, found.cut_rows, len(examples) - len(rows), limit)


def key_of(chat: ChatFormat, *, content: str, limit: int, reserve: int, learn: bool) -> str | None:
    """SHA-256 over all that decides the ids of a split; None for a tokenizer that cannot be written down.

    Virtual tokens count only through the `limit` that they lower.
    """
    if chat.identity is None:
        return None
    decides = [FORMAT_VERSION, TOKENISING_VERSION, chat.identity, content, limit, reserve, learn]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def file_of(key: str) -> Path:
    """Where the encoding with this key is kept."""
    return cache_folder() / "tokens" / f"{key}.safetensors"


# ------------------------------------------------------------------------------------------------------ arrays


def _arrays(encoded: Encoded, examples: Sequence[Example]) -> Arrays:
    """An encoding as flat arrays: all ids, and for each sample its row and its numbers of ids."""
    ids = chain.from_iterable(chain(each.prompt, each.answer) for each in encoded.samples)
    places = iter(range(len(examples)))
    # Samples come in the order of the rows, some of which may be left out.
    kept = [next(place for place in places if examples[place] is row) for row in encoded.examples]
    lengths = [(len(each.prompt), len(each.answer)) for each in encoded.samples]
    return {
        "ids": np.fromiter(ids, dtype=np.int32),
        "rows": np.array(kept, dtype=np.int32),
        "lengths": np.array(lengths, dtype=np.int32),
        "cut_rows": np.array([encoded.cut_rows], dtype=np.int64),
    }


def _ids(arrays: Arrays) -> _Ids:
    # One object for each token id, not one for each token: a fifth of the memory.
    numbers = np.arange(arrays["ids"].max() + 1).astype(object)
    flat = numbers[arrays["ids"]].tolist()
    samples, end = [], 0
    for prompt, answer in arrays["lengths"].tolist():
        begin, end = end, end + prompt + answer
        samples.append(Sample(tuple(flat[begin : begin + prompt]), tuple(flat[begin + prompt : end])))
    return _Ids(tuple(samples), tuple(arrays["rows"].tolist()), int(arrays["cut_rows"][0]))


# ------------------------------------------------------------------------------------------------------- files


def _from_file_or(make: Callable[[], Arrays], key: str, rows: int, note: Callable[[str], None]) -> Arrays:
    """The arrays in the file of this key, or those that `make` gives, written there for the next one to ask."""
    file = file_of(key)
    found = _read(file, key, rows)
    if found is not None:
        return found
    with _making(file):
        found = _read(file, key, rows)  # another process may just have made it
        if found is None:
            found = make()
            try:
                _write(file, key, found)
            except OSError as error:
                if file.parent not in _told:
                    _told.add(file.parent)
                    note(
                        f"token ids cannot be kept in {file.parent} ({error.strerror or error}), so later starts "
                        "tokenise again; make room there, or set PEFTBENCH_CACHE to a folder that can be written"
                    )
    return found


@contextmanager
def _making(file: Path) -> Iterator[None]:
    """Let other processes that want the same file wait until it is there.

    Only a courtesy: files appear whole, so that where no lock can be had the work is merely done twice.
    """
    from filelock import FileLock, Timeout

    # A lock file for each beginning of a key: few enough to leave them there, and deleting one is never safe.
    lock = FileLock(file.parent / f"{file.name[:2]}.lock", timeout=LONGEST_WAIT)
    with suppress(OSError, NotImplementedError, Timeout):
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _read(file: Path, key: str, rows: int) -> Arrays | None:
    """The arrays of a file; None where it is absent, damaged or made for something else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays: Arrays = load(file.read_bytes())
    except (OSError, ValueError, KeyError, SafetensorError):
        return None
    checksum = arrays.pop("checksum", np.empty(0, np.uint8))
    if checksum.tobytes() != _checksum(key, arrays) or arrays["rows"].max() >= rows:
        return None
    with suppress(OSError):
        os.utime(file)  # what was used last is deleted last
    return arrays


def _write(file: Path, key: str, arrays: Arrays) -> None:
    from safetensors.numpy import save_file

    size = sum(array.nbytes for array in arrays.values())
    if size > MOST_BYTES:
        return
    checksum = np.frombuffer(_checksum(key, arrays), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    _make_room(file.parent, MOST_BYTES - size)
    with draft_of(file) as draft:
        save_file({**arrays, "checksum": checksum}, draft)


def _checksum(key: str, arrays: Arrays) -> bytes:
    digest = hashlib.sha256(key.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _make_room(folder: Path, most: int) -> None:
    """Delete the files used longest ago until the others take at most `most` bytes.

    What processes that were killed left behind is among them, as it gets old.
    """
    held = []
    for file in folder.iterdir():
        with suppress(OSError):  # another process may delete too
            status = file.stat()
            if file.suffix != ".lock":
                held.append((status.st_mtime_ns, status.st_size, file))
    taken = sum(size for _, size, _ in held)
    for _, size, file in sorted(held):
        if taken <= most:
            break
        with suppress(OSError):
            file.unlink()
            taken -= size
