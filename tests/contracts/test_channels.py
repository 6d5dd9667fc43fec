"""What channels promise on every engine of the log. A new engine joins with one line in ENGINES."""

import asyncio
from contextlib import AsyncExitStack
from itertools import count

import pytest

import database_servers
import engine_addresses
from consona.errors import NotStarted, ValidationError
from consona.realtime.channels import Channels, Kept
from processes import LONG_S, until

_number = count()

ENGINES = {
    "memory": lambda folder: f"memory://channels{next(_number)}",
    "sqlite": lambda folder: f"sqlite:///{folder}/channels.db?synchronous=OFF",
}
SERVERS = {"postgresql": database_servers.quiet_postgresql, "redis": database_servers.empty_redis}


url = engine_addresses.fixture_of(ENGINES, SERVERS)


@pytest.fixture
async def channels(url):
    async with Channels(url) as channels:
        yield channels


class Reader:
    """A subscriber that keeps what it gets."""

    def __init__(self):
        self.messages = []
        self.gaps = []

    def deliver(self, message):
        self.messages.append(message)

    def gap(self, channel, token):
        self.gaps.append(channel)

    @property
    def data(self):
        return [message.data for message in self.messages]


async def test_all_subscribers_of_a_channel_get_what_is_published_in_order(channels):
    readers = [Reader() for _ in range(3)]
    other = Reader()
    for reader in readers:
        await channels.join(reader, "tea")
    await channels.join(other, "coffee")
    for n in range(50):
        token = await channels.publish("tea", {"n": n})
    await channels.reached(token)
    for reader in readers:
        assert reader.data == [{"n": n} for n in range(50)]
    assert other.data == []


async def test_who_left_gets_nothing_more(channels):
    reader = Reader()
    await channels.join(reader, "tea")
    await channels.reached(await channels.publish("tea", 1))
    channels.leave(reader, "tea")
    await channels.reached(await channels.publish("tea", 2))
    assert reader.data == [1]
    assert channels.subscribers("tea") == 0


async def test_two_processes_see_the_same_messages_in_the_same_order(url):
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(Channels(url)) for _ in range(2)]
        readers = [Reader(), Reader()]
        for each, reader in zip(both, readers, strict=True):
            await each.join(reader, "tea")

        async def publish(each, name):
            return [await each.publish("tea", f"{name}{n}") for n in range(30)]

        tokens = await asyncio.wait_for(asyncio.gather(publish(both[0], "a"), publish(both[1], "b")), LONG_S)
        for each in both:
            for some in tokens:
                await asyncio.wait_for(each.reached(some[-1]), LONG_S)
        assert readers[0].data == readers[1].data
        assert sorted(readers[0].data) == sorted(f"{name}{n}" for name in "ab" for n in range(30))
        assert [m.token for m in readers[0].messages] == [m.token for m in readers[1].messages]


async def test_who_comes_back_gets_what_was_missed_once_and_in_order(channels):
    tokens = [await channels.publish("tea", n) for n in range(10)]
    await channels.publish("coffee", "not this")
    await channels.reached(tokens[-1])
    for seen in range(10):
        reader = Reader()
        joined = await channels.join(reader, "tea", after=tokens[seen])
        assert not joined.gap
        assert [message.data for message in joined.messages] == list(range(seen + 1, 10))
        assert joined.token == tokens[seen]


async def test_who_comes_back_to_a_process_that_is_behind_gets_nothing_twice(url):
    async with Channels(url) as ahead, Channels(url) as behind:
        token = [await ahead.publish("tea", n) for n in range(5)][-1]
        reader = Reader()
        joined = await behind.join(reader, "tea", after=token)
        last = await ahead.publish("tea", "new")
        await asyncio.wait_for(behind.reached(last), LONG_S)
        assert not joined.gap
        assert [message.data for message in joined.messages] + reader.data == ["new"]


async def test_joining_while_messages_come_misses_none_and_repeats_none(channels):
    first = await channels.publish("tea", -1)
    await channels.reached(first)
    done = asyncio.Event()

    async def publish():
        for n in range(200):
            last = await channels.publish("tea", n)
        done.set()
        return last

    publishing = asyncio.create_task(publish())
    found = []
    while not done.is_set():
        reader = Reader()
        joined = await channels.join(reader, "tea", after=first)
        found.append((reader, joined.messages))
        await asyncio.sleep(0.002)
    await channels.reached(await publishing)
    for reader, missed in found:
        assert [message.data for message in missed] + reader.data == list(range(200))
    assert found


