"""Attacks on the way from a centre to a gateway, on made-up repositories: each one is refused.

One table: what the attacker does, the state that the gateway reports, words of its message. After
each attack nothing was handed out, the trusted metadata are not older, and the next honest release
arrives.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile, TargetFile

from deploy.rollout.release import INDEX_TARGET
from deploy.updates.fetch import FetchFailed, FetchLimits
from tests.fakes.repositoryserver import endless, stall
from tests.fakes.rolloutworld import NOW_S, World, world_of

DAY_S = 86_400
HUGE = 2**31


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        do: What the attacker does; the gateway has fetched release 1 before.
        state: State of the refused fetch.
        words: Words of its message.
        student: Whether the attack shows when the student is fetched, not the index.
        only: The only transport on which it is possible; "" for both.
        thresholds: Signatures that the centre asks for, where more than one.
        keys: Roles whose keys the centre rotates to recover.
    """

    do: Callable[[World], None]
    state: str
    words: str
    student: bool = False
    only: str = ""
    thresholds: tuple[tuple[str, int], ...] = ()
    keys: tuple[str, ...] = ()


def metadata(world: World, name: str) -> Path:
    return world.made.folder / "metadata" / name


def newest(world: World, role: str) -> Path:
    return metadata(world, f"{world.made.signed(role).version}.{role}.json")


def roll_back_everything(world: World) -> None:
    recorded = world.honest
    world.publish(2)
    world.fetcher().fetch_index()
    world.made.restore(recorded)


def roll_back_snapshot(world: World) -> None:
    thief = world.made.twin()
    thief.signed("timestamp").version += 1
    version = thief.signed("snapshot").version - 1
    thief.signed("timestamp").snapshot_meta = MetaFile(version)
    thief.write("timestamp")


def roll_back_targets(world: World) -> None:
    thief = world.made.twin()
    old = MetaFile(thief.signed("targets").version - 1)
    thief.renew("snapshot")
    thief.signed("snapshot").meta["targets.json"] = old
    thief.write("snapshot")
    thief.renew("timestamp")


def roll_back_root(world: World) -> None:
    metadata(world, "2.root.json").write_bytes(world.made.pinned)


def drop_targets(world: World) -> None:
    thief = world.made.twin()
    thief.signed("snapshot").version += 1
    thief.signed("snapshot").meta = {"other.json": MetaFile(1)}
    thief.write("snapshot")
    thief.renew("timestamp")


def freeze(world: World) -> None:
    world.now_s += 2 * DAY_S


def freeze_for_years(world: World) -> None:
    world.now_s += 2 * 365 * DAY_S


def mix(role: str) -> Callable[[World], None]:
    def do(world: World) -> None:
        other = newest(world, role).read_bytes()
        world.made.publish({"note.txt": b"another state"})
        newest(world, role).write_bytes(other)

    return do


def mix_without_digests(role: str) -> Callable[[World], None]:
    """As `mix`, at a centre that announces versions only."""

    def do(world: World) -> None:
        world.made.described = lambda each: MetaFile(world.made.signed(each).version)
        mix(role)(world)

    return do


def send_more(name: str) -> Callable[[World], None]:
    def do(world: World) -> None:
        if world.server is None:
            path = metadata(world, name)
            path.write_bytes(b" " * 6_000_000)
        else:
            world.server.spoiled[f"metadata/{name}"] = endless

    return do


def send_more_of_the_student(world: World) -> None:
    if world.server is None:
        path = world.made.target_path(world.release.targets[1])
        path.write_bytes(path.read_bytes() + b"more")
    else:
        world.server.spoiled["targets/students"] = endless


def stall_at(path: str) -> Callable[[World], None]:
    def do(world: World) -> None:
        assert world.server is not None
        world.limits = FetchLimits(seconds=250, stall_s=1, grace_s=120)
        world.server.spoiled[path] = stall

    return do


def trickle(world: World) -> None:
    """Any speed is too slow for this limit, so the test depends on none."""
    world.limits = FetchLimits(stall_s=120, grace_s=0, bytes_per_s=10**12)


def sign_with_another_key(role: str) -> Callable[[World], None]:
    def do(world: World) -> None:
        thief = world.made.twin()
        thief.signers[role] = [CryptoSigner.generate_ed25519()]
        if role == "root":
            thief.signed("root").version += 1
            thief.write("root")
        else:
            order = ("targets", "snapshot", "timestamp")
            thief.renew(*order[order.index(role) :])

    return do


