"""Who made a sum garbage is named by what its set publishes, and left out from then on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.enums import Status
from node import accounts
from node.masks import Trust
from node.results import round_result
from protocol.checks import Check
from protocol.sketches import SKETCH_SIZE
from protocol.streams import StreamAccount
from protocol.types import RoundId
from rounds.blame import Reasons, blame
from tests.masked.test_attacks import ALTERED, Bent, alter_masked, lying_sketch
from tests.masked.test_dropouts import passes
from tests.masked.world import FIVE, FOUR, MaskedWorld

pytestmark = pytest.mark.long

ONE, TWO, THREE = RoundId(1), RoundId(2), RoundId(3)
MOST = 10**9


def refuse(world: MaskedWorld, *silent: str) -> None:
    """End the first round, in which somebody has lied, by objections of the others."""
    world.aggregator.seal(ONE)
    world.aggregator.open_sum(ONE)
    world.unmask(ONE, *silent)
    world.aggregator.propose(ONE)
    world.act("object", ONE, *silent)
    assert world.settle(ONE) is Status.ABANDONED
    assert world.told(ONE).is_refused


def refuse_altered(world: MaskedWorld, change: Callable[[NDArray[np.uint32]], None]) -> None:
    """Play a first round in which eve's masked values are not what her sketch says."""
    world.open_round()
    world.ask("commit", ONE)
    world.finalize_blocks()
    alter_masked(world, "eve", change)
    world.act("reveal", ONE)
    refuse(world)


def play_second(world: MaskedWorld) -> dict[str, tuple[int, int, int]]:
    """Play the second round to its end, and return what its verdicts say."""
    round_id = world.open_round()
    assert round_id == TWO
    world.act("commit", TWO)
    world.travel_to(world.client().get_round(TWO).commit_deadline)
    world.act("reveal", TWO)
    world.aggregator.seal(TWO)
    world.aggregator.open_sum(TWO)
    world.act("unmask", TWO)
    assert world.settle(TWO) is Status.FINALIZED
    passes(world)
    return world.reasons(TWO)


def named(world: MaskedWorld) -> Reasons:
    return blame(world.participants["ann"].context(ONE), MOST)


@pytest.mark.parametrize("name", ALTERED)
def test_who_masked_another_update_than_it_sketched_is_left_out(tmp_path: Path, name: str) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        refuse_altered(world, ALTERED[name])
        reasons = play_second(world)
        assert reasons["eve"] == (0, 0, Check.BLAMED)
        assert all(reasons[name][1:] == (10_000, 0) for name in FOUR)
        eve = world.address_of("eve")
        assert {who: check for who, (check, _) in named(world).items()} == {eve: Check.BLAMED}
        assert "not that of the update that it masked" in named(world)[eve][1]


def _never(*about: object) -> Reasons:
    raise AssertionError("worked out again")


