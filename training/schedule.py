"""`train-redistill schedule`: a systemd timer, a cron line or a Kubernetes CronJob for a training.

The job runs `train-redistill ... --if-needed`: it trains only if there is a reason. One run at a
time: systemd starts no second one, cron gets `flock`, Kubernetes forbids concurrency; the lock of
the run folder holds in any case.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from training.decision import HELD, NOT_BETTER, REJECTED
from training.reasons import NO_REASON
from training.runfolder import UNFINISHED

__all__ = ["KINDS", "cron_job", "cron_line", "schedule", "systemd_units"]

KINDS = ("systemd", "cron", "kubernetes")
QUIET = (NOT_BETTER, UNFINISHED, HELD, REJECTED, NO_REASON)
"""Exit codes of a run that did what it should and published nothing; 2 and 5 are failures."""

_WHEN = {"hourly": "0 * * * *", "daily": "15 3 * * *", "weekly": "15 3 * * 0"}
_CALENDAR = {"hourly": "*-*-* *:00", "daily": "*-*-* 03:15", "weekly": "Sun *-*-* 03:15"}
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")


@click.command(
    context_settings={"show_default": True, "ignore_unknown_options": True},
    short_help="Write a timer for a training.",
)
@click.option("--kind", type=click.Choice(KINDS), default="systemd", help="What to write.")
@click.option("--every", type=click.Choice([*_WHEN]), default="weekly", help="How often to look.")
@click.option("--name", default="retrain", help="Name of the units or of the job.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Where the files are written.",
)
@click.option("--user", default="kpstream", help="User of the systemd service.")
@click.option("--image", default="kpstream-training:latest", help="Image of the Kubernetes job.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, required=True)
def schedule(
    kind: str,
    every: str,
    name: str,
    folder: Path,
    user: str,
    image: str,
    arguments: tuple[str, ...],
) -> None:
    """Write a timer that runs train-redistill with ARGUMENTS, if there is a reason.

    ARGUMENTS are those of the training, after --, such as:
    train-redistill schedule --kind cron -- --data /srv/pumps/dataset.toml --publish
    """
    if not _NAME.fullmatch(name):
        message = f"--name {name!r}: use 1 to 52 of a-z 0-9 - ; it begins and ends with a-z or 0-9"
        raise click.UsageError(message)
    _require_no_line_break([*arguments, user, image])
    words = [*arguments] if "--if-needed" in arguments else [*arguments, "--if-needed"]
    if kind == "kubernetes":
        files = {f"{name}.yaml": cron_job(name, every, image, ["train-redistill", *words])}
        advice = f"Check and start it: kubectl apply --dry-run=server -f {name}.yaml, then without"
    else:
        command = [str(Path(sys.executable).with_name("train-redistill")), *words]
        if kind == "cron":
            files = {f"{name}.cron": cron_line(name, every, command)}
            advice = f"Start it: crontab -l | cat - {name}.cron | crontab -"
        else:
            files = systemd_units(name, every, user, command)
            advice = (
                f"Start it: sudo cp {name}.service {name}.timer /etc/systemd/system/ && sudo "
                f"systemctl daemon-reload && sudo systemctl enable --now {name}.timer"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError as exc:
        message = f"{exc.filename}: {exc.strerror}: choose another --folder"
        raise click.ClickException(message) from exc
    for file in files:
        click.echo(f"wrote {folder / file}")
    click.echo(advice)


def systemd_units(name: str, every: str, user: str, command: Sequence[str]) -> dict[str, str]:
    """A service and its timer, by file name; systemd starts no second run beside the first."""
    service = f"""\
[Unit]
Description=kpstream: train a student if there is a reason ({name})
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
User={_systemd_word(user)}
ExecStart={" ".join(map(_systemd_word, command))}
# Nothing was published, as it should be: {", ".join(map(str, QUIET))} (docs/training.md).
SuccessExitStatus={" ".join(map(str, QUIET))}
Nice=10
NoNewPrivileges=yes
PrivateTmp=yes
"""
    timer = f"""\
[Unit]
Description=kpstream: look for a reason to train, {every} ({name})

[Timer]
OnCalendar={_CALENDAR[every]}
Persistent=yes
RandomizedDelaySec=10min

[Install]
WantedBy=timers.target
"""
    return {f"{name}.service": service, f"{name}.timer": timer}


def cron_line(name: str, every: str, command: Sequence[str]) -> str:
    """A line for crontab; `flock` skips a run while the last one works (exit code 0)."""
    # A per cent sign is a line break for cron, also inside quotes.
    words = shlex.join(command).replace("%", r"\%")
    return f"{_WHEN[every]} flock --nonblock --conflict-exit-code 0 /tmp/{name}.lock {words}\n"


def cron_job(name: str, every: str, image: str, command: Sequence[str]) -> str:
    """A Kubernetes CronJob; data, registry and runs lie on the claim `{name}-data`, in /data."""
    codes = ", ".join(map(str, QUIET))
    return f"""\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: "{_WHEN[every]}"
  concurrencyPolicy: Forbid
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: train
              image: {_yaml_text(image)}
              # Nothing was published, as it should be: {codes} (docs/training.md).
              command: ["sh", "-c"]
              args:
                - {_yaml_text(_quiet_shell(command))}
              env:
                - name: HOME
                  value: /data
              volumeMounts:
                - name: data
                  mountPath: /data
          volumes:
            - name: data
              persistentVolumeClaim:
                claimName: {name}-data
"""


def _quiet_shell(command: Sequence[str]) -> str:
    """A line of shell that ends with 0 for the quiet exit codes."""
    codes = "|".join(map(str, (0, *QUIET)))
    return f"{shlex.join(command)}; code=$?; case $code in {codes}) exit 0;; *) exit $code;; esac"


def _systemd_word(word: str) -> str:
    """A word of ExecStart: no specifier, no variable, no white space of its own."""
    text = word.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    return f'"{text}"' if re.search(r"[\s'\";]", text) or not text else text


def _yaml_text(text: str) -> str:
    """A YAML text in single quotes."""
    return "'" + text.replace("'", "''") + "'"


def _require_no_line_break(words: Sequence[str]) -> None:
    for word in words:
        if re.search(r"[\x00-\x1f\x7f]", word):
            message = (
                f"{word!r} has a line break or another control character, which no timer takes"
            )
            raise click.UsageError(message)