def sign_too_little(role: str) -> Callable[[World], None]:
    def do(world: World) -> None:
        thief = world.made.twin()
        thief.signers[role] = thief.signers[role][:1]
        if role == "root":
            thief.signed("root").version += 1
            thief.write("root")
        else:
            thief.renew("targets", "snapshot", "timestamp")

    return do


def sign_with_a_revoked_key(world: World) -> None:
    thief = world.made.twin()
    world.made.rotate("timestamp")
    world.made.renew("timestamp")
    world.honest = world.made.copy(world.folder / "rotated")
    thief.signed("timestamp").version += 10
    thief.write("timestamp")


def change_after_signing(world: World) -> None:
    path = metadata(world, "timestamp.json")
    document = json.loads(path.read_bytes())
    document["signed"]["version"] += 1
    path.write_text(json.dumps(document))


def answer_with_a_login_page(world: World) -> None:
    metadata(world, "2.root.json").write_text("<html>Please log in</html>")


def cut_the_timestamp(world: World) -> None:
    path = metadata(world, "timestamp.json")
    path.write_bytes(path.read_bytes()[:100])


def replace_index(world: World) -> None:
    world.publish(2)
    path = world.made.target_path(INDEX_TARGET)
    path.write_bytes(path.read_bytes().replace(b'"number":2', b'"number":3'))


def replace_graph(world: World) -> None:
    path = world.made.target_path(world.release.targets[1])
    path.write_bytes(path.read_bytes()[::-1])


def shorten_graph(world: World) -> None:
    path = world.made.target_path(world.release.targets[1])
    path.write_bytes(path.read_bytes()[:-1])


def answer_with_another_target(world: World) -> None:
    """The manifest of another student of this centre, under the name that was asked for."""
    other = json.loads((world.folder / "student-1" / "manifest.json").read_bytes())
    data = json.dumps({**other, "name": "other-rul"}).encode()
    world.made.publish({"students/other-rul/1/manifest.json": data})
    world.made.target_path(world.release.targets[0]).write_bytes(data)


def release_another_digest(world: World) -> None:
    """Whoever has the key of the index only changes what a release points to."""
    manifest, _ = world.release.targets
    data = world.made.content[manifest]
    world.made.publish({manifest: data.replace(b"{", b"{ ", 1)})


def announce_too_much(world: World) -> None:
    graph = world.release.targets[1]
    world.made.signed("targets").targets[graph] = TargetFile(HUGE, {"sha256": "0" * 64}, graph)
    world.made.renew("targets", "snapshot", "timestamp")


def leave_the_student_out(world: World) -> None:
    del world.made.signed("targets").targets[world.release.targets[1]]
    world.made.renew("targets", "snapshot", "timestamp")


def write_a_newer_index(world: World) -> None:
    index = json.loads(world.made.content[INDEX_TARGET])
    world.made.publish({INDEX_TARGET: json.dumps({**index, "format": 2}).encode()})


def repeat_a_release_number(world: World) -> None:
    world.publish(2)
    world.fetcher().fetch_index()
    again = world.release.model_copy(update={"number": 1})
    world.made.publish({INDEX_TARGET: world.made.index(again)})


def remove(name: str) -> Callable[[World], None]:
    return lambda world: metadata(world, name).unlink()


def lose_the_snapshot(world: World) -> None:
    world.made.renew("snapshot", "timestamp")
    newest(world, "snapshot").unlink()


def put_a_named_pipe(world: World) -> None:
    metadata(world, "timestamp.json").unlink()
    os.mkfifo(metadata(world, "timestamp.json"))


def set_clock(now_s: int) -> Callable[[World], None]:
    def do(world: World) -> None:
        world.now_s = now_s
        if world.server is not None:
            world.server.date_s = NOW_S

    return do


