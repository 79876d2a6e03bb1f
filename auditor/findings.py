"""Audit results, for people (`auditor.report`) and for programs (JSON)."""

import platform
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from auditor.cache import software_digest
from auditor.check_result import CheckResult
from auditor.replay import Audit
from chain.accounts import Accounts
from chain.history import RoundHistory
from chain.records import Terms
from protocol.spec import Spec
from protocol.types import Address, RoundId


@dataclass(frozen=True)
class RoundFinding:
    """An audited round: its history, who was asked, and its checks.

    `from_cache`: this machine recomputed it in an earlier audit, not in this one.
    """

    history: RoundHistory
    asked: frozenset[Address]
    checks: tuple[CheckResult, ...]
    from_cache: bool

    @property
    def status(self) -> str:
        """How far the round went: finalized, abandoned, proposed, refuted or open."""
        history = self.history
        # What ended the round comes first: a refuted proposal may have been followed by a good one.
        if history.finalized or history.abandoned:
            return "finalized" if history.finalized else "abandoned"
        if history.proposed:
            return "proposed"
        return "refuted" if history.refuted else "open"

    @property
    def passed(self) -> bool | None:
        """Whether every check of the round passed; None when none failed but not all were made."""
        if any(check.failed for check in self.checks):
            return False
        # Without checks nothing is known: that must not read as a pass.
        whole = self.checks and not any(check.unchecked for check in self.checks)
        return True if whole else None

    def as_json(self) -> dict[str, Any]:
        """The round in numbers, as a JSON object."""
        history = self.history
        proposed = history.proposed
        # A round may be over without a proposal: then nobody was accepted.
        accepted = [v for v in proposed.verdicts if v.is_accepted] if proposed else []
        return {
            "round": history.round_id,
            "status": self.status,
            "passed": self.passed,
            "cached": self.from_cache,
            "asked": len(self.asked),
            "committed": len(history.committed),
            "revealed": len(history.revealed),
            "accepted": len(accepted),
            "paid": sum(event.amount for event in history.paid),
            "model_root": proposed.root.hex() if proposed else None,
        }


@dataclass(frozen=True)
class Findings:
    """The results of one audit: what was audited, when, with which software, and its checks.

    `challenges` says what was proved to the contract; None when no challenge was asked for.
    """

    federation: Address
    chain_id: int
    block: int
    block_hash: bytes
    node: str
    store: str
    made_at: datetime
    command: str
    versions: Mapping[str, str]
    terms: Terms
    spec: Spec | None
    checks: tuple[CheckResult, ...]
    rounds: tuple[RoundFinding, ...]
    accounts: Accounts
    challenges: tuple[str, ...] | None = None

    @property
    def failed(self) -> int:
        """How many checks failed."""
        return sum(check.failed for check in self.checks)

    @property
    def unchecked(self) -> int:
        """How many checks could not be made."""
        return sum(check.unchecked for check in self.checks)

    @property
    def cached(self) -> int:
        """How many rounds were taken from the cache."""
        return sum(found.from_cache for found in self.rounds)

    def as_json(self) -> dict[str, Any]:
        """What `commonweight audit run --json` prints."""
        record: dict[str, Any] = {
            "federation": self.federation,
            "chain_id": self.chain_id,
            "block": self.block,
            # With its hash: after a reorganisation the number alone names another block.
            "block_hash": self.block_hash.hex(),
            "made_at": self.made_at.isoformat(timespec="seconds"),
            "failed": self.failed,
            "unchecked": self.unchecked,
            "cached": self.cached,
            "rounds": [found.as_json() for found in self.rounds],
            "checks": [check.as_json() for check in self.checks],
            "versions": dict(self.versions),
        }
        # The key is absent, not empty, without --challenge: "none" would mean that all was right.
        told = {} if self.challenges is None else {"challenges": list(self.challenges)}
        return record | told


def collect(
    audit: Audit,
    checks: Sequence[CheckResult],
    *,
    rounds: Collection[RoundId] | None,
    made_at: datetime,
    command: str,
    version: str,
    challenges: Sequence[str] | None = None,
) -> Findings:
    """Return the results of an audit that has run; `rounds` are those it was asked for."""
    seats = audit.terms.seats
    found = []
    for history in audit.history.rounds.values():
        if rounds is not None and history.round_id not in rounds:
            continue
        asked = frozenset(who for who in history.members if history.asks(who, seats))
        of_round = tuple(check for check in checks if check.round_id == history.round_id)
        cached = history.round_id in audit.from_cache
        found.append(RoundFinding(history, asked, of_round, cached))
    return Findings(
        federation=audit.federation.address,
        chain_id=audit.chain_id,
        block=audit.block,
        block_hash=audit.block_hash,
        # Without the endpoint's path, which often is a key: the page may be published.
        node=str(audit.federation.w3.provider).removeprefix("RPC connection "),
        store=audit.store.address,
        made_at=made_at,
        command=command,
        versions={
            "commonweight": version,
            # The version does not change with every line of code; this digest does.
            "code": software_digest(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        },
        terms=audit.terms,
        spec=audit.found_spec,
        checks=tuple(checks),
        rounds=tuple(found),
        accounts=audit.history.accounts,
        challenges=None if challenges is None else tuple(challenges),
    )


def token_totals(accounts: Accounts) -> dict[str, int]:
    """Return where the tokens are, in token units; together they are what came in."""
    return {
        "escrow": accounts.escrowed,
        "stakes": accounts.staked,
        "bonds": accounts.bonded,
        "credited, not yet withdrawn": accounts.credited.total(),
        "withdrawn": accounts.withdrawn,
        "burned": accounts.burned,
    }
