"""`participant` and `aggregator`: what is checked before they start, and what they say."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from chain.federation import Federation
from chain.token import Erc20
from commonweight.cli import main
from devnet.accounts import dev_account
from ethereum.wallet import Wallet
from node.settings import ParticipantSettings
from protocol.types import Address, TokenUnits
from runtime.processes import free_port
from runtime.settings import write_location
from storage.ipfs import ContentStore
from tests.commonweight.network import Network
from tests.commonweight.program import TINY
from tests.passwords import write_password
from tests.storage.test_sources import ID
from tests.storage.web_server import WebServer

NAME = "cardiology"
SPONSOR = Wallet.from_key(bytes(dev_account(0).key))
TOKEN = 10**18
PEER = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
BURNT = Address("0x000000000000000000000000000000000000dEaD")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with (
        Network(tmp_path_factory.mktemp("network")) as network,
        pytest.MonkeyPatch.context() as patch,
    ):
        # The commands below find the network's devnet and its cache, and leave nothing at home.
        patch.setenv("COMMONWEIGHT_HOME", str(network.folder))
        yield network


def run(*arguments: object, code: int = 0) -> str:
    """Run a command in this process; return all it prints."""
    done = CliRunner().invoke(main, [str(each) for each in arguments])
    assert done.exit_code == code, done.output
    if code:
        last = done.output.strip().splitlines()[-1]
        assert last.startswith("error: ") or 'failed  reason="' in last
    return done.output


def run_json(*arguments: object) -> Any:
    """Run a command with --json in this process; return what it prints, progress left out."""
    done = CliRunner().invoke(main, [*(str(each) for each in arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def given(network: Network) -> dict[str, Any]:
    """The options of a participant that lacks nothing."""
    folder = network.folder / NAME
    return {
        "keystore": folder / "wallet.json",
        "password-file": folder / "wallet.password",
        "data": folder / "data.jsonl",
        "model": "tiny-llama",
        "rpc": network.net.rpc_url,
        "ipfs": network.net.ipfs_url,
        "address": network.location.address,
    }


def init(folder: Path, given: dict[str, Any], code: int = 0, noun: str = "participant") -> str:
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    return run(noun, "init", "--folder", folder, "--yes", *options, code=code)


def line_of(output: str, subject: str) -> str:
    """Return the line about one check, which says first whether it is ok."""
    (line,) = [each for each in output.splitlines() if each[9:].split(" ")[0] == subject]
    return line


# ----------------------------------------------------------------------- init


def test_who_lacks_nothing_can_start(
    tmp_path: Path, given: dict[str, Any], network: Network
) -> None:
    output = init(tmp_path, given)
    assert [line[:2] for line in output.splitlines()[:10]] == ["ok"] * 10
    assert "participant run --config" in output
    written = json.loads((tmp_path / "federation.json").read_text())
    assert written == network.location.model_dump(mode="json")
    assert "not running" in run("participant", "status", "--config", tmp_path / "participant.toml")


def test_the_spec_says_which_base_model(tmp_path: Path, given: dict[str, Any]) -> None:
    del given["model"]
    assert "missing" not in init(tmp_path, given)
    assert ParticipantSettings.load(tmp_path / "participant.toml").model == "tiny-llama:0"


def test_a_password_in_an_address_is_neither_written_nor_repeated(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    address = "https://ann:verysecret@ipfs.example/prefix"
    output = init(tmp_path, {**given, "ipfs": address}, code=1)
    assert "without user, password and path" in output.splitlines()[-1]
    assert "verysecret" not in output
    assert not any("verysecret" in file.read_text() for file in tmp_path.iterdir())


def test_answers_and_settings_by_hand_are_remembered(tmp_path: Path, given: dict[str, Any]) -> None:
    init(tmp_path, given)
    file = tmp_path / "participant.toml"
    file.write_text(file.read_text() + "withdraw_at = 12.5\n")
    init(tmp_path, {"model": "tiny-llama:7"}, code=1)
    assert "withdraw_at = 12.5" in file.read_text()
    assert 'model = "tiny-llama:7"' in file.read_text()
    assert "ok" in line_of(init(tmp_path, {"model": "tiny-llama"}), "stake")


@pytest.mark.parametrize(
    ("change", "subject", "words"),
    [
        ({"chain-id": 1}, "chain", "serves chain 31337, chain 1 was expected"),
        ({"address": "0x" + "0" * 39 + "1"}, "contract", "there is no contract at 0x"),
        ({"address": "TOKEN"}, "contract", "is not a federation of this version"),
        ({"keystore": "OPEN"}, "wallet", "can be read by others (mode 0644): run chmod 600"),
        ({"password-file": "WRONG"}, "wallet", "the password does not open"),
        ({"rpc": "DOWN"}, "chain", "cannot be reached"),
        ({"ipfs": "DOWN"}, "ipfs", "no IPFS daemon answers at"),
        ({"data": "nowhere.jsonl"}, "data", "no file"),
        ({"data": "BROKEN"}, "data", "line 1"),
        ({"model": "tiny-llama:9"}, "model", "its weights_digest is"),
        ({"keystore": "POOR"}, "gas", "holds 0.000000 ether"),
        ({"keystore": "POOR"}, "stake", "get 500.00 more"),
    ],
)
def test_what_is_missing_is_one_line(
    tmp_path: Path,
    given: dict[str, Any],
    network: Network,
    change: dict[str, Any],
    subject: str,
    words: str,
) -> None:
    (name, value), *_ = change.items()
    output = init(tmp_path, {**given, name: special(value, tmp_path, given, network)}, code=1)
    line = line_of(output, subject)
    assert line.startswith("MISSING")
    assert words in line


def special(value: Any, folder: Path, given: dict[str, Any], network: Network) -> Any:
    """Return what a word in capitals stands for."""
    if value == "TOKEN":
        return network.client().terms().money.token
    if value == "DOWN":
        return f"http://127.0.0.1:{free_port()}"
    path = folder / str(value).lower()
    if value == "OPEN":
        shutil.copy(given["keystore"], path)
        path.chmod(0o644)
    elif value == "WRONG":
        write_password(path, "guess\n")
    elif value == "BROKEN":
        path = path.with_suffix(".jsonl")
        path.write_text("{not json\n")
    elif value == "POOR":
        password = given["password-file"].read_text().strip()
        Wallet.create().save_keystore(path, password, work_factor=4096)
    else:
        return value
    return path


def test_fields_encoding_and_ranks_are_tried_and_remembered(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    data = tmp_path / "karten.csv"
    data.write_bytes("Frage;Antwort\r\nWas misst 5 µm?;Wenig.\r\n".encode("cp1252"))
    own = {**given, "data": data}
    line = line_of(init(tmp_path, own, code=1), "data")
    assert "line 2: not UTF-8 text" in line
    own["encoding"] = "cp1252"
    line = line_of(init(tmp_path, own, code=1), "data")
    assert "found Frage, Antwort: name yours with fields = {" in line
    # The advice, followed by hand: top of the settings.
    file = tmp_path / "participant.toml"
    advice = 'fields = { question = "frage", answer = "Antwort" }\n'
    file.write_text(advice + file.read_text())
    output = init(tmp_path, own)
    assert "1 examples in" in line_of(output, "data")
    assert "one step on your data: loss" in line_of(output, "training")
    # Without any option, or with the empty ones that compose.participant.yml passes, everything is
    # remembered; and what cannot be trained is missing.
    empty = dict.fromkeys(("fields", "encoding", "validation", "rank"), "")
    for options in ({}, empty):
        assert "missing" not in init(tmp_path, options)
    assert 'question = "frage"' in file.read_text()
    assert "rank 99 is not one of 1 to" in line_of(init(tmp_path, {"rank": 99}, code=1), "training")
    init(tmp_path, {"rank": 1, "fields": "question=Frage, answer=Antwort"})
    settings = ParticipantSettings.load(file)
    assert settings.rank == 1
    assert settings.encoding == "cp1252"
    assert settings.fields.model_dump(exclude_none=True) == {
        "question": "Frage",
        "answer": "Antwort",
    }
    error = run("participant", "init", "--folder", tmp_path, "--yes", "--fields", "x=y", code=1)
    assert "fields.x: there is no such key; known are question, context, answer" in error
    error = run("participant", "init", "--folder", tmp_path, "--yes", "--fields", "Frage", code=1)
    assert error.splitlines()[-1].endswith("--fields was expected as PART=FIELD,…, not Frage")
    # What is chosen as it would be anyway is chosen no more.
    for share, code in ((0.5, 1), (0, 0)):
        init(tmp_path, {"validation": share}, code=code)  # half of one example is none
        assert ParticipantSettings.load(file).validation == share
    assert "validation" not in file.read_text()


def test_data_of_which_most_is_cut_are_a_warning(tmp_path: Path, given: dict[str, Any]) -> None:
    data = tmp_path / "long.jsonl"
    row = {"question": "Q?", "answer": "A" * 5_000}
    data.write_text(f"{json.dumps(row)}\n" * 3)
    output = init(tmp_path, {**given, "data": data})
    line = line_of(output, "tokens")
    assert line.startswith("WARNING")
    assert "3 of 3 examples have more than" in line
    data.write_text(json.dumps({**row, "answer": "A."}))
    assert line_of(init(tmp_path, {}), "tokens").startswith("ok ")


def test_one_fault_does_not_hide_the_next(tmp_path: Path, given: dict[str, Any]) -> None:
    down = f"http://127.0.0.1:{free_port()}"
    output = init(tmp_path, {**given, "ipfs": down, "data": tmp_path / "x"}, code=1)
    assert "MISSING" in line_of(output, "ipfs")
    assert "MISSING" in line_of(output, "data")
    assert "ok" in line_of(output, "stake")
    assert "error: 3 missing" in output  # the spec is had from IPFS too


def test_an_aggregator_must_be_listed(
    tmp_path: Path, given: dict[str, Any], network: Network
) -> None:
    own = {name: given[name] for name in ("rpc", "ipfs", "address")}
    folder = network.folder / "aggregator"
    listed = {"keystore": folder / "wallet.json", "password-file": folder / "wallet.password"}
    assert "the active aggregator" in line_of(
        init(tmp_path, {**own, **listed}, noun="aggregator"), "listed"
    )
    status = run("aggregator", "status", "--config", tmp_path / "aggregator.toml")
    assert "listed, leads" in status
    assert "3 rounds to come, escrow for 3" in status
    stranger = {name: given[name] for name in ("keystore", "password-file")}
    output = init(tmp_path / "other", {**own, **stranger}, code=1, noun="aggregator")
    assert "is unlisted: the sponsor listed" in line_of(output, "listed")
    error = run("aggregator", "run", "--config", tmp_path / "other/aggregator.toml", code=1)
    assert "is not an aggregator of" in error


# ------------------------------------------------------------------------ run


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"federation": "wrong chain"}, "serves chain 31337, chain 5 was expected"),
        ({"federation": "no contract"}, "there is no contract at"),
        ({"federation": "token"}, "is not a federation of this version"),
        ({"keystore": "open.json"}, "can be read by others"),
        ({"password_file": "guess"}, "the password does not open"),
        ({"password_file": "nowhere"}, "password file"),
        ({"keystore": "nowhere.json"}, "cannot be opened: No such file"),
    ],
)
def test_run_refuses_at_once_what_cannot_get_better(
    tmp_path: Path, network: Network, given: dict[str, Any], change: dict[str, str], words: str
) -> None:
    init(tmp_path, given)
    (name, value), *_ = change.items()
    shutil.copy(given["keystore"], tmp_path / "open.json")
    (tmp_path / "open.json").chmod(0o644)
    write_password(tmp_path / "guess", "guess\n")
    place = network.location
    places = {
        "wrong chain": place.model_copy(update={"chain_id": 5}),
        "no contract": place.model_copy(update={"address": SPONSOR.address}),
        "token": place.model_copy(update={"address": network.client().terms().money.token}),
    }
    if name == "federation":
        write_location(tmp_path / "elsewhere.json", places[value])
        value = "elsewhere.json"
    file = tmp_path / "participant.toml"
    lines = [each for each in file.read_text().splitlines() if not each.startswith(f"{name} =")]
    file.write_text("\n".join([*lines, f"{name} = {json.dumps(value)}"]) + "\n")
    done = CliRunner().invoke(main, ["participant", "run", "--config", str(file)])
    assert done.exit_code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert " ERROR " in last
    assert words in last
    assert "Traceback" not in done.stderr


# ------------------------------------------------------- federation, leaving


def test_a_sponsor_creates_a_federation(tmp_path: Path, network: Network) -> None:
    keystore, password = tmp_path / "sponsor.json", tmp_path / "password"
    write_password(password, "secret\n")
    SPONSOR.save_keystore(keystore, "secret", work_factor=4096)
    output = tmp_path / "federation.json"
    token = network.client().terms().money.token
    common = ["federation", "create", "--config", TINY, "--keystore", keystore, "--output", output]
    common += ["--password-file", password, "--aggregator", network.wallet("aggregator").address]
    common += ["--dev", "--rpc", network.net.rpc_url, "--ipfs", network.net.ipfs_url]
    held = network.client().token.balance_of(SPONSOR.address)
    assert held >= 6_150 * TOKEN
    created = run_json(*common, "--token", token)
    assert created["token"] == token
    trial = created.pop("trial")
    assert trial["loss_after"] < trial["loss_before"]
    assert trial["clipped_share"] <= 0.001
    assert created["escrow"] == "6,150.00"
    # The factory was deployed for it, and the devnet remembers which.
    (row,) = run_json("federation", "list")  # of the devnet that runs
    assert row["federation"] == created["federation"]
    shown = run_json("federation", "show", "--federation", output)
    assert shown["aggregators"] == [network.wallet("aggregator").address]
    # Again: the escrow is full, so nothing is tried out, deployed or paid.
    assert run_json(*common, "--token", token) == {**created, "trial": None}
    assert network.client().token.balance_of(SPONSOR.address) == held - 6_150 * TOKEN
    refused = run(*common, "--token", token, "--seed", "5", code=1)
    assert "is of a federation with another spec" in refused
    output.unlink()
    spend = held - 6_150 * TOKEN
    Erc20(network.sponsor.w3, token, network.sponsor).transfer(BURNT, TokenUnits(spend))
    assert "the rounds cost" in run(*common, "--token", token, code=1)
    assert not output.exists()


def test_leaving_takes_two_steps(tmp_path: Path, given: dict[str, Any], network: Network) -> None:
    init(tmp_path, given)
    config = tmp_path / "participant.toml"
    assert "has no stake" in run("participant", "leave", "--config", config, code=1)
    client = network.client(NAME)
    client.join()
    status = run("participant", "status", "--config", config)
    assert ", active" in status
    assert "no place where its blocks are" in status
    client.announce("https://ann.example\nand more")
    status = run("participant", "status", "--config", config)
    assert "announced    https://ann.example\n" in status
    own = ContentStore(network.net.ipfs_url).id()
    for peer, is_other in ((ID, True), (own, False)):
        client.announce(f"/p2p/{peer}")
        status = run("participant", "status", "--config", config)
        assert (f"daemon       peer {own}, which is not announced" in status) is is_other
    left = run("participant", "leave", "--config", config)
    assert re.search("left; the stake is free in (39|40) min", left)
    assert "leaving" in run("participant", "status", "--config", config)
    assert "the stake is free in" in run("participant", "leave", "--config", config)
    for method, value in (("evm_increaseTime", 2_400), ("evm_mine", None)):
        arguments = [] if value is None else [value]
        client.w3.provider.make_request(method, arguments)  # type: ignore[arg-type]
    assert "withdrew 500.00 tokens" in run("participant", "leave", "--config", config)
    status = run_json("participant", "status", "--config", config)
    assert status["standing"] == "left"
    assert (status["stake"], status["withdrawn"]) == (0, 500 * TOKEN)


def test_a_store_and_what_others_announced_are_checked(
    tmp_path: Path, given: dict[str, Any], network: Network
) -> None:
    init(tmp_path, given)
    config = ("--config", tmp_path / "participant.toml")
    own = run("store", "check", *config)
    assert re.search(r"ok  +store +[\d,]+ bytes written and read back from http", own)
    aggregator = network.wallet("aggregator").address
    assert "has announced nothing" in run("store", "check", aggregator, *config, code=1)
    sponsor = network.sponsor.wallet.address
    with (tmp_path / "participant.toml").open("a") as file:
        file.write("[store]\nallow_private = true\n")
    with WebServer({}) as good, WebServer({}) as bad:
        bad.lie = "page"
        lines = f"{good.gateway.line}\n{bad.gateway.line}\n/p2p/{PEER}"
        Federation(network.sponsor.w3, network.location.address, network.sponsor).announce(lines)
        shown = run("store", "check", sponsor, *config, code=1)
        assert f"{good.gateway.line} answers; there is no block to ask for yet" in shown
        assert f"{bad.gateway.line} is no gateway" in shown
        assert re.search("MISSING  peer ", shown)  # the dev daemon has no swarm
        assert shown.splitlines()[-1] == "error: 2 of 5 checks failed"
    nowhere = run("store", "check", "--config", tmp_path / "nowhere.toml", code=1)
    assert "nowhere.toml: No such file" in nowhere


def test_a_store_that_moved_is_announced_at_once(
    tmp_path: Path, given: dict[str, Any], network: Network
) -> None:
    init(tmp_path, given)
    config = ("--config", tmp_path / "participant.toml")
    assert "there is nothing to announce" in run("store", "announce", *config, code=1)
    settings = (tmp_path / "participant.toml").read_text()
    wallet = network.wallet(NAME).address
    for number in range(2):
        place = f"https://{number}.example"
        more = f'[store]\nannounce = ["{place}"]\n'
        (tmp_path / "participant.toml").write_text(settings + more)
        said = run("store", "announce", *config)
        assert re.match(rf"announced for 2\d,\d{{3}} gas: {place}\n", said)
        assert f"nobody reads it: {wallet} has no part" in said
        assert network.client(NAME).history().announced[wallet].whereabouts == place
    network.client(NAME).join()
    assert run("store", "announce", *config) == f"stands already: {place}\n"
    again = run_json("store", "announce", *config)
    assert again == {"places": [place], "gas": None, "is_read": True}


def test_status_when_nothing_answers(
    tmp_path: Path, given: dict[str, Any], network: Network
) -> None:
    init(tmp_path, given)
    place = network.location.model_copy(update={"rpc_url": f"http://127.0.0.1:{free_port()}"})
    write_location(tmp_path / "federation.json", place)
    error = run("participant", "status", "--config", tmp_path / "participant.toml", code=1)
    assert "cannot be reached" in error


def test_keystores_that_others_can_read_are_refused(tmp_path: Path) -> None:
    password = tmp_path / "password"
    write_password(password, "secret\n")
    wallet = tmp_path / "wallet.json"
    run("keys", "new", wallet, "--password-file", password)
    assert wallet.stat().st_mode & 0o777 == 0o600
    assert "secret" not in wallet.read_text()
