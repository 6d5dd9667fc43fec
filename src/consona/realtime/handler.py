"""A function that answers messages: what its parameters get is read from its signature, once.

    @live.on_message("chat.{room}")
    async def chat(message: Chat, client: Client, room: str) -> None: ...

The parameter `client` gets the client, those that are named in the pattern get its variables, and the one that is
left gets the message, decoded and checked as its type.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from consona.errors import ConfigurationError, FieldProblem, ValidationError
from consona.realtime.pattern import Pattern
from consona.rest.server.parameters import hints_of
from consona.rest.websocket_messages import decode_message

__all__ = ["Handler"]

CLIENT: Final = "client"


class Handler:
    """One function for one pattern.

    Args:
        pattern: The channels that it answers for.
        function: Asynchronous.
        namespace: Where names of its annotations may be found, beside its module.
        takes_message: Whether it has a parameter for the message.

    Raises:
        ConfigurationError: It is not asynchronous, or its parameters cannot be filled.
    """

    def __init__(
        self, pattern: Pattern, function: Callable[..., Any], namespace: Mapping[str, Any], *, takes_message: bool
    ) -> None:
        self.pattern = pattern
        self.function = function
        self.label = f"{getattr(function, '__name__', 'handler')} for {pattern.text!r}"
        if not inspect.iscoroutinefunction(function):
            raise ConfigurationError(f"{self.label} is not asynchronous.", hint="Write it with async def.")
        self._namespace = namespace
        self._takes_message = takes_message
        self._message = ""
        self._into: Any = None
        self._variables: dict[str, Any] = {}
        self._wants_client = False

    def prepare(self) -> None:
        """Read its signature; called when the server starts."""
        hints = hints_of(self.function, label=self.label, namespace=self._namespace)
        left = []
        for name in inspect.signature(self.function).parameters:
            if name == CLIENT:
                self._wants_client = True
            elif name in self.pattern.names:
                self._variables[name] = hints.get(name, str)
            else:
                left.append(name)
        if len(left) > self._takes_message:
            wanted = "one is for the message" if self._takes_message else "they are for the client and the pattern"
            raise ConfigurationError(
                f"{self.label} has parameters that nothing is known for: {', '.join(left)}; {wanted}.",
                hint="Name a parameter `client`, or like a variable of the pattern.",
            )
        if left:
            self._message = left[0]
            self._into = hints.get(self._message, Any)

    async def __call__(
        self, client: Any, variables: Mapping[str, str], data: Any = None, *, packed: bool = False
    ) -> Any:
        """Call the function.

        Args:
            client: Who sent it.
            variables: Those of the channel's name.
            data: The message as it came: JSON.
            packed: It came as MessagePack.

        Raises:
            ValidationError: The message, or a variable, is not of the declared type.
        """
        given: dict[str, Any] = {}
        for name, kind in self._variables.items():
            given[name] = variables[name] if kind is str else _converted(name, variables[name], kind)
        if self._wants_client:
            given[CLIENT] = client
        if self._message:
            raw = bytes(data) or (b"\xc0" if packed else b"null")
            given[self._message] = decode_message(raw if packed else raw.decode(), _wrapped(self._into))
        return await self.function(**given)

    async def plainly(self, client: Any, data: str | bytes) -> Any:
        """Call it with a message that has nothing around it: as text or bytes, or decoded as its declared type."""
        given: dict[str, Any] = {CLIENT: client} if self._wants_client else {}
        if self._message:
            as_it_is = self._into in {Any, str, bytes, str | bytes}
            if as_it_is and self._into in {str, bytes} and not isinstance(data, self._into):
                data = data.encode() if isinstance(data, str) else data.decode("utf-8", "replace")
            given[self._message] = data if as_it_is else decode_message(data, self._into)
        return await self.function(**given)


def _wrapped(into: Any) -> Any:
    """`str` and `bytes` are values here like any other, and no whole messages."""
    return str | None if into is str else bytes | None if into is bytes else into


def _converted(name: str, text: str, kind: Any) -> Any:
    try:
        return msgspec.convert(text, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ValidationError(
            f"The channel's {name} is not what is expected.", fields=[FieldProblem(name, str(error))]
        ) from None
