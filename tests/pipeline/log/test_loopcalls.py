"""Calls from the log's writing thread into an event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from pipeline.log.loopcalls import Changed, Loops

CHANGED: Changed = frozenset({("readings", 0)})


async def test_futures_and_listeners_of_a_transaction_wait_for_one_ring():
    loops = Loops(is_collected=lambda: True)
    told: list[Changed] = []
    loops.add_listener(told.append)
    source: Future[int] = Future()
    copy = loops.running().future(source)
    source.set_result(7)
    loops.tell(CHANGED)
    await asyncio.sleep(0)
    assert not told and not copy.done()
    loops.ring()
    assert await copy == 7
    assert told == [CHANGED]


async def test_a_listener_that_raises_holds_up_no_other_call(caplog):
    loops = Loops(is_collected=lambda: True)
    told: list[Changed] = []
    loops.add_listener(lambda _: 1 / 0)
    remove = loops.add_listener(told.append)
    loops.tell(CHANGED)
    loops.ring()
    await asyncio.sleep(0.01)
    assert told == [CHANGED]
    assert "a listener of the log failed" in caplog.text
    remove()
    loops.tell(CHANGED)
    loops.ring()
    await asyncio.sleep(0.01)
    assert told == [CHANGED]
