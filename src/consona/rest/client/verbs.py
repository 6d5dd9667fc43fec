"""The verbs of a client: each is `request` with its method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar, Unpack, overload

from consona.rest.client.body import Content
from consona.rest.client.multipart import Files
from consona.rest.client.progress import Progress
from consona.rest.client.response import Response
from consona.rest.client.url import Params

__all__ = ["CallOptions", "Verbs"]

T = TypeVar("T")


class CallOptions(TypedDict, total=False):
    """What every call takes beside its method and path."""

    params: Params | None
    """Query parameters: lists repeat their name, None is left out."""
    headers: Mapping[str, str] | None
    """Headers of this call; they replace the client's of the same name."""
    timeout: float | None
    """Seconds for the whole call, instead of the policy's; `math.inf` for no limit."""
    name: str
    """What the figures call it, instead of the path with its ids collapsed."""
    raise_for_status: bool
    """Whether a status of 400 and above is an error; else it is the answer."""
    idempotent: bool
    """Whether the server takes the same request twice for one: an `Idempotency-Key` goes with it."""
    json: Any
    """A body to send as JSON: a Struct, a dataclass, or plain data."""
    data: Params | None
    """A form to send."""
    files: Files | None
    """Files to send in a form, with the fields of `data` beside them: `files={"photo": File("photo.jpg")}`."""
    content: Content | None
    """Bytes, text, an async iterable of bytes, or a function that begins one (which can be sent again)."""
    progress: Progress | None
    """Called with the bytes done and in all (None where nobody knows): of the body that goes up where the call has
    one, else of the answer; `stream` and `download` tell of the answer. A try that is repeated counts from zero."""


class Verbs(ABC):
    """What `APIClient` can be asked to do in one word."""

    @abstractmethod
    async def _call(self, method: str, path: str, into: Any, options: CallOptions) -> Any: ...

    @overload
    async def get(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    @overload
    async def get(self, path: str, *, into: None = None, **options: Unpack[CallOptions]) -> Response: ...
    async def get(self, path: str, *, into: Any = None, **options: Unpack[CallOptions]) -> Any:
        """Read. See `request`."""
        return await self._call("GET", path, into, options)

    @overload
    async def post(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    @overload
    async def post(self, path: str, *, into: None = None, **options: Unpack[CallOptions]) -> Response: ...
    async def post(self, path: str, *, into: Any = None, **options: Unpack[CallOptions]) -> Any:
        """Create, or do. See `request`; sent again only where that is safe (`idempotent=True`)."""
        return await self._call("POST", path, into, options)

    @overload
    async def put(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    @overload
    async def put(self, path: str, *, into: None = None, **options: Unpack[CallOptions]) -> Response: ...
    async def put(self, path: str, *, into: Any = None, **options: Unpack[CallOptions]) -> Any:
        """Replace. See `request`."""
        return await self._call("PUT", path, into, options)

    @overload
    async def patch(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    @overload
    async def patch(self, path: str, *, into: None = None, **options: Unpack[CallOptions]) -> Response: ...
    async def patch(self, path: str, *, into: Any = None, **options: Unpack[CallOptions]) -> Any:
        """Change. See `request`; sent again only where that is safe (`idempotent=True`)."""
        return await self._call("PATCH", path, into, options)

    @overload
    async def delete(self, path: str, *, into: type[T], **options: Unpack[CallOptions]) -> T: ...
    @overload
    async def delete(self, path: str, *, into: None = None, **options: Unpack[CallOptions]) -> Response: ...
    async def delete(self, path: str, *, into: Any = None, **options: Unpack[CallOptions]) -> Any:
        """Remove. See `request`."""
        return await self._call("DELETE", path, into, options)

    async def head(self, path: str, **options: Unpack[CallOptions]) -> Response:
        """Ask for the head of an answer. See `request`."""
        response: Response = await self._call("HEAD", path, None, options)
        return response

    async def options(self, path: str, **options: Unpack[CallOptions]) -> Response:
        """Ask what may be asked. See `request`."""
        response: Response = await self._call("OPTIONS", path, None, options)
        return response
