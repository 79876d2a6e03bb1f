"""The shortest of tests/masked/test_blame.py: who lies is named, whatever it puts that down to."""

from pathlib import Path

from protocol.checks import Check
from tests.masked.test_attacks import ALTERED
from tests.masked.test_blame import false_account, named, play_second, refuse_altered
from tests.masked.world import FIVE, MaskedWorld


def test_who_blames_a_mask_is_named_by_its_seed(tmp_path: Path) -> None:
    """The other opens the seed that the two have in common: it was in no other sum."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        refuse_altered(world, ALTERED["garbage"])
        with false_account("eve", "ann", world):
            world.participants["eve"]._account_for_masks()  # first, so that ann sees it
            reasons = play_second(world)
        assert reasons["eve"] == (0, 0, Check.BLAMED)
        assert reasons["ann"][1:] == (10_000, 0)
        eve = world.address_of("eve")
        assert list(named(world)) == [eve]
        assert "not what the mask's seed says" in named(world)[eve][1]
        (said,) = (check for check in world.audit() if "tells who is to blame" in check.claim)
        assert said.passed
        assert said.detail == f"{eve}: {named(world)[eve][1]}"
