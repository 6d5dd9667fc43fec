"""Forms: what a browser sends when somebody presses "send", urlencoded or as multipart/form-data with files.

Files are written to disk as they come. Whatever ends the request (an error, a client that vanishes, a
cancellation), what was written until then is gone.

Source: RFC 7578 (multipart/form-data); WHATWG URL, "application/x-www-form-urlencoded"; WHATWG Fetch Metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import unquote_to_bytes

from consona.errors import PermissionDenied
from consona.rest.server.bodies import media_type_of
from consona.rest.server.multipart import MultipartParser, PartEnd, PartHead
from consona.rest.server.problems import BadRequest, BodyTooLarge, UnsupportedMediaType
from consona.rest.server.uploads import Spool, UploadFile

if TYPE_CHECKING:
    from consona.rest.server.requests import Request

__all__ = ["ANY_FILE", "MULTIPART", "URLENCODED", "FileRules", "Form", "read_form"]

MULTIPART: Final = "multipart/form-data"
URLENCODED: Final = "application/x-www-form-urlencoded"
SAME_SITE: Final = frozenset({b"same-origin", b"none"})
CLOSE: Final = {"connection": "close"}
"""Of answers to forms that are not read to their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRules:
    """What is accepted as one file of a form."""

    max_bytes: int | None = None
    types: tuple[str, ...] = ()
    """Media types such as `image/png`, or `image/*`; empty for all."""

    def takes(self, kind: str) -> bool:
        """Whether a media type is among them."""
        if not self.types:
            return True
        return kind in self.types or f"{kind.partition('/')[0]}/*" in self.types


ANY_FILE: Final = FileRules()


