"""What a written client stands on: puts parameters where they belong, sends, and decodes.

A module that `consona client` wrote imports from here. The rules are those of OpenAPI's parameter styles.

Source: OpenAPI 3.1.1, "Style Values"; RFC 6570.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import quote

import msgspec

from consona.errors import ConfigurationError
from consona.resilience.policy import Policy, Runner
from consona.rest.client.api_client import APIClient
from consona.rest.client.authentication import Authentication
from consona.rest.client.body import Content
from consona.rest.client.response import Response

__all__ = ["Authentication", "Content", "Operations", "Query", "client_of"]

Style = Literal["form", "spaceDelimited", "pipeDelimited", "deepObject"]
SEPARATORS: Final = {"form": ",", "spaceDelimited": " ", "pipeDelimited": "|"}
JSON: Final = "application/json"


class Query:
    """A query parameter that is written in another way than `name=value`, once for each item.

    Example:
        >>> Query("ids", [1, 2], explode=False).pairs()
        [('ids', '1,2')]
        >>> Query("filter", {"age": 7}, style="deepObject").pairs()
        [('filter[age]', '7')]
    """

    __slots__ = ("explode", "name", "style", "value")

    def __init__(self, name: str, value: Any, *, style: Style | Literal["json"] = "form", explode: bool = True) -> None:
        self.name = name
        self.value = value
        self.style = style
        self.explode = explode

    def pairs(self) -> list[tuple[str, str]]:
        """The pairs as they go into the URL."""
        if self.value is None:
            return []
        value = msgspec.to_builtins(self.value)
        if self.style == "json":
            return [(self.name, msgspec.json.encode(value).decode())]
        if isinstance(value, dict):
            if self.style == "deepObject":
                return [(f"{self.name}[{name}]", _text(item)) for name, item in value.items() if item is not None]
            if self.explode:
                return [
                    (name, _text(each))
                    for name, item in value.items()
                    for each in (item if isinstance(item, list) else [item])
                    if each is not None
                ]
            flat = [_text(each) for pair in value.items() if pair[1] is not None for each in pair]
            return [(self.name, ",".join(flat))]
        if isinstance(value, list) and not self.explode:
            return [(self.name, SEPARATORS.get(self.style, ",").join(_text(item) for item in value))] if value else []
        return [(self.name, _text(item)) for item in (value if isinstance(value, list) else [value])]


class Operations:
    """Operations of an API: what a written client, and each of its groups, derives from.

    Args:
        api: What sends.
    """

    def __init__(self, api: APIClient) -> None:
        self.api = api
        """What sends; everything that is not described is done with it."""

    async def __aenter__(self) -> Self:
        await self.api.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.api.stop()

    async def _send(
        self,
        method: str,
        template: str,
        *,
        path: Mapping[str, Any] | None = None,
        query: Iterable[tuple[str, Any] | Query] = (),
        headers: Mapping[str, Any] | None = None,
        cookies: Mapping[str, Any] | None = None,
        json: Any = None,
        form: Any = None,
        content: Content | None = None,
        content_type: str = "",
        accept: str = JSON,
        idempotent: bool = False,
        into: Any = None,
    ) -> Any:
        """Call one operation, and decode its answer.

        Args:
            method: `GET`, `POST`, …
            template: The path with its parameters in braces.
            path: The path's parameters.
            query: Pairs in order; None is left out, a list repeats its name.
            headers: None is left out.
            cookies: None is left out.
            json: A body to send as JSON.
            form: A body to send as a form.
            content: A body to send as it is.
            content_type: Of `content`.
            accept: What is accepted as an answer.
            idempotent: Whether the server takes a repeat for one (an `Idempotency-Key` goes with it).
            into: The type of the answer; None for no body, `str` and `bytes` with a text or binary `accept`.

        Raises:
            ConfigurationError: A path parameter is empty, or holds what would lead elsewhere.
            ConsonaError: What `APIClient.request` raises.
        """
        options: dict[str, Any] = {"name": template, "headers": _headers(headers, cookies, accept, content_type)}
        pairs = [pair for each in query for pair in (each if isinstance(each, Query) else Query(*each)).pairs()]
        if pairs:
            options["params"] = pairs
        if json is not None:
            options["json"] = json
        elif form is not None:
            options["data"] = Query("form", form).pairs()
        elif content is not None:
            options["content"] = content
        if idempotent:
            options["idempotent"] = True
        response = await self.api.request(method, fill(template, path or {}), **options)
        return _answer(response, into, accept)


def client_of(base: str | APIClient, *, auth: Authentication | None, policy: Policy | Runner | None) -> APIClient:
    """The client for a base, or the one that was handed in.

    Raises:
        ConfigurationError: One was handed in, and `auth` or `policy` beside it.
    """
    if isinstance(base, str):
        return APIClient(base, auth=auth, policy=policy)
    if auth is not None or policy is not None:
        raise ConfigurationError(
            "An APIClient has its own credentials and policy.", hint="Give auth= and policy= to it, or hand in a URL."
        )
    return base


def fill(template: str, values: Mapping[str, Any]) -> str:
    """A path with its parameters, each encoded, so that none can reach another place.

    Raises:
        ConfigurationError: One is empty, `.` or `..`.

    Example:
        >>> fill("/files/{name}", {"name": "a/b c"})
        '/files/a%2Fb%20c'
    """
    for name, value in values.items():
        written = _simple(value)
        if written in {"", ".", ".."}:
            raise ConfigurationError(
                f"The path parameter {name!r} of {template} is {written!r}, which leads elsewhere."
            )
        template = template.replace(f"{{{name}}}", quote(written, safe=""))
    return template


def _headers(
    headers: Mapping[str, Any] | None, cookies: Mapping[str, Any] | None, accept: str, content_type: str
) -> dict[str, str]:
    found = {"Accept": accept}
    if content_type:
        found["Content-Type"] = content_type
    for name, value in (headers or {}).items():
        if value is not None:
            found[name] = _simple(value)
    jar = [f"{name}={quote(_simple(value), safe='')}" for name, value in (cookies or {}).items() if value is not None]
    if jar:
        found["Cookie"] = "; ".join(jar)
    return found


def _answer(response: Response, into: Any, accept: str) -> Any:
    if into is None or (not response.content and _may_be_none(into)):
        return None
    if not accept.endswith("json") and into in {bytes, str}:
        return response.content if into is bytes else response.text
    return response.json(into=into)


def _may_be_none(into: Any) -> bool:
    try:
        msgspec.convert(None, into)
    except msgspec.ValidationError:
        return False
    return True


def _simple(value: Any) -> str:
    """The style `simple`: lists with commas."""
    value = msgspec.to_builtins(value)
    if isinstance(value, dict):
        value = [each for pair in value.items() for each in pair]
    return ",".join(_text(item) for item in value) if isinstance(value, list) else _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, enum.Enum):
        return _text(value.value)
    if isinstance(value, dict | Sequence) and not isinstance(value, str):
        return msgspec.json.encode(value).decode()
    return "" if value is None else str(value)
