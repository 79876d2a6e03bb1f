"""Asking a federation's current model, and the base model beside it."""

import tempfile
from pathlib import Path
from typing import Any

from chain.location import FederationLocation
from chain.rounds import connect_federation, model_before
from commonweight.home import cache_folder
from node.settings import ParticipantSettings
from protocol.errors import Misconfigured
from protocol.quantities import RoundId
from protocol.spec import Spec
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Subject, fetch_model


def ask(file: Path, question: str, source: str | None, tokens: int) -> dict[str, Any]:
    """Return both answers to `question`, and the round whose model answered.

    `source` is where this machine finds the base model; without it, what the run beside the
    federation file uses.
    """
    from training.session import open_session

    location = FederationLocation.load(file)
    federation = connect_federation(location)
    store = ContentStore(location.ipfs_url)
    spec = Spec.parse(store.get_block(federation.terms().spec_digest))
    session = open_session(spec, source or _source_of_run(file), cache_folder())
    finished = federation.last_finalized_round()
    model = model_before(federation, RoundId(finished + 1))
    subject = Subject(location.chain_id, location.address, RoundId(finished + 1), "model")
    with tempfile.TemporaryDirectory() as folder:
        layers = LayerFolder(Path(folder))
        fetch_model(store, model.manifest, spec, subject, model.root, layers)
        fine_tuned, base = session.answer(layers.read(spec), question, tokens)
    return {"question": question, "round": finished, "fine_tuned": fine_tuned, "base": base}


def _source_of_run(file: Path) -> str:
    settings = sorted((file.parent / "participants").glob("*/participant.toml"))
    if not settings:
        raise Misconfigured("give --source: where this machine finds the base model")
    return ParticipantSettings.load(settings[0]).model
