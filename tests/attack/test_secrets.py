"""Secrets of the settings never appear: not in errors of settings, not in errors of libraries.

The cases are generated from the settings classes and the commands, so a new secret, setting or
command is attacked by itself.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import click
import pytest
from click.testing import CliRunner, Result
from pydantic_settings import BaseSettings

from deploy.cli import main
from deploy.settings.doc import env_name, settings_classes
from deploy.stack.influxapi import InfluxApi
from ingest.backoff import Backoff
from ingest.environment import is_secret
from ingest.mapping import ready
from tests.attack.account import Attack

SECRETS = {
    env_name(settings, name): f"top-secret-of-{settings.__name__.lower()}-{name}-7Q"
    for settings in settings_classes()
    for name, field in settings.model_fields.items()
    if is_secret(field)
}
MARK = "top-secret-of-"
# What a secret itself may look like; each keeps the mark in every of its parts.
SPOILED: dict[str, Callable[[str], str]] = {
    "newline inside": lambda secret: f"{secret}\n{secret}",
    "carriage return": lambda secret: f"{secret}\r{secret}",
    "escape": lambda secret: f"\x1b[31m{secret}",
    "beyond ASCII": lambda secret: f"{secret}-é",
    "not UTF-8": lambda secret: f"{secret}-\udcff",
}
# The cases of the short form.
SHORT = ["wrong int", "wrong url", "secret with newline inside", "secret with not UTF-8"]
# Values of required parameters that are more than a number or a path.
VALUES = {
    "since": "2026-11-28",
    "what": "devices-acl",
    "file": str(next(Path(ready.__file__).parent.glob("*.toml"))),
}
# Commands that read no settings.
WITHOUT_SETTINGS = {
    "bundle build",
    "bundle check",
    "bundle sbom",
    "certs make",
    "certs show",
    "fleet apply",
    "map copy",
    "map list",
    "site install",
}


def kind_of(annotation: Any) -> str:
    """The kind of a setting, by which its wrong value is chosen."""
    for part in (annotation, *get_args(annotation)):
        origin = get_origin(part) or part
        if getattr(origin, "__name__", "") in {"int", "float", "bool", "tuple", "Literal"}:
            return str(origin.__name__)
    return "text"


def wrong_values() -> dict[str, dict[str, str]]:
    """Kind of setting to a wrong value of one setting of that kind in every settings class."""
    found: dict[str, dict[str, str]] = {}
    for settings in settings_classes():
        of_kind: dict[str, str] = {}
        for name, field in settings.model_fields.items():
            if not is_secret(field):
                of_kind.setdefault(kind_of(field.annotation), env_name(settings, name))
            if name.endswith("url"):
                of_kind["url"] = env_name(settings, name)
        for kind in ("int", "float", "bool", "tuple", "Literal", "url"):
            wrong = "http://me:top-secret-of-url@host" if kind == "url" else "wrong["
            found.setdefault(kind, {})[of_kind.get(kind, of_kind["int"])] = wrong
    return found


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of `kpstream`, by its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


def line_of(words: tuple[str, ...], folder: Path) -> list[str]:
    """A command line with a value for everything that is required."""
    command: click.Command = main
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    values = []
    for parameter in command.params:
        if not parameter.required:
            continue
        kind = parameter.type
        value = str(folder) if isinstance(kind, click.Path) else "1"
        value = VALUES.get(str(parameter.name), value)
        if isinstance(kind, click.Choice):
            value = str(kind.choices[0])
        is_option = isinstance(parameter, click.Option)
        values += [parameter.opts[0], value] if is_option else [value]
    chooses = words in (("dead-letters", "replay"), ("dead-letters", "purge"))
    more = ["--all"] if chooses else []
    if words == ("map", "try"):
        more = ["--seconds", "0.1"]
    if words == ("map", "draft"):
        more = ["tele/#", "--seconds", "0.1"]
    return [*words, *values, *more]


def everything(result: Result) -> str:
    """Output of a command, with the traceback that Python would print if it raised an error."""
    error = result.exception
    if error is None or isinstance(error, SystemExit):
        return result.output
    return result.output + "".join(traceback.format_exception(error))


def leaks_in_files(folder: Path) -> list[str]:
    """Files below a folder that hold a secret."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if MARK.encode() in path.read_bytes()]


def runs() -> Iterator[tuple[str, dict[str, str]]]:
    """Cases: name and environment."""
    for kind, wrong in wrong_values().items():
        yield f"wrong {kind}", SECRETS | wrong
    for name, spoil in SPOILED.items():
        ports = wrong_values()["int"]  # a command without secrets must not really start
        yield f"secret with {name}", {key: spoil(value) for key, value in SECRETS.items()} | ports


