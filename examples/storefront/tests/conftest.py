"""Each test has a shop of its own, in memory, and a client that talks to it without a socket."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from consona import APIClient

sys.path.insert(0, str(Path(__file__).parents[1]))

from storefront.api import create_api


@pytest.fixture
async def shop() -> AsyncIterator[APIClient]:
    async with create_api(f"sqlite://{uuid4().hex}").test_client() as client:
        yield client
