"""Sparkplug and mappings beside each other, and files that are read again."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import cast

import pytest

from deploy.processes.formats import OtherFormats
from ingest.bridge import Bridge
from ingest.errors import MappingInvalid
from ingest.settings import IngestSettings
from tests.fakes.log import until

PLUGS = """
topic = "{topic}"
site = "hall"
stream = "meter"
[channels]
power = "P"
"""


class Subscribing:
    def __init__(self) -> None:
        self.times = 0

    def resubscribe(self) -> None:
        self.times += 1


def settings(folder: Path, **more: object) -> IngestSettings:
    files = folder / "mappings"
    files.mkdir(exist_ok=True)
    return IngestSettings(mappings=files, **more)  # type: ignore[arg-type]


def write(folder: Path, topic: str) -> None:
    (folder / "mappings" / "plugs.toml").write_text(PLUGS.replace("{topic}", topic))


def sparkplug(folder: Path) -> Path:
    path = folder / "sparkplug.toml"
    path.write_text('groups = ["g"]\n[[stream]]\nname = "s"\nmetrics = { a = "A" }\n')
    return path


def test_both_formats_are_in_force_and_each_has_its_part_of_the_health_view(tmp_path: Path) -> None:
    ingest = settings(tmp_path, sparkplug=sparkplug(tmp_path))
    write(tmp_path, "tele/{device}/SENSOR")
    formats = OtherFormats(ingest, tmp_path)
    assert len(formats.decoders) == 2
    assert list(formats.parts) == ["sparkplug", "mappings"]
    formats.close()


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("spBv1.0/g/{device}", "KPSTREAM_INGEST_SPARKPLUG"),
        ("sensors/{device}", "KPSTREAM_INGEST_MQTT_PREFIX"),
        ("labels/{device}/x", "KPSTREAM_INGEST_LABELS_PREFIX"),
    ],
)
def test_a_topic_of_another_format_is_refused_with_both_names(
    tmp_path: Path, topic: str, name: str
) -> None:
    ingest = settings(tmp_path, sparkplug=sparkplug(tmp_path))
    write(tmp_path, topic)
    with pytest.raises(MappingInvalid, match=f"plugs.toml and {name} both claim"):
        OtherFormats(ingest, tmp_path)
    formats = OtherFormats(IngestSettings(sparkplug=sparkplug(tmp_path)), tmp_path)
    assert len(formats.decoders) == 1  # the memory of Sparkplug was closed
    formats.close()


async def test_a_change_is_taken_and_a_signal_takes_it_at_once(tmp_path: Path) -> None:
    ingest, bridge = settings(tmp_path), Subscribing()
    write(tmp_path, "tele/{device}/SENSOR")
    formats = OtherFormats(ingest, tmp_path)
    assert formats.mappings is not None
    watching = asyncio.ensure_future(formats.watch(cast("Bridge", bridge), look_s=0.02))
    await asyncio.sleep(0)
    write(tmp_path, "tele/{device}/STATE")
    await until(lambda: bridge.times == 1)
    assert list(formats.mappings.filters) == ["tele/+/STATE"]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    watching = asyncio.ensure_future(formats.watch(cast("Bridge", bridge), look_s=1000))
    await asyncio.sleep(0)
    write(tmp_path, "tele/{device}/RESULT")
    os.kill(os.getpid(), signal.SIGHUP)
    await until(lambda: bridge.times == 2)
    assert list(formats.mappings.filters) == ["tele/+/RESULT"]
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    formats.close()


async def test_without_mappings_a_hangup_ends_nothing(tmp_path: Path) -> None:
    formats = OtherFormats(IngestSettings(), tmp_path)
    assert formats.decoders == []
    watching = asyncio.ensure_future(formats.watch(cast("Bridge", Subscribing()), look_s=0.01))
    await asyncio.sleep(0)
    os.kill(os.getpid(), signal.SIGHUP)
    await asyncio.sleep(0.05)
    assert not watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
