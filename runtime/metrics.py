"""Prometheus metrics of one role, from the events it reports (docs/operating.md lists them)."""

from collections.abc import Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily

from profiling.recorder import PHASES
from profiling.traffic import TRAFFIC
from protocol.errors import Misconfigured


class Measured(Protocol):
    """An event as metrics see it (runtime/events.py)."""

    def measure(self, metrics: "Metrics") -> None:
        """Add the event to the metrics."""


class Metrics:
    """The metrics of one process, which is one role.

    Each event defines what it adds to which metric (`Event.measure`).
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.rounds = self._counter("rounds", "Rounds that ended, by outcome.", "outcome")
        self.loss = self._gauge("loss", "Newest loss, nats per token.", "kind")
        self.epsilon = self._gauge(
            "privacy_epsilon", "Epsilon spent on the own data so far, and the budget.", "kind"
        )
        self.gas = self._counter("gas_used", "Gas of this process's transactions.", "phase")
        self.credited = self._gauge("credited_token_units", "Credited by rounds so far.")
        self.withdrawn = self._counter("withdrawn_token_units", "Withdrawn by this process.")
        self.faults = self._counter("faults", "Failures that were waited out.", "source")
        self.places = self._counter(
            "announced_places", "Places that members announced, as they were asked.", "answers"
        )
        self._looked = self._gauge(
            "last_success_timestamp_seconds", "When the chain was last read without a fault."
        )
        self.registry.register(_Bytes())
        self.registry.register(_Phases())

    def serve(self, port: int, host: str = "127.0.0.1") -> None:
        """Serve GET /metrics at `host`:`port`; raises Misconfigured when the port is taken."""
        try:
            start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise Misconfigured(f"metrics at {host}:{port}: {error.strerror}") from error

    def looked(self) -> None:
        """Record that the chain was read without a fault just now."""
        self._looked.set_to_current_time()

    def report(self, event: "Measured") -> None:
        """Add one event."""
        event.measure(self)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"commonweight_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"commonweight_{name}", text, labels, registry=self.registry)


class _Bytes:
    """IPFS traffic, read at each request, since bytes move without an event."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the bytes sent and received so far."""
        family = CounterMetricFamily(
            "commonweight_ipfs_bytes", "Content sent to and received from IPFS.", labels=["way"]
        )
        family.add_metric(["up"], TRAFFIC.sent)
        family.add_metric(["down"], TRAFFIC.received)
        yield family


class _Phases:
    """The times that `commonweight profile` shows, of this process alone."""

    def collect(self) -> Iterator[SummaryMetricFamily]:
        """Yield the number and the total seconds of each phase so far."""
        family = SummaryMetricFamily(
            "commonweight_phase_seconds", "Time taken by a phase.", labels=["phase"]
        )
        for phase, times, seconds in PHASES.items():
            family.add_metric([phase], times, seconds)
        yield family
