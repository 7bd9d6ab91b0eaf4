"""Values and exceptions in words, whatever they are: also those of code that is not ours."""

__all__ = ["describe", "message_of", "shown"]

_LONGEST = 500  # characters


def message_of(error: BaseException) -> str:
    """What an exception says; where it cannot even say that, a note in its place."""
    try:
        return str(error)
    except BaseException:  # noqa: BLE001 - its own code may raise anything
        return "(the error has no readable message)"


def describe(error: BaseException) -> str:
    """An exception's class and what it says, in one line."""
    parts = (type(error).__name__, message_of(error))
    lines = [" ".join(part.split()) for part in parts]
    return _cut(": ".join(line for line in lines if line))


def shown(value: object) -> str:
    """The value as code would have it, cut; its type where that cannot be said."""
    try:
        return _cut(repr(value))
    except Exception:  # noqa: BLE001 - of an integer with too many digits, or its own code
        return f"({type(value).__name__})"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