def run_ahead(role: str) -> Callable[[World], None]:
    """Fast-forward: with a stolen key the attacker uses up the numbers, and the gateway believes.

    The centre is then refused, until it rotates the key.
    """

    def do(world: World) -> None:
        thief = world.made.twin()
        if role == "targets":
            thief.signed("targets").version = HUGE
            thief.write("targets")
            thief.signed("snapshot").meta["targets.json"] = thief.described("targets")
        if role in ("targets", "snapshot"):
            thief.signed("snapshot").version += 5 if role == "targets" else HUGE
            thief.write("snapshot")
            thief.signed("timestamp").snapshot_meta = thief.described("snapshot")
        thief.signed("timestamp").version += 5 if role != "timestamp" else HUGE
        thief.write("timestamp")
        world.fetcher().fetch_index()
        world.made.restore(world.honest)
        for _ in range(10):
            world.made.renew("targets", "snapshot", "timestamp")
        world.honest = world.made.copy(world.folder / "renewed")

    return do


ATTACKS = {
    "rollback of the timestamp": Attack(
        roll_back_everything, "refused", "rollback of the timestamp: the repository offers version"
    ),
    "rollback of the snapshot": Attack(
        roll_back_snapshot, "refused", "rollback of the snapshot: the timestamp names version"
    ),
    "rollback of targets": Attack(
        roll_back_targets, "refused", "rollback of targets: the snapshot names version"
    ),
    "rollback of root": Attack(
        roll_back_root, "refused", "rollback of root: the repository has version 1 as 2.root.json"
    ),
    "rollback of releases": Attack(
        repeat_a_release_number, "refused", "rollback of releases: the centre names release 1"
    ),
    "targets dropped": Attack(drop_targets, "refused", "rollback of targets"),
    "indefinite freeze": Attack(freeze, "expired", "timestamp.json ran out on 2027"),
    "indefinite freeze, root": Attack(freeze_for_years, "expired", "root.json ran out on 2028"),
    "fast-forward of the timestamp": Attack(
        run_ahead("timestamp"),
        "refused",
        f"rollback of the timestamp: the repository offers version 12, version {HUGE + 2}",
        keys=("timestamp",),
    ),
    "fast-forward of the snapshot": Attack(
        run_ahead("snapshot"), "refused", "rollback of the snapshot", keys=("timestamp", "snapshot")
    ),
    "fast-forward of targets": Attack(
        run_ahead("targets"),
        "refused",
        f"rollback of targets: the snapshot names version 12, version {HUGE}",
        keys=("timestamp", "snapshot", "targets"),
    ),
    "mix-and-match of snapshots": Attack(mix("snapshot"), "refused", "mix-and-match: 3.snapshot"),
    "mix-and-match of targets": Attack(mix("targets"), "refused", "mix-and-match: 3.targets"),
    "mix-and-match of snapshots, by version": Attack(
        mix_without_digests("snapshot"), "refused", "mix-and-match: 3.snapshot.json holds version 2"
    ),
    "mix-and-match of targets, by version": Attack(
        mix_without_digests("targets"), "refused", "mix-and-match: 3.targets.json holds version 2"
    ),
    "endless timestamp": Attack(
        send_more("timestamp.json"), "refused", "endless data: the repository sends more than the "
    ),
    "endless root": Attack(send_more("2.root.json"), "refused", "endless data"),
    "endless student": Attack(send_more_of_the_student, "refused", "endless data", student=True),
    "slow retrieval of metadata": Attack(
        stall_at("metadata/timestamp"), "away", "slow retrieval: metadata/", only="web"
    ),
    "slow retrieval of a student": Attack(
        stall_at("targets"), "away", "slow retrieval: targets/", student=True, only="web"
    ),
    "slow retrieval in drops": Attack(trickle, "away", "slow retrieval", only="web"),
    "wrong key of the timestamp": Attack(
        sign_with_another_key("timestamp"), "refused", "wrong key: timestamp.json"
    ),
    "wrong key of targets": Attack(
        sign_with_another_key("targets"), "refused", "wrong key: 3.targets.json"
    ),
    "wrong key of the root": Attack(
        sign_with_another_key("root"), "refused", "wrong key: 2.root.json"
    ),
    "too few signatures of the root": Attack(
        sign_too_little("root"),
        "refused",
        "too few signatures: 2.root.json has 1 of 2",
        thresholds=(("root", 2),),
    ),
    "too few signatures of targets": Attack(
        sign_too_little("targets"),
        "refused",
        "too few signatures: 3.targets.json has 1 of 2",
        thresholds=(("targets", 2),),
    ),
    "revoked key": Attack(
        sign_with_a_revoked_key, "refused", "revoked key: timestamp.json is signed with a key that"
    ),
    "forged": Attack(
        change_after_signing, "refused", "forged: timestamp.json was changed after it was signed"
    ),
    "login page": Attack(
        answer_with_a_login_page, "refused", "2.root.json is no signed metadata: it is damaged"
    ),
    "cut metadata": Attack(cut_the_timestamp, "refused", "timestamp.json is no signed metadata"),
    "replaced index": Attack(replace_index, "refused", "replaced target: targets/"),
    "replaced student": Attack(replace_graph, "refused", "replaced target: targets/", student=True),
    "shortened student": Attack(shorten_graph, "refused", "replaced target", student=True),
    "target of another name": Attack(
        answer_with_another_target, "refused", "replaced target: targets/", student=True
    ),
    "index of another digest": Attack(
        release_another_digest,
        "refused",
        "release 1 of dummy-rul v1 names the manifest",
        student=True,
    ),
    "student too large": Attack(
        announce_too_much, "refused", "is announced with 2,147,483,648 bytes", student=True
    ),
    "student not signed": Attack(
        leave_the_student_out, "refused", "has not signed a target students/", student=True
    ),
    "index of a newer version": Attack(
        write_a_newer_index, "refused", "upgrade kpstream on this gateway"
    ),
    "no repository": Attack(
        remove("timestamp.json"), "away", "no repository at the centre: metadata/timestamp.json"
    ),
    "incomplete repository": Attack(
        lose_the_snapshot, "away", "the repository is incomplete: metadata/3.snapshot.json"
    ),
    "named pipe": Attack(
        put_a_named_pipe, "refused", "is a named pipe, not a regular file", only="folder"
    ),
    "clock of 1970": Attack(
        set_clock(60), "clock", "clock: this machine says 1970-01-01 00:01 UTC"
    ),
    "clock of 2027, before the index": Attack(
        set_clock(NOW_S - 2 * DAY_S),
        "clock",
        "clock: this machine says 2027-01-13 08:00 UTC, but an index",
    ),
    "clock of 2060": Attack(
        set_clock(NOW_S + 33 * 365 * DAY_S), "clock", "clock: this machine says 2060-01-"
    ),
    "clock of 2100": Attack(
        set_clock(4_102_444_801), "clock", "clock: this machine says 2100-01-01"
    ),
}
CASES = [
    pytest.param(attack, transport, id=f"{name}, {transport}")
    for name, attack in ATTACKS.items()
    for transport in ("folder", "web")
    if attack.only in ("", transport)
]


