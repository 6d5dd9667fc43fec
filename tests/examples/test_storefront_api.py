"""The storefront keeps what its OpenAPI document says, whatever it is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from processes import Command
from storefront.api import create_api

STOREFRONT = Path(__file__).parents[2] / "examples" / "storefront"


@pytest.fixture(scope="module")
def shop() -> str:
    """The address of a shop with goods in memory, served as anybody would serve it."""
    options = ("--port", 0, "--no-access-log")
    with Command(
        "run", "storefront.api:api", *options, folder=STOREFRONT, env={"CONSONA_DATABASE": "sqlite://"}
    ) as command:
        yield command.line("Serving ").partition(" at ")[2].split()[0]


def test_its_document_is_valid_openapi_3_1():
    document = create_api("sqlite://").openapi()
    assert document["openapi"].startswith("3.1")
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())


def test_everything_in_the_document_is_described():
    document = create_api("sqlite://").openapi()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == 10
    assert all(operation["summary"] and operation["tags"] for operation in operations)


def test_schemathesis_finds_no_failure(shop, tmp_path):
    """Examples, boundary values, thousands of made-up requests good and bad, and chains of them."""
    found = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{shop}/openapi.json"),
            *("--max-examples", "15", "--generation-deterministic", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout[-8000:] + found.stderr[-2000:]
    assert "Tested: 10" in found.stdout
