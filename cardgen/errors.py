"""The one exception that users see without a traceback."""


class CardgenError(Exception):
    """Something that the caller can mend; the message says what came, what was expected, and what to do, with `;` between."""

    @property
    def what(self) -> str:
        """What came: the message up to the first `;`."""
        return str(self).partition(";")[0]
