"""The processes of a schedule by name. SIGKILL ends them, SIGTERM the chain."""

import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["__main__", "tests.faults.roles"])


class Processes:
    """What runs and what is down. Safe to use from several threads."""

    def __init__(self) -> None:
        self._work: dict[str, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        self._running: dict[str, BaseProcess] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    def define(self, name: str, target: Callable[..., None], *arguments: Any) -> None:
        """Say what the process `name` does; it does not start yet."""
        self._work[name] = target, arguments

    def start(self, name: str) -> None:
        """Start a process unless it runs, or all is over."""
        with self._lock:
            if self._is_closed or name in self._running:
                return
            target, arguments = self._work[name]
            process = _context.Process(target=target, args=arguments, daemon=True)
            process.start()
            self._running[name] = process

    def kill(self, name: str) -> None:
        """End a process where it is; nothing when it does not run."""
        with self._lock:
            process = self._running.pop(name, None)
        if process is not None:
            process.kill()
            process.join(10)

    def stop(self, name: str) -> None:
        """Ask a process to end, and return once it has."""
        with self._lock:
            process = self._running.pop(name, None)
        if process is not None:
            process.terminate()
            process.join(10)

    def is_up(self, name: str) -> bool:
        """Whether it was started and not killed since; it may have ended by itself."""
        return name in self._running

    def exit_code(self, name: str) -> int | None:
        """Return the exit code of a process that ended by itself, None for any other."""
        process = self._running.get(name)
        return None if process is None else process.exitcode

    def close(self) -> None:
        """Kill them all, and start none any more."""
        with self._lock:
            self._is_closed = True
        for name in list(self._running):
            self.kill(name)
