"""Show a federation: its terms in words, its money, its rounds."""

import sys
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from rich.console import Console
from rich.table import Table

from chain.announcements import describe_announcements, read_announcements
from chain.federation import Federation, connect_federation
from chain.history import History, RoundHistory
from chain.location import FederationLocation
from chain.records import Terms
from protocol.checks import Check
from protocol.cid import raw_cid
from protocol.errors import Rejected, Unavailable
from protocol.spec import Spec
from protocol.types import Address, Digest, format_tokens
from runtime.status import duration
from storage.ipfs import ContentStore


def describe_federation(location: FederationLocation) -> dict[str, Any]:
    """Return what chain and spec say about a federation, as JSON values; amounts in token units."""
    # Of one block, so that counts and events agree while rounds go on.
    federation = connect_federation(location).now()
    terms, history = federation.terms(), federation.history()
    members = {
        account: federation.get_participant(account) for account in sorted(history.memberships)
    }
    return {
        "federation": location.address,
        "chain_id": location.chain_id,
        "sponsor": federation.sponsor(),
        "spec_cid": raw_cid(terms.identity.spec_digest),
        "base_model": _base_model(location, terms.identity.spec_digest),
        "terms": terms_as_json(terms),
        "aggregators": list(federation.aggregators()),
        "current_aggregator": federation.current_aggregator(),
        "escrow": federation.escrow(),
        "burned": federation.burned(),
        "rounds_left": terms.seats.rounds - federation.round_count(),
        "active": federation.active_count(),
        "closed": federation.is_closed(),
        "over": federation.is_over(),
        "participants": {
            account: {
                "stake": seat.stake,
                "active": seat.active,
                "credit": federation.credit_of(account),
            }
            for account, seat in members.items()
        },
        "unreachable": count_unreachable(history),
        "announced": describe_announcements(read_announcements(federation)),
        "rounds": [_round(federation, told) for told in history.rounds.values()],
    }


