"""Which values a path names."""

import pytest

from consona.documents.errors import OperatorError
from consona.documents.paths import get, places, reader, split
from consona.documents.values import MISSING


def values(path, document, *, expand=True):
    return list(reader(split(path), expand=expand)(document))


@pytest.mark.parametrize(
    ("path", "document", "expected"),
    [
        ("a", {"a": 1}, [1]),
        ("a", {"b": 1}, [MISSING]),
        ("a", {"a": None}, [None]),
        ("a", {"a": [1, 2]}, [1, 2, [1, 2]]),
        ("a", {"a": []}, [[]]),
        ("a.b", {"a": {"b": 1}}, [1]),
        ("a.b", {"a": {}}, [MISSING]),
        ("a.b", {"a": 7}, [MISSING]),
        ("a.b", {"a": [7, "x"]}, []),
        ("a.b", {"a": []}, []),
        ("a.b", {"a": [{"b": 1}, {}, {"b": [2, 3]}]}, [1, MISSING, 2, 3, [2, 3]]),
        ("a.b", {"a": [[{"b": 1}]]}, []),
        ("a.0", {"a": [5, 6]}, [5]),
        ("a.2", {"a": [5, 6]}, []),
        ("a.0", {"a": [[5, 6]]}, [[5, 6]]),
        ("a.0", {"a": {"0": 5}}, [5]),
        ("a.00", {"a": [5]}, []),
        ("a.0", {"a": [{"0": 4}]}, [4, {"0": 4}]),
        ("a.0.b", {"a": [{"b": 1}, {"b": 2}]}, [MISSING, 1, MISSING]),
        ("a.0.b", {"a": [[{"b": 1}, {"b": 2}]]}, [1, 2]),
        ("a.0.0", {"a": [[7, 8]]}, [7]),
    ],
)
def test_the_values_at_a_path(path, document, expected):
    assert values(path, document) == expected
    assert [value for value, _ in places(document, split(path))] == expected


def test_an_array_can_be_asked_for_as_a_whole():
    assert values("a", {"a": [1, 2]}, expand=False) == [[1, 2]]
    assert values("a.b", {"a": [{"b": [1]}, {"b": 2}]}, expand=False) == [[1], 2]


def test_the_outermost_array_that_was_gone_through_gives_the_place():
    document = {"a": [{"b": [5, 6]}, {"b": [7]}], "c": [8, 9]}
    assert places(document, ("a", "b")) == [(5, 0), (6, 0), ([5, 6], 0), (7, 1), ([7], 1)]
    assert places(document, ("c",)) == [(8, 0), (9, 1), ([8, 9], None)]
    assert places(document, ("a", "0", "b"))[1:3] == [(5, 0), (6, 1)]


def test_a_plain_path_goes_through_numbered_elements_only():
    document = {"a": [{"b": 1}, {"b": 2}]}
    assert get(document, ("a", "1", "b")) == 2
    assert get(document, ("a", "b")) is MISSING
    assert get(document, ("a", "5")) is MISSING


@pytest.mark.parametrize("path", ["", "a..b", ".a", "a.", "a\0b", ".".join("a" * 101)])
def test_a_broken_path_is_refused(path):
    with pytest.raises(OperatorError):
        split(path)
