"""Leaves that are requested: the aggregator answers, the auditor searches, nobody pays twice."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aggregator.aggregator import Aggregator
from auditor.averaged import WrongLeaf
from auditor.disputes import challenge, challenge_open, find_fault
from auditor.watch import watch
from chain.events import LeafPosted, LeafRequested
from chain.federation import Federation
from chain.records import Leaf, LeafAnswer, Opening
from contracts.enums import RequestState, Status
from contracts.reverts import Reverted
from devnet.accounts import dev_account
from ethereum.wallet import Wallet
from protocol.spec import Spec
from protocol.tree import is_proof_valid
from protocol.types import Digest, RoundId, TokenUnits
from rounds.average import average_layers as average
from runtime import events
from runtime.events import Event
from storage.ipfs import ContentStore
from storage.layers import LayerFolder
from tests.disputes.lies import (
    DEPOSIT,
    RESPONSE,
    WINDOW,
    Withholding,
    assert_slashed,
    auditing,
    bend,
    finish,
    off_by_one,
    propose,
    swapped_weights,
    withheld_model,
)
from tests.world import World

pytestmark = pytest.mark.long

LEAVES = 18
HIDDEN: dict[str, Any] = {"Pinning": Withholding}


def model_root(world: World, round_id: RoundId) -> Digest:
    return world.proposal(round_id).root


def posted(world: World) -> list[LeafPosted]:
    return [e for e in world.client().read_events() if isinstance(e, LeafPosted)]


def requested(world: World) -> list[LeafRequested]:
    return [e for e in world.client().read_events() if isinstance(e, LeafRequested)]


def lead_folder(world: World, round_id: RoundId) -> Path:
    return world.folder / "aggregator" / world.address / f"round-{round_id:04d}"


# ------------------------------------------------------------------------- the aggregator


def request_model(world: World, round_id: RoundId, leaf: int) -> None:
    world.client(world.auditor).request_model_leaf(round_id, leaf)


def request_update(world: World, round_id: RoundId, leaf: int, name: str) -> Digest:
    """Request a leaf of the update of `name` and return its root."""
    verdicts = world.proposal(round_id).verdicts
    who = world.address_of(name)
    index = [verdict.participant for verdict in verdicts].index(who)
    (reveal,) = [r for r in world.told(round_id).reveals if r.participant == who]
    client = world.client(world.auditor)
    client.request_update_leaf(round_id, leaf, index, verdicts, Opening.of(reveal))
    return reveal.root


def test_the_aggregator_posts_what_is_requested_once(world: World) -> None:
    round_id = propose(world)
    root = model_root(world, round_id)
    request_model(world, round_id, 3)
    update = request_update(world, round_id, 13, "bob")
    world.aggregator.respond(round_id)
    world.aggregator.respond(round_id)
    found = {(event.root, event.leaf) for event in posted(world)}
    assert found == {(root, 3), (update, 13)}
    assert len(posted(world)) == 2
    for event in posted(world):
        assert is_proof_valid(event.root, event.values, event.leaf, event.proof)
    assert world.client().credit_of(world.aggregator_wallet.address) == 2 * DEPOSIT
    world.travel(WINDOW)
    assert world.settle(round_id) is Status.FINALIZED
    assert all(line.passed for line in world.audit())


def test_an_aggregator_answers_by_itself_while_it_plays(world: World) -> None:
    round_id = propose(world)
    request_model(world, round_id, 0)

    class Enough(Exception):
        pass

    def report(event: Event) -> None:
        if isinstance(event, events.LeafPosted):
            raise Enough

    again = Aggregator(
        world.client(world.aggregator_wallet), world.store, world.folder / "aggregator", report
    )
    with pytest.raises(Enough):
        again.play(round_id, world.ask)
    assert len(posted(world)) == 1


def test_after_a_restart_it_posts_only_what_is_still_missing(world: World) -> None:
    round_id = propose(world)
    for leaf in (0, 1, 2):
        request_model(world, round_id, leaf)
    root = model_root(world, round_id)
    folder = LayerFolder(lead_folder(world, round_id) / "model", "model")
    somebody = world.client(world.wallets["ann"])
    somebody.post_leaves([LeafAnswer(root, 1, Leaf(*folder.prove(world.spec, 1)))])
    world.restart_aggregator().respond(round_id)
    assert sorted(event.leaf for event in posted(world)) == [0, 1, 2]
    assert world.client().credit_of(somebody.sender.address) == DEPOSIT
    assert world.client().credit_of(world.aggregator_wallet.address) == 2 * DEPOSIT


def test_damaged_files_are_fetched_again(world: World) -> None:
    round_id = propose(world)
    place = lead_folder(world, round_id)
    for folder in (
        LayerFolder(place / "model", "model"),
        LayerFolder(place / "updates" / world.address_of("ann"), "update"),
    ):
        bend(folder, 0, 0, 1)
        folder.layer_path(2).unlink()
    request_model(world, round_id, 5)
    request_update(world, round_id, 5, "ann")
    world.aggregator.respond(round_id)
    assert len(posted(world)) == 2


def test_a_lost_model_is_made_again_from_its_updates(world: World) -> None:
    round_id = propose(world)
    bend(LayerFolder(lead_folder(world, round_id) / "model", "model"), 0, 0, 1)
    world.withhold(world.proposal(round_id).manifest)
    request_model(world, round_id, 5)
    world.aggregator.respond(round_id)
    assert len(posted(world)) == 1


def test_what_cannot_be_posted_is_told_once(world: World) -> None:
    round_id = propose(world)
    shutil.rmtree(lead_folder(world, round_id))
    world.withhold(world.proposal(round_id).manifest)
    hide_update(world, round_id, "ann")
    request_model(world, round_id, 5)
    for _ in range(3):
        world.aggregator.respond(round_id)
    (told,) = [r for r in world.reports if r["phase"] == "leaf not posted"]
    assert told["leaf"] == 5
    assert "so are 1 of the 3 updates to rebuild it from" in told["reason"]


def test_many_requests_are_answered_by_few_transactions(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aggregator.responder._MOST_BYTES", 9_000)
    round_id = propose(world)
    for leaf in range(12):
        request_model(world, round_id, leaf)
    world.aggregator.respond(round_id)
    assert sorted(event.leaf for event in posted(world)) == list(range(12))
    # Six leaves of 1,440 bytes each fit into one.
    assert len({event.transaction_hash for event in posted(world)}) == 2
    assert world.client().credit_of(world.aggregator_wallet.address) == 12 * DEPOSIT


def test_nobody_answers_for_another_aggregator(world: World) -> None:
    round_id = propose(world)
    request_model(world, round_id, 5)
    world.stand_by().respond(round_id)
    assert not posted(world)


def test_a_standby_pushes_an_unanswered_request_on(world: World) -> None:
    round_id = propose(world)
    request_model(world, round_id, 5)
    standby = world.stand_by()
    standby.respond(round_id)
    world.travel(RESPONSE)
    standby.respond(round_id)
    assert_slashed(world, deposits=1)
    finish(world, round_id)


# ---------------------------------------------------------------------------- the auditor


def pursue(world: World, round_id: RoundId, respond: Callable[[RoundId], None]) -> list[str]:
    """Let auditors, each without a memory, and the aggregator take turns; return the lines."""
    lines: list[str] = []
    for turn in range(2 * LEAVES):
        lines += challenge_open(auditing(world, f"auditor-{turn}"))
        is_open = world.client().status(round_id) is Status.CHALLENGE
        if not is_open or "was posted and is right" in lines[-1]:
            return lines
        respond(round_id)
    raise AssertionError(lines)


def two_wrong_leaves(spec: Spec, *what: Any) -> Digest:
    average(spec, *what)
    target = what[3]
    bend(target, 0, 95, 1)
    bend(target, 2, 3, -1)
    return LayerFolder.root(target, spec)


@pytest.mark.parametrize("lie", [off_by_one, two_wrong_leaves, swapped_weights])
def test_a_wrong_leaf_of_a_withheld_model_is_found_by_requests(
    world: World, lie: Callable[..., Digest]
) -> None:
    round_id = propose(world, average_layers=lie, **HIDDEN)
    lines = pursue(world, round_id, world.aggregator.respond)
    assert "is not what 3 updates make of it" in lines[-1]
    assert 1 <= len(requested(world)) <= world.spec.tree_depth + 1
    assert len(posted(world)) == len(requested(world))
    assert_slashed(world)
    assert world.client().credit_of(world.aggregator_wallet.address) == DEPOSIT * len(posted(world))
    finish(world, round_id)


def test_a_search_goes_on_with_what_others_requested(world: World) -> None:
    round_id = propose(world, average_layers=off_by_one, **HIDDEN)  # in leaf 8
    somebody = world.client(world.wallets["cem"])
    for leaf in (0, 9):
        somebody.request_model_leaf(round_id, leaf)
    world.aggregator.respond(round_id)
    challenge_open(auditing(world))
    assert [event.leaf for event in requested(world)] == [0, 9, 8]
    world.aggregator.respond(round_id)
    assert "leaf 8 is not what 3 updates make of it" in challenge_open(auditing(world))[-1]
    assert_slashed(world)


def test_a_right_model_that_is_withheld_costs_one_request(world: World) -> None:
    round_id = withheld_model(world)
    lines = pursue(world, round_id, world.aggregator.respond)
    assert "the model is right, only its bytes are withheld" in lines[-1]
    assert len(requested(world)) == 1
    again = challenge_open(auditing(world, "later"))
    assert again[-1] == lines[-1]
    assert len(requested(world)) == 1
    assert world.client().credit_of(world.aggregator_wallet.address) == DEPOSIT
    world.travel(WINDOW)
    assert world.settle(round_id) is Status.FINALIZED


def hide_update(world: World, round_id: RoundId, name: str) -> None:
    (reveal,) = [r for r in world.told(round_id).reveals if r.participant == world.address_of(name)]
    world.withhold(reveal.manifest)


def test_a_posted_leaf_of_a_withheld_update_is_averaged(world: World) -> None:
    round_id = propose(world, average_layers=swapped_weights)
    hide_update(world, round_id, "bob")
    lines = pursue(world, round_id, world.aggregator.respond)
    assert "an accepted update is withheld" in lines[1]
    assert "is not what 3 updates make of it" in lines[-1]
    assert_slashed(world)


def test_a_leaf_is_requested_under_every_root_that_is_withheld(world: World) -> None:
    round_id = propose(world, **HIDDEN)
    for name in ("ann", "cem"):
        hide_update(world, round_id, name)
    lines = pursue(world, round_id, world.aggregator.respond)
    assert len(requested(world)) == 3
    assert len({event.leaf for event in requested(world)}) == 1
    assert "was posted and is right" in lines[-1]


def test_a_root_with_wrong_padding_cannot_be_defended(world: World) -> None:
    """Every leaf is right, but nobody could ever load a model of that root."""

    def padded(spec: Spec, *what: Any) -> Digest:
        average(spec, *what)
        target = what[3]
        spare = LayerFolder(target.path.parent / "spare", "model")
        spare.path.mkdir()
        for layer in range(len(spec.layers)):
            spare.layer_path(layer).write_bytes(target.layer_path(layer).read_bytes())
        with spare.layer_path(2).open("ab") as file:
            file.write(bytes(2 * 1024))  # two leaves where padding belongs
        return spare.root(spec)

    round_id = propose(world, average_layers=padded)
    refused: list[str] = []

    def answer(number: RoundId) -> None:
        """Answer from a tree with two leaves more than there are."""
        proposed = world.proposal(number)
        spare = LayerFolder(lead_folder(world, number) / "spare", "model")
        client = world.client(world.aggregator_wallet)
        for event in requested(world):
            state = world.client().leaf_request(event.root, event.leaf).state
            if state is RequestState.OPEN:
                try_to_post(client, proposed.root, event.leaf, spare)

    def try_to_post(client: Federation, root: Digest, leaf: int, folder: LayerFolder) -> None:
        opened = Leaf(*folder.prove(world.spec, leaf))
        assert is_proof_valid(root, opened.values, leaf, opened.proof)
        try:
            client.post_leaves([LeafAnswer(root, leaf, opened)])
        except Reverted as error:
            refused.append(error.name)
            world.travel(RESPONSE)

    pursue(world, round_id, answer)
    assert refused == ["WrongPadding"]
    assert requested(world)[-1].leaf in (16, 17)
    assert_slashed(world, deposits=1)
    finish(world, round_id)


# --------------------------------------------------------------- why nothing is requested


def test_too_late_to_request_is_reported(world: World) -> None:
    withheld_model(world)
    world.travel(WINDOW - 2 * RESPONSE + 5)
    lines = challenge_open(auditing(world))
    assert "no leaf of the model can be requested: " in lines[-1]
    assert not requested(world)


def test_a_wallet_without_the_deposit_is_reported(world: World) -> None:
    withheld_model(world)
    auditor = world.client(world.auditor)
    held = auditor.token.balance_of(world.auditor.address)
    auditor.token.transfer(world.address_of("ann"), TokenUnits(held))
    lines = challenge_open(auditing(world))
    assert f"{world.auditor.address} holds 0 units" in lines[-1]
    assert len(lines[-1].splitlines()) == 1


def test_a_deposit_comes_back_when_somebody_else_refuted_the_proposal(world: World) -> None:
    round_id = propose(world, average_layers=off_by_one)
    request_model(world, round_id, 0)
    stranger = world.client(Wallet.from_key(bytes(dev_account(7).key)))
    audit = auditing(world)
    fault = find_fault(audit, audit.context(round_id))
    assert isinstance(fault, WrongLeaf)
    challenge(stranger, fault)
    lines: list[str] = []
    looks = iter([False, False, True])
    store = ContentStore(world.daemon.url)
    watch(world.client(world.auditor), store, world.folder / "w", lines.append, lambda: next(looks))
    assert any("the deposit was returned to" in line for line in lines)
    assert any("was refuted" in line for line in lines)
    assert world.client().credit_of(world.auditor.address) == DEPOSIT
    finish(world, round_id)
