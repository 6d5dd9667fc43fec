"""Mails in a folder: for whoever writes a program, and for no one else."""

from __future__ import annotations

import asyncio
import mailbox
import stat
import sys

import pytest

from consona.errors import ConfigurationError
from consona.mail import Mail, Mailer
from consona.part import Status

MAIL = Mail(to="ada@example.org", subject="Grüße", text="Hello\n.\nGoodbye", html="<p>Hello</p>")


def mailer(path):
    return Mailer(f"file:///{path}", sender="shop@example.org")


async def test_each_mail_is_a_file_that_mail_programs_read(tmp_path):
    async with mailer(tmp_path / "mail") as out:
        ids = [await out.send(MAIL) for _ in range(3)]
    box = mailbox.Maildir(tmp_path / "mail", create=False)
    assert sorted(message["Message-ID"] for message in box) == sorted(ids)
    assert len(list((tmp_path / "mail" / "new").iterdir())) == 3


async def test_several_processes_may_fill_one_folder(tmp_path):
    async with mailer(tmp_path / "mail") as one, mailer(tmp_path / "mail") as two:
        await asyncio.gather(*(each.send(MAIL) for each in [one, two] * 20))
    assert len(mailbox.Maildir(tmp_path / "mail", create=False)) == 40


@pytest.mark.skipif(sys.platform == "win32", reason="folders have no such modes there")
async def test_the_folder_is_for_its_owner_alone(tmp_path):
    async with mailer(tmp_path / "mail"):
        assert stat.S_IMODE((tmp_path / "mail").stat().st_mode) == 0o700


async def test_what_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError) as caught:
        await mailer(tmp_path / "file" / "mail").start()
    assert "cannot be made" in str(caught.value)
    for bad in ("file://", "file:///mail?x=1", "file://host/mail"):
        with pytest.raises(ConfigurationError):
            Mailer(bad, sender="shop@example.org")


async def test_a_folder_that_goes_away_shows(tmp_path):
    async with mailer(tmp_path / "mail") as out:
        assert (await out.check()).status is Status.UP
        for each in ("new", "cur", "tmp"):
            (tmp_path / "mail" / each).rmdir()
        assert (await out.check()).status is Status.DOWN
