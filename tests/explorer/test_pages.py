"""What each page says, and that its twin in JSON says the same."""

import hashlib
import json
import re
import time
from pathlib import Path
from threading import Event

import pytest

from contracts.enums import Status
from explorer import pages
from explorer.pages import relative, size_of
from protocol.cid import raw_cid
from protocol.text import printable
from protocol.types import RoundId, format_tokens
from tests.explorer.shown import HOSTILE_MODEL, HOSTILE_NAME, Page, Shown
from tests.world import TOKEN

PATHS = (
    *("", "/rounds/1", "/rounds/2", "/rounds/3", "/audit"),
    *("/models/0", "/models/2", "/participants/{bob}", "/participants/{lead}"),
)


def path_of(shown: Shown, path: str) -> str:
    lead = shown.world.aggregator_wallet.address
    return path.format(bob=shown.world.address_of("bob"), lead=lead)


def every_page(shown: Shown) -> list[Page]:
    return [shown.page(path_of(shown, path)) for path in PATHS] + [shown.page("/federations")]


# ------------------------------------------------------------------------------- each page


def test_the_list_has_all_federations_of_the_factory(shown: Shown) -> None:
    (row,) = [r for r in shown.json("/federations")["federations"] if r["federation"] in shown.here]
    assert (row["update_reward"], row["participant_stake"]) == (20 * TOKEN + 1, 50 * TOKEN)
    assert (row["participants"], row["by_invitation"], row["over"]) == (3, False, False)
    page = shown.page("/federations")
    assert shown.here in page.links()
    assert "open to join" in page.text


