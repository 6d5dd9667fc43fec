"""What went wrong, in the words of a page: one sentence, and a note for each wrong field."""

from __future__ import annotations

from dataclasses import dataclass, field

from consona.errors import ConsonaError, ValidationError

__all__ = ["Problems", "words_of"]


@dataclass(frozen=True, slots=True)
class Problems:
    """Nothing went wrong where all of it is empty."""

    message: str = ""
    fields: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.message)


def words_of(error: ConsonaError) -> Problems:
    """An error for people.

    Example:
        >>> words_of(ValidationError("This name cannot be used.", fields=[("name", "is too long")])).fields
        {'name': 'Is too long.'}
    """
    if isinstance(error, ValidationError):
        fields: dict[str, str] = {}
        for each in error.fields:
            words = each.message[:1].upper() + each.message[1:].rstrip(".") + "."
            fields[each.path] = f"{fields[each.path]} {words}" if each.path in fields else words
        return Problems(error.message, fields)
    message = error.message
    if error.retry_after is not None:
        message += f" Try again in {_time(error.retry_after)}."
    named = error.context.get("field")
    return Problems(message, {named: message} if isinstance(named, str) else {})


def _time(seconds: float) -> str:
    minutes = max(1, round(seconds / 60))
    return "a minute" if minutes == 1 else f"{minutes} minutes"
