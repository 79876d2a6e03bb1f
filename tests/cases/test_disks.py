"""A role's disk over many rounds: flat where not all is to be kept."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.watch import Watcher
from contracts.enums import Status
from protocol.cid import raw_cid
from protocol.types import RoundId
from storage.capacity import bytes_in
from tests.faults import disk
from tests.world import World

pytestmark = pytest.mark.long

ROUNDS = 8


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, rounds=ROUNDS) as world:
        yield world


def folders(path: Path) -> list[str]:
    return sorted(each.name for each in path.glob("round-*"))


def test_what_is_not_disputable_any_more_goes(world: World) -> None:
    world.aggregator.keeps_all = False
    sizes = []
    ann = world.folder / "ann" / world.address
    aggregator = world.folder / "aggregator" / world.address
    for _ in range(ROUNDS):
        assert world.play() is Status.FINALIZED
        sizes.append((bytes_in(ann), bytes_in(aggregator)))
    # From the fourth round on nothing grows.
    assert len(set(sizes[3:])) == 1
    assert folders(ann) == folders(aggregator) == ["round-0006", "round-0007", "round-0008"]
    # The audit of everything still passes: the authors keep what they pinned.
    assert all(check.passed for check in world.audit())


def test_by_default_the_aggregator_keeps_everything(world: World) -> None:
    for _ in range(ROUNDS):
        world.play()
    folder = world.folder / "aggregator" / world.address
    assert folders(folder) == [f"round-{number:04d}" for number in range(1, ROUNDS + 1)]
    # Each model once: what the next round started from was a copy of it.
    assert len([*folder.glob("round-*/model")]) == ROUNDS
    assert len([*(folder / "models").iterdir()]) == 2


def test_copies_of_old_updates_leave_the_store(world: World) -> None:
    """In a store that is not the authors': there the updates are not pinned."""
    world.aggregator.keeps_all = False
    manifests = {}
    for number in range(1, 5):
        world.play()
        manifests[number] = [each.manifest for each in world.told(RoundId(number)).revealed]
        # As if the authors had pinned them elsewhere.
        for manifest in manifests[number]:
            world.store._unpin([raw_cid(manifest)])
    has = {number: any(map(world.store.has, each)) for number, each in manifests.items()}
    assert has == {1: False, 2: False, 3: True, 4: True}


def test_a_watcher_on_a_full_disk_waits_for_room(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "watcher"
    if not disk.mount(folder):
        pytest.skip("needs root on Linux")
    try:
        world.commit_and_reveal(round_id := world.open_round())
        world.aggregator.propose(round_id)
        lines: list[str] = []
        watcher = Watcher(world.client(world.auditor), world.store, folder, lines.append)
        disk.fill(folder)
        watcher.look()
        # Nobody is accused of it.
        assert not [line for line in lines if line.startswith("FAIL")]
        assert lines[-1].startswith("cannot judge now, trying again: cannot write ")
        assert lines[-1].endswith("No space left on device")
        watcher._pending.again_at = 0.0  # type: ignore[union-attr]
        disk.free(folder)
        watcher.look()
        assert "as the contract would have them" in lines[-1]
    finally:
        disk.unmount(folder)
