"""What a program tells: only when it was asked to, plainly, and without secrets."""

from __future__ import annotations

import io
import logging

from consona.chapter import APIClient, narrate, show, think


def test_nothing_is_heard_before_it_is_asked_for(capsys):
    show("Hello")
    think("Hm")
    assert capsys.readouterr() == ("", "")


def test_show_is_heard_plainly_and_think_is_not(capsys):
    narrate()
    show("Created post", 7, None)
    think("Hm")
    assert capsys.readouterr().out == "Created post 7 None\n"


def test_thoughts_are_heard_where_they_are_asked_for(capsys):
    narrate(thoughts=True)
    think("First")
    show("Second")
    assert capsys.readouterr().out == "First\nSecond\n"


def test_it_can_be_silenced_and_asked_for_twice(capsys):
    narrate()
    narrate()
    show("once")
    narrate(False)
    show("never")
    assert capsys.readouterr().out == "once\n"


def test_it_goes_where_it_is_told(capsys):
    stream = io.StringIO()
    narrate(stream=stream)
    show("into the file")
    assert (stream.getvalue(), capsys.readouterr().out) == ("into the file\n", "")


def test_secrets_are_masked(capsys):
    narrate()
    show("Bearer abcdef123", "http://ada:hunter2@example.org")
    assert capsys.readouterr().out == "Bearer *** http://ada:***@example.org\n"


def test_a_percent_sign_is_only_a_percent_sign(capsys):
    narrate()
    show("100 %s")
    assert capsys.readouterr().out == "100 %s\n"


def test_the_classes_tell_what_they_do_as_thoughts_without_secrets(server, make_client, capsys):
    narrate(thoughts=True)
    server.get("/posts", lambda _: [])
    api: APIClient = make_client(server.start())
    api.add_auth_header("bearer", "t-0123456789")
    api.get("/posts", {"token": "t-0123456789"})
    said = capsys.readouterr().out
    assert "Registered route: GET /posts\n" in said
    assert "Added credentials of the type bearer\n" in said
    assert "t-0123456789" not in said


def test_a_program_with_a_log_of_its_own_gets_it_there(caplog):
    caplog.set_level(logging.INFO, "consona.chapter")
    show("Hello")
    assert caplog.messages == ["Hello"]
