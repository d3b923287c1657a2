"""The updater of the software, against a real repository and the real installer."""

from __future__ import annotations

import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.gateway.errors import InstallError
from deploy.gateway.installer import Installer
from deploy.gateway.places import Places
from deploy.rollout.changes import abort_release, add_software, pause_release, set_policy
from deploy.rollout.release import Plan, ReleaseIndex
from deploy.rollout.report import SoftwareReport
from deploy.rollout.software import bundles_of
from deploy.settings.rolloutsettings import RolloutSettings
from deploy.updates import software
from deploy.updates.fetch import BUNDLE_LIMITS, Fetcher, FetchFailed, run_child
from deploy.updates.software import SoftwareUpdater
from deploy.updates.softwarememory import read_update
from tests.fakes.bundles import make_bundle, pack
from tests.fakes.centre import make_centre, now_s, root_bytes
from tests.fakes.installing import Cut, QuickSteps, ToldService
from tests.fakes.rolloutworld import in_process

Disk = namedtuple("Disk", "total used free")


class Site:
    """A centre, and a gateway with version 1.0.0 and an updater."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.updates = folder, folder / "updates"
        self.centre = make_centre(folder / "centre")
        self.updates.mkdir()
        (self.updates / "root.json").write_bytes(root_bytes(self.centre))
        self.places = Places(folder / "root")
        self.healthy = {"1.0.0", "2.0.0", "3.0.0"}
        self.window, self.now_s = "", now_s()
        self.child = in_process
        first = make_bundle(folder / "first", version="1.0.0")
        self.installer().install(first)

    def installer(self, cut_at: int = 0) -> Installer:
        steps = QuickSteps(cut_at)
        self.steps = steps
        service = ToldService(self.places, steps, self.healthy)
        return Installer(self.places, steps, service=service, wait_s=3)

    def change(self, change: Callable[[ReleaseIndex], ReleaseIndex]) -> None:
        self.centre.write_index(change)

    def release(self, version: str = "2.0.0", **plan: object) -> None:
        folder = self.folder / version
        if not folder.exists():
            self.centre.publish_bundle(pack(make_bundle(folder, version=version)))
        content = {
            "version": version,
            "bundles": bundles_of(self.centre.state(), version),
            "plan": Plan.model_validate({"steps": [{"percent": 100}]} | plan),
            "now_s": 5,
            "gateways": [],
            "replace": True,
        }
        self.change(lambda index: add_software(index, **content))

    def update(self, cut_at: int = 0) -> SoftwareReport | None:
        """One run of the updater, as the timer starts it."""
        settings = RolloutSettings(window=self.window, group="plant")
        url = str(self.centre.folder.repository)
        fetcher = Fetcher(
            url,
            self.updates / "root.json",
            self.updates / "rollout",
            lambda: self.now_s,
            limits=BUNDLE_LIMITS,
            child=self.child,
        )
        installer = self.installer(cut_at)
        updater = SoftwareUpdater(
            settings, "gw-1", self.updates, fetcher, installer, lambda: self.now_s
        )
        return updater.run()

    @property
    def current(self) -> str:
        return self.places.current.readlink().name


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_member_installs_the_release_and_says_so(site: Site) -> None:
    assert site.update() is None, "no release yet"
    site.release()
    report = site.update()
    assert report == SoftwareReport(release=1, version="2.0.0", phase="done")
    assert read_update(site.updates) == report
    assert (site.current, site.places.previous.readlink().name) == ("2.0.0", "1.0.0")
    assert list((site.updates / "rollout/partial").iterdir()) == []
    assert max(p.stat().st_size for p in (site.updates / "rollout/files").iterdir()) < 5000
    steps = site.steps
    assert site.update() == report
    assert site.steps.count < steps.count, "nothing is installed a second time"
    assert (site.updates / "update.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("plan", [{"hold": ["gw-1"]}, {"groups": ["field"]}])
def test_one_that_the_plan_leaves_out_does_nothing(site: Site, plan: dict[str, object]) -> None:
    site.release(**plan)
    assert site.update() is None
    assert site.current == "1.0.0"
    assert read_update(site.updates) is None


def test_a_version_that_is_not_ready_is_left_and_not_tried_again_in_this_release(
    site: Site,
) -> None:
    site.healthy.discard("2.0.0")
    site.release()
    report = site.update()
    assert report is not None
    assert (report.phase, site.current) == ("failed", "1.0.0")
    assert "2.0.0 is sick" in report.reason
    site.healthy.add("2.0.0")
    assert site.update() == report, "once is enough"
    assert site.current == "1.0.0"
    site.change(lambda index: abort_release(index, "software", "sick"))
    site.release()
    again = site.update()
    assert again is not None
    assert (again.release, again.phase, site.current) == (2, "done", "2.0.0")


def test_hold_window_and_pause_stop_what_is_not_installed(site: Site) -> None:
    site.release()
    site.change(
        lambda index: set_policy(
            index, "", "plant", lambda old: old.model_copy(update={"hold": True})
        )
    )
    held = site.update()
    assert (held.phase, held.reason) == ("held", "a policy of the centre holds this gateway")
    site.change(
        lambda index: set_policy(
            index, "", "plant", lambda old: old.model_copy(update={"hold": False})
        )
    )
    minute = site.now_s % 86_400 // 60
    begin, end = (minute + 60) % 1440, (minute + 120) % 1440
    site.window = f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"
    assert site.update().reason == f"the maintenance window is {site.window} UTC"
    site.window = ""
    site.change(lambda index: pause_release(index, "software", "snow"))
    paused = site.update()
    assert (paused.phase, paused.reason) == ("waiting", "release 1 is paused: snow")
    assert site.current == "1.0.0"


def test_an_aborted_release_goes_back_once(site: Site) -> None:
    site.release()
    site.update()
    site.change(lambda index: abort_release(index, "software", "slow"))
    for _ in range(3):
        report = site.update()
        assert (report.phase, report.reason) == ("held", "release 1 was aborted: slow")
        assert site.current == "1.0.0", "a second look does not roll back to the bad one"


def test_an_aborted_release_that_was_there_before_stays(site: Site) -> None:
    site.release("1.0.0")
    assert site.update().phase == "done"
    site.change(lambda index: abort_release(index, "software", "slow"))
    for _ in range(2):
        report = site.update()
        assert report.phase == "held"
        assert report.reason.endswith("the version before it is not kept here")
    assert site.current == "1.0.0"


def test_a_way_back_that_is_not_ready_is_tried_once(site: Site) -> None:
    site.release()
    site.update()
    site.change(lambda index: abort_release(index, "software", "slow"))
    site.healthy.discard("1.0.0")
    first = site.update()
    assert first.phase == "held"
    assert "1.0.0 is sick" in first.reason
    assert site.update() == first
    assert site.current == "2.0.0"


def test_a_run_that_is_cut_anywhere_is_finished_by_the_next(site: Site, tmp_path: Path) -> None:
    cuts = 0
    for cut_at in range(1, 1000):
        shutil.rmtree(tmp_path / "again", ignore_errors=True)
        other = Site(tmp_path / "again" / str(cut_at))
        other.release()
        try:
            other.update(cut_at)
        except Cut:
            cuts += 1
        report = other.update()
        assert (report.phase, other.current) == ("done", "2.0.0"), cut_at
        if cuts < cut_at:
            break
    assert cuts > 10


def test_a_sick_version_whose_trial_is_cut_is_failed_by_the_next_run(site: Site) -> None:
    site.healthy.discard("2.0.0")
    site.release()
    site.update()
    whole = site.steps.count
    other = Site(site.folder / "other")
    other.healthy.discard("2.0.0")
    other.release()
    with pytest.raises(Cut):
        other.update(whole - 1)
    report = other.update()
    assert (report.phase, other.current) == ("failed", "1.0.0")


def test_a_full_disk_is_no_fault_of_the_release(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.release()
    monkeypatch.setattr(software.shutil, "disk_usage", lambda _: Disk(9, 9, 9))
    report = site.update()
    assert report.phase == "waiting"
    assert report.reason.endswith("make room")
    monkeypatch.undo()
    assert site.update().phase == "done"


def test_a_gateway_that_is_not_ready_waits_and_uses_up_no_trial(site: Site) -> None:
    site.release()
    site.healthy.discard("1.0.0")
    for _ in range(5):
        with pytest.raises(InstallError, match="not ready"):
            site.update()
    assert read_update(site.updates).phase == "waiting"
    site.healthy.add("1.0.0")
    assert site.update().phase == "done"


def test_a_long_bundle_comes_through_the_real_process_in_its_bounds(site: Site) -> None:
    long = make_bundle(site.folder / "2.0.0", version="2.0.0", wheel=bytes(20_000_000))
    site.centre.publish_bundle(pack(long))
    site.release()
    site.child = run_child
    assert site.update().phase == "done"
    assert site.current == "2.0.0"


def test_a_changed_bundle_is_refused_and_nothing_is_installed(site: Site) -> None:
    site.release()
    (path,) = (site.centre.folder.repository / "targets/software").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(FetchFailed):
        site.update()
    assert site.current == "1.0.0"
    assert read_update(site.updates).phase == "waiting"


def test_a_release_that_names_another_digest_than_the_target_is_refused(site: Site) -> None:
    site.release()

    def other(index: ReleaseIndex) -> ReleaseIndex:
        bundle = index.software.bundles[0].model_copy(update={"sha256": "0" * 64})
        changed = index.software.model_copy(update={"bundles": (bundle,)})
        return index.model_copy(update={"software": changed})

    site.change(other)
    with pytest.raises(FetchFailed, match="another content"):
        site.update()
    assert site.current == "1.0.0"
