"""Records each phase of a role: time, bytes and memory, one line of JSON in its state folder.

    recorder = Recorder(state, "participant", address, spec)
    with recorder.phase("pin", round_id):
        for index in range(len(spec.layers)):
            with current().layer(index):
                store.add_file(folder.layer_path(index))

Traffic with IPFS is counted automatically (profiling/traffic.py), for the phase and layer that the
thread is in; bytes of layer files are reported with `add`. Code that also runs where nothing is
recorded uses `current()`, which then has no effect.

Recording never fails: when the profile cannot be written it is given up, with one warning.
"""

import errno
import json
import logging
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from profiling.peak import PEAK_MEMORY
from protocol.spec import Spec

PROFILE: Final = "profile.jsonl"  # in a role's state folder

# Nothing is added to a larger profile: nobody would read it.
LARGEST_BYTES: Final = 1 << 28

# The blocks of a layer, by its index.
Blocks = Callable[[int], Iterator[bytes]]

_log = logging.getLogger(__name__)


@dataclass
class Meter:
    """Seconds, bytes over the network and of layer files, and peak memory of some work."""

    seconds: float = 0.0
    received: int = 0
    sent: int = 0
    read: int = 0
    written: int = 0
    peak: int = 0

    def add(self, *, received: int = 0, sent: int = 0, read: int = 0, written: int = 0) -> None:
        """Count some bytes."""
        self.received += received
        self.sent += sent
        self.read += read
        self.written += written

    def take_in(self, other: "Meter") -> None:
        """Add the figures of `other`; the peak becomes the higher one."""
        self.seconds += other.seconds
        self.peak = max(self.peak, other.peak)
        self.move(other)

    def move(self, other: "Meter") -> None:
        """Add the bytes of `other`."""
        self.add(received=other.received, sent=other.sent, read=other.read, written=other.written)


class Span(Meter):
    """A running phase; the bytes of its layers count for the phase as well."""

    def __init__(self, recorder: "Recorder | None", phase: str, round_id: int) -> None:
        super().__init__()
        self.name = phase
        self.round_id = round_id
        self.layers: defaultdict[int, Meter] = defaultdict(Meter)
        self.facts: dict[str, int] = {}
        self.within = 0.0  # seconds of phases inside this one
        self._recorder = recorder
        # Layers end in several threads; reentrant, since the garbage collector may close a layer's
        # blocks at any time.
        self._lock = threading.RLock()

    def note(self, **facts: int) -> None:
        """Record further figures with this phase."""
        self.facts |= facts

    @contextmanager
    def phase(self, name: str) -> Iterator["Span"]:
        """Record a phase of the same round, inside this one or in one of its threads.

        The time of a phase inside this one is not counted for this one.
        """
        if self._recorder is None:
            yield self
        else:
            with self._recorder.phase(name, self.round_id) as span:
                yield span

    @contextmanager
    def layer(self, index: int) -> Iterator[Meter]:
        """Count the bytes that this thread moves for layer `index`; repeated calls add up."""
        with self._layer(index) as meter, _paid_by(meter):
            yield meter

    def measured(self, blocks: Blocks) -> Blocks:
        """Return `blocks` with the bytes of each layer counted, and the time until its last one."""

        def read(index: int) -> Iterator[bytes]:
            # Not `layer`: a context variable set in a generator would leak into its caller between
            # two blocks.
            with self._layer(index) as meter:
                for block in blocks(index):
                    meter.read += len(block)
                    yield block

        return read

    @contextmanager
    def _layer(self, index: int) -> Iterator[Meter]:
        # A meter of its own, added at the end: several threads may measure the same layer at once.
        meter = Meter()
        if self._recorder is None:
            yield meter
            return
        try:
            with _timed(meter):
                yield meter
        finally:
            with self._lock:
                self.layers[index].take_in(meter)
                self.move(meter)


# Context variables: each thread has its own, and a thread that is started begins with none.
_NOBODY: Final = Span(None, "", 0)
_span: ContextVar[Span] = ContextVar("span", default=_NOBODY)
_payer: ContextVar[Meter | None] = ContextVar("payer", default=None)


