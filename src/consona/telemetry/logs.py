"""Logging for a process that has no logging of its own yet: readable lines, or JSON for machines.

Consona logs through the standard library (`consona.<kind>`), and configures nothing by itself.
`configure()` is what the command line calls.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO

from consona.telemetry.redaction import DEFAULT
from consona.telemetry.trace import current_span

__all__ = ["configure"]

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Redacted(logging.Filter):
    """Masks credentials in the finished message, and adds the running trace's id."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        safe = DEFAULT.text(message)
        if safe != message:
            record.msg, record.args = safe, None
        span = current_span()
        if span is not None and not hasattr(record, "trace_id"):
            record.trace_id = f"{span.trace_id:032x}"
        return True


class Plain(logging.Formatter):
    """`12:30:05 warning rest.client: …`: the level as a word, no colour needed to understand it."""

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        name = record.name.removeprefix("consona.")
        text = f"{clock} {record.levelname.lower()} {name}: {record.getMessage()}"
        return f"{text}\n{DEFAULT.text(self.formatException(record.exc_info))}" if record.exc_info else text


class JSON(logging.Formatter):
    """One JSON object a line: `at` (seconds since the epoch), `level`, `logger`, `message`, and the extras."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(DEFAULT.data({key: value for key, value in vars(record).items() if key not in _OWN}))
        if record.exc_info:
            line["error"] = DEFAULT.text(self.formatException(record.exc_info))
        return json.dumps(line, default=str, ensure_ascii=False)


def configure(*, level: str = "info", style: str = "plain", stream: TextIO | None = None) -> None:
    """Send the process's log to `stream` (standard error by default).

    Args:
        level: `debug`, `info`, `warning` or `error`.
        style: `plain` lines for people, or `json` for machines.
        stream: Where the lines go.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JSON() if style == "json" else Plain())
    handler.addFilter(Redacted())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