def print_federation(described: dict[str, Any]) -> None:
    """Print a description on stdout."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    for name, text in terms_in_words(described):
        console.print(f"[bold]{name:<12}[/] {text}")
    members = Table("participant", "stake", "credit", "active", title="Participants")
    for account, standing in described["participants"].items():
        active = "yes" if standing["active"] else "no"
        members.add_row(
            account, format_tokens(standing["stake"]), format_tokens(standing["credit"]), active
        )
    console.print(members)
    for account, made in described["announced"].items():
        places = ", ".join(made["places"]) or "no place that is understood"
        # Lines and not a table, which would cut addresses; a stranger's text, so no markup.
        console.print(f"announced    {made['role']} {account}: {places}", markup=False)
    for account, count in described["unreachable"].items():
        if count["rejected"]:
            console.print(
                f"check 1      aggregator {account} rejected {count['rejected']} of"
                f" {count['revealed']} updates as not reachable in time"
            )
    rounds = Table("round", "status", "committed", "revealed", "accepted", "paid", "model")
    for row in described["rounds"]:
        counts = [str(row[key]) for key in ("committed", "revealed", "accepted")]
        begins = [str(row["round"]), row["status"]]
        rounds.add_row(*begins, *counts, format_tokens(row["paid"]), row["model_cid"] or "")
    console.print(rounds)


def count_unreachable(history: History) -> dict[Address, dict[str, int]]:
    """Return how many updates each aggregator's standing proposals judged, and rejected by check 1.

    That check alone says what nobody else can recompute: what one place had at one time.
    """
    counts: dict[Address, dict[str, int]] = {}
    for told in history.rounds.values():
        if told.proposed is not None:
            count = counts.setdefault(told.proposed.aggregator, {"revealed": 0, "rejected": 0})
            reasons = [verdict.reason for verdict in told.proposed.verdicts]
            count["revealed"] += len(reasons)
            count["rejected"] += reasons.count(Check.REACHABLE)
    return counts


def terms_in_words(described: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a federation's terms as a participant reads them: (subject, text), a line each.

    `described` is what `describe_federation` returns, its participants and rounds aside.
    """
    terms, tokens = described["terms"], format_tokens
    seats, money, windows = terms["seats"], terms["money"], terms["windows"]
    asked = (
        f"about {seats['round_target']} are asked each round"
        if described["active"] > seats["round_target"]
        else f"all are asked each round, as long as no more than {seats['round_target']} are active"
    )
    may_join = "whom the sponsor invites" if seats["by_invitation"] else "anybody"
    request = (
        f"a leaf that is requested must be posted within {duration(windows['response_seconds'])}"
        if windows["response_seconds"]
        else "no leaf can be requested"
    )
    ends = datetime.fromtimestamp(windows["closes_at"], tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    state = "over" if described["over"] else "closed" if described["closed"] else f"until {ends}"
    phases = ", ".join(
        f"{name} {duration(windows[f'{name}_seconds'])}"
        for name in ("commit", "reveal", "propose", "challenge")
    )
    return [
        ("federation", f"{described['federation']} on chain {described['chain_id']}"),
        ("sponsor", described["sponsor"]),
        ("base model", described["base_model"] or "not known: IPFS does not have the spec"),
        ("spec", described["spec_cid"]),
        (
            "pays",
            f"{tokens(money['update_reward'])} tokens for an update of {seats['weight_cap']}"
            " examples or more, less in proportion, whoever else takes part",
        ),
        ("token", money["token"]),
        ("escrow", f"{tokens(described['escrow'])}; {tokens(described['burned'])} burned"),
        ("rounds", f"{described['rounds_left']} of {seats['rounds']} left, {state}"),
        (
            "seats",
            f"{described['active']} of {seats['max_participants']} taken; {asked},"
            f" {seats['round_seats']} at most can commit; {may_join} may join",
        ),
        ("phases", f"{phases}; {request}"),
        (
            "stake",
            f"{tokens(money['participant_stake'])}, free {duration(windows['unbonding_seconds'])}"
            f" after leaving; who misses {seats['max_missed']} rounds in a row can lose the seat,"
            " not the stake",
        ),
        (
            "at risk",
            f"{tokens(money['missed_reveal_penalty'])} for each commitment that is not revealed,"
            " burned; nothing else",
        ),
        (
            "aggregators",
            f"{', '.join(described['aggregators'])}; bond {tokens(money['aggregator_bond'])}, fee"
            f" {tokens(money['aggregator_fee'])} a round",
        ),
    ]


def terms_as_json(terms: Terms) -> dict[str, Any]:
    """Return the terms by section, as JSON values."""
    identity = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in vars(terms.identity).items()
    }
    rules = {
        name: value.name.lower() if isinstance(value, Enum) else value
        for name, value in vars(terms.rules).items()
    }
    return {
        "identity": identity,
        "seats": dict(vars(terms.seats)),
        "money": dict(vars(terms.money)),
        "windows": dict(vars(terms.windows)),
        "rules": rules,
    }


def _base_model(location: FederationLocation, digest: Digest) -> str | None:
    """Return the base model and what is trained of it; None when IPFS does not have the spec."""
    # The chain has only its digest, and what else is shown does not depend on IPFS.
    try:
        spec = Spec.parse(ContentStore(location.ipfs_url).get_block(digest))
    except (Unavailable, Rejected):
        return None
    return describe_base(spec)


def describe_base(spec: Spec) -> str:
    """Return a spec's base model and what is trained of it, in words."""
    adapter, model = spec.adapter, spec.base_model
    size, masked = spec.total_bytes(spec.update_kind), "masked, " * (spec.privacy == "masked")
    return (
        f"{model.name}@{model.revision}, {adapter.kind} of rank {adapter.rank} on"
        f" {', '.join(adapter.targets)}: {masked}{size:,} bytes an update"
    )


def _round(federation: Federation, told: RoundHistory) -> dict[str, Any]:
    verdicts = told.proposed.verdicts if told.proposed else ()
    settled = told.finalized
    return {
        "round": told.round_id,
        "status": federation.status(told.round_id).name.lower(),
        "asked": sum(told.asks(each, federation.terms().seats) for each in told.members),
        "committed": len(told.committed),
        "revealed": len(told.revealed),
        "accepted": sum(v.is_accepted for v in verdicts),
        "rejected": {v.participant: v.reason for v in verdicts if not v.is_accepted},
        "model_root": settled.root.hex() if settled else None,
        "model_cid": raw_cid(settled.manifest) if settled else None,
        # By the event of the settlement, since a proposal says only what would be paid.
        "paid": settled.paid if settled else 0,
    }
