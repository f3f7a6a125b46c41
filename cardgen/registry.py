"""A read-only mapping from keys to plug-ins; importing one module a plug-in fills it."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from cardgen.errors import CardgenError

T = TypeVar("T")
SHOWN = 40
"""Names that a message lists at most."""


class Registry(Mapping[str, T], Generic[T]):
    """The plug-ins of a package, and third parties' of the entry-point group of the same name.

    The package's modules are imported at first use, all of them; one that fails to import stops the run, since a card without
    one of its evaluations would look like an untested method.
    """

    def __init__(self, package: str) -> None:
        self._package = package
        self._items: dict[str, T] = {}
        self._loaded = False

    def add(self, key: str, item: T) -> None:
        """Register a plug-in; a key that is taken is refused."""
        if key in self._items:
            raise CardgenError(
                f"{self._package}: two plug-ins are called {key!r}; expected unique keys; rename one of them"
            )
        self._items[key] = item

    @contextmanager
    def borrowed(self) -> Iterator[dict[str, T]]:
        """The plug-ins themselves, to add to and to change; on the way out they are as they were."""
        before = dict(self._load())
        try:
            yield self._items
        finally:
            self._items = before

    def _load(self) -> dict[str, T]:
        if not self._loaded:
            package = importlib.import_module(self._package)
            for module in pkgutil.walk_packages(package.__path__, f"{self._package}."):
                importlib.import_module(module.name)
            for entry in entry_points(group=self._package):
                entry.load()
            self._loaded = True
        return self._items

    def __getitem__(self, key: str) -> T:
        items = self._load()
        if key not in items:
            raise CardgenError(unknown(self._package.rpartition(".")[2].removesuffix("s"), key, items))
        return items[key]

    def __contains__(self, key: object) -> bool:
        return key in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._load()))

    def __len__(self) -> int:
        return len(self._load())


def unknown(what: str, name: str, known: Mapping[str, object] | list[str]) -> str:
    """The message for a name that does not exist: says which come nearest."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    names = sorted(known)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names[:SHOWN])}{more}"
    return f"no {what} is called {name!r}; {hint}"
