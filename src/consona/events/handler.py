"""What a subscriber is: which events it wants, the function that handles them, and what that function takes."""

from __future__ import annotations

import asyncio
import inspect
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from consona.errors import ConfigurationError
from consona.events.cloudevents import CloudEvent
from consona.events.event import Upcasters, event_type, matcher
from consona.events.records import Received
from consona.sql.transaction import Transaction

if TYPE_CHECKING:
    from consona.events.stream import View
    from consona.resilience.retry import Retry
    from consona.sql.database import SQLDatabase

__all__ = ["Handler", "Subscription", "subscribed"]

Handler = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One handler and what it is for. Made by `EventBus.on`."""

    wants: Callable[[str], bool]
    """Whether it wants events with this type's name."""
    declared: dict[str, Any]
    """The class of each type's name that it named by its class."""
    handler: Handler
    durable: str
    concurrency: int
    retry: Retry
    start: Any
    once: SQLDatabase | None
    first: Any
    """The type of the handler's first parameter."""
    extra: dict[str, type]
    """Its further parameters, by name: `Received` or `Transaction`."""
    view: View | None = None
    """The figures that it keeps up to date, where it is no handler of a user's."""

    async def call(self, received: Received, upcasters: Upcasters, tx: Transaction | None) -> None:
        """Handle one event.

        Raises:
            ValidationError: The event does not fit the type that the handler takes.
        """
        name = received.event.type
        declared = self.declared.get(name, self.first)
        if declared is CloudEvent:
            value: Any = received.event
        else:
            value = upcasters.decode(declared, name, received.version, received.event.data or b"null")
        extra = {name: tx if kind is Transaction else received for name, kind in self.extra.items()}
        if inspect.iscoroutinefunction(self.handler):
            await self.handler(value, **extra)
        else:
            await asyncio.to_thread(self.handler, value, **extra)


def subscribed(
    events: Sequence[Any],
    handler: Handler,
    *,
    durable: str,
    concurrency: int,
    retry: Retry,
    start: Any,
    once: SQLDatabase | None,
) -> Subscription:
    """The subscription, checked.

    Raises:
        ConfigurationError: Something of it cannot work.
    """
    shown = getattr(handler, "__name__", "handler")
    if not events:
        raise ConfigurationError(
            f"{shown} is registered for no events.", hint="Name classes or patterns: bus.on(OrderPlaced)"
        )
    if concurrency < 1:
        raise ConfigurationError(f"on(concurrency={concurrency}): expected at least 1.")
    if once is not None and not durable:
        raise ConfigurationError(f"{shown} has once= and no durable=.", hint="Exactly once needs a durable name.")
    names = {each if isinstance(each, str) else event_type(each).name: each for each in events}
    first, extra = _signature(handler, shown, with_transaction=once is not None)
    return Subscription(
        wants=matcher(names),
        declared={name: each for name, each in names.items() if not isinstance(each, str)},
        handler=handler,
        durable=durable,
        concurrency=concurrency,
        retry=retry,
        start=start,
        once=once,
        first=first,
        extra=extra,
    )


def _signature(handler: Handler, shown: str, *, with_transaction: bool) -> tuple[Any, dict[str, type]]:
    """The type of the first parameter (Any, where it is not told), and what the others are."""
    parameters = list(inspect.signature(handler).parameters)
    if not parameters:
        raise ConfigurationError(f"{shown} takes no event.", hint="Give it a first parameter: async def bill(event)")
    hints = typing.get_type_hints(handler)
    extra = {}
    for name in parameters[1:]:
        kind = Transaction if name == "tx" else hints.get(name)
        if kind not in {Received, Transaction}:
            raise ConfigurationError(
                f"{shown} takes {name!r}, which the bus does not know.",
                hint="Beside the event, a handler can take tx: Transaction (with once=) and a parameter of type Received.",
            )
        if kind is Transaction and not with_transaction:
            raise ConfigurationError(f"{shown} takes a transaction, and on() has no once=.", hint="Write once=db.")
        extra[name] = typing.cast("type", kind)
    first = hints.get(parameters[0], Any)
    # A handler of several classes may say so with a union; each event's own class is the better type.
    return (first if isinstance(first, type) else Any), extra
