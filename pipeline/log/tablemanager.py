"""Faust's manager of tables, without the second that it waits at each start.

Faust waits so that agents can subscribe and tables can be declared while an app starts; a topic
that comes later is subscribed after 45 s. Here tables are declared before (`pipeline.app`), and the
wait ends when the last agent has subscribed, after some milliseconds.
"""

from __future__ import annotations

import asyncio

from faust.tables.manager import TableManager

__all__ = ["PromptTableManager"]

_LOOK_S = 0.002


class PromptTableManager(TableManager):  # type: ignore[misc]
    """Opens the tables and recovers them as soon as the agents have subscribed."""

    async def on_start(self) -> None:
        """Wait for the agents, then do as Faust does."""
        while not self._has_all_topics() and not self.should_stop:
            await asyncio.sleep(_LOOK_S)
        if not self.should_stop:
            await self._update_channels()
            await self.recovery.start()

    def _has_all_topics(self) -> bool:
        wanted = {name for agent in self.app.agents.values() for name in agent.channel.topics}
        return wanted <= {name for topic in self.app.topics for name in topic.topics}
