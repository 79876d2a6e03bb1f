"""Fetches and verifies the layer files of an audit, several at once and ahead of the recomputing.

    FOLDER/round-0001/ADDRESS/00000.layer     an update
    FOLDER/models/ROOT/00000.layer            a model

A peer that is dead or slow holds up one of the slots until its time is over, and nobody else.
"""

import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from auditor.history import RoundHistory
from chain.records import Model
from protocol.errors import CommonweightError
from protocol.manifest import Kind, Manifest
from protocol.spec import Spec
from protocol.types import Address, Digest, RoundId
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Subject, fetch_model, fetch_verified

UPDATES_AT_ONCE: Final = 16
_MODELS_AT_ONCE: Final = 2  # the one before a round and the one after it; updates do not hold them


class Downloads:
    """The files of one federation, below `folder`; to be used by one thread."""

    def __init__(
        self, store: ContentStore, chain_id: int, federation: Address, folder: Path
    ) -> None:
        self._store = store
        self._chain_id = chain_id
        self._federation = federation
        self._folder = folder
        self._update_pool = ThreadPoolExecutor(UPDATES_AT_ONCE, thread_name_prefix="update")
        self._model_pool = ThreadPoolExecutor(_MODELS_AT_ONCE, thread_name_prefix="model")
        self._updates: dict[Path, Future[Manifest]] = {}
        self._models: dict[Model, tuple[RoundId, Future[LayerFolder]]] = {}

    def begin_updates(self, spec: Spec, history: RoundHistory) -> None:
        """Start to fetch every update revealed in a round, unless that was started already."""
        subject = self.subject(history.round_id, "update")
        for reveal in history.reveals():
            folder = LayerFolder(self.round_folder(history.round_id) / reveal.participant)
            if folder.path not in self._updates:
                self._updates[folder.path] = self._update_pool.submit(
                    fetch_verified, self._store, reveal.manifest, spec, subject, reveal.root, folder
                )

    def fetch_update(
        self,
        store: ContentStore,
        manifest_digest: Digest,
        spec: Spec,
        subject: Subject,
        root: Digest,
        folder: LayerFolder,
    ) -> Manifest:
        """Do as `storage.layers.fetch_verified`: wait for what was begun, else fetch it now."""
        begun = self._updates.get(folder.path)
        if begun is not None:
            return begun.result()
        return fetch_verified(store, manifest_digest, spec, subject, root, folder)

    def begin_model(self, spec: Spec, model: Model, before: RoundId) -> Future[LayerFolder]:
        """Start to fetch and hash the model that stood before a round, unless that was started."""
        # A manifest from before one round is from before every later one.
        earliest, known = self._models.get(model, (before, None))
        if known is not None and earliest <= before:
            return known
        begun = self._model_pool.submit(
            fetch_model,
            self._store,
            model.manifest,
            spec,
            self.subject(before, "model"),
            model.root,
            self._model_folder(model),
        )
        self._models[model] = (before, begun)
        return begun

    def fetch_model(self, spec: Spec, model: Model, before: RoundId) -> LayerFolder:
        """Return a model's layer files, its root recomputed. Raises as `storage.fetch_model`."""
        try:
            return self.begin_model(spec, model, before).result()
        except CommonweightError:
            self._models.pop(model, None)  # it may be had another time
            raise

    def drop(self, round_id: RoundId, model: Model) -> None:
        """Remove a round's updates, and every model but `model`."""
        shutil.rmtree(self.round_folder(round_id), ignore_errors=True)
        kept = self._model_folder(model).path
        for folder in kept.parent.glob("*"):
            if folder != kept:
                shutil.rmtree(folder, ignore_errors=True)
        self._models = {known: found for known, found in self._models.items() if known == model}

    def subject(self, round_id: RoundId, kind: Kind) -> Subject:
        """Return what a manifest of this round must be about."""
        return Subject(self._chain_id, self._federation, round_id, kind)

    def round_folder(self, round_id: RoundId) -> Path:
        """Return where a round's updates go, a folder a participant."""
        return self._folder / f"round-{round_id:04d}"

    def _model_folder(self, model: Model) -> LayerFolder:
        return LayerFolder(self._folder / "models" / model.root.hex())
