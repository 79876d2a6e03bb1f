"""Who drops out of a masked round, at every phase: what it costs, and that nothing else breaks."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from chain.phases import void_round
from contracts.enums import AggregatorState, Status, SubmissionState
from node.participant import Participant
from protocol.bundle import Bundle
from protocol.checks import Check
from protocol.types import RoundId
from storage.files import write_json
from storage.layers import build_manifest
from tests.masked.world import FIVE, FOUR, WINDOW, MaskedWorld
from tests.world import TOKEN, World

pytestmark = pytest.mark.long

ONE, TWO = RoundId(1), RoundId(2)
PRICE = 20 * TOKEN + 1
PENALTY = 10 * TOKEN
CAP = 25


def price(name: str, part: int = 1) -> int:
    """What a participant's update is worth, or a part of it."""
    weight = min(10 * (1 + FIVE.index(name)), CAP)
    return PRICE * weight // (part * CAP)


def clear_root(folder: Path, *absent: str, names: tuple[str, ...] = FIVE) -> bytes:
    """Return the root of the clear model of everybody but the `absent`."""
    with World(folder, names=names) as world:
        round_id = world.open_round()
        world.ask("commit", round_id)
        for name, participant in world.participants.items():
            if name not in absent:
                participant.reveal(round_id)
        if absent:
            world.travel(2 * WINDOW)
        assert world.settle(round_id) is Status.FINALIZED
        finalized = world.told(round_id).finalized
        assert finalized is not None
        return finalized.root


def passes(world: World) -> None:
    checks = world.audit()
    assert all(check.passed for check in checks), [c.line() for c in checks if not c.passed]


def test_who_never_commits_is_not_waited_for(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path) as world:
        round_id = world.open_round()
        world.act("commit", round_id, "dan")
        world.travel(WINDOW)
        world.act("reveal", round_id, "dan")
        world.aggregator.seal(round_id)
        world.aggregator.open_sum(round_id)
        world.unmask(round_id)
        assert world.settle(round_id) is Status.FINALIZED
        assert world.paid(round_id) == {name: price(name) for name in FOUR[:3]}
        passes(world)


def test_too_few_commitments_end_the_round_and_cost_nobody(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path) as world:
        round_id = world.open_round()
        world.act("commit", round_id, "cem", "dan")
        world.travel(WINDOW)
        world.act("reveal", round_id)
        assert world.settle(round_id) is Status.ABANDONED
        told = world.told(round_id)
        assert told.revealed == []
        assert told.penalized == []
        assert world.aggregator.bond_state() is AggregatorState.BONDED
        # And the next one works.
        assert world.play() is Status.FINALIZED
        passes(world)


def test_who_commits_and_reveals_nothing_pays_and_hides_nobody_less(tmp_path: Path) -> None:
    expected = clear_root(tmp_path / "clear", "eve")
    with MaskedWorld(tmp_path / "masked", names=FIVE) as world:
        round_id = world.seal("eve")
        world.unmask(round_id)
        assert world.settle(round_id) is Status.FINALIZED
        told = world.told(round_id)
        assert told.finalized is not None
        assert told.finalized.root == expected
        assert [each.participant for each in told.penalized] == [world.address_of("eve")]
        assert world.paid(round_id) == {name: price(name) for name in FOUR}
        passes(world)


