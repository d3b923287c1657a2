"""Logs and tracebacks of a process hold no secret."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import logging, threading
from deploy.settings.secretoutput import hide_secrets_in_output, start_logging
from ingest.secrettext import remember_secret
remember_secret("the-secret-itself")
{body}
"""


@pytest.mark.parametrize(
    "body",
    [
        'start_logging(logging.INFO); logging.getLogger("x").info("got %s", "the-secret-itself")',
        'hide_secrets_in_output(); logging.getLogger("x").error("got %s", "the-secret-itself")',
        'hide_secrets_in_output(); raise ValueError("got the-secret-itself")',
        """
start_logging(logging.INFO)
try:
    raise ValueError("got the-secret-itself")
except ValueError:
    logging.getLogger("x").exception("odd")
""",
        """
start_logging(logging.INFO)
def fail():
    raise ValueError("got the-secret-itself")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
""",
    ],
    ids=["log line", "log line before set-up", "unhandled", "logged traceback", "thread"],
)
def test_no_output_shows_a_secret(body: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True
    )
    assert "got **********" in done.stderr
    assert "the-secret-itself" not in done.stdout + done.stderr