def test_no_command_shows_a_secret_when_settings_are_wrong(
    attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    leaks, silent, count = [], set(), 0
    every = [words for words in commands(main) if " ".join(words) not in WITHOUT_SETTINGS]
    every_case = dict(runs())
    chosen = list(every_case) if attack.is_long else SHORT
    for case, env in ((case, every_case[case]) for case in chosen):
        for words in every:
            result = CliRunner().invoke(main, line_of(words, tmp_path), env=env)
            count += len(SECRETS)
            text = everything(result)
            if MARK in text:
                leaks.append(f"{' '.join(words)}, {case}: {text[-300:]}")
            if result.exit_code == 0 or "KPSTREAM_" not in result.output:
                silent.add(f"{' '.join(words)}, {case}: {result.output[-200:]}")
    leaks += leaks_in_files(tmp_path)
    attack.note(f"{len(every)} commands, {len(SECRETS)} secrets")
    attack.report(count=count, lost=len(leaks), unit="secrets in wrong settings")
    assert leaks == []
    assert silent == set(), "such a command names no setting"


@pytest.mark.parametrize("settings", settings_classes(), ids=lambda cls: cls.__name__)
def test_a_spoiled_secret_is_refused_by_its_name(settings: type[BaseSettings]) -> None:
    from deploy.settings.errors import InvalidSettings, settings_problems

    for name, field in settings.model_fields.items():
        for spoil in SPOILED.values():
            if not is_secret(field):
                continue
            with pytest.raises(InvalidSettings) as refused:
                settings(**{name: spoil(SECRETS[env_name(settings, name)])})
            problems = "\n".join(settings_problems(refused.value))
            assert problems.startswith(f"{env_name(settings, name)}: ")
            assert MARK not in problems + str(refused.value)


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the request's own headers and body, as some proxies do."""

    status = 500

    def do_GET(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        told = f"{self.headers}{self.rfile.read(size)!r}"
        body = json.dumps({"message": told, "error": told, "code": told, "kind": told}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


STATUSES = (200, 204, 400, 401, 403, 404, 409, 412, 413, 422, 429, 500, 503)


def test_a_server_that_sends_the_request_back_makes_no_command_show_a_secret(
    attack: Attack,
    echo: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    env = SECRETS | {
        "KPSTREAM_PIPELINE_INFLUX_URL": echo,
        "KPSTREAM_GRAFANA_URL": echo,
        "KPSTREAM_INGEST_MQTT_PORT": "1",
    }
    # Besides InfluxDB and the broker, `doctor` asks the machine's clock, which takes seconds.
    monkeypatch.setattr("deploy.doctor.machinechecks.check_clock", list)
    asking = (["doctor"], ["dashboards", "push"], ["dashboards", "diff"], ["dashboards", "pull"])
    leaks, count = [], 0
    for status in STATUSES:
        monkeypatch.setattr(Echo, "status", status)
        for words in asking:
            result = CliRunner().invoke(main, words, env=env)
            count += 1
            if MARK in everything(result):
                leaks.append(f"{words}, {status}: {everything(result)[-300:]}")
    leaks += leaks_in_files(tmp_path)
    attack.report(count=count, lost=len(leaks), unit="commands")
    assert leaks == []


async def test_a_store_shows_no_secret_whatever_the_server_answers(
    attack: Attack, echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.settings import PipelineSettings
    from pipeline.stores.influx import InfluxSink, influx_connection
    from tests.pipeline.points.test_scores import RUL
    from tests.pipeline.stores.test_stage import Store, encode_records

    token = SECRETS["KPSTREAM_PIPELINE_INFLUX_TOKEN"]
    settings = PipelineSettings(influx_url=echo, influx_token=token)  # type: ignore[arg-type]
    leaks = []
    for status in STATUSES:
        monkeypatch.setattr(Echo, "status", status)
        sink = InfluxSink(influx_connection(settings), "b")
        store = Store(sink)  # type: ignore[arg-type]
        monkeypatch.setattr(store.stage, "_backoff", Backoff(first_ms=1, max_ms=5))
        running = asyncio.ensure_future(store.stage.run())
        await store.offer(encode_records([RUL]))
        counters = store.stage.counters
        for _ in range(1000):
            if store.acked or counters.tries_failed or store.crashed:
                break
            await asyncio.sleep(0.005)
        shown = f"{store.stage.problem} {store.dead_letters()} {store.crashed}"
        if MARK in shown:
            leaks.append(f"{status}: {shown}")
        assert store.crashed == []
        assert store.acked or counters.tries_failed, f"nothing happened with {status}"
        running.cancel()
        store.stage.close()
        sink.close()
    attack.report(count=len(STATUSES), lost=len(leaks), unit="answers")
    assert leaks == []


def test_the_set_up_of_a_site_shows_no_secret_of_an_echo(echo: str) -> None:
    from deploy.stack.process import ServerError
    from ingest.secrettext import remember_secret

    token = f"{MARK}operator"
    remember_secret(token)
    with pytest.raises(ServerError) as refused:
        InfluxApi(echo).call("GET", "/api/v2/setup", token=token)
    assert "answers" not in str(refused.value)
    assert MARK not in str(refused.value)
