"""The time that others' bytes may take, so that nothing of ours is late because of them."""

import math
import time
from dataclasses import dataclass
from typing import Self

from protocol.spec import Spec
from storage.blocks import SLOWEST_BYTES_PER_S

FIRST_BYTES_S = 30.0  # to find a peer and reach it


@dataclass(frozen=True)
class Budget:
    """`update_s` seconds for each update and `model_s` for a model, and none of it past `ends_at`.

    All updates spend theirs at the same time. `ends_at` is in seconds of time.monotonic().
    """

    update_s: float = math.inf
    model_s: float = math.inf
    ends_at: float = math.inf

    @classmethod
    def of(cls, spec: Spec, seconds: float, update_s: float | None = None) -> Self:
        """Return a budget that ends `seconds` from now; `update_s` is by default that of the size.

        Models come first, and take at most half of it.
        """
        sizes = spec.total_bytes(spec.update_kind), spec.total_bytes("model")
        for_update, for_model = (FIRST_BYTES_S + size / SLOWEST_BYTES_PER_S for size in sizes)
        ends_at = time.monotonic() + seconds
        return cls(update_s or for_update, min(for_model, seconds / 2), ends_at)

    def update_deadline(self) -> float:
        """Return when an update that is asked for now must have come whole."""
        return min(time.monotonic() + self.update_s, self.ends_at)

    def model_deadline(self) -> float:
        """Return when a model that is asked for now must have come whole."""
        return min(time.monotonic() + self.model_s, self.ends_at)


UNLIMITED = Budget()