async def test_a_new_one_gets_as_much_history_as_it_asks_for(channels):
    token = [await channels.publish("tea", n) for n in range(5)][-1]
    await channels.reached(token)
    joined = await channels.join(Reader(), "tea", history=2)
    assert [message.data for message in joined.messages] == [3, 4]
    assert not joined.gap
    assert (await channels.join(Reader(), "tea")).messages == []
    assert [message.data for message in channels.recent("tea", limit=3)] == [2, 3, 4]


async def test_a_process_that_begins_later_knows_the_history(url):
    async with Channels(url) as first:
        tokens = [await first.publish("tea", n, event="poured") for n in range(5)]
        async with Channels(url) as second:
            assert [message.data for message in second.recent("tea")] == list(range(5))
            assert {message.event for message in second.recent("tea")} == {"poured"}
            joined = await second.join(Reader(), "tea", after=tokens[2])
            assert [message.data for message in joined.messages] == [3, 4]


async def test_a_gap_is_told_where_what_was_missed_is_not_kept(url):
    async with Channels(url, keep=Kept(per_channel=3)) as channels:
        quiet = await channels.publish("coffee", 0)
        tokens = [await channels.publish("tea", n) for n in range(10)]
        await channels.reached(tokens[-1])
        joined = await channels.join(Reader(), "tea", after=tokens[2], history=2)
        assert joined.gap
        assert [message.data for message in joined.messages] == [8, 9]
        assert not (await channels.join(Reader(), "tea", after=tokens[6])).gap
        # A loud channel costs a quiet one nothing.
        assert not (await channels.join(Reader(), "coffee", after=quiet)).gap


@pytest.mark.parametrize(
    "forged", ["", "x", "00000000-1", "{epoch}-999999999999999", "{epoch}--1", "{epoch}-1\n", "é" * 99]
)
async def test_a_position_that_was_never_given_is_a_gap_and_no_error(channels, forged):
    await channels.reached(token := await channels.publish("tea", 1))
    forged = forged.replace("{epoch}", token.partition("-")[0])
    reader = Reader()
    assert (await channels.join(reader, "tea", after=forged)).gap
    await channels.reached(await channels.publish("tea", 2))
    assert reader.data == [2]


@pytest.mark.parametrize("name", ["", "a\nb", "a\x00", "\ud800", "x" * 201, "é" * 101, None, 7])
async def test_a_name_that_no_channel_can_have_is_refused(channels, name):
    with pytest.raises(ValidationError):
        await channels.publish(name, 1)
    with pytest.raises(ValidationError):
        await channels.join(Reader(), name)


async def test_plain_text_and_bytes_come_as_they_were(channels):
    reader = Reader()
    await channels.join(reader, "tea")
    await channels.publish("tea", "hello\n", plain=True)
    await channels.reached(await channels.publish("tea", b"\x00\xff", plain=True))
    assert reader.data == ["hello\n", b"\x00\xff"]
    with pytest.raises(ValidationError):
        await channels.publish("tea", {"x": 1}, plain=True)


async def test_nothing_works_before_it_is_started(url):
    channels = Channels(url)
    with pytest.raises(NotStarted):
        await channels.publish("tea", 1)
    with pytest.raises(NotStarted):
        await channels.join(Reader(), "tea")


async def test_positions_of_a_stream_that_was_made_anew_are_a_gap(tmp_path):
    async with Channels(f"sqlite:///{tmp_path}/one.db") as channels:
        old = await channels.publish("tea", 0)
    async with Channels(f"sqlite:///{tmp_path}/two.db") as channels:
        await channels.reached([await channels.publish("tea", n) for n in range(9)][-1])
        assert (await channels.join(Reader(), "tea", after=old)).gap


async def test_what_was_done_is_counted(channels):
    await channels.join(Reader(), "tea")
    await channels.reached(await channels.publish("tea", 1))
    await until(lambda: channels.stats.detail["delivered"] == 1)
    detail = channels.stats.detail
    assert (detail["channels"], detail["subscriptions"], detail["published"], detail["kept"]) == (1, 1, 1, 1)
    assert channels.stats.operations["publish"].succeeded == 1
