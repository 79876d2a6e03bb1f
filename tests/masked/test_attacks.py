"""What a member of the set can try, and what comes of it: refused, bounded, named or voided."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from auditor.disputes import judge
from auditor.replay import Audit
from contracts.enums import AggregatorState, Status
from contracts.reverts import Reverted
from protocol.bundle import Bundle, commit
from protocol.checks import Check
from protocol.masking import MASKED_VALUE
from protocol.pair_keys import public_key
from protocol.sketches import pack_sketch, parse_sketch
from protocol.spec import Spec
from protocol.types import BasisPoints, Digest, RoundId
from protocol.verdict import FULL_SCORE
from rounds.average import average_layers as average
from rounds.context import RoundContext
from rounds.screen import Screened, rejected
from rounds.sketched import SumJudgement, judge_sum
from storage.layers import LayerFolder
from tests.masked.test_dropouts import CAP, passes, price, rewrite
from tests.masked.world import FIVE, FOUR, WINDOW, MaskedWorld
from tests.world import SyntheticTrainer

pytestmark = pytest.mark.long

ONE, TWO = RoundId(1), RoundId(2)


class Bent(SyntheticTrainer):
    """Trains as others do, and bends every layer of the update."""

    def __init__(self, bend: Callable[[NDArray[np.int8]], NDArray[Any]]) -> None:
        super().__init__("eve", 50)
        self.bend = bend

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> NDArray[np.int8]:
        return self.bend(super().steps(shape, round_id, layer)).astype(np.int8)


def alter_masked(
    world: MaskedWorld, name: str, change: Callable[[NDArray[np.uint32]], None]
) -> None:
    """Change the masked values of somebody's first layer before they are revealed."""
    participant = world.participants[name]
    masks = participant._masks(ONE)
    prepared = participant._load(ONE)
    assert prepared is not None
    masks.mask(participant.context(ONE), participant._update_folder(ONE), prepared.examples)
    path = masks.files.layer_path(0)
    values = np.fromfile(path, MASKED_VALUE).astype(np.uint32)
    change(values)
    values.astype(MASKED_VALUE).tofile(path)
    rewrite(participant, ONE)


def play_altered(world: MaskedWorld, change: Callable[[NDArray[np.uint32]], None]) -> Status:
    """Play a round in which eve's masked values are not what she says."""
    world.open_round()
    world.ask("commit", ONE)
    world.finalize_blocks()
    alter_masked(world, "eve", change)
    world.act("reveal", ONE)
    world.aggregator.seal(ONE)
    world.aggregator.open_sum(ONE)
    world.unmask(ONE)
    world.aggregator.propose(ONE)
    world.act("object", ONE)
    return world.settle(ONE)


# What is added to the masked values of a layer of 2,048: its sketch does not say so.
ALTERED: dict[str, Callable[[NDArray[np.uint32]], None]] = {}


def altered(change: Callable[[NDArray[np.uint32]], None]) -> Callable[[NDArray[np.uint32]], None]:
    ALTERED[change.__name__] = change
    return change


@altered
def boost(values: NDArray[np.uint32]) -> None:
    values += np.uint32(50 * 127 * CAP)


@altered
def garbage(values: NDArray[np.uint32]) -> None:
    values[:] = np.random.default_rng(0).integers(0, 2**32, values.size, np.uint32)


@altered
def wrap_around(values: NDArray[np.uint32]) -> None:
    values[:2] += np.uint32(1 << 31)


@altered
def one_coordinate(values: NDArray[np.uint32]) -> None:
    values[7] += np.uint32(10**6)


@altered
def one_step(values: NDArray[np.uint32]) -> None:
    values[7] += np.uint32(1)


@pytest.mark.parametrize("name", ALTERED)
def test_what_the_sketches_do_not_say_is_objected_to(tmp_path: Path, name: str) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        before = world.client().current_model()
        assert play_altered(world, ALTERED[name]) is Status.ABANDONED
        told = world.told(ONE)
        assert told.masking.voided is not None
        # Eve's own software objects as well: what the sum says is the same for everybody.
        assert len(told.masking.objected) >= 4
        assert world.client().current_model() == before
        assert world.paid(ONE) == {name: price(name, 2) for name in FIVE}
        assert world.aggregator.bond_state() is AggregatorState.BONDED
        passes(world)


