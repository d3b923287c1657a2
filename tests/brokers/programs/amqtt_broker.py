"""amqtt with the users of the matrix. Arguments: port."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin


class Users(BaseAuthPlugin):  # type: ignore[misc]
    """Accepts every user whose password is `right`."""

    async def authenticate(self, *, session: Any) -> bool:
        """Whether the client may connect."""
        return bool(session.password == "right")


class Rights(BaseTopicPlugin):  # type: ignore[misc]
    """`noread` may not subscribe, `nowrite` may not publish below `sensors/`."""

    async def topic_filtering(
        self, *, session: Any = None, topic: str | None = None, action: Action | None = None
    ) -> bool:
        """Whether the client may do this with the topic."""
        refused = {
            "noread": (Action.SUBSCRIBE, Action.RECEIVE),
            "nowrite": (Action.PUBLISH,),
        }.get(session.username if session else "", ())
        return not (action in refused and str(topic).startswith("sensors/"))


async def main(port: int) -> None:
    """Serve until SIGTERM."""
    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"__main__.Users": {}, "__main__.Rights": {}},
        }
    )
    await broker.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
