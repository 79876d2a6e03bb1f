"""Show a federation: terms, money, rounds."""

import sys
from typing import Any

from rich.console import Console
from rich.table import Table

from chain.events import Committed, Finalized, Joined, Revealed
from chain.location import FederationLocation
from chain.rounds import connect_federation, standing_proposal
from protocol.cid import raw_cid
from protocol.types import RoundId, format_tokens


def describe_federation(location: FederationLocation) -> dict[str, Any]:
    """Return what the chain says about a federation, as JSON values; amounts in token units."""
    # Of one block, so that counts and events agree while rounds go on.
    federation = connect_federation(location).now()
    terms, events = federation.terms(), federation.read_events()
    joined = sorted({e.participant for e in events if isinstance(e, Joined)})
    rounds = []
    for number in range(1, federation.round_count() + 1):
        round_id = RoundId(number)
        of_round = [e for e in events if getattr(e, "round", None) == number]
        standing = standing_proposal(of_round)
        verdicts = standing.verdicts if standing else ()
        settled = [e for e in of_round if isinstance(e, Finalized)]
        rounds.append(
            {
                "round": number,
                "status": federation.status(round_id).name.lower(),
                "committed": sum(isinstance(e, Committed) for e in of_round),
                "revealed": sum(isinstance(e, Revealed) for e in of_round),
                "accepted": sum(v.is_accepted for v in verdicts),
                "rejected": {v.participant: v.reason for v in verdicts if not v.is_accepted},
                "model_root": settled[0].root.hex() if settled else None,
                "model_cid": raw_cid(settled[0].manifest) if settled else None,
                # By the event of the settlement, since a proposal says only what would be paid.
                "paid": settled[0].paid if settled else 0,
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
            for account in joined
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
