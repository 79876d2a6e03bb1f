"""What `federation show` says of a federation's history."""

from pathlib import Path

import pytest

from chain.location import FederationLocation
from protocol.types import RoundId
from sponsor.show import describe_federation, print_federation
from tests.world import World


def test_who_rejected_how_many_as_unreachable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with World(tmp_path) as world:
        world.play()
        round_id = world.open_round()
        assert round_id == RoundId(2)
        world.commit_and_reveal(round_id)
        revealed = world.told(round_id).revealed
        world.withhold(revealed[1].manifest)
        world.settle(round_id)
        location = FederationLocation(
            chain_id=31337,
            address=world.address,
            deployment_block=world.deployment_block,
            rpc_url=world.rpc_url,
            ipfs_url=world.daemon.url,
        )
        described = describe_federation(location)
    lead = world.aggregator_wallet.address
    assert described["unreachable"] == {lead: {"revealed": 6, "rejected": 1}}
    print_federation(described)
    line = f"aggregator {lead} rejected 1 of 6 updates as not reachable in time"
    assert line in capsys.readouterr().out
    described["unreachable"][lead]["rejected"] = 0
    print_federation(described)
    assert "not reachable" not in capsys.readouterr().out
