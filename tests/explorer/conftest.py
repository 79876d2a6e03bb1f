"""One federation behind the explorer: three settled rounds with a cheat, and one that is open.

What strangers may write is hostile: the name of a participant, and of the base model.
"""

from collections.abc import Iterator

import pytest

from contracts.enums import Status
from protocol.types import Address
from tests.disputes.lies import Still
from tests.explorer.shown import HOSTILE_MODEL, HOSTILE_NAME, Shown
from tests.world import World, small_spec


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    base = small_spec().base_model.model_copy(update={"name": HOSTILE_MODEL})
    spec = small_spec(base_model=base.model_dump())
    with World(tmp_path_factory.mktemp("explored"), spec=spec, rounds=8) as world:
        assert world.play() is Status.FINALIZED
        world.participants["bob"].trainer = Still("bob", 20)
        assert world.play() is Status.FINALIZED
        world.ask("commit", world.open_round())
        yield world


@pytest.fixture(scope="package")
def shown(world: World) -> Iterator[Shown]:
    """The pages of the world once its audit is through."""
    names: dict[Address, str] = {world.address_of("bob"): HOSTILE_NAME}
    with Shown(world, names=names, losses={0: 3.1, 1: 2.446, 2: 2.299}) as shown:
        shown.wait_for_audit(rounds=3)
        yield shown
