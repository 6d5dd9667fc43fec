"""Records real exchanges to a file, and replays them in tests: no server, no network, the same answers.

    async with APIClient("https://api.example.com", transport=Recorder("tests/recordings/users.json")) as api:
        user = await api.get("/users/7", into=User)

The first run asks the server and writes the file; later runs read it. The file is JSON for people (`recording.py`):
look at it before you commit it. Secrets are masked by the rules of `telemetry.redaction`, in what is recorded
and in what is compared alike, so that a new token still finds its recording.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, get_args
from urllib.parse import parse_qsl, urlsplit

from consona.address import adapter_for
from consona.errors import ConfigurationError, ConsonaError
from consona.rest.client.errors import ConnectionLost
from consona.rest.recorder.body import comparable, differences, restored, url_of
from consona.rest.recorder.recording import Exchange, RecordedRequest, answer_of, load, request_of, save
from consona.rest.transport import Answer, Request, Transport
from consona.telemetry.redaction import DEFAULT, Redaction

__all__ = ["NoRecording", "Recorder"]

Mode = Literal["auto", "record", "replay"]
Match = Literal["method", "url", "path", "query", "body"]

PIECE_BYTES: Final = 64 * 1024


class NoRecording(ConsonaError):
    """A request was replayed that is not among the recordings."""

    code = "recording.none"
    status = 502


class Recorder:
    """A transport that records, or replays.

    Args:
        path: The file, JSON. Its folder is made.
        mode: `replay` gives out what the file holds, and never asks a server. `record` asks the server, and
            replaces the file when it is closed. `auto` replays where the file exists, else it records.
        match: What a request must have in common with a recording: `method`, `url`, `body`; `path` and `query`
            instead of `url` where the host differs from run to run.
        repeat: Whether the last of several recordings of the same request is given out again and again; else
            each is given out once.
        inner: The transport to the server, when recording; by default the network.
        redaction: What is secret, and how it is masked.

    Equal requests get their recordings in the order of recording. A body that was not read to its end is not recorded.

    Raises:
        ConfigurationError: A mode or a part to match that does not exist.

    Example:
        >>> recorder = Recorder("tests/recordings/users.json", match=("method", "path"))
        >>> recorder.recording
        True
    """

    MATCHES: ClassVar[frozenset[str]] = frozenset(get_args(Match))

    def __init__(
        self,
        path: str | Path,
        *,
        mode: Mode = "auto",
        match: Collection[Match] = ("method", "url", "body"),
        repeat: bool = True,
        inner: Transport | None = None,
        redaction: Redaction = DEFAULT,
    ) -> None:
        if mode not in get_args(Mode):
            raise ConfigurationError(f"Recorder(mode={mode!r}): it is 'auto', 'record' or 'replay'.")
        if isinstance(match, str) or not match or not set(match) <= self.MATCHES:
            raise ConfigurationError(f"Recorder(match={match!r}): some of {', '.join(sorted(self.MATCHES))}.")
        self.path = Path(path)
        self.mode: Mode = mode
        self.match = tuple(match)
        self.repeat = repeat
        self.redaction = redaction
        self._inner = inner
        self._writes = False
        self._exchanges: list[Exchange | None] = []
        self._replay: dict[str, list[int]] = {}
        self._given_out: dict[int, int] = {}

    @property
    def recording(self) -> bool:
        """Whether it records (or would, if it were opened now)."""
        return self.mode == "record" or (self.mode == "auto" and not self.path.exists())

    @property
    def exchanges(self) -> list[Exchange]:
        """What was recorded, or is there to be replayed."""
        return [exchange for exchange in self._exchanges if exchange is not None]

    @property
    def unused(self) -> list[str]:
        """The recordings that were not given out since it was opened: `GET https://…`."""
        if self._writes:
            return []
        return [one.title for number, one in enumerate(self.exchanges) if number not in self._given_out]

    def assert_all_used(self) -> None:
        """Fail a test that left recordings unused.

        Raises:
            AssertionError: It names them.
        """
        if unused := self.unused:
            raise AssertionError(
                f"{len(unused)} of {len(self.exchanges)} recordings in {self.path} were not used: {'; '.join(unused)}."
            )

    # The transport.

    async def open(self) -> None:
        self._exchanges, self._replay, self._given_out = [], {}, {}
        self._writes = self.recording
        if self._writes:
            if self._inner is None:
                made: Transport = adapter_for("http", "http://")(None)
                self._inner = made
            await self._inner.open()
            return
        exchanges = await asyncio.to_thread(load, self.path)
        self._exchanges = [*exchanges]
        for number, exchange in enumerate(exchanges):
            self._replay.setdefault(self._key(exchange.request), []).append(number)

    async def close(self) -> None:
        if not self._writes:
            return
        assert self._inner is not None
        try:
            await self._inner.close()
        finally:
            if self.exchanges:  # a run that asked nothing, or failed at once, leaves the old file as it is
                await asyncio.to_thread(save, self.path, self.exchanges)

    async def send(self, request: Request) -> Answer:
        return await (self._record(request) if self._writes else self._give_out(request))

    # Recording.

    async def _record(self, request: Request) -> Answer:
        assert self._inner is not None
        place = len(self._exchanges)
        self._exchanges.append(None)  # the order is that of asking, whoever is answered first
        sent: list[bytes] = []
        if request.body is not None and not isinstance(request.body, bytes):
            request = Request(
                request.method, request.url, request.headers, _noted(request.body, sent), request.timeouts
            )
        else:
            sent.append(request.body or b"")
        answer = await self._inner.send(request)

        def whole(body: bytes) -> None:
            self._exchanges[place] = Exchange(
                request=request_of(request.method, request.url, request.headers, b"".join(sent), self.redaction),
                answer=answer_of(answer.status, answer.http_version, answer.headers, body, self.redaction),
            )

        return _Recording(answer, whole)

    # Replaying.

    async def _give_out(self, request: Request) -> Answer:
        body = request.body
        if body is not None and not isinstance(body, bytes):
            body = b"".join([piece async for piece in body])
        asked = request_of(request.method, request.url, request.headers, body or b"", self.redaction)
        numbers = self._replay.get(self._key(asked), [])
        fresh = next((number for number in numbers if number not in self._given_out), None)
        if fresh is None and not (numbers and self.repeat):
            raise self._none(asked, known=bool(numbers))
        number = numbers[-1] if fresh is None else fresh
        self._given_out[number] = self._given_out.get(number, 0) + 1
        exchange = self._exchanges[number]
        assert exchange is not None
        return _Replayed(exchange, without_body=request.method == "HEAD")

    def _key(self, request: RecordedRequest) -> str:
        url = url_of(request.url, self.redaction)
        parts = urlsplit(url)
        query = sorted(parse_qsl(parts.query, keep_blank_values=True))
        values: dict[str, Any] = {
            "method": request.method,
            "url": (parts.scheme, parts.netloc.lower(), parts.path or "/", query),
            "path": parts.path or "/",
            "query": query,
            "body": comparable(request.body),
        }
        return repr([(name, _ordered(values[name])) for name in self.match])

    def _none(self, asked: RecordedRequest, *, known: bool) -> NoRecording:
        title = f"{asked.method} {asked.url}"
        hint = 'Record anew, with the server running: Recorder(..., mode="record"), or delete the file.'
        if known:
            return NoRecording(
                f"{title}: all its recordings in {self.path} were given out, and `repeat` is off.", hint=hint
            )
        nearest = max(
            self.exchanges, key=lambda one: difflib.SequenceMatcher(None, one.title, title).ratio(), default=None
        )
        if nearest is None:
            return NoRecording(f"{title} is not in {self.path}, which holds no recordings.", hint=hint)
        if nearest.title != title:
            why = f"the nearest is {nearest.title}"
        else:
            same = [one for one in self.exchanges if one.title == title]
            why = f"of the same URL there are {len(same)}, and {_body_differs(same[0].request, asked)}"
        return NoRecording(
            f"{title} is not among the {len(self.exchanges)} recordings in {self.path}: {why}.", hint=hint
        )


def _body_differs(recorded: RecordedRequest, asked: RecordedRequest) -> str:
    one, other = comparable(recorded.body), comparable(asked.body)
    if one is None or other is None:
        return "one has a body and the other has none"
    if one[0] != other[0]:
        return f"the recorded body is {one[0]}, this one {other[0]}"
    return differences(one[1], other[1])


def _ordered(value: Any) -> Any:
    """JSON objects are equal in any order of their names."""
    if isinstance(value, dict):
        return sorted((name, _ordered(item)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    return value


async def _noted(body: AsyncIterator[bytes], sent: list[bytes]) -> AsyncIterator[bytes]:
    async for piece in body:
        sent.append(piece)
        yield piece


class _Recording:
    """An answer that is noted while the caller reads it."""

    def __init__(self, answer: Answer, whole: Callable[[bytes], None]) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.http_version = answer.http_version
        self._answer = answer
        self._whole: Callable[[bytes], None] | None = whole
        self._parts: list[bytes] = []

    async def chunk(self) -> bytes:
        data = await self._answer.chunk()
        if data:
            self._parts.append(data)
        elif self._whole is not None:
            whole, self._whole = self._whole, None
            whole(b"".join(self._parts))
        return data

    async def close(self) -> None:
        self._whole = None
        await self._answer.close()


class _Replayed:
    """An answer out of a recording."""

    def __init__(self, exchange: Exchange, *, without_body: bool) -> None:
        recorded = exchange.answer
        body = b"" if without_body else restored(recorded.body)
        headers = list(recorded.headers)
        if body and not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Content-Length", str(len(body))))
        self.status = recorded.status
        self.http_version = recorded.http_version
        self.headers = [(name.lower().encode("latin-1"), text.encode("latin-1")) for name, text in headers]
        self._body: memoryview | None = memoryview(body)

    async def chunk(self) -> bytes:
        if self._body is None:
            raise ConnectionLost("The answer was closed before it was read.")
        piece, self._body = bytes(self._body[:PIECE_BYTES]), self._body[PIECE_BYTES:]
        return piece

    async def close(self) -> None:
        self._body = None
