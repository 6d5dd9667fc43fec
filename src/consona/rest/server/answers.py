"""From what a handler returns to the answer: checked against what it declares, and encoded.

Where the class is the declared one, and so are those of all that it holds, that is one comparison; anything else is
made what was declared, field by field, so that nobody gets to see more.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin

import msgspec

from consona.errors import ConfigurationError, ConsonaError
from consona.rest.server.declared import exact_test, narrower
from consona.rest.server.events import Event, EventStream
from consona.rest.server.responses import JSON, MSGPACK, Empty, Encoded, Response, json_encode, msgpack_encode
from consona.rest.server.signature import Signature, is_response
from consona.validation import plain_words

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Mapping

    from consona.rest.server.requests import Request

__all__ = ["AnswerMismatch", "answer_maker", "event_stream", "shown_by", "written_answer"]

READY: Final = "return result if result.prepared else await result.prepare(request)"


class AnswerMismatch(ConsonaError):
    """A handler returned something that is not what its signature says."""

    code = "rest.answer_mismatch"
    status = 500
    hint = "Return what the handler's annotation says, or change the annotation."


NAMES: Final[Mapping[str, Any]] = {
    "Empty": Empty,
    "Encoded": Encoded,
    "JSON": JSON,
    "MSGPACK": MSGPACK,
    "Response": Response,
    "json_encode": json_encode,
    "msgpack_encode": msgpack_encode,
}


def written_answer(signature: Signature, names: dict[str, Any]) -> list[str]:
    """The lines that make the answer of what the handler returned, `result`.

    Args:
        signature: The route's.
        names: The names that they need are put there.

    Raises:
        ConfigurationError: The declared type is one that nothing can be checked against.
    """
    names.update(NAMES)
    status, returns = signature.status, signature.returns
    if returns is type(None):
        return ["    if isinstance(result, Response):", f"        {READY}", f"    return Empty({status})"]
    if is_response(returns):
        return [f"    {READY}"]
    lines = []
    declared = _without_response(returns)
    test, fit = _checked(declared, signature.route.label, names, "result")
    if test:
        names["fit"] = fit
        lines += [f"    if not {test}:", "        if isinstance(result, Response):", f"            {READY}"]
        lines += ["        result = fit(result)"]
    else:
        lines += ["    if isinstance(result, Response):", f"        {READY}"]
    return [
        *lines,
        '    if b"accept" in fields and b"msgpack" in fields[b"accept"]:',
        f"        response = Encoded(msgpack_encode(result), {status}, MSGPACK)",
        '        response.headers["vary"] = "accept"',
        "        return response",
        f"    return Encoded(json_encode(result), {status}, JSON)",
    ]


def answer_maker(signature: Signature) -> Callable[[Request, Any], Awaitable[Response]]:
    """Makes, of what a handler is about to return, the answer that it will be.

    Raises:
        ConfigurationError: The declared type is one that nothing can be checked against.
    """
    names: dict[str, Any] = {}
    lines = ["async def answer(request, result):", "    fields = request.fields", *written_answer(signature, names)]
    exec("\n".join(lines), names)  # noqa: S102 written above, from names that we made
    made: Callable[[Request, Any], Awaitable[Response]] = names["answer"]
    return made


def shown_by(reading: Signature | None) -> Callable[[Any], Any]:
    """Makes a value what a GET shows of it; the value itself where that GET declares something else.

    Args:
        reading: The GET, where it gives its answers a tag.
    """
    if reading is None or is_response(reading.returns):
        return lambda value: value
    names: dict[str, Any] = {}
    test, fit = _checked(_without_response(reading.returns), reading.route.label, names, "value")
    is_exact = eval(f"lambda value: {test or True}", names)  # noqa: S307 written by us, from our names

    def shown(value: Any) -> Any:
        if is_exact(value):
            return value
        try:
            return fit(value)
        except AnswerMismatch:  # a state of the handler's own choice, with a tag of its own
            return value

    return shown


def event_stream(signature: Signature) -> Callable[[AsyncIterable[Any]], EventStream]:
    """Makes the answer of a handler that yields events: the data of each is what it declares, and no more.

    Raises:
        ConfigurationError: The declared type is one that nothing can be checked against.
    """
    names: dict[str, Any] = {}
    test, fit = _checked(signature.event_data, signature.route.label, names, "data")
    if not test:
        return EventStream
    is_exact = eval(f"lambda data: {test}", names)  # noqa: S307 written by us, from our names

    def narrow(event: Any) -> Any:
        if not isinstance(event, Event):
            return event if is_exact(event) else fit(event)
        if event.data is None or is_exact(event.data):
            return event
        return msgspec.structs.replace(event, data=fit(event.data))

    def stream(events: AsyncIterable[Any]) -> EventStream:
        answer = EventStream(events)
        answer.narrow = narrow
        return answer

    return stream


def _checked(declared: Any, label: str, names: dict[str, Any], value: str) -> tuple[str, Callable[[Any], Any]]:
    """The test of what is to be let through as it is (empty: everything), and what is done with all else."""
    if declared is inspect.Parameter.empty or declared is Any:
        return "", lambda result: result
    try:
        test, narrow = exact_test(declared, value, names), narrower(declared)
    except TypeError as error:
        raise ConfigurationError(f"{label}: its answer cannot be declared so: {error}.") from error
    except NameError as error:
        raise ConfigurationError(
            f"{label}: the declared answer has a field of a type that cannot be found: {error}.",
            hint="Declare the types of fields in the module, and import them outside of `if TYPE_CHECKING:`.",
        ) from error

    def fit(result: Any) -> Any:
        try:
            return narrow(result)
        except msgspec.ValidationError as error:
            words = plain_words(str(error))
            raise AnswerMismatch(f"{label} returned something else than it declares: {words}.") from error

    return test, fit


def _without_response(returns: Any) -> Any:
    """Without those members of a union that are whole answers: they go out as they are."""
    if get_origin(returns) not in {Union, types.UnionType}:
        return returns
    members = tuple(member for member in get_args(returns) if not is_response(member))
    return Union[members]  # noqa: UP007 of a tuple
