"""The places of worker processes that are empty, and when each is to be filled."""

import time
from collections import Counter

__all__ = ["Vacancies"]

_FREE_DEATHS = 3
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 30.0


class Vacancies:
    """Which slots have no worker process. In the beginning none has.

    Who died early is replaced after a pause, which grows with each such death in a row.

    Args:
        slots: how many there are.
    """

    def __init__(self, slots: int) -> None:
        self._due = dict.fromkeys(range(slots), 0.0)
        self._early_deaths: Counter[int] = Counter()

    def __bool__(self) -> bool:
        return bool(self._due)

    def due(self) -> list[int]:
        """The slots that are to be filled now."""
        now = time.monotonic()
        return [slot for slot, due in self._due.items() if due <= now]

    def next_due(self) -> float:
        """When one is to be filled, on the monotonic clock; infinity for never."""
        return min(self._due.values(), default=float("inf"))

    def fill(self, slot: int) -> None:
        """Take a slot that has a process now."""
        del self._due[slot]

    def put_off(self, slot: int, seconds: float) -> None:
        """Fill a slot so many seconds from now."""
        self._due[slot] = time.monotonic() + seconds

    def add(self, slot: int, *, early: bool) -> tuple[int, float]:
        """Empty a slot whose process has ended.

        Args:
            slot: the slot.
            early: whether it died before it was of any use.

        Returns:
            How many have died early there in a row, and the seconds until the next starts.
        """
        deaths = self._early_deaths[slot] + 1 if early else 0
        self._early_deaths[slot] = deaths
        more = deaths - _FREE_DEATHS
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (more - 1)) if more > 0 else 0.0
        self.put_off(slot, pause)
        return deaths, pause

    def clear(self) -> None:
        """Fill none any more."""
        self._due.clear()
