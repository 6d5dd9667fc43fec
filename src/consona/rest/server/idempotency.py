"""Requests that may be repeated: the same `Idempotency-Key`, and the work is done once.

    api = APIServer("shop", parts=[db])                  # or: api.idempotency("sqlite:///shop.db")

    @api.post("/orders", status=201, idempotent=True)
    async def order(new: NewOrder) -> Order: ...

The first request with a key runs; what it was answered is kept in a store, and a repeat is answered the same.

What happens between the work and the keeping of its answer decides. A handler that says nothing is never run
twice: where its process died in its middle, a repeat is told that nobody knows what became of it. A handler that
keeps its answer in the transaction of its work (`IdempotencyKey`) is run again in that case: either all of it
happened, the answer included, or nothing.

Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from consona.address import Address
from consona.errors import AddressError, ConfigurationError, ConsonaError
from consona.part import Part
from consona.rest.server.problems import BadRequest, HTTPError
from consona.rest.server.requests import ClientGone, Request
from consona.rest.server.responses import Response
from consona.storage.store import ABSENT, MAX_VALUE_BYTES, Store

if TYPE_CHECKING:
    from consona.rest.server.routing import Respond
    from consona.storage.transaction import SharedTransaction

__all__ = [
    "AnswerNotKept",
    "Idempotency",
    "IdempotencyKey",
    "KeyInProgress",
    "KeyReused",
    "OutcomeUnknown",
    "once",
    "store_beside",
]

DAY_S: Final = 86_400.0
MARGIN_S: Final = 5.0
"""Beyond the route's timeout: how long a handler may go on before its process counts as dead."""
REPLAYED: Final = (b"idempotency-replayed", b"true")
_KEY: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,253}[\x21-\x7e])?")
_NOT_KEPT: Final = frozenset({b"content-length", b"x-request-id", b"date"})

log = logging.getLogger("consona.rest.server")


class KeyInProgress(HTTPError):
    """The first request with this `Idempotency-Key` is still under way. Ask again in a moment."""

    code = "http.idempotency.in_progress"
    status = 409
    retryable = True


class KeyReused(HTTPError):
    """Another request had this `Idempotency-Key`. A key belongs to one request and its repeats."""

    code = "http.idempotency.reused"
    status = 422


class OutcomeUnknown(HTTPError):
    """An earlier request with this `Idempotency-Key` broke off in its middle; nobody knows what it did."""

    code = "http.idempotency.unknown"
    status = 409


class AnswerNotKept(HTTPError):
    """The work of this `Idempotency-Key` is done. Its answer was too long to be kept, or a stream."""

    code = "http.idempotency.not_kept"
    status = 409


State = Literal["running", "done", "unknown"]


