"""`consona queue`: lists queues, shows dead letters, puts them back or removes them."""

import asyncio
import json

import pytest

from consona import MessageQueue
from consona.cli import main


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/work.db"


def queue(capsys, *arguments):
    """The exit code, and what was written to standard output and standard error."""
    with pytest.raises(SystemExit) as caught:
        main(["queue", *arguments])
    said = capsys.readouterr()
    return int(caught.value.code or 0), said.out, said.err


async def letters(url, *numbers):
    """Let these die; returns their ids."""
    async with MessageQueue("emails", url) as emails:
        await emails.put_many(list(numbers))
        for message in await emails.get_many(len(numbers)):
            await message.release(error="It broke.", dead=True)
        await emails.put("alive")
        return [letter.id async for letter in emails.dead_letters()]


@pytest.fixture
def dead(url):
    return asyncio.run(letters(url, 1, 2, 3))


def test_queues_are_listed(capsys, url, dead):
    assert queue(capsys, "list", "-q", url)[:2] == (0, "emails: 1 ready, 0 delayed, 0 in work, 3 dead\n")
    _, said, _ = queue(capsys, "list", "-q", url, "--json")
    assert json.loads(said) == [{"queue": "emails", "ready": 1, "delayed": 0, "leased": 0, "dead": 3}]


def test_where_there_is_none_that_is_said(capsys, url):
    assert queue(capsys, "list", "-q", url)[:2] == (0, "There is no queue yet.\n")
    assert "no dead letters" in queue(capsys, "peek", "emails", "-q", url)[1]


def test_dead_letters_are_shown_without_what_they_carry(capsys, url, dead):
    _, said, _ = queue(capsys, "peek", "emails", "-q", url, "--limit", "2")
    assert [line.partition(":")[0] for line in said.splitlines()] == dead[:2]
    assert "after 1 attempts: It broke." in said
    _, said, _ = queue(capsys, "peek", "emails", "-q", url, "--json")
    assert "body" not in json.loads(said)[0]
    _, said, _ = queue(capsys, "peek", "emails", "-q", url, "--json", "--bodies")
    assert [each["body"] for each in json.loads(said)] == ["1", "2", "3"]


def test_dead_letters_are_put_back_and_removed(capsys, url, dead):
    assert queue(capsys, "redrive", "emails", dead[0], "-q", url)[:2] == (0, "Put back: 1 message.\n")
    assert queue(capsys, "purge", "emails", "--all", "-q", url, "--json")[1] == '{\n  "messages": 2\n}\n'
    assert "2 ready, 0 delayed, 0 in work, 0 dead" in queue(capsys, "list", "-q", url)[1]


@pytest.mark.parametrize("extra", [[], ["7", "--all"]])
def test_which_letters_must_be_said(capsys, url, extra):
    code, _, complaint = queue(capsys, "purge", "emails", "-q", url, *extra)
    assert code == 2
    assert "Which dead letters?" in complaint


def test_where_the_queues_are_must_be_said(capsys, monkeypatch, url, dead):
    code, _, complaint = queue(capsys, "list")
    assert code == 2
    assert "CONSONA_QUEUES" in complaint
    monkeypatch.setenv("CONSONA_QUEUES", url)
    assert queue(capsys, "list")[0] == 0
