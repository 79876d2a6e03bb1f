"""Leaf requests through the client: money, events, and every refusal."""

from dataclasses import replace

import pytest

from chain.events import DepositReturned, LeafPosted, LeafRequested, ProposalRefuted
from chain.records import Leaf, LeafAnswer, LeafRequest, Opening
from contracts.enums import AggregatorState, RequestState, Status
from contracts.reverts import Reverted
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured, WrongBytes
from protocol.tree import compute_proof, compute_root, leaf_digest, node_digest
from protocol.types import Address, Digest, RoundId, TokenUnits, UnixTime
from protocol.verdict import FULL_SCORE, Verdict
from tests.chain.stage import (
    PURSE,
    Stage,
    advance_to,
    digest,
    model_leaf,
    model_leaves,
    model_root,
    opening,
    with_terms,
)

ONE = RoundId(1)
DEPOSIT = 70
RESPONSE = 200
NOBODY = Address("0x" + "00" * 20)
NO_REQUEST = LeafRequest(NOBODY, UnixTime(0), RoundId(0), 0, RequestState.NONE, False)


def answer(index: int) -> LeafAnswer:
    """Return the right answer to a request for a leaf of the model."""
    return LeafAnswer(model_root(), index, model_leaf(index))


def posted(stage: Stage, index: int) -> LeafPosted:
    """Let a participant post a leaf of the model and return the event."""
    responder = stage.participants[0]
    (event,) = responder.events_in(responder.post_leaves([answer(index)]))
    assert isinstance(event, LeafPosted)
    return event


def first_opening(stage: Stage, verdicts: list[Verdict]) -> tuple[int, Opening]:
    """Return the place of the first participant among the verdicts, and what it revealed."""
    who = stage.participants[0]
    index = [each.participant for each in verdicts].index(who.sender.address)
    return index, opening(who)


def challenge_deadline(stage: Stage) -> UnixTime:
    return stage.sponsor.get_round(ONE).challenge_deadline


def refused(stage: Stage, index: int = 0) -> Reverted:
    with pytest.raises(Reverted) as caught:
        stage.outsider.request_model_leaf(ONE, index)
    return caught.value


# ---------------------------------------------------------------------------- the money


def test_an_answer_earns_the_deposit(stage: Stage) -> None:
    stage.propose(model_root())
    outsider, responder = stage.outsider, stage.participants[0]
    assert outsider.leaf_request(model_root(), 4) == NO_REQUEST
    (told,) = outsider.events_in(outsider.request_model_leaf(ONE, 4))
    assert isinstance(told, LeafRequested)
    who = outsider.sender.address
    assert (told.round, told.challenger, told.root, told.leaf) == (1, who, model_root(), 4)
    block = stage.w3.eth.get_block(told.block_number)
    assert told.deadline == block["timestamp"] + RESPONSE
    request = LeafRequest(who, told.deadline, ONE, 1, RequestState.OPEN, True)
    assert outsider.leaf_request(model_root(), 4) == request
    assert outsider.leaf_request(model_root(), 4, told.block_number - 1) == NO_REQUEST
    assert outsider.deposits() == DEPOSIT
    assert outsider.deposits(told.block_number - 1) == 0
    assert outsider.get_round(ONE).open_requests == 1
    assert stage.token.balance_of(who) == PURSE - DEPOSIT
    assert stage.token.allowance(who, outsider.address) == 0  # exactly what it took was approved

    event = posted(stage, 4)
    assert (event.round, event.responder) == (1, responder.sender.address)
    assert outsider.posted_leaf(event) == model_leaf(4)
    assert outsider.leaf_request(model_root(), 4).state is RequestState.POSTED
    assert outsider.deposits() == 0
    assert responder.credit_of(responder.sender.address) == DEPOSIT
    assert outsider.credit_of(who) == 0
    assert outsider.get_round(ONE).open_requests == 0


def test_an_unanswered_request_costs_the_bond(stage: Stage) -> None:
    stage.standby.bond()
    _, verdicts = stage.propose(model_root())
    index, shown = first_opening(stage, verdicts)
    outsider = stage.outsider
    receipt = outsider.request_update_leaf(ONE, 9, index, verdicts, shown)
    (told,) = outsider.events_in(receipt)
    assert isinstance(told, LeafRequested)
    assert (told.root, told.leaf) == (shown.root, 9)
    outsider.request_model_leaf(ONE, 0)
    advance_to(stage.w3, challenge_deadline(stage))
    assert outsider.status(ONE) is Status.CHALLENGE  # until somebody settles

    settled = stage.participants[1].settle_request(shown.root, 9)
    kinds = [type(event) for event in outsider.events_in(settled)]
    assert kinds[0] is DepositReturned
    assert ProposalRefuted in kinds
    who = outsider.sender.address
    assert outsider.credit_of(who) == DEPOSIT + 2_500
    assert outsider.aggregator_state(stage.lead.sender.address) is AggregatorState.SLASHED
    assert outsider.status(ONE) is Status.PROPOSE
    assert outsider.leaf_request(shown.root, 9) == NO_REQUEST
    # The other request is void: its deposit is still held, and goes back.
    assert outsider.deposits() == DEPOSIT
    (returned,) = outsider.events_in(outsider.settle_request(model_root(), 0))
    assert isinstance(returned, DepositReturned)
    assert (returned.challenger, returned.root, returned.leaf) == (who, model_root(), 0)
    assert outsider.credit_of(who) == 2 * DEPOSIT + 2_500
    assert outsider.deposits() == 0


def test_a_request_in_vain_approves_nothing(stage: Stage) -> None:
    before = stage.w3.eth.block_number
    assert str(refused(stage)) == "round 1 is in None, this call needs Challenge"
    assert stage.w3.eth.block_number == before


