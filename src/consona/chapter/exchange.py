"""Requests and answers as the chapter has them: plain dicts, made from the real ones and back."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from consona.errors import ConfigurationError
from consona.rest.client.errors import BadAnswer
from consona.rest.client.response import Response as ClientResponse
from consona.rest.server.bodies import UNREADABLE, BodyReader
from consona.rest.server.requests import Request
from consona.rest.server.responses import Response, json_encode

__all__ = ["one_or_many", "plain_function", "read_data", "request_info", "response_dict", "response_of_dict"]

_reader: Final = BodyReader(Any)


def plain_function(function: Any, what: str) -> Callable[..., Any]:
    """The function, if it can be called without `await`.

    Raises:
        ConfigurationError: It cannot.
    """
    if not callable(function):
        raise ConfigurationError(f"{what} must be a function, not {type(function).__name__}.")
    if inspect.iscoroutinefunction(function):
        raise ConfigurationError(
            f"{what} is declared with `async def`, and the chapter's classes call plain functions.",
            hint="Write `def`, or use the classes of `consona` themselves.",
        )
    called: Callable[..., Any] = function
    return called


# The client's side.


def response_dict(response: ClientResponse) -> dict[str, Any]:
    """An answer: its `status_code`, its `data` (decoded JSON, else text, None where it is empty), its `headers`."""
    return {"status_code": response.status, "data": _data_of(response), "headers": response.headers}


def _data_of(response: ClientResponse) -> Any:
    if not response.content:
        return None
    if response.content_type != "application/json" and not response.content_type.endswith("+json"):
        return response.text
    try:
        return response.json()
    except BadAnswer:
        if response.ok:
            raise
        return response.text  # of an error, whatever came is better than another error


def one_or_many(values: Mapping[str, list[str]]) -> dict[str, Any]:
    """Query parameters: the value, or the list of values where a name was given several times."""
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


# The server's side.


def request_info(request: Request) -> dict[str, Any]:
    """What handlers, middlewares and error handlers get; one dict for each request, which they may add to."""
    info: dict[str, Any] | None = request.state.get("request_info")
    if info is None:
        info = request.state["request_info"] = {
            "method": request.method,
            "path": request.path,
            "path_params": request.path_params,
            "headers": request.headers,
            "data": None,
            "query_params": one_or_many(request.query),
            "timestamp": time.time(),
            "ip": request.client,
        }
    return info


async def read_data(request: Request) -> Any:
    """The body, decoded; None where there is none.

    Raises:
        BadRequest: It cannot be read.
        UnsupportedMediaType: It is not JSON.
    """
    body = await request.body()
    if not body:
        return None
    try:
        return _reader.read(request.fields, body)
    except UNREADABLE:
        return list(_reader.problems(request.fields, body))  # raises what is wrong with it


def response_of_dict(answer: Any, what: str) -> Response:
    """The answer that a middleware or an error handler gave as a dict.

    Raises:
        ConfigurationError: It has no `status_code`.
    """
    if not isinstance(answer, Mapping) or not isinstance(answer.get("status_code"), int):
        raise ConfigurationError(f"{what} must return a dict with `status_code`, `data` and `headers`.")
    data = answer.get("data")
    return Response(
        b"" if data is None else json_encode(data),
        status=answer["status_code"],
        headers=answer.get("headers"),
        media_type="" if data is None else "application/json",
    )
