"""Sending webhooks: signed, retried for days, and with a record of each delivery.

    hooks = WebhookSender("sqlite:///shop.db", events={"invoice.paid": InvoicePaid})
    async with hooks:
        endpoint = await hooks.add_endpoint("https://customer.example/hooks")    # endpoint.secret is for the customer
        await hooks.send(InvoicePaid(id=7))
        async for delivery in hooks.deliveries(status="failed"):
            await hooks.resend(delivery.id)

What is to be sent is in the store before `send` returns; a retry survives a restart, also one by kill -9.
A webhook may arrive twice, with the same `webhook-id` (at least once), and in another order.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

import msgspec

from consona.errors import ConfigurationError, FieldProblem, NotFound, ValidationError
from consona.part import Health, Part, Status
from consona.resilience.policy import Policy
from consona.resilience.retry import Retry
from consona.rest.client.api_client import APIClient, ClientSettings
from consona.rest.client.connection_settings import ConnectionSettings
from consona.rest.server.problems import BodyTooLarge
from consona.rest.transport import Timeouts, Transport
from consona.rest.webhooks.attempt import Attempt
from consona.rest.webhooks.delivery import EVENT_PATTERN, EVENT_TYPE, Delivery, DeliverySettings, Endpoint, Secret
from consona.rest.webhooks.dispatch import Dispatcher
from consona.rest.webhooks.ledger import Ledger
from consona.rest.webhooks.public_addresses import is_public
from consona.rest.webhooks.rejections import AddressRefused
from consona.rest.webhooks.signing import MAX_BODY_BYTES, new_secret, read_keys
from consona.storage.store import Store, open_store
from consona.storage.transaction import Transaction
from consona.telemetry.observer import Observer

__all__ = ["WebhookSender"]

OWNER_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
MAX_URL: Final = 2048

_encode = msgspec.json.Encoder().encode


class WebhookSender(Part):
    """Sends events to the endpoints that want them.

    Args:
        store: Where endpoints, messages and deliveries are kept: an address, or a store. Any number of processes
            may share it; each delivery is tried by one of them at a time.
        events: Event type -> the class of its data. `send` then knows the type by the class.
        settings: How persistently, and how carefully.
        deliver: Whether this process sends, or only notes what is to be sent (another does).
        transport: What carries the requests instead of the network.
        name: What the dashboard calls it.
        clock: Seconds since the epoch.
        rng: Chance from 0 to 1, for ids and waits.

    Raises:
        ConfigurationError: An event type is not well-formed, or two have the same class.

    Example:
        >>> import asyncio
        >>> class InvoicePaid(msgspec.Struct):
        ...     id: int
        >>> async def main():
        ...     settings = DeliverySettings(http=True, private_networks=True)
        ...     hooks = WebhookSender(
        ...         "memory://sender", events={"invoice.paid": InvoicePaid}, settings=settings, deliver=False
        ...     )
        ...     async with hooks:
        ...         await hooks.add_endpoint("http://127.0.0.1:8000/hooks")
        ...         await hooks.send(InvoicePaid(id=7))
        ...         return [(each.type, each.status) async for each in hooks.deliveries()]
        >>> asyncio.run(main())
        [('invoice.paid', 'pending')]

    Source: Standard Webhooks 1.0.0, "Operational considerations".
    """

    kind: ClassVar[str] = "webhooks.sender"

    def __init__(
        self,
        store: str | Store,
        *,
        events: Mapping[str, type[Any]] | None = None,
        settings: DeliverySettings | None = None,
        deliver: bool = True,
        transport: Transport | None = None,
        name: str = "webhooks",
        observer: Observer | None = None,
        clock: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(name, observer=observer)
        self.settings = settings or DeliverySettings()
        self._types = _types_by_class(events or {})
        if not isinstance(store, Store):
            store = open_store(store, name=f"{name} store", prefix="webhooks/", clock=clock)
        self._store = store
        self._ledger = Ledger(store)
        self._deliver = deliver
        self._clock = clock
        self._rng = rng
        self._client = _client(name, self.settings, transport)
        self._dispatcher: Dispatcher | None = None

    async def _open(self) -> None:
        await self._store.start()
        try:
            await self._client.start()
        except BaseException:
            await self._store.stop()
            raise
        if self._deliver:
            attempt = Attempt(
                self._ledger, self._client, self.settings, self.observer, clock=self._clock, rng=self._rng
            )
            self._dispatcher = Dispatcher(self._ledger, attempt.make, self.settings, clock=self._clock)
            attempt.hold = self._dispatcher.hold
            self._dispatcher.start()

    async def _close(self) -> None:
        dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is not None:
            await dispatcher.stop()
        await self._client.stop()
        await self._store.stop()

    async def check(self) -> Health:
        """Down when its store is; degraded while deliveries cannot be read."""
        health = await self._store.check()
        if health.ok and self._dispatcher is not None and self._dispatcher.trouble:
            return Health(Status.DEGRADED, self._dispatcher.trouble)
        return health

    def detail(self) -> dict[str, Any]:
        """How much waits, and how much is under way, in this process."""
        dispatcher = self._dispatcher
        return {} if dispatcher is None else {"waiting": dispatcher.waiting, "in_flight": dispatcher.in_flight}

    # Endpoints.

    async def add_endpoint(
        self, url: str, *, events: list[str] | None = None, owner: str = "default", secret: str = ""
    ) -> Endpoint:
        """Send to this URL from now on.

        Args:
            url: An https:// URL on the public internet (`DeliverySettings` may allow more).
            events: Which types: `invoice.paid`, `invoice.*`; all by default.
            owner: Whose it is: up to 64 letters, digits, `_`, `.` and `-`. `send(owner=…)` reaches theirs only.
            secret: A secret of your own (`whsec_…` or `whsk_…`); a new one by default.

        Raises:
            ValidationError: The URL, an event type or the owner is not well-formed.
            AddressRefused: The URL leads to this machine or into a private network.
            ConfigurationError: The secret is not well-formed.
        """
        self._require_started()
        self._check_url(url)
        for pattern in events or []:
            if not EVENT_PATTERN.fullmatch(pattern):
                raise _refused("events", f"{pattern[:64]!r} is no event type, and no `prefix.*`")
        _check_owner(owner)
        secret = secret or new_secret()
        read_keys(secret)
        endpoint = Endpoint(
            id=f"{owner}/ep_{self._new_id()}",
            url=url,
            secrets=[Secret(secret)],
            events=events or [],
            created=self._now(),
        )
        with self.observer.operation("add_endpoint"):
            await self._ledger.add_endpoint(endpoint)
        return endpoint

    async def endpoints(self, *, owner: str = "") -> AsyncIterator[Endpoint]:
        """All endpoints, or those of one owner."""
        self._require_started()
        async for endpoint in self._ledger.endpoints(owner):
            yield endpoint

    async def endpoint(self, id: str) -> Endpoint:  # noqa: A002 it is one
        """One endpoint. Raises NotFound where there is none."""
        self._require_started()
        found = await self._ledger.endpoint(id)
        if found is None:
            raise NotFound(f"There is no webhook endpoint {id!r}.")
        return found

    async def remove_endpoint(self, id: str) -> bool:  # noqa: A002
        """Send there no more. Returns whether there was one; what is pending for it fails when it is due."""
        self._require_started()
        with self.observer.operation("remove_endpoint"):
            return await self._ledger.remove_endpoint(id)

    async def disable(self, id: str, *, reason: str = "disabled by hand") -> Endpoint:  # noqa: A002
        """Send there no more, until `enable`. Raises NotFound where there is none."""
        return await self._change("disable", id, lambda endpoint: msgspec.structs.replace(endpoint, disabled=reason))

    async def enable(self, id: str) -> Endpoint:  # noqa: A002
        """Send there again. What failed meanwhile can be sent with `resend`. Raises NotFound where there is none."""
        return await self._change(
            "enable", id, lambda endpoint: msgspec.structs.replace(endpoint, disabled="", failing_since=None)
        )

    async def rotate(self, id: str, *, secret: str = "", overlap: float = 86_400.0) -> Endpoint:  # noqa: A002
        """Give an endpoint a new secret; for `overlap` seconds its webhooks are signed with the old ones too.

        Raises:
            NotFound: There is no such endpoint.
            ConfigurationError: The secret is not well-formed.
        """
        secret = secret or new_secret()
        read_keys(secret)
        until = self._now() + timedelta(seconds=overlap)

        def change(endpoint: Endpoint) -> Endpoint:
            old = [each if each.until and each.until < until else Secret(each.text, until) for each in endpoint.secrets]
            now = self._now()
            kept = [each for each in old if each.until and each.until > now]
            return msgspec.structs.replace(endpoint, secrets=[Secret(secret), *kept[:4]])

        return await self._change("rotate", id, change)

    async def _change(self, operation: str, id: str, change: Callable[[Endpoint], Endpoint]) -> Endpoint:  # noqa: A002
        self._require_started()
        with self.observer.operation(operation):
            return await self._ledger.change_endpoint(id, change)

    # Sending.

    async def send(
        self,
        data: Any,
        *,
        type: str = "",  # noqa: A002 the specification's name
        owner: str = "",
        tx: Transaction | None = None,
    ) -> str:
        """Send an event to every endpoint that wants it. It is in the store when this returns.

        Args:
            data: The event: an instance of a class of `events=`, or with `type=` anything that can be JSON.
            type: Its type, like `invoice.paid`; known by the class where that was declared.
            owner: Send it to the endpoints of this owner only.
            tx: An open transaction of the store's own database: the webhook is sent if it commits, and only then.

        Returns:
            The `webhook-id`, under which `deliveries(message=…)` tells what became of it.

        Raises:
            ConfigurationError: The class is not declared, or the data cannot be JSON.
            ValidationError: The type or the owner is not well-formed.
            BodyTooLarge: It has more than 256 kB; send a link instead.
        """
        self._require_started()
        name = type or self._types.get(data.__class__, "")
        if not name:
            raise ConfigurationError(
                f"{self.name}: nobody said of which event type a {data.__class__.__name__} is.",
                hint="Declare it: WebhookSender(..., events={'invoice.paid': InvoicePaid}), or give type=.",
            )
        if not EVENT_TYPE.fullmatch(name) or len(name) > 128:
            raise _refused("type", f"{name[:64]!r} is not names of letters, digits and `_`, joined by full stops")
        if owner:
            _check_owner(owner)
        now = self._now()
        body = _body(name, now, data)
        message = f"msg_{self._new_id()}"
        with self.observer.operation("send", name) as op:
            sent = 0
            async for endpoint in self._ledger.endpoints(owner):
                if endpoint.disabled or not endpoint.wants(name):
                    continue
                if not sent:
                    ttl = sum(self.settings.schedule) * (1 + self.settings.jitter) + self.settings.keep
                    await self._ledger.put_message(message, body, ttl=ttl, tx=tx)
                delivery = Delivery(message=message, endpoint=endpoint.id, type=name, created=now, next_try=now)
                await self._ledger.add(delivery, tx=tx)
                sent += 1
            op.set(bytes=len(body), endpoints=sent)
        return message

    async def deliveries(
        self, *, message: str = "", endpoint: str = "", status: Literal["", "pending", "delivered", "failed"] = ""
    ) -> AsyncIterator[Delivery]:
        """What became of webhooks: pending ones, then finished ones, each oldest first.

        Args:
            message: Only of this `webhook-id`.
            endpoint: Only to this endpoint.
            status: Only those that are `pending`, `delivered` or `failed`.
        """
        self._require_started()
        async for delivery in self._ledger.deliveries(message):
            if (not endpoint or delivery.endpoint == endpoint) and (not status or delivery.status == status):
                yield delivery

    async def delivery(self, id: str) -> Delivery:  # noqa: A002
        """One delivery. Raises NotFound where there is none (any more)."""
        self._require_started()
        noted = await self._ledger.pending(id)
        found = noted.delivery if noted is not None else await self._ledger.finished(id)
        if found is None:
            raise NotFound(f"There is no webhook delivery {id!r} (any more).")
        return found

    async def resend(self, id: str) -> Delivery:  # noqa: A002
        """Send a webhook once more, with a new round of retries: one that failed, one that waits, or one that arrived.

        Raises:
            NotFound: There is no such delivery, or its body is no longer kept.
            Conflict: It is being tried at this moment.
        """
        self._require_started()
        with self.observer.operation("resend"):
            found = await self.delivery(id)
            if await self._ledger.message(found.message) is None:
                raise NotFound(f"The body of the webhook {found.message} is no longer kept.")
            again = msgspec.structs.replace(
                found, status="pending", attempts=0, in_progress=False, next_try=self._now(), last_error=""
            )
            await self._ledger.begin_again(again)
            return again

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def _new_id(self) -> str:
        """Unique, and in order of time: 12 hexadecimal digits of milliseconds, then 20 of chance."""
        return f"{int(self._clock() * 1000):012x}" + "".join(f"{int(self._rng() * 0x100000):05x}" for _ in range(4))

    def _check_url(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            raise _refused("url", "it is not a URL") from None
        schemes = {"https", "http"} if self.settings.http else {"https"}
        if parts.scheme not in schemes or not host or len(url) > MAX_URL:
            raise _refused("url", f"expected {' or '.join(f'{s}://' for s in sorted(schemes))} and a host")
        if parts.username is not None or parts.fragment or any(ord(character) <= 32 for character in url):
            raise _refused("url", "expected no user name, no fragment and no blank")
        literal = host.replace(".", "").isdigit() or ":" in host
        named_local = host == "localhost" or host.endswith(".localhost")
        if not self.settings.private_networks and (named_local or (literal and not is_public(host))):
            raise AddressRefused("The URL of the webhook endpoint leads to this machine or into a private network.")


def _client(name: str, settings: DeliverySettings, transport: Transport | None) -> APIClient:
    """One client for all endpoints. Its base is nobody's, so that nothing of it goes to any of them."""
    allow = None if settings.private_networks else is_public
    return APIClient(
        "http://webhooks.invalid",
        policy=Policy(timeout=None, retry=Retry(attempts=1)),  # the schedule is the retry, and times each try
        name=f"{name} client",
        connections=None if transport is not None else ConnectionSettings(allow=allow),
        transport=transport,
        settings=ClientSettings(
            timeouts=Timeouts(connect=10.0, read=None, write=None, pool=None),
            max_redirects=0,
            cookies=False,
            max_answer_bytes=64 * 1024,
        ),
    )


