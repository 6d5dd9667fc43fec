"""One HTTP/1.1 connection: uvicorn's protocol on httptools, with what strangers may not do.

What llhttp, the parser underneath, refuses (two lengths, a length beside chunks, bare line ends, folded lines, …)
stays refused. Added here:

- **Time.** A head must be whole within `head_timeout`; between requests a connection lives for `idle_timeout`; who
  neither sends the body nor takes the answer for `stall_timeout` is cut. `Server` looks at all connections twice a
  second, so a request costs no timer.
- **Size.** Heads, trailers and chunk extensions are cut at `max_header_bytes`, before they are in memory; URLs
  at `max_url`.
- **Meaning.** HTTP/1.0 or 1.1, one `Host`, no chunks in 1.0, no transfer coding but `chunked`, no other host in an
  absolute URL; trailers are never taken for headers; `Upgrade` to anything but a WebSocket is ignored, and the body
  read.
- **Order.** A refusal is sent in its turn after the answers before it, never into one that was begun, and the client
  has time to read it: what it still sends is read and dropped for a while before the connection is closed.

Source: RFC 9112, sections 2.3, 3.2, 6.1, 6.3, 7.1, 9.3 and 9.6; RFC 9110, sections 6.5.1, 7.8 and 10.1.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Any, Final
from urllib.parse import urlsplit

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from consona.rest.server.problems import (
    BadRequest,
    HeadersTooLarge,
    HTTPError,
    RequestTimeout,
    URITooLong,
    problem_response,
)
from consona.rest.server.settings import ServerSettings

__all__ = ["HTTPProtocol"]

LINGER_S: Final = 2.0
"""How long what a refused client still sends is read and dropped, so that it gets to see why."""

MAX_PIPELINED: Final = 100
"""Requests of one connection that wait for the answers before theirs."""

NEVER: Final = math.inf
CONTINUE: Final = b"HTTP/1.1 100 "


class HTTPProtocol(HttpToolsProtocol):
    """uvicorn's protocol, within the limits of `config.limits`."""

    cycle: Any
    """The newest request, and its answer; None before the first."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.limits: ServerSettings = config.limits
        self.until = NEVER
        """When this connection is cut, by the event loop's clock, unless something happens before."""
        self._hosts = 0
        self._coding = b""
        self.heading = False
        """Whether a head has begun and is not whole."""
        self.deaf = False
        """Whether what comes is dropped: it was refused, or is being closed."""
        self.stopping = False
        """Whether each answer is the connection's last one."""
        self._head_is_timed = False
        self._useful = False
        self._useless = 0
        """Bytes that came since the last useful one: part of a head, of trailers, of a chunk's extensions."""
        self._upgrades = False
        self._refusal: HTTPError | None = None
        self._seen: tuple[int, float] = (0, 0.0)
        self._reads = 0

    # What the transport calls.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._line = _Line(self, transport)
        self.until = self.loop.time() + self.limits.head_timeout
        self._head_is_timed = True

    def data_received(self, data: bytes) -> None:
        if self.deaf:
            return
        self._reads += 1
        self._useful = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._upgrades:
                self.handle_websocket_upgrade()
            else:
                self._read_again(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self.refuse(_refusal_of(error))
            return
        if self._useful:
            self._useless = 0
        else:
            self._useless += len(data)
            if self._useless > self.limits.max_header_bytes:
                self.refuse(self._too_large())
        if self.heading and not self._head_is_timed:
            self.until = self.loop.time() + self.limits.head_timeout
            self._head_is_timed = True

    # What the parser calls.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.heading = True
        self._hosts = 0
        self._coding = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding":
            self._coding = value.lower()
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._useful = True
        self._check_head()
        self.heading = self._head_is_timed = False
        self.until = NEVER
        if self.parser.should_upgrade():  # then the parser is done with it: see `data_received`
            self._upgrades = self._is_websocket()
            if self._upgrades:
                super().on_headers_complete()
            return
        super().on_headers_complete()
        self.headers = []  # what comes from here on are trailers: nobody's headers
        cycle = self.cycle
        cycle.transport = self._line
        if self.expect_100_continue:
            # Where nobody asks for the body, nobody can tell whether it comes: then the connection ends.
            cycle.transport = _ExpectingLine(self, self.transport, cycle.keep_alive)
            cycle.keep_alive = False
        if self.stopping:
            cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._useful = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._useful = True
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        if self.cycle.response_complete:  # it was answered before it was whole
            self.cycle.more_body = False
            self.until = self.loop.time() + self.limits.idle_timeout

    def _should_upgrade(self) -> bool:
        return self._upgrades

    # What the request's cycle calls.

    def on_response_complete(self) -> None:
        if self.pipeline:
            if not self.pipeline[-1][0].disconnected:
                super().on_response_complete()
                return
            self.pipeline.clear()  # the one that is next turned out to be broken
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._refusal is not None:
            self._answer(self._refusal)
        if self.deaf:
            return
        self.flow.resume_reading()
        limits = self.limits
        self.until = self.loop.time() + (limits.head_timeout if self.heading else limits.idle_timeout)
        self._head_is_timed = self.heading

    def end(self) -> None:
        """Close the connection after an answer: at once, or once the client had time to read it."""
        cycle = self.cycle
        if cycle.response_complete and cycle.more_body:
            self._linger()
        else:
            self.transport.close()

    # What `Server` calls.

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return (self.cycle is None or self.cycle.response_complete) and not self.transport.is_closing()

    def look(self, now: float) -> None:
        """Cut what takes too long."""
        cycle = self.cycle
        pending = cycle is not None and not cycle.response_complete and not self.deaf
        if self.until <= now:
            if pending:  # the head of the next request is slow, and that of this one has time
                self.until = now + self.limits.head_timeout
            elif self.heading and not self.deaf:
                self.refuse(RequestTimeout("The head of the request took too long to arrive."))
            else:
                self.transport.close()
        elif pending and cycle.more_body and not cycle.response_started and not self.flow.read_paused:
            reads, since = self._seen
            if reads != self._reads:
                self._seen = (self._reads, now)
            elif now - since > self.limits.stall_timeout:
                self.refuse(RequestTimeout("The request took too long to arrive."))

    def answer_once(self) -> None:
        """Let the answer that is under way, or the next one, be the last."""
        self.stopping = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    # Refusing.

    def refuse(self, error: HTTPError) -> None:
        """Answer in the place of the application, where that can be done, and close the connection."""
        self.config.refused(error)  # type: ignore[attr-defined]  # `uvicorn_server.Config`
        self.deaf = True
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._answer(error)
            return
        if (
            self.heading or self.pipeline
        ):  # the fault is not in the request that is being answered: it waits for its turn
            self._refusal = error
            cycle.disconnected = not self.heading
            return
        cycle.disconnected = True
        cycle.message_event.set()
        if cycle.response_started:
            self.transport.close()
        else:
            self._answer(error)

    def _answer(self, error: HTTPError) -> None:
        response = problem_response(error, request_id="")
        body = response.body
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        self.transport.write(b"%b%bcontent-length: %d\r\n\r\n%b" % (STATUS_LINE[error.status], lines, len(body), body))
        self._linger()

    def _linger(self) -> None:
        self.deaf = True
        self.until = self.loop.time() + LINGER_S
        self.flow.resume_reading()
        with contextlib.suppress(OSError, RuntimeError, NotImplementedError):
            if self.transport.can_write_eof():
                self.transport.write_eof()

    def _too_large(self) -> HTTPError:
        limit = self.limits.max_header_bytes
        if not self.heading:
            return BadRequest(f"The trailers, or what is said beside the chunks, are longer than {limit} bytes.")
        if len(self.url) > self.limits.max_url or not self.headers:
            return URITooLong(f"The URL is longer than {self.limits.max_url} bytes.")
        return HeadersTooLarge(f"The headers are longer than {limit} bytes.")

    def _check_head(self) -> None:
        """Refuse what the parser lets through, and a server must not.

        Raises:
            HTTPError: It says what, to the parser, which ends with it.
        """
        version = self.parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                raise HTTPError("HTTP/1.1 and HTTP/1.0 are understood here.", status=505)
            if self._coding:
                raise BadRequest("HTTP/1.0 has no transfer codings.")
        elif self._hosts != 1:
            raise BadRequest("A request has one Host header.")
        if len(self.url) > self.limits.max_url:
            raise URITooLong(f"The URL is longer than {self.limits.max_url} bytes.")
        if self.url[:1] != b"/":
            self._check_target()
        if len(self.pipeline) >= MAX_PIPELINED:
            raise HTTPError("Too many requests wait on this connection.", status=429)
        if self._coding and self._coding != b"chunked":
            raise HTTPError("No transfer coding but chunked is understood here.", status=501)

    def _check_target(self) -> None:
        if self.parser.get_method() == b"CONNECT":
            raise BadRequest("CONNECT is for proxies.")
        if self.url == b"*":
            return
        named = urlsplit(self.url.decode("latin-1")).netloc
        hosts = [value.decode("latin-1") for name, value in self.headers if name == b"host"]
        if hosts and named.lower() != hosts[0].lower():
            raise BadRequest("The URL names another host than the Host header.")

    # Upgrades.

    def _is_websocket(self) -> bool:
        """Whether a WebSocket begins here: with a GET, and without a body."""
        fields = dict(self.headers)
        return (
            fields.get(b"upgrade", b"").lower() == b"websocket"
            and self.parser.get_method() == b"GET"
            and b"transfer-encoding" not in fields
            and fields.get(b"content-length", b"0") == b"0"
            and self.ws_protocol_class is not None
        )

    def _read_again(self, rest: bytes) -> None:
        """Read a request that asks for some other protocol as if it had not: the parser takes its body for that one."""
        method = self.parser.get_method()
        lines = b"".join(b"%b: %b\r\n" % pair for pair in self.headers if pair[0] != b"upgrade")
        version = self.parser.get_http_version().encode()
        self.parser = httptools.HttpRequestParser(self)
        with contextlib.suppress(AttributeError):  # as uvicorn does, to answer the request before the one too many
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"%b %b HTTP/%b\r\n%b\r\n%b" % (method, self.url, version, lines, rest))


