"""Scores the updates of a round by measured help, and never makes a proposal late by it (§9).

An evaluation that does not end in time is given up, and every update earns its full price: what
cannot be measured is the aggregator's failure, not the participants'
(docs/decisions/0018-what-cannot-be-measured.md).
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, TypeVar

from profiling.recorder import current
from protocol.errors import Misconfigured
from protocol.manifest import Losses
from protocol.types import RoundId
from rounds.context import RoundContext
from rounds.rebuild import Fetcher
from rounds.score import HeldOut, OutOfTime, apply_scores, measure
from rounds.screen import Screened
from runtime import events
from runtime.events import Report
from runtime.service import one_line
from storage.layers import LayerFolder

T = TypeVar("T")

SCORING_PART: Final = 2
"""The part of the propose phase that the evaluations of a full round may take."""


def score(
    context: RoundContext,
    before: LayerFolder,
    decisions: Sequence[Screened],
    held_out: HeldOut | None,
    fetcher: Fetcher,
    seconds: float,
    report: Report,
) -> tuple[list[Screened], Losses | None]:
    """Return the decisions with scores, and the losses that these follow from.

    After `seconds`, or when nothing can be evaluated, they come back as they are, without losses.
    """
    updates = {s.reveal.participant: s.folder for s in decisions if s.verdict.is_accepted}
    if not updates:
        return list(decisions), None
    round_id, give_up_at = context.round_id, time.monotonic() + seconds
    report(events.Scoring(round=round_id, updates=len(updates)))
    try:
        if held_out is None:
            raise Misconfigured("there is no base model to evaluate with: set `model`")
        before_round = held_out.evaluations
        made = _started(lambda: measure(context, before, updates, held_out, give_up_at, fetcher))
        losses = _awaited(made, seconds)
        current().note(evaluations=held_out.evaluations - before_round)
    except Exception as error:  # also a full disk: what ends here must not end the round
        report(events.NotScored(round=round_id, reason=one_line(error)))
        return list(decisions), None
    scored = apply_scores(decisions, losses)
    for each in scored:
        if each.reveal.participant in updates:
            report(_event(round_id, each))
    return scored, losses


def check_pace(held_out: HeldOut, seats: int, propose_seconds: int) -> None:
    """Raise Misconfigured when the evaluations of a full round take too much of its phase."""
    needed, limit = (seats + 1) * held_out.slowest, propose_seconds / SCORING_PART
    if needed > limit:
        raise Misconfigured(
            f"an evaluation takes {held_out.slowest:.1f} s on this machine, and those of {seats}"
            f" updates {needed:,.0f} s: half of the propose phase is {limit:,.0f} s"
        )


def _event(round_id: RoundId, decision: Screened) -> events.Event:
    verdict = decision.verdict
    who, reason = verdict.participant, decision.reason
    if verdict.is_accepted:
        return events.Scored(round=round_id, participant=who, score=verdict.score, reason=reason)
    return events.Rejected(round=round_id, participant=who, check=verdict.reason, reason=reason)


def _started(work: Callable[[], T]) -> "Future[T]":
    """Start `work` in a thread that nobody has to wait for."""
    # Not a pool's: a process that ends waits for those, and nothing ends an evaluation that hangs.
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="scoring").start()
    return future


def _awaited(future: "Future[T]", seconds: float) -> T:
    try:
        return future.result(timeout=max(seconds, 0.0))
    except TimeoutError:
        text = f"the evaluations did not end within {max(seconds, 0.0):,.0f} s"
        raise OutOfTime(text) from None