def test_a_late_reveal_opens_nothing(tmp_path: Path) -> None:
    """Its own seed stays unknown, so that what lies on IPFS says nothing."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        round_id = world.seal("eve")
        world.act("unmask", round_id)
        world.settle(round_id)
        told = world.told(round_id)
        assert world.address_of("eve") not in told.masking.unmasked
        assert all(len(event.seeds) == 1 for event in told.masking.unmasked.values())


def test_a_broken_bundle_is_left_out_at_the_seal(tmp_path: Path) -> None:
    expected = clear_root(tmp_path / "clear", "eve")
    with MaskedWorld(tmp_path / "masked", names=FIVE) as world:
        round_id = world.open_round()
        world.ask("commit", round_id)
        eve = world.participants["eve"]
        masks = eve._masks(round_id)
        world.finalize_blocks()
        made = masks.mask(eve.context(round_id), eve._update_folder(round_id), 50)
        # Made of somebody else's bundle: well-formed, and for other peers.
        other = world.participants["ann"]
        other.reveal(round_id)
        bundle = other._masks(round_id).files.bundle_path.read_bytes()
        masks.files.bundle_path.write_bytes(bundle)
        assert made.root
        rewrite(eve, round_id)
        world.act("reveal", round_id)
        world.aggregator.seal(round_id)
        world.aggregator.open_sum(round_id)
        world.unmask(round_id)
        assert world.settle(round_id) is Status.FINALIZED
        told = world.told(round_id)
        assert told.finalized is not None
        assert told.finalized.root == expected
        assert world.reasons(round_id)["eve"] == (0, 0, Check.BUNDLE)
        passes(world)


def rewrite(participant: Participant, round_id: RoundId) -> None:
    """Write masked.json anew, as of the files that are there now."""
    masks = participant._masks(round_id)
    made = masks.masked()
    assert made is not None
    subject = participant._subject(round_id, "masked")
    root = masks.files.root(participant.spec)
    manifest = build_manifest(masks.files, participant.spec, subject, root)
    bundle = Bundle.parse(masks.files.bundle_path.read_bytes())
    changed = replace(
        made,
        root=root.hex(),
        manifest=manifest.digest().hex(),
        secrets=bundle.secrets_digest().hex(),
    )
    write_json(masks.folder / "masked.json", asdict(changed))


def test_a_silent_member_is_recovered_and_its_update_counts(tmp_path: Path) -> None:
    expected = clear_root(tmp_path / "clear")
    with MaskedWorld(tmp_path / "masked", names=FIVE) as world:
        round_id = world.seal()
        world.unmask(round_id, "eve")
        assert world.status(round_id) is Status.PROPOSE
        assert world.settle(round_id) is Status.FINALIZED
        told = world.told(round_id)
        assert told.finalized is not None
        assert told.finalized.root == expected
        assert world.reasons(round_id)["eve"] == (CAP, 0, Check.SILENT)
        assert world.paid(round_id) == {name: price(name) for name in FOUR}
        state = world.client().get_submission(round_id, world.address_of("eve")).state
        assert state is SubmissionState.RECOVERED
        assert [each.participant for each in told.penalized] == [world.address_of("eve")]
        passes(world)


def test_two_silent_of_five_void_the_round(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        round_id = world.seal()
        world.unmask(round_id, "dan", "eve")
        assert world.status(round_id) is Status.ASSIST
        world.travel(WINDOW)
        assert world.status(round_id) is Status.VOID
        assert world.settle(round_id) is Status.ABANDONED
        told = world.told(round_id)
        assert told.masking.voided is not None
        assert world.paid(round_id) == {name: price(name, 2) for name in FIVE[:3]}
        silent = {world.address_of(name) for name in ("dan", "eve")}
        assert {each.participant for each in told.penalized} == silent
        assert world.aggregator.bond_state() is AggregatorState.BONDED
        passes(world)
        # The others go on without them.
        again = world.open_round()
        world.act("commit", again, "dan", "eve")
        world.travel(WINDOW)
        world.act("reveal", again, "dan", "eve")
        world.aggregator.seal(again)
        world.aggregator.open_sum(again)
        world.unmask(again)
        assert world.settle(again) is Status.FINALIZED
        passes(world)


def test_who_voided_a_round_pays_whoever_ended_it(tmp_path: Path) -> None:
    """A member may be faster than the aggregator, and a stranger leaves nobody unpunished."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        round_id = world.seal()
        world.unmask(round_id, "dan", "eve")
        world.travel(WINDOW)
        void_round(world.client(world.auditor), round_id)
        assert world.settle(round_id) is Status.ABANDONED
        silent = {world.address_of(name) for name in ("dan", "eve")}
        assert {each.participant for each in world.told(round_id).penalized} == silent
        passes(world)


def test_late_but_by_itself_is_not_silent(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        round_id = world.seal()
        world.act("unmask", round_id, "eve")
        world.travel(WINDOW)
        world.act("unmask", round_id)
        assert world.settle(round_id) is Status.FINALIZED
        assert world.paid(round_id) == {name: price(name) for name in FIVE}
        assert world.told(round_id).penalized == []


@pytest.mark.parametrize("sealed", [True, False])
def test_a_standby_takes_the_round_over(tmp_path: Path, sealed: bool) -> None:
    """Before the seal it seals; after it, it can only propose what was sealed."""
    expected = clear_root(tmp_path / "clear", names=FOUR)
    with MaskedWorld(tmp_path / "masked") as world:
        standby = world.stand_by()
        if sealed:
            round_id = world.seal()
            world.unmask(round_id)
        else:
            round_id = world.reveal_all()
        world.travel_to(world.client().get_round(round_id).next_deadline)
        assert world.status(round_id) is Status.EXPIRED
        world.client(world.auditor).replace_aggregator()
        assert standby.is_active()
        if not sealed:
            standby.seal(round_id)
            standby.open_sum(round_id)
            world.unmask(round_id)
        standby.propose(round_id)
        world.travel_to(world.client().get_round(round_id).challenge_deadline)
        assert standby.play(round_id, lambda action, number: None) is Status.FINALIZED
        finalized = world.told(round_id).finalized
        assert finalized is not None
        assert finalized.root == expected
        passes(world)


def test_a_set_that_would_be_too_small_ends_the_round_and_takes_no_bond(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path) as world:
        round_id = world.reveal_all()
        for name in ("ann", "bob"):
            reveal = next(
                each
                for each in world.told(round_id).reveals
                if each.participant == world.address_of(name)
            )
            world.withhold(reveal.manifest)
        world.aggregator.update_seconds = 1.0
        assert world.settle(round_id) is Status.ABANDONED
        told = world.told(round_id)
        assert told.masking.sealed is not None
        reasons = sorted(verdict.reason for verdict in told.masking.sealed.verdicts)
        assert reasons == [Check.REACHABLE, Check.REACHABLE, Check.TOO_FEW, Check.TOO_FEW]
        assert told.penalized == []
        assert told.masking.unmasked == {}
        assert world.aggregator.bond_state() is AggregatorState.BONDED
