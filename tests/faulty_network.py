"""A network between a program and a server, on loopback, that does what it is told: it stalls, cuts, delays.

async with FaultyNetwork("127.0.0.1", 5432) as network:
    ... connect to network.port ...
    network.cut()                   # every connection is reset now
    network.stall()                 # nothing passes any more, nobody is told
    network.flow()                  # everything passes again, what was held back first
    network.delay(0.05)             # each piece comes that many seconds later
    network.drip(1)                 # piece by piece of that many bytes
    network.refuse()                # new connections are reset at once
    network.cut_after(network.to_client, 100)     # after that many more bytes in one direction

A black hole is `stall()`: the bytes are held back for ever, and no end of the connection arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Any

PIECE = 65_536


class Direction:
    """One direction of all connections: how many bytes passed, and how many more may pass."""

    def __init__(self) -> None:
        self.passed = 0
        self.left: int | None = None


class FaultyNetwork:
    """A forwarder of TCP connections. Every fault holds for all connections, those to come included."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.connections = 0
        self.to_server = Direction()
        self.to_client = Direction()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay_s = 0.0
        self._piece = PIECE
        self._refusing = False
        self._open: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> FaultyNetwork:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), 5)

    # Faults.

    def cut(self) -> int:
        """Reset every connection. Returns how many there were."""
        pairs, self._open = self._open, set()
        for pair in pairs:
            for writer in pair:
                _reset(writer)
        return len(pairs)

    def stall(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self._flowing.clear()

    def flow(self) -> None:
        """No fault any more; what was held back passes first."""
        self._delay_s, self._piece, self._refusing = 0.0, PIECE, False
        self.to_server.left = self.to_client.left = None
        self._flowing.set()

    def delay(self, seconds: float) -> None:
        """Each piece comes that much later."""
        self._delay_s = seconds

    def drip(self, size: int) -> None:
        """Everything passes in pieces of this size."""
        self._piece = size

    def refuse(self) -> None:
        """New connections are reset at once."""
        self._refusing = True

    def cut_after(self, direction: Direction, size: int) -> None:
        """Reset everything once `size` more bytes passed in this direction."""
        direction.left = size

    # Forwarding.

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        if self._refusing:
            _reset(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
        except OSError:
            _reset(writer)
            return
        pair = (writer, server_writer)
        self._open.add(pair)
        try:
            await asyncio.gather(
                self._forward(reader, server_writer, self.to_server),
                self._forward(server_reader, writer, self.to_client),
            )
        finally:
            self._open.discard(pair)
            for one in pair:
                one.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(self._piece):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                await self._flowing.wait()
                if direction.left is not None and len(data) > direction.left:
                    writer.write(data[: direction.left])
                    direction.passed += direction.left
                    with contextlib.suppress(ConnectionError):
                        await writer.drain()
                    self.cut()
                    return
                writer.write(data)
                direction.passed += len(data)
                if direction.left is not None:
                    direction.left -= len(data)
                await writer.drain()
        await self._flowing.wait()  # a black hole swallows the end of a connection too
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection the hard way: the other side gets a reset, not an end."""
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
