"""The public names are documented, and the examples of docs/python.md hold."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from commonweight import api
from tests.world import World

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


class Shifting:
    """The trainer of docs/python.md, with a shift for training."""

    def train(
        self,
        spec: api.Spec,
        model: api.LayerFolder,
        round_id: api.RoundId,
        update: api.LayerFolder,
        carried: Sequence[NDArray[np.float64]] | None,
    ) -> api.TrainedUpdate:
        before = model.read(spec)
        after = [api.decode_values(layer) + 0.01 for layer in before]
        made = api.encode_update(before, after, carried, spec.encoding.grid_in(round_id))
        update.write(spec, made.steps)
        return api.TrainedUpdate(examples=80, loss=2.4, carried=made.carried)


def test_every_public_name_is_documented_and_no_other() -> None:
    text = PAGE.read_text()
    in_code = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    missing = {name for name in api.__all__ if name not in in_code}
    assert not missing
    imported = re.findall(r"from commonweight\.api import (.+)", text)
    assert {name.strip() for line in imported for name in line.split(",")} <= set(api.__all__)
    assert sorted(api.__all__) == api.__all__
    for name in api.__all__:
        assert getattr(api, name) is not None
        assert name == "RoundId" or getattr(api, name).__doc__


def test_a_trainer_of_ones_own_takes_part_and_its_model_is_read(tmp_path: Path) -> None:
    trainer: api.Trainer = Shifting()
    with World(tmp_path / "world") as world:
        world.aggregator.store.put_block(world.spec.to_bytes())
        for participant in world.participants.values():
            participant.trainer = trainer
        location = api.FederationLocation(
            chain_id=world.w3.eth.chain_id,
            address=world.address,
            deployment_block=world.deployment_block,
            rpc_url=world.rpc_url,
            ipfs_url=world.daemon.url,
        )
        before = api.fetch_global_model(location)
        world.play()
        after = api.fetch_global_model(location)
        audit = api.Audit(
            api.connect_federation(location), api.ContentStore(world.daemon.url), tmp_path
        )
        assert all(check.passed for check in audit.run())
    for layer in world.spec.layers:
        assert after.arrays()[layer.name].shape == layer.shape
        shifted = after.arrays()[layer.name] - before.arrays()[layer.name]
        np.testing.assert_allclose(shifted, 0.01, atol=2.0 ** -(world.spec.encoding.grid_bits + 1))
