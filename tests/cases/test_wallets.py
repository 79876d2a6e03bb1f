"""One wallet in two places, and a state folder under which the chain was reset: one line each."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.participant import Participant
from protocol.errors import CommonweightError, Misconfigured
from protocol.types import RoundId
from runtime.events import WalletElsewhere
from runtime.founded import check_founded
from storage.files import read_json, write_json
from tests.world import SyntheticTrainer, World

ROUND = RoundId(1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def twin(world: World, state: Path) -> tuple[Participant, list[str]]:
    """Return ann on another machine, with what she reports."""
    told: list[str] = []
    participant = Participant(
        world.client(world.wallets["ann"]),
        world.store,
        SyntheticTrainer("ann", 10),
        state,
        lambda event: told.append(event.reason) if isinstance(event, WalletElsewhere) else None,
    )
    return participant, told


@pytest.mark.parametrize("has_trained", [False, True])
def test_a_wallet_on_two_machines_is_told_once_and_loses_nothing(
    world: World, has_trained: bool
) -> None:
    round_id = world.open_round()
    here, there = world.participants["ann"], twin(world, world.folder / "elsewhere")
    if has_trained:  # both had the same in mind: the salts differ
        there[0]._prepare(round_id)
    here.commit(round_id)
    for _ in range(3):
        assert there[0].commit(round_id) is None
    assert len(there[1]) == 1
    assert "in use on another machine" in there[1][0]
    # Nothing is revealed from there that does not open the commitment, and here all goes on.
    for name in ("bob", "cem"):
        world.participants[name].commit(round_id)
    with pytest.raises(CommonweightError, match=r"unless whoever made it.* elsewhere, reveals it"):
        there[0].reveal(round_id)
    world.ask("reveal", round_id)
    world.settle(round_id)
    assert world.client().credit_of(world.address_of("ann")) > 0


def test_a_copy_of_the_state_folder_is_the_same_participant(world: World) -> None:
    """Copied after the commitment it can reveal; the first to do so does."""
    round_id = world.open_round()
    world.ask("commit", round_id)
    shutil.copytree(world.folder / "ann", world.folder / "copy")
    there, told = twin(world, world.folder / "copy")
    assert there.commit(round_id) is not None
    assert there.reveal(round_id) is not None
    world.ask("reveal", round_id)
    assert told == []


def test_a_state_folder_remembers_its_federation(world: World) -> None:
    state = world.folder / "state"
    client = world.client()
    for _ in range(2):
        check_founded(state, client)
    # Another chain gave another federation the same address.
    path = state / world.address / "founded.json"
    write_json(path, {**read_json(path), "created_at": 1_700_000_000})
    with pytest.raises(Misconfigured, match=r"founded on 2023-11-14 at .*if the chain was reset"):
        check_founded(state, client)
    for damage in (b"[]", b'{"created_at": 1e400}', b"\xff"):
        path.write_bytes(damage)
        with pytest.raises(Misconfigured, match=r"unknown time|cannot be read"):
            check_founded(state, client)
