"""The audit of a federation on this machine: what failed, could not be checked, and passed."""

from collections import Counter
from typing import Any, Final

from explorer.facts import Subject, head
from explorer.federation_facts import audit_summary
from explorer.round_facts import check_as_json
from protocol.types import RoundId

_SUBJECTS: Final = {
    "§4": "models hash to their roots",
    "§5": "spec, held-out set and manifests",
    "§6": "verdicts on updates",
    "§7": "averages",
    "§8": "seeds, draws and commitments",
    "§9": "payouts, losses and tokens",
    "§10": "terms and sizes",
    "§11": "refuted proposals",
    "§13": "masked rounds",
}
PAGE_ROUNDS: Final = 50


def audit_facts(
    subject: Subject, *, is_enabled: bool, before: int | None = None, most: int = PAGE_ROUNDS
) -> dict[str, Any]:
    """Return the audit with at most so many rounds below `before`, the newest first."""
    audit, summary = subject.audit, audit_summary(subject)
    checks = audit.checks
    counts = Counter((check.section, check.passed) for check in checks)
    sections = sorted({check.section for check in checks}, key=lambda name: int(name[1:]))
    newest = max(audit.rounds, default=0)
    last = newest if before is None else min(newest, before - 1)
    shown = [n for n in range(last, max(last - most, 0), -1) if n in audit.rounds]
    return {
        **head(subject),
        **summary,
        "block": subject.view.block,
        "rounds": subject.view.terms.seats.rounds,
        "audited_block": summary["block"],
        "audited_rounds": summary["rounds"],
        "enabled": is_enabled,
        "node": str(subject.view.now.w3.provider).removeprefix("RPC connection "),
        "store": subject.following.store.address,
        "failures": [check_as_json(check) for check in checks if check.failed],
        "unchecked_checks": [check_as_json(check) for check in checks if check.unchecked],
        "general": [check_as_json(check) for check in audit.general],
        "sections": [
            {
                "section": name,
                "subject": _SUBJECTS.get(name, ""),
                "passed": counts[name, True],
                "failed": counts[name, False],
                "unchecked": counts[name, None],
            }
            for name in sections
        ],
        "round_rows": [_row(subject, RoundId(number)) for number in shown],
        "older": shown[-1] if shown and shown[-1] > min(audit.rounds) else None,
        "newer": before is not None,
    }


def _row(subject: Subject, number: RoundId) -> dict[str, Any]:
    found = subject.audit.rounds[number]
    is_current = subject.audit.of_round(subject.view.history.round(number)) is not None
    return {
        "round": number,
        "result": found.result,
        "checks": len(found.checks),
        "failed": sum(check.failed for check in found.checks),
        "unchecked": sum(check.unchecked for check in found.checks),
        "made_at": found.made_at,
        "from_cache": found.from_cache,
        "is_current": is_current,
    }
