"""Whose announcements are read, and in which order."""

import pytest

from chain import announcements
from chain.announcements import (
    Announcement,
    NextAnnouncement,
    describe_announcements,
    next_announcement,
    read_announcements,
)
from protocol.types import RoundId, UnixTime
from protocol.whereabouts import parse_whereabouts
from tests.chain.stage import Stage, mine

ID = "/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"


def read(stage: Stage) -> list[Announcement]:
    return read_announcements(stage.sponsor.now())


def test_aggregators_are_asked_first_and_authors_last(either_stage: Stage) -> None:
    stage = either_stage
    stage.open()
    speakers = (stage.participants[1], stage.sponsor, stage.lead, stage.participants[0])
    for number, speaker in enumerate(speakers):
        speaker.announce(f"https://{number}.example/x\njunk\n{ID}")
    found = read(stage)
    assert [each.role for each in found] == ["aggregator", "sponsor", *["participant"] * 2]
    assert [each.places[0].line for each in found[:2]] == [
        "https://2.example/x",
        "https://1.example/x",
    ]
    assert {each.who for each in found[2:]} == {
        each.sender.address for each in stage.participants[:2]
    }
    assert all(each.places[1].line == ID for each in found)


def test_strangers_and_aggregators_without_a_bond_are_not_read(stage: Stage) -> None:
    for speaker in (stage.outsider, stage.standby):
        speaker.announce("https://stranger.example")
    assert read(stage) == []
    stage.standby.bond()
    (bonded,) = read(stage)
    assert (bonded.role, bonded.who) == ("aggregator", stage.standby.sender.address)


def test_who_led_is_read_when_the_bond_is_taken_back(stage: Stage) -> None:
    """Audits begin when a federation is over, and by then nobody is bonded."""
    stage.finalize()
    for aggregator in (stage.lead, stage.standby):
        aggregator.announce("https://led.example")
    stage.sponsor.close()
    stage.lead.unbond()
    (led,) = read(stage)
    assert (led.role, led.who) == ("aggregator", stage.lead.sender.address)


def test_who_left_is_read_while_its_update_is_in_the_round(stage: Stage) -> None:
    author = stage.participants[0]
    author.announce("https://ann.example")
    stage.open()
    stage.commit(author, RoundId(1))
    author.leave()
    assert [each.who for each in read(stage)] == [author.sender.address]
    other = stage.participants[1]
    other.announce("https://bob.example")
    other.leave()
    assert [each.who for each in read(stage)] == [author.sender.address]


def test_the_last_announcement_holds(stage: Stage) -> None:
    stage.open()
    author = stage.participants[0]
    author.announce("https://old.example")
    author.announce("nothing that anybody understands")
    (made,) = read(stage)
    assert made.places == ()
    receipt = author.announce("https://new.example")
    (made,) = read(stage)
    assert made.places == parse_whereabouts("https://new.example")
    assert describe_announcements([made]) == {
        author.sender.address: {
            "role": "participant",
            "block": receipt.block_number,
            "places": ["https://new.example"],
        }
    }


def test_what_stands_is_not_announced_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    who = stage.participants[0]
    assert next_announcement(who, "") is None
    assert next_announcement(who, "https://a.example") == NextAnnouncement(UnixTime(0), "")
    made = who.announce("https://a.example")
    assert next_announcement(who, "https://a.example") is None
    # Another place has to wait for a day.
    tomorrow = int(stage.w3.eth.get_block(made.block_number)["timestamp"]) + 86_400
    waits = NextAnnouncement(UnixTime(tomorrow), "https://a.example")
    assert next_announcement(who, "https://b.example") == waits
    # Repeated before nodes forget it.
    monkeypatch.setattr(announcements, "REPEAT_BLOCKS", 2)
    assert next_announcement(who, "https://a.example") is None
    mine(stage.w3, 2)
    assert next_announcement(who, "https://a.example") == waits
