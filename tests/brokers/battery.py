"""The battery: what every broker of the matrix goes through, and how each step is judged.

A step returns a `Row`. Its verdict is one of

- `held`: nothing was lost or doubled, and what is wrong was said with its cause;
- `broker`: the broker itself lost something, or does not say what it refuses. The control
  subscriber, which was broken off at the same moment, misses messages of its own;
- `BROKEN`: ours. Lost or doubled messages that the control has, or a problem that is not said.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from deploy.stack.servers import find_servers
from tests.brokers.broker import Broker
from tests.brokers.clients import Answer, Control, ControlFailed, Devices, ask, wait_for
from tests.brokers.findings import broker_fault, failed, findings
from tests.brokers.others import no_right_to_read, pinned_version, short_session
from tests.brokers.plant import BrokerPlant
from tests.brokers.rig import Result, Rig, Row, Size, kill_under_load, wait_quiet
from tests.brokers.site import SharedBridges, tls_env
from tests.e2e.devices import payload

__all__ = ["STEPS", "run_battery"]

CLIENT_ID = "kpstream-bridge"
_CLIENT_ID = "KPSTREAM_INGEST_MQTT_CLIENT_ID"
_INTRUSIONS = 4
_LETTERS = 80
_ANSWERS_S = 20.0

# -- what the broker says ---------------------------------------------------------------------


def announced(rig: Rig) -> Result:
    """What CONNACK and SUBACK say, for each MQTT version."""
    facts: dict[str, Any] = {}
    for version in ("5", "3.1.1"):
        answer = ask(rig.broker.port, version, name=f"ask{version[0]}", subscribe="sensors/#")
        shared = Answer()
        if answer.connack == "Success":
            shared = ask(
                rig.broker.port, version, name=f"share{version[0]}", subscribe="$share/g/sensors/#"
            )
        facts[version] = {
            "connack": answer.connack,
            "properties": answer.properties,
            "suback": answer.suback or answer.ended,
            "shared": shared.suback or shared.ended,
        }
    best = "5" if facts["5"]["connack"] == "Success" else "3.1.1"
    said = ", ".join(f"{name} {value}" for name, value in facts["5"]["properties"].items())
    verdict = "held" if facts[best]["suback"] == "Granted QoS 1" else "broker"
    return verdict, (said or "nothing") if best == "5" else "MQTT 3.1.1 cannot", facts


def queue(rig: Rig) -> Result:
    """How many messages the broker keeps for a client that is away for a while."""
    keeper = Control(rig.broker.port, "queue/#", rig.version, name="keeper", ack_pause_s=0.0)
    keeper.online()
    keeper.break_off()
    devices = Devices(rig.broker.port, "queue-devices")
    devices.publish_all((f"queue/{number}", b"{}") for number in range(rig.size.queue))
    flushed = devices.flush(300)
    devices.close()
    keeper.online()
    count = len(devices.confirmed)
    wait_quiet(keeper, count)
    kept = len(keeper.topics)
    keeper.break_off()
    text = f"{kept:,} of {count:,} queued messages"
    if not flushed:
        text += f" ({rig.size.queue - count:,} were never confirmed)"
    return "held" if kept == count else "broker", text, {"kept": kept, "confirmed": count}


# -- the gateway ------------------------------------------------------------------------------


def ready(rig: Rig) -> Result:
    """The gateway becomes ready with the version that the broker speaks."""
    began = time.monotonic()
    rig.plant.start_gateway()
    health = rig.plant.mqtt_health()
    spoken = str(health.get("protocol", "?"))
    expected = rig.broker.protocols[0]
    numbers = {"seconds": round(time.monotonic() - began, 1), "health": health}
    return "held" if spoken in (expected, "?") else "BROKEN", f"MQTT {spoken}", numbers


def simulate(rig: Rig) -> Result:
    """`kpstream simulate`, then the account of every device, and the copies that it published."""
    control = Control(rig.broker.port, "sensors/#", rig.version, name="counter", ack_pause_s=0.0)
    control.online()
    done = rig.plant.command(
        "simulate",
        *("--engines", str(rig.size.engines), "--people", "2"),
        stop_after_s=rig.size.simulate_s,
    )
    wait_quiet(control, None)
    published = sum(control.topics.values())
    copies = control.copies
    wait_for(lambda: not _unbalanced(rig, control), rig.size.settle_s, poll_s=1.5)
    unbalanced = _unbalanced(rig, control)
    control.break_off()
    text = f"{published:,} messages of {len(control.topics)} devices, {copies} copies"
    if unbalanced:
        text += f"; {len(unbalanced)} accounts do not balance: {unbalanced[0]}"
    if not published:
        text += f"; {done.output[-200:]}"
    # The simulator itself sends one message in two hundred twice.
    verdict = "held" if published and not unbalanced and copies * 20 < published else "BROKEN"
    return verdict, text, {"published": published, "copies": copies, "output": done.output[-1500:]}


def gateway_killed(rig: Rig) -> Result:
    """SIGKILL under load, then away for a while, then back."""
    return kill_under_load(rig, "kill")


def broker_killed(rig: Rig) -> Result:
    """SIGKILL of the broker under load, and its restart on the same data.

    The control subscriber is away meanwhile: what the broker had confirmed and then lost is missing
    in its queue, too, also where the gateway was too slow to take it in time.
    """
    devices = Devices(rig.broker.port, "devices-2")
    lost_before = rig.plant.mqtt_health().get("sessions_lost", 0)
    control = Control(rig.broker.port, "sensors/#", rig.version, name="control-2").online()
    time.sleep(rig.broker.saves_s)  # its session is as safe as the gateway's, which is older
    control.break_off()
    load = rig.size.load
    devices.publish_all(rig.messages("crash", 0, load), pause_s=0.01)
    rig.broker.kill()
    devices.publish_all(rig.messages("crash", load, load))
    rig.broker.start()
    devices.flush()
    control.online()  # first: a broker that does not serve it owes us nothing either
    rig.plant.wait_ready()
    result = rig.judge(devices, control, lost_before)
    devices.close()
    control.break_off()
    return result


def retained(rig: Rig) -> Result:
    """A retained reading, which the broker sends at every subscription: it counts once."""
    topic = "sensors/matrix/retained-0/imu"
    devices = Devices(rig.broker.port, "devices-3")
    devices.publish(topic, payload(1, 1, rig.t0_ms), retain=True)
    if not devices.flush():
        devices.close()
        return "broker", "the broker does not confirm a retained message", {}
    wait_for(lambda: topic in rig.windowed(), 60, poll_s=1.0)
    rig.plant.stop_gateway()
    rig.plant.start_gateway()
    wait_for(lambda: _duplicates(rig, topic) > 0, 10, poll_s=1.0)
    found, again = rig.windowed().get(topic, 0), _duplicates(rig, topic)
    devices.publish(topic, b"", retain=True)  # forget it
    devices.flush()
    devices.close()
    return (
        "held" if found == 1 else "BROKEN",
        f"counted {found} times, {again} copies recognised",
        {"found": found},
    )


def takeover(rig: Rig) -> Result:
    """Another client with our client id: said with its cause, over once it has gone."""
    client_id = rig.plant.env.get(_CLIENT_ID, CLIENT_ID)
    seen: list[str] = []
    for _ in range(_INTRUSIONS):
        before_ms = rig.plant.mqtt_health().get("connected_since_ms")
        ask(rig.broker.port, rig.version, name=client_id)
        # It has noticed, and is connected again: else the next intrusion would meet nobody.
        wait_for(partial(_connected_since, rig, before_ms), 30)
        wait_for(lambda: bool((rig.plant.get("ready") or {}).get("ready")), 20)
        seen.append(json.dumps(rig.plant.get("ready"))[:2000] + rig.plant.output()[-2000:])
    said = any("client id" in text for text in seen)
    back = wait_for(lambda: bool((rig.plant.get("ready") or {}).get("ready")), 120)
    text = "said" if said else "not said"
    text += ", ready again" if back else ", NOT ready again"
    return "held" if said and back else "BROKEN", text, {"log": rig.plant.output()[-1500:]}


def dead_letters(rig: Rig) -> Result:
    """`kpstream dead-letters replay` publishes each of them once."""
    devices = Devices(rig.broker.port, "devices-4")
    counter = Control(rig.broker.port, "sensors/#", rig.version, name="letters").online()
    for number in range(_LETTERS):
        devices.publish(f"sensors/matrix/letter-{number}/imu", b"{not json")
    devices.flush()
    due = set(devices.confirmed)
    wait_for(lambda: due <= _letters(rig).keys(), 60, poll_s=1.0)
    wait_quiet(counter, None)
    before, first = _letters(rig), dict(counter.topics)
    done = rig.plant.command("dead-letters", "replay", "--reason", "not_json")
    wait_quiet(counter, None)  # a copy would come meanwhile
    published = sum(
        times - first.get(topic, 0) for topic, times in counter.topics.items() if _is_letter(topic)
    )
    counter.break_off()
    devices.close()
    after, count = _letters(rig), len(before)
    lost = due - before.keys()
    text = f"{count} refused, {published} published again, {len(after)} kept"
    if len(due) < _LETTERS:
        text += f"; the broker confirmed {len(due)} of {_LETTERS}"
    if lost:
        text += f"; {len(lost)} confirmed ones did not come"
    # A broker may forget confirmed messages of a publisher that leaves.
    verdict = "broker" if published < count or len(due) < _LETTERS or lost else "held"
    ours = lost & first.keys()  # the counter got them
    is_known = done.returncode == 0 and len(after) == count
    if ours or published > count or not is_known or (due and not count):
        verdict = "BROKEN"
    return verdict, text, {"exit": done.returncode, "output": done.output[-800:]}


# -- refusals ---------------------------------------------------------------------------------


def doctor(rig: Rig) -> Result:
    """`kpstream doctor` finds no fault with a broker that works, and its message comes back."""
    done = rig.plant.command("doctor", "--json")
    fault = broker_fault(done.output)
    came_back = any(
        each["text"].startswith("PUBLISH: ") and each["state"] == "ok"
        for each in findings(done.output)
    )
    verdict = "held" if came_back and not fault else "BROKEN"
    return verdict, fault or "no fault of the broker", {"output": done.output[-4000:]}


def wrong_password(rig: Rig) -> Result:
    """A wrong password is named as such."""
    done = rig.plant.command("doctor", "--json", env={"KPSTREAM_INGEST_MQTT_PASSWORD": "wrong"})
    faults = [each for each in findings(done.output) if failed(each)]
    text = "; ".join(str(each.get("text")) for each in faults if each.get("name") != "console")
    said = any(word in text.lower() for word in ("password", "not authori", "refuse"))
    return (
        "held" if said else "BROKEN",
        text[:300] or done.output[-300:],
        {"output": done.output[-3000:]},
    )


def no_right_to_publish(rig: Rig) -> Result:
    """A user who may not publish: `dead-letters replay` says so where the broker does."""
    raw = ask(rig.broker.port, rig.version, name="nowrite", user="nowrite", publish="sensors/a/b/c")
    device = next(iter(_letters(rig)), "sensors/matrix/letter-1/imu").split("/")[2]
    done = rig.plant.command(
        *("dead-letters", "replay", "--device", f"matrix/{device}"),
        env={"KPSTREAM_INGEST_MQTT_USERNAME": "nowrite"},
    )
    answer = raw.puback or raw.ended or "no answer"
    numbers = {"puback": answer, "exit": done.returncode, "output": done.output[-1500:]}
    last = " ".join(done.output.partition("they stay in the list")[0].split())[:250]
    if raw.puback == "Success":
        return "broker", f"PUBACK says {answer}, nothing is delivered", numbers
    said = done.returncode not in (0, None)
    text = f"broker: {answer}. Replay: {last or 'prints nothing'}"
    return "held" if said else "BROKEN", text, numbers


def mutual_tls(rig: Rig) -> Result:
    """`kpstream doctor` with a client certificate finds no fault; without one, it says so."""
    env = tls_env(rig.broker)
    done = rig.plant.command("doctor", "--json", env=env)
    fault = broker_fault(done.output)
    bare = {name: value for name, value in env.items() if "CERT" not in name and "KEY" not in name}
    refused = rig.plant.command("doctor", "--json", env=bare)
    said = broker_fault(refused.output) or ""
    text = fault or f"no fault of the broker; without a certificate: {said or 'nothing'}"
    verdict = "held" if findings(done.output) and not fault and said else "BROKEN"
    return verdict, text, {"output": done.output[-3000:], "bare": said}


def shared_bridges(rig: Rig) -> Result:
    """Two bridges share the messages; one is killed under load and comes back."""
    if find_servers().kafka_libs is None:
        return "skipped", "needs Kafka: kpstream site install --only kafka", {}
    load = rig.size.load
    devices = Devices(rig.broker.port, "devices-5")
    with SharedBridges(rig.broker, rig.folder / "site") as site:
        devices.publish_all(rig.messages("share", 0, load), pause_s=0.01)
        site["bridge-1"].kill()
        devices.publish_all(rig.messages("share", load, load), pause_s=0.002)
        devices.flush()
        site["bridge-1"].start()
        due = {topic.split("/")[2] for topic in devices.confirmed}
        wait_for(lambda: due <= site.devices(), rig.size.settle_s, poll_s=2.0)
        lost = due - site.devices()
    devices.close()
    text = f"{len(due) - len(lost):,} of {len(due):,} in Kafka"
    text += ", over mutual TLS" if rig.broker.has_tls else ""
    numbers = {"confirmed": len(due), "lost": len(lost)}
    return "BROKEN" if lost else "held", text, numbers


STEPS: dict[str, Callable[[Rig], Result]] = {
    "announced": announced,
    "queue": queue,
    "ready": ready,
    "simulate": simulate,
    "gateway killed": gateway_killed,
    "broker killed": broker_killed,
    "short session": short_session,
    "pinned 3.1.1": pinned_version,
    "retained": retained,
    "dead letters": dead_letters,
    "takeover": takeover,
    "doctor": doctor,
    "wrong password": wrong_password,
    "mutual TLS": mutual_tls,
    "no right to publish": no_right_to_publish,
    "no right to read": no_right_to_read,
    "shared bridges": shared_bridges,
}
"""The steps in their order; from `ready` on they need the gateway of that step."""

_WITHOUT_GATEWAY = ("announced", "queue", "ready")
_RIGHTS = ("no right to publish", "no right to read")


def run_battery(
    broker: Broker,
    folder: Path,
    size: Size,
    report: Callable[[Row], None],
    steps: tuple[str, ...] = tuple(STEPS),
) -> list[Row]:
    """Run the steps against one broker; a step that raises is `BROKEN`, and the next one runs.

    Args:
        broker: Not started yet.
        folder: Folder of the gateway's state.
        size: Messages of each step.
        report: Called with each row as soon as it is known.
        steps: Names of the steps.
    """
    rows: list[Row] = []
    rig = Rig(broker, folder, size, BrokerPlant(broker, folder / "gateway"), broker.protocols[0])
    try:
        broker.start()
        for name in steps:
            if not _applies(name, broker):
                continue
            began = time.monotonic()
            try:
                verdict, text, numbers = STEPS[name](rig)
            except Exception as exc:
                verdict, text, numbers = "BROKEN", f"{type(exc).__name__}: {exc}"[:400], {}
                broker.start()
                if isinstance(exc, ControlFailed):
                    said = rig.plant.problem("", 5) or "ready"
                    verdict, text = "broker", f"{exc}. Gateway: {said}"
                    _begin_anew(rig.plant, len(rows))
                elif name not in _WITHOUT_GATEWAY and not rig.plant.runs:
                    rig.plant.start_gateway(wait=False)
            if not broker.healthy(_ANSWERS_S):
                broker.kill()
                broker.start()
                verdict = "broker" if verdict == "held" else verdict
                text += "; the broker answered nobody any more and was started again"
            row = Row(broker.name, name, verdict, text, numbers, round(time.monotonic() - began, 1))
            rows.append(row)
            report(row)
    finally:
        if rig.plant.runs:
            rig.plant.kill_gateway()
        broker.kill()
    return rows


def _begin_anew(plant: BrokerPlant, number: int) -> None:
    """Give the gateway another client id: the broker no longer serves its session."""
    if plant.runs:
        plant.kill_gateway()
        plant.env[_CLIENT_ID] = f"{CLIENT_ID}-{number}"
        plant.start_gateway(wait=False)


def _applies(step: str, broker: Broker) -> bool:
    if step == "mutual TLS":
        return broker.has_tls
    if step == "shared bridges":
        return broker.shares
    if step == "pinned 3.1.1":
        return len(broker.protocols) > 1
    if step == "short session":
        return broker.caps_sessions
    return broker.has_rights or step not in _RIGHTS


def _unbalanced(rig: Rig, control: Control) -> list[str]:
    """Devices whose account does not balance, or misses readings of the control subscriber.

    A broker may drop messages for the control subscriber alone, so an account may hold more.
    """
    accounts = {f"sensors/{s}/{d}/{k}": a for (s, d, k), a in rig.plant.accounts().items()}
    wrong = []
    for topic, due in control.readings.items():
        account = accounts.get(topic, {})
        ends = ("windowed", "duplicate", "corrected", "late", "dead_lettered")
        total = sum(account.get(name, 0) for name in ends)
        if account.get("received", 0) != total or total < due:
            wrong.append(f"{topic}: sent {due}, {account or 'no account'}")
    return wrong


def _connected_since(rig: Rig, before_ms: int | None) -> bool:
    return rig.plant.mqtt_health().get("connected_since_ms") not in (before_ms, None)


def _duplicates(rig: Rig, topic: str) -> int:
    accounts = {f"sensors/{s}/{d}/{k}": a for (s, d, k), a in rig.plant.accounts().items()}
    account = accounts.get(topic, {})
    return int(account.get("duplicate", 0) + account.get("late", 0))


def _letters(rig: Rig) -> dict[str, int]:
    """Dead letters of the step `dead letters` by topic."""
    from deploy.commands.dead_letter_reader import read_dead_letters

    found = read_dead_letters(rig.plant.state_dir / "log.db").dead_letters
    return {each.mqtt_topic: 1 for each in found if _is_letter(each.mqtt_topic)}


def _is_letter(topic: str) -> bool:
    return topic.startswith("sensors/matrix/letter-")
