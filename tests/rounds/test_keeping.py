"""What stays in whose store, and for how long: a block goes when nothing that is kept names it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from contracts.enums import Status
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.errors import Unavailable
from protocol.manifest import Manifest
from protocol.types import Digest, RoundId
from storage.bucket import BucketStore
from tests.rounds.test_round import Weak, play_with_manifest
from tests.rounds.test_score import Backwards
from tests.rounds.test_stores import Scattered
from tests.scored import scored_world
from tests.world import SyntheticTrainer, World, as_dict

pytestmark = pytest.mark.long


class Partly(SyntheticTrainer):
    """Leaves the last layer as it is, so that one block is the same in every round."""

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> NDArray[np.int8]:
        drawn = super().steps(shape, round_id, layer)
        return np.zeros_like(drawn) if layer == 2 else drawn


class Kept:
    """What is in the bucket of one role."""

    def __init__(self, scattered: Scattered, name: str) -> None:
        self.folder = scattered.folder(name) / "a" / "ipfs"
        self._store = BucketStore(str(self.folder.parent))

    def has(self, digest: Digest) -> bool:
        return (self.folder / raw_cid(digest)).exists()

    def blocks(self, manifest: Digest) -> set[Digest]:
        """Return the blocks of an update, its manifest among them, which must be there."""
        listed = Manifest.parse(self._store.get_block(manifest)).layers
        return {manifest, *(digest for entry in listed for digest in entry.digests)}

    def is_whole(self, manifest: Digest) -> bool:
        return self.has(manifest) and all(map(self.has, self.blocks(manifest)))


def manifest_of(world: World, name: str, round_id: int) -> Digest:
    revealed = world.told(RoundId(round_id)).reveals
    return next(each.manifest for each in revealed if each.participant == world.address_of(name))


@pytest.fixture
def scattered(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Scattered]:
    with World(tmp_path, rounds=getattr(request, "param", 3)) as world, ExitStack() as stack:
        yield Scattered(world, stack)


# ---------------------------------------------------------------- participants


@pytest.mark.parametrize("scattered", [4], indirect=True)
def test_a_participant_removes_what_no_round_needs(scattered: Scattered) -> None:
    world, own = scattered.world, Kept(scattered, "ann")
    ann = world.participants["ann"]
    ann.trainer, ann.owns_store = Partly("ann", 10), True
    blocks = []
    for number in (1, 2, 3):
        assert world.play() is Status.FINALIZED
        blocks.append(own.blocks(manifest_of(world, "ann", number)))
    assert all(own.has(digest) for digest in set.union(*blocks))
    assert world.play() is Status.FINALIZED
    (shared,) = blocks[0] & own.blocks(manifest_of(world, "ann", 4))
    assert own.has(shared)
    assert not any(own.has(digest) for digest in blocks[0] - {shared})
    assert all(own.is_whole(manifest_of(world, "ann", number)) for number in (2, 3, 4))
    # Whose store may be others' too removes nothing.
    assert all(Kept(scattered, "bob").is_whole(manifest_of(world, "bob", n)) for n in (1, 2, 3, 4))
    assert world.rejections() == {}
    assert [check.line() for check in scattered.audit() if check.passed is not True] == []


@pytest.mark.parametrize("scattered", [5], indirect=True)
def test_what_could_not_be_removed_goes_with_the_next_round(
    scattered: Scattered, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, own = scattered.world, Kept(scattered, "ann")
    ann = world.participants["ann"]
    said: list[dict[str, Any]] = []
    ann.owns_store, ann.report = True, lambda event: said.append(as_dict(event))
    for _ in range(3):
        assert world.play() is Status.FINALIZED
    old, remove = manifest_of(world, "ann", 1), ann.store.remove_blocks

    def down(*arguments: Any, **more: Any) -> None:
        monkeypatch.setattr(ann.store, "remove_blocks", remove)
        raise Unavailable("the bucket is down", service="storage")

    monkeypatch.setattr(ann.store, "remove_blocks", down)
    assert world.play() is Status.FINALIZED
    told = [each for each in said if each["phase"] == "not removed"]
    assert [each["reason"] for each in told] == ["the bucket is down"]
    assert own.is_whole(old)
    assert world.play() is Status.FINALIZED
    assert not own.has(old)
    assert not own.has(manifest_of(world, "ann", 2))


# ------------------------------------------------------------------ aggregator


def test_the_lead_shows_what_it_rejects_until_the_round_is_settled(scattered: Scattered) -> None:
    world, own = scattered.world, Kept(scattered, "aggregator")
    world.participants["ann"].trainer = Weak()
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    world.aggregator.propose(round_id)
    assert all(own.is_whole(manifest_of(world, name, 1)) for name in world.names)
    assert world.settle(round_id) is Status.FINALIZED
    assert set(world.rejections()) == {"ann"}
    assert not own.has(manifest_of(world, "ann", 1))
    assert all(own.is_whole(manifest_of(world, name, 1)) for name in ("bob", "cem"))


@pytest.mark.parametrize("wrong", ["root", "round"])
def test_what_is_wrong_with_an_update_can_be_seen(scattered: Scattered, wrong: str) -> None:
    """The manifest, and where that is sound the files that do not hash to the root."""
    world, own = scattered.world, Kept(scattered, "aggregator")
    round_id = world.open_round()
    seen: list[bool] = []
    settle = world.aggregator.settle

    def settled(number: RoundId) -> None:
        manifest = manifest_of(world, "bob", 1)
        seen.append(own.is_whole(manifest) if wrong == "root" else own.has(manifest))
        settle(number)
        seen.append(own.has(manifest))

    world.aggregator.settle = settled  # type: ignore[method-assign, assignment]
    another = {"root": "ab" * 32} if wrong == "root" else {"round": 7}
    lies = {"root": "ab" * 32} if wrong == "root" else {}
    play_with_manifest(
        world, "bob", lambda manifest, layers: manifest.update(another), round_id, **lies
    )
    assert set(world.rejections()) == {"bob"}
    assert seen == [True, False]


def test_where_not_all_is_kept_updates_go_when_they_are_compared_no_more(
    scattered: Scattered,
) -> None:
    world, own = scattered.world, Kept(scattered, "aggregator")
    world.aggregator.keeps_all, world.aggregator.owns_store = False, True
    world.participants["ann"].trainer = Partly("ann", 10)
    assert world.play() is Status.FINALIZED
    old = {name: own.blocks(manifest_of(world, name, 1)) for name in world.names}
    assert world.play() is Status.FINALIZED
    assert all(own.has(digest) for blocks in old.values() for digest in blocks)
    assert world.play() is Status.FINALIZED
    (shared,) = old["ann"] & own.blocks(manifest_of(world, "ann", 3))
    gone = set.union(*old.values()) - {shared}
    assert own.has(shared)
    assert not any(own.has(digest) for digest in gone)
    for number in (2, 3):
        assert all(own.is_whole(manifest_of(world, name, number)) for name in world.names)
    finalized = world.told(RoundId(1)).finalized
    assert finalized is not None
    assert own.is_whole(finalized.manifest)  # every model stays


def test_a_scored_model_that_the_store_lost_comes_back_with_its_losses(tmp_path: Path) -> None:
    with scored_world(tmp_path, "ann", "bob", "cem", challenge_seconds=600) as world:
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        world.aggregator.propose(round_id)
        proposed = world.proposal(round_id).manifest
        world.aggregator.respond(round_id)  # nothing is missing yet
        world.withhold(proposed)
        assert not world.store.has(proposed)
        world.restart_aggregator().respond(round_id)
        assert world.store.has(proposed)
        assert Manifest.parse(world.store.get_block(proposed)).losses is not None


def test_what_did_harm_is_kept_since_losses_follow_from_it(tmp_path: Path) -> None:
    with scored_world(tmp_path, "ann", "bob", "cem") as world, ExitStack() as stack:
        scattered = Scattered(world, stack)
        own = Kept(scattered, "aggregator")
        world.participants["cem"].trainer = Backwards("cem", pace=1.5)
        assert world.play() is Status.FINALIZED
        assert world.rejections()["cem"][0] == Check.HARM
        assert own.is_whole(manifest_of(world, "cem", 1))
