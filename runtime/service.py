"""The loop of a long-running role: polling, back-off after faults, orderly shutdown.

    service = Service(report, poll_seconds=2.0)
    with stopping_on_signals(service):
        service.keep(step)       # until step() returns False, or SIGTERM

A step reads the chain, does what is due and returns; it may be cut off at any point and run again.
Shutdown therefore needs no cleanup: SIGTERM raises `Stop` wherever the process is. Code that does
not return within seconds is killed, which leaves the same state as a crash.
"""

import errno
import fcntl
import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

from protocol.errors import CommonweightError, Misconfigured, Unavailable
from protocol.text import printable
from runtime.events import Event, Report, Stopped, Waiting

T = TypeVar("T")

FIRST_BACK_OFF_S: Final = 1.0
LONGEST_BACK_OFF_S: Final = 30.0  # a phase of minutes must not be slept through
STOP_SECONDS: Final = 5.0
_SHARE_OF_QUIET: Final = 1 / 30
_SHARE_OF_PHASE: Final = 1 / 20
_LONGEST_PAUSE_S: Final = 120.0  # however long the phases are: people wait for their stake, too
_LOCK: Final = ".running"
_VERSION: Final = "version"  # of the protocol that a state folder belongs to
_NO_MEMORY: Final = re.compile(
    r"out of memory|can't (start new thread|allocate memory)|not enough memory", re.IGNORECASE
)
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stop(BaseException):
    """The process was asked to end. Not an Exception, so that no `except Exception` swallows it."""


class Service:
    """One role's loop; reports faults and the end.

    `on_look` is called after each successful poll. While nothing is reported the pauses grow, up to
    two minutes and a twentieth of `shortest_phase_s`, the shortest time in which the role must act:
    who provides an Ethereum node counts requests, and most of the time nothing happens.
    """

    def __init__(
        self,
        report: Report,
        poll_seconds: float = 2.0,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        self.poll_seconds = poll_seconds
        self.shortest_phase_s = 0.0  # unknown
        self.on_look = on_look
        self._report = report
        self._reported_at = time.monotonic()
        self._stopped = threading.Event()
        self._faults = 0

    def report(self, event: Event) -> None:
        """Report what the role did or saw; the next look is soon."""
        self._reported_at = time.monotonic()
        self._report(event)

    def stop(self) -> None:
        """Ask the loop to end at its next pause; may be called from any thread."""
        self._stopped.set()

    def pause(self) -> None:
        """Wait until the next poll is due; raises Stop when asked to end."""
        self.on_look()
        quiet_s = time.monotonic() - self._reported_at
        longest = min(self.shortest_phase_s * _SHARE_OF_PHASE, _LONGEST_PAUSE_S)
        self._wait(max(self.poll_seconds, min(quiet_s * _SHARE_OF_QUIET, longest)))

    def keep(self, step: Callable[[], bool]) -> None:
        """Run `step` until it returns False, pausing after each run.

        An expected failure is reported in one line and followed by a longer pause.
        """
        while True:
            try:
                goes_on = step()
            # What was due is still due after the pause; if it is too late, the chain will say so.
            # A disk that was full may have room again, and memory be free.
            except Exception as error:
                if not (isinstance(error, CommonweightError | OSError) or ran_out_of_memory(error)):
                    raise
                self._back_off(error)
                continue
            self._faults = 0
            if not goes_on:
                return
            self.pause()

    def insist(self, attempt: Callable[[], T]) -> T:
        """Return the result of `attempt`, trying again while something is unavailable."""
        # Misconfigured is raised: waiting does not mend a setting.
        while True:
            try:
                return attempt()
            except Exception as error:
                if not (isinstance(error, Unavailable) or ran_out_of_memory(error)):
                    raise
                self._back_off(error)

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Stop

    def _back_off(self, error: Exception) -> None:
        """Report the fault and wait, longer after each consecutive one."""
        longest = min(FIRST_BACK_OFF_S * 2**self._faults, LONGEST_BACK_OFF_S)
        # Bounded, since after weeks of faults 2**n would not fit into a float.
        self._faults = min(self._faults + 1, 16)
        # Random, or all participants would return at once to a service that was down for all.
        seconds = longest * random.uniform(0.5, 1.0)
        if isinstance(error, CommonweightError):
            reason, service = str(error), error.service
        else:
            reason, service = one_line(error), None
        self._report(Waiting(reason=reason, seconds=round(seconds, 1), service=service))
        self._wait(seconds)


def ran_out_of_memory(error: Exception) -> bool:
    """Whether an error means that memory ran out: Python's, a thread's, torch's or a GPU's."""
    # torch is not imported here, and its own class is a RuntimeError as well.
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error)) is not None
    )


def one_line(error: Exception) -> str:
    """Return another library's error as one line of at most 300 characters."""
    return printable(" ".join(str(error).split())[:300]) or type(error).__name__


@contextmanager
def stopping_on_signals(service: Service, seconds: float = STOP_SECONDS) -> Iterator[None]:
    """End the block quietly on SIGTERM or SIGINT, and the process itself after `seconds`.

    Only for the main thread.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        """Stop the service, and leave the block from wherever the main thread is."""
        service.stop()
        raise Stop

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    # The limit is for a download or a computation in C that does not return. State on disk is
    # complete at every point, so ending there loses nothing.
    with _watching_for_signals(seconds):
        try:
            yield
        except Stop:
            service.report(Stopped())
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _watching_for_signals(seconds: float) -> Iterator[None]:
    """End the process `seconds` after a signal unless the block is left before."""
    # Python runs signal handlers between instructions of the main thread, which may be inside one
    # for long. The byte that the interpreter writes to this pipe arrives at once.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    left = threading.Event()

    def watch() -> None:
        """Read signal numbers until the pipe is closed; end the process after a fatal one."""
        while number := os.read(reader, 1):
            if number[0] in _SIGNALS and not left.wait(seconds):
                # Not sys.exit, which only ends this thread. 0: a stop on request is no failure.
                os._exit(0)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        left.set()
        signal.set_wakeup_fd(before)
        os.close(writer)  # ends the read
        thread.join()
        os.close(reader)


@contextmanager
def alone(state: Path, keystore: Path) -> Iterator[None]:
    """Lock a state folder and a keystore for this process.

    Raises Misconfigured when another process holds one of them, or when the folder holds the state
    of version 1.
    """
    # Two processes with one wallet would send everything twice. The folder alone does not show
    # that: two folders may name one keystore. The kernel drops the locks however the process ends.
    state.mkdir(parents=True, exist_ok=True)
    # Before the lock file, which version 1 left behind too.
    if (state / _LOCK).exists() and not (state / _VERSION).exists():
        raise Misconfigured(
            f"the state folder {state} is of version 1 of the protocol: name another one"
        )
    (state / _VERSION).write_text("2\n")
    with ExitStack() as stack:
        _hold(stack, state / _LOCK, os.O_RDWR | os.O_CREAT, f"the state folder {state}")
        _hold(stack, keystore, os.O_RDONLY, f"the wallet {keystore}")
        yield


def is_held(state: Path) -> bool:
    """Whether a process has locked this state folder."""
    try:
        with (state / _LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _hold(stack: ExitStack, path: Path, flags: int, what: str) -> None:
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise Misconfigured(f"{what} cannot be opened: {error.strerror}") from error
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Misconfigured(f"{what} is in use by another process: stop that first") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EBADF, errno.ENOTSUP):
            raise Misconfigured(f"{what} cannot be locked: {error.strerror}") from error
        # The file system has no locks. Two processes would interfere, but not harm each other.
