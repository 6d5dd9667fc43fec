from __future__ import annotations

import asyncio

import pytest

from consona.errors import BulkheadFull
from consona.rest.client.connection_gate import ConnectionGate
from virtual_time import virtual


@virtual
async def test_no_more_than_the_limit_are_in_and_the_rest_come_in_turn():
    gate, order, inside = ConnectionGate(3, None), [], [0]

    async def visit(number):
        await gate.enter("a", 100)
        inside[0] += 1
        assert inside[0] <= 3
        order.append(number)
        await asyncio.sleep(1)
        inside[0] -= 1
        gate.leave("a")

    await asyncio.gather(*(visit(number) for number in range(20)))
    assert order == list(range(20))
    assert (gate.busy, gate.waiting) == (0, 0)


@virtual
async def test_a_full_host_does_not_hold_up_another():
    gate = ConnectionGate(10, 1)
    await gate.enter("a", None)
    waiting = asyncio.create_task(gate.enter("a", None))
    await asyncio.sleep(0)
    await asyncio.wait_for(gate.enter("b", None), 1)
    gate.leave("a")
    await asyncio.wait_for(waiting, 1)


@virtual
async def test_who_waits_too_long_is_told_and_leaves_no_trace():
    gate = ConnectionGate(1, None)
    await gate.enter("a", None)
    with pytest.raises(BulkheadFull, match="within 5 s") as caught:
        await gate.enter("a", 5)
    assert caught.value.retryable
    gate.leave("a")
    assert gate.try_enter("a")
    assert gate.waiting == 0


@virtual
async def test_a_cancelled_wait_gives_its_turn_on():
    gate = ConnectionGate(1, None)
    await gate.enter("a", None)
    first, second = (asyncio.create_task(gate.enter("a", None)) for _ in range(2))
    await asyncio.sleep(0)
    gate.leave("a")  # the turn is the first's, which is cancelled before it learns of it
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.wait_for(second, 1)
    assert gate.busy == 1