@pytest.mark.parametrize(("attack", "transport"), CASES)
def test_an_attack_is_refused_by_name_and_the_next_release_arrives(
    tmp_path: Path, attack: Attack, transport: str
) -> None:
    with world_of(tmp_path, transport, dict(attack.thresholds)) as world:
        world.fetcher().fetch_index()
        attack.do(world)
        before = world.trusted()
        if transport == "web":
            world.fetch_with_process()
        with pytest.raises(FetchFailed) as refused:
            if attack.student:
                world.fetcher().fetch_student(world.release)
            else:
                world.fetcher().fetch_index()
        assert attack.words in str(refused.value)
        assert refused.value.state == attack.state
        assert all(version >= before[role] for role, version in world.trusted().items())
        recover(world, attack)
        assert world.fetcher().fetch_index().releases == (world.release,)
        manifest_bytes, _ = world.fetcher().fetch_student(world.release)
        assert manifest_bytes == (tmp_path / "student-9" / "manifest.json").read_bytes()


def recover(world: World, attack: Attack, number: int = 9) -> None:
    """What the centre and an honest line do afterwards, up to a release of this number."""
    world.limits = World.limits_of_a_good_line()
    if world.server is not None:
        world.server.spoiled.clear()
        world.server.date_s = None
    if attack.state != "expired":
        world.now_s = world.made.now_s
    world.made.now_s = world.now_s
    world.made.restore(world.honest)
    made = world.made
    made.__dict__.pop("described", None)
    for role in ("targets", "snapshot", "timestamp"):
        made.signed(role).version = max(made.signed(role).version, 20)
    if attack.keys or attack.state == "expired":
        made.rotate(*attack.keys)
    world.publish(number)
