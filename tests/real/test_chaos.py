"""Rounds on geth and Kubo while both, and the roles, are stopped, killed, held and reorganised."""

from pathlib import Path

import pytest

from tests.real.checks import check
from tests.real.stage import Stage

ROUNDS = 18
BLOCKS = 200


def test_chaos(
    tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    seed, faults = (request.config.getoption(name) for name in ("chaos_seed", "chaos_faults"))
    rounds = max(ROUNDS, faults * 3 // 4)
    with capsys.disabled(), Stage(tmp_path, seed, faults, rounds) as stage:
        print(f"\nchaos of seed {seed}: {faults} faults in {rounds} rounds")
        stage.play()
        result = check(stage)
        print("\n".join([*result.rounds, f"{len(stage.struck)} faults, {result.blocks} blocks"]))
    assert not result.broken, "\n".join(result.broken)
    assert len(stage.struck) >= faults * 3 // 4
    assert result.blocks >= BLOCKS
