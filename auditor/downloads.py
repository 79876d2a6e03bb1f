"""Fetches and verifies the layer files of an audit, several at once and ahead of their use.

A dead or slow peer holds up one download until its timeout, and no other.
"""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from chain.records import Model
from protocol.errors import CommonweightError
from protocol.manifest import Manifest
from protocol.types import RoundId
from rounds.context import RoundContext
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Published, fetch_model, fetch_update

UPDATES_AT_ONCE: Final = 16
# The model before a round and the one after it. A pool of their own: updates must not delay them.
_MODELS_AT_ONCE: Final = 2


class Downloads:
    """The downloads of one federation; not thread-safe."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store
        self._update_pool = ThreadPoolExecutor(UPDATES_AT_ONCE, thread_name_prefix="update")
        self._model_pool = ThreadPoolExecutor(_MODELS_AT_ONCE, thread_name_prefix="model")
        self._updates: dict[Path, Future[Manifest]] = {}
        self._models: dict[Model, tuple[RoundId, Future[LayerFolder]]] = {}

    def begin_updates(self, context: RoundContext) -> None:
        """Start fetching every update revealed in a round, unless that was started already."""
        for reveal in context.reveals:
            folder = context.update_folder(reveal.participant)
            if folder.path not in self._updates:
                self._updates[folder.path] = self._update_pool.submit(
                    fetch_update, self._store, context.update(reveal), folder
                )

    def fetch_update(self, store: ContentStore, update: Published, folder: LayerFolder) -> Manifest:
        """Fetch like `storage.layers.fetch_update`, or wait for a download that was started."""
        begun = self._updates.get(folder.path)
        return fetch_update(store, update, folder) if begun is None else begun.result()

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

    def fetch_model(self, context: RoundContext, model: Model) -> LayerFolder:
        """Return a model's verified layer files; raises like `storage.layers.fetch_model`."""
        try:
            return self.begin_model(context, model).result()
        except CommonweightError:
            self._models.pop(model, None)  # it may be available the next time
            raise

    def drop(self, context: RoundContext, model: Model) -> None:
        """Remove a round's updates, and every model except `model`, which the next starts from."""
        shutil.rmtree(context.folder, ignore_errors=True)
        kept = context.model_folder(model).path
        for folder in kept.parent.glob("*"):
            if folder != kept:
                shutil.rmtree(folder, ignore_errors=True)
        self._models = {known: found for known, found in self._models.items() if known == model}
