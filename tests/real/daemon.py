"""A daemon of these tests: started, stopped, killed, and held still, by its process ID."""

import signal
import subprocess
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from devnet.program import Program
from runtime.processes import spawn

_START_S: Final = 120.0  # a busy machine is slow, not broken
_STOP_S: Final = 60.0


class Daemon:
    """A program that `answers` once it is up. Runs inside `with`, but for whoever stops it."""

    def __init__(self, program: Program, answers: Callable[[str], bool]) -> None:
        self.program = program
        self.url = program.url
        self._answers = answers
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it and return once it answers; AssertionError, with its log's end, if it ends."""
        assert self._process is None, f"{self.program.mark} runs already"
        self._process = spawn(self.program.command, self.program.log)
        deadline = time.monotonic() + _START_S
        while not self._answers(self.url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    f"{self.program.mark}:\n{self.program.log.read_text()[-2000:]}"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """SIGTERM, and wait for its end: what it must keep, it keeps."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL it, if it runs."""
        if self._process is not None:
            self._end(signal.SIGKILL)

    def hold(self) -> None:
        """SIGSTOP: it takes connections, as the kernel does that, and answers nobody."""
        self._running().send_signal(signal.SIGSTOP)

    def release(self) -> None:
        """SIGCONT: it goes on where it was held."""
        self._running().send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._running(), None
        process.send_signal(number)
        process.wait(_STOP_S)

    def _running(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, f"{self.program.mark} does not run"
        return self._process
