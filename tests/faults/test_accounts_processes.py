"""Several processes with the accounts of one database: no guess too many, no token twice, nothing half done."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from auth_tools import PASSWORD, accounts_at
from consona.auth.errors import RefreshRefused, TokenRevoked

PROCESS = """
import asyncio, json, sys
sys.path.insert(0, sys.argv[1])
from auth_tools import PASSWORD, accounts_at

async def main():
    async with accounts_at(sys.argv[2], keys=sys.argv[3]) as accounts:
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(await {work}(accounts, *json.loads(line))), flush=True)

async def guess(accounts, times):
    done = await asyncio.gather(
        *(accounts.authenticate("alice", f"guess {{n}}", address="10.0.0.1") for n in range(times)),
        return_exceptions=True,
    )
    return [type(each).__name__ for each in done]

async def refresh(accounts, token):
    try:
        session = await accounts.refresh(token)
        return [session.access_token, session.refresh_token]
    except Exception as error:
        return [error.code]

async def register(accounts, first):
    n = first
    while True:
        await accounts.register(f"user{{n}}", "", PASSWORD, roles=["x"])
        print(n, flush=True)
        n += 1

asyncio.run(main())
"""


def process(work, url, keys):
    tests = str(__import__("pathlib").Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS.format(work=work), tests, url, str(keys)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(each, *arguments):
    each.stdin.write(json.dumps(arguments) + "\n")
    each.stdin.flush()


@pytest.fixture
def place(tmp_path):
    return f"sqlite:///{tmp_path}/a.db", tmp_path / "keys.json"


@pytest.fixture
async def accounts(place):
    url, keys = place
    async with accounts_at(url, keys=keys) as made:
        await made.register("alice", "alice@example.org", PASSWORD)
        yield made


@pytest.mark.slow
async def test_two_hundred_guesses_from_ten_processes_are_five(accounts, place):
    started = [process("guess", *place) for _ in range(10)]
    try:
        assert [each.stdout.readline() for each in started] == ["ready\n"] * 10
        for each in started:
            ask(each, 20)
        answers = [json.loads(each.stdout.readline()) for each in started]
    finally:
        for each in started:
            each.kill()
            each.communicate()
    kinds = [kind for answer in answers for kind in answer]
    assert (kinds.count("LoginFailed"), kinds.count("AccountLocked")) == (5, 195)


async def test_two_processes_that_refresh_at_once_get_the_same_successor_and_a_thief_is_found(accounts, place):
    session = await accounts.authenticate("alice", PASSWORD)
    started = [process("refresh", *place) for _ in range(2)]
    try:
        assert [each.stdout.readline() for each in started] == ["ready\n"] * 2
        for each in started:
            ask(each, session.refresh_token)
        one, two = (json.loads(each.stdout.readline()) for each in started)
        assert one[1] == two[1]
        third = await accounts.refresh(one[1])
        ask(started[0], session.refresh_token)  # two steps behind
        assert json.loads(started[0].stdout.readline()) == ["auth.refresh_reused"]
        with pytest.raises(RefreshRefused):
            await accounts.refresh(third.refresh_token)
        async with asyncio.timeout(2):
            while True:
                try:
                    accounts.tokens.verify(third.access_token)
                except TokenRevoked:
                    break
                await asyncio.sleep(0.02)
    finally:
        for each in started:
            each.kill()
            each.communicate()


async def test_a_process_that_is_killed_leaves_each_account_whole_or_absent(accounts, place):
    writer = process("register", *place)
    try:
        assert writer.stdout.readline() == "ready\n"
        ask(writer, 1)
        told = [int(writer.stdout.readline()) for _ in range(3)]
        await asyncio.sleep(0.05)
    finally:
        writer.kill()
        told += [int(line) for line in writer.communicate()[0].split()]
    names = await accounts.db.fetch_column("SELECT name FROM consona_accounts WHERE roles = 'x'")
    assert {f"user{n}" for n in told} <= set(names)
    assert len(names) <= len(told) + 1
    for name in names:
        await accounts.authenticate(name, PASSWORD)
    assert (await accounts.audit.verify()).whole
