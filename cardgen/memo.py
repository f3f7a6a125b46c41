"""Everything computed once: a memo that also knows what each result cost, however many asked for it."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Cost:
    """Samples forwarded by one computation itself, and the memo entries that it used."""

    own: int = 0
    used: set[Hashable] = field(default_factory=set)


class Memo:
    """Results by key, with their cost.

    The cost of a computation is what it forwards itself plus what every entry it used did, each counted once. So it does not depend on
    which of two metrics came first and paid.
    """

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}
        self._costs: dict[Hashable, Cost] = {}
        self._open: list[Cost] = [Cost()]

    def add(self, samples: int) -> None:
        """Charge forwarded samples to the computation that is going on."""
        self._open[-1].own += samples

    def get(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The value under `key`, computed at the first request."""
        if key not in self._values:
            with self._charging() as cost:
                self._values[key] = compute()
            self._costs[key] = cost
        self._open[-1].used |= {key} | self._costs[key].used
        return self._values[key]

    def run(self, compute: Callable[[], Any]) -> tuple[Any, int]:
        """A result that is not kept, and what it cost."""
        with self._charging() as cost:
            value = compute()
        return value, cost.own + sum(self._costs[key].own for key in cost.used)

    def forget(self, keep: Callable[[Hashable], bool]) -> None:
        """Drop the values whose keys `keep` refuses, to free their memory."""
        for key in [key for key in self._values if not keep(key)]:
            del self._values[key], self._costs[key]

    @contextmanager
    def _charging(self) -> Iterator[Cost]:
        cost = Cost()
        self._open.append(cost)
        try:
            yield cost
        finally:
            self._open.pop()
