from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.log.tablemanager import PromptTableManager


def topic(*names: str) -> Any:
    return SimpleNamespace(topics=list(names))


class Start:
    """A manager of an app with two agents, and what its start has called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.app = SimpleNamespace(
            agents={
                "score": SimpleNamespace(channel=topic("readings")),
                "store": SimpleNamespace(channel=topic("scores", "labels")),
            },
            topics=[],
        )
        self.calls: list[str] = []
        self.manager = PromptTableManager(self.app)
        monkeypatch.setattr(self.manager, "_update_channels", self._note("open"))
        self.manager._recovery = SimpleNamespace(start=self._note("recover"))

    def _note(self, call: str) -> Any:
        async def noted() -> None:
            self.calls.append(call)

        return noted


async def test_a_start_waits_for_the_topics_of_all_agents_and_no_longer(monkeypatch: Any) -> None:
    start = Start(monkeypatch)
    starting = asyncio.ensure_future(start.manager.on_start())
    await asyncio.sleep(0.02)
    start.app.topics.append(topic("scores", "labels"))
    await asyncio.sleep(0.02)
    assert start.calls == []

    start.app.topics.append(topic("readings"))
    await asyncio.wait_for(starting, 0.9)  # Faust would sleep for a second
    assert start.calls == ["open", "recover"]


async def test_a_start_that_is_stopped_meanwhile_opens_nothing(monkeypatch: Any) -> None:
    start = Start(monkeypatch)
    starting = asyncio.ensure_future(start.manager.on_start())
    await asyncio.sleep(0.01)
    start.manager._stopped.set()
    await asyncio.wait_for(starting, 0.9)
    assert start.calls == []
