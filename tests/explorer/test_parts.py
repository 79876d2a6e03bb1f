"""What pages are made of: figures from events, events in words, charts, times and documents."""

import re
import threading
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from chain import events as ev
from chain.events import FederationEvent, RoundEvent
from chain.history import History
from contracts.enums import Privacy, Status
from devnet.accounts import dev_keys
from devnet.tester import connect_tester
from ethereum.wallet import Wallet
from explorer import times as times_module
from explorer.charts import bars, line, stacks
from explorer.documents import Documents
from explorer.federation_facts import phases
from explorer.times import BlockTimes
from explorer.totals import Person, RoundFigures, Totals
from explorer.words import short, tell
from protocol.errors import Unavailable
from protocol.types import Address, Digest, RoundId, TokenUnits
from tests.chain.stage import Stage, make_stage
from tests.chain.test_events import every_event


@pytest.fixture(scope="module")
def told() -> tuple[Stage, list[FederationEvent]]:
    """Nearly every event that the contract can emit."""
    # On a chain of its own, whose clock it moves.
    wallets = tuple(Wallet.from_key(key) for key in dev_keys()[:8])
    stage = make_stage(connect_tester(), wallets)
    return stage, every_event(stage)


# ------------------------------------------------------------------------------------ figures


def test_figures_add_up_to_the_contracts(told: tuple[Stage, list[FederationEvent]]) -> None:
    stage, events = told
    history = History.fold(events, stage.sponsor.terms().money.availability_deposit)
    totals = Totals()
    totals.follow(history)
    people = totals.people
    assert sum(person.stake for person in people.values()) == history.accounts.staked
    assert sum(person.withdrawn for person in people.values()) == history.accounts.withdrawn
    for who in history.memberships:
        assert people[who].stake == stage.sponsor.get_participant(who).stake
    paid = sum(person.earned + person.fees for person in people.values())
    settled = [each.finalized for each in history.rounds.values() if each.finalized]
    assert paid == sum(event.paid for event in settled)
    assert sum(person.led for person in people.values()) == len(settled)
    bond = stage.sponsor.terms().money.aggregator_bond
    assert max(person.lost for person in people.values()) == bond


