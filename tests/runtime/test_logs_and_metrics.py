"""Logs and metrics: every line in one form, every figure from what a role reports."""

import json
import logging
import urllib.request
from collections.abc import Iterator

import pytest

from profiling.recorder import PHASES
from profiling.traffic import TRAFFIC
from protocol.errors import Misconfigured
from protocol.types import RoundId, TokenUnits
from runtime import events
from runtime.logs import LogFormat, log_reporter, setup_logging
from runtime.metrics import Metrics
from runtime.processes import free_port


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def told(capsys: pytest.CaptureFixture[str], log_format: LogFormat) -> list[str]:
    setup_logging(log_format)
    report = log_reporter("cardiology")
    report(events.Committed(round=RoundId(2), gas=58_322))
    report(events.Waiting(reason='no IPFS daemon answers at "x": is it running?', seconds=1.5))
    for step in range(100):
        report(events.Training(round=RoundId(3), step=step, steps=100, loss=1.0))
    logging.getLogger("some.library").warning("look %s", "here")
    logging.getLogger("some.library").info("of no interest")
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err.splitlines()


def test_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.loads(line) for line in told(capsys, "json")]
    assert [line.pop("time")[-1] for line in lines] == ["Z"] * 4
    committed, waiting, training, library = lines
    assert committed == {
        "level": "info",
        "who": "cardiology",
        "phase": "committed",
        "round": 2,
        "gas": 58_322,
    }
    assert (waiting["level"], waiting["seconds"]) == ("warning", 1.5)
    assert training["step"] == 0
    assert library == {"level": "warning", "who": "some.library", "message": "look here"}


def test_text_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "text")
    assert len(lines) == 4
    assert lines[0].endswith("INFO    cardiology    committed  round=2 gas=58322")
    assert 'reason="no IPFS daemon answers at \\"x\\": is it running?" seconds=1.5' in lines[1]
    assert lines[3].endswith("WARNING some.library: look here")


# -------------------------------------------------------------------- metrics


def scrape(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    pairs = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs}


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def metrics(port: int) -> Metrics:
    metrics = Metrics()
    metrics.serve(port)
    return metrics


def test_figures_come_from_what_is_reported(metrics: Metrics, port: int) -> None:
    number = RoundId(1)
    for event in (
        events.Trained(round=number, loss=2.5, examples=8),
        events.Committed(round=number, gas=50_000),
        events.Revealed(round=number, gas=40_000),
        events.Evaluated(round=number, loss=2.25, tokens=9),
        events.RoundOver(round=number, outcome="paid", paid=TokenUnits(500)),
        events.RoundOver(round=number, outcome="offline", paid=TokenUnits(0)),
        events.RoundOver(round=number, outcome="paid", paid=TokenUnits(300)),
        events.Withdrew(amount=TokenUnits(800), gas=30_000),
        events.Waiting(reason="no block", seconds=1, service="chain"),
        events.Waiting(reason="no bytes", seconds=1, service="storage"),
        events.Waiting(reason="disk full", seconds=1),
    ):
        metrics.report(event)
    TRAFFIC.add(sent=7, received=5)
    PHASES.add("rehearse", 1.5)
    PHASES.add("rehearse", 2.0)
    found = scrape(port)
    assert found['commonweight_rounds_total{outcome="paid"}'] == 2
    assert found['commonweight_rounds_total{outcome="offline"}'] == 1
    assert found['commonweight_loss{kind="training"}'] == 2.5
    assert found['commonweight_loss{kind="held_out"}'] == 2.25
    assert found["commonweight_credited_token_units"] == 800
    assert found["commonweight_withdrawn_token_units_total"] == 800
    assert sum(v for k, v in found.items() if k.startswith("commonweight_gas_used_t")) == 120_000
    for source in ("chain", "storage", "other"):
        assert found[f'commonweight_faults_total{{source="{source}"}}'] == 1
    assert found['commonweight_phase_seconds_count{phase="rehearse"}'] == 2
    assert found['commonweight_phase_seconds_sum{phase="rehearse"}'] == 3.5
    assert found['commonweight_ipfs_bytes_total{way="up"}'] == TRAFFIC.sent
    assert found['commonweight_ipfs_bytes_total{way="down"}'] == TRAFFIC.received
    assert found["commonweight_last_success_timestamp_seconds"] == 0
    metrics.looked()
    assert scrape(port)["commonweight_last_success_timestamp_seconds"] > 1.7e9


def test_a_taken_port_is_one_line(metrics: Metrics, port: int) -> None:
    with pytest.raises(Misconfigured, match=f"metrics at 127.0.0.1:{port}: Address already in use"):
        Metrics().serve(port)
