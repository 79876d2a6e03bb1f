"""All schedules by their seeds: those of clear rounds first, then those of masked ones."""

import random
from typing import Final

from tests.faults.masked_schedule import MASKED_SEEDS, make_masked_schedule
from tests.faults.schedule import CLEAR_SEEDS, Schedule, make_clear_schedule

SEEDS: Final = CLEAR_SEEDS + MASKED_SEEDS


def make_schedule(seed: int) -> Schedule:
    """Return the schedule of a seed, always the same."""
    return make_clear_schedule(seed) if seed < CLEAR_SEEDS else make_masked_schedule(seed)


def part_of_seeds(part: str) -> set[int]:
    """Return the seeds of a part such as "3/10", the third of ten; the parts of ten share none.

    Each has as large a part of the clear rounds as of the masked ones. ValueError unless it is N/M
    with 1 <= N <= M.
    """
    number, _, parts = part.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise ValueError(f"the part is {part!r}, N/M with 1 <= N <= M was expected")
    # From shuffled decks, since neighbouring seeds begin with the same kind of fault.
    decks = range(CLEAR_SEEDS), range(CLEAR_SEEDS, SEEDS)
    dealt = [random.Random(0).sample(deck, len(deck)) for deck in decks]
    return {seed for deck in dealt for seed in deck[int(number) - 1 :: int(parts)]}
