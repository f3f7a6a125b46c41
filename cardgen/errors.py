"""The one exception that users see without a traceback."""


class CardgenError(Exception):
    """Something that the caller can mend; the message says what was expected, what came, and what to do."""
