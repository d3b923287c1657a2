"""`docs/brokers.md`, written from the rows of a run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tests.brokers.rig import Row

__all__ = ["page", "read_rows", "write_row"]

_HEAD = """\
# Brokers

Written by `make brokers`, which starts real brokers on one machine and sends each of them through
the same battery with a whole gateway: an account after `kpstream simulate`, SIGKILL of the gateway
and of the broker under QoS 1 load, a gateway that is away for a while, refused rights, a wrong
password, a second client with our client id, retained messages, `kpstream dead-letters replay`,
`kpstream doctor`, and, where the broker and its starter have them: a session that is kept for 4 s
only, a gateway that is set to 3.1.1 beside MQTT 5, mutual TLS, and two bridges of a site that share
a subscription. [delivery.md](delivery.md) says what is promised.

- **held**: nothing was lost or doubled, and what was wrong was reported with its cause.
- **broker**: the broker itself lost something, or does not say what it refuses. A control
  subscriber with a persistent session of its own, cut off at the same moment, shows it.
- **BROKEN**: kpstream lost or doubled something, or did not report what was wrong.
"""

_STEP_MEANINGS = """\
- **queue**: messages that the broker has kept for a client that was away.
- **ready**: the MQTT version with which the gateway became ready.
- **simulate**: messages of `kpstream simulate`; the account of every device balances.
- **gateway killed**, **broker killed**: messages that reached the gateway, of those that the broker
  had confirmed.
- **retained**: how often a retained reading counts, although each subscription brings it again.
- **dead letters**: messages refused, published again by `dead-letters replay`, and kept.
- **takeover**: another client uses our client id; *said*: the gateway names that cause.
- **doctor**, **mutual TLS**: what `kpstream doctor` finds.
- **short session**, **pinned 3.1.1**, **wrong password**, **no right to publish**, **no right to
  read**: what the broker answers, and what the gateway or the command reports.
- **shared bridges**: messages in Kafka while one of two bridges is killed.
"""

_TO_SET = {
    "mosquitto": "`max_queued_messages 0`, `max_inflight_messages 0`, `persistence true`, "
    "`autosave_interval 1`: the defaults drop what does not fit. It grants a subscription without "
    "the right and delivers nothing: check the access list",
    "rabbitmq": "plugin `rabbitmq_mqtt`; `mqtt.subscription_ttl` (default: one day) to the longest "
    "absence; the topic permission to read `sensors.*`",
    "hivemq": "`queued-messages`, `max-queue-size` (default: 1,000 for each client) to what the "
    "devices send during the longest absence; `session-expiry` if it is capped",
    "artemis": "persistence; the rights to send, to consume and to create queues and addresses on "
    "`sensors.#`",
    "mochi": "a storage hook (`bolt`, `badger`, `pebble`, `redis`): without one nothing survives a "
    "restart; `maximum_inflight` (default: 8,192). 2.7.9 may stop answering under load, because it "
    "takes a read lock twice: the gateway says that CONNECT is not answered; restart the broker. "
    "After SIGKILL it may close every "
    "connection of a session with messages: give the gateway another client id",
    "aedes": "a persistence (`aedes-persistence-level`, `-redis`, `-mongodb`): the one in memory "
    "forgets at a restart",
    "moquette": "`persistence_enabled true` and `data_path`. It forgets its sessions at SIGKILL, "
    "and may then answer no SUBSCRIBE or confirm nothing (seen in some runs; the steps from the "
    "dead letters on ran with a fresh one). It leaves a publication without the right unanswered",
    "nats": "JetStream; `max_ack_pending` (default: 1,024): the sum over the filters of a session "
    "is at most 65,535",
    "amqtt": "for a first try only: it keeps nothing on disk",
}

_DETAILS = ("output", "log", "health", "ready", "bare")
_ADDRESS = re.compile(r"127\.0\.0\.1:\d+")
_QUEUE = "queue"
_STEPS = (
    "ready",
    "simulate",
    "gateway killed",
    "broker killed",
    "short session",
    "pinned 3.1.1",
    "retained",
    "dead letters",
    "takeover",
    "doctor",
    "wrong password",
    "mutual TLS",
    "no right to publish",
    "no right to read",
    "shared bridges",
)


def write_row(path: Path, row: Row, *, details: bool = False) -> None:
    """Append one row as JSON; a step that is run again replaces its row (`read_rows`).

    Args:
        path: File of the rows.
        row: The row.
        details: Keep what the processes printed too, which names paths of this machine.
    """
    fields = asdict(row)
    if not details:
        fields["numbers"] = {k: v for k, v in row.numbers.items() if k not in _DETAILS}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields, sort_keys=True) + "\n")


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a run; of a step that was run twice, the newer one."""
    if not path.exists():
        return []
    found: dict[tuple[str, str], Row] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = Row(**json.loads(line))
        if row.step == "start" and row.verdict == "skipped":
            found = {key: each for key, each in found.items() if key[0] != row.broker}
        found[row.broker, row.step] = row
    return list(found.values())