def test_the_list_is_read_again_beside_the_page(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = shown.json("/federations")["federations"]
    assert len(before) > 0
    go, asked = Event(), []

    def read(*what: object) -> list[dict[str, object]]:
        asked.append(what)
        go.wait(20)
        return []

    monkeypatch.setattr("explorer.federations._LIST_AGAIN_S", 0.0)
    monkeypatch.setattr("explorer.federations.list_federations", read)
    shown.federations._list_again_at = 0.0
    deadline = time.monotonic() + 20
    while not asked:
        assert shown.json("/federations")["federations"] == before  # does not wait
        assert time.monotonic() < deadline
    go.set()
    while shown.json("/federations")["federations"]:
        assert time.monotonic() < deadline
    monkeypatch.undo()
    while not shown.json("/federations")["federations"]:
        shown.federations._list_again_at = 0.0
        assert time.monotonic() < deadline


def test_a_federation_says_what_is_due_and_where_its_money_is(shown: Shown) -> None:
    told, page = shown.json(), shown.page()
    assert (told["state"], told["now"]["round"], told["now"]["phase"]) == ("open", 3, "reveal")
    assert [step["name"] for step in told["now"]["phases"] if step["state"] == "now"] == ["reveal"]
    assert told["now"]["doing"] == "0 of 3 revealed"
    assert "ends in" in page.text
    money = told["money"]
    assert sum(part["amount"] for part in money["parts"]) == money["received"]
    assert money["unaccounted"] == 0
    assert money["origin"] == "recomputed"
    assert sum(each["width"] for each in money["bar"]) == pytest.approx(1000, abs=0.1)
    for part in money["parts"]:
        assert f"{format_tokens(part['amount'])}" in page.text
    by_name = {each["address"]: each for each in told["participants"]}
    bob = by_name[shown.world.address_of("bob")]
    # 20 of a cap of 25 examples in round 1, a zero update in round 2.
    assert (bob["earned"], bob["paid"], bob["committed"]) == (16 * TOKEN, 1, 3)
    assert (bob["stake"], bob["credit"]) == (50 * TOKEN, 16 * TOKEN)
    assert told["in_words"]["pays"] in page.text
    assert [row["round"] for row in told["round_rows"]] == [3, 2, 1]
    assert [row["accepted"] for row in told["round_rows"]] == [0, 2, 3]
    assert [row["origin"] for row in told["round_rows"]] == ["chain", "recomputed", "recomputed"]


def test_losses_of_this_machines_run_are_said_to_be_a_claim(shown: Shown) -> None:
    losses = shown.json()["losses"]
    assert losses["source"] == "run"
    assert [point["loss"] for point in losses["points"]] == [3.1, 2.446, 2.299]
    page = shown.page()
    assert "3.100 after round 0, 2.299 after round 2" in page.text
    assert "The aggregator of the run on this machine reported it" in page.text


def test_a_round_says_why_each_update_was_paid_what_it_was(shown: Shown) -> None:
    told, page = shown.json("/rounds/2"), shown.page("/rounds/2")
    assert (told["status"], told["accepted"], told["rejected"]) == ("finalized", 2, 1)
    updates = {each["name"] or each["address"]: each for each in told["updates"]}
    bob = updates[HOSTILE_NAME]
    assert (bob["paid"], bob["verdict"]["reason"], bob["outcome"]) == (0, 9, "rejected")
    assert bob["why"] == "rejected by check 9 (zero): the update changes nothing"
    results = [check["result"] for check in bob["verdict"]["checks"]]
    assert results == ["passed"] * 8 + ["failed"] + ["not looked at"] * 3
    cem = updates[shown.world.address_of("cem")]
    assert (cem["paid"], cem["verdict"]["weight"], cem["audit"]) == (20 * TOKEN + 1, 25, "passed")
    assert bob["why"] in page.text
    assert "failed check 9" in {each.get("aria-label") for each in page.all("svg")}
    finalized = shown.world.told(RoundId(2)).finalized
    assert finalized is not None
    assert told["model"]["after"] == {
        "round": 2,
        "root": finalized.root.hex(),
        "cid": raw_cid(finalized.manifest),
    }
    assert told["audit"]["result"] == "passed"
    assert told["origin"] == "recomputed"


def test_a_rounds_timeline_has_every_transaction_in_order(shown: Shown) -> None:
    rows = shown.json("/rounds/2")["timeline"]
    told = shown.world.told(RoundId(2))
    assert {row["transaction"] for row in rows} == {
        "0x" + event.transaction_hash.hex() for event in told.events
    }
    assert [row["block"] for row in rows] == sorted(row["block"] for row in rows)
    assert all(row["time"] for row in rows)
    names = [row["event"] for row in rows]
    assert names[:2] == ["Round opened", "Seed fixed"]
    assert names.count("Committed") == names.count("Revealed") == 3
    (paid,) = [row for row in rows if row["event"] == "Paid"]
    assert (paid["count"], paid["amount"]) == (2, sum(event.amount for event in told.paid))
    assert "2 participants were credited 28.00 in all" in shown.page("/rounds/2").text


def test_an_open_round_says_until_when(shown: Shown) -> None:
    told = shown.json("/rounds/3")
    assert told["status"] == "reveal"
    assert told["until"] == told["deadlines"]["reveal"]
    assert told["until"] > told["time"]
    assert [each["outcome"] for each in told["updates"]] == ["open"] * 3
    assert told["model"]["after"] is None
    assert told["origin"] == "chain"


def test_a_participant_reads_why_it_was_not_paid(shown: Shown) -> None:
    path = path_of(shown, "/participants/{bob}")
    told, page = shown.json(path), shown.page(path)
    assert told["figures"]["earned"] == 16 * TOKEN
    why = "rejected by check 9 (zero): the update changes nothing"
    assert told["not_paid"] == [{"why": why, "rounds": 1}]
    assert told["outcomes"] == {"open": 1, "paid": 1, "rejected": 1}
    assert [row["round"] for row in told["round_rows"]] == [3, 2, 1]
    assert why in page.text
    lead = shown.json(path_of(shown, "/participants/{lead}"))
    assert (lead["aggregates"], lead["has_seat"]) == ("bonded", False)
    assert lead["figures"]["fees"] > 0
    stranger = shown.page("/participants/0x" + 40 * "1")
    assert "It never had a seat in this federation" in stranger.text


def test_the_audit_lists_every_check(shown: Shown) -> None:
    told, page = shown.json("/audit"), shown.page("/audit")
    assert (told["failed"], told["unchecked"], told["enabled"]) == (0, 0, True)
    assert told["made"] == told["passed"] == sum(row["passed"] for row in told["sections"])
    # Two settled rounds, and what can be said of the open one.
    assert [row["round"] for row in told["round_rows"]] == [3, 2, 1]
    assert f"All {told['made']} checks passed" in page.text
    for check in told["general"]:
        assert check["claim"] in page.text
    assert shown.world.daemon.url in page.text


def test_a_model_says_how_to_use_it(shown: Shown) -> None:
    told, page = shown.json("/models/2"), shown.page("/models/2")
    assert (told["is_current"], told["previous"], told["next"]) == (True, 1, None)
    assert (told["accepted"], told["origin"], told["is_in_store"]) == (2, "recomputed", True)
    assert f'commonweight model chat "…" --adapter {told["model"]["cid"]}' in page.text
    assert told["model"]["root"] in page.text
    assert "Download" not in page.text  # without a base model there is nothing to export by
    first = shown.json("/models/0")
    assert (first["model"]["round"], first["origin"], first["loss"]) == (0, "recomputed", 3.1)


@pytest.mark.parametrize("path", PATHS)
def test_each_page_is_its_twin(shown: Shown, path: str) -> None:
    path = path_of(shown, path)
    page, told = shown.page(path), shown.json(path)
    assert f"{shown.here}{path}.json" in page.links()
    assert told["federation"] == shown.world.address
    (main,) = page.all("main")
    assert main["data-now"] is not None
    # Whatever the page links to is there.
    for link in page.links():
        if link.startswith("/"):
            assert shown.http.get(link.partition("#")[0]).status_code == 200, link


def test_long_tables_are_cut_into_pages(shown: Shown) -> None:
    assert [row["round"] for row in shown.json("")["round_rows"]] == [3, 2, 1]
    answer = shown.http.get(f"{shown.here}.json?before=3").json()
    assert [row["round"] for row in answer["round_rows"]] == [2, 1]
    assert answer["newer"] is True
    assert shown.http.get(f"{shown.here}?before=0").status_code == 400
    assert shown.http.get(f"{shown.here}?before=1e9").status_code == 400


# ------------------------------------------------------------------- what a reader needs


def test_pages_can_be_walked_without_seeing_them(shown: Shown) -> None:
    for page in every_page(shown):
        assert page.all("html")[0]["lang"] == "en"
        assert len(page.all("main")) == len(page.all("h1")) == 1
        assert {"href": "#main", "class": "skip"} in page.all("a")
        assert any(each.get("aria-live") == "polite" for each in page.all("p"))
        # Every table has a caption, every column a header, every drawing a text.
        assert len(page.all("table")) == len(page.all("caption"))
        assert all(each.get("scope") in ("col", "row") for each in page.all("th"))
        for drawing in page.all("svg"):
            is_named = drawing.get("aria-labelledby") or drawing.get("aria-label")
            assert is_named or drawing.get("aria-hidden") == "true"
        assert all(each.get("aria-label") for each in page.all("button"))
        ids = [each["id"] for _, each in page.elements if "id" in each]
        assert len(ids) == len(set(ids))


def test_times_have_their_date_behind(shown: Shown) -> None:
    for each in shown.page("/rounds/2").all("time"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(each["datetime"]))
        assert str(each["title"]).endswith(" UTC")
    assert relative(1000, 760) == "in 4 minutes"
    assert relative(1000, 1000 + 3 * 86_400) == "3 days ago"
    assert relative(1000, 999) == "in 1 second"
    assert relative(1000, 1000) == "now"
    assert (size_of(999), size_of(1_840_000)) == ("999 bytes", "1.84 MB")


# ----------------------------------------------------------------- what strangers wrote


def test_what_strangers_wrote_stays_text(shown: Shown) -> None:
    for page in every_page(shown):
        for tag, attributes in page.elements:
            assert tag not in ("img", "iframe", "style", "form", "object", "base")
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            if tag == "script":
                assert str(attributes["src"]).startswith("/static/")
            for name in ("href", "src"):
                assert str(attributes.get(name) or "/").startswith(("/", "#"))
        assert "\x1b" not in page.source
        assert "\u202e" not in page.source
    assert printable(HOSTILE_NAME) in shown.page().text
    told = shown.json()
    assert told["base_model"] == HOSTILE_MODEL  # as it is: JSON needs no escaping of markup
    assert r"onerror=alert(1)>\x1b[31m\u202e" in shown.page().text


def test_json_is_json(shown: Shown) -> None:
    answer = shown.http.get(f"{shown.here}.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    json.loads(answer.text, parse_constant=pytest.fail)  # no NaN


def test_code_by_others_is_what_it_is_said_to_be() -> None:
    static = Path(pages.__file__).parent / "static"
    rows = (static / "VENDORED.md").read_text()
    listed = re.findall(r"\| `(\S+)` \|.*\| `([0-9a-f]{64})` \|", rows)
    assert listed
    for name, digest in listed:
        assert hashlib.sha256((static / name).read_bytes()).hexdigest() == digest
    ours = {"explorer.js", "explorer.css", "icon.svg", "VENDORED.md"}
    assert {path.name for path in static.iterdir()} == ours | {name for name, _ in listed}


def test_no_template_marks_anything_safe() -> None:
    folder = Path(pages.__file__).parent
    files = [*folder.glob("templates/*.html"), folder / "pages.py"]
    assert len(files) > 8
    for file in files:
        assert not re.search(r"\|\s*safe|autoescape false|Markup\(", file.read_text()), file


# ------------------------------------------------------------------------------ nothing there


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/rounds/9", "round 9 was not opened"),
        ("/models/3", "round 3 has no settled model"),
        ("/participants/nobody", "expected 0x and 40 hex digits"),
    ],
)
def test_what_is_not_there_is_said(shown: Shown, path: str, reason: str) -> None:
    assert reason in shown.page(path, 404).text
    assert reason in shown.json(path, 404)["error"]


def test_an_address_without_a_federation_is_said(shown: Shown) -> None:
    page = shown.page(f"/federations/{shown.world.token.address}", 404)
    assert "is not a federation of this version" in page.text
    assert "no contract at" in shown.json("/federations/0x" + 40 * "0", 404)["error"]
    assert shown.page("/federations/0x12", 404)


def test_an_address_in_any_case_will_do(shown: Shown) -> None:
    assert shown.json(shown.here.lower())["federation"] == shown.world.address


def test_the_world_was_played(shown: Shown) -> None:
    assert shown.world.client().status(RoundId(3)) is Status.REVEAL
