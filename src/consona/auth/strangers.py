"""What strangers do wrong is counted, and is no warning in the log: else they could fill it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from consona.errors import AuthenticationError, Conflict, ConsonaError, NotFound, RateLimited, ValidationError
from consona.telemetry.observer import Observer, Operation

__all__ = ["asked_by_strangers"]

EXPECTED: Final = (AuthenticationError, RateLimited, ValidationError, Conflict, NotFound)


@contextmanager
def asked_by_strangers(observer: Observer, name: str) -> Iterator[Operation]:
    """Observe a block whose errors are mostly those of whoever asks."""
    refusal: ConsonaError | None = None
    with observer.operation(name) as op:
        try:
            yield op
        except EXPECTED as error:
            op.fail(error.code, level=logging.DEBUG)
            refusal = error
    if refusal is not None:
        raise refusal
