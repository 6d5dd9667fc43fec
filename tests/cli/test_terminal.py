"""How the command line speaks."""

from __future__ import annotations

import io

import pytest

from consona.cli.terminal import Terminal, complain
from consona.errors import ConfigurationError, ConsonaError


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def terminal_of_colours(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_names_stand_in_one_column():
    stream = io.StringIO()
    terminal = Terminal(stream=stream)
    terminal.line_of("dashboard", "ready")
    terminal.line_of("shop.1", "GET / 200")
    assert stream.getvalue() == "dashboard | ready\nshop.1    | GET / 200\n"


def test_on_a_screen_names_have_colours_and_the_words_stay_the_same():
    stream = Screen()
    Terminal(stream=stream).line_of("shop.1", "GET / 200")
    assert stream.getvalue() == "\x1b[36mshop.1 |\x1b[0m GET / 200\n"


@pytest.mark.parametrize("how", ["--plain", "NO_COLOR", "TERM", "pipe"])
def test_there_is_no_colour_where_it_is_not_wanted(how, monkeypatch):
    if how == "NO_COLOR":
        monkeypatch.setenv("NO_COLOR", "1")
    if how == "TERM":
        monkeypatch.setenv("TERM", "dumb")
    stream = io.StringIO() if how == "pipe" else Screen()
    Terminal(plain=how == "--plain", stream=stream).line_of("shop.1", "GET / 200")
    assert "\x1b" not in stream.getvalue()


def test_without_a_person_no_question_is_asked():
    stream = io.StringIO()
    assert not Terminal(stream=stream).confirm("Use port 8001 instead?")
    assert stream.getvalue() == ""


def test_an_error_says_what_was_wrong_and_what_to_do(capsys):
    complain(ConfigurationError("There is no file x.", hint="Make one."))
    complain(ConsonaError())
    assert capsys.readouterr().err == "Error: There is no file x.\nWhat to do: Make one.\nError: ConsonaError\n"
