"""The chapter's blog: a small server for posts and their comments, with the chapter's own classes.

    python examples/chapter/blog_server.py            # a tour, with the same result each time
    python examples/chapter/blog_server.py --serve    # listens until you press Enter

The tour asks in the process first, then over a real connection.
"""

from __future__ import annotations

import itertools
import secrets
import sys
import threading
from typing import Any

from consona.chapter import APIClient, APIServer, RouteNotFoundError, ValidationError, narrate, show

Info = dict[str, Any]


class Blog:
    """Posts and comments in memory. Handlers run in several threads at once, so a lock guards them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.numbers = itertools.count(4)
        self.posts: dict[int, Info] = {
            1: {"id": 1, "title": "Sowing beans", "content": "Wait until the soil is warm.", "author": "mira"},
            2: {"id": 2, "title": "Making compost", "content": "Green and brown in equal parts.", "author": "tom"},
            3: {"id": 3, "title": "Saving seeds", "content": "Let a few plants flower.", "author": "mira"},
        }
        self.comments: list[Info] = [
            {"id": 1, "post_id": 1, "author": "lea", "content": "Mine came up after a week."},
            {"id": 2, "post_id": 1, "author": "sam", "content": "How deep?"},
            {"id": 3, "post_id": 2, "author": "lea", "content": "It worked."},
        ]

    def find(self, request_info: Info) -> Info:
        number = request_info["path_params"]["id"]
        if not number.isdecimal():
            raise ValidationError("The number of a post is made of digits.")
        post = self.posts.get(int(number))
        if post is None:
            raise RouteNotFoundError(f"There is no post {number}.")
        return post

    # What the routes call.

    def list_posts(self, request_info: Info) -> Info:
        limit = request_info["query_params"].get("limit", "10")
        author = request_info["query_params"].get("author")
        if not limit.isdecimal():
            raise ValidationError("The limit is a number.")
        with self.lock:
            found = [post for post in self.posts.values() if author in {None, post["author"]}]
            return {"posts": found[: int(limit)], "total": len(self.posts), "filtered": len(found)}

    def read_post(self, request_info: Info) -> Info:
        with self.lock:
            post = self.find(request_info)
            comments = [comment for comment in self.comments if comment["post_id"] == post["id"]]
            return {"post": post, "comments": comments, "comment_count": len(comments)}

    def create_post(self, request_info: Info) -> Info:
        data = request_info["data"]
        for field in ("title", "content"):
            if not isinstance(data, dict) or not data.get(field):
                raise ValidationError(f"The post needs a {field}.")
        with self.lock:
            post = {
                "id": next(self.numbers),
                "title": data["title"],
                "content": data["content"],
                "author": request_info["user"]["username"],
            }
            self.posts[post["id"]] = post
        return {"message": "The post is published", "post": post}

    def update_post(self, request_info: Info) -> Info:
        data = request_info["data"]
        if not isinstance(data, dict):
            raise ValidationError("Send what to change: a title, a content, or both.")
        with self.lock:
            post = self.find(request_info)
            post.update({field: data[field] for field in ("title", "content") if field in data})
            return {"message": "The post is changed", "post": post}

    def delete_post(self, request_info: Info) -> Info:
        with self.lock:
            post = self.find(request_info)
            del self.posts[post["id"]]
            self.comments = [comment for comment in self.comments if comment["post_id"] != post["id"]]
            return {"message": "The post is gone", "deleted_post": post}


def build(tokens: dict[str, Info], *, host: str = "localhost", port: int = 0, limit: int = 1000) -> APIServer:
    """The blog's server.

    Args:
        tokens: Who may write: the user for each token.
        host: Where it listens.
        port: 0 for any free port.
        limit: So many requests it answers for one address; after that it says 429.
    """
    blog = Blog()
    server = APIServer(host, port, "blog")
    counted: dict[str, int] = {}
    counting = threading.Lock()

    def log_request(request_info: Info) -> Info:
        show("  request:", request_info["method"], request_info["path"])
        return {"updates": {"logged": True}}

    def limit_requests(request_info: Info) -> Info:
        with counting:
            number = counted[request_info["ip"]] = counted.get(request_info["ip"], 0) + 1
        if number > limit:
            return {"block": True, "status_code": 429, "message": "That was a lot. Please come back later."}
        return {"updates": {"requests_left": limit - number}}

    def invalid(error: ValidationError, request_info: Info) -> Info:
        data = {"error": "Validation Error", "message": str(error), "path": request_info["path"]}
        return {"status_code": 400, "data": data, "headers": {"Content-Type": "application/json"}}

    def who(token: str) -> Info:
        user = tokens.get(token)
        return {"valid": user is not None, "user": user}

    server.add_middleware(log_request, "request logger")
    server.add_middleware(limit_requests, "rate limiter")
    server.register_error_handler(ValidationError, invalid)
    server.set_token_verifier(who)
    server.get("/posts", blog.list_posts)
    server.get("/posts/{id}", blog.read_post)
    server.post("/posts", blog.create_post, auth_required=True)
    server.put("/posts/{id}", blog.update_post, auth_required=True)
    server.delete("/posts/{id}", blog.delete_post, auth_required=True)
    server.get("/stats", lambda _: {"server": server.get_server_stats(), "posts": len(blog.posts)})
    return server


def ask_in_process(server: APIServer, token: str) -> None:
    """Each request goes through the whole server, without a connection."""
    login = {"Authorization": f"Bearer {token}"}
    new = {"title": "Watering", "content": "In the morning, and seldom but well."}

    answer = server.process_request("GET", "/posts", {}, None, {"limit": "2"})
    show("All posts:", answer["data"]["total"], "of which", len(answer["data"]["posts"]), "are shown")
    answer = server.process_request("GET", "/posts/1")
    show("Post 1:", answer["data"]["post"]["title"], "with", answer["data"]["comment_count"], "comments")
    answer = server.process_request("POST", "/posts", login, new)
    show("Published by", answer["data"]["post"]["author"] + ":", answer["data"]["post"]["title"])
    answer = server.process_request("PUT", "/posts/1", login, {"title": "Sowing beans and peas"})
    show("Changed:", answer["data"]["post"]["title"])
    answer = server.process_request("DELETE", "/posts/2", login)
    show("Deleted:", answer["data"]["deleted_post"]["title"])
    answer = server.process_request("POST", "/posts", login, {"title": "No content"})
    show("Without content:", answer["status_code"], answer["data"]["message"])
    answer = server.process_request("POST", "/posts", {"Authorization": "Bearer somebody-elses"}, new)
    show("With a wrong token:", answer["status_code"], answer["data"]["error"])
    answer = server.process_request("GET", "/no-such-page")
    show("An unknown path:", answer["status_code"], answer["data"]["error"])


def ask_over_a_connection(server: APIServer, token: str) -> None:
    """The same server, at an address of this machine."""
    with APIClient(server.start(), retry_config={"max_retries": 0}) as client:
        client.add_auth_header("bearer", token)
        show("Over a connection:", client.get("/posts/4")["data"]["post"]["title"])
        client.register_error_handler(429, lambda answer: answer)
        answer = client.get("/posts", {"author": "mira"})
        while answer["status_code"] == 200:
            answer = client.get("/posts", {"author": "mira"})
        show("One request too many:", answer["status_code"], answer["data"]["error"])
    server.stop()


def main() -> None:
    token = secrets.token_urlsafe(32)
    writers = {token: {"id": 1, "username": "mira"}}
    narrate()
    if "--serve" in sys.argv:
        server = build(writers, port=8080)
        show("The blog is at", server.start() + "/posts")
        print("To write, send the header  Authorization: Bearer", token)  # `show` would mask it, as it masks any token
        input("Press Enter to stop.\n")
        server.stop()
        return
    server = build(writers, limit=11)
    ask_in_process(server, token)
    ask_over_a_connection(server, token)
    stats = server.get_server_stats()
    show("Requests:", stats["total_requests"])
    show("Successful:", stats["successful_requests"], "Failed:", stats["failed_requests"])
    show("Success rate:", round(stats["success_rate"], 1), "percent")
    for entry in server.get_request_log()[-3:]:
        success = "succeeded" if entry["response"]["success"] else "failed"
        show(" ", entry["request"]["method"], entry["request"]["path"], success, entry["response"]["status_code"])


if __name__ == "__main__":
    main()
