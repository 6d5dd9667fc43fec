"""The fields of a form for the parameters that want them: as text, in the shape that the converter reads."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, get_args

import msgspec

from consona.errors import FieldProblem
from consona.rest.server.forms import Form
from consona.rest.server.hints import many_of, unwrap
from consona.rest.server.parameters import Parameter
from consona.rest.server.texts import REPEATED
from consona.rest.server.uploads import UploadFile
from consona.validation import fields_of, plain_words, wrong_fields

__all__ = ["FormFields", "FormFiles"]

NOT_FINITE: Final = "Expected a finite number"
TICKS: Final = {"true": "true", "on": "true", "false": "false"}


@dataclass(frozen=True, slots=True)
class _Field:
    """How one field's text is read."""

    many: bool
    empty: bool
    """Whether an empty text can be its value. (Else it is a field that was left empty.)"""
    ticked: bool
    """Whether it is a checkbox: browsers send `on`, or nothing."""
    number: bool

    @classmethod
    def of(cls, hint: Any) -> _Field:
        member = many_of(hint)
        plain, _ = unwrap(hint if member is None else member)
        members = (set(get_args(plain)) or {plain}) - {type(None)}
        return cls(member is not None, _takes_empty(plain), members == {bool}, not members.isdisjoint({float, Decimal}))

    def read(self, values: Sequence[str]) -> Any:
        """What the converter reads; None where nothing was given.

        Raises:
            msgspec.ValidationError: It was given too often, or is no number that there is.
        """
        texts = [text for text in values if text or self.empty]
        if self.ticked:
            texts = [TICKS.get(text, "neither") for text in texts]
        if self.number and not all(_is_finite(text) for text in texts):
            raise msgspec.ValidationError(NOT_FINITE)
        if self.many:
            return texts or None
        if len(texts) > 1:
            raise msgspec.ValidationError(REPEATED)
        return texts[0] if texts else None


class FormFields:
    """Reads the fields of a form for the parameters of one route.

    Args:
        parameters: By the key under which the converter wants them.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self.parameters = parameters
        self._single = {key: _Field.of(each.type) for key, each in parameters.items() if each.alias}
        self._whole = {
            key: {name: _Field.of(kind) for name, kind, _ in fields_of(each.type) or ()}
            for key, each in parameters.items()
            if not each.alias
        }

    def read(self, form: Form, raw: dict[str, Any]) -> None:
        """Put what was sent into `raw`.

        Raises:
            msgspec.ValidationError: A field was given too often, or as a file.
        """
        if form.ignored and any(self._as_files(form)):
            raise msgspec.ValidationError
        given = _grouped(form)
        for key, field in self._single.items():
            value = field.read(given.get(self.parameters[key].alias, ()))
            if value is not None:
                raw[key] = value
        for key, fields in self._whole.items():
            raw[key] = {name: texts[0] for name, texts in given.items() if name not in fields}
            for name, field in fields.items():
                value = field.read(given.get(name, ()))
                if value is not None:
                    raw[key][name] = value

    def problems(self, form: Form) -> Iterator[FieldProblem]:
        """Every field that is wrong or missing."""
        yield from self._as_files(form)
        given = _grouped(form)
        for key, field in self._single.items():
            yield from _problems(field, given.get(self.parameters[key].alias, ()), self.parameters[key])
        for key, fields in self._whole.items():
            yield from self._of_whole(self.parameters[key].type, fields, given)

    def _as_files(self, form: Form) -> Iterator[FieldProblem]:
        names = {each.alias for each in self.parameters.values()}.union(*self._whole.values())
        for name in form.ignored:
            if name in names:
                yield FieldProblem(f"form.{name}", "is a file, and text is expected")

    def _of_whole(
        self, declared: Any, fields: Mapping[str, _Field], given: Mapping[str, Sequence[str]]
    ) -> Iterator[FieldProblem]:
        values: dict[str, Any] = {name: texts[0] for name, texts in given.items() if name not in fields}
        known: set[str] = set()
        for name, field in fields.items():
            try:
                value = field.read(given.get(name, ()))
            except (msgspec.ValidationError, ValueError) as error:
                known.add(f"form.{name}")
                yield FieldProblem(f"form.{name}", plain_words(str(error)))
                continue
            if value is not None:
                values[name] = value
        for problem in _plain(wrong_fields(values, declared, "form", strict=False)):
            if problem.path not in known:
                yield problem


class FormFiles:
    """Gives the files of a form to the parameters of one route, in their order."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = parameters

    def read(self, form: Form) -> list[Any]:
        """For each parameter its file, its list of files, or its default.

        Raises:
            msgspec.ValidationError: One is missing, or was given twice.
        """
        found: list[Any] = []
        for parameter in self.parameters:
            files = _named(form, parameter.alias)
            if _file_problem(form, parameter, files):
                raise msgspec.ValidationError
            found.append((files if parameter.many else files[0]) if files else parameter.default)
        return found

    def problems(self, form: Form) -> Iterator[FieldProblem]:
        """Every file that is missing, or was given twice."""
        for parameter in self.parameters:
            message = _file_problem(form, parameter, _named(form, parameter.alias))
            if message:
                yield FieldProblem(f"form.{parameter.alias}", message)


def _named(form: Form, name: str) -> list[UploadFile]:
    return [file for given, file in form.files if given == name]


def _file_problem(form: Form, parameter: Parameter, files: Sequence[UploadFile]) -> str:
    if any(name == parameter.alias for name, _ in form.fields):
        return "is text, and a file is expected"
    if not files:
        return "is missing" if parameter.required else ""
    return REPEATED if len(files) > 1 and not parameter.many else ""


def _grouped(form: Form) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for name, text in form.fields:
        given.setdefault(name, []).append(text)
    return given


def _problems(field: _Field, values: Sequence[str], parameter: Parameter) -> Iterator[FieldProblem]:
    path = f"form.{parameter.alias}"
    try:
        value = field.read(values)
    except (msgspec.ValidationError, ValueError) as error:
        yield FieldProblem(path, plain_words(str(error)))
        return
    if value is not None:
        yield from _plain(wrong_fields(value, parameter.type, path, strict=False))
    elif parameter.required:
        yield FieldProblem(path, "is missing")


def _plain(problems: Iterator[FieldProblem]) -> Iterator[FieldProblem]:
    """Without what everybody knows: that it came as text."""
    for path, message in problems:
        yield FieldProblem(path, message.replace(", got str", ""))


def _takes_empty(hint: Any) -> bool:
    try:
        msgspec.convert("", hint, strict=False)
    except msgspec.ValidationError:
        return False
    return True


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return True  # no number at all, which the converter says
