"""Events: read back, they are what was done, in order, however the node cuts the ranges."""

from collections.abc import Callable
from typing import Any

import pytest
from eth_utils.crypto import keccak
from pydantic import ValidationError
from web3 import Web3
from web3.exceptions import Web3RPCError

from chain import events as ev
from chain.compiler import load_artifact
from chain.deploy import deploy_federation
from chain.events import EVENT_TYPES, FederationEvent, events_in, read_events
from chain.names import snake_case
from chain.rpc import TimedOut
from chain.transactions import Receipt, Sender
from chain.wallet import Wallet
from protocol.errors import Misconfigured, Unavailable
from protocol.quantities import RoundId
from protocol.reveal import Reveal
from protocol.verdict import FULL_SCORE, Verdict
from tests.chain.stage import (
    ESCROW,
    Stage,
    advance_to,
    digest,
    make_terms,
    model_leaf,
    model_root,
    reveal_values,
)

ONE = RoundId(1)


def a_receipt(stage: Stage) -> Receipt:
    return stage.outsider.fund(stage.terms.round_reward)


def facts(event: FederationEvent) -> dict[str, Any]:
    """Return what an event says, without where it stands."""
    place = set(FederationEvent.model_fields)
    return {name: getattr(event, name) for name in type(event).model_fields if name not in place}


def test_a_round_reads_back(stage: Stage) -> None:
    first = stage.w3.eth.block_number + 1
    opened = stage.open()
    commitments = {each.sender.address: stage.commit(each, ONE) for each in stage.participants}
    for each in stage.participants:
        each.reveal(ONE, *reveal_values(each))
    verdicts = stage.verdicts()
    stage.lead.propose(ONE, digest(20), digest(21), verdicts)
    challenge_deadline = stage.sponsor.get_round(ONE).challenge_deadline
    advance_to(stage.w3, challenge_deadline)
    stage.outsider.finalize(ONE, verdicts)
    stage.participants[0].withdraw()

    lead, people = stage.lead.sender.address, [each.sender.address for each in stage.participants]
    sponsor = stage.sponsor.sender.address
    model = {"root": digest(20), "manifest": digest(21)}
    names = ("root", "manifest", "examples", "salt")
    payouts = [150, 300, 450]
    paid = dict(zip([each.participant for each in verdicts], payouts, strict=True))
    expected: list[tuple[type[FederationEvent], dict[str, Any]]] = [
        (ev.Funded, {"funder": sponsor, "amount": ESCROW}),
        (ev.Bonded, {"aggregator": lead, "amount": 5_000}),
        *((ev.Joined, {"participant": who, "amount": 1_000}) for who in people),
        (
            ev.RoundOpened,
            {
                "round": 1,
                "aggregator": lead,
                "seed": stage.sponsor.get_round(ONE).seed,
                "commit_deadline": opened.event.commit_deadline,
                "reveal_deadline": opened.event.commit_deadline + 600,
                "propose_deadline": opened.event.commit_deadline + 1_200,
                "expected": 3,
            },
        ),
        *(
            (ev.Committed, {"round": 1, "participant": who, "commitment": made})
            for who, made in commitments.items()
        ),
        *(
            (
                ev.Revealed,
                {"round": 1, "participant": each.sender.address}
                | dict(zip(names, reveal_values(each), strict=True)),
            )
            for each in stage.participants
        ),
        (
            ev.Proposed,
            {"round": 1, "aggregator": lead, **model}
            | {"challenge_deadline": challenge_deadline, "verdicts": tuple(verdicts)},
        ),
        *(
            (ev.Paid, {"round": 1, "participant": who, "amount": amount})
            for who, amount in paid.items()
        ),
        (ev.Finalized, {"round": 1, **model, "aggregator": lead, "fee": 50, "paid": 950}),
        (ev.Withdrawn, {"account": people[0], "amount": paid[people[0]]}),
    ]
    found = stage.sponsor.read_events(first)
    assert [(type(each), facts(each)) for each in found] == expected


def test_places_are_the_receipts(stage: Stage) -> None:
    receipt = a_receipt(stage)
    (event,) = stage.outsider.events_in(receipt)
    assert (event.block_number, event.block_hash, event.transaction_hash) == (
        receipt.block_number,
        receipt.block_hash,
        receipt.transaction_hash,
    )
    assert event.key == (receipt.block_hash, event.log_index)
    assert event in stage.sponsor.read_events(receipt.block_number, receipt.block_number)


