"""A flag that one task waits for."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.wakeup import WakeUp


async def test_a_wait_ends_when_the_flag_is_set() -> None:
    flag = WakeUp()
    waiting = asyncio.ensure_future(flag.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    flag.set()
    assert await waiting
    assert await flag.wait()
    flag.clear()
    assert not flag.is_set


async def test_a_wait_ends_at_its_limit_and_may_be_repeated() -> None:
    flag = WakeUp()
    for _ in range(3):
        assert not await flag.wait(0.001)


async def test_a_cancelled_wait_leaves_room_for_the_next() -> None:
    flag = WakeUp()
    waiting = asyncio.ensure_future(flag.wait(60.0))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="two tasks"):
        await flag.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    flag.set()
    assert await flag.wait(60.0)


async def test_a_flag_that_is_taken_back_at_once_still_ends_the_wait() -> None:
    flag = WakeUp()
    waiting = asyncio.ensure_future(flag.wait())
    await asyncio.sleep(0)
    flag.set()
    flag.clear()
    assert not await waiting
