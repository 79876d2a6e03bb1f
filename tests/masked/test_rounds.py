"""Masked rounds from commitment to settlement: the same model, and nothing of a single update."""

from pathlib import Path

import numpy as np

from contracts.enums import Status, SubmissionState
from protocol.types import RoundId
from protocol.verdict import FULL_SCORE
from storage.digests import block_digests
from tests.masked.world import FOUR, MaskedWorld
from tests.world import World

ONE = RoundId(1)


def test_the_model_is_that_of_clear_updates(tmp_path: Path) -> None:
    roots = []
    for name, world in (
        ("clear", World(tmp_path / "clear", names=FOUR)),
        ("masked", MaskedWorld(tmp_path / "masked", challenge_seconds=1)),
    ):
        with world:
            for _ in range(2):
                # As a driver does it, from the opening to the settlement.
                assert World.play(world) is Status.FINALIZED, name
            client = world.client()
            told = [client.history().round(RoundId(number)).finalized for number in (1, 2)]
            roots.append([each.root for each in told if each is not None])
            checks = world.audit()
            assert all(check.passed for check in checks), [c.line() for c in checks if not c.passed]
            verdicts = world.told(ONE).proposals[0].verdicts
            assert [v.score for v in verdicts] == [FULL_SCORE] * 4
    assert roots[0] == roots[1]
    assert len(roots[0]) == 2


def test_what_is_stored_says_nothing_of_an_update(tmp_path: Path) -> None:
    """The store has no block of a clear update, and no masked layer correlates with its own."""
    with MaskedWorld(tmp_path) as world:
        world.play()
        for participant in world.participants.values():
            state = world.client().get_submission(ONE, participant.address).state
            assert state is SubmissionState.UNMASKED
            clear, masked_files = participant._update_folder(ONE), participant._masks(ONE).files
            for digests in block_digests(clear.paths(world.spec)):
                assert not any(map(world.store.has, digests))
            for digests in block_digests(masked_files.paths(world.spec)):
                assert all(map(world.store.has, digests))
        mine = world.participants["ann"]
        update = np.fromfile(mine._update_folder(ONE).layer_path(0), np.int8)
        masked = np.fromfile(mine._masks(ONE).files.layer_path(0), ">u4").astype(np.float64)
        share = np.corrcoef(update.astype(np.float64), masked)[0, 1]
        assert abs(share) < 5 / np.sqrt(update.size)
