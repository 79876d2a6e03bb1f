"""What a demo shows: lines in words, a drawing that moves, a result of at most 80 columns."""

import io
import re
import time
from pathlib import Path
from typing import Any

import pytest

from commonweight.demo.display import DemoView, print_next, print_result
from commonweight.demo.run import Follower
from protocol.errors import CommonweightError
from protocol.types import Address, RoundId, TokenUnits
from runtime import events
from runtime.progress import Line, reporter
from sponsor.config import Config
from tests.commonweight.program import TINY

ANN = Address("0x5FbDB2315678afecb367f032d93F642f64180aa3")
ONE = RoundId(1)


class Terminal(io.StringIO):
    """A terminal, as far as rich can tell."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def config() -> Config:
    return Config.load(TINY)


def lines(config: Config, *told: tuple[str, events.Event]) -> list[str]:
    """Return the plain lines of what was told, without their times."""
    stream = io.StringIO()
    with DemoView(config, stream) as view:
        for who, event in told:
            view.show(Line.now(who, event))
    return [line.partition(" s  ")[2].strip() for line in stream.getvalue().splitlines()]


def read(**changed: Any) -> events.DataRead:
    counts = dict.fromkeys(
        ("rows", "examples", "duplicates", "in_held_out", "validation", "truncated", "left_out"), 0
    )
    return events.DataRead(**{**counts, "dropped": {}, "training": 80, **changed})


def test_plain_lines_are_in_words(config: Config) -> None:
    name = config.data.names[0]
    shown = lines(
        config,
        ("demo", events.Joined(participant=ANN, name=name)),
        (name, read()),
        (name, read(dropped={"no answer": 2, "empty": 1}, truncated=4)),
        (name, events.Pinned(round=ONE, bytes=1_843_200)),
        ("aggregator", events.Accepted(round=ONE, participant=ANN, check=0, reason="")),
        ("aggregator", events.Rejected(round=ONE, participant=ANN, check=8, reason="all zero")),
        (name, events.Withdrew(amount=TokenUnits(750 * 10**18), gas=65_463)),
        ("aggregator", events.Evaluated(round=ONE, loss=2.25, tokens=2_014)),
    )
    words = [" ".join(line.split()) for line in shown]
    assert words == [
        f"demo joined {name}",
        f"{name} data 80 examples to train on",
        f"{name} data 80 examples to train on, 3 dropped, 4 cut",
        f"round 1 {name} pinned 1.8 MB",
        f"round 1 aggregator accepted {name}",
        f"round 1 aggregator rejected {name}, all zero",
        f"{name} withdrew 750.00 tokens, 65,463 gas",
        "round 1 aggregator evaluated held-out loss 2.2500",
    ]


def test_what_several_processes_say_of_the_same_data_is_said_once(config: Config) -> None:
    name = config.data.names[0]
    assert len(lines(config, (name, read()), (name, read()))) == 1
    # Anything else that happens twice is told twice.
    again = events.Waiting(reason="no chain", seconds=2)
    assert len(lines(config, (name, again), (name, again))) == 2


def test_the_drawing_moves_while_nothing_is_told(config: Config) -> None:
    name, stream = config.data.names[0], Terminal()
    with DemoView(config, stream) as view:
        for step in (1, 2):
            told = events.Training(round=ONE, step=step, steps=30, loss=3.5)
            view.show(Line(time.time() - 10 + 5 * step, name, told))
        time.sleep(1.6)  # nothing is told; the display draws itself four times a second
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert len(set(re.findall(r"starting +(\d+) s", drawn))) > 1, "its time stands still"
    assert "step 2 of 30, 1" in drawn  # 28 steps of 5 seconds each
    assert "loss 3.500" in drawn


def test_what_is_left_of_a_killed_attempt_is_shown_and_not_believed(tmp_path: Path) -> None:
    """Its processes may play the rounds on while the next attempt waits for them."""
    shown: list[str] = []
    earlier, own = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    reporter(earlier, "ann")(events.Pinned(round=ONE, bytes=1))
    follower = Follower(own, lambda line: shown.append(line.event.phase))
    assert not follower.follow()
    assert shown == ["pinned"]
    reporter(own, "demo")(events.Resumed(run="0001"))  # shown when it was reported
    reporter(earlier, "ann")(events.Failed(reason="the devnet is gone"))
    reporter(earlier, "aggregator")(events.Finished())
    assert not follower.follow()
    assert shown == ["pinned", "failed", "finished"]
    reporter(own, "aggregator")(events.Finished())
    assert follower.follow()
    reporter(own, "ann")(events.Failed(reason="no chain"))
    with pytest.raises(CommonweightError, match="ann failed: no chain"):
        follower.follow()


def result() -> dict[str, Any]:
    row = {
        "accepted": [ANN] * 15,
        "rejected": {},
        "gas": 12_345_678,
        "seconds": 12_345,
        "model_cid": "bafkrei" + "a" * 52,
        "aggregation_error": 0.148,
        "loss": 2.4459,
    }
    return {
        "base_loss": 3.1001,
        "rounds": [{**row, "round": number} for number in (1, 2, 3)],
        "paid": {ANN: 750_000 * 10**18},
        "names": {ANN: "pharmacology"},
        "answers": {"question": "Why? " * 30, "base": "Because. " * 30, "rounds": ["So."] * 3},
        "audit": {"checks": 73, "failed": 0},
        "federation": ANN,
        "folder": "/home/ann/.local/share/commonweight/runs/0001",
    }


def test_the_result_fits_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_result(result())
    print_next(".venv/bin/commonweight")
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for part in ("15 of 15", "12,345,678", "2.4459", "750,000.00", "73 checks", "fine-tuned  So."):
        assert part in shown
