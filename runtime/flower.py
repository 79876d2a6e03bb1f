"""Run the Flower app in Flower's simulation engine: `flwr run` against a SuperLink of our own."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from protocol.errors import Misconfigured, Unavailable
from runtime.processes import free_port, is_running, spawn, stop
from storage.files import read_json, write_json

APP: Final = Path(__file__).parent / "flower-app"
_START_SECONDS: Final = 60.0
_ENVIRONMENT: Final = {
    # Nothing is sent to anybody, and nothing installed: what runs is what is installed.
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Every participant's lines, also where two say the same.
    "RAY_DEDUP_LOGS": "0",
    # Tokenizers that have used threads warn at each fork.
    "TOKENIZERS_PARALLELISM": "false",
}


class Simulation:
    """A SuperLink of our own in simulation mode; use it as a context manager.

    It takes seconds to come up, so it is started before it is needed: entering does not wait,
    `run` does. Each simulated participant computes with `threads` threads. `environment` is what
    another app needs besides.
    """

    def __init__(
        self, folder: Path, threads: int, environment: Mapping[str, str] | None = None
    ) -> None:
        self._folder = folder
        self._port = free_port()
        self._environment = {
            **flower_environment(folder),
            "OMP_NUM_THREADS": str(threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads would keep the others' cores busy
            **(environment or {}),
        }
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        # `flwr run` finds its SuperLink by this file, in the home that its environment names.
        (self._folder / "config.toml").write_text(
            '[superlink]\ndefault = "commonweight"\n\n'
            f'[superlink.commonweight]\naddress = "127.0.0.1:{self._port}"\ninsecure = true\n'
        )
        # The SuperLink of an attempt that was killed; what it started ends with it.
        known = self._folder / "superlink.json"
        if known.exists() and is_running(pid := read_json(known)["pid"], "flower-superlink"):
            stop(pid)
        self._spawn(
            "superlink.log",
            "flower-superlink",
            # Without TLS, since it listens on loopback alone.
            *("--insecure", "--simulation", "--isolation", "subprocess"),
            *("--host", "127.0.0.1", "--port", str(self._port)),
            "--disable-runtime-dependency-installation",
        )
        write_json(self._folder / "superlink.json", {"pid": self._children[0].pid})
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # The newest first: `flwr run` follows the SuperLink.
        for child in reversed(self._children):
            stop(child.pid)

    def terminate(self) -> None:
        """Ask everything to end, without waiting for it: Ray takes its time."""
        for child in self._children:
            child.terminate()

    def run(self, run: Path, *, participants: int, processes: int) -> subprocess.Popen[bytes]:
        """Start the Flower app for a run folder; return the process that follows its log.

        `run` holds aggregator/aggregator.toml and participants/0 to n-1; `processes` participants
        train at once. Unavailable when the SuperLink does not come up.
        """
        settings, folders = run / "aggregator" / "aggregator.toml", run / "participants"
        config = f"aggregator='{settings}' participants='{folders}'"
        return self.start(APP, config, participants=participants, processes=processes)

    def start(
        self, app: Path, run_config: str, *, participants: int, processes: int
    ) -> subprocess.Popen[bytes]:
        """Start any Flower app, as `run` starts ours."""
        self._await_superlink()
        # One processor for each participant, so that `processes` of them train at a time.
        federation = (
            f"num-supernodes={participants} client-resources-num-cpus=1"
            f" init-args-num-cpus={processes}"
        )
        return self._spawn(
            "run.log",
            *("flwr", "run", str(app), "commonweight", "--stream"),
            *("--run-config", run_config),
            *("--federation-config", federation),
        )

    def _await_superlink(self) -> None:
        log, deadline = self._folder / "superlink.log", time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._children[0].poll() is not None:
                raise Unavailable(
                    f"Flower's SuperLink ended while starting: see {log}", service="flower"
                )
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.1)
        raise Unavailable(
            f"Flower's SuperLink did not answer within {_START_SECONDS:.0f} s: see {log}",
            service="flower",
        )

    def _spawn(self, log: str, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [flower_program(program), *arguments]
        child = spawn(command, self._folder / log, environment=self._environment)
        self._children.append(child)
        return child


def flower_environment(home: Path) -> dict[str, str]:
    """Return what Flower's programs find in their environment: a home of our own, no telemetry."""
    # They start further programs of this Python environment by name.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**_ENVIRONMENT, "FLWR_HOME": str(home), "PATH": path}


def flower_program(name: str) -> str:
    """Return the path of a program of Flower's; Misconfigured when it is not installed."""
    # Of this environment: another on the PATH would import other versions of our packages.
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise Misconfigured(f"{name} is not installed: pip install 'commonweight[simulation]'")
    return str(path)
