"""What version 1 left behind is refused in one line."""

import json
from pathlib import Path

import pytest

from chain.location import FederationLocation
from protocol.errors import Misconfigured
from runtime.service import alone
from runtime.settings import write_location

ADDRESS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
LOCATION = {
    "chain_id": 1,
    "address": ADDRESS,
    "deployment_block": 7,
    "rpc_url": "http://127.0.0.1:8545",
    "ipfs_url": "http://127.0.0.1:5001",
}


def test_a_federation_file(tmp_path: Path) -> None:
    file = tmp_path / "federation.json"
    file.write_text(json.dumps(LOCATION))
    with pytest.raises(Misconfigured, match="of version 1 of the protocol, which has ended"):
        FederationLocation.load(file)
    write_location(file, FederationLocation.model_validate(LOCATION))
    assert json.loads(file.read_text())["version"] == 2
    assert FederationLocation.load(file).address == ADDRESS
    file.write_text(json.dumps({**LOCATION, "version": 3}))
    with pytest.raises(Misconfigured, match="version"):
        FederationLocation.load(file)


def test_a_state_folder(tmp_path: Path) -> None:
    keystore = tmp_path / "wallet.json"
    keystore.write_text("{}")
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / ".running").touch()  # as version 1 left it
    with (
        pytest.raises(Misconfigured, match=f"the state folder {old} is of version 1"),
        alone(old, keystore),
    ):
        raise AssertionError("not reached")
    for _ in range(2):  # and again after a restart
        with alone(new, keystore):
            assert (new / "version").read_text() == "2\n"
