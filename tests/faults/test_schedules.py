"""Every seed is a history in which things break; after each the same must hold.

    pytest tests/faults -k "seed17 "          # or: python -m tests.faults.play 17
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.play import play
from tests.faults.schedule import catalogue, make_schedule
from tests.faults.stage import can_start

SEEDS = 220
# One fault of each kind and role, so that `make test` sees all of them in a minute.
SHORT = (0, 3, 5, 9, 12)


def _marked(seed: int) -> object:
    marks = [] if seed in SHORT else [pytest.mark.slow]
    return pytest.param(seed, id=f"seed{seed:03d}", marks=marks)


@pytest.mark.parametrize("seed", [_marked(seed) for seed in range(SEEDS)])
def test_schedule(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    schedule = make_schedule(seed)
    if missing := can_start(schedule):
        pytest.skip(missing)
    played = play(schedule, tmp_path)
    record_property("played", played.to_json())
    assert not played.outcome.broken, played.story()


def test_the_seeds_cover_the_catalogue() -> None:
    """Every fault at every boundary begins one of the schedules."""
    assert SEEDS >= len(catalogue())
    first = [make_schedule(seed).faults[0] for seed in range(len(catalogue()))]
    kinds = {(f.kind, f.detail) for f in first}
    assert kinds == {(c.kind, c.detail) for c in catalogue()}


def test_a_seed_is_always_the_same_schedule() -> None:
    assert make_schedule(17) == make_schedule(17)
    assert len({make_schedule(seed) for seed in range(SEEDS)}) == SEEDS