def test_few_objections_leave_the_sum_held_at_its_bounds(tmp_path: Path) -> None:
    """Who does not look lets it pass: no value of the model moves further than it may."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        world.open_round()
        world.ask("commit", ONE)
        world.finalize_blocks()
        alter_masked(world, "eve", garbage)
        world.act("reveal", ONE)
        world.aggregator.seal(ONE)
        world.aggregator.open_sum(ONE)
        world.unmask(ONE)
        world.aggregator.propose(ONE)
        world.participants["ann"].object(ONE)
        world.travel_to(world.client().get_round(ONE).challenge_deadline)
        assert world.settle(ONE) is Status.FINALIZED
        told = world.told(ONE)
        assert len(told.masking.objected) == 1
        passes(world)


# ------------------------------------------------------------------------- by their sketches


@pytest.mark.parametrize(
    ("bend", "reason"),
    [
        (lambda steps: steps * 0, Check.WEAK),
        (lambda steps: np.where(steps > 0, 127, -127), Check.NORM),
    ],
    ids=["zero", "long"],
)
def test_a_sketch_says_what_is_wrong_with_its_update(
    tmp_path: Path, bend: Callable[[NDArray[np.int8]], NDArray[Any]], reason: Check
) -> None:
    # An honest update has a norm of about 3.1: 4,300 values of 12 steps of 1/256.
    with MaskedWorld(tmp_path, names=FIVE, norm=4.0) as world:
        world.participants["eve"].trainer = Bent(bend)
        round_id = world.seal()
        world.unmask(round_id)
        world.aggregator.propose(round_id)
        assert world.reasons(round_id)["eve"] == (CAP, 0, reason)
        assert world.reasons(round_id)["ann"] == (10, FULL_SCORE, 0)
        world.act("object", round_id)
        # Too long is objected to, since it moves the model; too short harms nobody.
        final = Status.ABANDONED if reason is Check.NORM else Status.FINALIZED
        assert world.settle(round_id) is final
        if final is Status.FINALIZED:
            assert world.paid(round_id) == {name: price(name) for name in FOUR}
        passes(world)


def test_a_copy_of_an_update_is_similar(tmp_path: Path) -> None:
    """One training, two seats: the second is told by its sketch, though masks hide both."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        world.participants["eve"].trainer = SyntheticTrainer("dan", 50)
        round_id = world.seal()
        world.unmask(round_id)
        assert world.settle(round_id) is Status.FINALIZED
        assert world.reasons(round_id)["eve"] == (CAP, 0, Check.SIMILAR)
        passes(world)


class Resending(SyntheticTrainer):
    """Sends what it trained in the first round again."""

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> NDArray[np.int8]:
        return super().steps(shape, 1, layer)


def test_the_last_movement_sent_again_is_similar(tmp_path: Path) -> None:
    """Where one update outweighs the others it is nearly the movement of its round."""
    with MaskedWorld(tmp_path, names=FOUR, weight_cap=10_000) as world:
        dan = world.participants["dan"]
        dan.trainer = Resending("dan", 10_000)
        assert world.play() is Status.FINALIZED
        assert world.play() is Status.FINALIZED
        assert world.reasons(TWO)["dan"] == (10_000, 0, Check.SIMILAR)
        passes(world)


# ------------------------------------------------------------------------- sketches that lie


def lying_sketch(world: MaskedWorld, name: str, lie: Callable[[list[int]], list[int]]) -> None:
    participant = world.participants[name]
    masks = participant._masks(ONE)
    true = type(masks).sketch

    @dataclass
    class Lying:
        def __getattr__(self, attribute: str) -> Any:
            return getattr(masks, attribute)

        def sketch(self, *about: Any) -> bytes:
            return pack_sketch(lie(parse_sketch(true(masks, *about))))

    participant._masks = lambda round_id: Lying()  # type: ignore[assignment, return-value]