def _refusal_of(error: httptools.HttpParserError) -> HTTPError:
    if not isinstance(error, httptools.HttpParserCallbackError):
        return BadRequest(f"This is not HTTP as it must be: {error.args[0]}.")  # llhttp's words; they hold no values
    cause = error.__context__
    return cause if isinstance(cause, HTTPError) else BadRequest("The URL cannot be read.")


class _Line:
    """The transport, as the cycle of a request sees it."""

    __slots__ = ("_protocol", "is_closing", "write")

    def __init__(self, protocol: HTTPProtocol, transport: asyncio.Transport) -> None:
        self._protocol = protocol
        self.write = transport.write
        self.is_closing = transport.is_closing

    def close(self) -> None:
        self._protocol.end()


class _ExpectingLine:
    """The same, for a request that waits for `100 Continue`."""

    __slots__ = ("_keep_alive", "_protocol", "_transport", "is_closing")

    def __init__(self, protocol: HTTPProtocol, transport: asyncio.Transport, keep_alive: bool) -> None:  # noqa: FBT001
        self._protocol = protocol
        self._transport = transport
        self._keep_alive = keep_alive
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if data.startswith(CONTINUE):
            self._protocol.cycle.keep_alive = self._keep_alive and not self._protocol.stopping
        self._transport.write(data)

    def close(self) -> None:
        self._protocol.end()
