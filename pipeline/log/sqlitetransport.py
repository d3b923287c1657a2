"""Faust on the local log: the transport behind ``broker="sqlite:///path/to/log.db"``.

The same agents run on ``kafka://`` and here. Several apps (their ids are the consumer groups) and
the MQTT bridge share one `SqliteLog` in a process. ``exactly_once`` is refused at start-up, because
there are no transactions across topics; all state of this product is idempotent.

`docs/faust-internals.md` lists the private parts of Faust that are used here; the contract suite
(`tests/contracts`) checks them at an upgrade.
"""

from __future__ import annotations

import asyncio
from sqlite3 import sqlite_version
from typing import Any, ClassVar

import faust
from faust.exceptions import ImproperlyConfigured
from faust.transport import base
from faust.types.enums import ProcessingGuarantee

from pipeline.log.locallog import SqliteLog, open_log
from pipeline.log.sqliteconsumer import Consumer
from pipeline.log.sqliteproducer import Producer

__all__ = ["LocalApp", "Transport"]


class Transport(base.Transport):  # type: ignore[misc]
    """``sqlite:///absolute/path.db``; log options as query, such as ``?durability=normal``."""

    Consumer: ClassVar[type[Consumer]] = Consumer
    Producer: ClassVar[type[Producer]] = Producer
    driver_version = f"sqlite={sqlite_version}"

    async def open(self) -> SqliteLog:
        """Open the log of the broker URL; it is shared in this process.

        Raises:
            ImproperlyConfigured: The app asks for exactly_once, several URLs, or no path.
            LogError: The log cannot be opened, see `pipeline.log.locallog.SqliteLog`.
        """
        if self.app.conf.processing_guarantee == ProcessingGuarantee.EXACTLY_ONCE:
            msg = (
                "sqlite:// has no transactions across topics, so processing_guarantee=exactly_once "
                "is impossible; leave it at at_least_once or use kafka://"
            )
            raise ImproperlyConfigured(msg)
        if len(self.url) != 1 or self.url[0].host or self.url[0].path in ("", "/"):
            msg = f"{self.url} is not one absolute path; use sqlite:///var/lib/kpstream/log.db"
            raise ImproperlyConfigured(msg)
        unknown = set(self.url[0].query) - {"durability", "partitions"}
        if unknown:
            msg = (
                f"unknown options {sorted(unknown)} in {self.url[0]}; use durability or partitions"
            )
            raise ImproperlyConfigured(msg)
        options: dict[str, Any] = dict(self.url[0].query)
        if "partitions" in options:
            options["partitions"] = int(options["partitions"])
        return await asyncio.to_thread(open_log, self.url[0].path, **options)


class LocalApp(faust.App):  # type: ignore[misc]
    """A Faust app on ``sqlite://`` with the `Transport` of this file."""

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self)

    def on_rebalance_return(self) -> None:
        """Called by Faust when the rebalance handlers have ended.

        A short recovery has ended by then. Faust has dropped its sensor state with it and would
        log a warning, so its method is skipped.
        """
        if self._rebalancing_sensor_state:
            super().on_rebalance_return()
