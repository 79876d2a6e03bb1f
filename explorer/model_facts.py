"""A global model: its root and CID, what it is made of, and how to use it."""

from math import prod
from typing import Any

from chain.records import Model
from explorer.facts import Subject, head, model_as_json, origin_of
from explorer.federation_facts import losses
from protocol.types import RoundId
from sponsor.show import describe_base


def model_after(subject: Subject, number: int) -> Model | None:
    """Return the model after round `number`, 0 for the initial one; None where there is none.

    Only settled models count: one that is proposed may be refuted yet.
    """
    view = subject.view
    if number == 0:
        return view.history.model_before(RoundId(1), view.terms)
    told = view.history.rounds.get(RoundId(number))
    if told is None or told.finalized is None:
        return None
    return Model(told.finalized.root, told.finalized.manifest)


def model_facts(subject: Subject, number: int, *, can_export: bool) -> dict[str, Any]:
    """Return the model after round `number`, which `model_after` knows."""
    view, spec = subject.view, subject.spec
    model = model_after(subject, number)
    assert model is not None
    settled = [n for n, told in view.history.rounds.items() if told.finalized is not None]
    told = view.history.round(RoundId(number))
    if number:
        origin = origin_of(subject.audit.of_round(told))
    else:
        about = [c for c in subject.audit.general if c.claim.startswith("the initial model")]
        origin = "recomputed" if about and about[0].passed else "differs" if about else "chain"
    known = {each["round"]: each["loss"] for each in losses(subject)["points"]}
    manifest = subject.following.manifest(model.manifest)
    return {
        **head(subject),
        "model": model_as_json(model, number),
        "is_current": number == max(settled, default=0),
        "current": max(settled, default=0),
        "previous": max((n for n in [0, *settled] if n < number), default=None),
        "next": min((n for n in settled if n > number), default=None),
        "accepted": view.totals.figures(told, view.terms.seats).accepted if number else None,
        "base": None if spec is None else describe_base(spec),
        "values": None if spec is None else sum(prod(layer.shape) for layer in spec.layers),
        "layers": None if spec is None else len(spec.layers),
        "bytes": None if spec is None else spec.total_bytes("model"),
        "blocks": None if manifest is None else sum(len(each.blocks) for each in manifest.layers),
        "is_in_store": manifest is not None,
        "loss": known.get(number),
        "loss_before": known.get(0),
        "origin": origin,
        "can_export": can_export,
    }
