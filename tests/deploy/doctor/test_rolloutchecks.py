"""What doctor says of a gateway that follows a centre."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from deploy.doctor.rolloutchecks import check_rollout, rollout_notices
from deploy.settings.rolloutsettings import RolloutSettings
from ingest.clock import now_ms
from ingest.statefile import write_object

pytest.importorskip("tuf", reason="needs the extra [rollout]")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root.json"
    path.write_bytes(orjson.dumps({"signed": {"_type": "root"}, "signatures": []}))
    return path


def found(root: Path, **more: object) -> list[tuple[str, str]]:
    settings = RolloutSettings(url="/media/usb", root_file=root, **more)  # type: ignore[arg-type]
    return [(each.state, each.text + each.advice) for each in check_rollout(settings, root.parent)]


def test_gateway_without_a_centre_has_no_row(tmp_path: Path) -> None:
    assert list(check_rollout(RolloutSettings(), tmp_path)) == []


def test_sound_gateway(root: Path) -> None:
    ((state, text),) = found(root)
    assert state == "ok"
    assert "/media/usb" in text
    assert str(root) in text


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b'{"signed": {"_type": "targets"}}'])
def test_pinned_root_that_is_none(root: Path, content: bytes | None) -> None:
    root.unlink() if content is None else root.write_bytes(content)
    ((state, text),) = found(root)
    assert state == "fail"
    assert "KPSTREAM_ROLLOUT_ROOT_FILE" in text


def test_damaged_memory(root: Path) -> None:
    (root.parent / "rollout.json").write_bytes(b"{")
    ((state, text),) = found(root)
    assert state == "warn"
    assert "rollout.json" in text


def test_clock_behind_the_centre(root: Path) -> None:
    ahead_s = now_ms() // 1000 + 10 * 86_400
    write_object(root.parent / "rollout-marks.json", {"made_s": ahead_s})
    ((state, text),) = found(root)
    assert state == "fail"
    assert "9 days behind" in text or "10 days behind" in text


def test_key_that_is_none(root: Path) -> None:
    key = root.parent / "key"
    key.write_text("secret but too short")
    ((state, text),) = found(root, report_key_file=key)
    assert state == "warn"
    assert "centre enrol" in text
    assert "secret but" not in text


def test_what_a_running_gateway_says() -> None:
    part = {"centre": "away", "detail": "connection refused", "notices": ["release 7 failed"]}
    texts = [each.text for each in rollout_notices(part)]
    assert texts == ["release 7 failed", "the centre is away: connection refused"]
    assert list(rollout_notices({"centre": "ok", "notices": []})) == []
    assert list(rollout_notices({})) == []
