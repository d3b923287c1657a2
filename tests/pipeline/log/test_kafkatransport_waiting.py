"""`Consumer.wait_first` without a task per record: the same outcomes as Faust's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipeline.log.kafkatransport import Consumer


class Waiting(Consumer):
    """A consumer that only waits."""

    def __init__(self) -> None:
        self.suspend_flow = asyncio.Event()
        self._stopped = asyncio.Event()
        self._crashed = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop


async def put(queue: asyncio.Queue[int], value: int) -> str:
    await asyncio.sleep(0) if value < 0 else None
    await queue.put(value)
    return "put"


async def wait(waiting: Waiting, coroutine: Any) -> Any:
    return await asyncio.wait_for(
        waiting.wait_first(coroutine, waiting.suspend_flow.wait()), timeout=30
    )


async def test_a_wait_that_completes_at_once_creates_no_task() -> None:
    waiting, queue = Waiting(), asyncio.Queue[int]()
    before = len(asyncio.all_tasks())
    found = await waiting.wait_first(put(queue, 5), waiting.suspend_flow.wait())
    assert (found.results, found.stopped) == (["put"], False)
    assert queue.get_nowait() == 5
    assert len(asyncio.all_tasks()) == before


@pytest.mark.parametrize("value", [5, -5])
async def test_a_pending_result_is_awaited(value: int) -> None:
    waiting, queue = Waiting(), asyncio.Queue[int](maxsize=1)
    queue.put_nowait(1)
    task = asyncio.create_task(wait(waiting, put(queue, value)))
    await asyncio.sleep(0.01)
    assert not task.done()
    assert await queue.get() == 1
    assert (await task).results == ["put"]
    assert queue.get_nowait() == value


async def test_a_suspended_flow_ends_the_wait_and_takes_the_record_back() -> None:
    waiting, queue = Waiting(), asyncio.Queue[int](maxsize=1)
    queue.put_nowait(1)
    task = asyncio.create_task(wait(waiting, put(queue, 5)))
    await asyncio.sleep(0.01)
    waiting.suspend_flow.set()
    assert (await task).results == [True]
    await asyncio.sleep(0.01)
    assert queue.get_nowait() == 1
    assert queue.empty()


async def test_an_error_comes_through_before_and_after_the_first_wait() -> None:
    async def fail(pause: bool) -> None:
        if pause:
            await asyncio.sleep(0.001)
        message = "broken"
        raise ValueError(message)

    waiting = Waiting()
    for pause in (False, True):
        with pytest.raises(ValueError, match="broken"):
            await wait(waiting, fail(pause))


async def test_a_cancellation_reaches_the_awaited_result() -> None:
    waiting, cancelled = Waiting(), []

    async def patient() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    task = asyncio.create_task(wait(waiting, patient()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)
    assert cancelled == [True]


async def test_a_stop_ends_the_wait() -> None:
    waiting, queue = Waiting(), asyncio.Queue[int](maxsize=1)
    queue.put_nowait(1)
    task = asyncio.create_task(wait(waiting, put(queue, 5)))
    await asyncio.sleep(0.01)
    waiting._stopped.set()
    assert (await task).stopped
