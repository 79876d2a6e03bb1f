"""A contract that only looks like a federation: every role refuses it in one line."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from web3 import Web3

from chain.authentic import find_implementation
from chain.location import FederationLocation
from commonweight.cli import main
from protocol.types import Address
from runtime.settings import write_location
from tests.chain.test_authentic import code_of, deploy, proxy_to
from tests.passwords import write_password
from tests.world import World

ROLES = {
    "participant run": ["participant", "run", "--config", "participant.toml"],
    "participant join": ["participant", "join", "--config", "participant.toml"],
    "aggregator run": ["aggregator", "run", "--config", "aggregator.toml"],
    "audit run": ["audit", "run", "--federation", "federation.json"],
    "audit watch": ["audit", "watch", "--federation", "federation.json"],
    "federation show": ["federation", "show", "--federation", "federation.json"],
    "federation close": ["federation", "close", "--federation", "federation.json"],
    "federation refund": ["federation", "refund", "--federation", "federation.json"],
}
SENDING = {"audit watch", "federation close", "federation refund"}
WALLET = ["--keystore", "wallet.json", "--password-file", "password"]


@pytest.fixture(scope="module")
def lookalike(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, Address]]:
    """A federation, and a proxy of other code that answers every question as it does."""
    with World(tmp_path_factory.mktemp("lookalike")) as world:
        code = bytearray(code_of(world.w3, find_implementation(world.w3, world.address)))
        # The last byte of a selector that only a refusal uses: nothing that is read here differs.
        refusal = Web3.keccak(text="NotEligible(uint256,address)")[:4]
        code[code.index(refusal) + 3] ^= 1
        other = deploy(world.sponsor, bytes(code))
        arguments = code_of(world.w3, world.address)[45:]
        yield world, deploy(world.sponsor, proxy_to(other, arguments))


@pytest.mark.parametrize("role", ROLES)
def test_a_contract_that_only_looks_like_a_federation(
    lookalike: tuple[World, Address], role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, forged = lookalike
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMMONWEIGHT_HOME", str(tmp_path))
    location = FederationLocation(
        address=forged,
        chain_id=world.w3.eth.chain_id,
        deployment_block=world.deployment_block,
        rpc_url=world.rpc_url,
        ipfs_url=world.daemon.url,
    )
    write_location(Path("federation.json"), location)
    wallet = world.aggregator_wallet
    wallet.save_keystore(Path("wallet.json"), "long enough", work_factor=2**12)
    write_password(Path("password"), "long enough\n")
    own = 'federation = "federation.json"\nkeystore = "wallet.json"\npassword_file = "password"\n'
    Path("aggregator.toml").write_text(own)
    Path("participant.toml").write_text(own + 'data = "data.jsonl"\nmodel = "tiny-llama"\n')
    Path("data.jsonl").write_text(json.dumps({"question": "?", "answer": "!"}) + "\n")
    sent = world.w3.eth.get_transaction_count(Web3.to_checksum_address(wallet.address), "pending")

    options = WALLET if role in SENDING else []
    done = CliRunner().invoke(main, [*ROLES[role], *options])

    assert done.exit_code == 1, done.output
    words = f"the contract at {forged} is not a federation of this version"
    last = done.output.strip().splitlines()[-1]
    # A command says so, a role that runs unattended logs it.
    assert last == f"error: {words}" or last.endswith(f'failed  reason="{words}"')
    assert done.output.count("is not a federation") == 1
    pending = world.w3.eth.get_transaction_count(
        Web3.to_checksum_address(wallet.address), "pending"
    )
    assert pending == sent
