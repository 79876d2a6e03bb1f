"""Training on a participant's private data, and evaluating on the federation's held-out set."""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path

from node.participant import TrainedUpdate
from protocol.quantities import RoundId, parse_digest
from protocol.spec import Spec
from storage.ipfs import ContentStore
from storage.layers import LayerFolder
from storage.recorder import current


class LocalTrainer:
    """Trains with the examples in the file `data` on the base model found at `source`."""

    def __init__(
        self,
        data: Path,
        source: str,
        cache: Path,
        report: Callable[..., None] = lambda phase, **facts: None,
    ) -> None:
        self.data = data
        self.source = source
        self.cache = cache
        self.report = report

    def train(
        self, spec: Spec, model: LayerFolder, round_id: RoundId, update: LayerFolder
    ) -> TrainedUpdate:
        """Train from `model`, write the encoded result to `update`, return examples and loss."""
        # torch takes seconds to import: a participant that is not asked should not wait for it.
        from training.data import read_examples
        from training.session import open_session

        session = open_session(spec, self.source, self.cache)
        current().note(base_weights=session.base_weights)
        examples = read_examples(self.data)

        def on_step(step: int, steps: int, loss: float) -> None:
            self.report("training", round=round_id, step=step, steps=steps, loss=loss)

        seed = self._round_seed(spec, round_id)
        layers, report = session.train(model.read(spec), examples, seed, on_step)
        update.write(spec, layers)
        return TrainedUpdate(examples=report.examples, loss=report.mean_loss)

    def evaluate(
        self, spec: Spec, store: ContentStore, model: LayerFolder, part: int, parts: int
    ) -> tuple[float, int]:
        """Return (mean loss, answer tokens) on every `parts`-th held-out example from `part` on.

        The held-out set is public: it is the block whose digest the spec pins.
        """
        from training.data import read_examples
        from training.session import open_session

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "held_out.jsonl"
            path.write_bytes(store.get_block(parse_digest(spec.evaluation_digest)))
            examples = read_examples(path)[part::parts]
        session = open_session(spec, self.source, self.cache)
        evaluation = session.evaluate(model.read(spec), examples)
        return evaluation.loss, evaluation.tokens

    def _round_seed(self, spec: Spec, round_id: RoundId) -> int:
        """A seed for this round and this data, the same whichever wallet trains on it."""
        with self.data.open("rb") as file:
            data = hashlib.file_digest(file, "sha256").hexdigest()
        label = f"{spec.training.seed}/{round_id}/{data}".encode()
        return int.from_bytes(hashlib.sha256(label).digest()[:6], "big")
