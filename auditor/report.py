"""An audit as one page of HTML: to be read, printed and kept.

    path.write_text(render(findings))

The page loads nothing and runs nothing. Manifests and daemons of strangers are quoted in it, so
everything but our own markup is escaped (`auditor.markup`).
"""

from datetime import UTC
from typing import Final

from auditor.check_result import CheckResult
from auditor.findings import Findings, RoundFinding, token_totals
from auditor.markup import Html, element, facts, joined, page, table
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.types import Address, Digest, RoundId
from protocol.verdict import Verdict
from rounds.compare import WrongValue

_RESULTS: Final = {True: "pass", False: "FAIL", None: "could not check"}


def render(findings: Findings) -> str:
    """Return the page."""
    return page(
        f"Audit of {findings.federation}, block {findings.block}",
        _summary(findings),
        *(_wrong_value(check.round_id, check.wrong_value) for check in _wrong(findings)),
        _federation(findings),
        *(_round(found) for found in findings.rounds),
        _tokens(findings),
        _repeat(findings),
    )


def _summary(findings: Findings) -> Html:
    count = len(findings.checks)
    if findings.failed:
        banner = element("p", f"{findings.failed} of {count} checks failed", class_="banner bad")
    elif findings.unchecked:
        text = f"{findings.unchecked} of {count} checks could not be made, none failed"
        banner = element("p", text, class_="banner unknown")
    else:
        banner = element("p", f"All {count} checks passed", class_="banner good")
    made = findings.made_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    told = [element("li", line) for line in findings.challenges or ()]
    return joined(
        element("h1", "Audit of a federation"),
        element("p", _code(findings.federation)),
        banner,
        joined(element("h3", "Shown to the contract"), element("ul", *told)) if told else "",
        facts(
            {
                "audited": made,
                "chain id": findings.chain_id,
                "block": joined(f"{findings.block}, ", _code(findings.block_hash.hex())),
                "Ethereum node": findings.node,
                "IPFS daemon": findings.store,
                "from the cache": _cached(findings),
            }
        ),
    )


def _cached(findings: Findings) -> str | None:
    if not findings.cached:
        return None
    return (
        f"{findings.cached} of {len(findings.rounds)} rounds, which this machine recomputed in an"
        " earlier audit and which have not changed since"
    )


def _wrong(findings: Findings) -> list[CheckResult]:
    return [check for check in findings.checks if check.wrong_value is not None]


def _wrong_value(round_id: RoundId | None, wrong: WrongValue | None) -> Html:
    """Show the first leaf that is not the mean, with all that the mean is made of."""
    assert wrong is not None
    rows: list[list[object]] = [
        [f"accepted update {number}", weight, value]
        for number, (weight, value) in enumerate(zip(wrong.weights, wrong.values, strict=True), 1)
    ]
    rows.append(
        [element("b", "the weighted mean"), sum(wrong.weights), element("b", wrong.expected)]
    )
    found = element("span", wrong.found, class_="bad")
    rows.append([element("b", "the model proposed"), "", found])
    header = [("stored integer of", ""), ("weight", "number"), ("value", "number")]
    where = (
        f"Round {round_id}, leaf {wrong.leaf}: value {wrong.place} of layer {wrong.layer}. The"
        " updates stand in ascending order of participant (docs/protocol.md §7)."
    )
    title = element("h2", "The first value that is wrong")
    return element("section", title, element("p", where), table(header, rows))


def _federation(findings: Findings) -> Html:
    terms, spec = findings.terms, findings.spec
    base = spec.base_model if spec else None
    known = {
        "spec": _code(terms.spec_digest.hex()),
        "base model": f"{base.name}, revision {base.revision}" if base else None,
        "layers": f"{len(spec.layers)}, {spec.total_bytes:,} bytes an update" if spec else None,
        "leaves": f"{terms.leaf_count:,} of {terms.leaf_values} values",
        "first model": _code(terms.initial_model_root.hex()),
        "rounds": f"{len(findings.rounds)} audited, {terms.rounds} at most",
        "reward of a round": f"{terms.round_reward:,} token units",
        "fee of a round": f"{terms.aggregator_fee:,} token units",
        "weight cap": terms.weight_cap,
        "token": _code(terms.token),
    }
    checks = [check for check in findings.checks if check.round_id is None]
    return element("section", element("h2", "Federation"), facts(known), _checks(checks))


def _round(found: RoundFinding) -> Html:
    history = found.history
    state = {True: "passed", False: "failed", None: "not all checked"}[found.passed]
    badges = [element("span", state, class_=f"badge {_kind(found.passed)}")]
    if found.from_cache:
        badges.append(element("span", "recomputed earlier", class_="badge faint"))
    proposed = history.proposed
    told = {
        "seed": _code(history.opened.seed.hex()),
        "aggregator": _code((proposed or history.opened).aggregator),
        "model": _code(proposed.root.hex()) if proposed else "none was proposed",
        "manifest": _code(raw_cid(proposed.manifest)) if proposed else None,
        "finalized in": _place(found),
    }
    return element(
        "section",
        element("h2", f"Round {history.round_id}: {found.status} ", *badges),
        facts(told),
        _participants(found),
        element("h3", "Checks"),
        _checks(list(found.checks)),
        _transactions(found),
    )


