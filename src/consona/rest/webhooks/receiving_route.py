"""The route that a receiver answers with: it verifies first, and the handler sees what is left of its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from consona.errors import ConfigurationError
from consona.rest.server.parameters import hints_of
from consona.rest.server.requests import Request
from consona.rest.webhooks.rejections import WebhookReplayed
from consona.rest.webhooks.webhook import Webhook

if TYPE_CHECKING:
    from consona.rest.webhooks.receiver import WebhookReceiver

__all__ = ["route_for"]

REQUEST: Final = "webhook_request"
"""The name of the route's own parameter, beside those of the handler."""


def route_for(
    hooks: WebhookReceiver, handler: Callable[..., Any], into: Any, names: Mapping[str, Any]
) -> Callable[..., Any]:
    """A handler for a route, with the parameters of `handler` but the first, which becomes the event.

    Raises:
        ConfigurationError: There is no first parameter, or nobody says of which type it is.
    """
    label = f"The webhook handler {getattr(handler, '__qualname__', handler)}"
    parameters = list(inspect.signature(handler).parameters.values())
    if not parameters:
        raise ConfigurationError(f"{label} takes no event.", hint="Give it a first parameter: `event: PaymentEvent`.")
    event, *others = parameters
    hints = hints_of(handler, label=label, namespace=names)
    wanted = into if into is not None else hints.get(event.name)
    if wanted is None:
        raise ConfigurationError(
            f"{label}: its event {event.name!r} has no type.", hint="Annotate it, or give `into=`."
        )
    is_async = inspect.iscoroutinefunction(handler)

    async def answer(**values: Any) -> None:
        request: Request = values.pop(REQUEST)
        try:
            async with hooks.accept(request.headers, await request.body()) as webhook:
                values[event.name] = webhook if wanted is Webhook else webhook.json(into=wanted)
                if is_async:
                    await handler(**values)
                else:
                    await request.serving.threads.run(partial(handler, **values))
        except WebhookReplayed:
            return  # its work is done, which is all that the sender wants to know

    own = inspect.Parameter(REQUEST, inspect.Parameter.KEYWORD_ONLY, annotation=Request)
    others = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in others]
    answer.__signature__ = inspect.Signature([own, *others])  # type: ignore[attr-defined]  # read by inspect
    answer.__annotations__ = {
        REQUEST: Request,
        **{each.name: hints[each.name] for each in others if each.name in hints},
    }
    answer.__annotations__["return"] = None
    answer.__name__, answer.__qualname__ = handler.__name__, handler.__qualname__
    answer.__doc__, answer.__module__ = handler.__doc__, handler.__module__
    return answer
