"""A user's program with a mistake on each marked line. The type checker must see every one."""

from __future__ import annotations

import msgspec

from consona import APIClient, APIServer, Policy, Retry


class Post(msgspec.Struct):
    id: int


api = APIServer("blog")


@api.get("/posts/{id}", rolls={"editor"})  # wrong: call-arg
async def read_post(id: int) -> Post:
    return Post(id)


@Policy(timeout=2.0)
async def price(name: str) -> float:
    return float(len(name))


async def mistakes() -> None:
    async with APIClient("https://api.example.com", policy=Retry()) as client:  # wrong: arg-type
        title: str = await client.get("/posts/7", into=Post)  # wrong: arg-type
        await client.get("/posts", parms={"page": 1})  # wrong: call-overload
        await price(7)  # wrong: arg-type
        print(title)