def test_a_request_needs_the_deposit(stage: Stage) -> None:
    stage.propose(model_root())
    stage.outsider.token.transfer(stage.sponsor.sender.address, TokenUnits(PURSE - DEPOSIT + 1))
    with pytest.raises(Misconfigured, match=r"holds 69 units .* takes 70"):
        stage.outsider.request_model_leaf(ONE, 0)


def test_a_node_cannot_make_up_a_posted_leaf(stage: Stage) -> None:
    stage.propose(model_root())
    stage.outsider.request_model_leaf(ONE, 4)
    event = posted(stage, 4)
    for lie in (
        {"values": event.values[:-1] + b"\0"},
        {"proof": (digest(7), *event.proof[1:])},
        {"leaf": 5},
    ):
        with pytest.raises(WrongBytes, match=r"for leaf . under 0x"):
            stage.outsider.posted_leaf(event.model_copy(update=lie))


# --------------------------------------------------------------------------- the refusals


def test_a_leaf_is_requested_once(stage: Stage) -> None:
    stage.propose(model_root())
    stage.outsider.request_model_leaf(ONE, 4)
    name = f"leaf 4 under 0x{model_root().hex()}"
    assert str(refused(stage, 4)) == f"{name} was requested already"
    posted(stage, 4)
    error = refused(stage, 4)
    assert (error.name, error.arguments) == ("LeafIsPublic", {"root": model_root(), "leaf": 4})
    assert str(error) == f"{name} was posted before: it is in the events"
    # Somebody else was faster: passed over, so that the other answers are not lost.
    stage.outsider.request_model_leaf(ONE, 6)
    receipt = stage.participants[1].post_leaves([answer(4), answer(6)])
    assert [e.leaf for e in stage.outsider.events_in(receipt) if isinstance(e, LeafPosted)] == [6]
    with pytest.raises(Reverted, match="no open request is for leaf 5"):
        stage.outsider.post_leaves([answer(5)])
    with pytest.raises(Reverted, match=f"no open request is for {name}"):
        stage.outsider.settle_request(model_root(), 4)


def test_requests_and_answers_have_their_time(stage: Stage) -> None:
    stage.propose(model_root())
    latest = challenge_deadline(stage) - 2 * RESPONSE
    stage.outsider.request_model_leaf(ONE, 0)
    request = stage.outsider.leaf_request(model_root(), 0)
    with pytest.raises(Reverted, match=r"the leaf can still be posted: it is .*, its deadline is"):
        stage.outsider.settle_request(model_root(), 0)
    advance_to(stage.w3, UnixTime(latest + 1))
    error = refused(stage, 1)
    assert (error.name, error.arguments["latest"]) == ("TooLateToRequest", latest)
    assert "leaves of this proposal could be requested until" in str(error)
    advance_to(stage.w3, request.deadline)
    with pytest.raises(Reverted) as caught:
        posted(stage, 0)
    assert caught.value.name == "TooLateToPost"
    assert caught.value.arguments["deadline"] == request.deadline
    assert str(caught.value).startswith("the leaf had to be posted before ")


def test_answers_are_checked(stage: Stage) -> None:
    stage.propose(model_root())
    stage.outsider.request_model_leaf(ONE, 4)
    good = model_leaf(4)
    for wrong, name in (
        (model_leaf(5), "RootMismatch"),
        (replace(good, values=good.values + b"\0"), "LeafLength"),
        (replace(good, proof=good.proof[1:]), "ProofLength"),
    ):
        with pytest.raises(Reverted) as caught:
            stage.outsider.post_leaves([LeafAnswer(model_root(), 4, wrong)])
        assert caught.value.name == name
    assert stage.outsider.get_round(ONE).open_requests == 1


def test_the_last_leaf_shows_what_stands_behind_it(stage: Stage) -> None:
    leaves = model_leaves()
    row = [leaf_digest(leaf) for leaf in leaves] + [digest(9)] * 6
    proof = tuple(compute_proof(row, 9))
    root = _root_of(row)
    assert root != compute_root(leaves, 1_024)
    stage.propose(root)
    stage.outsider.request_model_leaf(ONE, 9)
    with pytest.raises(Reverted) as caught:
        stage.outsider.post_leaves([LeafAnswer(root, 9, Leaf(leaves[9], proof))])
    assert caught.value.name == "WrongPadding"
    shown = f"the tree under 0x{root.hex()} holds something behind its last leaf"
    assert str(caught.value) == shown


def _root_of(row: list[Digest]) -> Digest:
    while len(row) > 1:
        row = [node_digest(row[k], row[k + 1]) for k in range(0, len(row), 2)]
    return row[0]


def test_only_accepted_updates_can_be_requested(stage: Stage) -> None:
    stage.open()
    stage.submit(ONE)
    verdicts = stage.verdicts()
    index, shown = first_opening(stage, verdicts)
    verdicts[index] = replace(verdicts[index], weight=0, score=type(FULL_SCORE)(0), reason=8)
    stage.lead.propose(ONE, model_root(), digest(21), verdicts)
    with pytest.raises(Reverted) as caught:
        stage.outsider.request_update_leaf(ONE, 0, index, verdicts, shown)
    assert caught.value.name == "UpdateRejected"
    assert str(caught.value) == (
        f"the update of {verdicts[index].participant} was rejected in round 1:"
        " only accepted ones are averaged"
    )


def test_terms_may_switch_requests_off(stage: Stage, wallets: tuple[Wallet, ...]) -> None:
    other = with_terms(stage.token, wallets, response_seconds=0, availability_deposit=TokenUnits(0))
    other.propose(model_root())
    error = refused(other)
    assert error.name == "AvailabilityOff"
    assert str(error).startswith("this federation's terms do not allow leaf requests")