def every_event(stage: Stage) -> list[FederationEvent]:
    """Play what makes the contract say everything it can, and read it."""
    stage.finalize()
    stage.participants[0].withdraw()
    stage.standby.bond()
    stage.open()
    stage.commit(stage.participants[0], RoundId(2))
    stage.commit(stage.participants[1], RoundId(2))
    advance_to(stage.w3, stage.sponsor.get_round(RoundId(2)).commit_deadline)
    revealer = stage.participants[1]
    root, manifest, examples, salt = reveal_values(revealer)
    revealer.reveal(RoundId(2), root, manifest, examples, salt)
    advance_to(stage.w3, stage.sponsor.get_round(RoundId(2)).reveal_deadline)
    stage.outsider.penalize(RoundId(2), stage.participants[0].sender.address)
    wrong = [Verdict(revealer.sender.address, examples + 1, FULL_SCORE, 0)]
    stage.lead.propose(RoundId(2), model_root(), digest(21), wrong)
    stage.outsider.challenge_model_availability(RoundId(2), 3)
    stage.outsider.challenge_model_availability(RoundId(2), 4)
    stage.participants[0].post_leaf(model_root(), 3, model_leaf(3))
    revealed = Reveal(revealer.sender.address, root, manifest, examples)
    stage.outsider.challenge_verdict(RoundId(2), 0, wrong, revealed)
    stage.participants[0].settle_availability(model_root(), 4)
    advance_to(stage.w3, stage.sponsor.get_round(RoundId(2)).propose_deadline)
    stage.participants[2].leave()
    stage.outsider.abandon(RoundId(2))
    stage.close()
    stage.participants[2].withdraw()
    stage.outsider.refund()
    return stage.sponsor.read_events()


@pytest.fixture
def told(stage: Stage) -> list[FederationEvent]:
    return every_event(stage)


