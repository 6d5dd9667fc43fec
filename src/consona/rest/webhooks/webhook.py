"""A webhook whose signature is right."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar, overload

import msgspec

from consona.errors import ValidationError
from consona.rest.server.problems import BadRequest
from consona.validation import plain_words, wrong_fields

__all__ = ["Webhook"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook that was verified."""

    id: str
    """The same for each try of the sender's."""
    timestamp: datetime
    """When this try was signed."""
    body: bytes = field(repr=False)
    """As it came."""

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, *, into: type[T]) -> T: ...
    def json(self, *, into: Any = Any) -> Any:
        """The body, decoded from JSON into a type.

        Raises:
            BadRequest: It is not JSON.
            ValidationError: It does not fit the type; each wrong field is named.
        """
        try:
            return msgspec.json.decode(self.body, type=into)
        except msgspec.ValidationError as error:
            fields = list(wrong_fields(msgspec.json.decode(self.body), into, "body"))
            raise ValidationError(
                "The webhook does not fit its type.", fields=fields or [("body", plain_words(str(error)))]
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest("The body of the webhook is not JSON that can be read.") from error