def _types_by_class(events: Mapping[str, type[Any]]) -> dict[type[Any], str]:
    found: dict[type[Any], str] = {}
    for name, kind in events.items():
        if not EVENT_TYPE.fullmatch(name):
            raise ConfigurationError(
                f"WebhookSender(events=…): {name!r} is no event type.",
                hint="Names of letters, digits and `_`, joined by full stops: invoice.paid",
            )
        if kind in found:
            raise ConfigurationError(
                f"WebhookSender(events=…): {kind.__name__} is declared for {found[kind]!r} and for {name!r}.",
                hint="Give each event type a class of its own, or leave both out and send with type=.",
            )
        found[kind] = name
    return found


def _body(name: str, now: datetime, data: Any) -> bytes:
    try:
        body = _encode({"type": name, "timestamp": now, "data": data})
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise ConfigurationError(
            f"A {data.__class__.__name__} cannot be written as JSON: {error.__class__.__name__}.",
            hint="Use a msgspec.Struct, a dataclass, or plain data.",
        ) from error
    if len(body) > MAX_BODY_BYTES:
        raise BodyTooLarge(
            f"The webhook has {len(body)} bytes; at most {MAX_BODY_BYTES} are sent.",
            hint="Send what it is about, and where to fetch the rest.",
        )
    return body


def _check_owner(owner: str) -> None:
    if not 1 <= len(owner) <= 64 or not OWNER_CHARACTERS.issuperset(owner):
        raise _refused("owner", "expected 1 to 64 letters, digits, `_`, `.` and `-`")


def _refused(field: str, problem: str) -> ValidationError:
    return ValidationError(f"The webhook's {field} was refused: {problem}.", fields=[FieldProblem(field, problem)])
