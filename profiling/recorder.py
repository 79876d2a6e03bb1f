"""What each phase of a role takes: time, bytes and memory, a line of JSON each in its state folder.

    recorder = Recorder(state, "participant", address, spec)
    with recorder.phase("pin", round_id):
        for index in range(len(spec.layers)):
            with current().layer(index):
                store.add_file(folder.layer_path(index))

What goes to IPFS and comes from it is counted by itself (profiling/traffic.py), for the phase and
layer that this thread is in; reading and writing of layer files is told with `add`. Code that is
also used where nobody records asks for `current()`, which then counts for nothing.

Recording informs and never fails: what cannot be written is given up, with one warning.
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

PROFILE: Final = "profile.jsonl"
"""In a role's state folder."""

LARGEST_BYTES: Final = 1 << 28
"""A profile that is larger is not added to: nobody would read it."""

Blocks = Callable[[int], Iterator[bytes]]

_log = logging.getLogger(__name__)


@dataclass
class Meter:
    """What something took: own seconds, bytes over the network and of layer files, peak memory."""

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
        """Add what `other` took; the peak is the higher one."""
        self.seconds += other.seconds
        self.peak = max(self.peak, other.peak)
        self.move(other)

    def move(self, other: "Meter") -> None:
        """Add the bytes that `other` moved."""
        self.add(received=other.received, sent=other.sent, read=other.read, written=other.written)


class Span(Meter):
    """One phase while it runs; what its layers move is its own as well."""

    def __init__(self, recorder: "Recorder | None", phase: str, round_id: int) -> None:
        super().__init__()
        self.name = phase
        self.round_id = round_id
        self.layers: defaultdict[int, Meter] = defaultdict(Meter)
        self.facts: dict[str, int] = {}
        self.within = 0.0  # seconds of phases inside this one
        self._recorder = recorder
        self._lock = threading.RLock()  # the collector may close a layer's blocks at any time

    def note(self, **facts: int) -> None:
        """Keep further figures with this phase."""
        self.facts |= facts

    @contextmanager
    def phase(self, name: str) -> Iterator["Span"]:
        """Record a phase of the same round: inside this one, or in a thread at its service.

        Inside this one its time counts as its own only.
        """
        if self._recorder is None:
            yield self
        else:
            with self._recorder.phase(name, self.round_id) as span:
                yield span

    @contextmanager
    def layer(self, index: int) -> Iterator[Meter]:
        """Count what this thread moves for layer `index`; several times, it adds up."""
        with self._layer(index) as meter, _paid_by(meter):
            yield meter

    def measured(self, blocks: Blocks) -> Blocks:
        """Return `blocks` with each layer measured: its bytes, and its time up to the last one."""

        def read(index: int) -> Iterator[bytes]:
            with self._layer(index) as meter:
                for block in blocks(index):
                    meter.read += len(block)
                    yield block

        return read

    @contextmanager
    def _layer(self, index: int) -> Iterator[Meter]:
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


_NOBODY: Final = Span(None, "", 0)
_span: ContextVar[Span] = ContextVar("span", default=_NOBODY)
_payer: ContextVar[Meter | None] = ContextVar("payer", default=None)


def current() -> Span:
    """Return the phase that this thread is in; one that counts for nothing where there is none."""
    return _span.get()


def credit(*, sent: int, received: int) -> None:
    """Count bytes over the network for the phase and layer that this thread is in."""
    payer = _payer.get()
    if payer is not None:
        payer.add(sent=sent, received=received)


class PhaseTotals:
    """How often each phase was run in this process, and the seconds it took."""

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

    Threads and processes may share a folder: a phase is one write.
    """

    def __init__(self, state: Path, role: str, who: str, spec: Spec) -> None:
        self.path = state / PROFILE
        self._role, self._who, self._spec = role, who, spec
        self._is_introduced = False
        self._gave_up = False

    @contextmanager
    def phase(self, name: str, round_id: int) -> Iterator[Span]:
        """Record a phase of a round; one that fails is recorded as well, and so marked."""
        outer, span = _span.get(), Span(self, name, round_id)
        token, started = _span.set(span), time.time()
        failed = True
        try:
            with _timed(span), _paid_by(span):
                yield span
            failed = False
        finally:
            _span.reset(token)
            outer.within += span.seconds
            span.seconds -= min(span.within, span.seconds)
            PHASES.add(name, span.seconds)
            self._write(span, started, failed)

    def _write(self, span: Span, started: float, failed: bool) -> None:
        if self._gave_up:
            return
        try:
            if not self._is_introduced:
                _append(self.path, self._introduction())
                self._is_introduced = True
            _append(self.path, self._line(span, started, failed))
        except OSError as error:
            self._gave_up = True
            _log.warning("%s: %s: nothing is recorded from here on", self.path, error.strerror)

    def _introduction(self) -> dict[str, Any]:
        spec = self._spec
        layers = [[layer.name, spec.layer_bytes(i)] for i, layer in enumerate(spec.layers)]
        return {"role": self._role, "who": self._who, "spec": layers}

    def _line(self, span: Span, started: float, failed: bool) -> dict[str, Any]:
        return {
            "role": self._role,
            "who": self._who,
            "round": span.round_id,
            "phase": span.name,
            "start": round(started, 6),
            **_figures(span),
            **({"failed": True} if failed else {}),
            **span.facts,
            "layers": {index: list(_figures(m).values()) for index, m in span.layers.items()},
        }


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
    """Append a line in one write. A newline goes before it too: a line that a crash left torn
    spoils no other.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"\n" + json.dumps(value, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        if os.fstat(descriptor).st_size > LARGEST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
