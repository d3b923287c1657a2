"""Output without secrets: logs, tracebacks, and the messages of commands.

Errors are cleaned where they are translated (`ingest.secrettext.error_text`). This is the net
below: whatever a process prints by itself passes `hide_secrets` once more.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType

from ingest.secrettext import hide_secrets

__all__ = ["LOG_FORMAT", "HidingFormatter", "hide_secrets_in_output", "start_logging"]

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""Format of the log lines of a gateway, bridge, worker or store."""


class HidingFormatter(logging.Formatter):
    """Formats a log record, with its traceback, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record as text."""
        return hide_secrets(super().format(record))


def start_logging(level: int, form: str = LOG_FORMAT) -> None:
    """Log to stderr, and print unhandled exceptions, without secrets.

    Does not add a second handler to the root logger.
    """
    hide_secrets_in_output()
    handler = logging.StreamHandler()
    handler.setFormatter(HidingFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])


def hide_secrets_in_output() -> None:
    """Print unhandled exceptions, and log lines before `start_logging`, without secrets."""
    sys.excepthook = _print_exception
    threading.excepthook = _print_thread_exception
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(HidingFormatter())


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(hide_secrets(text))


def _print_thread_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    name = args.thread.name if args.thread is not None else "a thread"
    sys.stderr.write(f"Exception in {name}:\n")
    _print_exception(args.exc_type, args.exc_value, args.exc_traceback)