def _place(found: RoundFinding) -> Html | None:
    finalized = found.history.finalized
    if finalized is None:
        return None
    return joined(f"block {finalized.block_number}, ", _code(finalized.block_hash.hex()))


def _participants(found: RoundFinding) -> Html:
    """Show what everybody did who was asked or who committed all the same."""
    history = found.history
    committed = {event.participant for event in history.committed}
    revealed = {event.participant: event for event in history.revealed}
    paid = {event.participant: event.amount for event in history.paid}
    verdicts = {v.participant: v for v in (history.proposed.verdicts if history.proposed else ())}
    rows: list[list[object]] = []
    for who in sorted(found.asked | committed, key=lambda address: int(address, 16)):
        reveal = revealed.get(who)
        root = joined(Html("<br>"), _update(reveal.root, reveal.manifest)) if reveal else ""
        rows.append(
            [
                joined(_code(who), root),
                _mark(who in found.asked),
                _mark(who in committed),
                f"{reveal.examples:,} examples" if reveal else _mark(False),
                _verdict(verdicts.get(who)),
                f"{paid[who]:,}" if who in paid else "0",
            ]
        )
    header = [
        ("participant, update root", ""),
        ("asked", "short"),
        ("committed", "short"),
        ("revealed", "short"),
        ("verdict", ""),
        ("paid, token units", "number"),
    ]
    return table(header, rows) if rows else element("p", "Nobody was asked.", class_="faint")


def _update(root: Digest, manifest: Digest) -> Html:
    return element("span", _code(root.hex()), class_="faint", title=f"manifest {raw_cid(manifest)}")


def _verdict(verdict: Verdict | None) -> object:
    if verdict is None:
        return _mark(False)
    if verdict.is_accepted:
        text = f"accepted, weight {verdict.weight:,}"
        return text if verdict.score == 10_000 else f"{text}, score {verdict.score}"
    known = {check.value: check.name.lower().replace("_", " ") for check in Check}
    name = known.get(verdict.reason, "unknown")
    return element("span", f"rejected by check {verdict.reason} ({name})", class_="bad")


def _checks(checks: list[CheckResult]) -> Html:
    header = [("section", "short"), ("result", "short"), ("claim", ""), ("recomputed", "")]
    rows: list[list[object]] = [
        [
            check.section,
            element("span", _RESULTS[check.passed], class_=_kind(check.passed)),
            check.claim,
            _code(check.detail) if check.detail else "",
        ]
        for check in checks
    ]
    return table(header, rows)


def _transactions(found: RoundFinding) -> Html:
    """Show where each event of the round stands on the chain; folded on a screen."""
    rows: list[list[object]] = [
        [
            type(event).__name__,
            event.block_number,
            _code(f"0x{event.transaction_hash.hex()}"),
        ]
        for event in found.history.events
    ]
    header = [("event", "short"), ("block", "number"), ("transaction", "")]
    return element("details", element("summary", f"{len(rows)} events"), table(header, rows))


def _tokens(findings: Findings) -> Html:
    accounts = findings.accounts
    rows: list[list[object]] = [["came in", f"{accounts.received:,}"]]
    rows += [[name, f"{amount:,}"] for name, amount in token_totals(accounts).items()]
    left = accounts.received - accounts.held - accounts.withdrawn
    rows.append([element("b", "unaccounted"), element("span", f"{left:,}", class_=_kind(not left))])
    owed: list[list[object]] = [
        [_code(account), f"{amount:,}"] for account, amount in _credited(findings) if amount
    ]
    credit = [("account", ""), ("token units", "number")]
    return element(
        "section",
        element("h2", "Tokens"),
        element("p", "By the events up to the block of this audit (docs/protocol.md §9)."),
        table([("where", ""), ("token units", "number")], rows),
        joined(element("h3", "Credited, not yet withdrawn"), table(credit, owed)) if owed else "",
    )


def _credited(findings: Findings) -> list[tuple[Address, int]]:
    return sorted(findings.accounts.credited.items(), key=lambda pair: int(pair[0], 16))


def _repeat(findings: Findings) -> Html:
    versions = {name: _code(value) for name, value in findings.versions.items()}
    return element(
        "section",
        element("h2", "How to repeat it"),
        element("pre", element("code", findings.command)),
        facts(versions),
        element(
            "p",
            "An audit recomputes what was done with the updates. It cannot tell whether a"
            " participant trained honestly or on the data it claims, nor whether bytes that are"
            " gone today were there during the round.",
            class_="faint",
        ),
    )


def _code(text: object) -> Html:
    return element("code", text)


def _mark(is_true: bool) -> Html:
    return element("span", "yes") if is_true else element("span", "no", class_="faint")


def _kind(is_good: bool | None) -> str:
    return {True: "good", False: "bad", None: "unknown"}[is_good]