def page(rows: list[Row]) -> str:
    """Return the page as Markdown.

    Args:
        rows: Rows of all brokers, as `read_rows` returns them.
    """
    names = list(dict.fromkeys(row.broker for row in rows))
    steps = {name: {row.step: row for row in rows if row.broker == name} for name in names}
    ran = [name for name in names if "announced" in steps[name]]
    lines = [_HEAD, "## The matrix", ""]
    lines += _table(
        ("broker", "protocol", "what it keeps", "what to set", "result"),
        (_summary(name, steps[name]) for name in ran),
    )
    lines += ["", "## What each announces", "", _ANNOUNCED, ""]
    lines += _table(
        (
            "broker",
            "MQTT",
            "CONNACK says",
            "SUBACK for `sensors/#`",
            "SUBACK for `$share/g/sensors/#`",
        ),
        [cells for name in ran for cells in _announced(steps[name])],
    )
    lines += ["", "## Every step", "", _STEP_MEANINGS]
    lines += _table(
        ("broker", "step", "verdict", "measured"),
        (
            (_title(steps[name]), step, row.verdict, row.text)
            for name in ran
            for step in (_QUEUE, *_STEPS)
            if (row := steps[name].get(step)) is not None
        ),
    )
    if skipped := [name for name in names if name not in ran]:
        lines += ["", "Not run here:", ""]
        lines += [f"- {name}: {next(iter(steps[name].values())).text}" for name in skipped]
    lines += ["", _MISSING, ""]
    return "\n".join(lines)


_ANNOUNCED = "What a broker does not mention has the default of MQTT 5: no limit, or available."
_MISSING = """\
EMQX, VerneMQ, NanoMQ and RabbitMQ 4 are in none of the package registries (Debian has RabbitMQ
3.10); they and the brokers of cloud providers are not tried."""


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    cells = [list(head)]
    cells += [[_cell(each) for each in row] for row in rows]
    return [
        f"| {' | '.join(cells[0])} |",
        f"|{'---|' * len(cells[0])}",
        *(f"| {' | '.join(row)} |" for row in cells[1:]),
    ]


def _cell(text: str) -> str:
    """One line without characters that mean something in a table or to the page's links."""
    text = _ADDRESS.sub("127.0.0.1", text.replace("|", "/").replace("<", "&lt;"))
    return " ".join(text.split()) or "-"


def _title(steps: dict[str, Row]) -> str:
    start = steps.get("start")
    return start.text if start is not None else next(iter(steps.values())).broker


def _summary(name: str, steps: dict[str, Row]) -> tuple[str, ...]:
    speaks = [
        version
        for version, facts in steps["announced"].numbers.items()
        if facts.get("connack") == "Success"
    ]
    return (
        _title(steps),
        " and ".join(speaks) or "-",
        _kept(steps),
        _TO_SET.get(name, "-"),
        _result(steps),
    )


def _kept(steps: dict[str, Row]) -> str:
    """What the broker keeps while a client is away, and over its own SIGKILL."""
    parts = []
    if (queue := steps.get(_QUEUE)) is not None and queue.numbers:
        kept, sent = queue.numbers["kept"], queue.numbers["confirmed"]
        parts.append(f"{kept:,} of {sent:,} messages for a client that is away")
    if (crash := steps.get("broker killed")) is not None and crash.numbers:
        lost = max(crash.numbers["lost"], crash.numbers["control_lost"])
        confirmed = crash.numbers["confirmed"]
        session = "the session" if crash.numbers["session_kept"] else "not the session"
        parts.append(f"over its SIGKILL {confirmed - lost:,} of {confirmed:,} and {session}")
    return "; ".join(parts)


def _result(steps: dict[str, Row]) -> str:
    judged = [steps[step] for step in (_QUEUE, *_STEPS) if step in steps]
    parts = []
    for verdict in ("BROKEN", "broker"):
        if named := [row.step for row in judged if row.verdict == verdict]:
            parts.append(f"{verdict}: {', '.join(named)}")
    held = sum(row.verdict == "held" for row in judged)
    return "; ".join([f"{held} of {len(judged)} held", *parts])


def _announced(steps: dict[str, Row]) -> Iterable[tuple[str, ...]]:
    for version, facts in steps["announced"].numbers.items():
        said = ", ".join(f"{name} {value}" for name, value in facts["properties"].items())
        if facts["connack"] != "Success":
            said = facts["connack"]
        elif not said:
            said = "accepted"
        yield _title(steps), version, said, facts["suback"], facts["shared"]
