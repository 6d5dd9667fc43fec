"""Taking webhooks: verified, each once, typed.

    hooks = WebhookReceiver("whsec_…", store="sqlite:///shop.db")

    @hooks.receive(api, "/hooks/payments", into=PaymentEvent)      # a route of an APIServer
    async def payment(event: PaymentEvent, db: SQLDatabase): ...

    async with hooks.accept(request.headers, await request.body()) as webhook:     # in any other framework
        event = webhook.json(into=PaymentEvent)

A sender repeats a webhook, with the same id, until it has heard of a success. `accept` remembers the id
once its block has ended well, so the work is done once; if the block fails, the next try is taken.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, TypeVar, Unpack

from consona.errors import ConfigurationError
from consona.part import Health, Part
from consona.rest.server.api_server import APIServer
from consona.rest.server.routing import RouteOptions, Routes
from consona.rest.webhooks.receiving_route import route_for
from consona.rest.webhooks.rejections import WebhookBusy, WebhookReplayed
from consona.rest.webhooks.signing import MAX_BODY_BYTES, TOLERANCE_S, Headers, Secrets, read_keys, verify
from consona.rest.webhooks.webhook import Webhook
from consona.storage.store import ABSENT, Store, open_store
from consona.telemetry.observer import Observer

__all__ = ["REMEMBER_S", "WebhookReceiver"]

Handler = TypeVar("Handler", bound=Callable[..., Any])

REMEMBER_S: Final = 4 * 86_400.0
"""How long an id is remembered by default: beyond the specification's retries, which end after 76 hours."""
WORKING_S: Final = 60.0
SLACK_S: Final = 2.0
"""Beyond the last moment at which a webhook is valid, so that no rounding lets it in once more."""
WORKING: Final = b"working"
DONE: Final = b"done"


