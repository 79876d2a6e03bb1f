"""Trains on a participant's private data and evaluates on the federation's held-out set."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from node.canaries import planted_rows
from node.participant import TrainedUpdate
from node.privacy import PrivacyBudget
from node.settings import FieldNames, ParticipantSettings, Privacy
from profiling.recorder import current
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import RoundId, parse_digest
from runtime import events
from runtime.events import Report, ignore
from storage.blocks import Store
from storage.layers import LayerFolder
from training.examples import (
    Example,
    Fields,
    Loaded,
    in_validation,
    load,
    parse_examples,
    split_validation,
)
from training.update import Carried

# Functions below import most of `training` late: it imports torch, an optional extra that takes
# seconds to load, and a participant that is not asked to train should not wait for it.
if TYPE_CHECKING:
    from training.private import Protection
    from training.session import Session

MANY_CUT: Final = 10
"""Who has more than one in so many examples cut is warned: they lack their ends."""


def open_trainer(
    settings: ParticipantSettings,
    store: Store,
    report: Report,
    budget: PrivacyBudget | None = None,
) -> "LocalTrainer":
    """Return the trainer that a participant's settings describe.

    Where these protect records, it needs a `budget` to train, though not to evaluate.
    """
    return LocalTrainer(
        settings.data,
        settings.model,
        settings.cache,
        report,
        fields=settings.fields,
        encoding=settings.encoding,
        validation=settings.validation,
        rank=settings.rank,
        store=store,
        budget=budget,
        privacy=settings.privacy,
    )


class LocalTrainer:
    """Trains with the examples in `data` on the base model found at `source`.

    A share `validation` of the examples is withheld from training; each round reports the loss of
    the global model and of this participant's own update on it. `rank` trains fewer ranks than the
    spec has. With a `store`, the report on the data counts examples that are in the public held-out
    set. Where `privacy` has an epsilon, each round is taken from the `budget` and trained by
    DP-SGD; where it has canaries, these are among the examples.
    """

    def __init__(
        self,
        data: Path | str,
        source: str,
        cache: Path,
        report: Report = ignore,
        *,
        fields: FieldNames | None = None,
        encoding: str | None = None,
        validation: float = 0.0,
        rank: int | None = None,
        store: Store | None = None,
        budget: PrivacyBudget | None = None,
        privacy: Privacy | None = None,
    ) -> None:
        self.data = data
        self.source = source
        self.cache = cache
        self.report = report
        self.fields = fields or FieldNames()
        self.encoding = encoding
        self.validation = validation
        self.rank = rank
        self.store = store
        self.budget = budget
        self.privacy = privacy or Privacy()
        self._loaded: Loaded | None = None

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        """Train from `model`, write the difference with what was `carried` to `update`."""
        is_first = self._loaded is None
        training, validation = self.divided(spec)
        session = self.open(spec)
        current().note(base_weights=session.base_weights)
        if is_first:
            self._report_data(spec, session, training, validation)

        def on_step(step: int, steps: int, loss: float) -> None:
            self.report(events.Training(round=round_id, step=step, steps=steps, loss=loss))

        before = model.read(spec)
        protection = self._protect(spec, round_id)
        made, report = session.train(
            before,
            training,
            self.round_seed(spec, round_id),
            on_step,
            round_id=round_id,
            rank=self.rank,
            carried=carried,
            protection=protection,
        )
        update.write(spec, made.steps)
        self.report(
            events.Encoded(
                round=round_id,
                grid=made.grid,
                clipped_share=made.clipped_share,
                relative_error=made.relative_error,
            )
        )
        if validation:
            # Neither the global model nor this update was trained on these examples. The update is
            # applied as it was encoded, since that is what others will use.
            theirs = session.evaluate(before, validation)
            own = session.evaluate(made.applied_to(before), validation)
            self.report(
                events.Validated(round=round_id, model=theirs.loss, own=own.loss, tokens=own.tokens)
            )
        return TrainedUpdate(report.examples, report.mean_loss, made.carried)

    def _protect(self, spec: Spec, round_id: RoundId) -> "Protection | None":
        """Take a round from the budget and return how it protects records; None where it is bare.

        Raises BudgetSpent when it would be too much.
        """
        if self.privacy.epsilon is None:
            return None
        if self.budget is None:
            raise Misconfigured("records are to be protected, and there is no budget to train by")
        from training.private import Protection

        records = self.records(spec)
        mechanism = self.budget.plan(len(set(records)), spec.training)
        self.budget.spend(round_id, mechanism)
        return Protection(mechanism, self.privacy.clip, records)

    def evaluate(
        self, spec: Spec, store: Store, model: LayerFolder, part: int, parts: int
    ) -> tuple[float, int]:
        """Return the mean loss, nats per answer token, and the number of answer tokens.

        Evaluates every `parts`-th example of the public held-out set, starting at `part`.
        """
        examples = read_held_out(spec, store)[part::parts]
        evaluation = self.open(spec).evaluate(model.read(spec), examples)
        return evaluation.loss, evaluation.tokens

    def _load(self, spec: Spec) -> Loaded:
        if self._loaded is None:
            held_out = read_held_out(spec, self.store) if self.store else []
            fields = Fields(**self.fields.model_dump())
            self._loaded = load(self.data, fields, encoding=self.encoding, held_out=held_out)
        return self._loaded

    def _report_data(
        self,
        spec: Spec,
        session: "Session",
        training: list[Example],
        validation: list[Example],
    ) -> None:
        """Report what was read of the data, and what the sequence length cuts."""
        tokenized = session.measure(training)
        if tokenized.truncated * MANY_CUT > len(training):
            self.report(
                events.DataCut(
                    truncated=tokenized.truncated,
                    left_out=tokenized.left_out,
                    of=len(training),
                    tokens=spec.training.sequence_length,
                )
            )
        self.report(
            events.DataRead(
                **asdict(self._load(spec).report),
                training=len(training),
                validation=len(validation),
                truncated=tokenized.truncated,
                left_out=tokenized.left_out,
            )
        )

    def open(self, spec: Spec) -> "Session":
        """Return the base model in memory, with its adapter."""
        from training.session import open_session

        return open_session(spec, self.source, self.cache)

    def divided(self, spec: Spec) -> tuple[list[Example], list[Example]]:
        """Return the examples to train on, planted canaries included, and the validation part."""
        examples, seed = self._load(spec).examples, spec.training.seed
        training, validation = split_validation(examples, self.validation, seed)
        return training + planted_rows(self.privacy.canaries), validation

    def records(self, spec: Spec) -> list[int]:
        """Return the number of the record that each example to train on comes from."""
        loaded, share, seed = self._load(spec), self.validation, spec.training.seed
        found = [
            record
            for example, record in zip(loaded.examples, loaded.records, strict=True)
            if not in_validation(example, share, seed)
        ]
        first = max(loaded.records) + 1
        return found + list(range(first, first + len(planted_rows(self.privacy.canaries))))

    def rows_read(self, spec: Spec, session: "Session", round_id: RoundId) -> list[Example]:
        """Return the examples that training for a round reads, as often as it does.

        Where records are protected nobody knows which it read: all of them, once.
        """
        from training.train import order_of

        training, _ = self.divided(spec)
        if self.privacy.epsilon is not None:
            return training
        places = session.measure(training).places
        seed = self.round_seed(spec, round_id)
        return [training[places[row]] for row in order_of(len(places), spec.training, seed)]

    def round_seed(self, spec: Spec, round_id: RoundId) -> int:
        """Return a 48-bit seed that depends on spec, round and data, and not on the wallet."""
        if isinstance(self.data, Path):
            with self.data.open("rb") as file:
                data = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            data = hashlib.sha256(repr(self._load(spec).examples).encode()).hexdigest()
        label = f"{spec.training.seed}/{round_id}/{data}".encode()
        return int.from_bytes(hashlib.sha256(label).digest()[:6], "big")


def read_held_out(spec: Spec, store: Store) -> list[Example]:
    """Return the federation's public held-out examples: the block whose digest the spec pins."""
    return parse_examples(store.get_block(parse_digest(spec.evaluation_digest)))
