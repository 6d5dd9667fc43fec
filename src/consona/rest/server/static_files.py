"""A folder whose files anybody may read: `api.files("/static", "public")`.

Only what lies in the folder is given out, also after all symbolic links; nothing whose name begins with a
dot; no lists of folders.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from consona.errors import ConfigurationError, NotFound
from consona.rest.server.files import FileResponse
from consona.rest.server.mounting import Mount
from consona.rest.server.problems import MethodNotAllowed
from consona.rest.server.requests import Request, local_path
from consona.rest.server.responses import Empty, Message, Receive, Redirect, Response, Scope, Send
from consona.rest.server.routing import split_path

__all__ = ["StaticFiles"]

INDEX: Final = "index.html"
_BAD: Final = re.compile(r"[/\\\x00-\x1f\x7f" + (":" if os.name == "nt" else "") + "]")
"""In a name: on Windows a colon would lead to another drive, or into a file's second stream."""


class StaticFiles(Mount):
    """The files of a folder, under a prefix.

    Args:
        prefix: Begins with a slash and does not end with one.
        folder: Where the files are.
        index: Whether `index.html` answers for its folder.
        hidden: Whether names that begin with a dot are given out.
        max_age: Seconds for which a copy may be used without asking again; with 0 each use is asked for, and
            mostly answered with 304.

    Raises:
        ConfigurationError: On start, where there is no such folder.
    """

    methods = ("GET", "HEAD", "OPTIONS")

    def __init__(
        self, prefix: str, folder: str | Path, *, index: bool = False, hidden: bool = False, max_age: int = 0
    ) -> None:
        super().__init__(prefix, _no_application)
        self.folder = Path(folder)
        self.index = index
        self.hidden = hidden
        self.cache_control = f"public, max-age={max_age}" if max_age > 0 else "no-cache"

    async def open(self) -> None:
        """See to it that the folder is there."""
        if not self.folder.is_dir():
            raise ConfigurationError(f"{self.prefix or '/'}: there is no folder {str(self.folder)!r}.")

    async def close(self, timeout_s: float) -> None:
        """There is nothing to close."""

    async def respond(self, request: Request) -> Response:
        """The file that the path names.

        Raises:
            NotFound: There is none that may be given out.
            MethodNotAllowed: It is neither GET nor HEAD.
        """
        allow = ", ".join(self.methods)
        if request.method == "OPTIONS":
            response = Empty()
            response.headers["allow"] = allow
            return response
        if request.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed("Files can only be read.", hint=f"Use {allow}.", headers={"allow": allow})
        segments = self._segments(request.scope)
        is_folder = not segments or not segments[-1]
        names = segments[:-1] if is_folder else segments
        if not all(self._may(name) for name in names):
            raise NotFound("There is no such file.")
        if is_folder:
            if not self.index:
                raise NotFound("There is no such file.")
            names = [*names, INDEX]
        elif self.index and await request.serving.threads.run((self.folder.joinpath(*names) / INDEX).is_file):
            return Redirect(request.scope["path"] + "/", status=308)  # so that links in it lead to its own folder
        file = FileResponse(Path(*names), within=self.folder, headers={"cache-control": self.cache_control})
        return await file.prepare(request)

    def _segments(self, scope: Scope) -> list[str]:
        """The decoded names below the prefix; an empty one at the end for a folder."""
        raw_path: bytes | None = scope.get("raw_path")
        root = scope.get("root_path", "").rstrip("/")
        if raw_path is None or b"%" not in raw_path:
            segments = local_path(scope).split("/")[1:]
        else:
            segments = split_path(raw_path.removeprefix(root.encode()))
        return segments[self.prefix.count("/") :]

    def _may(self, name: str) -> bool:
        return bool(name) and name not in {".", ".."} and not _BAD.search(name) and (self.hidden or name[0] != ".")


async def _no_application(_scope: Scope, receive: Receive, send: Send) -> None:
    """For a WebSocket to a folder."""
    await receive()
    closing: Message = {"type": "websocket.close", "code": 1000}
    await send(closing)
