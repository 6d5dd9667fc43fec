"""A user's program, as the strict type checker sees it. It is checked, not run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, assert_type

import msgspec

from consona import APIClient, APIServer, Bearer, Breaker, CurrentUser, Health, NotFound, Policy, Retry
from consona.rest.client.response import Response


class Post(msgspec.Struct):
    id: int
    title: str


class User(msgspec.Struct):
    name: str


async def client() -> None:
    policy = Policy(timeout=30, retry=Retry(attempts=4, backoff=2.0), breaker=Breaker())
    async with APIClient("https://api.example.com/v1", auth=Bearer("token"), policy=policy) as api:
        assert_type(api, APIClient)
        assert_type(await api.get("/posts/7", into=Post), Post)
        assert_type(await api.get("/posts", into=list[Post]), list[Post])
        assert_type(await api.post("/posts", json=Post(1, "Hello"), into=Post), Post)
        reply = await api.post("/posts", json={"title": "Hello"})
        assert_type(reply, Response)
        assert_type(reply.status, int)
        assert_type(reply.json(into=Post), Post)
        assert_type(api.pages("/posts", into=Post), AsyncIterator[Post])
        async for post in api.pages("/posts", into=Post):
            assert_type(post, Post)
        assert_type(api.stats.success_rate, float)
        assert_type(api.history[-1].operation, str)
        assert_type(await api.check(), Health)


api = APIServer("blog")


@api.get("/posts/{id}")
async def read_post(id: int, limit: int = 10) -> Post:
    if limit < 1:
        raise NotFound("There is nothing to see.", limit=limit)
    return Post(id, "Hello")


@api.post("/posts", status=201, roles={"editor"})
async def create_post(post: Post, user: CurrentUser[User]) -> Post:
    assert_type(user, User)
    return post


async def handlers_keep_their_types() -> None:
    assert_type(await read_post(1, limit=3), Post)


@Policy(timeout=2.0)
async def price(name: str) -> float:
    return float(len(name))


async def under_policy() -> None:
    assert_type(await price("tea"), float)
    assert_type(price.policy_state(), dict[str, Any])
    runner = Policy(retry=Retry()).bind("prices")
    assert_type(await runner.run(lambda: price("tea"), key="tea"), float)
