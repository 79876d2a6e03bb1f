"""Which adapter a person means, and that every byte of it is verified."""

from pathlib import Path

import pytest

from chain.location import FederationLocation
from commonweight.model.adapters import Place, federated_adapter, fetch_adapter
from protocol.cid import raw_cid
from protocol.errors import Misconfigured
from runtime.settings import write_location
from storage.ipfs import ContentStore
from tests.world import World


def test_the_current_model_and_its_cid_are_the_same_adapter(tmp_path: Path) -> None:
    with World(tmp_path / "world") as world:
        # The spec's block is pinned by whoever launches a federation.
        world.aggregator.store.put_block(world.spec.to_bytes())
        world.play()
        file = tmp_path / "federation.json"
        write_location(
            file,
            FederationLocation(
                chain_id=world.w3.eth.chain_id,
                address=world.address,
                deployment_block=world.deployment_block,
                rpc_url=world.rpc_url,
                ipfs_url=world.daemon.url,
            ),
        )
        current = federated_adapter(None, Place(federation=file))
        cid = raw_cid(world.client().current_model().manifest)
        # By its CID it needs no chain, only a daemon.
        found = federated_adapter(cid, Place(ipfs_url=world.daemon.url))
    assert (current.name, found.name) == ("model after round 1", "model of round 1")
    assert found.spec == current.spec == world.spec
    for mine, theirs in zip(found.layers, current.layers, strict=True):
        assert (mine == theirs).all()


def test_what_is_no_cid_is_told_before_anything_is_asked() -> None:
    with pytest.raises(Misconfigured, match="is not the CIDv1 of a raw block"):
        fetch_adapter("./nowhere", ContentStore("http://127.0.0.1:9"))


def test_without_a_run_the_base_model_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="give --source"):
        Place(federation=tmp_path / "federation.json").base_source()
    assert Place(source="tiny-llama").base_source() == "tiny-llama"
