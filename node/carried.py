"""What rounding took from a participant's updates, kept for its next one (docs/protocol.md §2).

    FOLDER/round-0003.f64    left over after the update of round 3: float64, little-endian, all
                             values of all layers in the order of the spec, without padding; empty
                             when nothing is left over

A round starts from the file of the newest round before it that used the participant's update. So an
update that no average used is undone by itself, and what was written for a round before a crash is
not read again in the same round.
"""

from pathlib import Path
from typing import Final

import numpy as np

from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import RoundId
from storage.files import write_atomically
from training.update import Carried

_STORED: Final = np.dtype("<f8")


class CarriedFiles:
    """The files of one participant in one federation."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        self.folder = folder
        self._spec = spec

    def write(self, round_id: RoundId, carried: Carried | None) -> None:
        """Write what was left over after the update of a round; durable when this returns."""
        data = b"".join(layer.astype(_STORED).tobytes() for layer in carried or ())
        # Private like the update's salt: before the reveal nobody may learn anything of an update.
        write_atomically(self._path(round_id), data, mode=0o600)

    def read(self, round_id: RoundId) -> Carried | None:
        """Return what was left over after the update of a round, or None for nothing.

        Raises Misconfigured when the file is missing or cannot be what was written.
        """
        path = self._path(round_id)
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise Misconfigured(f"{path}: {error.strerror}") from error
        if not raw:
            return None
        counts = [self._spec.layer_values(index) for index in range(len(self._spec.layers))]
        if len(raw) != sum(counts) * _STORED.itemsize:
            raise Misconfigured(f"{path} has {len(raw):,} bytes, which is not the spec's size")
        values = np.frombuffer(raw, _STORED).astype(np.float64)
        # Rounding takes half a step at most, and the first round's steps are the largest. NaN
        # compares false.
        if not (np.abs(values) <= 2.0 ** -(self._spec.encoding.grid_in(1) + 1)).all():
            raise Misconfigured(f"{path} has a value of more than half a step")
        parts = np.split(values, np.cumsum(counts)[:-1])
        layers = zip(self._spec.layers, parts, strict=True)
        return [part.reshape(layer.shape) for layer, part in layers]

    def prune(self, *needed: RoundId | None) -> None:
        """Remove the files of all rounds but those `needed`."""
        kept = {self._path(round_id) for round_id in needed if round_id is not None}
        for path in self.folder.glob("round-*.f64"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _path(self, round_id: RoundId) -> Path:
        return self.folder / f"round-{round_id:04d}.f64"