@dataclass(slots=True)
class Form:
    """What came in a form, in its order. A name may come several times."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    files: list[tuple[str, UploadFile]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    """The names of files that the route does not take: they were not kept."""

    def close(self) -> None:
        """Let go of the files."""
        for _, file in self.files:
            file.close()


async def read_form(request: Request, rules: Mapping[str, FileRules] | None) -> Form:
    """The form that a request brings.

    Args:
        request: Its body was not read yet.
        rules: The names of the files that are wanted; others are read past. None: all are.

    Raises:
        PermissionDenied: A page of another site sent it, and the route does not say `cross_site=True`.
        UnsupportedMediaType: It is no form, or a file is of a type that is not wanted.
        BadRequest: It is broken.
        BodyTooLarge: It, or a part of it, is larger than is accepted; or there are too many parts.
        StorageFull: The disk is full.
        ClientGone: The client went away meanwhile.
    """
    _refuse_other_sites(request)
    kind, parameters = media_type_of(request.fields.get(b"content-type"))
    if request.fields.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaType("The form is compressed, which is not read here.")
    if kind == MULTIPART:
        return await _Reading(request, rules).run(MultipartParser(parameters.get("boundary", "")))
    if kind == URLENCODED and not rules:
        return _urlencoded(request, await request.body())
    accepted = MULTIPART if rules else f"{MULTIPART}, {URLENCODED}"
    raise UnsupportedMediaType(
        f"The content type is {kind!r}, and a form with files is wanted." if rules else "The body is not a form.",
        hint=f"Send {accepted}.",
        headers={"accept": accepted},
    )


def _refuse_other_sites(request: Request) -> None:
    """Any page can make a browser send a form, with the cookies of its user, without asking (CSRF)."""
    fields = request.fields
    site = fields.get(b"sec-fetch-site")
    if site is not None:
        crosses = site not in SAME_SITE
    else:  # an older browser, or one that came by plain HTTP
        origin = fields.get(b"origin")
        crosses = origin is not None and origin.partition(b"://")[2] != fields.get(b"host")
    if crosses and not request.route.options.get("cross_site"):
        raise PermissionDenied("A page of another site sent this form.", hint="Send it from a page of this site.")


def _urlencoded(request: Request, data: bytes) -> Form:
    limits = request.serving.settings.forms
    pairs = [pair for pair in data.split(b"&", limits.max_fields + 1) if pair]
    if len(pairs) > limits.max_fields:
        _too_many("fields", limits.max_fields)
    form = Form()
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        try:
            shown, text = _unquoted(name), _unquoted(value)
        except UnicodeDecodeError:
            raise BadRequest("The form is not UTF-8.") from None
        if len(value) > limits.max_field:
            _too_long(shown, limits.max_field, "field")
        form.fields.append((shown, text))
    return form


def _unquoted(text: bytes) -> str:
    return unquote_to_bytes(text.replace(b"+", b" ")).decode()


class _Reading:
    """One multipart form on its way in."""

    def __init__(self, request: Request, rules: Mapping[str, FileRules] | None) -> None:
        self.request = request
        self.rules = rules
        self.limits = request.serving.settings.forms
        self.form = Form()
        self.head: PartHead | None = None
        self.text = bytearray()
        self.spool: Spool | None = None
        """Where the present part goes, if it is a file that is wanted."""
        self.max_bytes: int | None = None
        self.fields = self.files = 0

    async def run(self, parser: MultipartParser) -> Form:
        request = self.request
        request.reading = True  # so that who takes too long is told that it is their sending
        try:
            async for piece in request.stream():
                for event in parser.feed(piece):
                    if isinstance(event, bytes):
                        await self.take(event)
                    elif isinstance(event, PartHead):
                        self.begin(event)
                    elif isinstance(event, PartEnd):
                        await self.end()
            parser.finish()
        except BaseException:
            if self.spool is not None:
                self.spool.close()
            self.form.close()
            raise
        request.reading = False
        return self.form

    def begin(self, head: PartHead) -> None:
        self.head = head
        if head.filename is None:
            self.fields += 1
            if self.fields > self.limits.max_fields:
                _too_many("fields", self.limits.max_fields)
            return
        self.files += 1
        if self.files > self.limits.max_files:
            _too_many("files", self.limits.max_files)
        if not head.filename:  # a file input that was left empty
            return
        rules = ANY_FILE if self.rules is None else self.rules.get(head.name)
        if rules is None:
            self.form.ignored.append(head.name)
            return
        if not rules.takes(head.type):
            raise UnsupportedMediaType(
                "A file is of a type that is not accepted here.",
                headers=CLOSE,
                fields=[(f"form.{head.name}", f"is {head.type or 'of no type'}, not {' or '.join(rules.types)}")],
            )
        self.spool = Spool(self.limits.memory, self.limits.folder)
        self.max_bytes = rules.max_bytes

    async def take(self, piece: bytes) -> None:
        assert self.head is not None
        if self.head.filename is None:
            self.text += piece
            if len(self.text) > self.limits.max_field:
                _too_long(self.head.name, self.limits.max_field, "field")
        elif self.spool is not None:
            if self.max_bytes is not None and self.spool.size + len(piece) > self.max_bytes:
                _too_long(self.head.name, self.max_bytes, "file")
            await self.spool.write(piece)

    async def end(self) -> None:
        head = self.head
        assert head is not None
        if head.filename is None:
            try:
                self.form.fields.append((head.name, self.text.decode()))
            except UnicodeDecodeError:
                problem = (f"form.{head.name}", "is not UTF-8")
                raise BadRequest("A field of the form is not UTF-8.", fields=[problem]) from None
            self.text = bytearray()
        elif self.spool is not None:
            file = await self.spool.finish(head.filename, head.type or "application/octet-stream")
            self.form.files.append((head.name, file))
            self.spool = None


def _too_many(what: str, limit: int) -> NoReturn:
    raise BodyTooLarge(f"The form has more than {limit} {what}, the most that are accepted here.", headers=CLOSE)


def _too_long(name: str, limit: int, what: str) -> NoReturn:
    raise BodyTooLarge(
        f"A {what} of the form is longer than is accepted here.",
        headers=CLOSE,
        fields=[(f"form.{name}", f"is longer than {limit} bytes")],
    )
