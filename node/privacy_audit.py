"""What a round says of a participant's data, found as an outsider who knows the model before would.

    the update         of a clear round anybody reads it; masks hide it
    the round's model  everybody has it
    the sketch         of a masked round everybody has 128 numbers of each update

All of it is on this machine, so that an update that masks hid can be looked at as if they had not.
The attacks are simple ones: what they find leaks, and what they do not find may leak all the same.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from math import log2
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from chain.federation import Federation
from chain.location import FederationLocation
from node.canaries import Canaries
from node.leakage import losses_of, sketch_scores, sketch_update, with_answers
from node.privacy import Ledger
from node.settings import ParticipantSettings
from node.trainer import LocalTrainer, open_trainer, read_held_out
from protocol.average import move_model
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import RoundId
from rounds.context import RoundContext
from rounds.prune import rounds_on_disk
from rounds.rebuild import obtain_model
from rounds.whereabouts import learn_places
from runtime.events import ignore
from runtime.status import open_federation
from storage.blocks import Store
from storage.files import locked
from storage.layers import LayerFolder
from training.examples import Example, read_examples
from training.leakage import chance_exposure, compare, exposure
from training.update import IntegerLayers, Steps

if TYPE_CHECKING:  # it imports torch
    from training.session import Session

Score = Callable[[Sequence[Example]], list[float]]
"""Returns how likely each example was trained on; only comparisons mean something."""


@dataclass(frozen=True)
class Material:
    """What is looked for: rows that a round read, and others that nothing was trained on.

    `times` is how often the round read each planted canary, on average. `are_alike` says whether
    `controls` are of the same data as `members`: else their topics may tell them apart.
    """

    planted: Sequence[Example]
    times: float
    kept: Sequence[Example]
    members: Sequence[Example]
    controls: Sequence[Example]
    are_alike: bool


@dataclass(frozen=True)
class Round:
    """A round as its participant knows it: models before and after, and what it trained."""

    context: RoundContext
    before: IntegerLayers
    steps: Steps
    after: IntegerLayers | None

    @property
    def update_applied(self) -> IntegerLayers:
        """The model that the update alone makes."""
        grid = self.context.spec.encoding.grid_in(self.context.round_id)
        pairs = zip(self.before, self.steps, strict=True)
        return [move_model(layer, [steps], [1], grid) for layer, steps in pairs]


def audit_round(
    settings: ParticipantSettings,
    wanted: RoundId | None = None,
    most: int = 200,
    controls: Path | None = None,
) -> dict[str, Any]:
    """Return what the round `wanted`, or the newest on disk, says of the data, as JSON values.

    At most `most` rows of each kind are looked for. `controls` is a file of rows like the data that
    were never trained on; else the validation part, else the public held-out set. Raises
    Misconfigured when the round's update is not on disk, or there is nothing to look for.
    """
    now, address = open_federation(settings)
    ipfs_url = FederationLocation.load(settings.federation).ipfs_url
    store = settings.store.open(ipfs_url, address, peers_with_authors=False)
    learn_places(store, now)
    spec = Spec.parse(store.get_block(now.terms().identity.spec_digest))
    with locked(settings.state):  # a running participant removes old rounds
        found = read_round(settings, now, store, spec, wanted)
    context = found.context
    trainer = open_trainer(settings, store, ignore)
    material = gather(trainer, spec, store, context.round_id, most, controls)
    ledger = Ledger.read(settings.state)
    is_noised = context.round_id in ledger.rounds_of(now.address)
    return {
        "federation": now.address,
        "participant": address,
        "round": context.round_id,
        "privacy": spec.privacy,
        "in_the_model": len(context.averaged),
        "epsilon_spent": ledger.epsilon if is_noised else None,
        "delta": ledger.delta if is_noised else None,
        "canaries_read": len(material.planted),
        "times": material.times,
        "controls_alike": material.are_alike,
        "found": look_for(material, ways_to_look(trainer.open(spec), found)),
    }


def read_round(
    settings: ParticipantSettings,
    now: Federation,
    store: Store,
    spec: Spec,
    wanted: RoundId | None,
) -> Round:
    """Return a round whose update is on disk; the newest such one unless another is `wanted`."""
    workspace = settings.state / now.address

    def context_of(round_id: int) -> RoundContext:
        return RoundContext.at(now, store, spec, workspace, RoundId(round_id))

    trained = [
        number
        for number in rounds_on_disk(context_of(1))
        if (workspace / f"round-{number:04d}" / "prepared.json").exists()
    ]
    if not trained or wanted not in (None, *trained):
        there = ", ".join(map(str, trained)) or "none"
        raise Misconfigured(
            f"{workspace} has no update of {'any round' if wanted is None else f'round {wanted}'}"
            f" to look at: it has {there}"
        )
    context = context_of(wanted or trained[-1])
    steps = LayerFolder(context.folder / "update", "update").read(spec)
    after = None
    if context.told.finalized is not None:
        after = obtain_model(context_of(context.round_id + 1)).read(spec)
    return Round(context, obtain_model(context).read(spec), steps, after)


def gather(
    trainer: LocalTrainer,
    spec: Spec,
    store: Store,
    round_id: RoundId,
    most: int,
    controls: Path | None,
) -> Material:
    """Return what to look for in a round that `trainer` trained, at most `most` rows of a kind."""
    training, validation = trainer.divided(spec)
    session = trainer.open(spec)
    if controls is not None:
        others, are_alike = read_examples(controls), True
    elif validation:
        others, are_alike = validation, True
    else:
        others, are_alike = read_held_out(spec, store), False
    read = Counter(trainer.rows_read(spec, session, round_id))
    canaries, path = None, trainer.privacy.canaries
    if path is not None:
        canaries = Canaries.load(path)
    planted = [each for each in canaries.planted if read[each]] if canaries else []
    known = {*(canaries.planted if canaries else ()), *others}
    members = [each for each in dict.fromkeys(training) if read[each] and each not in known]
    others = [each for each in dict.fromkeys(others) if not read[each]]
    kept = canaries.kept if canaries else ()
    fits = partial(with_answers, session)
    found = Material(
        fits(planted)[:most],
        fmean(read[each] for each in planted) if planted else 0.0,
        fits(kept)[:most],
        fits(members)[:most],
        fits(others)[:most],
        are_alike,
    )
    if not (found.planted and found.kept) and not (found.members and found.controls):
        raise Misconfigured(
            "there is nothing to look for: plant canaries, set a validation share, or give controls"
        )
    return found


def ways_to_look(session: "Session", found: Round) -> dict[str, Score]:
    """Return how to score examples by each thing that a round made, by its name."""

    def by_loss(layers: IntegerLayers, examples: Sequence[Example]) -> list[float]:
        pairs = zip(
            losses_of(session, found.before, examples),
            losses_of(session, layers, examples),
            strict=True,
        )
        return [old - new for old, new in pairs]

    ways: dict[str, Score] = {"update": partial(by_loss, found.update_applied)}
    if found.after is not None:
        ways["model"] = partial(by_loss, found.after)
    if found.context.spec.privacy == "masked":
        # What a round that is not as far would have drawn does not matter.
        drawn = found.context.told.masking.sketch_seed
        seed = drawn or hashlib.sha256(b"audit").digest()
        posted = sketch_update(found.steps, seed)
        ways["sketch"] = lambda examples: sketch_scores(
            session, found.before, posted, seed, examples
        )
    return ways


def look_for(material: Material, ways: Mapping[str, Score]) -> list[dict[str, Any]]:
    """Return for each way to look how well it finds canaries and rows; None for what is missing."""
    found = []
    for name, score in ways.items():
        row: dict[str, Any] = {"published": name, "canaries": None, "rows": None}
        if material.planted and material.kept:
            planted, kept = score(material.planted), score(material.kept)
            told = compare(planted, kept)
            row["canaries"] = {
                **asdict(told),
                "in_words": told.in_words,
                "exposure": fmean(exposure(each, kept) for each in planted),
                "chance": chance_exposure(len(kept)),
                "most": log2(len(kept) + 1),
            }
        if material.members and material.controls:
            told = compare(score(material.members), score(material.controls))
            row["rows"] = {**asdict(told), "in_words": told.in_words}
        found.append(row)
    return found


def describe_audit(audit: Mapping[str, Any]) -> list[str]:
    """Return the lines in which an audit's result is told."""
    is_masked = audit["privacy"] == "masked"
    noised = "without noise"
    if audit["epsilon_spent"] is not None:
        spent, delta = audit["epsilon_spent"], audit["delta"]
        noised = f"with noise, ε {spent:.2f} spent so far at δ {delta:g}"
    lines = [
        f"round {audit['round']} of {audit['federation']}, {audit['privacy']}, trained {noised}"
    ]
    titles = {
        "update": "your update" + (", which masks hide" if is_masked else ", which is public"),
        "model": f"the round's model, a mean of {audit['in_the_model']}, which is public",
        "sketch": "the sketch of your update, which is public",
    }
    for row in audit["found"]:
        lines.append(titles[row["published"]])
        if (told := row["canaries"]) is not None:
            bits = f"{told['exposure']:.2f} of {told['most']:.2f} bits"
            lines.append(
                f"  canaries  {told['in_words']}: {bits}, {told['chance']:.2f} by chance;"
                f" {told['members']} planted, read {audit['times']:.1f} times each;"
                f" {_interval(told)}"
            )
        if (told := row["rows"]) is not None:
            lines.append(
                f"  rows      {told['in_words']}: {_interval(told)}; {told['members']} that the"
                f" round read, {told['others']} others"
            )
    if not audit["controls_alike"]:
        lines.append(
            "the others are the public held-out set: if their topics are not those of your data,"
            " that tells them apart. Set a validation share, or give --controls"
        )
    if audit["epsilon_spent"] is None:
        lines.append("noise bounds what any attack finds: epsilon in [privacy] (docs/privacy.md)")
    if not is_masked:
        lines.append("masks would leave the model, and a sketch: a federation decides on them")
    lines.append(
        "at chance is no proof: it says what these attacks found, and others may find more"
    )
    return lines


def _interval(told: Mapping[str, Any]) -> str:
    return f"AUC {told['auc']:.2f}, 95% interval {told['low']:.2f} to {told['high']:.2f}"
