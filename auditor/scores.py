"""Checks the scores of a round by the losses that its manifest lists, and these losses (§9)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from auditor.check_result import CheckResult
from chain.records import Model
from protocol.checks import ACCEPTED, Check
from protocol.errors import Rejected, Unavailable
from protocol.manifest import Losses, Manifest
from protocol.types import Address
from protocol.verdict import FULL_SCORE, Verdict
from rounds.context import RoundContext
from rounds.rebuild import Fetcher
from rounds.score import HeldOut, apply_scores, format_nats, measure
from rounds.screen import Screened
from storage.layers import LayerFolder

_CLAIM: Final = "the proposal lists the held-out losses that its scores follow from"


@dataclass(frozen=True)
class Judged:
    """Our decisions with the scores that the proposal's own losses give, and how these were had.

    `losses` is None where there are none to check.
    """

    decisions: list[Screened]
    losses: Losses | None
    check: CheckResult | None


def measured_in(verdicts: Sequence[Verdict]) -> list[Address]:
    """Return whose updates a proposal says to have measured: all that passed checks 1 to 12."""
    return [v.participant for v in verdicts if v.reason in (ACCEPTED, Check.HARM)]


def judge_scores(
    context: RoundContext, proposed: Model, verdicts: Sequence[Verdict], ours: list[Screened]
) -> Judged:
    """Score our decisions by the losses that a proposal lists."""
    measured, round_id = measured_in(verdicts), context.round_id
    if context.spec.scoring == "equal" or not measured:
        return Judged(ours, None, None)
    try:
        losses = _listed(context, proposed, measured)
    except Unavailable as error:
        check = CheckResult.refused("§9", round_id, _CLAIM, error)
        return Judged(_as_proposed(ours, verdicts), None, check)
    except Rejected as error:
        check = CheckResult("§9", round_id, _CLAIM, False, error.reason)
        return Judged(_as_proposed(ours, verdicts), None, check)
    if losses is not None:
        detail = f"{len(losses.without)} updates measured"
        check = CheckResult("§9", round_id, _CLAIM, True, detail)
        return Judged(apply_scores(ours, losses), losses, check)
    # Only to pay everybody in full may a lead say that it could measure nothing.
    paid_in_full = all((v.reason, v.score) == (ACCEPTED, FULL_SCORE) for v in verdicts if v.weight)
    is_harmless = not any(v.reason == Check.HARM for v in verdicts)
    if paid_in_full and is_harmless:
        detail = "the aggregator measured nothing, and gave everybody the full score"
        unknown = CheckResult("§9", round_id, _CLAIM, None, detail, seen_differently=True)
        check = replace(unknown, lasting=True)
    else:
        check = CheckResult("§9", round_id, _CLAIM, False, "it lists none")
    return Judged(_as_proposed(ours, verdicts), None, check)


def check_losses(
    context: RoundContext,
    before: LayerFolder,
    ours: Sequence[Screened],
    losses: Losses,
    held_out: HeldOut | None,
    fetcher: Fetcher,
) -> CheckResult:
    """Check the losses that a proposal lists by evaluating the same models here."""
    assert context.spec.held_out is not None
    round_id, tolerance = context.round_id, context.spec.held_out.tolerance
    claim = f"the losses behind the scores are those of their models, to {format_nats(tolerance)}"
    if held_out is None:
        detail = "no base model here to evaluate with: `audit run --model` names one"
        return CheckResult("§9", round_id, claim, None, detail, lasting=True)
    folders = {s.reveal.participant: s.folder for s in ours if s.has_root}
    measured = [each.participant for each in losses.without]
    missing = [who for who in measured if who not in folders]
    if missing:
        detail = f"the update of {missing[0]} is not available here"
        return CheckResult("§9", round_id, claim, None, detail)
    try:
        updates = {who: folders[who] for who in measured}
        found = measure(context, before, updates, held_out, fetcher=fetcher)
    except (Unavailable, Rejected) as error:
        return CheckResult.refused("§9", round_id, claim, error)
    wrong = _differing(losses, found, tolerance)
    detail = "; ".join(wrong) or f"{len(measured) + 2} losses"
    return CheckResult("§9", round_id, claim, not wrong, detail)


def _listed(context: RoundContext, proposed: Model, measured: Sequence[Address]) -> Losses | None:
    """Return the losses in a proposal's manifest, None where it has none.

    Raises Unavailable when the manifest is, Rejected when it is not the round's or its losses are
    of others.
    """
    manifest = Manifest.parse(context.store.get_block(proposed.manifest))
    subject = context.subject("model")
    if (manifest.round, manifest.federation) != (subject.round_id, subject.federation):
        raise Rejected(Check.ROUND_AND_SPEC, "its manifest is of another round")
    if manifest.losses is not None:
        listed = [each.participant for each in manifest.losses.without]
        if listed != list(measured):
            raise Rejected(Check.MANIFEST, "its losses are not those of the updates that passed")
    return manifest.losses


def _as_proposed(ours: list[Screened], verdicts: Sequence[Verdict]) -> list[Screened]:
    """Return our decisions with the scores as proposed, where nothing is known of them."""
    given = {v.participant: v for v in verdicts if v.reason in (ACCEPTED, Check.HARM)}
    return [
        replace(each, verdict=_taken(each.verdict, given[each.reveal.participant]))
        if each.verdict.is_accepted and each.reveal.participant in given
        else each
        for each in ours
    ]


def _taken(mine: Verdict, given: Verdict) -> Verdict:
    """Return our verdict with the proposed score; the weight stays ours."""
    weight = mine.weight if given.is_accepted else 0
    return replace(mine, weight=weight, score=given.score, reason=given.reason)


def _differing(losses: Losses, found: Losses, tolerance: int) -> list[str]:
    """Return one line for each loss that is too far from ours."""
    pairs = [
        ("of the model before", losses.before, found.before),
        ("of the average", losses.average, found.average),
        *(
            (f"without {theirs.participant}", theirs.loss, mine.loss)
            for theirs, mine in zip(losses.without, found.without, strict=True)
        ),
    ]
    return [
        f"the loss {name} is said to be {format_nats(said)}, here it is {format_nats(mine)}"
        for name, said, mine in pairs
        if abs(said - mine) > tolerance
    ]
