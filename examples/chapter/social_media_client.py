"""The chapter's social-media program: a client of a service for short posts, with the chapter's own classes.

    python examples/chapter/social_media_client.py

The service is below, in `build_service`. It is small and it is real: it listens at an address of this
machine, wants a token, and is out of order for the first request that reads posts.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from typing import Any

from consona.chapter import APIClient, APIError, APIServer, RouteNotFoundError, ValidationError, narrate, show, think

Info = dict[str, Any]


def build_service(tokens: dict[str, Info], *, port: int = 0) -> APIServer:
    """A service for short posts.

    Args:
        tokens: The user for each token.
        port: 0 for any free one.
    """
    server = APIServer("localhost", port, "social media")
    lock = threading.Lock()  # handlers run in several threads at once
    posts: list[Info] = [
        {"id": 1, "author": "noor", "content": "First frost tonight", "tags": ["weather"]},
        {"id": 2, "author": "pim", "content": "The library has new opening hours", "tags": ["town", "books"]},
        {"id": 3, "author": "noor", "content": "Looking for a second-hand bicycle", "tags": ["market"]},
    ]
    failures = itertools.count()

    def out_of_order_once(request_info: Info) -> Info | None:
        if request_info["method"] == "GET" and request_info["path"] == "/posts" and next(failures) == 0:
            return {"block": True, "status_code": 503, "message": "Back in a moment"}
        return None

    def list_posts(request_info: Info) -> Info:
        limit = request_info["query_params"].get("limit", "10")
        if not limit.isdecimal():
            raise ValidationError("The limit is a number.")
        with lock:
            newest_first = sorted(posts, key=lambda post: -post["id"])
            return {"items": newest_first[: int(limit)]}

    def search_posts(request_info: Info) -> Info:
        words = request_info["query_params"].get("q", "").lower()
        with lock:
            return {"items": [post for post in posts if words in post["content"].lower() or words in post["tags"]]}

    def create_post(request_info: Info) -> Info:
        data = request_info["data"]
        if not isinstance(data, dict) or not data.get("content"):
            raise ValidationError("A post needs a content.")
        with lock:
            post = {
                "id": len(posts) + 1,
                "author": request_info["user"]["username"],
                "content": data["content"],
                "tags": data.get("tags", []),
            }
            posts.append(post)
        return post

    def update_post(request_info: Info) -> Info:
        number = request_info["path_params"]["id"]
        data = request_info["data"]
        if not isinstance(data, dict):
            raise ValidationError("Send what to change: a content, tags, or both.")
        with lock:
            for post in posts:
                if str(post["id"]) == number:
                    post.update({field: data[field] for field in ("content", "tags") if field in data})
                    return post
        raise RouteNotFoundError(f"There is no post {number}.")

    def broken(_: Info) -> None:
        raise RuntimeError("this part of the service has a mistake in it")

    server.add_middleware(out_of_order_once, "out of order once")
    server.set_token_verifier(lambda token: {"valid": token in tokens, "user": tokens.get(token)})
    server.get("/users/me", lambda request_info: request_info["user"], auth_required=True)
    server.get("/posts", list_posts, auth_required=True)
    server.get("/posts/search", search_posts, auth_required=True)
    server.post("/posts", create_post, auth_required=True)
    server.put("/posts/{id}", update_post, auth_required=True)
    server.get("/trends", broken, auth_required=True)
    return server


def build_client(url: str) -> APIClient:
    """A client with a handler for each kind of trouble that the program knows what to do about."""
    api = APIClient(
        base_url=url,
        default_headers={"Content-Type": "application/json", "User-Agent": "NeighbourApp/1.0"},
        timeout=30,
        retry_config={"max_retries": 3, "backoff_factor": 0.01},  # short waits: the service is on this machine
    )
    api.register_error_handler(401, lambda _: {"error": "auth_required", "data": "Please log in first"})
    api.register_error_handler(429, lambda _: {"error": "rate_limited", "data": "Too many requests"})
    api.register_error_handler(500, lambda _: {"error": "server_error", "data": "Not available at the moment"})
    return api


def use(api: APIClient, token: str) -> None:
    """What somebody does with the service."""
    show("Without a login:", api.get("/users/me", None, None)["data"])
    api.add_auth_header("bearer", token)
    show("With one:", api.get("/users/me", None, None)["data"]["username"])

    think("The service is out of order for the first of these; the client asks again by itself.")
    posts = api.get("/posts", {"limit": 2, "sort": "recent"}, None)
    show("Recent posts:", [post["content"] for post in posts["data"]["items"]])
    show("That took", api.get_request_history()[-1]["attempt"], "attempts")

    created = api.post("/posts", {"content": "Apples to give away", "tags": ["garden"]}, None)
    show("Created post", created["data"]["id"], "by", created["data"]["author"])
    updated = api.put("/posts/4", {"content": "Apples and pears to give away"}, None)
    show("Updated:", updated["data"]["content"])
    found = api.get("/posts/search", {"q": "garden", "limit": 5}, None)
    show("Found:", len(found["data"]["items"]), "post")
    show("Trends:", api.get("/trends", None, None)["data"])
    try:
        api.put("/posts/99", {"content": "Nobody will read this"}, None)
    except APIError as error:
        show("Status", error.status_code, "with the message:", error.response["data"]["message"])


def main() -> None:
    token = secrets.token_urlsafe(32)
    narrate()
    server = build_service({token: {"id": 7, "username": "lotte"}})
    url = server.start()
    with build_client(url) as api:
        use(api, token)
        history = api.get_request_history()
        show("Requests:", len(history))
        show("Success rate:", round(api.get_success_rate(), 1), "percent")
        for request in history[-3:]:
            show(
                " ",
                request["method"],
                request["url"].removeprefix(url),
                "succeeded" if request["success"] else "failed",
            )
        show("The token in the history:", request["headers"]["Authorization"])
    server.stop()


if __name__ == "__main__":
    main()
