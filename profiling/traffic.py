"""Bytes of content that this process has sent to IPFS daemons and received from them.

The totals are for metrics; the profile counts them for the phase and layer that moved them.
"""

import threading

from profiling.recorder import credit


class Traffic:
    """Totals since the process began; any thread may add to them."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self._lock = threading.Lock()

    def add(self, *, sent: int = 0, received: int = 0) -> None:
        """Count some bytes."""
        with self._lock:
            self.sent += sent
            self.received += received
        credit(sent=sent, received=received)


TRAFFIC = Traffic()
