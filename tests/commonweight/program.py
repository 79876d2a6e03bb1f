"""The `commonweight` program as a user runs it: a process with a home of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from commonweight.cli import main

ROOT = Path(__file__).parents[2]
TINY = ROOT / "configs" / "tiny.toml"
COMMONWEIGHT = Path(sys.executable).parent / "commonweight"


class Program:
    """Runs commands with COMMONWEIGHT_HOME at `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._environment = {**os.environ, "COMMONWEIGHT_HOME": str(home)}

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run to the end and return stdout; fails unless the exit code is `code`."""
        done = subprocess.run(
            [str(COMMONWEIGHT), *arguments],
            capture_output=True,
            text=True,
            env=self._environment,
            check=False,
            timeout=1800,
        )
        assert done.returncode == code, f"exit {done.returncode}\n{done.stderr[-3000:]}"
        return done.stdout if code == 0 else done.stderr

    def json(self, *arguments: str) -> Any:
        """Run with --json and return the object printed."""
        return json.loads(self.run(*arguments, "--json"))

    def here(self, *arguments: str, code: int = 0) -> str:
        """As `run`, in this process: importing torch and a model's library takes ten seconds."""
        environment = {"COMMONWEIGHT_HOME": str(self.home)}
        done = CliRunner().invoke(main, arguments, env=environment)
        assert done.exit_code == code, f"exit {done.exit_code}\n{done.stderr}"
        return done.stdout if code == 0 else done.stderr

    def json_here(self, *arguments: str) -> Any:
        """As `json`, in this process."""
        return json.loads(self.here(*arguments, "--json"))

    def run_until(self, place: tuple[int, str], *arguments: str) -> None:
        """Run until the progress says (round, phase), then SIGKILL the program."""
        with (self.home / "killed.log").open("ab") as log:
            process = subprocess.Popen(
                [str(COMMONWEIGHT), *arguments], env=self._environment, stdout=log, stderr=log
            )
        already = len(self.progress())
        deadline = time.monotonic() + 240
        while place not in [(p.get("round"), p["phase"]) for p in self.progress()[already:]]:
            assert process.poll() is None, (self.home / "killed.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the program never got there"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def progress(self) -> list[dict[str, Any]]:
        """Return the lines of progress of the newest run."""
        lines = []
        for path in sorted(self.home.glob("runs/*/progress/*.jsonl")):
            whole, _, _ = path.read_text().rpartition("\n")
            lines += [json.loads(line) for line in whole.splitlines()]
        return lines