def test_it_stays_out(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        refuse_altered(world, ALTERED["garbage"])
        play_second(world)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rounds.blame.blame", _never)  # it is known by now
            round_id = world.seal()
        assert round_id == THREE
        world.act("unmask", THREE)
        assert world.settle(THREE) is Status.FINALIZED
        assert world.reasons(THREE)["eve"] == (0, 0, Check.BLAMED)
        passes(world)


def test_a_sketch_that_is_too_long_names_its_owner(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE, norm=4.0) as world:
        world.participants["eve"].trainer = Bent(lambda steps: np.where(steps > 0, 127, -127))
        world.reveal_all()
        refuse(world)
        reasons = play_second(world)
        assert reasons["eve"] == (0, 0, Check.BLAMED)
        assert "longer than an update may be" in named(world)[world.address_of("eve")][1]


def test_a_false_sketch_of_a_true_update_names_its_owner(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        lying_sketch(world, "eve", lambda values: [values[0] + 1, *values[1:]])
        world.reveal_all()
        refuse(world)
        del world.participants["eve"]._masks
        assert play_second(world)["eve"] == (0, 0, Check.BLAMED)


def test_who_does_not_account_is_left_out_until_it_does(tmp_path: Path) -> None:
    """Eve did nothing wrong, and her software is an old one."""
    with MaskedWorld(tmp_path, names=(*FIVE, "fay")) as world:
        lying_sketch(world, "dan", lambda values: [values[0] + 1, *values[1:]])
        world.reveal_all()
        refuse(world)
        del world.participants["dan"]._masks
        eve = world.participants["eve"]
        account = eve._account_for_masks
        eve._account_for_masks = lambda: None  # type: ignore[method-assign]
        reasons = play_second(world)
        assert (reasons["dan"], reasons["eve"]) == ((0, 0, Check.BLAMED),) * 2
        assert "has not accounted" in named(world)[eve.address][1]
        told, terms = world.told(ONE), world.client().terms()
        assert round_result(told, eve.address, terms).reason == (
            "the round's sum was refused: its secrets were posted, and half the price is paid,"
            " and it has still to account for its masks"
        )
        assert "account" not in round_result(told, world.address_of("ann"), terms).reason
        # She is back after some rounds, and has what it takes.
        world.finalize_blocks()
        eve.forget_secrets(world.client().now())
        eve._account_for_masks = account  # type: ignore[method-assign]
        account()
        assert eve.address not in named(world)


@contextmanager
def false_account(name: str, of: str, world: MaskedWorld, more: int = 0) -> Iterator[None]:
    """Have somebody account for a mask that it has in common with another as it likes.

    So that its own equation holds although its values are altered: the mask takes the blame. With
    `more` in each number it is false whatever the values are.
    """
    liar, victim = world.address_of(name), world.address_of(of)
    make = accounts.make_account

    def bent(context: Any, masks: Any, trust: Trust) -> tuple[bytes, bool]:
        raw, is_whole = make(context, masks, trust)
        if masks.address != liar:
            return raw, is_whole
        peers = [each for each in context.told.masking.members if each != liar]
        account = StreamAccount.parse(raw, peers)
        fitting = _fitting(context, masks, account, victim)
        numbers = tuple((number + more) % 2**32 for number in fitting)
        seeds = {peer: seed for peer, seed in account.seeds.items() if peer != victim}
        return StreamAccount({**account.sketches, victim: numbers}, seeds).to_bytes(), is_whole

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("node.participant.make_account", bent)
        yield


def _fitting(context: Any, masks: Any, account: StreamAccount, victim: Any) -> tuple[int, ...]:
    """What has to be said of one mask, for the sketch to be that of the altered values."""
    from rounds.blame import _accounted_masks, _Case
    from rounds.rebuild import FETCHER
    from rounds.sketched import posted_sketches, sketch_folder

    seed = context.told.masking.sketch_seed
    (reveal,) = (each for each in context.told.summed if each.participant == masks.address)
    values = posted_sketches(context, FETCHER)[0][masks.address]
    folder = FETCHER.fetch_update(context, reveal)
    of_masked = sketch_folder(context, folder, seed)
    case = _Case(context, MOST, FETCHER)
    others = replace(account, sketches={**account.sketches, victim: (0,) * SKETCH_SIZE})
    known = [*case._opened_masks(masks.address, seed), *_accounted_masks(masks.address, others)]
    sign = 1 if int(masks.address, 16) < int(victim, 16) else -1
    return tuple(
        sign * (of_masked[k] - values[k] - sum(mask.sign * n[k] for mask, n in known)) % 2**32
        for k in range(SKETCH_SIZE)
    )


@pytest.mark.parametrize(("least", "opened"), [(3, 2), (4, 1), (5, 0)])
def test_nobody_opens_all_that_hides_it(tmp_path: Path, least: int, opened: int) -> None:
    """Whoever says what of ann's masks, and whatever node tells her so: `min_set` hide her."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        refuse_altered(world, ALTERED["garbage"])
        ann = world.participants["ann"]
        ann.trust = Trust(min_set=least)
        for name in ("bob", "cem", "dan", "eve"):
            with false_account(name, "ann", world, more=1):
                world.participants[name]._account_for_masks()
        ann._account_for_masks()
        told = world.told(ONE)
        raw = world.store.get_block(told.masking.streams[-1].streams)
        account = StreamAccount.parse(raw, [m for m in told.masking.members if m != ann.address])
        assert len(account.seeds) == opened


def test_who_blames_a_mask_last_is_left_out_if_nobody_opens_it(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        refuse_altered(world, ALTERED["garbage"])
        with false_account("eve", "ann", world):
            for name in (*FOUR, "eve"):
                world.participants[name]._account_for_masks()
        told = world.told(ONE)
        assert told.masking.streams[-1].participant == world.address_of("eve")
        eve = world.address_of("eve")
        assert list(named(world)) == [eve]
        assert "does not open their seed" in named(world)[eve][1]
        # Ann need not, and does: then it is known for good.
        world.participants["ann"]._account_for_masks()
        assert "not what the mask's seed says" in named(world)[eve][1]


def test_of_who_was_silent_nothing_is_said(tmp_path: Path) -> None:
    """Its sketch was never posted; the others' accounts fit what they posted."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        lying_sketch(world, "dan", lambda values: [value + 10**7 for value in values])
        world.reveal_all()
        refuse(world, "eve")
        for name in FOUR:
            world.participants[name]._account_for_masks()
        assert list(named(world)) == [world.address_of("dan")]


def test_bytes_that_are_no_account_are_none(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        lying_sketch(world, "dan", lambda values: [values[0] + 1, *values[1:]])
        world.reveal_all()
        refuse(world)
        eve = world.participants["eve"]
        for name in FOUR:
            world.participants[name]._account_for_masks()
        for raw, check in ((b"short", Check.BLAMED), (b"gone", Check.REACHABLE)):
            (digest,) = eve.store.put_blocks([raw])
            eve.federation.post_streams(ONE, digest)
            if check is Check.REACHABLE:
                world.store.remove_blocks({digest})
            assert named(world)[eve.address][0] is check


def test_secrets_stay_until_nobody_can_ask_for_them(tmp_path: Path) -> None:
    """Of a refused set, for one set more: a seed may still have to be opened."""
    with MaskedWorld(tmp_path, names=FIVE) as world:
        refuse_altered(world, ALTERED["boost"])
        ann = world.participants["ann"]
        secrets = ann._masks(ONE).folder / "secrets.json"
        world.finalize_blocks()
        ann.forget_secrets(world.client().now())
        assert secrets.exists()
        play_second(world)
        world.finalize_blocks()
        ann.forget_secrets(world.client().now())
        assert not secrets.exists()


def test_a_restart_says_the_same_again(tmp_path: Path) -> None:
    with MaskedWorld(tmp_path, names=FIVE) as world:
        refuse_altered(world, ALTERED["boost"])
        for _ in range(2):
            ann = world.participant("ann")
            ann._account_for_masks()
        assert len(world.told(ONE).masking.streams) == 1
