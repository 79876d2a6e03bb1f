"""Logs of a role that is left running: one line an event on stderr, as text or as JSON.

    2026-08-01T12:00:00Z INFO    cardiology    committed  round=2 gas=58322
    {"time":"2026-08-01T12:00:00Z","level":"info","who":"cardiology","phase":"committed","round":2,…}

What libraries log comes in the same form, with `message` in place of `phase`.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Final, Literal

from runtime.events import Event, Report, Training
from runtime.progress import Line, combine, last_line_reporter, reporter

LogFormat = Literal["text", "json"]

_TRAINING_SECONDS: Final = 10.0  # of a thousand steps only some are worth a line
_ROLES: Final = "commonweight.role"


def setup_logging(log_format: LogFormat) -> None:
    """Send every log line of this process to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(_ROLES).setLevel(logging.INFO)


def log_reporter(who: str) -> Report:
    """Return a report that logs: training steps now and then, everything else as it comes."""
    logger = logging.getLogger(_ROLES)
    next_step_at = 0.0

    def report(event: Event) -> None:
        nonlocal next_step_at
        if isinstance(event, Training):
            if time.monotonic() < next_step_at:
                return
            next_step_at = time.monotonic() + _TRAINING_SECONDS
        logger.log(event.level, event.phase, extra={"told": Line.now(who, event)})

    return report


def app_report(progress: Path | None, state: Path, who: str) -> Report:
    """Return the report of a role whose process Flower starts: to `progress`, else to the log.

    Flower passes on what its apps write to stderr, to the SuperNode's output or to `flwr log`.
    """
    if progress is not None:
        return reporter(progress, who)
    setup_logging("text")
    for handler in logging.getLogger().handlers:
        handler.addFilter(lambda record: record.name != "flwr")  # prints its lines itself
    return combine(log_reporter(who), last_line_reporter(state, who))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname.lower()}
        told: Line | None = getattr(record, "told", None)
        if told is not None:
            line |= {"who": told.who, "phase": told.event.phase, **told.event.facts()}
        else:
            line |= {"who": record.name, "message": _message(self, record)}
        return json.dumps(line, separators=(",", ":"), default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told: Line | None = getattr(record, "told", None)
        head = f"{_time(record)} {record.levelname:<7}"
        if told is None:
            return f"{head} {record.name}: {_message(self, record)}"
        facts = " ".join(f"{key}={_shown(value)}" for key, value in told.event.facts().items())
        return f"{head} {told.who:<13} {told.event.phase}  {facts}".rstrip()


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


def _message(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return text


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return json.dumps(text) if " " in text or not text else text
