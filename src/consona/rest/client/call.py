"""One call of a client: its tries under the policy, and the redirects that it follows."""

from __future__ import annotations

import inspect
import logging
import random
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final

from consona.errors import (
    APIError,
    BulkheadFull,
    CircuitOpen,
    ConfigurationError,
    ConnectError,
    ConsonaError,
    DeadlineExceeded,
    RateLimited,
)
from consona.resilience import deadline as deadlines
from consona.rest.caching.answers import CacheAnswer, is_kept
from consona.rest.client.authentication import Authentication, Pairs
from consona.rest.client.body import Payload, no_payload
from consona.rest.client.content_decoding import Decoder, decoder_for
from consona.rest.client.errors import BadAnswer, ConnectionLost, TooManyRedirects
from consona.rest.client.history import describe
from consona.rest.client.progress import Progress, WatchedAnswer, watched_body
from consona.rest.client.response import Response, api_error, read_whole
from consona.rest.client.safe_retry import IDEMPOTENT, RETRY_STATUSES, if_safe, if_unsent
from consona.rest.client.url import Place
from consona.rest.headers import encode_header
from consona.rest.transport import Answer, Request
from consona.telemetry.observer import Operation
from consona.telemetry.redaction import DEFAULT as REDACTION
from consona.telemetry.trace import UNSAMPLED, _current, default_tracer, inject

if TYPE_CHECKING:
    from consona.rest.client.api_client import APIClient

__all__ = ["REPEAT", "Call"]

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
NOT_ZERO: Final = (1 << 64) | 1
"""Makes two ids of 192 random bits, neither of which is zero."""
HARMLESS: Final = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent", "range"})
"""The headers that go along to another origin: a list of what may, so that no secret is forgotten."""


_Start = tuple[str, Place, str, Payload, list[tuple[str, str]], bool]


class _Repeat:
    def __repr__(self) -> str:
        return "REPEAT"


REPEAT: Final = _Repeat()
"""What a handler by status returns to have the request sent once more."""


