"""Measures how much each update of a round helps, and scores it (docs/protocol.md §9).

    losses = measure(context, before, folders, HeldOut(spec, evaluate, file))
    scored = apply_scores(decisions, losses)

What evaluates a model is an argument: nothing here knows how a loss is computed. Takes the memory
of a few slabs and the disk of two models, however many updates there are.
"""

import math
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from protocol.checks import Check
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from protocol.manifest import Losses, LossWithout
from protocol.scoring import MILLION, Score, compute_scores, to_millionths
from protocol.spec import Spec
from protocol.types import Address, BasisPoints, Digest, RoundId
from protocol.verdict import compute_weight
from rounds.average import Repeated, average_layers, average_without, write_sums
from rounds.context import RoundContext
from rounds.rebuild import FETCHER, Fetcher
from rounds.screen import Screened, fetch_older
from rounds.similar import project_updates
from storage.files import read_json, write_json
from storage.layers import LayerFolder

SCRATCH: Final = "score-"
"""What the names of folders begin with in which models are averaged to be measured."""

Evaluate = Callable[[LayerFolder], float]
"""Returns the loss of a model on the held-out set, in nats per answer token."""


_MOST_KNOWN: Final = 1000  # losses in a file: those of the last rounds, which a restart needs


class OutOfTime(Unavailable):
    """The time for measuring is over."""


class HeldOut:
    """The held-out losses of a federation's models, each evaluated once, one at a time.

    They are kept by root in `file`, so that a role that was restarted goes on where it was.
    """

    def __init__(self, spec: Spec, evaluate: Evaluate, file: Path | None = None) -> None:
        self.slowest = 0.0
        """Seconds of the slowest evaluation."""
        self.evaluations = 0
        self._evaluate = evaluate
        self._lock = threading.Lock()
        self._file = file
        self._key = {"spec": spec.digest().hex(), "set": spec.evaluation_digest}
        self._known: dict[str, int] = self._read()

    def loss(self, model: LayerFolder, root: Digest, give_up_at: float = math.inf) -> int:
        """Return the loss of a model in millionths; `root` must be that of its files.

        Raises OutOfTime, without evaluating, when that might last beyond `give_up_at`, in seconds
        of time.monotonic(); and Unavailable when the evaluation fails.
        """
        # One model in memory takes the layers of one model at a time.
        with self._lock:
            known = self._known.get(root.hex())
            return self._measure(model, root, give_up_at) if known is None else known

    def try_out(self, model: LayerFolder, root: Digest) -> None:
        """Evaluate a model whatever is known of it, to see that it works and how long it takes."""
        with self._lock:
            self._measure(model, root, math.inf)

    def _measure(self, model: LayerFolder, root: Digest, give_up_at: float) -> int:
        began = time.monotonic()
        if began + self.slowest > give_up_at:
            raise OutOfTime("there is no time left for an evaluation")
        try:
            found = to_millionths(self._evaluate(model))
        except CommonweightError:
            raise
        except Exception as error:  # of whatever library evaluates: the round must go on
            text = f"the evaluation failed with {type(error).__name__}: {error}"
            raise Unavailable(text, service="training") from error
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.evaluations += 1
        self._known[root.hex()] = found
        if self._file is not None:
            for old in list(self._known)[:-_MOST_KNOWN]:
                del self._known[old]
            write_json(self._file, {**self._key, "losses": self._known})
        return found

    def _read(self) -> dict[str, int]:
        if self._file is not None:
            # Damaged or of another set: it only saves time.
            with suppress(Misconfigured, KeyError, TypeError, AttributeError, ValueError):
                record = read_json(self._file)
                if self._key.items() <= record.items():
                    return {str(root): int(loss) for root, loss in record["losses"].items()}
        return {}


@dataclass(frozen=True)
class Measured:
    """An update to measure: whose it is, its files, its weight, and what stays in its place."""

    participant: Address
    folder: LayerFolder
    weight: int
    repeated: Repeated = field(default_factory=Repeated)


def measure(
    context: RoundContext,
    before: LayerFolder,
    updates: Mapping[Address, LayerFolder],
    held_out: HeldOut,
    give_up_at: float = math.inf,
    fetcher: Fetcher = FETCHER,
) -> Losses:
    """Return the losses that the scores of these updates follow from: n + 2 evaluations at most.

    `before` is the model that the round starts from, `updates` the files of every update that
    passed checks 1 to 12. Raises as `HeldOut.loss`, and Unavailable when older updates are missing
    that the new part of an update is measured against.
    """
    order = sorted(updates, key=lambda each: int(each, 16))
    examples = {reveal.participant: reveal.examples for reveal in context.reveals}
    cap = context.terms.seats.weight_cap
    repeated = _repeated(context, [updates[who] for who in order], fetcher)
    measured = [
        Measured(who, updates[who], compute_weight(examples[who], cap), part)
        for who, part in zip(order, repeated, strict=True)
    ]
    start = before, context.model.root
    return measure_losses(
        context.spec, context.round_id, start, measured, held_out, context.folder, give_up_at
    )