class WebhookReceiver(Part):
    """Verifies webhooks, and takes each one once.

    Args:
        secrets: The secrets (`whsec_…`) or public keys (`whpk_…`) that are active; several while one is exchanged.
        store: Where the ids are remembered: an address, or a store. All processes that answer share one.
        tolerance: Seconds that the time of a webhook may be from ours, into the past and the future.
        remember: Seconds that the id of a finished webhook is remembered; at least twice the tolerance, since
            within it a recorded webhook could be replayed.
        working: Seconds after which the work on a webhook is taken for lost, and its next try is taken.
        max_bytes: Longer bodies are refused.
        name: What the dashboard calls it.
        clock: Seconds since the epoch.

    Raises:
        ConfigurationError: A secret is not well-formed, or a time is out of range.

    Example:
        >>> hooks = WebhookReceiver("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", store="memory://hooks")
        >>> hooks.tolerance
        300.0

    Source: Standard Webhooks 1.0.0.
    """

    kind: ClassVar[str] = "webhooks.receiver"

    def __init__(
        self,
        *secrets: str,
        store: str | Store,
        tolerance: float = TOLERANCE_S,
        remember: float = REMEMBER_S,
        working: float = WORKING_S,
        max_bytes: int = MAX_BODY_BYTES,
        name: str = "webhooks",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(name, observer=observer)
        if not tolerance > 0 or not working > 0 or max_bytes < 1:
            raise ConfigurationError("WebhookReceiver: tolerance, working and max_bytes must be above zero.")
        if remember < 2 * tolerance:
            raise ConfigurationError(
                f"WebhookReceiver(remember={remember:g}) is shorter than twice the tolerance ({tolerance:g} s).",
                hint="A webhook from a clock that is ahead stays valid that long.",
            )
        self._keys = read_keys(secrets)
        self._store = (
            store if isinstance(store, Store) else open_store(store, name=f"{name} store", prefix="webhook-ids/")
        )
        self.tolerance = tolerance
        self.remember = remember
        self.working = working
        self.max_bytes = max_bytes
        self._clock = clock

    async def _open(self) -> None:
        await self._store.start()

    async def _close(self) -> None:
        await self._store.stop()

    async def check(self) -> Health:
        """As its store does: without it, no webhook can be taken."""
        return await self._store.check()

    def use(self, secrets: Secrets) -> None:
        """Take these secrets from now on, instead of the ones before: how one is exchanged while the server runs.

        Raises:
            ConfigurationError: One is not well-formed; then nothing changes.
        """
        self._keys = read_keys(secrets)

    def verify(self, headers: Headers, body: bytes) -> Webhook:
        """Verify a webhook without a look at, or a note in, what was taken before.

        Raises:
            WebhookRejected: Its signature is missing, malformed, wrong, too old or in the future.
            BodyTooLarge: It is longer than `max_bytes`.
        """
        with self.observer.operation("verify"):
            return self._verified(headers, body)

    @asynccontextmanager
    async def accept(self, headers: Headers, body: bytes) -> AsyncIterator[Webhook]:
        """Verify a webhook and work on it, in this block, as the only one who does.

        Args:
            headers: Those of the request.
            body: The request's body, as it came.

        Raises:
            WebhookRejected: Its signature is missing, malformed, wrong, too old or in the future.
            BodyTooLarge: It is longer than `max_bytes`.
            WebhookReplayed: Its work was done before: answer with success.
            WebhookBusy: Another is working on it: answer with 503, so that the sender comes again.

        Example:
            >>> import asyncio
            >>> from consona.rest.webhooks import new_secret, sign
            >>> async def main():
            ...     secret = new_secret()
            ...     headers = sign(b'{"paid": 7}', secret, id="msg_1")
            ...     async with WebhookReceiver(secret, store="memory://once") as hooks:
            ...         async with hooks.accept(headers, b'{"paid": 7}') as webhook:
            ...             print(webhook.json())
            ...         try:
            ...             async with hooks.accept(headers, b'{"paid": 7}'):
            ...                 print("never comes here")
            ...         except WebhookReplayed:
            ...             print("was done before")
            >>> asyncio.run(main())
            {'paid': 7}
            was done before
        """
        self._require_started()
        with self.observer.operation("accept") as op:
            webhook = self._verified(headers, body)
            op.set(bytes=len(body))
            key = hashlib.sha256(webhook.id.encode("ascii")).hexdigest()
            version = await self._claim(key)
            op.set(repeated=version is None)
            if version is not None:
                try:
                    yield webhook
                except BaseException:
                    await self._store.delete(key, version=version)  # so that the next try is taken
                    raise
                # Whoever took over after `working` seconds did the same work: done is done.
                await self._store.put(key, DONE, ttl=self.remember + SLACK_S)
        if version is None:
            raise WebhookReplayed("The webhook was taken before; its work is done.")

    def receive(
        self, api: Routes, path: str, *, into: Any = None, **options: Unpack[RouteOptions]
    ) -> Callable[[Handler], Handler]:
        """Answer `path` of a server with a function that gets each verified webhook once.

        Its first parameter is the event; the others are those of any handler of a route. The sender hears 204
        when it has ended well, also for one that was done before; 401 for a wrong signature, 413 for a long body,
        400 or 422 for one that does not fit; anything else makes it come again.

        Args:
            api: An `APIServer`, which then starts and stops the receiver; or a group of routes.
            path: Where the sender posts to.
            into: The type of the body; by default the annotation of the first parameter. `Webhook` hands it over
                as it is.
            options: Those of a route. It is not in the OpenAPI document unless `documented=True`.

        Raises:
            ConfigurationError: The function has no parameter for the event, or no type for it.
        """
        chosen: RouteOptions = {"documented": False, "max_body": self.max_bytes, "status": 204, **options}
        names = sys._getframe(1).f_locals  # annotations may name what the calling function has declared

        def register(handler: Handler) -> Handler:
            api.post(path, **chosen)(route_for(self, handler, into, names))
            if isinstance(api, APIServer) and self not in api.parts:
                api.parts.append(self)
            return handler

        return register

    def _verified(self, headers: Headers, body: bytes) -> Webhook:
        return verify(headers, body, self._keys, tolerance=self.tolerance, max_bytes=self.max_bytes, clock=self._clock)

    async def _claim(self, key: str) -> int | None:
        """The version of the note that we work on it; None where it was done before."""
        while True:
            version = await self._store.put_if(key, WORKING, version=ABSENT, ttl=self.working)
            if version is not None:
                return version
            item = await self._store.get(key)
            if item is None:  # it ended in between
                continue
            if item.value == DONE:
                return None
            raise WebhookBusy("The same webhook is being worked on at this moment.", retry_after=5)
