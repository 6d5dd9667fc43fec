"""`consona client`: writes a module, says what it could not follow, and never harms a file."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from consona.cli import main

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "My shop", "version": "1"},
    "servers": [{"url": "https://shop.example"}],
    "paths": {
        "/items/{id}": {
            "get": {
                "operationId": "readItem",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}],
                "responses": {
                    "200": {"description": "It.", "content": {"application/json": {"schema": {"$ref": "#/x"}}}}
                },
            }
        }
    },
}


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(DOCUMENT), encoding="utf-8")
    return path


def client(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["client", *map(str, arguments)])
    return int(caught.value.code or 0)


def test_it_writes_a_module_and_says_what_it_could_not_follow(document, tmp_path, capsys):
    output = tmp_path / "shop_client.py"
    assert client(document, "--output", output, "--name", "ShopClient") == 0
    said = capsys.readouterr()
    lines = output.read_text(encoding="utf-8").count("\n")
    assert said.out == f"Wrote {output}: ShopClient, {lines} lines, 1 notes.\n"
    assert said.err.startswith("Note: #/paths/~1items~1{id}/get/responses/200/content/application~1json/schema/$ref ")
    assert list(tmp_path.glob(".*")) == []


def test_the_written_module_can_be_used(document, tmp_path):
    client(document, "--output", tmp_path / "shop_client.py")
    code = "import shop_client; print(shop_client.MyShopClient().api.base, shop_client.MyShopClient.read_item.__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "https://shop.example read_item\n"


def test_without_a_file_the_module_is_printed(document, capsys):
    assert client(document) == 0
    assert "class MyShopClient(Operations):" in capsys.readouterr().out


def test_programs_get_json(document, tmp_path, capsys):
    assert client(document, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["name"] == "MyShopClient"
    assert told["notes"][0]["message"] == "'#/x' leads nowhere"
    assert "class MyShopClient" in told["source"]
    assert client(document, "--json", "--output", tmp_path / "a.py") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"name", "notes", "output"}


def test_standard_input_is_read(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(DOCUMENT).encode())))
    assert client("-", "--name", "Shop") == 0
    assert "class Shop(Operations):" in capsys.readouterr().out


def test_check_tells_whether_the_file_is_up_to_date(document, tmp_path, capsys):
    output = tmp_path / "shop_client.py"
    assert client(document, "-o", output, "--check") == 1
    client(document, "-o", output)
    assert client(document, "-o", output, "--check") == 0
    output.write_text(output.read_text("utf-8") + "\n", encoding="utf-8")
    capsys.readouterr()
    assert client(document, "-o", output, "--check") == 1
    assert capsys.readouterr().out == f"{output} is not up to date: write it again.\n"
    assert client(document, "-o", output, "--check", "--json") == 1
    assert json.loads(capsys.readouterr().out)["up_to_date"] is False
    assert client(document, "--check") == 2


def test_it_writes_over_its_own_files_and_no_others(document, tmp_path, capsys):
    output = tmp_path / "shop_client.py"
    assert client(document, "-o", output) == 0
    assert client(document, "-o", output) == 0
    output.write_text("mine = 1\n", encoding="utf-8")
    assert client(document, "-o", output) == 2
    assert "was not written by this command" in capsys.readouterr().err
    assert output.read_text("utf-8") == "mine = 1\n"


def test_a_document_that_is_none_names_its_faults(tmp_path, capsys):
    wrong = tmp_path / "wrong.json"
    wrong.write_text('{"swagger": "2.0", "paths": {}}', encoding="utf-8")
    assert client(wrong, "-o", tmp_path / "x.py") == 1
    assert "#/openapi is None, expected 3.0.x or 3.1.x" in capsys.readouterr().err
    assert not (tmp_path / "x.py").exists()


@pytest.mark.parametrize("arguments", [["nowhere.json"], ["."], ["openapi.json", "-o", "nowhere/x.py"]])
def test_files_that_cannot_be_read_or_written_are_told(document, monkeypatch, tmp_path, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    assert client(*arguments) == 2
    assert "cannot be" in capsys.readouterr().err


def test_a_name_that_is_none_is_told(document, capsys):
    assert client(document, "--name", "my shop") == 2
    assert "name of a class" in capsys.readouterr().err
