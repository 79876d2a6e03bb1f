"""Runs the Flower app in Flower's simulation engine: `flwr run` against a SuperLink of our own."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from commonweight.processes import free_port, spawn, stop
from protocol.errors import Misconfigured, Unavailable

APP: Final = Path(__file__).parent / "flower-app"
_START_SECONDS: Final = 60.0
_ENVIRONMENT: Final = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


@contextmanager
def simulation(
    run: Path, *, participants: int, processes: int, threads: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the simulation of a run folder; yield the process that follows its log.

    `run` holds aggregator/aggregator.toml and participants/0 to n-1. `processes` participants
    train at once, with `threads` threads each. Everything is stopped at the end.
    """
    folder = run / "flower"
    port = free_port()
    environment = {**_ENVIRONMENT, "FLWR_HOME": str(folder), "OMP_NUM_THREADS": str(threads)}
    # SuperLink starts further programs of this environment by name.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    _write_connection(folder, port)
    superlink = spawn(
        [
            _program("flower-superlink"),
            *("--insecure", "--simulation", "--isolation", "subprocess"),
            *("--host", "127.0.0.1", "--port", str(port)),
            "--disable-runtime-dependency-installation",
        ],
        folder / "superlink.log",
        environment=environment,
    )
    try:
        _wait(superlink, port, folder / "superlink.log")
        flwr = spawn(
            [
                *(_program("flwr"), "run", str(APP), "commonweight", "--stream"),
                *("--run-config", _run_config(run)),
                *("--federation-config", _federation_config(participants, processes)),
            ],
            folder / "run.log",
            environment=environment,
        )
        try:
            yield flwr
        finally:
            stop(flwr.pid)
    finally:
        stop(superlink.pid)


def _run_config(run: Path) -> str:
    settings, participants = run / "aggregator" / "aggregator.toml", run / "participants"
    return f"aggregator='{settings}' participants='{participants}'"


def _federation_config(participants: int, processes: int) -> str:
    return (
        f"num-supernodes={participants} client-resources-num-cpus=1 init-args-num-cpus={processes}"
    )


def _write_connection(folder: Path, port: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(
        '[superlink]\ndefault = "commonweight"\n\n'
        f'[superlink.commonweight]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )


def _program(name: str) -> str:
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise Misconfigured(f"{name} is not installed: pip install 'commonweight[simulation]'")
    return str(path)


def _wait(superlink: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if superlink.poll() is not None:
            raise Unavailable(f"Flower's SuperLink ended while starting: see {log}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise Unavailable(f"Flower's SuperLink did not answer within {_START_SECONDS:.0f} s: see {log}")
