"""A role says on chain where its blocks are, and what it does after a move."""

import pytest

from chain.federation import Federation
from protocol.errors import Misconfigured
from runtime import events
from runtime.announcing import Announcing, announce_now
from runtime.events import Event
from runtime.stores import StoreSettings
from tests.chain.stage import Stage, advance_to, now

OLD, NEW = "https://old.example", "https://new.example"
ID = "/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"


def stands(who: Federation) -> str:
    return who.history().announced[who.sender.address].whereabouts


def role(who: Federation, said: list[Event], *places: str) -> Announcing:
    """Return what announces for a role that was started anew."""
    return Announcing(who, StoreSettings(announce=places), said.append)


def test_a_role_that_moved_warns_once_and_announces_a_day_later(stage: Stage) -> None:
    who, said = stage.participants[0], list[Event]()
    before = role(who, said, OLD, ID)
    before.look()
    before.look()
    (first,) = said
    assert isinstance(first, events.PlacesAnnounced)
    assert (first.places, stands(who)) == (f"{OLD}, {ID}", f"{OLD}\n{ID}")
    made = who.history().announced[who.sender.address].block_number
    tomorrow = int(stage.w3.eth.get_block(made)["timestamp"]) + 86_400
    said.clear()
    moved = role(who, said, NEW)
    moved.look()
    moved.look()
    advice = "`commonweight store announce` says so now, for about 30,000 gas"
    waits = events.PlacesWait(places=NEW, stands=f"{OLD}, {ID}", until=tomorrow, advice=advice)
    assert said == [waits]
    advance_to(stage.w3, tomorrow - 60)
    moved.look()
    assert said == [waits]
    advance_to(stage.w3, tomorrow + 60)
    moved.look()
    moved.look()
    assert isinstance(said[-1], events.PlacesAnnounced)
    assert (len(said), stands(who)) == (2, NEW)


def test_a_role_without_a_place_says_nothing(stage: Stage) -> None:
    who, said = stage.participants[0], list[Event]()
    role(who, said).look()
    assert said == []
    assert who.sender.address not in who.history().announced


def test_an_operator_need_not_wait(stage: Stage) -> None:
    who, said = stage.participants[0], list[Event]()
    role(who, said, OLD).look()
    receipt = announce_now(who, StoreSettings(announce=(NEW,)))
    assert receipt is not None
    assert stands(who) == NEW
    assert announce_now(who, StoreSettings(announce=(NEW,))) is None
    at = now(stage.w3)
    role(who, said, NEW).look()
    assert len(said) == 1  # the running role finds that it stands
    assert now(stage.w3) - at < 60
    with pytest.raises(Misconfigured, match=r"nothing to announce.*docs/stores\.md"):
        announce_now(who, StoreSettings())