def current() -> Span:
    """Return the phase that this thread is in, or one without effect when there is none."""
    return _span.get()


def credit(*, sent: int, received: int) -> None:
    """Count bytes over the network for the phase and layer that this thread is in."""
    payer = _payer.get()
    if payer is not None:
        payer.add(sent=sent, received=received)


class PhaseTotals:
    """The number of runs of each phase in this process, and their seconds."""

    def __init__(self) -> None:
        self._totals: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def add(self, phase: str, seconds: float) -> None:
        """Count one run of a phase."""
        with self._lock:
            times, total = self._totals.get(phase, (0, 0.0))
            self._totals[phase] = times + 1, total + seconds

    def items(self) -> list[tuple[str, int, float]]:
        """Return (phase, times, seconds) of every phase."""
        with self._lock:
            return [(phase, *total) for phase, total in sorted(self._totals.items())]


PHASES: Final = PhaseTotals()


class Recorder:
    """Appends the phases of one role to the profile in its state folder.

    Threads and processes may share a folder, since each phase is a single write.
    """

    def __init__(self, state: Path, role: str, who: str, spec: Spec) -> None:
        self.path = state / PROFILE
        self._role, self._who, self._spec = role, who, spec
        self._is_introduced = False
        self._gave_up = False

    @contextmanager
    def phase(self, name: str, round_id: int) -> Iterator[Span]:
        """Record a phase of a round; a failed one is recorded too, and marked as failed."""
        outer, span = _span.get(), Span(self, name, round_id)
        token, started = _span.set(span), time.time()
        failed = True
        try:
            with _timed(span), _paid_by(span):
                yield span
            failed = False
        finally:
            _span.reset(token)
            # Own time: that of phases inside this one is theirs.
            outer.within += span.seconds
            span.seconds -= min(span.within, span.seconds)
            PHASES.add(name, span.seconds)
            self._write(span, started, failed)

    def _write(self, span: Span, started: float, failed: bool) -> None:
        if self._gave_up:
            return
        role = {"role": self._role, "who": self._who}
        try:
            # The first line names the layers, which later lines give by index only.
            if not self._is_introduced:
                spec = self._spec
                layers = [
                    [layer.name, spec.layer_bytes(i, "model")]
                    for i, layer in enumerate(spec.layers)
                ]
                _append(self.path, {**role, "spec": layers})
                self._is_introduced = True
            line = {
                **role,
                "round": span.round_id,
                "phase": span.name,
                "start": round(started, 6),
                **_figures(span),
                **({"failed": True} if failed else {}),
                **span.facts,
                "layers": {index: list(_figures(m).values()) for index, m in span.layers.items()},
            }
            _append(self.path, line)
        except OSError as error:
            self._gave_up = True
            _log.warning("%s: %s: nothing is recorded from here on", self.path, error.strerror)


@contextmanager
def _timed(meter: Meter) -> Iterator[None]:
    stretch, started = PEAK_MEMORY.begin(), time.perf_counter()
    try:
        yield
    finally:
        meter.seconds = time.perf_counter() - started
        meter.peak = PEAK_MEMORY.end(stretch)


@contextmanager
def _paid_by(meter: Meter) -> Iterator[None]:
    token = _payer.set(meter)
    try:
        yield
    finally:
        _payer.reset(token)


def _figures(meter: Meter) -> dict[str, float]:
    return {
        "seconds": round(meter.seconds, 6),
        "received": meter.received,
        "sent": meter.sent,
        "read": meter.read,
        "written": meter.written,
        "peak": meter.peak,
    }


def _append(path: Path, value: dict[str, Any]) -> None:
    """Append a line in one write."""
    # A newline goes before it too, so that a line which a crash left torn spoils no other. With
    # O_APPEND the kernel keeps the writes of several processes apart.
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"\n" + json.dumps(value, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if os.fstat(descriptor).st_size > LARGEST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        # A short write means a full disk: a second one for the rest would not be one line any more.
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
