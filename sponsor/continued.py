"""Where another federation ended, for one that goes on: `federation create --continue`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from chain.federation import connect_federation
from chain.location import FederationLocation
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import Digest, RoundId
from rounds.context import RoundContext
from rounds.rebuild import obtain_model
from rounds.whereabouts import learn_places
from storage.ipfs import ContentStore
from storage.layers import LayerFolder

_BYTES: Final = ("weights_digest", "tokenizer_digest", "chat_template_digest")


@dataclass(frozen=True)
class Predecessor:
    """A federation's newest finalized model, in a folder, and what it was trained for."""

    spec: Spec
    folder: LayerFolder
    root: Digest


def read_predecessor(location: FederationLocation, folder: Path) -> Predecessor:
    """Return the newest finalized model of a federation, verified; its files go below `folder`.

    Raises Unavailable when chain or store do not answer, and as `rounds.rebuild.obtain_model`.
    """
    now, store = connect_federation(location).now(), ContentStore(location.ipfs_url)
    learn_places(store, now)
    spec = Spec.parse(store.get_block(now.terms().identity.spec_digest))
    following = RoundId(now.round_count() + 1)
    context = RoundContext.at(now, store, spec, folder, following)
    return Predecessor(spec, obtain_model(context), context.model.root)


def check_continues(spec: Spec, predecessor: Spec) -> None:
    """Raise Misconfigured unless a predecessor's model is one of `spec`, with the same outputs."""
    old, new = predecessor.base_model, spec.base_model
    differing = [
        name
        for name, same in {
            "base model": all(getattr(old, each) == getattr(new, each) for each in _BYTES),
            "quantization": predecessor.quantization == spec.quantization,
            "adapter": predecessor.adapter == spec.adapter,
            "layers": predecessor.layers == spec.layers,
        }.items()
        if not same
    ]
    if differing:
        raise Misconfigured(
            f"the federation to continue has another {', '.join(differing)}: its model does not"
            " fit this configuration"
        )
    # There the frozen half of the adapter is drawn from the seed.
    if spec.adapter.mode == "ffa" and predecessor.training.seed != spec.training.seed:
        raise Misconfigured(
            f"the federation to continue was founded with seed {predecessor.training.seed}, which"
            f" its frozen matrices follow from: give --seed {predecessor.training.seed}"
        )
