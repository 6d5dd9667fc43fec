"""`module:attribute`: found, or told why not."""

from __future__ import annotations

import sys

import pytest

from consona.cli.loading import ImportFailedError, TargetError, load, load_asgi

APP = "async def app(scope, receive, send): pass\n"


@pytest.fixture
def module(tmp_path, monkeypatch, request):
    """Writes a module of a name of its own, so that tests do not meet in `sys.modules`."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    name = f"loaded_{abs(hash(request.node.nodeid))}"

    def module(text: str) -> str:
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
        return name

    yield module
    sys.modules.pop(name, None)


def refusal(target: str, folder) -> TargetError:
    with pytest.raises(TargetError) as caught:
        load_asgi(target, folder)
    return caught.value


def test_an_application_is_found_in_the_folder(module, tmp_path):
    name = module(APP)
    assert load_asgi(f"{name}:app", tmp_path).__name__ == "app"


def test_a_function_that_makes_it_is_called_when_it_is_written_so(module, tmp_path):
    name = module(f"{APP}\ndef make():\n    return app\n")
    assert load_asgi(f"{name}:make()", tmp_path).__name__ == "app"
    assert "plain function" in refusal(f"{name}:make", tmp_path).message


def test_an_attribute_of_an_attribute_is_found(module, tmp_path):
    name = module("class Shop:\n    price = 5\n")
    assert load(f"{name}:Shop.price", tmp_path) == 5


@pytest.mark.parametrize("target", ["shop", "shop:", ":api", ""])
def test_another_form_is_refused_with_an_example(target, tmp_path):
    assert "shop.api:api" in refusal(target, tmp_path).hint


def test_a_module_that_does_not_exist_names_the_nearest_one(module, tmp_path):
    name = module(APP)
    error = refusal(f"{name}x:app", tmp_path)
    assert f"There is no module '{name}x' in {tmp_path}" in error.message
    assert error.hint == f"Did you mean '{name}'?"


def test_an_attribute_that_does_not_exist_names_the_applications(module, tmp_path):
    name = module(APP)
    assert refusal(f"{name}:ap", tmp_path).hint == "Did you mean 'app'?"
    assert refusal(f"{name}:server", tmp_path).hint == "Applications in it: app."


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("app = 5", "it is of the type int"),
        ("class app:\n    pass", "it is a class"),
        ("async def app(request): pass", "three arguments"),
        ("def app(a, b, c): pass", "plain function"),
    ],
)
def test_what_is_no_application_is_told_what_it_is(text, why, module, tmp_path):
    name = module(text)
    assert why in refusal(f"{name}:app", tmp_path).message


def test_an_error_at_import_shows_the_users_lines_and_no_others(module, tmp_path):
    name = module("import json\ndef read():\n    return json.loads('{')\nread()\n")
    with pytest.raises(ImportFailedError) as caught:
        load(f"{name}:app", tmp_path)
    text = caught.value.message
    assert "line 3, in read" in text
    assert "JSONDecodeError" in text
    assert "decoder.py" not in text
    assert "importlib" not in text
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("text", ["def f(:", "import not_installed_anywhere", "from json import no_such_name"])
def test_a_fault_of_the_text_itself_is_not_worth_a_second_try(text, module, tmp_path):
    name = module(text)
    assert f"{name} could not be imported" in refusal(f"{name}:app", tmp_path).message