def test_figures_are_the_same_in_any_steps(told: tuple[Stage, list[FederationEvent]]) -> None:
    stage, events = told
    whole, seats = Totals(), stage.sponsor.terms().seats
    whole.follow(History.fold(events, TokenUnits(0)))
    stepwise, history = Totals(), History.fold([], TokenUnits(0))
    for event in events:
        history = history.extended([event])
        stepwise.follow(history)
        for each in history.rounds.values():
            assert stepwise.figures(each, seats) == RoundFigures.of(each, seats)
    assert stepwise.people == whole.people
    # Back to an earlier block after a reorganisation, and on along another branch.
    earlier = History.fold(events[: len(events) // 2], TokenUnits(0))
    stepwise.follow(earlier)
    afresh = Totals()
    afresh.follow(earlier)
    assert stepwise.people == afresh.people
    moved = events[0].model_copy(update={"block_hash": Digest(bytes(32))})
    stepwise.follow(History.fold([moved], TokenUnits(0)))
    assert sum(vars(p) != vars(Person()) for p in stepwise.people.values()) <= 1


def test_a_round_that_is_over_is_counted_once(told: tuple[Stage, list[FederationEvent]]) -> None:
    stage, events = told
    history, totals = History.fold(events, TokenUnits(0)), Totals()
    totals.follow(history)
    seats = stage.sponsor.terms().seats
    first = totals.figures(history.rounds[RoundId(1)], seats)
    assert totals.figures(history.rounds[RoundId(1)], seats) is first


# -------------------------------------------------------------------------------------- words


def test_every_event_is_told_in_words(told: tuple[Stage, list[FederationEvent]]) -> None:
    _, events = told
    for event in events:
        said = tell(event)
        assert said.name.lower().replace(" ", "") == type(event).__name__.lower()
        if isinstance(event, RoundEvent):
            assert not re.search(r"[0-9a-f]{20}", said.text), said
        else:
            assert said.who is not None
    assert {type(event) for event in events if isinstance(event, RoundEvent)} <= {
        kind for kind in ev.EVENT_TYPES if issubclass(kind, RoundEvent)
    }


def test_an_event_of_a_later_contract_is_told_by_its_fields() -> None:
    class SumUnmasked(RoundEvent):
        """An event that this version does not know."""

        aggregator: Address
        sum_root: bytes
        peers: tuple[int, ...]
        seal_deadline: int
        is_whole: bool

    lead = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
    said = tell(
        SumUnmasked(
            block_number=7,
            block_hash=Digest(bytes(32)),
            transaction_hash=Digest(bytes(32)),
            log_index=0,
            round=RoundId(3),
            aggregator=lead,
            sum_root=bytes(range(32)),
            peers=(1, 2, 3),
            seal_deadline=1_800_000_000,
            is_whole=True,
        )
    )
    assert (said.name, said.who) == ("Sum unmasked", lead)
    assert said.text == (
        "sum root 0x0001…1e1f, peers of 3, seal deadline 1,800,000,000, is whole yes"
    )


def test_identifiers_are_shown_by_their_ends() -> None:
    assert short("0x70997970C51812dc3A010C7d01b50e0d17dc79C8") == "0x7099…79C8"
    assert short("cardiology") == "cardiology"


# ------------------------------------------------------------------------------------- phases


@pytest.mark.parametrize(
    ("status", "now"),
    [
        (Status.SEED, "draw"),
        (Status.UNSEEDED, "draw"),
        (Status.COMMIT, "commit"),
        (Status.EXPIRED, "propose"),
        (Status.CHALLENGE, "challenge"),
        (Status.SETTLEABLE, "settle"),
    ],
)
def test_a_round_is_at_one_of_its_phases(
    told: tuple[Stage, list[FederationEvent]], status: Status, now: str
) -> None:
    terms = told[0].sponsor.terms()
    steps = phases(status, terms)
    (at,) = [place for place, step in enumerate(steps) if step["state"] == "now"]
    assert steps[at]["name"] == now
    assert [step["state"] for step in steps] == ["done"] * at + ["now"] + ["to come"] * (
        len(steps) - at - 1
    )
    assert {step["state"] for step in phases(Status.FINALIZED, terms)} == {"done"}
    assert {step["state"] for step in phases(Status.ABANDONED, terms)} == {"to come"}
    # What only masked rounds have is no phase of a clear one.
    assert not {"seal", "unmask"} & {step["name"] for step in steps}
    masked = replace(terms, rules=replace(terms.rules, privacy=Privacy.MASKED))
    assert len(phases(status, masked)) >= len(steps)


# ------------------------------------------------------------------------------------- charts


def test_a_line_stays_inside_its_axes() -> None:
    points = [(0, 3.1), (1, 2.446), (2, 2.299), (3, 2.224)]
    chart = line(points)
    assert [row["label"] for row in chart["rows"]] == ["2", "2.25", "2.5", "2.75", "3", "3.25"]
    for dot in chart["dots"]:
        assert chart["left"] <= dot["x"] <= chart["right"]
        assert 0 < dot["y"] < chart["base"]
    heights = [dot["y"] for dot in chart["dots"]]
    assert heights == sorted(heights)  # a lower loss is further down
    assert chart["path"].startswith(f"M{chart['left']}")


@pytest.mark.parametrize("points", [[(0, 1.0), (1, 1.0)], [(5, 0.0), (9, 0.0)], [(1, 7.0)]])
def test_a_flat_line_has_axes_too(points: list[tuple[int, float]]) -> None:
    chart = line(points)
    assert len(chart["rows"]) >= 2
    assert all(0 <= dot["y"] <= chart["height"] for dot in chart["dots"])


def test_of_many_rounds_only_the_line_is_drawn() -> None:
    chart = line([(number, 3.0 - number / 1000) for number in range(1000)])
    assert chart["dots"] == []
    assert len(chart["columns"]) <= 8


def test_a_bar_adds_up() -> None:
    parts = bars([("a", 1), ("b", 0), ("c", 3)])
    assert [(each["key"], each["x"], each["width"]) for each in parts] == [
        ("a", 0.0, 250.0),
        ("c", 250.0, 750.0),
    ]
    assert bars([("a", 0)]) == []


def test_stacks_stand_on_the_ground() -> None:
    chart = stacks([(1, [("accepted", 3), ("rejected", 1)]), (2, [("accepted", 2)])])
    first, second, third = chart["boxes"]
    assert first["y"] + first["height"] == third["y"] + third["height"] == chart["height"]
    assert second["y"] == 0
    assert first["x"] + first["width"] < third["x"]


# ------------------------------------------------------------------------ times and documents


def test_blocks_are_asked_for_once(told: tuple[Stage, list[FederationEvent]]) -> None:
    stage, events = told
    asked: list[int] = []
    real = stage.w3.eth.get_block

    def get_block(number: int) -> Any:
        asked.append(number)
        return real(number)

    times = BlockTimes(SimpleNamespace(eth=SimpleNamespace(get_block=get_block)))  # type: ignore[arg-type]
    found = times.of(events)
    assert found == {e.block_number: real(e.block_number)["timestamp"] for e in events}
    assert times.of(events) == found
    assert len(asked) == len(set(asked)) == len(found)
    # A block that is not the event's own says nothing.
    gone = events[0].model_copy(update={"block_hash": Digest(bytes(32))})
    assert times.of([gone]) == {}
    times.stop()


def test_a_slow_node_leaves_times_for_later(
    told: tuple[Stage, list[FederationEvent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, events = told
    go = threading.Event()

    def get_block(number: int) -> Any:
        go.wait(20)
        return stage.w3.eth.get_block(number)

    monkeypatch.setattr(times_module, "_WAIT_S", 0.05)
    times = BlockTimes(SimpleNamespace(eth=SimpleNamespace(get_block=get_block)))  # type: ignore[arg-type]
    assert times.of(events[:1]) == {}
    go.set()
    deadline = time.monotonic() + 20
    while not times.of(events[:1]):
        assert time.monotonic() < deadline
    times.stop()


def test_a_document_is_fetched_once_and_asked_for_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    has: dict[Digest, bytes] = {}
    asked: list[Digest] = []
    came: list[None] = []

    def get_block(digest: Digest, size: int | None = None, deadline: float = 0.0) -> bytes:
        asked.append(digest)
        if digest not in has:
            raise Unavailable("the store does not have it")
        return has[digest]

    documents = Documents(SimpleNamespace(get_block=get_block), lambda: came.append(None))
    name = Digest(bytes(32))
    assert documents.get(name, bytes.decode) is None
    has[name] = b"text"
    assert documents.get(name, bytes.decode) is None  # not at once
    assert len(asked) == 1
    monkeypatch.setattr("explorer.documents._AGAIN_S", 0.0)
    assert documents.get(name, bytes.decode) == "text"
    assert documents.get(name, bytes.decode) == "text"
    assert (len(asked), len(came)) == (2, 1)
    documents.stop()
