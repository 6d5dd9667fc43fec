"""What is declared goes out and nothing beside it: not from a subclass, however deep it sits."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any, Generic, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

import msgspec
import pytest

from asgi_call import call
from consona.errors import ConfigurationError
from consona.rest.server.api_server import APIServer
from consona.rest.server.declared import exact_test, narrower
from consona.rest.server.events import Event
from consona.rest.server.pagination import Page
from consona.rest.server.responses import Response

Item = TypeVar("Item")


class User(msgspec.Struct):
    name: str


class Stored(User):
    """What the database holds."""

    password_hash: str = "$argon2id$"


@dataclasses.dataclass(slots=True, frozen=True)
class Author:
    user: User


@dataclasses.dataclass
class StoredAuthor:
    user: User
    email: str = "private@example.org"


class Size(TypedDict):
    owner: User
    height: NotRequired[int]


class Pair(NamedTuple):
    first: User
    second: int


class Tree(msgspec.Struct, frozen=True):
    user: User
    branches: list[Tree] = []


class Box(msgspec.Struct, Generic[Item]):
    held: Item


class Cat(msgspec.Struct, tag=True):
    owner: User


class Dog(msgspec.Struct, tag=True):
    owner: User


class Post(msgspec.Struct, rename="camel"):
    first_author: User
    maybe: User | msgspec.UnsetType = msgspec.UNSET
    any_thing: Any = None
    made = 0

    def __post_init__(self) -> None:
        type(self).made += 1


HIDING = [
    (User, Stored("a"), {"name": "a"}),
    (list[User], [User("a"), Stored("b")], [{"name": "a"}, {"name": "b"}]),
    (list[User], (Stored("b"),), [{"name": "b"}]),
    (tuple[User, ...], (Stored("b"),), [{"name": "b"}]),
    (tuple[User, int], (Stored("b"), 1), [{"name": "b"}, 1]),
    (dict[str, User], {"x": Stored("a")}, {"x": {"name": "a"}}),
    (dict[str, list[User]], {"x": [Stored("a")]}, {"x": [{"name": "a"}]}),
    (User | None, Stored("a"), {"name": "a"}),
    (list[User | None], [None, Stored("a")], [None, {"name": "a"}]),
    (User | list[User], [Stored("a")], [{"name": "a"}]),
    (Author, Author(Stored("a")), {"user": {"name": "a"}}),
    (list[Author], [Author(User("a")), Author(Stored("b"))], [{"user": {"name": "a"}}, {"user": {"name": "b"}}]),
    (Author, StoredAuthor(Stored("a")), {"user": {"name": "a"}}),
    (Size, {"owner": Stored("a"), "secret": 1}, {"owner": {"name": "a"}}),
    (list[Size], [{"owner": User("a"), "height": 2, "secret": 1}], [{"owner": {"name": "a"}, "height": 2}]),
    (Pair, Pair(Stored("a"), 2), [{"name": "a"}, 2]),
    (Tree, Tree(User("a"), [Tree(Stored("b"))]), None),
    (Box[User], Box(Stored("a")), {"held": {"name": "a"}}),
    (Box[Box[User]], Box(Box(Stored("a"))), {"held": {"held": {"name": "a"}}}),
    (Page[Author], Page([Author(Stored("a"))], total=1), {"items": [{"user": {"name": "a"}}], "total": 1}),
    (Cat | Dog, Dog(Stored("a")), {"type": "Dog", "owner": {"name": "a"}}),
    (list[Cat | Dog], [Cat(Stored("a"))], [{"type": "Cat", "owner": {"name": "a"}}]),
    (Post, Post(Stored("a"), Stored("b")), {"firstAuthor": {"name": "a"}, "maybe": {"name": "b"}, "anyThing": None}),
    (Post | Response, Post(Stored("a")), {"firstAuthor": {"name": "a"}, "anyThing": None}),
]


async def answer_to(declared: Any, result: Any, **request: Any) -> Any:
    api = APIServer("t")

    async def handler() -> Any:
        return result

    handler.__annotations__["return"] = declared
    api.get("/x")(handler)
    async with api:
        return await call(api, "GET", "/x", **request)


@pytest.mark.parametrize(("declared", "result", "shown"), HIDING, ids=range(len(HIDING)))
async def test_a_subclass_shows_no_more_than_the_declared_class(declared, result, shown):
    answer = await answer_to(declared, result)
    assert answer.status == 200, answer.body
    assert b"argon2id" not in answer.body
    assert shown is None or answer.json() == shown
    packed = await answer_to(declared, result, headers={"accept": "application/msgpack"})
    assert msgspec.msgpack.decode(packed.body) == answer.json()


@pytest.mark.parametrize(("declared", "result", "shown"), HIDING, ids=range(len(HIDING)))
def test_what_was_narrowed_is_exact_and_the_handlers_value_stays_as_it_was(declared, result, shown):
    if declared == Post | Response:
        return
    before = repr(result)
    names: dict[str, Any] = {}
    test = exact_test(declared, "value", names)
    assert not eval(test, names, {"value": result})
    narrow = narrower(declared)(result)
    if "False" not in test:  # a dict may always hold more
        assert eval(test, names, {"value": narrow})
    assert repr(result) == before


EXACT = [
    (User, User("a")),
    (list[User], []),
    (User | None, None),
    (Author, Author(User("a"))),
    (Tree, Tree(User("a"), [Tree(User("b"), [Tree(User("c"))])])),
    (Page[Author], Page([Author(User("a"))])),
    (Cat | Dog, Dog(User("a"))),
    (dict[str, tuple[User, int]], {"x": (User("a"), 1)}),
    (User | list[User] | int, 7),
]


@pytest.mark.parametrize(("declared", "value"), EXACT, ids=range(len(EXACT)))
def test_what_is_exact_goes_out_untouched(declared, value):
    names: dict[str, Any] = {}
    assert eval(exact_test(declared, "value", names), names, {"value": value})


@pytest.mark.parametrize("declared", [int, str, list[int], dict[str, Any], Any, object, Literal["a"], int | None])
def test_where_nothing_can_be_more_nothing_is_looked_at(declared):
    assert exact_test(declared, "value", {}) == ""


async def test_nothing_of_the_class_runs_again():
    post = Post(Stored("a"))
    made = Post.made
    assert (await answer_to(Post, post)).json()["firstAuthor"] == {"name": "a"}
    assert Post.made == made


@pytest.mark.parametrize(
    ("declared", "result"),
    [
        (Box[User], Box("text")),
        (Box[list[User]], Box(User("a"))),
        (Box[dict[str, User]], Box([User("a")])),
        (Box[tuple[User, int]], Box((User("a"),))),
        (Box[User | None], Box(StoredAuthor(User("a")))),
        (Box[Cat | Dog], Box(User("a"))),
    ],
    ids=range(6),
)
async def test_what_cannot_be_what_is_declared_is_the_servers_fault(declared, result):
    answer = await answer_to(declared, result)
    assert (answer.status, answer.json()["code"]) == (500, "rest.answer_mismatch")
    assert b"private" not in answer.body


async def test_a_union_that_nothing_can_tell_apart_is_refused_at_start():
    api = APIServer("t")

    @api.get("/x")
    async def handler() -> User | Box[int]: ...

    with pytest.raises(ConfigurationError, match=r"GET /x .*its answer cannot be declared so"):
        await api.start()


async def test_a_field_whose_type_cannot_be_found_is_refused_at_start():
    class Inner(msgspec.Struct): ...

    class Outer(msgspec.Struct):
        inner: Inner  # a name of this function, which nobody can look up from outside

    api = APIServer("t")

    @api.get("/x")
    async def handler() -> Outer: ...

    with pytest.raises(ConfigurationError, match=r"GET /x .*cannot be found: name 'Inner' is not defined"):
        await api.start()


async def test_events_show_no_more_either():
    api = APIServer("t")

    @api.get("/plain")
    async def plain() -> AsyncIterator[User]:
        yield User("a")
        yield Stored("b")

    @api.get("/events")
    async def events() -> AsyncIterator[Event[Author]]:
        yield Event(Author(Stored("a")), event="new", id="1")
        yield Event(id="2")

    async with api:
        answer = await call(api, "GET", "/plain")
        assert answer.body == b'data: {"name":"a"}\n\ndata: {"name":"b"}\n\n'
        answer = await call(api, "GET", "/events")
        assert answer.body == b'event: new\nid: 1\ndata: {"user":{"name":"a"}}\n\nid: 2\n\n'
