"""What handlers ask for by type: parts, values, and what provider functions make."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, get_args

from consona.errors import ConfigurationError
from consona.rest.server.parameters import Injected, hints_of, read_parameters
from consona.rest.server.requests import Request
from consona.rest.server.routing import Route

if TYPE_CHECKING:
    from consona.rest.server.api_server import APIServer

__all__ = ["Resolver", "returned_type"]


class Resolver:
    """Finds what is provided for a type: a part, a value, or a provider function, read once.

    Args:
        api: The server, whose parts are provided too.
        provided: A type, with the function that makes it, or a tuple of the value itself.
        route: The route whose parameters are bound.
        known: The provider functions that were read already.
    """

    def __init__(
        self, api: APIServer, provided: Sequence[tuple[Any, Any]], route: Route, known: dict[Any, Injected]
    ) -> None:
        self.api = api
        self.provided = provided
        self.route = route
        self.known = known
        self.begun: list[Callable[..., Any]] = []
        """Providers that are being read: each is needed by the one before it."""

    def __call__(self, name: str, wanted: Any) -> Any:
        """What is provided for a parameter: a tuple of the value, an `Injected`, or None.

        Raises:
            ConfigurationError: Several could be meant, or providers need each other.
        """
        if not isinstance(wanted, type) or wanted in _NEVER_PROVIDED:
            return None
        if wanted is type(self.api):
            return (self.api,)
        for kind, source in reversed(self.provided):
            if kind is wanted:
                return source if isinstance(source, tuple) else self._injected(kind, source)
        parts = [part for part in self.api.parts if isinstance(part, wanted)]
        named = [part for part in parts if part.name == name]
        if len(parts) > 1 and len(named) != 1:
            raise ConfigurationError(
                f"{self.route.label}: {name!r} could be any of {', '.join(repr(part.name) for part in parts)}.",
                hint="Name the parameter like the part that you mean.",
            )
        return ((named or parts)[0],) if parts else None

    def _injected(self, kind: Any, function: Callable[..., Any]) -> Injected:
        if function not in self.known:
            label = f"the provider {getattr(function, '__qualname__', function)}"
            if function in self.begun:
                circle = [getattr(each, "__qualname__", str(each)) for each in [*self.begun, function]]
                raise ConfigurationError(
                    f"{self.route.label}: providers need each other: {' needs '.join(circle)}.",
                    hint="Let one of them make what it needs itself.",
                )
            self.begun.append(function)
            parameters = read_parameters(
                function, label=label, path_names=self.route.path_names, namespace=self.route.namespace, resolve=self
            )
            if any(parameter.place in {"body", "path"} for parameter in parameters):
                raise ConfigurationError(f"{label} may not take the body or the path: only a handler has them.")
            self.begun.pop()
            self.known[function] = Injected(function, kind, tuple(parameters), _kind_of(function))
        return self.known[function]


_NEVER_PROVIDED: Final = frozenset({str, int, float, bool, bytes, list, dict, tuple, set, object, Request})


def _kind_of(function: Callable[..., Any]) -> Any:
    if inspect.isasyncgenfunction(function):
        return "generator"
    if inspect.isgeneratorfunction(function):
        raise ConfigurationError(
            f"The provider {function.__qualname__} is a plain generator.", hint="Declare it with `async def`."
        )
    return "async" if inspect.iscoroutinefunction(function) else "sync"


def returned_type(function: Callable[..., Any]) -> Any:
    """The class of what a provider makes.

    Raises:
        ConfigurationError: It does not say.
    """
    label = f"the provider {getattr(function, '__qualname__', function)}"
    returned = hints_of(function, label=label, namespace={}).get("return")
    if inspect.isasyncgenfunction(function):
        returned = (get_args(returned) or (None,))[0]
    if not isinstance(returned, type):
        raise ConfigurationError(f"{label} must be annotated with the class that it returns.")
    return returned
