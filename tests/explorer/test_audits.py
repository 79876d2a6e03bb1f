"""The audit beside the pages: what fails, what cannot be checked, and what is tried again."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts.enums import Status
from explorer import audits as module
from protocol.cid import raw_cid
from protocol.errors import Unavailable
from protocol.types import RoundId
from tests.disputes.lies import averaging, off_by_one
from tests.explorer.shown import Shown
from tests.world import World

_WAIT_S = 60.0


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path / "world", rounds=4) as world:
        yield world


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_what_is_false_fails_and_what_is_missing_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    averaging(off_by_one)(world)
    assert world.settle(RoundId(1)) is Status.FINALIZED
    assert world.play() is Status.FINALIZED
    # Nobody has ann's update of round 2 any more.
    for reveal in world.told(RoundId(2)).reveals:
        if reveal.participant == world.address_of("ann"):
            kept = [world.store.get_block(reveal.manifest)]
            world.withhold(reveal.manifest)
    with Shown(world) as shown:
        told = shown.wait_for_audit(rounds=2)
        assert {check["round"] for check in told["failures"]} == {1}
        assert all(check["section"] == "§7" for check in told["failures"])
        assert told["unchecked"] == len(told["unchecked_checks"]) >= 2
        assert {check["round"] for check in told["unchecked_checks"]} == {2}
        page = shown.page("/audit")
        assert f"{told['failed']} of {told['made']} checks failed" in page.text
        assert "They are no failures, and are tried again" in page.text
        rows = {row["round"]: row for row in shown.json()["round_rows"]}
        assert (rows[1]["audit"], rows[1]["origin"]) == ("failed", "differs")
        assert (rows[2]["audit"], rows[2]["origin"]) == ("unchecked", "differs")
        assert "came to another result than was proposed" in shown.page("/rounds/1").text
        assert shown.json("/models/1")["origin"] == "differs"
        ann = next(
            each
            for each in shown.json("/rounds/2")["updates"]
            if each["address"] == world.address_of("ann")
        )
        assert ann["audit"] == "unchecked"
        assert "here: could not check" in shown.page("/rounds/2").text
        # What could not be checked is tried again after a while, and nothing else.
        made = {row["round"]: row["made_at"] for row in told["round_rows"]}
        monkeypatch.setattr(module, "_AGAIN_S", 0.0)
        wait_until(lambda: _made_at(shown, 2) > made[2])
        assert _made_at(shown, 1) == made[1]
        assert kept


def _made_at(shown: Shown, number: int) -> float:
    rows = {row["round"]: row["made_at"] for row in shown.json("/audit")["round_rows"]}
    return float(rows[number])


def test_a_new_round_alone_is_recomputed(world: World) -> None:
    world.play()
    with Shown(world) as shown:
        first = shown.wait_for_audit(rounds=1)
        world.play()
        second = shown.wait_for_audit(rounds=2)
        assert second["failed"] == second["unchecked"] == 0
        assert _made_at(shown, 1) == first["round_rows"][0]["made_at"]
        # What is of the whole federation stands as often as before, made anew.
        claims = [check["claim"] for check in second["general"]]
        assert len(claims) == len(set(claims)) == len(first["general"])
        assert shown.json()["money"]["origin"] == "recomputed"


def test_a_spec_that_is_missing_is_said(world: World) -> None:
    world.play()
    digest = world.spec.digest()
    block = world.store.get_block(digest)
    world.store.remove_blocks({digest})
    with Shown(world) as shown:
        wait_until(lambda: shown.json("/audit")["standing"] == "done")
        told = shown.json("/audit")
        assert (told["made"], told["unchecked"], told["audited_rounds"]) == (1, 1, 0)
        assert raw_cid(digest) in told["unchecked_checks"][0]["detail"] or told["unchecked"] == 1
        page = shown.page("")
        assert "A federation" in page.text
        assert "does not have the spec" in shown.page("/models/1").text
    world.store.put_block(block)


def test_an_audit_that_ends_early_says_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*what: object) -> None:
        raise Unavailable("the Ethereum RPC does not answer", service="chain")

    monkeypatch.setattr(module, "Audit", gone)
    with Shown(world) as shown:
        wait_until(lambda: shown.json("/audit")["error"] is not None)
        text = shown.page("/audit").text
        assert "ended early: the Ethereum RPC does not answer" in text
        assert "tried again in a minute" in text
        monkeypatch.undo()
        monkeypatch.setattr(module, "_AGAIN_S", 0.0)
        wait_until(lambda: shown.json("/audit")["error"] is None)


def test_what_was_recomputed_before_comes_from_the_cache(world: World, tmp_path: Path) -> None:
    world.play()
    folder = tmp_path / "kept"
    with Shown(world, folder=folder) as shown:
        assert shown.wait_for_audit(rounds=1)["from_cache"] == 0
    with Shown(world, folder=folder) as shown:
        assert shown.wait_for_audit(rounds=1)["from_cache"] == 1
        assert "taken from an earlier audit" in shown.page("/rounds/1").text
