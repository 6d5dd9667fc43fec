"""What every error promises."""

import inspect
import pickle

import pytest

from consona import errors
from consona.errors import APIError, ConsonaError, FieldProblem, GapError, NotFound, RateLimited, ValidationError

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, ConsonaError)]


def make(cls):
    needed = {APIError: {"status": 500}, GapError: {"stream": "s", "after": 1, "begin": 5}}
    return cls("It broke.", **needed.get(cls, {"where": "here"}))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_has_a_code_a_status_and_survives_pickling(cls):
    error = make(cls)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert again.code
    assert 400 <= again.status < 600
    assert again.message == "It broke."
    assert again.context == error.context


def test_codes_are_told_apart():
    codes = [cls.code for cls in CLASSES]
    assert len(set(codes)) == len(codes)


def test_every_error_is_named_in_the_tree_at_the_top_of_the_file():
    assert all(cls.__name__ in errors.__doc__ for cls in CLASSES)


def test_the_hint_is_part_of_what_people_read():
    error = NotFound("There is no post 7.", hint="List them with GET /posts.")
    assert str(error) == "There is no post 7. List them with GET /posts."


def test_an_instance_overrules_its_class():
    error = RateLimited("Too fast.", retry_after=2.5, retryable=False)
    assert (error.retryable, error.retry_after) == (False, 2.5)
    assert RateLimited.retryable is True


def test_a_validation_error_keeps_every_wrong_field_through_pickling():
    error = ValidationError("Two fields are wrong.", fields=[("body.a", "expected a number"), ("body.b", "missing")])
    again = pickle.loads(pickle.dumps(error))
    assert again.fields == (FieldProblem("body.a", "expected a number"), FieldProblem("body.b", "missing"))


def test_an_api_error_leaves_its_answer_behind_when_it_is_pickled():
    again = pickle.loads(pickle.dumps(APIError("No.", status=404, response=lambda: None, problem={"title": "Gone"})))
    assert (again.status, again.response, again.problem) == (404, None, {"title": "Gone"})
