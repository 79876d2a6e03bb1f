"""Prometheus metrics of one role, made from what it reports (docs/operating.md lists them)."""

from collections.abc import Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily

from profiling.recorder import PHASES
from profiling.traffic import TRAFFIC
from protocol.errors import Misconfigured

_LOSSES: Final = {"trained": "training", "evaluated": "held_out"}


class Metrics:
    """Counts what `report` hears; `serve` shows it. One role a process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rounds = self._counter(
            "rounds", "Rounds that ended, by what came of them.", "outcome"
        )
        self._loss = self._gauge("loss", "Newest loss, nats a token.", "kind")
        self._gas = self._counter("gas_used", "Gas of this process's transactions.", "phase")
        self._credited = self._gauge("credited_token_units", "Credited by rounds so far.")
        self._withdrawn = self._counter("withdrawn_token_units", "Withdrawn by this process.")
        self._faults = self._counter("faults", "Failures that were waited out.", "source")
        self._looked = self._gauge(
            "last_success_timestamp_seconds", "When the chain was last read without a fault."
        )
        self.registry.register(_Bytes())
        self.registry.register(_Phases())

    def serve(self, port: int, host: str = "127.0.0.1") -> None:
        """Answer GET /metrics at `host`:`port`; Misconfigured when the port cannot be had."""
        try:
            start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise Misconfigured(f"metrics at {host}:{port}: {error.strerror}") from error

    def looked(self) -> None:
        """Take note that all is well now."""
        self._looked.set_to_current_time()

    def report(self, phase: str, **facts: Any) -> None:
        """Take in one line of progress."""
        if "gas" in facts:
            self._gas.labels(phase).inc(facts["gas"])
        if phase in _LOSSES:
            self._loss.labels(_LOSSES[phase]).set(facts["loss"])
        elif phase == "round over":
            self._rounds.labels(facts["outcome"]).inc()
            self._credited.inc(facts.get("paid", 0))
        elif phase == "withdrew":
            self._withdrawn.inc(facts["amount"])
        elif phase == "waiting":
            self._faults.labels(fault_source(facts["reason"])).inc()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"commonweight_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"commonweight_{name}", text, labels, registry=self.registry)


def fault_source(reason: str) -> str:
    """Return whose fault a failure's one line says it is: rpc, ipfs or other."""
    if "IPFS" in reason:
        return "ipfs"
    return "rpc" if "Ethereum RPC" in reason else "other"


class _Bytes:
    """Read when somebody asks, since bytes move without a report."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(
            "commonweight_ipfs_bytes", "Content sent to and received from IPFS.", labels=["way"]
        )
        family.add_metric(["up"], TRAFFIC.sent)
        family.add_metric(["down"], TRAFFIC.received)
        yield family


class _Phases:
    """The same figures as `commonweight profile` has, of this process alone."""

    def collect(self) -> Iterator[SummaryMetricFamily]:
        family = SummaryMetricFamily(
            "commonweight_phase_seconds", "Time that a phase took.", labels=["phase"]
        )
        for phase, times, seconds in PHASES.items():
            family.add_metric([phase], times, seconds)
        yield family