def test_a_false_sketch_does_not_add_up(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        lying_sketch(world, "eve", lambda values: [values[0] + 1, *values[1:]])
        round_id = world.seal()
        world.unmask(round_id)
        world.aggregator.propose(round_id)
        world.act("object", round_id)
        assert world.settle(round_id) is Status.ABANDONED
        assert world.told(round_id).masking.voided is not None
        passes(world)


def test_a_false_sketch_beside_a_silent_member_is_bounded(tmp_path: Path) -> None:
    """What is left over for the silent one is too long, and that is objected to."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        lying_sketch(world, "dan", lambda values: [value + 10**7 for value in values])
        round_id = world.seal()
        world.unmask(round_id, "eve")
        world.aggregator.propose(round_id)
        world.act("object", round_id, "eve")
        assert world.settle(round_id) is Status.ABANDONED
        passes(world)


def test_a_sketch_of_another_length_is_none(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        eve = world.participants["eve"]
        put = eve.store.put_blocks
        eve.store.put_blocks = lambda blocks, **how: put(  # type: ignore[method-assign]
            [b"short" if len(block) == 1024 else block for block in blocks], **how
        )
        round_id = world.seal()
        world.unmask(round_id)
        assert world.settle(round_id) is Status.FINALIZED
        assert world.reasons(round_id)["eve"] == (CAP, 0, Check.BLAMED)
        passes(world)


# ------------------------------------------------------------------------- keys, seals, secrets


def test_a_copied_key_leads_to_other_secrets(tmp_path: Path) -> None:
    """A seat that publishes a victim's key and stays silent opens nothing of the victim."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        round_id = world.open_round()
        world.act("commit", round_id, "eve")
        ann, eve = world.participants["ann"], world.participants["eve"]
        copied = ann._masks(round_id).draw()
        commitment = Digest(bytes(31) + b"1")
        eve.federation.commit_masked(round_id, commitment, copied)
        world.act("reveal", round_id, "eve")
        world.travel_to(world.client().get_round(round_id).reveal_deadline)
        world.aggregator.seal(round_id)
        world.aggregator.open_sum(round_id)
        world.unmask(round_id)
        assert world.settle(round_id) is Status.FINALIZED
        told = world.told(round_id)
        # What bob opened about the seat that copied ann's key is none of ann's masks.
        bundle = Bundle.parse(ann._masks(round_id).files.bundle_path.read_bytes())
        opened = {seed for event in told.masking.unmasked.values() for seed in event.seeds}
        others = [peer for peer in bundle.peers if peer != eve.address]
        kept = {bundle.commitments[0], *map(bundle.commitment_of_pair, others)}
        assert not {commit(seed) for seed in opened} & kept
        passes(world)


def test_a_key_of_small_order_is_refused(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path) as world:
        round_id = world.open_round()
        ann = world.participants["ann"]
        for top in (0, 0x80):
            with pytest.raises(Reverted, match="small order"):
                ann.federation.commit_masked(
                    round_id, Digest(bytes(31) + b"1"), bytes(31) + bytes([top])
                )
        assert len(public_key(bytes(31) + b"1")) == 32


def test_nobody_seals_twice(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path) as world:
        round_id = world.seal()
        with pytest.raises(Reverted, match="Seal"):
            world.aggregator.seal(round_id)


def test_a_masked_vector_is_revealed_once(tmp_path: Path) -> None:
    """A copy of another's masked vector is a duplicate by its root, and left out."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        round_id = world.open_round()
        world.ask("commit", round_id)
        world.act("reveal", round_id, "eve")
        eve, dan = world.participants["eve"], world.participants["dan"]
        prepared = eve._load(round_id)
        assert prepared is not None
        masks, stolen = eve._masks(round_id), dan._masks(round_id)
        masks.mask(eve.context(round_id), eve._update_folder(round_id), prepared.examples)
        for path in masks.files.paths(world.spec):
            path.write_bytes((stolen.files.path / path.name).read_bytes())
        rewrite(eve, round_id)
        eve.reveal(round_id)
        world.aggregator.seal(round_id)
        world.aggregator.open_sum(round_id)
        world.unmask(round_id)
        assert world.settle(round_id) is Status.FINALIZED
        assert world.reasons(round_id)["eve"] == (0, 0, Check.DUPLICATE)
        passes(world)


# ------------------------------------------------------------------------- the aggregator lies


def failures(world: MaskedWorld) -> list[str]:
    return [check.line() for check in world.audit() if check.passed is False]


def test_who_is_left_out_for_nothing_is_told_by_an_audit(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        round_id = world.reveal_all()
        keep = world.aggregator._keeper.keep_revealed
        eve = world.address_of("eve")

        def leave_out(context: RoundContext, chosen: list[Screened]) -> None:
            for index, each in enumerate(chosen):
                if each.reveal.participant == eve:
                    chosen[index] = rejected(each.reveal, each.folder, Check.BUNDLE, "a lie")
            keep(context, chosen)

        world.aggregator._keeper.keep_revealed = leave_out  # type: ignore[assignment, method-assign]
        world.aggregator.seal(round_id)
        world.aggregator.open_sum(round_id)
        world.unmask(round_id)
        assert world.settle(round_id) is Status.FINALIZED
        told = [line for line in failures(world) if "§13" in line]
        assert len(told) == 1
        assert f"{eve} was rightly sealed outside the set" in told[0]


@pytest.mark.parametrize(
    ("trainer", "score", "reason"),
    [
        (Bent(lambda steps: steps * 0), FULL_SCORE, 0),
        (SyntheticTrainer("eve", 50), BasisPoints(0), Check.SIMILAR),
    ],
    ids=["friend", "foe"],
)
def test_an_unfair_score_is_told_by_an_audit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trainer: SyntheticTrainer,
    score: BasisPoints,
    reason: int,
) -> None:
    """Paid although its sketch is that of nothing, or not paid although nothing is wrong."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        world.participants["eve"].trainer = trainer
        eve = world.address_of("eve")

        def lie(*about: Any) -> SumJudgement:
            judged = judge_sum(*about)
            for index, each in enumerate(judged.decisions):
                if each.reveal.participant == eve:
                    verdict = replace(each.verdict, score=score, reason=int(reason))
                    judged.decisions[index] = replace(each, verdict=verdict)
            return judged

        round_id = world.seal()
        world.unmask(round_id)
        monkeypatch.setattr("aggregator.aggregator.judge_sum", lie)
        assert world.settle(round_id) is Status.FINALIZED
        told = failures(world)
        assert len(told) == 1, told
        assert "§6" in told[0]
        assert eve in told[0]


@pytest.mark.parametrize("silent", [(), ("eve",)], ids=["all", "one silent"])
def test_a_wrong_model_of_a_masked_sum_costs_the_bond(
    tmp_path: Path, silent: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def off_by_one(spec: Spec, before: LayerFolder, *rest: Any, **how: Any) -> Digest:
        target: LayerFolder = rest[2]
        how.pop("on_layer", None)  # or the layer would be pinned before it is bent
        average(spec, before, *rest, **how)
        path = target.layer_path(1)
        values = np.fromfile(path, ">i4")
        values[300] += 1
        values.tofile(path)
        return target.root(spec)

    with MaskedWorld(tmp_path, names=FIVE, challenge_seconds=WINDOW) as world:
        round_id = world.seal()
        world.unmask(round_id, *silent)
        monkeypatch.setattr("aggregator.aggregator.average_layers", off_by_one)
        world.aggregator.propose(round_id)
        client = world.client(world.auditor)
        audit = Audit(client, world.store, tmp_path / "audit")
        lines = [line for line, _ in judge(audit, audit.context(round_id))]
        assert "was refuted" in lines[-1], lines
        assert world.aggregator.bond_state() is AggregatorState.SLASHED
