"""The answer of each round's model to one question, beside the base model's."""

from collections.abc import Sequence
from typing import Any

from chain.location import FederationLocation
from commonweight.model.adapters import fetch_adapter
from protocol.types import RoundId
from runtime.events import Answered, Report
from runtime.home import cache_folder
from sponsor.config import Config
from storage.ipfs import ContentStore


def ask(
    location: FederationLocation, config: Config, models: Sequence[str], report: Report
) -> dict[str, Any] | None:
    """Ask the configuration's question of the base model and of `models`, CIDs by round.

    Returns {"question", "base", "rounds": one answer a model}, or None without a question; reports
    each answer. The base model is loaded in this process, as its quantization says.
    """
    question = config.data.question
    if question is None or not models:
        return None
    from training.session import open_session

    store, tokens = ContentStore(location.ipfs_url), config.model.answer_tokens
    base, answers = "", []
    for number, cid in enumerate(models, 1):
        found = fetch_adapter(cid, store)
        session = open_session(found.spec, config.model.source, cache_folder())
        if number == 1:
            base = session.answer(None, question, tokens)
            report(Answered(round=RoundId(0), answer=base))
        answers.append(session.answer(found.layers, question, tokens))
        report(Answered(round=RoundId(number), answer=answers[-1]))
    return {"question": question, "base": base, "rounds": answers}
