"""What sketches say of updates of which only the sum is known (docs/protocol.md §13).

Each member of the set posts its sketch with its secrets. They must add up to the sum's, and none
may be too long: so nobody can move the model further than an honest update could. A score of 0 with
a reason is all that follows for the model's sake, since the set is sealed; whether the sum itself
is to be refused is for the members to say (`object`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from protocol.checks import ACCEPTED, Check
from protocol.errors import Rejected, Unavailable
from protocol.sketches import SKETCH_BYTES, SKETCH_SIZE, exceeds_limit, judge, parse_sketch, sketch
from protocol.types import Address, BasisPoints, Digest
from protocol.verdict import FULL_SCORE, compute_weight
from rounds.average import Layout
from rounds.context import RoundContext
from rounds.rebuild import Fetcher
from rounds.screen import Screened, accepted, last_movement, rejected
from rounds.similar import Movement
from storage.layers import LayerFolder
from storage.sources import reading_from

_BLOCK = 1 << 18  # values at once


@dataclass(frozen=True)
class SumJudgement:
    """The decision on each reveal, and why the sum cannot be one of honest updates.

    `objection` is empty where it can.
    """

    decisions: list[Screened]
    objection: str


def judge_sum(context: RoundContext, total: LayerFolder, fetcher: Fetcher) -> SumJudgement:
    """Judge the members of a sealed set by their sketches; `total` is the sum's files.

    Decisions are in ascending order of participant; those outside the set have the reasons of the
    seal. Raises Unavailable before the sketches' vectors are fixed.
    """
    masking, seed = context.told.masking, context.told.masking.sketch_seed
    if masking.sealed is None or seed is None:
        raise Unavailable(f"round {context.round_id}: no sketches are drawn yet")
    posted, reasons = posted_sketches(context, fetcher)
    cap = context.terms.seats.weight_cap
    weights = {r.participant: compute_weight(r.examples, cap) for r in context.reveals}
    sealed = {verdict.participant: verdict for verdict in masking.sealed.verdicts}
    movement, unseen = None, list[str]()
    try:
        movement = last_movement(context, fetcher)
    except (Unavailable, Rejected) as error:
        unseen.append(f"the last movement of the model: {error}")
    earlier = [] if movement is None else [sketch_movement(context, movement, seed)]
    decisions = []
    for reveal in context.reveals:  # in the order of the commitments
        who, folder = reveal.participant, context.update_folder(reveal.participant)
        if not sealed[who].is_averaged:
            decisions.append(rejected(reveal, folder, sealed[who].reason, "it was not sealed"))
            continue
        reason, why = reasons.get(who, (ACCEPTED, ""))
        if reason == ACCEPTED:
            reason = _judge_one(context, posted[who], weights[who], earlier)
            why = _WORDS.get(reason, "")
            earlier.append(posted[who])
        decision = _counted(accepted(context, reveal, folder), reason, why)
        decisions.append(replace(decision, not_compared=tuple(unseen)))
    ordered = sorted(decisions, key=lambda each: int(each.reveal.participant, 16))
    objection = _find_objection(context, sketch_folder(context, total, seed), posted, weights)
    return SumJudgement(ordered, objection)


def sketch_folder(context: RoundContext, folder: LayerFolder, seed: Digest) -> list[int]:
    """Return the sketch of an update's differences, not yet weighted, or of a sum."""
    return add_sketches(
        sketch(folder.values(layer, start, count), seed, leaf)
        for layer, start, count, leaf in Layout.of(context.spec).blocks(_BLOCK)
    )


def sketch_movement(context: RoundContext, movement: Movement, seed: Digest) -> list[int]:
    """Return the sketch of a movement of the model, in its quanta."""
    return add_sketches(
        sketch(
            movement.after.values(layer, start, count).astype(np.int64)
            - movement.before.values(layer, start, count),
            seed,
            leaf,
        )
        for layer, start, count, leaf in Layout.of(context.spec).blocks(_BLOCK)
    )


_WORDS: Mapping[int, str] = {
    Check.NORM: "its sketch is longer than an update may be",
    Check.WEAK: "its sketch is shorter than an update has to be",
    Check.SIMILAR: "its sketch resembles one committed to earlier, or the last movement",
}


def posted_sketches(
    context: RoundContext, fetcher: Fetcher
) -> tuple[dict[Address, list[int]], dict[Address, tuple[int, str]]]:
    """Return the sketches that members posted, and why others have none."""
    posted: dict[Address, list[int]] = {}
    reasons: dict[Address, tuple[int, str]] = {}
    for who, event in context.told.masking.unmasked.items():
        if event.sender != who:
            reasons[who] = Check.SILENT, "others had to recover its secrets"
            continue
        author = reading_from(context.store, who)
        try:
            raw = author.get_block(event.sketch, deadline=fetcher.budget.update_deadline())
            if len(raw) != SKETCH_BYTES:
                raise Rejected(Check.BLAMED, f"its sketch has {len(raw):,} bytes")
            posted[who] = parse_sketch(raw)
        except Unavailable as error:
            reasons[who] = Check.REACHABLE, f"its sketch is unavailable: {error}"
        except Rejected as error:
            reasons[who] = error.check, error.reason
    return posted, reasons


def _judge_one(
    context: RoundContext, values: Sequence[int], weight: int, earlier: Sequence[Sequence[int]]
) -> int:
    spec = context.spec
    assert spec.screening.max_update_norm is not None  # a masked spec has one
    return judge(
        values,
        weight,
        max_update_norm=spec.screening.max_update_norm,
        grid=spec.encoding.grid_in(context.round_id),
        min_norm=spec.screening.min_norm,
        earlier=earlier,
    )


def _find_objection(
    context: RoundContext,
    of_sum: Sequence[int],
    posted: Mapping[Address, Sequence[int]],
    weights: Mapping[Address, int],
) -> str:
    """Return why the sum is none of honest updates, or nothing."""
    spec, members = context.spec, context.told.masking.members
    limit, grid = spec.screening.max_update_norm, spec.encoding.grid_in(context.round_id)
    assert limit is not None
    for who, values in posted.items():
        if exceeds_limit(values, weights[who], limit, grid):
            return f"the sketch of {who} is longer than an update may be"
    # What is left of the sum belongs to those who posted nothing. Honest ones together are no
    # longer than the sum of what each may be.
    rest = [value - sum(each[k] for each in posted.values()) for k, value in enumerate(of_sum)]
    others = [who for who in members if who not in posted]
    if not others:
        return "" if not any(rest) else "the sketches do not add up to that of the sum"
    if exceeds_limit(rest, sum(weights[who] for who in others), limit, grid):
        return f"what the sketches leave to {', '.join(others)} is longer than it may be"
    return ""


def _counted(decision: Screened, reason: int, why: str) -> Screened:
    """Return a decision on a member of the set: in the average whatever the reason."""
    score = FULL_SCORE if reason == ACCEPTED else BasisPoints(0)
    return replace(
        decision, verdict=replace(decision.verdict, score=score, reason=reason), reason=why
    )


def add_sketches(parts: Iterable[Sequence[int]]) -> list[int]:
    """Return the sketch of a whole from those of its parts."""
    total = [0] * SKETCH_SIZE
    for part in parts:
        total = [a + b for a, b in zip(total, part, strict=True)]
    return total
