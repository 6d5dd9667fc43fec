"""One call of a client: its tries under the policy, and the redirects that it follows."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from consona.errors import APIError, ConsonaError
from consona.resilience import deadline as deadlines
from consona.rest.authentication import Pairs
from consona.rest.client_body import Payload, no_payload
from consona.rest.client_errors import BadAnswer, ConnectionLost, TooManyRedirects
from consona.rest.client_response import Response, api_error, lowered, read_whole
from consona.rest.client_url import Place
from consona.rest.content_decoding import Decoder, decoder_for
from consona.rest.headers import encode_header
from consona.rest.safe_retry import IDEMPOTENT, RETRY_STATUSES, if_safe, if_unsent
from consona.rest.transport import Answer, Request
from consona.telemetry.observer import Operation
from consona.telemetry.redaction import DEFAULT as REDACTION
from consona.telemetry.trace import inject

if TYPE_CHECKING:
    from consona.rest.client import APIClient

__all__ = ["REPEAT", "Call"]

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
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
        "method",
        "opened",
        "payload",
        "place",
        "safe",
        "streaming",
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
        self.streaming = streaming
        self.attempts = 0
        self.began = time.perf_counter()
        self.error: APIError | None = None
        self.opened: tuple[Answer, Decoder | None] | None = None
        """The answer that is still to be read, when `streaming`."""

    async def exchange(self) -> Response:
        """Send it, as often as the policy allows, follow redirects, and return the last answer whatever its status.

        Raises:
            ConsonaError: There was no answer, or none that can be used.
        """
        hops = 0
        limit = self.client.settings.max_redirects
        whole_is_safe = self.safe  # a redirect may make a GET of a POST; the caller would repeat the POST
        while True:
            try:
                response = await self.client._runner.run(
                    self.attempt, key=self.place.origin, retry_if=if_safe if self.safe else if_unsent
                )
            except APIError as error:
                if error is not self.error:  # it came from a hook of the user's
                    raise
                response = error.response
            except ConsonaError as error:
                if not whole_is_safe and (hops or isinstance(error, ConnectionLost)):
                    error.retryable = False
                raise
            if response.status not in REDIRECTS or not limit or "location" not in response.headers:
                return response
            hops += 1
            if hops > limit:
                raise TooManyRedirects(f"{self.method} {REDACTION.url(self.url)}: more than {limit} redirects.")
            self._redirect(response)

    async def perform(self, op: Operation, *, raising: bool) -> tuple[Response, Any]:
        """With credentials and handlers: the last answer, and what a handler answered instead of it (else None).

        Raises:
            APIError: The status is 400 or above, nobody took care of it, and `raising`.
        """
        client = self.client
        auth = client.auth if self.place.own else None
        start: _Start = (self.method, self.place, self.url, self.payload, self.headers, self.safe)
        renewed = repeated = False
        shown: Pairs = ()
        response = None
        try:
            while True:
                if auth is not None:
                    shown = await auth.headers(client._fetch)
                    self.headers = merged(self.headers, dict(shown))
                response = await self.exchange()
                status = response.status
                if status < 400:
                    return response, None
                repeatable = start[3].repeatable
                if status == 401 and auth is not None and repeatable and not renewed:
                    renewed = True
                    if await auth.rejected(shown):
                        self._back_to(start)
                        continue
                handler = client._handlers.get(status)
                answer = None if handler is None else await awaited(handler(response))
                if answer is REPEAT and repeatable and not repeated:
                    repeated = True
                    self._back_to(start)
                    continue
                op.fail(f"api.{status}")
                if isinstance(answer, Response):
                    return answer, None
                if answer is not None and answer is not REPEAT:
                    return response, answer
                if raising:
                    raise self.error_for(response)
                return response, None
        finally:
            op.set(**describe(self, response))

    async def attempt(self) -> Response:
        """One try."""
        client = self.client
        self.attempts += 1
        own = self.place.own
        request = Request(
            self.method, self.url, self._headers_of_the_moment(), self.payload.next(), client.settings.timeouts
        )
        for hook in client._request_hooks:
            await awaited(hook(request))
        answer = await client._transport.send(request)
        try:
            status = answer.status
            raw = lowered(answer.headers)
            decoder = None
            for name, value in raw:
                if name == b"content-encoding":
                    decoder = decoder_for(value.decode("latin-1"))
                elif name == b"set-cookie" and own and client.cookies is not None:
                    client.cookies.take(self.url, value.decode("latin-1"))
            if self.method == "HEAD":
                decoder = None
            if self.streaming and status < 400 and status not in REDIRECTS:
                self.opened, content = (answer, decoder), b""
            else:
                content = await read_whole(answer, decoder, client.settings.max_answer_bytes)
        except BaseException:
            await answer.close()
            raise
        response = Response(
            status,
            raw,
            content,
            method=self.method,
            url=self.url,
            http_version=answer.http_version,
            attempts=self.attempts,
            elapsed=time.perf_counter() - self.began,
        )
        for after in client._response_hooks:
            await awaited(after(response))
        if status >= 500 or status in RETRY_STATUSES:
            # Inside the policy `retryable` says that the server is in trouble, which the breaker counts;
            # whether the request is repeated is for `retry_if` to say.
            self.error = api_error(response, retryable=True)
            raise self.error
        return response

    def error_for(self, response: Response) -> APIError:
        """The error that a caller sees for this answer."""
        error = self.error
        if error is None or error.response is not response:
            error = api_error(response, retryable=False)
        error.retryable = self.safe and response.status in RETRY_STATUSES
        return error

    def _back_to(self, start: _Start) -> None:
        self.method, self.place, self.url, self.payload, self.headers, self.safe = start

    def _headers_of_the_moment(self) -> list[tuple[str, str]]:
        headers = self.headers.copy()
        carried: dict[str, str] = {}
        inject(carried)
        if not self.place.own:
            if "traceparent" in carried:  # ids that say nothing; baggage and deadline stay at home
                headers.append(("traceparent", carried["traceparent"]))
            return headers
        headers += carried.items()
        left = deadlines.to_header()
        if left is not None:
            headers.append((deadlines.HEADER, left))
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


def describe(call: Call, response: Response | None) -> dict[str, Any]:
    """What the history keeps of a call."""
    url = call.url
    known: dict[str, Any] = {"url": REDACTION.url(url) if "?" in url else url, "attempts": call.attempts}
    if response is not None:
        known["status"] = response.status
        known["bytes"] = len(response.content)
    return known


def merged(pairs: list[tuple[str, str]], more: Mapping[str, str] | None) -> list[tuple[str, str]]:
    """The pairs, with those of `more` in the place of their namesakes. Checked: nothing in them ends a line early."""
    if not more:
        return pairs
    replaced = {name.lower() for name in more}
    merged = [pair for pair in pairs if pair[0].lower() not in replaced]
    for name, value in more.items():
        encode_header(name, value)
        merged.append((name, value))
    return merged
