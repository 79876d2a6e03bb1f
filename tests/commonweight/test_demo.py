"""The whole path as a user walks it: `commonweight demo` with the tiny model, real processes."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chain.events import Committed
from chain.federation import connect_federation
from chain.location import FederationLocation
from contracts.enums import Status
from devnet.accounts import dev_account
from ethereum.wallet import Wallet
from tests.commonweight.program import TINY, Program
from tests.passwords import write_password
from tests.storage.other_daemons import running_ipfs

SEED = "7"


@pytest.fixture(scope="module")
def program(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("home"))
    if request.config.getoption("--chain") == "eth-tester":
        program.run("devnet", "up", "--chain", "eth-tester")
    yield program
    program.run("devnet", "down")


@pytest.fixture(scope="module")
def endpoints(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[list[str]]:
    """Options of the demo for the IPFS daemon that --ipfs asks for."""
    ipfs = request.config.getoption("--ipfs")
    if ipfs == "dev":
        yield []
        return
    with running_ipfs(ipfs, tmp_path_factory.mktemp("ipfs")) as url:
        yield ["--ipfs", url]


@pytest.fixture(scope="module")
def result(program: Program, endpoints: list[str]) -> dict[str, Any]:
    played: dict[str, Any] = program.json(
        "demo", "--config", str(TINY), "--seed", SEED, "--keep", *endpoints
    )
    return played


def test_the_demo_trains_pays_and_passes_its_audit(
    program: Program, result: dict[str, Any]
) -> None:
    assert result["seed"] == int(SEED)
    assert result["audit"]["failed"] == 0
    assert result["audit"]["checks"] > 30
    (audited,) = (line for line in program.progress() if line["phase"] == "audited")
    assert audited["checks"] == result["audit"]["checks"]
    assert [row["round"] for row in result["rounds"]] == [1, 2, 3]
    losses = [result["base_loss"]] + [row["loss"] for row in result["rounds"]]
    assert losses == sorted(losses, reverse=True)
    for row in result["rounds"]:
        assert len(row["accepted"]) == 4
        assert not row["rejected"]
        assert re.fullmatch(r"[0-9a-f]{64}", row["model_root"])
        assert row["model_cid"].startswith("bafkrei")
        assert row["gas"] > 500_000
    token = 10**18
    assert sorted(result["paid"].values()) == [150 * token, *[750 * token] * 4]
    assert (Path(result["folder"]) / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_was_profiled(program: Program, result: dict[str, Any]) -> None:
    profile = program.json("profile", result["folder"])
    times = {(row["role"], row["phase"]): row["times"] for row in profile["phases"]}
    for phase in ("train", "encode", "commit", "pin", "reveal"):
        assert times["participant", phase] == 4 * 3
    for phase in ("verify", "average", "pin", "propose"):
        assert times["aggregator", phase] == 3
    assert times["aggregator", "verify: fetch"] == times["aggregator", "verify: screen"] == 4 * 3
    found = profile["communication"]
    # Each fetched the initial model and three more, and sent three updates.
    # A model has four bytes a value, an update one.
    assert found["used_bytes"] == 4 * (4 * found["model_bytes"] + 3 * found["model_bytes"] // 4)
    assert found["full_weight_bytes"] == 4 * (4 * 4 + 3) * found["base_weights"]


def test_each_balance_grew_by_what_the_contract_says(
    program: Program, result: dict[str, Any]
) -> None:
    location = FederationLocation.load(Path(result["folder"]) / "federation.json")
    token = connect_federation(location).token
    for account in result["names"]:
        # A participant's wallet began with its stake, which it gave away, and nothing else.
        assert token.balance_of(account) == result["paid"][account]


def test_what_was_kept_can_be_read_again(program: Program, result: dict[str, Any]) -> None:
    assert program.json("devnet", "status")["chain_id"] == 31337
    shown = program.json("federation", "show")
    assert shown["federation"] == result["federation"]
    assert [row["status"] for row in shown["rounds"]] == ["finalized"] * 3
    assert "finalized" in program.here("federation", "show")
    answers = program.json("model", "chat", "What is a beta blocker?", "--tokens", "8")
    assert answers["model"] == "model after round 3"
    assert isinstance(answers["fine_tuned"], str)
    assert program.json("audit", "run")["failed"] == 0


def test_a_model_is_evaluated_beside_its_base(
    program: Program, result: dict[str, Any], tmp_path: Path
) -> None:
    found = program.json_here("model", "evaluate")
    assert found["model"] == "model after round 3"
    # As the roles measured it together, each on its share.
    assert found["fine_tuned"]["loss"] == pytest.approx(result["rounds"][-1]["loss"], rel=1e-5)
    assert found["base"]["loss"] == pytest.approx(result["base_loss"], rel=1e-5)
    (tmp_path / "mine.csv").write_text("ask,reply\nWhat is one?,A number.\n")
    own = ("--data", str(tmp_path / "mine.csv"), "--fields", "ask=question,reply=answer")
    assert "there is no part ask" in program.here("model", "evaluate", *own, code=1)
    own = (*own[:-1], "question=ask,answer=reply")
    shown = program.here("model", "evaluate", *own)
    assert "on 1 rows" in shown


def test_a_model_is_found_by_its_cid_and_exported(
    program: Program, result: dict[str, Any], tmp_path: Path
) -> None:
    cid, asked = result["rounds"][-1]["model_cid"], ("--question", "What is a statin?")
    current = program.json_here("model", "chat", *asked, "--tokens", "8")
    by_cid = program.json_here("model", "chat", *asked, "--tokens", "8", "--adapter", cid)
    assert by_cid == {**current, "model": "model of round 3"}
    folder = tmp_path / "adapter"
    exported = program.json_here("model", "export", str(folder), "--adapter", cid)
    assert exported == {"folder": str(folder), "kind": "adapter", "of": "model of round 3"}
    assert (folder / "adapter_model.safetensors").is_file()
    by_folder = program.json_here(
        "model", "chat", *asked, "--tokens", "8", "--adapter", str(folder)
    )
    assert by_folder["model"] == str(folder)
    program.here("model", "export", str(tmp_path / "merged"), "--merged", "fp16")
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    again = program.here("model", "export", str(folder), code=1)
    assert "exists: choose another place" in again


def test_another_federation_goes_on_with_its_model(
    program: Program, result: dict[str, Any], tmp_path: Path
) -> None:
    folder = Path(result["folder"])
    ended = FederationLocation.load(folder / "federation.json")
    password = tmp_path / "password"
    write_password(password, "secret\n")
    sponsor = Wallet.from_key(bytes(dev_account(0).key))
    sponsor.save_keystore(tmp_path / "sponsor.json", "secret", work_factor=4096)
    written = tmp_path / "federation.json"
    common = ["federation", "create", "--config", str(TINY), "--dev", "--seed", SEED]
    common += ["--keystore", str(tmp_path / "sponsor.json"), "--password-file", str(password)]
    common += ["--aggregator", dev_account(1).address, "--output", str(written)]
    common += ["--rpc", ended.rpc_url, "--ipfs", ended.ipfs_url]
    created = program.json_here(*common, "--continue", str(folder / "federation.json"))
    last = result["rounds"][-1]
    # The trial's rows are all of the small held-out set.
    assert created["trial"]["loss_before"] == pytest.approx(last["loss"], rel=1e-5)
    identity = connect_federation(FederationLocation.load(written)).terms().identity
    assert identity.initial_model_root.hex() == last["model_root"]
    # As `federation create` does, the same command goes on where it was interrupted.
    again = program.json_here(*common, "--continue", str(folder / "federation.json"))
    assert again == {**created, "trial": None}


def test_cast_reads_a_round_by_the_documented_abi(program: Program, result: dict[str, Any]) -> None:
    location = FederationLocation.load(Path(result["folder"]) / "federation.json")
    cast = Path(__file__).parents[2] / "contracts" / "node_modules" / ".bin" / "cast"
    command = [str(cast), "call", result["federation"], "status(uint256)(uint8)", "2"]
    done = subprocess.run(
        [*command, "--rpc-url", location.rpc_url], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(Status.FINALIZED.value), done.stderr


def test_the_devnet_comes_back_with_the_same_chain(
    program: Program, result: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--chain") == "eth-tester":
        pytest.skip("eth-tester keeps nothing")
    before = program.json("federation", "show")
    program.run("devnet", "down")
    assert "not running" in program.run("devnet", "status", code=1)
    # Whoever asks for a federation of a devnet starts it again.
    assert program.json("federation", "show") == before
    assert "running" not in program.run("devnet", "status")
    program.run("devnet", "down")
    assert program.json("audit", "run")["failed"] == 0


@pytest.mark.slow
def test_killed_it_goes_on_and_comes_to_the_same_models(
    tmp_path: Path, result: dict[str, Any], endpoints: list[str]
) -> None:
    """Killed after a commitment, after a reveal and after a proposal, each in another round."""
    program = Program(tmp_path)
    demo = ("demo", "--config", str(TINY), "--seed", SEED, *endpoints)
    for place in ((1, "committed"), (2, "revealed"), (3, "proposed")):
        program.run_until(place, *demo)
    again = program.json(*demo, "--keep")
    assert [r["model_root"] for r in again["rounds"]] == [r["model_root"] for r in result["rounds"]]
    assert again["base_loss"] == pytest.approx(result["base_loss"])
    assert again["audit"]["failed"] == 0
    trained = Counter(
        (line["who"], line["round"]) for line in program.progress() if line["phase"] == "trained"
    )
    location = FederationLocation.load(Path(again["folder"]) / "federation.json")
    commitments = Counter(
        (event.participant, event.round)
        for event in connect_federation(location).read_events()
        if isinstance(event, Committed)
    )
    program.run("devnet", "down")
    assert len(commitments) == 12
    assert set(commitments.values()) == {1}
    assert set(trained.values()) == {1}
