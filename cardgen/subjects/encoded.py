"""Pictures of a stream, kept as they came until some of them are drawn."""

import os
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cardgen.subjects.extras import extra
from cardgen.subjects.images import Source, Unreadable

Place = str | tuple[int, int]
"""A path or an address; or offset and length in the temporary file."""


class Encoded:
    """A temporary file that holds pictures' bytes; those that have a path or an address of their own stay there."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="cardgen-")  # noqa: SIM115 the finalizer closes it
        weakref.finalize(self, self._file.close)

    def add(self, picture: Mapping[str, Any]) -> Place:
        """Keep a picture as `datasets` gives it undecoded: bytes, or else a path or an address."""
        data = picture.get("bytes")
        if data is None and picture.get("path"):
            return str(picture["path"])
        offset = self._file.seek(0, os.SEEK_END)
        return offset, self._file.write(data or b"")

    def get(self, place: Place) -> Source:
        """A file or its bytes.

        Raises:
            Unreadable: an address that cannot be reached.
        """
        if isinstance(place, str):
            return _fetched(place) if "://" in place else Path(place)
        self._file.seek(place[0])
        return self._file.read(place[1])


def _fetched(address: str) -> bytes:
    fsspec = extra("fsspec", "hf", "data sets called hf:…")
    try:
        with fsspec.open(address, "rb") as stream:
            return bytes(stream.read())
    except Exception as error:  # whatever networks and archives raise
        raise Unreadable(f"not fetched ({' '.join(str(error).split()) or type(error).__name__:.80})") from None
