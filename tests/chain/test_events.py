"""Events: read back, they are what was done, in order, however the node cuts the ranges."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_utils.crypto import keccak
from pydantic import ValidationError
from web3 import Web3

from chain import events as ev
from chain.authentic import IMPLEMENTATION
from chain.events import EVENT_TYPES, FederationEvent, events_in, read_events
from chain.records import LeafAnswer
from contracts.compiler import load_artifact
from contracts.names import snake_case
from contracts.reverts import Reverted
from ethereum.rpc import connect
from ethereum.transactions import Receipt, Sender
from ethereum.wallet import Wallet
from protocol.errors import Unavailable
from protocol.payout import compute_payouts
from protocol.types import Address, RoundId, TokenUnits
from tests.chain.stage import (
    ESCROW,
    Stage,
    advance_to,
    digest,
    make_terms,
    model_leaf,
    model_root,
    opening,
    reveal_values,
)
from tests.ethereum.scripted_node import Reply, Request, refusal, result, scripted_node
from tests.terms import found_federation

ONE = RoundId(1)


def a_receipt(stage: Stage) -> Receipt:
    return stage.outsider.fund(stage.terms.money.update_reward)


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
    commit_deadline = stage.sponsor.get_round(ONE).commit_deadline
    advance_to(stage.w3, challenge_deadline)
    stage.outsider.finalize(ONE, verdicts)
    stage.participants[0].withdraw()

    lead, people = stage.lead.sender.address, [each.sender.address for each in stage.participants]
    sponsor = stage.sponsor.sender.address
    model = {"root": digest(20), "manifest": digest(21)}
    names = ("root", "manifest", "examples", "salt")
    paid = compute_payouts(TokenUnits(300), 100, verdicts)
    expected: list[tuple[type[FederationEvent], dict[str, Any]]] = [
        (ev.Funded, {"funder": sponsor, "amount": ESCROW}),
        (ev.Bonded, {"aggregator": lead, "amount": 5_000}),
        *((ev.Joined, {"participant": who, "amount": 1_000}) for who in people),
        (
            ev.RoundOpened,
            {
                "round": 1,
                "aggregator": lead,
                "opened_block": opened.receipt.block_number,
                "active": 3,
            },
        ),
        (
            ev.SeedFixed,
            {
                "round": 1,
                "seed": stage.sponsor.get_round(ONE).seed,
                "commit_deadline": commit_deadline,
                "reveal_deadline": commit_deadline + 600,
                "propose_deadline": commit_deadline + 1_200,
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
        (
            ev.Finalized,
            {"round": 1, **model, "aggregator": lead, "fee": 50, "paid": sum(paid.values()) + 50},
        ),
        (ev.Withdrawn, {"account": people[0], "to": people[0], "amount": paid[people[0]]}),
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
    """Play what makes the contract say nearly everything it can, and read it."""
    second, third = RoundId(2), RoundId(3)
    stage.finalize()
    stage.participants[0].withdraw()
    stage.participants[0].announce("/dns4/ann.example/tcp/4001/p2p/12D3KooWEyop")
    stage.standby.bond()
    stage.open()
    stage.commit(stage.participants[0], second)
    stage.commit(stage.participants[1], second)
    advance_to(stage.w3, stage.sponsor.get_round(second).commit_deadline)
    revealer = stage.participants[1]
    revealer.reveal(second, *reveal_values(revealer))
    advance_to(stage.w3, stage.sponsor.get_round(second).reveal_deadline)
    stage.outsider.penalize(second, stage.participants[0].sender.address)
    (right,) = [v for v in stage.verdicts() if v.participant == revealer.sender.address]
    wrong = [replace(right, weight=right.weight - 1)]
    stage.lead.propose(second, model_root(), digest(21), wrong)
    stage.outsider.request_model_leaf(second, 3)
    stage.outsider.request_model_leaf(second, 4)
    stage.participants[0].post_leaves([LeafAnswer(model_root(), 3, model_leaf(3))])
    stage.outsider.challenge_verdict(second, 0, wrong, opening(revealer))
    stage.participants[0].settle_request(model_root(), 4)
    stage.standby.propose(second, digest(30), digest(31), [right])
    advance_to(stage.w3, stage.sponsor.get_round(second).challenge_deadline)
    stage.outsider.finalize(second, [right])
    stage.standby.open_round()
    stage.outsider.fix_seed(third)
    advance_to(stage.w3, stage.sponsor.get_round(third).propose_deadline)
    missed = stage.participants[2].sender.address
    stage.outsider.abandon(third)
    stage.outsider.evict(missed, [second, third])
    stage.participants[1].leave()
    stage.sponsor.close()
    stage.standby.unbond()
    advance_to(stage.w3, stage.sponsor.get_participant(revealer.sender.address).unlock_at)
    stage.participants[1].withdraw_to(stage.outsider.sender.address)
    stage.outsider.refund()
    return stage.sponsor.read_events()


@pytest.fixture
def told(stage: Stage) -> list[FederationEvent]:
    return every_event(stage)


def test_every_kind_in_order(stage: Stage, told: list[FederationEvent]) -> None:
    masked = {
        ev.KeyPublished,
        ev.SecretsBound,
        ev.SetSealed,
        ev.SketchFixed,
        ev.Unmasked,
        ev.Assisted,
        ev.Objected,
        ev.Voided,
        ev.StreamsPosted,
    }
    # tests/chain/test_masked.py plays the others.
    assert {type(each) for each in told} == set(EVENT_TYPES) - masked
    places = [(each.block_number, each.log_index) for each in told]
    assert places == sorted(places)
    assert len({each.key for each in told}) == len(told)
    for kind in (ev.AggregatorSlashed, ev.Penalized, ev.ProposalRefuted):
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


def test_what_is_announced_may_be_any_bytes(stage: Stage) -> None:
    """Whoever can send a transaction could otherwise make the history unreadable for everybody."""
    stage.outsider.announce("/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWEyop")
    abi = load_artifact(IMPLEMENTATION)["abi"]
    call = Web3().eth.contract(abi=abi).encode_abi("announce", args=("12345678",))
    junk = bytes.fromhex(call[2:]).replace(b"12345678", b"\xff\xfe\xc0\0\n\xed\xa0\x80")
    stage.outsider.sender.send(stage.sponsor.address, junk)
    first, second = (e for e in stage.sponsor.read_events() if isinstance(e, ev.Announced))
    assert (first.who, second.who) == (stage.outsider.sender.address,) * 2
    assert first.whereabouts == "/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWEyop"
    assert "\ufffd" in second.whereabouts
    assert ev.Announced.model_validate_json(second.model_dump_json()) == second
    with pytest.raises(Reverted, match="has at most 512 bytes, this one has 513"):
        stage.outsider.announce("x" * 513)
    assert stage.sponsor.history().announced == {first.who: second}


def test_records_are_frozen_and_strict(stage: Stage) -> None:
    stage.open()
    event = next(e for e in stage.sponsor.read_events() if isinstance(e, ev.SeedFixed))
    with pytest.raises(ValidationError, match="frozen"):
        event.round = RoundId(2)
    values = event.model_dump()
    with pytest.raises(ValidationError, match="Extra inputs"):
        ev.SeedFixed.model_validate({**values, "more": 1})
    with pytest.raises(ValidationError, match="at least 32 bytes"):
        ev.SeedFixed.model_validate({**values, "seed": b"short"})


def test_records_are_the_contracts_events() -> None:
    declared = {
        e["name"]: e["inputs"] for e in load_artifact(IMPLEMENTATION)["abi"] if e["type"] == "event"
    }
    place = set(FederationEvent.model_fields)
    assert {
        kind.__name__: [name for name in kind.model_fields if name not in place]
        for kind in EVENT_TYPES
    } == {
        name: [snake_case(field["name"]) for field in fields] for name, fields in declared.items()
    }


# ------------------------------------------------------------------- difficult nodes

ADDRESS = Address(Web3.to_checksum_address("0x" + "5f" * 20))
HEAD = 1_858


def funding(block: int) -> dict[str, Any]:
    """Return a log that says that somebody added `block` token units to the escrow."""
    return {
        "address": ADDRESS,
        "topics": [
            "0x" + keccak(text="Funded(address,uint256)").hex(),
            "0x" + "00" * 12 + "07" * 20,
        ],
        "data": "0x" + block.to_bytes(32).hex(),
        "blockNumber": hex(block),
        "blockHash": "0x" + block.to_bytes(32).hex(),
        "transactionHash": "0x" + (block + 1).to_bytes(32).hex(),
        "transactionIndex": "0x0",
        "logIndex": "0x0",
        "removed": False,
    }


class LogNode:
    """A node of `HEAD` blocks with one log in every 97th, and limits of its own.

    `refuse` is asked for the first block and the number of blocks of each query. `sizes` are those
    of all queries.
    """

    def __init__(self, refuse: Callable[[int, int], Reply | None]) -> None:
        self.refuse = refuse
        self.sizes: list[int] = []

    def __call__(self, request: Request) -> Reply:
        if request["method"] != "eth_getLogs":
            return result("0x1" if request["method"] == "eth_chainId" else hex(HEAD))
        (query,) = request["params"]
        first, last = (int(query[name], 16) for name in ("fromBlock", "toBlock"))
        self.sizes.append(last - first + 1)
        refused = self.refuse(first, last - first + 1)
        return refused or result([funding(n) for n in range(first, last + 1) if n % 97 == 0])


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chain.log_pages._PAUSES_S", (0.0, 0.0, 0.0, 0.0))


def assert_whole(found: list[FederationEvent]) -> None:
    assert [each.block_number for each in found] == list(range(0, HEAD + 1, 97))


def over(most: int, message: str, code: int = -32005) -> Callable[[int, int], Reply | None]:
    """Refuse more than `most` blocks at once."""
    return lambda first, size: refusal(code, message) if size > most else None


LIMITS: dict[str, Callable[[int, int], Reply | None]] = {
    "geth": over(5, "exceed maximum block range: 5", -32000),
    "reth": over(5, "query exceeds max block range 5", -32602),
    "besu": over(5, "Requested range exceeds maximum RPC range limit", -32005),
    "nethermind": over(5, "Too many logs requested. Max logs per response is 20000."),
    "hosted": over(5, "eth_getLogs requests with up to a 5 block range are allowed", -32600),
    "results": over(5, "query returned more than 10000 results"),
    "timeout": over(5, "query timeout exceeded", -32002),
    "plain": over(5, "limit exceeded"),
    "HTTP": lambda first, size: Reply(b"", 413) if size > 5 else None,
    "gateway": lambda first, size: Reply(b"", 504) if size > 5 else None,
}


@pytest.mark.parametrize("node", LIMITS)
def test_a_limit_is_learnt_with_few_requests(node: str) -> None:
    logs = LogNode(LIMITS[node])
    with scripted_node(logs) as served:
        w3 = connect(served.url)
        assert_whole(read_events(w3, ADDRESS))
        pages = HEAD // 5 + 1
        assert len(logs.sizes) < 1.15 * pages
        logs.sizes.clear()
        assert_whole(read_events(w3, ADDRESS))  # what was learnt is not forgotten
        assert max(logs.sizes) <= 20
        assert len(logs.sizes) < 1.15 * pages


@pytest.mark.parametrize(
    ("told", "size"),
    [
        ("query returned more than 10000 results. Try with this block range [0x0, 0x1F3].", 500),
        ("query exceeds max results 20000, retry with the range 0-499", 500),
        ("You can make eth_getLogs requests with up to a 1K block range", 1000),
        ("exceed maximum block range: 1,500", 1500),
    ],
)
def test_the_range_that_a_node_names_is_asked_for(told: str, size: int) -> None:
    logs = LogNode(over(size, told))
    with scripted_node(logs) as served:
        assert_whole(read_events(connect(served.url), ADDRESS))
    assert logs.sizes[:2] == [HEAD + 1, size]
    assert len(logs.sizes) == 1 + -(-(HEAD + 1) // size)


def test_pages_grow_again_after_a_stretch_of_many_logs() -> None:
    def refuse(first: int, size: int) -> Reply | None:
        dense = first < 100 and size > 10
        return refusal(-32005, "query returned more than 10000 results") if dense else None

    logs = LogNode(refuse)
    with scripted_node(logs) as served:
        assert_whole(read_events(connect(served.url), ADDRESS))
    assert len(logs.sizes) < 60
    assert max(logs.sizes[20:]) > 100


def test_a_limited_rate_leaves_the_page_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethereum.rpc._FIRST_PAUSE_S", 0.001)
    left = [refusal(-32005, "rate limit exceeded")] * 8 + [Reply(b"", 429)] * 2

    def refuse(first: int, size: int) -> Reply | None:
        return left.pop() if left else LIMITS["geth"](first, size)

    logs = LogNode(refuse)
    with scripted_node(logs) as served:
        assert_whole(read_events(connect(served.url), ADDRESS))
    assert logs.sizes[:12] == [HEAD + 1] * 11 + [5]
    assert len(logs.sizes) < 400


PASSING = (
    refusal(-32000, "failed to process log index epoch 3: pruned"),
    refusal(-32000, "block range extends beyond current head block"),
    refusal(-32000, "header not found"),
    refusal(-32603, "Internal error"),
    Reply(b"<html>", 502),
)


@pytest.mark.parametrize("failure", PASSING, ids=lambda reply: str(reply.body))
def test_another_failure_is_tried_again_as_it_was(failure: Reply) -> None:
    left = [failure] * 3
    logs = LogNode(lambda first, size: left.pop() if left else None)
    with scripted_node(logs) as served:
        assert_whole(read_events(connect(served.url), ADDRESS))
    assert logs.sizes == [HEAD + 1] * 4


@pytest.mark.parametrize("failure", PASSING, ids=lambda reply: str(reply.body))
def test_a_failure_that_stays_is_told(failure: Reply) -> None:
    logs = LogNode(lambda first, size: failure)
    with scripted_node(logs) as served, pytest.raises(Unavailable):
        read_events(connect(served.url), ADDRESS)
    assert logs.sizes == [HEAD + 1] * 5


def test_refusal_of_a_single_block_is_told() -> None:
    logs = LogNode(over(0, "query returned more than 10000 results"))
    with (
        scripted_node(logs) as served,
        pytest.raises(Unavailable, match="refuses: query returned more than 10000 results"),
    ):
        read_events(connect(served.url), ADDRESS)
    assert len(logs.sizes) < 20


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
    twin = found_federation(Sender(stage.w3, wallets[0]), terms, [wallets[1].address])
    assert twin.read_events() == []
    assert events_in(twin.address, receipt.logs) == ()


def test_unknown_and_malformed_logs_are_refused(stage: Stage) -> None:
    logs = a_receipt(stage).logs
    log = next(each for each in logs if str(each["address"]) == stage.sponsor.address)
    unknown: Any = {**log, "topics": [keccak(text="Upgraded(address)"), *log["topics"][1:]]}
    with pytest.raises(
        Unavailable, match=f"an event .* that .* not know .block {log['blockNumber']}"
    ):
        events_in(stage.sponsor.address, [unknown])
    broken: list[dict[str, Any]] = [{"topics": log["topics"][:1]}, {"data": b"1"}, {"topics": []}]
    for change in broken:
        changed: Any = {**log, **change}
        with pytest.raises(Unavailable):
            events_in(stage.sponsor.address, [changed])