class Record(msgspec.Struct, array_like=True, frozen=True):
    """What the store holds of a key."""

    state: State
    fingerprint: bytes
    until: float = 0.0
    """While it runs: when its process counts as dead, in seconds since the epoch."""
    status: int = 0
    headers: Sequence[tuple[bytes, bytes]] = ()
    body: bytes | None = None
    """None: it was too long, or a stream."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


class Claim:
    """One request that has its key to itself.

    Args:
        store: Where keys are kept.
        name: The key's, in the store.
        version: The store's, of the record that says "running". Whoever takes over changes it.
        fingerprint: The request's.
        keep_s: How long the answer is kept.
    """

    def __init__(self, store: Store, name: str, version: int, fingerprint: bytes, keep_s: float) -> None:
        self.store = store
        self.name = name
        self.version = version
        self.fingerprint = fingerprint
        self.keep_s = keep_s
        self.kept = False

    async def finish(self, response: Response, *, tx: SharedTransaction | None = None) -> bool:
        """Keep the answer. False where somebody else has taken over the key."""
        headers = [pair for pair in response.raw_headers if pair[0] not in _NOT_KEPT]
        record = Record("done", self.fingerprint, 0.0, response.status, headers, response.body)
        data = _encode(record)
        if len(data) > MAX_VALUE_BYTES or type(response).__call__ is not Response.__call__:
            log.warning("The answer of an idempotent request is too long to be kept, or a stream.")
            data = _encode(Record("done", self.fingerprint))
        return await self._write(data, tx=tx)

    async def give_up(self) -> None:
        """Nobody knows what was done."""
        await self._write(_encode(Record("unknown", self.fingerprint)))

    async def release(self) -> None:
        """Nothing was done: the key is free, unless its answer was kept meanwhile."""
        await self.store.delete(self.name, version=self.version)

    async def _write(self, data: bytes, *, tx: SharedTransaction | None = None) -> bool:
        version = await self.store.put_if(self.name, data, version=self.version, ttl=self.keep_s, tx=tx)
        return version is not None


class IdempotencyKey:
    """The request's key, for handlers that keep their answer in the transaction of their work.

        @api.post("/orders", status=201, idempotent=True)
        async def order(new: NewOrder, key: IdempotencyKey) -> Order:
            async with db.transaction() as tx:
                order = await insert(new, tx)
                await key.keep(order, tx=tx)
            return order

    The store must be in that same database.
    """

    __slots__ = ("_make_answer", "_request")

    def __init__(self, request: Request, make_answer: Callable[[Request, Any], Awaitable[Response]]) -> None:
        self._request = request
        self._make_answer = make_answer

    @property
    def given(self) -> bool:
        """Whether the client sent one. Without, `keep` does nothing."""
        return self._request.claim is not None

    async def keep(self, answer: Any, *, tx: SharedTransaction) -> None:
        """Keep the answer: it is there if, and only if, the transaction is committed.

        Args:
            answer: What the handler returns.
            tx: The open transaction.

        Raises:
            KeyInProgress: Another process took over, since this one took too long. Let it roll back.
            AnswerMismatch: It is not what the handler declares.
        """
        claim = self._request.claim
        if claim is None:
            return
        response = await self._make_answer(self._request, answer)
        if not await claim.finish(response, tx=tx):
            raise KeyInProgress("Another process has taken over this request.", retry_after=1)
        claim.kept = True


class Idempotency:
    """Keeps keys and answers.

    Args:
        store: Where; a part that the server starts.
        keep: Seconds for which a key is remembered.
        clock: Seconds since the epoch.
    """

    def __init__(self, store: Store, *, keep: float = DAY_S, clock: Callable[[], float] = time.time) -> None:
        if not keep > 0:
            raise ConfigurationError(f"idempotency(keep={keep!r}) must be above zero.")
        self.store = store
        self.keep_s = keep
        self._clock = clock

    async def claim(self, request: Request, *, again: bool, required: bool) -> Response | None:
        """Take the key of a request (`request.claim`), or give the answer that is kept.

        Args:
            request: It was read, and its caller is known.
            again: Whether work that broke off may be done again.
            required: Whether there must be a key.

        Raises:
            BadRequest: The key is missing, or cannot be one.
            KeyInProgress: Its first request is still under way.
            KeyReused: Another request had it.
            OutcomeUnknown: Its first request broke off.
            AnswerNotKept: It is done, and its answer was too long.
        """
        key = key_of(request.fields.get(b"idempotency-key"))
        if not key:
            if required:
                raise BadRequest(
                    "The header Idempotency-Key is missing.", hint="Send a new random one, and the same with repeats."
                )
            return None
        subject = request.identity.subject if request.identity is not None else ""
        name = hashlib.blake2b(_encode((subject, key)), digest_size=32).hexdigest()
        fingerprint = await fingerprint_of(request)
        running = _encode(Record("running", fingerprint, self._clock() + request.route.timeout_s + MARGIN_S))
        version = ABSENT
        while True:
            mine = await self.store.put_if(name, running, version=version, ttl=self.keep_s)
            if mine is not None:
                request.claim = Claim(self.store, name, mine, fingerprint, self.keep_s)
                return None
            item = await self.store.get(name)
            if item is None:  # it was released, or has expired, in this moment
                version = ABSENT
                continue
            record = _decode(item.value)
            if record.fingerprint != fingerprint:
                raise KeyReused("Another request had this Idempotency-Key.", hint="Send a new one with each request.")
            if record.state == "done":
                return _replayed(record)
            if record.state == "running" and record.until > self._clock():
                raise KeyInProgress("The first request with this Idempotency-Key is still under way.", retry_after=1)
            if not again:
                raise OutcomeUnknown(
                    "An earlier request with this Idempotency-Key broke off, and nobody knows what it did.",
                    hint="Look whether the work was done. If it was not, send it with a new key.",
                )
            version = item.version


def store_beside(parts: Iterable[Part], *, name: str) -> Store:
    """A store in the first database among the parts of a server.

    Raises:
        ConfigurationError: There is none.
    """
    for part in parts:
        address = getattr(part, "address", None)
        if isinstance(address, Address):
            with contextlib.suppress(AddressError):
                return Store(address, name="idempotency", prefix=f"idempotency/{name}/")
    raise ConfigurationError(
        f"{name} has idempotent routes, and nothing keeps their answers.",
        hint='Name a database: api.idempotency("sqlite:///app.db").',
    )


def key_of(header: bytes | None) -> str:
    """The key, which is a quoted string by the standard, and often comes without quotes; empty where there is none.

    Raises:
        BadRequest: It is empty or longer than 255 characters, or holds others than visible ASCII.

    Example:
        >>> key_of(b'"8e03978e"') == key_of(b"8e03978e")
        True
    """
    if header is None:
        return ""
    text = header.decode("latin-1").strip()
    if len(text) > 2 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not _KEY.fullmatch(text):
        raise BadRequest("The Idempotency-Key must be 1 to 255 characters of ASCII.", hint="Use a random UUID.")
    return text


async def fingerprint_of(request: Request) -> bytes:
    """What makes the request this one and no other: its method, address and body (of a form, what is in it)."""
    scope = request.scope
    state = hashlib.blake2b(_encode((scope["method"], scope["path"], scope["query_string"])), digest_size=32)
    if request._form is None:
        state.update(await request.body())
        return state.digest()
    form = request._form  # the bytes differ with each sending: the boundary is random
    state.update(_encode((form.fields, form.ignored)))
    for name, file in form.files:
        state.update(_encode((name, file.name, file.type, file.size)))
        async for piece in file:
            state.update(piece)
        await file.seek(0)
    return state.digest()


def _replayed(record: Record) -> Response:
    if record.body is None:
        raise AnswerNotKept(
            "The work of this request is done. Its answer was too long to be kept.", hint="Read what it made."
        )
    response = Response(status=record.status)
    response.body = record.body
    response.raw_headers = [*record.headers, REPLAYED]
    return response


def once(respond: Respond, *, again: bool) -> Respond:
    """`respond`, which claims the request's key in its middle, and then: its answer is kept, or its key released.

    Args:
        respond: A route's.
        again: Whether the handler keeps its answer in its own transaction, so that it may run again.
    """

    async def respond_once(request: Request) -> Response:
        try:
            response: Response = await respond(request)
        except Exception as error:  # noqa: BLE001 whatever it is, it is answered
            response = await request.serving.recover(error, request)
            free = again or (isinstance(error, ConsonaError) and error.retryable)
            await _end(request.claim, None if isinstance(error, ClientGone) else response, free=free)
            return response
        except BaseException:
            await _end(request.claim, None, free=again)
            raise
        if request.claim is not None and not request.claim.kept:
            await _end(request.claim, response, free=False)
        return response

    return respond_once


async def _end(claim: Claim | None, response: Response | None, *, free: bool) -> None:
    if claim is None:
        return
    try:
        if free:
            await claim.release()
        elif response is None:
            await claim.give_up()
        else:
            await claim.finish(response)
    except ConsonaError:  # the work is done, and its answer is better than an error
        log.exception("The answer of an idempotent request could not be kept; a repeat is refused.")
