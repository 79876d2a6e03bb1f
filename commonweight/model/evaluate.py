"""The loss of a federation's model, beside the base model's, on its held-out set or on own data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from commonweight.model.adapters import Place, federated_adapter
from protocol.types import parse_digest
from runtime.home import cache_folder

# Types alone: importing training imports torch, an optional extra.
if TYPE_CHECKING:
    from training.evaluate import Evaluation


@dataclass(frozen=True)
class Evaluated:
    """What a model and its base model give on the same rows; losses in nats per answer token."""

    name: str
    rows: int
    fine_tuned: "Evaluation"
    base: "Evaluation"


def evaluate_model(
    adapter: str | None,
    place: Place,
    data: str | None,
    fields: Mapping[str, str] | None = None,
    encoding: str | None = None,
) -> Evaluated:
    """Evaluate the model with this CID, the current one without, as the federation's spec says.

    On `data` (training/tables.py), else on the federation's public held-out set. Raises
    Misconfigured and Unavailable with what cannot be read.
    """
    # Before torch is imported, which takes seconds: a wrong CID or file is reported at once.
    found = federated_adapter(adapter, place)
    from training.examples import Fields, load, parse_examples

    if data is None:
        raw = place.store().get_block(parse_digest(found.spec.evaluation_digest))
        examples = parse_examples(raw)
    else:
        examples = list(load(data, Fields(**(fields or {})), encoding=encoding).examples)
    from training.session import open_session

    session = open_session(found.spec, place.base_source(), cache_folder())
    return Evaluated(
        found.name,
        len(examples),
        session.evaluate(found.layers, examples),
        session.evaluate(None, examples),
    )
