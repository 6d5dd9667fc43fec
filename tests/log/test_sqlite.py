"""The log in a SQLite file: with its transactions, with other processes, and after a kill."""

import pytest

from consona.errors import ConfigurationError
from consona.log.log import Log
from consona.storage.sqlite_engine import open_sqlite
from log_processes import check_killed_appenders, check_woken_reader


async def test_a_record_of_a_transaction_comes_with_it_or_not_at_all(tmp_path):
    url = f"sqlite:///{tmp_path}/shop.db"
    engine = await open_sqlite(url)
    async with Log(url) as log:
        async with engine.transaction() as tx:
            await log.append("orders", b"kept", tx=tx)
            assert [r.body for r in (await log.read("orders", tx=tx)).records] == [b"kept"]
            assert (await log.read("orders")).records == []

        async def fail():
            async with engine.transaction() as tx:
                await log.append("orders", b"lost", tx=tx)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        assert [r.body for r in (await log.read("orders")).records] == [b"kept"]
        await log.append("orders", b"next")
        assert [r.position for r in (await log.read("orders")).records] == [1, 2]
    await engine.close()


async def test_a_log_in_memory_refuses_a_transaction(tmp_path):
    engine = await open_sqlite(f"sqlite:///{tmp_path}/shop.db")
    async with Log("memory://log") as log, engine.transaction() as tx:
        with pytest.raises(ConfigurationError, match="no database"):
            await log.append("orders", b"", tx=tx)
    await engine.close()


async def test_a_reader_sees_what_other_processes_append_and_nothing_acknowledged_dies_with_them(tmp_path):
    await check_killed_appenders(f"sqlite:///{tmp_path}/bus.db")


async def test_a_waiting_reader_is_woken_by_another_process(tmp_path):
    await check_woken_reader(f"sqlite:///{tmp_path}/bus.db")
