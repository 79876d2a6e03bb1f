"""The loop of a long-running role: pauses, back-off after faults, and an orderly end.

    service = Service(report, poll_seconds=2.0)
    with stopping_on_signals(service):
        service.keep(step)       # until step() returns False, or SIGTERM

A step looks at the chain, does what is due and returns; it may be cut off at any point and run
again. So nothing is handed over at the end: SIGTERM raises `Stop` wherever the process is, and what
does not give way within seconds is left as a crash would leave it.
"""

import errno
import fcntl
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

from protocol.errors import CommonweightError, Misconfigured, Unavailable
from runtime.events import Report, Stopped, Waiting

T = TypeVar("T")

FIRST_BACK_OFF_S: Final = 1.0
LONGEST_BACK_OFF_S: Final = 30.0  # a phase of minutes must not be slept through
STOP_SECONDS: Final = 5.0
_LOCK: Final = ".running"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Stop(BaseException):
    """The process was asked to end. Not an Exception: no handler of failures may swallow it."""


class Service:
    """One role's loop. `report` hears of faults and of the end; see runtime/events.py.

    `on_look` is called after each look that succeeded.
    """

    def __init__(
        self,
        report: Report,
        poll_seconds: float = 2.0,
        on_look: Callable[[], None] = lambda: None,
    ) -> None:
        self.report = report
        self.poll_seconds = poll_seconds
        self.on_look = on_look
        self._stopped = threading.Event()
        self._faults = 0

    def stop(self) -> None:
        """Ask the loop to end at its next pause; from any thread."""
        self._stopped.set()

    def pause(self) -> None:
        """Wait until the next look is due; raises Stop when asked to end."""
        self.on_look()
        self._wait(self.poll_seconds)

    def keep(self, step: Callable[[], bool]) -> None:
        """Run `step` again and again until it returns False, pausing after each.

        An expected failure becomes one line and a longer pause: what was due is still due after
        it, and where that is too late the chain's deadlines say so.
        """
        while True:
            try:
                goes_on = step()
            except (CommonweightError, OSError) as error:
                self._back_off(error)
                continue
            self._faults = 0
            if not goes_on:
                return
            self.pause()

    def insist(self, attempt: Callable[[], T]) -> T:
        """Return what `attempt` does, trying again while something is unavailable."""
        while True:
            try:
                return attempt()
            except Unavailable as error:
                self._back_off(error)

    def _wait(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Stop

    def _back_off(self, error: Exception) -> None:
        """Report the fault and wait, longer after each one in a row."""
        longest = min(FIRST_BACK_OFF_S * 2**self._faults, LONGEST_BACK_OFF_S)
        # Bounded, since a fault of weeks would raise 2 beyond what a float can hold.
        self._faults = min(self._faults + 1, 16)
        # By chance, lest all participants come back at once to a service that was down for all.
        seconds = longest * random.uniform(0.5, 1.0)
        if isinstance(error, CommonweightError):
            reason, service = str(error), error.service
        else:
            reason, service = one_line(error), None
        self.report(Waiting(reason=reason, seconds=round(seconds, 1), service=service))
        self._wait(seconds)


def one_line(error: Exception) -> str:
    """Return an operating system's error as one line."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def stopping_on_signals(service: Service, seconds: float = STOP_SECONDS) -> Iterator[None]:
    """End the block quietly when SIGTERM or SIGINT arrives; the process itself after `seconds`.

    The second is for a download or a computation in C that does not come back: state on disk is
    whole at every point, so ending there loses what a crash would, which is nothing. Only in the
    main thread.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        service.stop()
        raise Stop

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
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
    """End the process `seconds` after a signal unless the block is left before.

    Python runs handlers between instructions of the main thread, which may be long inside one. What
    the interpreter writes into the pipe arrives at once.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    left = threading.Event()

    def watch() -> None:
        while number := os.read(reader, 1):
            if number[0] in _SIGNALS and not left.wait(seconds):
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
    """Hold a state folder and a keystore for this process; Misconfigured when another has them.

    Two processes with one wallet would do everything twice. The hold ends with the process, however
    that ends.
    """
    state.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        _hold(stack, state / _LOCK, os.O_RDWR | os.O_CREAT, f"the state folder {state}")
        _hold(stack, keystore, os.O_RDONLY, f"the wallet {keystore}")
        yield


def is_held(state: Path) -> bool:
    """Whether a process holds this state folder now."""
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
        # A file system without locks: two processes would quarrel, but not harm each other.
