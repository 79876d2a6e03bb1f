"""Attacks through proposals: on other reveals, without its bytes, behind a withheld update."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.watch import watch
from contracts.enums import AggregatorState, Status
from contracts.reverts import Reverted
from node.participant import Participant
from rounds.rebuild import obtain_model
from storage.ipfs import ContentStore
from tests.chain.stage import ask
from tests.disputes.lies import TERMS, assert_slashed, finish, moved_too_far, propose
from tests.ethereum.anvil import running_anvil
from tests.rounds.test_rebuild import Garbage, OtherBlocks, context, play
from tests.world import SyntheticTrainer, World


@pytest.fixture
def disputed(tmp_path: Path) -> Iterator[World]:
    """A federation with a challenge window, its standby bonded."""
    with World(tmp_path, **TERMS) as world:
        world.stand_by()
        yield world


def test_a_proposal_from_before_a_reorganisation(tmp_path: Path) -> None:
    """Others made an honest lead vouch for reveals that are gone: it reverts, the bond stays."""
    with running_anvil() as url, World(tmp_path, rpc_url=url) as world:
        round_id = world.open_round()
        for name in ("ann", "bob"):
            world.participants[name].commit(round_id)
        before = world.client().now().head
        world.participants["cem"].commit(round_id)
        world.ask("reveal", round_id)
        world.aggregator.propose(round_id)
        lost = world.proposal(round_id)
        ask(world.w3, "anvil_reorg", world.client().now().head - before, [])
        # The same person, on the other branch, has committed to something else.
        store = ContentStore(world.daemon.url)
        world.participants["cem"] = Participant(
            world.client(world.wallets["cem"]),
            store,
            SyntheticTrainer("other", 30),
            world.folder / "other",
        )
        world.participants["cem"].commit(round_id)
        world.ask("reveal", round_id)
        lead = world.client(world.aggregator_wallet)
        with pytest.raises(Reverted) as refused:
            lead.propose(round_id, lost.root, lost.manifest, lost.verdicts)
        assert refused.value.name == "RevealMismatch"
        assert lead.aggregator_state(lead.sender.address) is AggregatorState.BONDED
        # Looking again, it proposes what is there now.
        assert world.settle(round_id) is Status.FINALIZED
        assert world.client().current_model().root != lost.root
        assert all(line.passed for line in world.audit())


def test_garbage_in_the_manifest_under_a_right_root(tmp_path: Path) -> None:
    """Participants train on, a standby takes over, a newcomer and the audit follow."""
    with World(tmp_path) as world:
        play(world, Garbage)
        shutil.rmtree(world.folder / "aggregator" / world.address / "models")
        play(world, OtherBlocks)
        # The standby has seen nothing of the rounds before, and takes over.
        standby = world.stand_by()
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        world.travel(1800)
        assert world.client().status(round_id) is Status.EXPIRED
        assert standby.play(round_id, world.ask) is Status.FINALIZED
        root = world.client().current_model().root
        folder = obtain_model(context(world, "newcomer"))
        assert folder.root(world.spec) == root
        lines = world.audit()
        assert [line.line() for line in lines if not line.passed] == []
        hints = [line for line in lines if "does not lead to it" in line.claim]
        assert [line.round_id for line in hints] == [1, 2]
        assert "malformed" in hints[0].detail


def test_a_friends_withheld_update_hides_a_wrong_leaf(disputed: World) -> None:
    """Nobody can average without the update; a leaf that moved too far refutes itself."""
    world = disputed
    round_id = propose(world, average_layers=moved_too_far)
    friend = world.address_of("ann")
    (reveal,) = [r for r in world.told(round_id).reveals if r.participant == friend]
    world.withhold(reveal.manifest)
    lines: list[str] = []
    left = iter(range(10))
    watch(
        world.client(world.auditor),
        ContentStore(world.daemon.url),
        world.folder / "watch",
        lines.append,
        lambda: next(left, None) is None,
        once=True,
    )
    assert any("leaf 8 moved further than any update could move it" in line for line in lines)
    assert_slashed(world)
    finish(world, round_id, ("bob", "cem"))
