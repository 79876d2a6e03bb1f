"""A role's loop: faults are waited out, no two processes share a wallet, SIGTERM ends it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.errors import Misconfigured, Unavailable
from runtime import service as module
from runtime.events import Event, Stopped, Waiting, ignore
from runtime.service import Service, Stop, alone, is_held

Reported = list[Event]


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def service(reported: Reported, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(module, "FIRST_BACK_OFF_S", 0.001)
    return Service(reported.append, poll_seconds=0.001)


def failing(times: int, error: Exception) -> Callable[[], bool]:
    left = iter([error] * times)

    def step() -> bool:
        found = next(left, None)
        if found is not None:
            raise found
        return False

    return step


@pytest.mark.parametrize("error", [Unavailable("it is down"), OSError(28, "No space left")])
def test_a_fault_is_one_line_and_a_longer_wait_each_time(
    service: Service, reported: Reported, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    monkeypatch.setattr(service, "_wait", waits.append)
    monkeypatch.setattr(module, "FIRST_BACK_OFF_S", 1.0)
    service.keep(failing(7, error))
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert len(reported) == 7
    assert all(isinstance(each, Waiting) and "\n" not in each.reason for each in reported)


def test_waits_differ_between_processes(
    service: Service, reported: Reported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_BACK_OFF_S", 30.0)
    monkeypatch.setattr(service, "_wait", lambda seconds: None)
    service.keep(failing(20, Unavailable("down")))
    seconds = {each.seconds for each in reported if isinstance(each, Waiting)}
    assert len(seconds) > 10
    assert all(15.0 <= each <= 30.0 for each in seconds)


def test_a_bug_is_not_waited_out(service: Service) -> None:
    with pytest.raises(KeyError):
        service.keep(failing(1, KeyError("x")))


def test_insisting_gives_way_to_what_cannot_get_better(service: Service) -> None:
    with pytest.raises(Misconfigured):
        service.insist(failing(1, Misconfigured("another chain")))
    assert service.insist(failing(3, Unavailable("down"))) is False


def test_a_pause_ends_when_asked_to(service: Service) -> None:
    service.stop()
    with pytest.raises(Stop):
        service.pause()


def test_success_is_noted_at_each_look() -> None:
    looks: list[float] = []
    service = Service(ignore, 0.001, lambda: looks.append(time.time()))
    left = iter([True, True, False])
    service.keep(lambda: next(left))
    assert len(looks) == 2


def test_pauses_grow_while_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    waits: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    service = Service(ignore, poll_seconds=2.0)
    monkeypatch.setattr(service, "_wait", waits.append)

    def pauses(*quiet: float) -> list[float]:
        nonlocal now
        waits.clear()
        service.report(Stopped())
        reported = now
        for seconds in quiet:
            now = reported + seconds
            service.pause()
        return list(waits)

    assert pauses(1, 10_000) == [2.0, 2.0]  # it is not known how long one may look away
    service.shortest_phase_s = 900.0
    assert pauses(30, 60, 90, 600, 1350, 100_000) == [2.0, 2.0, 3.0, 20.0, 45.0, 45.0]
    # A fault is nothing that happens: who waits for a service does not ask it more often for it.
    service.keep(failing(1, Unavailable("down")))
    service.pause()
    assert waits[-1] == 45.0
    service.shortest_phase_s = 86_400.0  # a day's phase
    assert pauses(100_000) == [120.0]
    service.shortest_phase_s = 10.0  # never more often than the settings say
    assert pauses(100_000) == [2.0]


def test_one_process_a_wallet_and_a_state_folder(tmp_path: Path) -> None:
    keystore = tmp_path / "wallet.json"
    keystore.write_text("{}")
    state, other = tmp_path / "state", tmp_path / "other"
    assert not is_held(state)
    with alone(state, keystore):
        assert is_held(state)
        with pytest.raises(Misconfigured, match=r"state folder .* is in use by another process"):
            alone(state, keystore).__enter__()
        with pytest.raises(Misconfigured, match=r"wallet .* is in use by another process"):
            alone(other, keystore).__enter__()
    assert not is_held(state)
    with alone(state, keystore):
        pass
    with pytest.raises(Misconfigured, match="cannot be opened: No such file"):
        alone(state, tmp_path / "nowhere.json").__enter__()


# -------------------------------------------------------------------- signals

PROGRAM = """
import sys, threading, time
from runtime.events import Event, Stopped, Waiting, ignore
from runtime.service import Service, stopping_on_signals
service = Service(lambda event: print(event.phase, flush=True), poll_seconds=60)
def step():
    {body}
    return True
with stopping_on_signals(service, seconds=1.0):
    service.keep(step)
"""
READY = 'print("ready", flush=True)'
SWALLOWS = """
    while True:
        try:
            print("ready", flush=True)
            time.sleep(60)
        except BaseException:
            pass
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        (READY, "stopped"),
        (f"{READY}; time.sleep(60)", "stopped"),
        (SWALLOWS.strip(), "ready"),  # goes on, like a library in C that does not come back
    ],
)
def test_a_signal_ends_it_within_seconds_and_with_0(
    number: signal.Signals, body: str, says: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(body=body)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    started = time.monotonic()
    process.send_signal(number)
    output, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    assert time.monotonic() - started < 50  # it would have slept for 60
    assert output.strip() == says
