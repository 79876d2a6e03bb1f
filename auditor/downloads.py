"""Fetches and verifies the layer files of an audit, several at once and ahead of their use.

A dead or slow peer holds up one download until its timeout, and no other.
"""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

from chain.records import Model
from protocol.errors import CommonweightError
from protocol.reveal import Reveal
from protocol.types import RoundId
from rounds.context import RoundContext
from rounds.rebuild import Fetcher
from storage.blocks import ReadableStore
from storage.layers import LayerFolder, fetch_model

UPDATES_AT_ONCE: Final = 64  # a round's, so that those which are gone take the time of one
# The model before a round and the one after it. A pool of their own: updates must not delay them.
_MODELS_AT_ONCE: Final = 2


class Downloads(Fetcher):
    """The downloads of one federation, begun by one thread."""

    def __init__(self, store: ReadableStore) -> None:
        super().__init__()
        self._store = store
        self._update_pool = ThreadPoolExecutor(UPDATES_AT_ONCE, thread_name_prefix="update")
        self._model_pool = ThreadPoolExecutor(_MODELS_AT_ONCE, thread_name_prefix="model")
        self._updates: dict[Path, Future[LayerFolder]] = {}
        self._models: dict[Model, tuple[RoundId, Future[LayerFolder]]] = {}

    def begin_updates(self, context: RoundContext) -> None:
        """Start fetching every update revealed in a round, unless that was started already."""
        for reveal in context.reveals:
            path = context.update_folder(reveal.participant).path
            if path not in self._updates:
                self._updates[path] = self._update_pool.submit(
                    super().fetch_update, context, reveal
                )

    def fetch_update(self, context: RoundContext, reveal: Reveal) -> LayerFolder:
        """Fetch an update, or wait for a download that was started."""
        begun = self._updates.get(context.update_folder(reveal.participant).path)
        return super().fetch_update(context, reveal) if begun is None else begun.result()

    def begin_model(self, context: RoundContext, model: Model) -> Future[LayerFolder]:
        """Start fetching and hashing the model before a round, or one proposed for it."""
        is_before = model == context.model
        published = context.model_before() if is_before else context.model_after(model)
        before = published.subject.round_id
        # One download serves several rounds: a manifest made before one round was made before
        # every later one too. For an earlier round it has to be checked again.
        earliest, known = self._models.get(model, (before, None))
        if known is not None and earliest <= before:
            return known
        folder = context.model_folder(model)
        begun = self._model_pool.submit(fetch_model, self._store, published, folder)
        self._models[model] = (before, begun)
        return begun

    def fetch_model(self, context: RoundContext) -> LayerFolder:
        """Fetch the model before a round, or wait for a download that was started."""
        return self.fetch_proposed(context, context.model)

    def fetch_proposed(self, context: RoundContext, model: Model) -> LayerFolder:
        """Return a proposed model's verified files; raises like `storage.layers.fetch_model`."""
        try:
            return self.begin_model(context, model).result()
        except CommonweightError:
            self._models.pop(model, None)  # it may be available the next time
            raise

    def finish(self) -> None:
        """Wait until nothing is being fetched any more: afterwards the folder is the caller's."""
        wait([*self._updates.values(), *(begun for _, begun in self._models.values())])

    def drop(self, context: RoundContext, model: Model) -> None:
        """Remove what no round after this one needs; `model` is the one that the next starts from.

        Check 12 compares updates with those of two finalized rounds before, this one and another,
        and with the last movement of the model.
        """
        another = next(context.finalized_before(), context)
        for round_id in context.history.rounds:
            folder = context.round_folder(round_id)
            if round_id < context.round_id and round_id != another.round_id:
                shutil.rmtree(folder, ignore_errors=True)
                gone = [path for path in self._updates if folder in path.parents]
                for path in gone:
                    del self._updates[path]
        kept = {model, context.model}
        # Where this round moved nothing, the last movement is still that of a round before.
        changed = context.last_change() if model.root == context.model.root else None
        if changed is not None:
            kept |= {changed.model}
        paths = {context.model_folder(each).path for each in kept}
        for path in context.model_folder(model).path.parent.glob("*"):
            if path not in paths:
                shutil.rmtree(path, ignore_errors=True)
        self._models = {known: found for known, found in self._models.items() if known in kept}
