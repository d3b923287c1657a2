"""The page of the matrix, from rows without a broker."""

from __future__ import annotations

from pathlib import Path

from tests.brokers.battery import STEPS
from tests.brokers.report import page, read_rows, write_row
from tests.brokers.rig import Row

FACTS = {
    "5": {
        "connack": "Success",
        "properties": {"ReceiveMaximum": 10},
        "suback": "Granted QoS 1",
        "shared": "Granted QoS 1",
    },
    "3.1.1": {"connack": "Not authorized", "properties": {}, "suback": "", "shared": ""},
}
CRASH = {"confirmed": 240, "lost": 3, "control_lost": 5, "doubled": 0, "session_kept": True}
ROWS = [
    Row("mosquitto", "start", "held", "mosquitto 2.0.11"),
    Row("mosquitto", "announced", "held", "ReceiveMaximum 10", FACTS),
    Row("mosquitto", "queue", "broker", "1,000 of 2,500", {"kept": 1000, "confirmed": 2500}),
    Row("mosquitto", "broker killed", "broker", "237 of 240", CRASH),
    Row("mosquitto", "takeover", "BROKEN", "not said | <b>", {}),
    Row("hivemq", "start", "skipped", "needs mvn"),
]


def test_the_page_says_what_a_broker_keeps_announces_and_how_it_went() -> None:
    text = page(ROWS)
    row = next(line for line in text.splitlines() if line.startswith("| mosquitto 2.0.11 | 5 |"))
    assert "1,000 of 2,500 messages for a client that is away" in row
    assert "over its SIGKILL 235 of 240 and the session" in row
    assert "0 of 3 held; BROKEN: takeover; broker: queue, broker killed" in row
    assert "| mosquitto 2.0.11 | 5 | ReceiveMaximum 10 | Granted QoS 1 | Granted QoS 1 |" in text
    assert "| mosquitto 2.0.11 | 3.1.1 | Not authorized | - | - |" in text
    assert "- hivemq: needs mvn" in text


def test_text_of_a_broker_cannot_break_the_table() -> None:
    line = next(each for each in page(ROWS).splitlines() if "takeover | BROKEN" in each)
    assert line.endswith("| not said / &lt;b> |")


def test_a_step_that_was_run_again_replaces_its_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    for row in (*ROWS, Row("mosquitto", "takeover", "held", "said")):
        write_row(path, row)
    found = {(row.broker, row.step): row for row in read_rows(path)}
    assert found["mosquitto", "takeover"].verdict == "held"
    assert len(found) == len(ROWS)


def test_every_step_of_the_battery_is_on_the_page() -> None:
    rows = [
        Row("nats", "announced", "held", "", FACTS),
        *(Row("nats", step, "held", f"of {step}") for step in STEPS if step != "announced"),
    ]
    text = page(rows)
    for step in STEPS:
        assert step == "announced" or f"| {step} | held | of {step} |" in text, step


def test_a_committed_row_has_no_output_of_processes(tmp_path: Path) -> None:
    row = Row("nats", "doctor", "held", "", {"output": "/tmp/x", "lost": 1})
    write_row(tmp_path / "slim.jsonl", row)
    write_row(tmp_path / "full.jsonl", row, details=True)
    assert read_rows(tmp_path / "slim.jsonl")[0].numbers == {"lost": 1}
    assert read_rows(tmp_path / "full.jsonl")[0].numbers == row.numbers
