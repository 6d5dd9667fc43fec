"""What the chapter's tests share: servers and clients of the chapter, closed when the test is over."""

from __future__ import annotations

import pytest

from consona.chapter import APIClient, APIServer, narrate


@pytest.fixture
def make_server():
    made: list[APIServer] = []

    def make(**options) -> APIServer:
        made.append(APIServer(options.get("host", "localhost"), options.get("port", 0), options.get("name", "test")))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def server(make_server):
    return make_server()


@pytest.fixture
def make_client():
    made: list[APIClient] = []

    def make(url: str, *arguments, **options) -> APIClient:
        options.setdefault("retry_config", {"max_retries": 2, "backoff_factor": 0})
        made.append(APIClient(url, *arguments, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture(autouse=True)
def silent():
    narrate(False)  # a page of the docs may have asked for it in this process
    yield
    narrate(False)
