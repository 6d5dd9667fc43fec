"""Real public documents: a client is written, formatted, checked strictly, and calls every operation of a double."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

from consona import APIClient
from consona.rest.client.asgi_transport import ASGITransport
from consona.rest.openapi_client import generate, read_document
from consona.rest.openapi_client.document import Document
from consona.rest.openapi_client.naming import Names, class_name, name_in_group
from consona.rest.openapi_client.operations import read_operations
from consona.rest.openapi_client.schemas import Schemas
from openapi_double import Double
from written import load, written

FOLDER = Path(__file__).with_name("documents")
FILES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in {".json", ".yaml"})
COUNTS = {"mcp-registry.yaml": 2, "ory-hydra.json": 52, "ory-keto.json": 15, "qdrant.json": 32, "uspto.yaml": 3}


def read(name: str) -> dict[str, Any]:
    return read_document((FOLDER / name).read_bytes())


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """All clients, written to a folder of their own."""
    folder = tmp_path_factory.mktemp("clients")
    for name in FILES:
        made = generate((FOLDER / name).read_bytes())
        (folder / f"{Path(name).stem.replace('-', '_')}_client.py").write_text(made.source, encoding="utf-8")
    return folder


def run(*command: str, folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_formatter_of_ruff_changes_nothing(sources):
    run("ruff", "format", "--isolated", "--check", "--diff", ".", folder=sources)


def test_the_default_rules_of_ruff_find_nothing(sources):
    run("ruff", "check", "--isolated", ".", folder=sources)


def test_the_strict_type_checker_finds_nothing(sources):
    run("mypy", "--strict", "--config-file=", ".", folder=sources)


@pytest.mark.parametrize("name", FILES)
def test_the_same_document_gives_the_same_bytes(name):
    data = (FOLDER / name).read_bytes()
    assert generate(data) == generate(read(name))
    code = (
        "import sys; from consona.rest.openapi_client import generate;"
        "sys.stdout.buffer.write(generate(open(sys.argv[1], 'rb').read()).source.encode())"
    )
    for seed in "01":  # sets have another order
        done = subprocess.run(
            [sys.executable, "-c", code, FOLDER / name], capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert done.stdout.decode() == generate(data).source


@pytest.mark.parametrize("name", FILES)
def test_msgspec_takes_every_type(name):
    module = written(read(name))
    for each in module.__all__:
        if not inspect.isfunction(kind := getattr(module, each)) and not hasattr(kind, "_send"):
            msgspec.json.Decoder(kind)


@pytest.mark.parametrize("name", FILES)
async def test_every_operation_of_a_double_is_called_as_the_document_wants(name):
    document = read(name)
    made = generate(document)
    module = load(made.source)
    double = Double(document)
    operations = _operations(document)
    assert len(operations) == COUNTS[name]
    async with module.__dict__[made.name](APIClient("http://double", transport=ASGITransport(double))) as client:
        for full in (True, False):
            for operation in operations:
                owner = _owner(client, operation.name)
                method = getattr(owner, operation.name)
                arguments = _arguments(double, operation, method, module, full=full)
                answer = await method(**arguments)
                hints = get_type_hints(method, module.__dict__)
                msgspec.convert(msgspec.to_builtins(answer), hints["return"]) if hints["return"] is not bytes else None
    assert double.problems == [], "\n".join(double.problems)
    assert len(set(double.calls)) == len(operations)


def _operations(document: dict[str, Any]) -> list[Any]:
    """The operations under the names that their methods have."""
    found = Document(document)
    operations = read_operations(found, Schemas(found))
    taken: dict[str, Names] = {}
    groups = {operation.group for operation in operations}
    for operation in operations:
        key = operation.group if len(operations) >= 12 and len(groups) > 1 else ""
        name = name_in_group(operation.name, key) if key else operation.name
        operation.name = taken.setdefault(key, Names({"api"})).take(name)
    return operations


def _owner(client: Any, name: str) -> Any:
    places = [client, *(value for value in vars(client).values() if hasattr(value, "_send"))]
    return next(place for place in places if hasattr(type(place), name))


def _arguments(double: Double, operation: Any, method: Any, module: Any, *, full: bool) -> dict[str, Any]:
    """A sample for each argument, of the type that it has."""
    hints = get_type_hints(method, module.__dict__)
    raw = double.document["paths"][operation.template][operation.method.lower()]
    item = double.document["paths"][operation.template]
    schemas = {
        (each["name"], each["in"]): each.get("schema", {})
        for each in (double.at(p) for p in (*item.get("parameters", []), *raw.get("parameters", [])))
    }
    arguments = {}
    for parameter in operation.parameters:
        if parameter.required or full:
            value = double.sample(schemas[parameter.wire, parameter.place])
            arguments[parameter.name] = msgspec.convert(value, hints[parameter.name])
    if operation.body is not None and (operation.body.required or full):
        content = double.at(raw["requestBody"])["content"]
        if operation.body.argument == "content":
            arguments["content"] = b"text"
            if operation.body.free_type:
                arguments["content_type"] = next(iter(content))
        else:
            media = next((each for each in content if "json" in each), next(iter(content)))
            value = double.sample(content[media].get("schema", {}), full=full)
            arguments["body"] = msgspec.convert(value, _first(hints["body"]))
    return arguments


def _first(hint: Any) -> Any:
    """Of several structs that a body may be, the one that stands for all; msgspec cannot read a union of them."""
    members = getattr(hint, "__args__", ())
    structs = [each for each in members if isinstance(each, type) and issubclass(each, msgspec.Struct)]
    return structs[0] if len(structs) > 1 and not any(each.__struct_config__.tag for each in structs) else hint


def test_readers_see_where_the_documents_are_from():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in FILES)
    assert all((FOLDER / name).stat().st_size < 150_000 for name in FILES)
    assert class_name(json.dumps("x")) == "X"
