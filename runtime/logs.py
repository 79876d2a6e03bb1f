"""Logs of an unattended role: one line per event on stderr, as text or as JSON.

    2026-08-01T12:00:00Z INFO    cardiology    committed  round=2 gas=58322
    {"time":"2026-08-01T12:00:00Z","level":"info","who":"cardiology","phase":"committed","round":2,…}

Lines of libraries have the same form, with `message` in place of `phase`.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Final, Literal

from protocol.errors import Misconfigured
from protocol.text import printable
from runtime.events import Event, Report, Training, ignore
from runtime.progress import Line, combine, last_line_reporter, reporter
from runtime.settings import RoleSettings

LogFormat = Literal["text", "json"]

_TRAINING_SECONDS: Final = 10.0  # of a thousand steps, only some deserve a line
_ROLES: Final = "commonweight.role"


def setup_logging(log_format: LogFormat) -> None:
    """Send every log line of this process to stderr in one form."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Text())
    # Forced, since a library may have set up handlers of its own when it was imported.
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(_ROLES).setLevel(logging.INFO)


def log_reporter(who: str) -> Report:
    """Return a report that logs every event, but training steps only every few seconds."""
    logger = logging.getLogger(_ROLES)
    next_step_at = 0.0

    def report(event: Event) -> None:
        nonlocal next_step_at
        if isinstance(event, Training):
            if time.monotonic() < next_step_at:
                return
            next_step_at = time.monotonic() + _TRAINING_SECONDS
        # The whole event travels with the record, since each formatter prints its facts
        # differently.
        logger.log(event.level, event.phase, extra={"line": Line.now(who, event)})

    return report


def figures_reporter(folder: Path | None) -> Report:
    """Return a report that writes figures for TensorBoard to `folder`, or does nothing without one.

    Raises Misconfigured where TensorBoard is not installed.
    """
    if folder is None:
        return ignore
    try:
        # Here, because it is an optional extra.
        from runtime.tensorboard import TensorBoard
    except ModuleNotFoundError as error:
        advice = "pip install 'commonweight[track]'"
        raise Misconfigured(f"tensorboard = needs {error.name}: {advice}") from error
    return TensorBoard(folder).report


def app_report(settings: RoleSettings, who: str) -> Report:
    """Return the report of a role that Flower starts: to its progress file, else to the log.

    Flower forwards what its apps write to stderr to the SuperNode's output or to `flwr log`.
    """
    figures = figures_reporter(settings.tensorboard)
    if settings.progress is not None:
        return combine(reporter(settings.progress, who), figures)
    setup_logging("text")
    for handler in logging.getLogger().handlers:
        # Flower prints its own lines, which would otherwise appear twice.
        handler.addFilter(lambda record: record.name != "flwr")
    return combine(log_reporter(who), last_line_reporter(settings.state, who), figures)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one JSON object."""
        entry = {"time": _time(record), "level": record.levelname.lower()}
        line: Line | None = getattr(record, "line", None)
        if line is not None:
            entry |= {"who": line.who, "phase": line.event.phase, **line.event.facts()}
        else:
            entry |= {"who": record.name, "message": _message(self, record)}
        return json.dumps(entry, separators=(",", ":"), default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of text."""
        line: Line | None = getattr(record, "line", None)
        head = f"{_time(record)} {record.levelname:<7}"
        if line is None:
            # A library may quote others; line breaks are those of its traceback.
            lines = _message(self, record).split("\n")
            return f"{head} {record.name}: " + "\n".join(map(printable, lines))
        facts = " ".join(f"{key}={_shown(value)}" for key, value in line.event.facts().items())
        return f"{head} {line.who:<13} {line.event.phase}  {facts}".rstrip()


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
    text = printable(str(value))
    return json.dumps(text) if " " in text or not text else text
