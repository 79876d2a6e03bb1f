"""Every role killed between any two steps of a masked round, and at any write of a file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from chain.phases import void_round
from contracts.enums import Status
from node import masks as module
from protocol.types import RoundId
from tests.masked.test_dropouts import clear_root, passes
from tests.masked.world import FOUR, MaskedWorld

pytestmark = pytest.mark.long

ONE = RoundId(1)


class Killed(BaseException):
    """As by SIGKILL: nothing that catches an error of ours sees it."""


def restart(world: MaskedWorld) -> None:
    """Start every role anew from its disk."""
    world.participants = {name: world.participant(name) for name in world.names}
    world.restart_aggregator()


def test_all_restarted_between_all_steps(tmp_path: Path) -> None:
    expected = clear_root(tmp_path / "clear", names=FOUR)
    with MaskedWorld(tmp_path / "masked") as world:
        steps: list[Callable[[], object]] = [
            world.open_round,
            lambda: world.act("commit", ONE),
            lambda: world.act("reveal", ONE),
            lambda: world.aggregator.seal(ONE),
            lambda: world.aggregator.open_sum(ONE),
            lambda: world.act("unmask", ONE),
            lambda: world.aggregator.propose(ONE),
            lambda: world.act("object", ONE),
            lambda: world.settle(ONE),
        ]
        for step in steps:
            step()
            restart(world)
        finalized = world.told(ONE).finalized
        assert finalized is not None
        assert finalized.root == expected
        assert world.told(ONE).masking.objected == []
        passes(world)


@pytest.mark.parametrize("deadly", range(4))
def test_killed_before_any_write_of_a_participant(
    tmp_path: Path, deadly: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets, masked files, bundle and what was opened: whichever write is the last one."""
    expected = clear_root(tmp_path / "clear", names=FOUR)
    with MaskedWorld(tmp_path / "masked") as world:
        count = 0
        writes = {name: getattr(module, name) for name in ("write_json", "write_atomically")}

        def dying(name: str) -> Callable[..., None]:
            def write(path: Path, *rest: object, **how: object) -> None:
                nonlocal count
                if path.is_relative_to(world.folder / "ann"):
                    count += 1
                    if count == deadly + 1:
                        raise Killed
                writes[name](path, *rest, **how)

            return write

        for name in writes:
            monkeypatch.setattr(module, name, dying(name))

        def act(action: str) -> None:
            world.finalize_blocks()
            for name in world.names:
                try:
                    getattr(world.participants[name], action)(ONE)
                except Killed:
                    world.participants[name] = world.participant(name)
                    getattr(world.participants[name], action)(ONE)

        world.open_round()
        act("commit")
        act("reveal")
        world.aggregator.seal(ONE)
        world.aggregator.open_sum(ONE)
        act("unmask")
        assert count > deadly, "it was never killed"
        assert world.settle(ONE) is Status.FINALIZED
        finalized = world.told(ONE).finalized
        assert finalized is not None
        assert finalized.root == expected
        passes(world)


def test_killed_as_it_ends_a_void_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was silent has paid by then: nobody comes back to a round that is over."""
    with MaskedWorld(tmp_path, rounds=1) as world:
        round_id = world.seal()
        world.unmask(round_id, "cem", "dan")
        world.travel_to(world.client().get_sum(round_id).assist_deadline)

        def ending(*about: object) -> None:
            void_round(*about)  # type: ignore[arg-type]
            raise Killed

        monkeypatch.setattr("aggregator.aggregator.void_round", ending)
        with pytest.raises(Killed):
            world.settle(round_id)
        assert world.status(round_id) is Status.ABANDONED
        penalized = {each.participant for each in world.told(round_id).penalized}
        assert penalized == {world.address_of(name) for name in ("cem", "dan")}
        passes(world)
