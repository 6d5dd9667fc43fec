"""What strangers send: long, twisted, with line breaks. It is refused at once, and writes no lines into the log."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from auth_tools import PASSWORD, accounts_at
from consona.auth.names import email_key, name_key
from consona.auth.social import local_target
from consona.errors import ConsonaError

LONG = 1_000_000
TWISTED = [
    "a" * LONG,
    "a." * (LONG // 2),
    "@" * LONG,
    "_" * LONG,
    "/" * LONG,
    "\u0130" * LONG,
    "%00" * LONG,
    "A" * LONG + "!",
]


@pytest.fixture
async def accounts(tmp_path):
    async with accounts_at(f"sqlite:///{tmp_path}/a.db") as made:
        await made.register("ada", "ada@example.org", PASSWORD)
        yield made


@pytest.mark.parametrize("number", range(len(TWISTED)))
async def test_no_text_keeps_the_server_busy(accounts, number):
    """Twenty seconds of work are a generous bound: what this guards against takes hours."""
    text = TWISTED[number]
    began = time.process_time()
    readers = [lambda: name_key(text), lambda: email_key(text), lambda: local_target("/" + text)]
    for read in readers:
        with pytest.raises(ConsonaError):
            read()
    for work in (
        accounts.authenticate(text, PASSWORD),
        accounts.authenticate("ada", text),
        accounts.register(text, "", PASSWORD),
        accounts.register("bob", text, PASSWORD),
        accounts.register("bob", "", text),
        accounts.refresh(text),
        accounts.refresh(f"crt_{text}"),
        accounts.verify_email(f"cml_{text}"),
        accounts.reset_password(text, PASSWORD),
        accounts.authenticate_code(text, "123456"),
        accounts.keys.identify(f"cak_{text}"),
    ):
        with pytest.raises(ConsonaError):
            await work
    with pytest.raises(ConsonaError):
        accounts.tokens.verify(text)
    assert accounts._devices.read(text, "x") == ""
    assert time.process_time() - began < 20


async def test_strangers_write_nothing_into_the_log(accounts, caplog):
    caplog.set_level(logging.DEBUG)
    evil = "kohlrabi\r\n2026-01-01 ERROR forged\x1b[31m"
    for work in (
        accounts.authenticate(evil, evil, address=evil, agent=evil, device=evil),
        accounts.register(evil, evil, evil),
        accounts.refresh(evil, address=evil),
        accounts.verify_email(evil, address=evil),
        accounts.authenticate_code(evil, evil, address=evil),
    ):
        with pytest.raises(ConsonaError) as caught:
            await work
        assert "kohlrabi" not in f"{caught.value} {caught.value!r} {caught.value.context}"
    assert "kohlrabi" not in caplog.text
    assert "forged" not in str(accounts.history)
    session = await accounts.authenticate("ada", PASSWORD, agent=evil)
    [listed] = await accounts.sessions(session.account.id)
    assert listed.device.isprintable()


async def test_the_audit_log_takes_what_it_is_given_as_one_entry(accounts):
    for _ in range(3):
        with pytest.raises(ConsonaError):
            await accounts.authenticate("ada", "wrong", address="1.2.3.4\n" * 50)
    entries = [entry async for entry in accounts.audit.entries(event="login failed")]
    assert len(entries) == 3
    assert all(len(entry.address) <= 60 for entry in entries)
    assert (await accounts.audit.verify()).whole


async def test_many_strangers_at_once_do_not_stop_the_loop(accounts):
    """While passwords are hashed in their threads, the loop goes on."""
    guesses = [asyncio.ensure_future(accounts.authenticate(f"name{n}", "wrong")) for n in range(8)]
    turns = 0
    while not all(each.done() for each in guesses):
        await asyncio.sleep(0)
        turns += 1
    await asyncio.gather(*guesses, return_exceptions=True)
    assert turns > 8
