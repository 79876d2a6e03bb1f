"""Rounds on geth and Kubo while both, and the roles, are stopped, killed, held and reorganised."""

from pathlib import Path

import pytest

from tests.real.checks import Result, check
from tests.real.network import Stuck
from tests.real.stage import Stage

ROUNDS = 18
BLOCKS = 200


def test_chaos(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    seed, faults = (request.config.getoption(name) for name in ("seed", "chaos_faults"))
    rounds = max(ROUNDS, faults * 3 // 4)
    with capsys.disabled():
        print(f"\nchaos of seed {seed}: {faults} faults in {rounds} rounds", flush=True)
    with Stage(tmp_path, seed, faults, rounds) as stage:
        try:
            stage.play()
            result = check(stage)
        except Stuck as stuck:
            result = Result((), 0, (str(stuck),))
        story = "\n".join([*stage.trace, *result.rounds, f"{result.blocks} blocks"])
    with capsys.disabled():
        print(story, flush=True)
    assert not result.broken, "\n".join(result.broken)
    assert len(stage.struck) >= faults * 3 // 4
    assert result.blocks >= BLOCKS
