"""The dev chain as Foundry's `cast` sees it. Skipped where `cast` is not installed."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount

from chain.devchain import DevChain, dev_account
from tests.chain.probe import CODE

ROOT = Path(__file__).parents[2]
ALICE, BOB = dev_account(0), dev_account(1)


def find_cast() -> str | None:
    """Return $CAST, the one that `make` installs beside the contracts, or the one on the PATH."""
    installed = ROOT / "contracts" / "node_modules" / ".bin" / "cast"
    return os.environ.get("CAST") or (
        str(installed) if installed.exists() else shutil.which("cast")
    )


CAST = find_cast()
pytestmark = pytest.mark.skipif(CAST is None, reason="cast is not installed")


@pytest.fixture(scope="module")
def chain() -> Iterator[DevChain]:
    with DevChain() as running:
        yield running


def run(chain: DevChain, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(CAST), *arguments],
        env={**os.environ, "ETH_RPC_URL": chain.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def cast(chain: DevChain, *arguments: str) -> str:
    """Return what cast prints, which must succeed."""
    done = run(chain, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def private_key(account: LocalAccount) -> str:
    return "0x" + bytes(account.key).hex()


@pytest.fixture(scope="module")
def probe(chain: DevChain) -> str:
    sent = cast(chain, "send", "--json", "--private-key", private_key(ALICE), "--create", CODE)
    return str(json.loads(sent)["contractAddress"])


def test_reading(chain: DevChain) -> None:
    assert cast(chain, "chain-id") == "31337"
    assert cast(chain, "balance", dev_account(9).address) == str(10_000 * 10**18)
    assert json.loads(cast(chain, "block", "latest", "--json"))["gasLimit"] == hex(30_000_000)


def test_sending_and_calling(chain: DevChain, probe: str) -> None:
    key = private_key(BOB)
    for kind, flags in (("0x2", []), ("0x0", ["--legacy"])):
        store = ["send", "--json", *flags, "--private-key", key, probe, "store(uint256)", "41"]
        receipt = json.loads(cast(chain, *store))
        assert (receipt["status"], receipt["type"]) == ("0x1", kind)
    assert cast(chain, "call", probe, "value()(uint256)") == "41"
    logs = json.loads(cast(chain, "logs", "--json", "--from-block", "0", "--address", probe))
    assert [int(log["topics"][2], 16) for log in logs] == [41, 41]
    assert json.loads(cast(chain, "tx", receipt["transactionHash"], "--json"))["type"] == "0x0"


def test_a_revert_shows_its_data(chain: DevChain, probe: str) -> None:
    words = f"{4:064x}{7:064x}"
    done = run(chain, "call", probe, "refuse(uint256)", "4")
    assert "execution reverted" in done.stderr
    assert words in done.stderr
    key = private_key(ALICE)
    refuse = ["send", "--json", "--gas-limit", "100000", "--private-key", key, probe]
    assert json.loads(cast(chain, *refuse, "refuse(uint256)", "4"))["status"] == "0x0"


def test_unlocked_account_and_time(chain: DevChain) -> None:
    unlocked = ["send", "--json", "--unlocked", "--from", ALICE.address, BOB.address]
    assert json.loads(cast(chain, *unlocked, "--value", "1"))["status"] == "0x1"
    assert int(cast(chain, "rpc", "evm_increaseTime", "60")) >= 60
    assert cast(chain, "rpc", "evm_mine") == '"0x0"'
