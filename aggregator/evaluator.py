"""Opens what gives the held-out loss of a federation's models: its base model, its public set."""

from pathlib import Path

from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import parse_digest
from rounds.compare import usable_cores
from rounds.score import Evaluate
from storage.blocks import ReadableStore
from storage.layers import LayerFolder


def open_evaluator(spec: Spec, store: ReadableStore, source: str, cache: Path) -> Evaluate:
    """Return the evaluator of a spec; the base model, found at `source`, is loaded now.

    Raises Misconfigured unless the spec pins it, and Unavailable when the set cannot be had.
    """
    try:
        # Here, because torch is an optional extra, and most federations measure nothing.
        from training.examples import parse_examples
        from training.model import set_threads
        from training.session import open_session
    except ModuleNotFoundError as error:
        advice = "pip install 'commonweight[train]'"
        raise Misconfigured(f"{error.name} is not installed: {advice}") from error
    examples = parse_examples(store.get_block(parse_digest(spec.evaluation_digest)))
    session = open_session(spec, source, cache)
    # All of them, also where Flower leaves each participant one: nobody trains during a proposal.
    set_threads(usable_cores())

    def evaluate(model: LayerFolder) -> float:
        return session.evaluate(model.read(spec), examples).loss

    return evaluate