def measure_losses(
    spec: Spec,
    round_id: RoundId,
    before: tuple[LayerFolder, Digest],
    updates: Sequence[Measured],
    held_out: HeldOut,
    workspace: Path,
    give_up_at: float = math.inf,
) -> Losses:
    """Return the losses of `before`, a model with its root, of the average, and without each.

    `updates` are in ascending order of participant. Raises as `HeldOut.loss`.
    """
    folders, weights = [each.folder for each in updates], [each.weight for each in updates]
    workspace.mkdir(parents=True, exist_ok=True)
    # Of its own: an evaluation that was given up may still read another's.
    with tempfile.TemporaryDirectory(dir=workspace, prefix=SCRATCH) as scratch:
        model, sums = (LayerFolder(Path(scratch) / name, "model") for name in ("model", "sums"))
        # 1. Before the round, and with everybody in it.
        loss_before = held_out.loss(*before, give_up_at)
        root = average_layers(spec, before[0], folders, weights, model, round_id)
        average = held_out.loss(model, root, give_up_at)
        # 2. Without each in turn, its place taken.
        write_sums(spec, folders, weights, sums)
        without = []
        for each in updates:
            pair = each.weight, sum(weights)
            place = spec, before[0], sums, each.folder, pair, model, round_id, each.repeated
            root = average_without(*place)
            loss = held_out.loss(model, root, give_up_at)
            without.append(LossWithout(participant=each.participant, loss=loss))
    return Losses(before=loss_before, average=average, without=tuple(without))


def _repeated(
    context: RoundContext, folders: Sequence[LayerFolder], fetcher: Fetcher
) -> list[Repeated]:
    """Return what stays in the place of each update: nothing, or what it repeats."""
    settings = context.spec.held_out
    if settings is None or settings.gain == "whole":
        return [Repeated()] * len(folders)
    older = fetch_older(context, fetcher)
    if older.missing:
        raise Unavailable(f"no new part can be told from what came before: {older.missing[0]}")
    coefficients = project_updates(context.spec, folders, older.updates, older.movement)
    return [Repeated(older.updates, older.movement, each) for each in coefficients]


def apply_scores(decisions: Sequence[Screened], losses: Losses) -> list[Screened]:
    """Return the decisions with the score of each update that was measured, and the reason for it.

    What does harm is rejected by check 13. Decisions against an update stay as they are.
    """
    scores = scores_of(losses)
    return [
        _scored(decision, losses, scores[decision.reveal.participant])
        if decision.verdict.is_accepted and decision.reveal.participant in scores
        else decision
        for decision in decisions
    ]


def scores_of(losses: Losses) -> dict[Address, Score]:
    """Return the score of each participant, as the losses give them."""
    without = [each.loss for each in losses.without]
    found = compute_scores(losses.before, losses.average, without)
    who = (each.participant for each in losses.without)
    return dict(zip(who, found, strict=True))


def _scored(decision: Screened, losses: Losses, score: Score) -> Screened:
    reason = explain(score, losses)
    if score.is_harm:
        none = BasisPoints(0)
        verdict = replace(decision.verdict, weight=0, score=none, reason=int(Check.HARM))
    else:
        verdict = replace(decision.verdict, score=score.value)
    return replace(decision, verdict=verdict, reason=reason)


def explain(score: Score, losses: Losses) -> str:
    """Return in one sentence why an update is paid what it is."""
    with_it, without = format_nats(losses.average), format_nats(losses.average + score.gain)
    pair = f"the held-out loss is {with_it} with the update and {without} without it"
    full = format_nats(score.full_gain or 0)
    if score.is_harm:
        return f"{pair}: it raises the loss by {format_nats(-score.gain)}, more than {full} is harm"
    if not score.is_lower:
        both = f"{format_nats(losses.before)} before and {with_it} after"
        return f"the round does not lower the held-out loss, {both}: nobody is paid for it"
    if score.gain <= 0:
        return f"{pair}: it does not lower the loss, so it earns nothing"
    share = f"{score.value / 100:.2f}% of its price"
    return f"{pair}: it lowers the loss by {format_nats(score.gain)}, {full} earns all, so {share}"


_DIGITS: Final = len(str(MILLION)) - 1


def format_nats(millionths: int) -> str:
    """Return a loss or gain in nats, to the millionth."""
    return f"{millionths / MILLION:.{_DIGITS}f}"
