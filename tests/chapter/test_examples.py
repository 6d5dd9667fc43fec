"""The chapter's programs, rewritten: each runs by itself, twice with the same result, as its page shows it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from consona.chapter import APIError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "chapter"
PROGRAMS = sorted(path.name for path in FOLDER.glob("*.py"))
PAGES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "chapter").glob("*.md")))


def run(name: str) -> str:
    done = subprocess.run(
        [sys.executable, str(FOLDER / name)], capture_output=True, text=True, encoding="utf-8", check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"chapter_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_twice_with_the_result_that_its_page_shows(name):
    [shown] = re.findall(rf"<!-- output of {name} -->\n```text\n(.*?)```", PAGES, re.DOTALL)
    assert run(name) == shown
    assert run(name) == shown


@pytest.fixture
def blog(make_client):
    server = load("blog_server").build({"t-1": {"id": 1, "username": "mira"}})
    api = make_client(server.start())
    yield api
    server.stop()


def test_the_blog_lists_filters_and_limits(blog):
    found = blog.get("/posts", {"author": "mira", "limit": 1})["data"]
    assert (len(found["posts"]), found["filtered"], found["total"]) == (1, 2, 3)


@pytest.mark.parametrize(("path", "status"), [("/posts/99", 404), ("/posts/seven", 400), ("/posts?limit=many", 400)])
def test_the_blog_says_what_is_wrong(blog, path, status):
    with pytest.raises(APIError) as caught:
        blog.get(path)
    assert caught.value.status_code == status


@pytest.mark.parametrize(("method", "path"), [("POST", "/posts"), ("PUT", "/posts/1"), ("DELETE", "/posts/1")])
def test_the_blog_is_written_by_those_alone_who_may(blog, method, path):
    with pytest.raises(APIError) as caught:
        blog.make_request(method, path, {"title": "x", "content": "y"}, {"Authorization": "Bearer valid-jwt-token"})
    assert caught.value.status_code == 401
    assert blog.get("/posts")["data"]["total"] == 3


def test_what_is_written_to_the_blog_is_there(blog):
    blog.add_auth_header("bearer", "t-1")
    number = blog.post("/posts", {"title": "Watering", "content": "In the morning."})["data"]["post"]["id"]
    blog.put(f"/posts/{number}", {"title": "Watering less"})
    assert blog.get(f"/posts/{number}")["data"]["post"] == {
        "id": number,
        "title": "Watering less",
        "content": "In the morning.",
        "author": "mira",
    }
    blog.delete(f"/posts/{number}")
    with pytest.raises(APIError):
        blog.get(f"/posts/{number}")
    assert blog.get("/stats")["data"]["posts"] == 3


def test_the_social_service_lets_nobody_choose_an_author(make_client):
    program = load("social_media_client")
    server = program.build_service({"t-1": {"id": 7, "username": "lotte"}})
    try:
        with program.build_client(server.start()) as api:
            api.add_auth_header("bearer", "t-1")
            assert api.post("/posts", {"content": "x", "author": "noor"})["data"]["author"] == "lotte"
            assert api.put("/posts/4", {"author": "noor", "id": 1})["data"]["author"] == "lotte"
    finally:
        server.stop()
