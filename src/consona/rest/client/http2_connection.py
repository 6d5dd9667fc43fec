"""One HTTP/2 connection: what comes goes to the exchanges that share it, and what they send goes out.

- So many exchanges run at once as the server allows; the others wait in line.
- After a GOAWAY nothing new begins here; what the server has taken goes on to its end, and what it has not is
  told as unsent.
- Each exchange has a window of its own, which opens as its answer is read; that of the connection opens as data
  comes. So an answer that nobody reads holds up no other.

Source: RFC 9113. The `h2` package knows the frames, the compression of headers, and the rules of the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import aiohttp
from h2 import events
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import H2Error, NoAvailableStreamIDError
from h2.settings import SettingCodes, Settings

from consona.errors import ConsonaError
from consona.rest.client.aiohttp_errors import alert_in, untrusted
from consona.rest.client.connection_gate import UNLIMITED, ConnectionGate
from consona.rest.client.errors import BadAnswer, ConnectionLost
from consona.rest.client.http2_exchange import HTTP2Exchange
from consona.rest.transport import Request

__all__ = ["HTTP2Connection"]

STREAM_WINDOW_BYTES: Final = 512 * 1024
"""How much of an answer may come before it is read. So much can come in each round trip."""
CONNECTION_WINDOW_BYTES: Final = 16 * 1024 * 1024
MAX_FRAME_BYTES: Final = 64 * 1024
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_UNSENT_BYTES: Final = 4 * 1024 * 1024
"""A server that asks for replies (PING, SETTINGS) and does not take them is left."""
GOODBYE_S: Final = 1.0
"""How long a server may take to close its side."""


class HTTP2Connection(asyncio.Protocol):
    """A connection for which ALPN chose HTTP/2.

    Args:
        held: The connection as aiohttp made it: through proxies, with TLS.
        host: What errors call the server.
        gate: Counts the connections in use. This one is in use while an exchange runs on it.
        keep_alive_s: How long it is kept without any.
    """

    def __init__(
        self, held: aiohttp.connector.Connection, host: str, gate: ConnectionGate, keep_alive_s: float
    ) -> None:
        transport, protocol = held.transport, held.protocol
        assert transport is not None
        assert protocol is not None
        self.host = host
        self.accepts = True
        """Whether a new exchange may begin on it."""
        self.needs_http1 = False
        """Whether the server asked for HTTP/1.1 instead."""
        self.paused = False
        """Whether more waits to be sent than the network takes."""
        self.closed = asyncio.get_running_loop().create_future()
        self.h2 = _LastingConnection(H2Configuration(client_side=True, header_encoding=None))
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._held = held
        self._transport = transport
        self._aiohttp = protocol
        self._gate = gate
        self._slots = ConnectionGate(1, None, "place for an exchange")  # until the server says how many
        self._keep_alive_s = keep_alive_s
        self._idle: asyncio.TimerHandle | None = None
        self._users = 0
        self._exchanges: dict[int, HTTP2Exchange] = {}
        self._unopened = 0
        early = protocol._tail  # the server may speak first, while the handshake ends
        transport.set_protocol(self)
        self._greet()
        self._rest()
        if early:
            self.data_received(early)

    def _greet(self) -> None:
        self.h2.local_settings = Settings(
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
                SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_BYTES,
            }
        )
        self.h2.max_inbound_frame_size = MAX_FRAME_BYTES
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(CONNECTION_WINDOW_BYTES)
        self.flush()

    # Exchanges.

    async def send(self, request: Request) -> HTTP2Exchange | None:
        """Send a request, and wait for the head of its answer; None, and nothing is sent, once it takes no more."""
        await self._enter(request.timeouts.pool)
        exchange = None
        try:
            if self.accepts:
                exchange = HTTP2Exchange(self, request, self.h2.get_next_available_stream_id())
        except NoAvailableStreamIDError:
            self.retire()
        if exchange is None:
            self._leave()
            return None
        self._exchanges[exchange.id] = exchange
        try:
            exchange.begin()
            await exchange.head()
        except BaseException:
            await exchange.close()
            raise
        return exchange

    async def _enter(self, pool_s: float | None) -> None:
        host = self.host
        if self._users == 0:
            if not self._gate.try_enter(host):
                await self._gate.enter(host, pool_s)
            if self._users > 0:  # another came first while this one waited: a connection has one place
                self._gate.leave(host)
        self._users += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._slots.try_enter(host):
            try:
                await self._slots.enter(host, pool_s)
            except BaseException:
                self._rest_without()
                raise

    def _leave(self) -> None:
        self._slots.leave(self.host)
        self._rest_without()

    def _rest_without(self) -> None:
        self._users -= 1
        if not self._users:
            self._gate.leave(self.host)
            self._rest()

    def finished(self, exchange: HTTP2Exchange, reset: ErrorCodes | None) -> None:
        """An exchange is over; `reset` tells the server so, where it does not know."""
        if self._exchanges.pop(exchange.id, None) is None:
            return
        if reset is not None and not self.closed.done():
            try:
                self.h2.reset_stream(exchange.id, reset)
            except H2Error:  # the server has closed it meanwhile, or never saw it
                pass
            else:
                self.flush()
        self._leave()

    def consumed(self, exchange: HTTP2Exchange, size: int) -> None:
        """So much of an answer was read: as much more may come."""
        if not self.closed.done():
            self.h2.increment_flow_control_window(size, exchange.id)
            self.flush()

    # What comes.

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            told = self.h2.receive_data(data)
        except H2Error as error:
            self.flush()  # h2 has written what the server did wrong
            self._end(BadAnswer(f"What {self.host} sent is not HTTP/2: {error}.", host=self.host))
            return
        for event in told:
            action = _ACTIONS.get(type(event))
            if action is not None:
                action(self, event)
        if self._unopened > CONNECTION_WINDOW_BYTES // 4:
            self.h2.increment_flow_control_window(self._unopened)
            self._unopened = 0
        self.flush()
        if self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self._end(BadAnswer(f"{self.host} keeps sending and does not read the replies.", host=self.host))

    def _head_came(self, event: events.ResponseReceived) -> None:
        if exchange := self._exchanges.get(event.stream_id):
            exchange.answered(event.headers)

    def _data_came(self, event: events.DataReceived) -> None:
        self._unopened += event.flow_controlled_length
        if exchange := self._exchanges.get(event.stream_id):
            exchange.received(event.data, event.flow_controlled_length)

    def _end_came(self, event: events.StreamEnded) -> None:
        if exchange := self._exchanges.get(event.stream_id):
            exchange.ended()

    def _reset_came(self, event: events.StreamReset) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if exchange is None:
            return
        code = getattr(event.error_code, "name", str(event.error_code))
        if code == "HTTP_1_1_REQUIRED":
            self.needs_http1 = True
            self.retire()
        if code in {"REFUSED_STREAM", "HTTP_1_1_REQUIRED"}:
            exchange.refused(f"{self.host} refused it unread ({code})")
        else:
            exchange.failed(ConnectionLost(f"{exchange}: {self.host} broke the exchange off ({code}).", host=self.host))

    def _window_came(self, event: events.WindowUpdated) -> None:
        if not event.stream_id:
            self._wake()
        elif exchange := self._exchanges.get(event.stream_id):
            exchange.may_send.set()

    def _settings_came(self, _event: events.RemoteSettingsChanged) -> None:
        if not self.accepts:
            return
        self._slots.limit = self.h2.remote_settings.max_concurrent_streams
        self._slots.advance()
        self._wake()

    def _goaway_came(self, event: events.ConnectionTerminated) -> None:
        self.retire()
        for exchange in list(self._exchanges.values()):
            if exchange.id > (event.last_stream_id or 0):
                exchange.refused(f"{self.host} was about to close the connection, and did not take it")

    def _wake(self) -> None:
        for exchange in self._exchanges.values():
            exchange.may_send.set()

    # What goes.

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._wake()

    # Its end.

    def _rest(self) -> None:
        """Nobody uses it now."""
        if self.accepts:
            self._idle = self._loop.call_later(self._keep_alive_s, self.retire)
        else:
            self._goodbye()

    def retire(self) -> None:
        """Begin nothing new on it, and close it once what is under way has ended."""
        self.accepts = False
        self._slots.limit = UNLIMITED  # who waits goes on at once, and learns that it takes no more
        self._slots.advance()
        if not self._users:
            self._goodbye()

    def silent_for(self, seconds: float) -> bool:
        """Whether nothing at all has come for so long."""
        return self._loop.time() - self._heard_at >= seconds

    def _end(self, error: ConsonaError) -> None:
        """Give up what is under way."""
        self.retire()
        for exchange in list(self._exchanges.values()):
            exchange.failed(error)
        self._goodbye()

    def _goodbye(self) -> None:
        if self._transport.is_closing():
            return
        if self._idle is not None:
            self._idle.cancel()
        with contextlib.suppress(H2Error):  # said already
            self.h2.close_connection()
        self.flush()
        self._transport.close()
        self._loop.call_later(GOODBYE_S, self._transport.abort)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set_result(None)
        if alert := alert_in(error):
            for exchange in list(self._exchanges.values()):
                exchange.failed(untrusted(str(exchange), self.host, alert))
        self._end(ConnectionLost(f"{self.host} ended the connection without a whole answer.", host=self.host))
        if self._idle is not None:
            self._idle.cancel()
        self._aiohttp.connection_lost(None)
        self._held.close()

    async def close(self) -> None:
        """End it now, with what is under way."""
        self._end(ConnectionLost("The client was stopped before the answer was whole."))
        await self.closed


class _LastingConnection(H2Connection):
    """Goes on after a GOAWAY with what is under way (RFC 9113, section 6.8): h2 4.4 refuses any frame after one."""

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Any], list[events.Event]]:
        told = events.ConnectionTerminated()
        told.error_code, told.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [told]


_ACTIONS: Final[dict[type[events.Event], Any]] = {
    events.ResponseReceived: HTTP2Connection._head_came,
    events.DataReceived: HTTP2Connection._data_came,
    events.StreamEnded: HTTP2Connection._end_came,
    events.StreamReset: HTTP2Connection._reset_came,
    events.WindowUpdated: HTTP2Connection._window_came,
    events.RemoteSettingsChanged: HTTP2Connection._settings_came,
    events.ConnectionTerminated: HTTP2Connection._goaway_came,
}
"""Everything else needs none: interim answers, trailers and unknown frames are passed over, PING is h2's."""