def test_every_kind_in_order(stage: Stage, told: list[FederationEvent]) -> None:
    # The lead was slashed and so was the standby: nobody is left to unbond.
    elsewhere = {ev.Unbonded}
    assert {type(each) for each in told} == set(EVENT_TYPES) - elsewhere
    places = [(each.block_number, each.log_index) for each in told]
    assert places == sorted(places)
    assert len({each.key for each in told}) == len(told)
    first = told[0]
    assert isinstance(first, ev.Created)
    assert first.block_number == stage.sponsor.deployment_block
    assert facts(first) == {
        "sponsor": stage.sponsor.sender.address,
        "spec_digest": stage.terms.spec_digest,
        "model_root": stage.terms.initial_model_root,
        "model_manifest": stage.terms.initial_model_manifest,
        "aggregators": stage.sponsor.aggregators(),
    }
    for kind in (ev.AggregatorSlashed, ev.Penalized, ev.Abandoned):
        assert {each.round for each in told if isinstance(each, kind)} == {2}
    for page in (1, 7, 10_000):
        assert read_events(stage.w3, stage.sponsor.address, 0, page=page) == told

    for round_id in (ONE, RoundId(2)):
        of_round = [e for e in told if isinstance(e, ev.RoundEvent) and e.round == round_id]
        assert of_round
        assert stage.sponsor.read_events(round_id=round_id) == of_round
    assert stage.sponsor.read_events(round_id=RoundId(9)) == []

    for event in told:
        assert type(event).model_validate_json(event.model_dump_json()) == event

    middle = told[len(told) // 2].block_number
    halves = [stage.sponsor.read_events(0, middle), stage.sponsor.read_events(middle + 1)]
    assert halves[0] + halves[1] == told
    assert stage.sponsor.read_events(5, 4) == []


def test_unbonding_is_told(stage: Stage) -> None:
    stage.lead.bond()
    stage.close()
    (event,) = stage.lead.events_in(stage.lead.unbond())
    assert isinstance(event, ev.Unbonded)
    assert facts(event) == {"aggregator": stage.lead.sender.address, "amount": 5_000}


def test_records_are_frozen_and_strict(stage: Stage) -> None:
    event = stage.sponsor.read_events()[0]
    assert isinstance(event, ev.Created)
    with pytest.raises(ValidationError, match="frozen"):
        event.sponsor = stage.outsider.sender.address
    values = event.model_dump()
    with pytest.raises(ValidationError, match="Extra inputs"):
        ev.Created.model_validate({**values, "more": 1})
    with pytest.raises(ValidationError, match="at least 32 bytes"):
        ev.Created.model_validate({**values, "model_root": b"short"})


def test_records_are_the_contracts_events() -> None:
    declared = {
        e["name"]: e["inputs"] for e in load_artifact("Federation")["abi"] if e["type"] == "event"
    }
    place = set(FederationEvent.model_fields)
    assert {
        kind.__name__: [name for name in kind.model_fields if name not in place]
        for kind in EVENT_TYPES
    } == {
        name: [snake_case(field["name"]) for field in fields] for name, fields in declared.items()
    }


# ------------------------------------------------------------------- difficult nodes


def limit_ranges(
    w3: Web3, most: int, failure: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Make a node refuse logs of more than `most` blocks; return the sizes it was asked for."""
    asked: list[int] = []
    get_logs = w3.eth.get_logs

    def limited(query: Any) -> Any:
        asked.append(query["toBlock"] - query["fromBlock"] + 1)
        if asked[-1] > most:
            raise failure()
        return get_logs(query)

    monkeypatch.setattr(w3.eth, "get_logs", limited)
    return asked


def too_much() -> Exception:
    error = {"code": -32005, "message": "query returned more than 10000 results"}
    told: Any = {"error": error}
    return Web3RPCError("", rpc_response=told)


@pytest.mark.parametrize("failure", [too_much, lambda: TimedOut("too slow")])
def test_ranges_are_halved(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, failure: Callable[[], Exception]
) -> None:
    a_receipt(stage)
    expected = stage.sponsor.read_events()
    assert [type(each) for each in expected] == [ev.Created, ev.Funded]
    asked = limit_ranges(stage.w3, 3, failure, monkeypatch)
    assert stage.sponsor.read_events(0) == expected
    assert max(asked) > 3
    refused = [size for size in asked if size > 3]
    assert len(refused) <= 5  # it learns the limit once


def test_refusal_of_a_single_block_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    limit_ranges(stage.w3, 0, too_much, monkeypatch)
    with pytest.raises(Unavailable, match="refuses: query returned more than 10000 results"):
        stage.sponsor.read_events()


def test_node_that_is_down_is_asked_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = limit_ranges(stage.w3, 0, lambda: Unavailable("down"), monkeypatch)
    with pytest.raises(Unavailable, match="down"):
        stage.sponsor.read_events(0, 500)
    assert len(asked) == 1


def test_logs_of_others_and_of_undone_blocks_are_left_out(
    stage: Stage, wallets: tuple[Wallet, ...]
) -> None:
    receipt = a_receipt(stage)
    assert len(receipt.logs) > 1  # the token's Transfer is among them
    address = stage.sponsor.address
    (event,) = events_in(address, receipt.logs)
    assert isinstance(event, ev.Funded)
    undone_logs = [{**log, "removed": True} for log in receipt.logs]
    assert events_in(address, undone_logs) == ()  # type: ignore[arg-type]
    terms = make_terms(stage.w3, stage.token.address)
    twin = deploy_federation(Sender(stage.w3, wallets[0]), terms, [wallets[1].address])
    assert [type(each) for each in twin.read_events()] == [ev.Created]
    assert events_in(twin.address, receipt.logs) == ()


def test_unknown_and_malformed_logs_are_refused(stage: Stage) -> None:
    logs = a_receipt(stage).logs
    log = next(each for each in logs if str(each["address"]) == stage.sponsor.address)
    unknown: Any = {**log, "topics": [keccak(text="Upgraded(address)"), *log["topics"][1:]]}
    with pytest.raises(
        Misconfigured, match=f"an event that .* not know .block {log['blockNumber']}"
    ):
        events_in(stage.sponsor.address, [unknown])
    broken: list[dict[str, Any]] = [{"topics": log["topics"][:1]}, {"data": b"1"}, {"topics": []}]
    for change in broken:
        changed: Any = {**log, **change}
        with pytest.raises(Misconfigured):
            events_in(stage.sponsor.address, [changed])
