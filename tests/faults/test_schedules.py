"""Every seed is a history in which things break; after each the same must hold.

pytest tests/faults -k seed-017          # or, with its whole trace: python -m tests.faults.play 17
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.masked_schedule import MASKED_SEEDS, masked_catalogue
from tests.faults.play import play
from tests.faults.schedule import CLEAR_SEEDS, catalogue
from tests.faults.seeds import SEEDS, make_schedule, part_of_seeds

_SCHEDULES = [make_schedule(seed) for seed in range(SEEDS)]


def _short_form() -> set[int]:
    """Return one seed for each of `_QUICK`: `make test` sees that the stage works."""
    clear = reversed(_SCHEDULES[:CLEAR_SEEDS])
    alone = {s.faults[0].kind: s.seed for s in clear if len(s.faults) == 1}
    return {alone[kind] for kind in _QUICK}


_QUICK = ("kill", "cut", "omit")
SHORT = _short_form()


def _marked(seed: int) -> object:
    marks = [] if seed in SHORT else [pytest.mark.slow]
    kind = "masked-" if _SCHEDULES[seed].is_masked else ""
    return pytest.param(seed, id=f"{kind}seed-{seed:03d}", marks=marks)


@pytest.mark.parametrize("seed", [_marked(seed) for seed in range(SEEDS)])
def test_schedule(
    seed: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    played = play(_SCHEDULES[seed], tmp_path)
    record_property("played", played.to_json())
    if played.outcome.broken:
        pytest.fail(played.story(), pytrace=False)


def test_the_seeds_cover_the_catalogue() -> None:
    """Every fault at every boundary begins one of the schedules."""
    cells, plans = catalogue(), masked_catalogue()
    assert len(cells) <= CLEAR_SEEDS
    assert len(plans) <= MASKED_SEEDS
    clear, masked = _SCHEDULES[:CLEAR_SEEDS], _SCHEDULES[CLEAR_SEEDS:]
    kinds = {(schedule.faults[0].kind, schedule.faults[0].detail) for schedule in clear}
    assert kinds == {(cell.kind, cell.detail) for cell in cells}
    begun = {schedule.faults[0].point for schedule in masked}
    assert begun == {plan.faults[0].point for plan in plans}


def test_the_parts_make_up_the_whole() -> None:
    parts = [part_of_seeds(f"{number}/10") for number in range(1, 11)]
    assert sorted(seed for part in parts for seed in part) == list(range(SEEDS))
    assert all(len(part) == SEEDS // 10 for part in parts)
    kinds = [{_SCHEDULES[seed].faults[0].kind for seed in part} for part in parts]
    assert all(len(each) >= 4 for each in kinds)


@pytest.mark.parametrize("part", ["0/10", "11/10", "1", "a/b", "1/0", "-1/2"])
def test_what_is_no_part_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match="N/M with 1 <= N <= M was expected"):
        part_of_seeds(part)


def test_a_seed_is_always_the_same_schedule() -> None:
    assert make_schedule(17) == _SCHEDULES[17]
    assert len(set(_SCHEDULES)) == SEEDS
