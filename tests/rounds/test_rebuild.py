"""A manifest of garbage under a right root stops nobody: whoever needs the model makes it.

tests/attacks/test_proposals.py plays rounds of all roles after one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator import aggregator as module
from contracts.enums import Status
from protocol.canonical import sha256
from protocol.errors import Rejected, Unavailable
from protocol.manifest import Manifest
from protocol.types import Digest, RoundId
from rounds.average import average_layers
from rounds.context import RoundContext
from rounds.rebuild import obtain_model
from storage.layers import Pinning
from tests.world import World

GARBAGE = b"not a manifest"


class Garbage(Pinning):
    """Pins no file, and bytes that are no manifest in the manifest's place."""

    def begin(self, index: int) -> None:
        pass

    def finish(self, manifest: Manifest) -> Digest:
        return self._store.put_block(GARBAGE)


class OtherBlocks(Pinning):
    """Pins nothing but a manifest whose blocks nobody has."""

    def begin(self, index: int) -> None:
        pass

    def finish(self, manifest: Manifest) -> Digest:
        missing = sha256(b"nobody has this").hex()
        first, *others = manifest.layers
        bent = first.model_copy(update={"blocks": (missing,) * len(first.blocks)})
        lying = manifest.model_copy(update={"layers": (bent, *others)})
        return self._store.put_block(lying.to_bytes())


class NothingThere(Pinning):
    """Pins nothing at all."""

    def begin(self, index: int) -> None:
        pass

    def finish(self, manifest: Manifest) -> Digest:
        return manifest.digest()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def play(world: World, pinning: type[Pinning]) -> RoundId:
    """Play a round whose aggregator proposes a right root with a useless manifest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Pinning", pinning)
        assert world.play() is Status.FINALIZED
    return world.client().round_count()


def context(world: World, name: str) -> RoundContext:
    """The next round, for somebody who has nothing on disk yet."""
    now = world.client().now()
    round_id = RoundId(now.round_count() + 1)
    return RoundContext.at(now, world.store, world.spec, world.folder / name, round_id)


@pytest.mark.parametrize("pinning", [Garbage, OtherBlocks, NothingThere])
def test_the_model_is_that_of_the_chain(world: World, pinning: type[Pinning]) -> None:
    play(world, pinning)
    folder = obtain_model(context(world, "newcomer"))
    assert folder.root(world.spec) == world.client().current_model().root


def test_without_an_update_it_says_what_is_missing(world: World) -> None:
    round_id = play(world, Garbage)
    for reveal in world.told(round_id).reveals:
        world.withhold(reveal.manifest)
    with pytest.raises(Unavailable, match="so are 3 of the 3 updates to rebuild it from"):
        obtain_model(context(world, "newcomer"))
    # The aggregator has kept its files.
    aggregator = world.restart_aggregator()
    place = world.folder / "aggregator" / world.address
    at = RoundContext.at(
        world.client().now(), world.store, world.spec, place, RoundId(round_id + 1)
    )
    assert obtain_model(at).root(world.spec) == aggregator.federation.current_model().root


def test_a_wrong_model_that_was_finalized_is_not_taken_for_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module,
        "average_layers",
        lambda spec, before, updates, weights, *to, **more: average_layers(
            spec, before, updates[:-1], weights[:-1], *to, **more
        ),
    )
    play(world, Garbage)
    with pytest.raises(Rejected, match="the updates accepted in round 1 give the model"):
        obtain_model(context(world, "newcomer"))
    failed = [line for line in world.audit() if line.failed]
    assert [line.section for line in failed] == ["§7"]
    assert "the updates give the model" in failed[0].detail
