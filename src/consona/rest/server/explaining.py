"""Why a request could not be bound: every wrong field of it, in one answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from consona.errors import ConsonaError, FieldProblem, ValidationError
from consona.rest.server.bodies import UNREADABLE, BodyReader
from consona.rest.server.form_fields import FormFields, FormFiles
from consona.rest.server.parameters import Parameter
from consona.rest.server.problems import BadRequest
from consona.rest.server.requests import Request
from consona.rest.server.texts import REPEATED, codec_of, finite, query_reader
from consona.validation import plain_words

__all__ = ["Explainer"]


class Explainer:
    """Says everything that is wrong with a request that could not be read.

    Args:
        texts: What arrives as text.
        body: What is the whole body.
        form: What is in a form.
    """

    def __init__(
        self, texts: Sequence[Parameter], body: Parameter | None, form: tuple[FormFields, FormFiles] | None = None
    ) -> None:
        self.texts = [parameter for parameter in texts if parameter.place != "form"]
        self.form = form
        self.declared = body
        self.body = BodyReader(body.type) if body is not None else None

    async def explain(self, request: Request, error: BaseException) -> ConsonaError:
        """The error to raise, with all wrong fields of path, query, headers, cookies and body or form."""
        problems: list[FieldProblem] = []
        for parameter in self.texts:
            message = self._text_problem(request, parameter)
            if message:
                problems.append(FieldProblem(f"{parameter.place}.{parameter.alias}", message))
        if self.form is not None:
            sent = await request.form()
            problems.extend(problem for part in self.form for problem in part.problems(sent))
        if self.body is not None:
            assert self.declared is not None
            data = await request.body()
            if data or self.declared.required:
                problems.extend(self._body_problems(request, data))
        if not problems:  # each by itself is right: it is their combination
            problems.append(FieldProblem("request", plain_words(str(error))))
        many = len(problems) != 1
        return ValidationError(
            f"{len(problems)} field{'s are' if many else ' is'} wrong in the request.", fields=problems
        )

    def _body_problems(self, request: Request, data: bytes) -> list[FieldProblem]:
        assert self.body is not None
        try:
            self.body.read(request.fields, data)
        except UNREADABLE as error:
            found = list(self.body.problems(request.fields, data))
            return found or [FieldProblem("body", plain_words(str(error)))]
        return []

    def _text_problem(self, request: Request, parameter: Parameter) -> str:
        try:
            values = _values_of(request, parameter)
        except UnicodeDecodeError:
            raise BadRequest(f"The {parameter.place} value {parameter.alias!r} is not UTF-8.") from None
        if not values:
            return "is missing" if parameter.required else ""
        if parameter.place == "query" and not parameter.many and len(values) > 1:
            return REPEATED
        value = values if parameter.many else values[0]
        try:
            finite(msgspec.convert(value, parameter.type, strict=False))
        except (msgspec.ValidationError, ValueError) as error:
            return plain_words(str(error)).replace(", got str", "")
        return ""


def _values_of(request: Request, parameter: Parameter) -> list[str]:
    if parameter.place == "path":
        return [request.segments[request.route.path_names.index(parameter.alias)]]
    if parameter.place == "header":
        value = request.fields.get(parameter.alias.encode("latin-1"))
        return [] if value is None else [value.decode(codec_of(parameter.alias))]
    if parameter.place == "cookie":
        return [value for name, value in request.cookies.items() if name == parameter.alias]
    raw: dict[str, Any] = {}
    query_reader({parameter.alias: ("value", True)})(request.scope["query_string"], raw)
    return list(raw.get("value", []))
