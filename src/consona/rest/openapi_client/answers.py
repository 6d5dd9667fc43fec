"""What an operation answers with when all goes well, and how it can fail."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from consona.rest.openapi_client.document import Document, child
from consona.rest.openapi_client.schemas import Schemas
from consona.rest.openapi_client.typed import ANY, NONE, Typed, scalar, union_of

__all__ = ["Answer", "Failure", "answer_of", "failures_of", "media_of"]

JSON = "application/json"


@dataclass(slots=True)
class Answer:
    """What comes back."""

    typed: Typed = field(default_factory=lambda: NONE)
    accept: str = JSON
    doc: str = ""


@dataclass(slots=True)
class Failure:
    """One way to fail."""

    status: str
    doc: str
    typed: Typed | None = None
    """Of the answer's body, where it is JSON."""


def media_of(content: dict[str, Any], pointer: str, *, prefer: tuple[str, ...] = ()) -> tuple[str, str]:
    """The media type that is used of several, and where it stands: JSON first, then those of `prefer`, then the first."""

    def rank(media: str) -> int:
        plain = media.partition(";")[0].strip().lower()
        if plain == JSON:
            return 0
        if plain.endswith("+json"):
            return 1
        return 2 if plain in prefer else 4 if plain == "multipart/form-data" else 3

    media = min(content, key=rank)
    return media, child(pointer, media)


def answer_of(document: Document, schemas: Schemas, raw: dict[str, Any], pointer: str, hint: str) -> Answer:
    """The answer of an operation with a status from 200 to 299; the default one where there is no way to succeed."""
    responses = list(_responses(document, raw, pointer))
    good = [each for each in responses if _is(each[0], "2")]
    if not any(_is(each[0], "123") for each in responses):
        good = [each for each in responses if each[0] == "default"]
    if not good:
        return Answer()
    answers = [_one(schemas, response, place, f"{hint}Answer") for _, response, place in good]
    doc = next((each.doc for each in answers if each.doc), "")
    full = [each for each in answers if each.typed.kind != "none"]
    if not full:
        return Answer(doc=doc)
    kinds = {each.accept for each in full}
    if len(kinds) > 1:
        document.note(pointer, f"answers with several media types ({', '.join(sorted(kinds))}); the first is used")
        full = [each for each in full if each.accept == full[0].accept]
    typed = union_of([each.typed for each in full])
    if typed is None:
        document.note(pointer, "its answers with different statuses cannot be told apart; taken as anything")
        typed = ANY
    if len(full) < len(answers) and any(each.typed.kind == "none" for each in answers):
        typed = replace(typed, nullable=True)
    return Answer(typed, full[0].accept, doc)


def failures_of(document: Document, schemas: Schemas, raw: dict[str, Any], pointer: str, hint: str) -> list[Failure]:
    """The answers that an operation declares for failures."""
    found = []
    responses = list(_responses(document, raw, pointer))
    for status, response, place in responses:
        if _is(status, "123") or (status == "default" and not any(_is(each[0], "123") for each in responses)):
            continue
        answer = _one(schemas, response, place, f"{hint}Error")
        typed = answer.typed if answer.typed.kind not in {"none", "any"} and answer.accept.endswith("json") else None
        found.append(Failure("any other" if status == "default" else status, answer.doc, typed))
    return found


def _is(status: str, kinds: str) -> bool:
    """Whether a status (`204`, `2XX`) begins with one of these digits."""
    return status[0] in kinds


def _responses(document: Document, raw: dict[str, Any], pointer: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    responses = raw.get("responses", {})
    if not isinstance(responses, dict):
        document.note(child(pointer, "responses"), "is no object; it is left out")
        return
    for status, response in responses.items():
        if status.startswith("x-"):
            continue
        if not re.fullmatch(r"[1-5](\d\d|XX)|default", status, re.IGNORECASE):
            document.note(child(pointer, "responses", status), "is no status; it is left out")
            continue
        found, place = document.resolve(response, child(pointer, "responses", status))
        yield status, found, place


def _one(schemas: Schemas, response: dict[str, Any], pointer: str, hint: str) -> Answer:
    doc = response["description"] if isinstance(response.get("description"), str) else ""
    content = response.get("content")
    if not isinstance(content, dict) or not content:
        return Answer(doc=doc)
    media, place = media_of(content, child(pointer, "content"))
    value = content[media] if isinstance(content[media], dict) else {}
    plain = media.partition(";")[0].strip().lower()
    if plain == JSON or plain.endswith("+json") or plain == "*/*":
        schema = value.get("schema")
        typed = ANY if schema is None else schemas.of(schema, child(place, "schema"), hint)
        return Answer(typed, JSON if plain == "*/*" else plain, doc)
    return Answer(scalar("str" if plain.startswith("text/") else "bytes", "text"), plain, doc)