class Call:
    """What is to be sent, and what became of it.

    `headers` are those of each try; the trace, the deadline and the cookies of the moment are added to them.
    """

    __slots__ = (
        "attempts",
        "began",
        "client",
        "error",
        "headers",
        "max_redirects",
        "method",
        "opened",
        "payload",
        "place",
        "progress",
        "safe",
        "streaming",
        "timeout",
        "url",
    )

    def __init__(
        self,
        client: APIClient,
        method: str,
        place: Place,
        url: str,
        headers: list[tuple[str, str]],
        payload: Payload,
        *,
        safe: bool,
        timeout: float | None,
        streaming: bool = False,
    ) -> None:
        self.client = client
        self.method = method
        self.place = place
        self.url = url
        self.headers = headers
        self.payload = payload
        self.safe = safe
        """Whether it may be sent again although something of it was sent already."""
        self.timeout = timeout
        """Seconds for all of it, redirects and repeats included."""
        self.max_redirects = client.settings.max_redirects
        self.streaming = streaming
        self.progress: Progress | None = None
        self.attempts = 0
        self.began = client._runner._clock()
        self.error: APIError | None = None
        self.opened: tuple[Answer, Decoder | None] | None = None
        """The answer that is still to be read, when `streaming`."""

    async def exchange(self) -> Response:
        """Send it, as often as the policy allows, follow redirects, and return the last answer whatever its status.

        Raises:
            ConsonaError: There was no answer, or none that can be used.
        """
        hops = 0
        limit = self.max_redirects
        whole_is_safe = self.safe  # a redirect may make a GET of a POST; the caller would repeat the POST
        while True:
            try:
                response = await self._by_policy() if self.client._caching is None else await self._kept_or_asked()
            except APIError as error:
                if error is not self.error:  # it came from a hook of the user's
                    raise
                response = error.response
            except ConsonaError as error:
                if not whole_is_safe and (hops or isinstance(error, ConnectionLost | DeadlineExceeded)):
                    error.retryable = False
                raise
            if response.status not in REDIRECTS or not limit or "location" not in response.headers:
                return response
            hops += 1
            if hops > limit:
                raise TooManyRedirects(f"{self.method} {REDACTION.url(self.url)}: more than {limit} redirects.")
            self._redirect(response)

    def _by_policy(self) -> Coroutine[Any, Any, Response]:
        return self.client._runner.run(
            self.attempt,
            key=self.place.origin,
            retry_if=if_safe if self.safe else if_unsent,
            timeout=self.time_left() if self.attempts else self.timeout,
        )

    async def _kept_or_asked(self) -> Response:
        """What the cache has costs no turn of the policy's, and is there while a circuit is open."""
        caching = self.client._caching
        assert caching is not None
        if self.payload is not no_payload or self.client._request_hooks:  # a hook may change what is asked for
            return await self._by_policy()
        request = Request(self.method, self.url, self._headers_of_the_moment(), None, self.client.settings.timeouts)
        kept = await caching.kept(request)
        if kept is None:
            try:
                return await self._by_policy()
            except (BulkheadFull, CircuitOpen, RateLimited):
                kept = await caching.kept(request, instead_of_error=True)
                if kept is None:
                    raise
        return await self._received(kept)

    async def perform(self, op: Operation, *, raising: bool) -> tuple[Response, Any]:
        """With credentials and handlers: the last answer, and what a handler answered instead of it (else None).

        Raises:
            APIError: The status is 400 or above, nobody took care of it, and `raising`.
        """
        client = self.client
        auth = client._changing_auth if self.place.own else None
        start: _Start = (self.method, self.place, self.url, self.payload, self.headers, self.safe)
        renewed = repeated = False
        shown: Pairs = ()
        response = None
        try:
            while True:
                if auth is not None:
                    shown = await self._with_credentials(auth)
                    if client._caching is not None:
                        client._caching.credentials.update(name.lower() for name, _ in shown)
                response = await self.exchange()
                status = response.status
                if status < 400:
                    return response, None
                repeatable = start[3].repeatable
                if status == 401 and auth is not None and repeatable and not renewed:
                    renewed = True
                    if await auth.rejected(shown):  # others are to be had
                        self._back_to(start)
                        continue
                handler = client._handlers.get(status)
                answer = None if handler is None else await awaited(handler(response))
                if answer is REPEAT and repeatable and not repeated:
                    repeated = True
                    self._back_to(start)
                    continue
                # Who asked to be given every status has not lost anything: it counts, and nobody is warned.
                op.fail(f"api.{status}", level=logging.WARNING if raising else logging.DEBUG)
                if isinstance(answer, Response):
                    return answer, None
                if answer is not None and answer is not REPEAT:
                    return response, answer
                if raising:
                    raise self.error_for(response)
                return response, None
        finally:
            op.set(**describe(self, response, shown or client._fixed_auth))

    async def attempt(self) -> Response:
        """One try."""
        client, payload = self.client, self.payload
        self.attempts += 1
        request = Request(
            self.method, self.url, self._headers_of_the_moment(), payload.next(), client.settings.timeouts
        )
        if payload.measure is not None or self.progress is not None:
            await self._measure(request)
        if client._request_hooks:
            for hook in client._request_hooks:
                await awaited(hook(request))
            for name, value in request.headers:
                check_header(name, value)
        try:
            answer = await client._transport.send(request)
        except ConnectError as error:
            if payload.begun:  # refused unread by the server; what was taken of the stream is gone all the same
                error.retryable = False
            raise
        return await self._received(answer)

    async def _measure(self, request: Request) -> None:
        """Say how long the body is, where that is known, and let somebody look on while it goes up."""
        body = request.body
        if body is None:
            return
        measure = self.payload.measure
        length = len(body) if isinstance(body, bytes) else None if measure is None else await measure()
        headers = [*request.headers]
        for name, value in headers:
            if name.lower() == "content-length":
                length = int(value) if value.isdecimal() else length
                break
        else:
            if length is not None:
                headers.append(("Content-Length", str(length)))
        request.headers = headers
        if self.progress is not None and not self.streaming:
            request.body = watched_body(body, length, self.progress)

    async def _received(self, answer: Answer) -> Response:
        """The answer, read (unless it is streamed). Raises the error of a server in trouble."""
        client = self.client
        try:
            status = answer.status
            if status < 200:  # an interim answer is none, and nothing was asked that 101 would answer
                raise BadAnswer(f"{self.method} {REDACTION.url(self.url)} was answered {status}, which is no answer.")
            raw = answer.headers
            decoder = self._read_head(answer)
            body = answer
            if self.progress is not None and status < 300 and (self.streaming or self.payload is no_payload):
                body = WatchedAnswer(answer, self.progress)
            if self.streaming and status < 400 and status not in REDIRECTS:
                self.opened, content = (body, decoder), b""
            else:
                content = await read_whole(body, decoder, client.settings.max_answer_bytes)
            response = Response(
                status,
                raw,
                content,
                method=self.method,
                url=self.url,
                http_version=answer.http_version,
                attempts=self.attempts,
                elapsed=client._runner._clock() - self.began,
                cache=answer.cache if isinstance(answer, CacheAnswer) else "",
            )
            for after in client._response_hooks:
                await awaited(after(response))
        except BaseException:
            await answer.close()
            raise
        in_trouble = status >= 500 or status in RETRY_STATUSES
        if in_trouble or (status == 409 and self.safe and "retry-after" in response.headers):
            # Inside the policy `retryable` says that the server is in trouble, which the breaker counts;
            # whether the request is repeated is for `retry_if` to say.
            self.error = api_error(response, retryable=in_trouble)
            raise self.error
        return response

    def _read_head(self, answer: Answer) -> Decoder | None:
        """Keep the cookies, and find what undoes the body's coding."""
        decoder = None
        cookies = self.client.cookies if self.place.own else None
        for name, value in answer.headers:
            length = len(name)  # most headers are told apart by that alone
            if length == 16 and name.lower() == b"content-encoding" and self.method != "HEAD":
                decoder = decoder_for(value.decode("latin-1"))
            elif length == 17 and name.lower() == b"transfer-encoding" and value.lower() != b"chunked":
                raise BadAnswer(  # RFC 9112, section 6.1: only where it was asked for
                    f"{self.method} {REDACTION.url(self.url)} was answered in a transfer coding that is not known here."
                )
            elif length == 10 and cookies is not None and name.lower() == b"set-cookie" and not is_kept(answer, value):
                cookies.take(self.url, value.decode("latin-1"))
        return decoder

    def time_left(self) -> float | None:
        """Seconds until the end of the whole call; None without one."""
        return None if self.timeout is None else self.timeout - (self.client._runner._clock() - self.began)

    def error_for(self, response: Response) -> APIError:
        """The error that a caller sees for this answer."""
        error = self.error
        if error is None or error.response is not response:
            error = api_error(response, retryable=False)
        error.retryable = self.safe and response.status in RETRY_STATUSES
        return error

    async def _with_credentials(self, auth: Authentication) -> Pairs:
        """Add what shows who is asking, unless the call brings that itself."""
        left = self.time_left()
        if left is None:
            shown = await auth.headers(self.client._fetch)
        else:
            with deadlines.within(max(0.0, left), clock=self.client._runner._clock):
                shown = await auth.headers(self.client._fetch)
        names = {name.lower() for name, _ in self.headers}
        self.headers = merged(self.headers, {name: value for name, value in shown if name.lower() not in names})
        return shown

    def _back_to(self, start: _Start) -> None:
        self.method, self.place, self.url, self.payload, self.headers, self.safe = start

    def _headers_of_the_moment(self) -> list[tuple[str, str]]:
        headers = self.headers.copy()
        span = _current.get()
        if span is UNSAMPLED:
            if default_tracer.collecting:  # else no trace is kept here, which says nothing of the next hop
                ids = f"{random.getrandbits(192) | NOT_ZERO:048x}"
                headers.append(("traceparent", f"00-{ids[:32]}-{ids[32:]}-00"))
        else:
            carried: dict[str, str] = {}
            inject(carried)
            if not self.place.own:  # ids say nothing; baggage and deadline stay at home
                carried.pop("baggage", None)
            headers += carried.items()
        if not self.place.own:
            return headers
        deadline = deadlines._current.get()
        if deadline is not None:
            headers.append((deadlines.HEADER, f"{max(0.0, deadline.remaining()):.3f}"))
        cookies = self.client.cookies
        if cookies is not None and (cookie := cookies.header(self.url)):
            headers.append(("Cookie", cookie))
        return headers

    def _redirect(self, response: Response) -> None:
        """Turn the call to where the answer points (RFC 9110, section 15.4)."""
        place = self.client._base.follow(self.url, response.headers["location"])
        what = f"{self.method} {REDACTION.url(self.url)}"
        if self.place.origin.startswith("https:") and place.origin.startswith("http:"):
            raise BadAnswer(
                f"{what} was redirected from https to http ({place.origin}), which is not followed.",
                hint="Ask for the http:// address yourself if that is meant.",
            )
        status = response.status
        if (status == 303 and self.method != "HEAD") or (status in {301, 302} and self.method == "POST"):
            self.method, self.payload, self.safe = "GET", no_payload, True
            self.headers = [pair for pair in self.headers if not pair[0].lower().startswith("content-")]
        elif not self.payload.repeatable:
            raise BadAnswer(
                f"{what} was redirected to {place.origin}, and its streamed body cannot be sent again.",
                hint="Hand the stream in as a function that begins it anew: content=lambda: pieces().",
            )
        if place.origin != self.place.origin:
            self.headers = [pair for pair in self.headers if pair[0].lower() in HARMLESS]
            self.safe = self.safe and self.method in IDEMPOTENT  # the key of a repeat stays at home too
        self.place, self.url = place, place.url


async def awaited(result: Any) -> Any:
    """The result of a function that may be plain or async."""
    return await result if inspect.isawaitable(result) else result


def merged(pairs: list[tuple[str, str]], more: Mapping[str, str] | None) -> list[tuple[str, str]]:
    """The pairs, with those of `more` in the place of their namesakes. Checked: nothing in them ends a line early."""
    if not more:
        return pairs
    replaced = {name.lower() for name in more}
    merged = [pair for pair in pairs if pair[0].lower() not in replaced]
    for name, value in more.items():
        check_header(name, value)
        merged.append((name, value))
    return merged


def check_header(name: str, value: str) -> None:
    """Refuse what no header of a request can carry.

    Beyond ASCII the bytes would be anyone's guess: servers read them as Latin-1, as UTF-8, or not at all.

    Raises:
        ConfigurationError: A name that is none, a control character, or one beyond ASCII.
    """
    encode_header(name, value)
    if not value.isascii():
        raise ConfigurationError(
            f"The value of the header {name} holds a character beyond ASCII.",
            hint="Percent-encode it first, if the server expects that: urllib.parse.quote(value).",
        )
