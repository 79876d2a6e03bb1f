"""The page: everything an audit found is in it, and nothing that a stranger wrote is markup."""

import dataclasses
import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import aggregator as module
from auditor import report
from auditor.check_result import CheckResult, printable
from auditor.findings import Findings, collect
from auditor.replay import Audit
from auditor.report import render
from commonweight.cli import main
from contracts.enums import Status
from protocol.cid import raw_cid
from protocol.types import RoundId
from tests.disputes.lies import off_by_one
from tests.storage.lying_proxy import LyingProxy
from tests.world import World

HOSTILE = st.text() | st.sampled_from(
    [
        "<script>alert(1)</script>",
        "</td></table><img src=x onerror=alert(1)>",
        '"><svg/onload=alert(1)>',
        "' onmouseover='alert(1)",
        "</style><style>*{display:none}",
        "&lt;b&gt; &#60;b&#62;",
        "\x1b[2J\x1b[31mok  §7  all is well",
        "\u202egnp.exe",
        "\ud800",
        "]]><!--",
    ]
)


class Reading(HTMLParser):
    """Notes elements, attributes and text, and that every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError("no comment was written")

    @property
    def text(self) -> str:
        return "".join(self.texts)


OURS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "b", "code", "pre"),
    *("dl", "dt", "dd", "div", "section", "span", "br", "ul", "li", "details", "sup", "summary"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


def assert_harmless(text: str) -> Reading:
    reading = Reading(text)
    assert reading.tags <= OURS
    assert reading.attributes <= {"class", "title", "lang", "charset", "name", "content"} | {
        "http-equiv"
    }
    assert reading.open == []
    return reading


@pytest.fixture(scope="module")
def findings(played: World, tmp_path_factory: pytest.TempPathFactory) -> Findings:
    audit = Audit(played.client(), played.store, tmp_path_factory.mktemp("audit"))
    return collect(
        audit,
        list(audit.run()),
        rounds=None,
        made_at=datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC),
        command="commonweight audit run",
        version="9.9.9",
    )


def test_everything_is_on_the_page(findings: Findings, played: World) -> None:
    reading = assert_harmless(render(findings))
    text = reading.text
    assert f"All {len(findings.checks)} checks passed" in text
    for check in findings.checks:
        assert check.claim in text
        assert check.detail in text
    for found in findings.rounds:
        history = found.history
        assert f"Round {history.round_id}: finalized" in text
        assert history.proposed is not None
        assert history.proposed.root.hex() in text
        assert raw_cid(history.proposed.manifest) in text
        for reveal in history.revealed:
            assert reveal.participant in text
            assert reveal.root.hex() in text
            assert f"0x{reveal.transaction_hash.hex()}" in text
        for paid in history.paid:
            assert f"{paid.amount:,}" in text
    assert "accepted, weight 25" in text
    assert f"{findings.accounts.received:,}" in text
    assert findings.block_hash.hex() in text
    for words in ("2031-02-03 04:05:06 UTC", "9.9.9", "31337", played.daemon.url, "audit run"):
        assert words in text


@settings(max_examples=40, deadline=None)
@given(hostile=HOSTILE)
def test_what_strangers_write_stays_text(findings: Findings, hostile: str) -> None:
    assert findings.spec is not None
    base = findings.spec.base_model.model_copy(update={"name": hostile, "revision": hostile})
    checks = (CheckResult("§6", RoundId(1), hostile, False, hostile), *findings.checks)
    rounds = tuple(dataclasses.replace(r, checks=checks[:1]) for r in findings.rounds)
    bent = dataclasses.replace(
        findings,
        spec=findings.spec.model_copy(update={"base_model": base}),
        checks=checks,
        rounds=rounds,
        node=hostile,
        store=hostile,
        command=hostile,
        challenges=(hostile,),
        versions={hostile: hostile},
    )
    text = render(bent)
    text.encode()  # no half of a surrogate pair
    reading = assert_harmless(text)
    assert printable(hostile) in reading.text
    assert f"1 of {len(checks)} checks failed" in reading.text


@given(text=HOSTILE)
def test_a_line_of_an_audit_is_one_line(text: str) -> None:
    line = CheckResult("§6", None, text, False, text).line()
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_attributes_cannot_be_left(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(report._ENVIRONMENT.filters, "cid", lambda digest: '"><script>')
    template = report._ENVIRONMENT.get_template("audit.html")
    monkeypatch.setattr(report, "_TEMPLATE", template)
    reading = assert_harmless(render(findings))
    assert '"><script>' in reading.text
    assert "script" not in reading.tags


def test_no_value_is_marked_safe() -> None:
    folder = Path(report.__file__).parent
    for file in (folder / "templates" / "audit.html", folder / "report.py"):
        text = file.read_text()
        assert not re.search(r"\|\s*safe|autoescape false|Markup\(", text), file


# ---------------------------------------------------------------------- as the program does it


def audit_run(world: World, *arguments: str) -> Result:
    endpoints = ["--rpc", world.rpc_url, "--ipfs", world.daemon.url]
    return CliRunner().invoke(main, ["audit", "run", world.address, *endpoints, *arguments])


def as_object(result: Result) -> Any:
    return json.loads(result.stdout)


def test_the_json_object_and_the_page_say_the_same(played: World, tmp_path: Path) -> None:
    arguments = ["--cache", str(tmp_path / "cache"), "--confirmations", "0", "--json"]
    first = as_object(audit_run(played, *arguments))
    assert (first["failed"], first["cached"]) == (0, 0)
    assert [row["status"] for row in first["rounds"]] == ["finalized", "finalized"]
    assert first["rounds"][0] | {"model_root": ""} == {
        "round": 1,
        "status": "finalized",
        "passed": True,
        "cached": False,
        "asked": 3,
        "committed": 3,
        "revealed": 3,
        "accepted": 3,
        "paid": 44 * 10**18 + 1,  # weights of 10, 20 and 25, of a cap of 25
        "model_root": "",
    }
    page = tmp_path / "new" / "audit.html"
    second = as_object(audit_run(played, *arguments, "--report", str(page)))
    assert second["cached"] == 2
    assert second["checks"] == first["checks"]
    text = assert_harmless(page.read_text()).text
    assert "recomputed earlier" in text
    assert "2 of 2 rounds" in text
    assert f"commonweight audit run {played.address} --rpc {played.rpc_url}" in text
    alone = as_object(audit_run(played, "--no-cache", "--round", "2", "--json"))
    assert [row["round"] for row in alone["rounds"]] == [2]
    assert alone["cached"] == 0


def test_mistakes_are_one_line(played: World, tmp_path: Path) -> None:
    gone = audit_run(played, "--no-cache", "--round", "7")
    assert gone.exit_code == 1
    assert "error: round 7 was not opened before block" in gone.stderr
    blocked = audit_run(played, "--no-cache", "--report", f"{__file__}/audit.html")
    assert blocked.exit_code == 1
    assert blocked.stderr.splitlines()[-1].startswith("error: report ")
    (tmp_path / "file").write_text("")
    no_cache = audit_run(played, "--cache", str(tmp_path / "file"))
    assert no_cache.exit_code == 1
    assert no_cache.stderr.startswith("error: cache ")
    assert len(no_cache.stderr.splitlines()) == 1


def test_a_failing_audit_has_its_page_too(tmp_path: Path) -> None:
    with World(tmp_path / "world") as world:
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "average_layers", lambda *a, **_: off_by_one(*a))
            world.aggregator.propose(round_id)
        assert world.settle(round_id) is Status.FINALIZED
        path = tmp_path / "audit.html"
        done = audit_run(world, "--no-cache", "--report", str(path))
        assert done.exit_code == 1
        text = assert_harmless(path.read_text()).text
        assert re.search(r"1 of \d\d checks failed", text)
        assert "leaf 8: value 70 of layer a.lora_B.weight" in text
        with LyingProxy(world.daemon.url) as proxy:
            proxy.lose(raw_cid(world.spec.digest()))
            endpoints = ["--rpc", world.rpc_url, "--ipfs", proxy.url, "--no-cache"]
            # As a block explorer of another habit spells it, without EIP-55's capitals.
            address = world.address.lower()
            arguments = ["audit", "run", address, *endpoints, "--report", str(path)]
            assert CliRunner().invoke(main, arguments).exit_code == 3
        text = assert_harmless(path.read_text()).text
    assert "1 of 1 checks could not be made, none failed" in text
    assert "Round 1: finalized not all checked" in text
    assert "could not find it" in text
