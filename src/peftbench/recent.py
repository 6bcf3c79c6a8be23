"""The last few of something that is costly to make, up to a number and a weight of them."""

import threading
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by key, of which those used longest ago go first; the one put last always stays.

    Keys are compared, not hashed, so that they may be plain data. At most `most` values stay, and of more than
    one together at most `weight`.
    """

    def __init__(self, most: int, weight: int) -> None:
        self._most, self._weight = most, weight
        self._held: list[tuple[object, Value, int]] = []  # the newest last
        self._alone = threading.Lock()

    def get(self, key: object) -> Value | None:
        """The value that was put under an equal key, or None."""
        with self._alone:
            for place, held in enumerate(self._held):
                if held[0] == key:
                    self._held.append(self._held.pop(place))
                    return held[1]
        return None

    def put(self, key: object, value: Value, weight: int) -> None:
        """Keep a value, and let go of the oldest as the limits want it."""
        with self._alone:
            self._held = [held for held in self._held if held[0] != key]
            self._held.append((key, value, weight))
            while len(self._held) > 1 and (
                len(self._held) > self._most or sum(held[2] for held in self._held) > self._weight
            ):
                del self._held[0]
