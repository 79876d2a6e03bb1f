"""Show a federation: terms, money, rounds."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from chain.federation import connect_federation
from chain.location import FederationLocation
from protocol.cid import raw_cid
from protocol.types import format_tokens


def describe_federation(location: FederationLocation) -> dict[str, Any]:
    """Return what the chain says about a federation, as JSON values; amounts in token units."""
    # Of one block, so that counts and events agree while rounds go on.
    federation = connect_federation(location).now()
    terms, history = federation.terms(), federation.history()
    rounds = []
    for round_id, told in history.rounds.items():
        verdicts = told.proposed.verdicts if told.proposed else ()
        settled = told.finalized
        rounds.append(
            {
                "round": round_id,
                "status": federation.status(round_id).name.lower(),
                "committed": len(told.committed),
                "revealed": len(told.revealed),
                "accepted": sum(v.is_accepted for v in verdicts),
                "rejected": {v.participant: v.reason for v in verdicts if not v.is_accepted},
                "model_root": settled.root.hex() if settled else None,
                "model_cid": raw_cid(settled.manifest) if settled else None,
                # By the event of the settlement, since a proposal says only what would be paid.
                "paid": settled.paid if settled else 0,
            }
        )
    return {
        "federation": location.address,
        "chain_id": location.chain_id,
        "token": terms.token,
        "spec_cid": raw_cid(terms.spec_digest),
        "aggregators": list(federation.aggregators()),
        "escrow": federation.escrow(),
        "round_reward": terms.round_reward,
        "rounds_left": terms.rounds - federation.round_count(),
        "participants": {
            account: {
                "stake": standing.stake,
                "active": standing.active,
                "credit": federation.credit_of(account),
            }
            for account in sorted(history.memberships)
            for standing in [federation.get_participant(account)]
        },
        "rounds": rounds,
    }


def print_federation(described: dict[str, Any]) -> None:
    """Print a description on stdout."""
    console = Console(file=sys.stdout, highlight=False)
    console.print(f"[bold]federation[/]  {described['federation']}  chain {described['chain_id']}")
    console.print(f"spec        {described['spec_cid']}")
    console.print(f"token       {described['token']}")
    console.print(f"escrow      {format_tokens(described['escrow'])}")
    console.print(f"aggregator  {', '.join(described['aggregators'])}")
    members = Table("participant", "stake", "credit", "active", title="Participants")
    for account, standing in described["participants"].items():
        active = "yes" if standing["active"] else "no"
        members.add_row(
            account, format_tokens(standing["stake"]), format_tokens(standing["credit"]), active
        )
    console.print(members)
    rounds = Table("round", "status", "committed", "revealed", "accepted", "paid", "model")
    for row in described["rounds"]:
        counts = [str(row[key]) for key in ("committed", "revealed", "accepted")]
        name = [str(row["round"]), row["status"]]
        rounds.add_row(*name, *counts, format_tokens(row["paid"]), row["model_cid"] or "")
    console.print(rounds)
