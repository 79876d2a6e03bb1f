"""Shared by the commands that run unattended: logs, metrics, wallet, end on SIGTERM."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from protocol.errors import CommonweightError, Misconfigured

if TYPE_CHECKING:
    from ethereum.wallet import Wallet
    from runtime.events import Report
    from runtime.service import Service
    from runtime.settings import RoleSettings

P = ParamSpec("P")


@dataclass(frozen=True)
class Running:
    """Options for logs and metrics of an unattended role."""

    log_format: Any
    metrics_port: int | None
    metrics_host: str


def running_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options for logs and metrics, passed on as one argument `running`."""

    @click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="Form of the log lines on stderr.",
    )
    @click.option(
        "--metrics-port",
        type=click.IntRange(1, 65535),
        help="Serve Prometheus metrics at this port. Default: not at all.",
    )
    @click.option(
        "--metrics-host",
        default="127.0.0.1",
        show_default=True,
        help="Address that metrics are served at.",
    )
    @wraps(function)
    def wrapped(
        *args: Any, log_format: str, metrics_port: int | None, metrics_host: str, **kwargs: Any
    ) -> None:
        function(*args, running=Running(log_format, metrics_port, metrics_host), **kwargs)

    return wrapped


@contextmanager
def running_role(
    running: Running, who: str, settings: "RoleSettings"
) -> Iterator[tuple["Service", "Report"]]:
    """Yield a role's service and report; SIGTERM ends the block quietly.

    A failure inside is logged as the role's last line, and ends the process with exit code 1.
    """
    # Imported here, so that --help and the other commands start without pydantic and Prometheus.
    from runtime.events import Failed
    from runtime.logs import figures_reporter, log_reporter, setup_logging
    from runtime.progress import combine, last_line_reporter, reporter
    from runtime.service import Service, stopping_on_signals

    setup_logging(running.log_format)
    reports = [
        reporter(settings.progress, who),
        last_line_reporter(settings.state, who),
        log_reporter(who),
        figures_reporter(settings.tensorboard),
    ]
    on_look: Callable[[], None] = lambda: None  # noqa: E731
    if running.metrics_port is not None:
        from runtime.metrics import Metrics

        metrics = Metrics()
        metrics.serve(running.metrics_port, running.metrics_host)
        reports.append(metrics.report)
        on_look = metrics.looked
    report = combine(*reports)
    service = Service(report, settings.poll_seconds, on_look)
    with stopping_on_signals(service):
        try:
            yield service, service.report
        except CommonweightError as error:
            report(Failed(reason=str(error)))
            sys.exit(1)


def wallet_opener(keystore: Path, password_file: Path | None) -> Callable[[], "Wallet"]:
    """Return a function that opens the keystore, with a password from the file or typed."""

    def open_wallet() -> "Wallet":
        from ethereum.wallet import load_keystore, read_password

        if password_file is not None:
            return load_keystore(keystore, read_password(password_file))
        # A service manager's stdin would end the prompt with an error that says nothing.
        if not sys.stdin.isatty():
            raise Misconfigured(
                "no password: name its file (--password-file, or password_file in the settings),"
                " or start from a terminal"
            )
        return load_keystore(keystore, click.prompt("Password", hide_input=True, err=True))

    return open_wallet
