"""`commonweight federation` through the program: what a sponsor types, and what it mistypes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.invitation import Invitation
from chain.location import FederationLocation
from ethereum.wallet import Wallet
from protocol.types import TokenUnits
from runtime.processes import free_port
from runtime.settings import write_location
from tests.commonweight.program import Program
from tests.passwords import write_password
from tests.world import TOKEN, World

ESCROW = 3 * (16 * (20 * TOKEN + 1) + 5 * TOKEN)
GUEST = Wallet.create()


class Sponsored:
    """A federation by invitation that nobody has joined, and its sponsor's folder and program."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.program = Program(folder / "home")
        self.file = folder / "federation.json"
        location = FederationLocation(
            chain_id=world.w3.eth.chain_id,
            address=world.address,
            deployment_block=world.deployment_block,
            rpc_url=world.rpc_url,
            ipfs_url=world.daemon.url,
        )
        write_location(self.file, location)
        write_password(folder / "password", "secret\n")
        for name, wallet in {"sponsor": world.sponsor.wallet, "stranger": world.auditor}.items():
            wallet.save_keystore(folder / f"{name}.json", "secret", work_factor=4096)
        GUEST.save_keystore(folder / "guest.json", "secret", work_factor=4096)

    @property
    def factory(self) -> str:
        return self.world.client().founding().factory

    def run(self, verb: str, *arguments: str, who: str = "sponsor", code: int = 0) -> str:
        """Run a verb that a wallet is needed for."""
        wallet = ("--keystore", f"{self.folder / who}.json")
        password = ("--password-file", str(self.folder / "password"))
        place = ("--federation", str(self.file))
        return one_line(
            self.program.here("federation", verb, *arguments, *place, *wallet, *password, code=code)
        )

    def list(self, *arguments: str, code: int = 0) -> str:
        return self.program.here("federation", "list", *arguments, code=code)


def one_line(said: str) -> str:
    assert len(said.strip().splitlines()) == 1, said
    return said.strip()


@pytest.fixture(scope="module")
def sponsored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sponsored]:
    """A federation that nobody changes."""
    folder = tmp_path_factory.mktemp("sponsored")
    with World(folder / "world", names=(), by_invitation=True) as world:
        world.store.put_block(world.spec.to_bytes())
        yield Sponsored(world, folder)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Sponsored]:
    """A federation of the test's own."""
    with World(tmp_path / "world", names=(), by_invitation=True) as world:
        yield Sponsored(world, tmp_path)


# ----------------------------------------------------------------------- list, show


def test_the_federations_of_a_factory_are_listed(sponsored: Sponsored) -> None:
    place = ("--rpc", sponsored.world.rpc_url, "--factory", sponsored.factory)
    (line,) = (
        each for each in sponsored.list(*place).splitlines() if sponsored.world.address in each
    )
    assert line.endswith("20.00 an update, 0 participants, by invitation, 3 rounds left")
    rows = json.loads(sponsored.list(*place, "--json"))
    (row,) = (each for each in rows if each["federation"] == sponsored.world.address)
    assert row["sponsor"] == sponsored.world.sponsor.address
    assert row["block"] == sponsored.world.deployment_block
    assert row["update_reward"] == 20 * TOKEN + 1
    later = str(sponsored.world.w3.eth.block_number + 1)
    assert json.loads(sponsored.list(*place, "--from-block", later, "--json")) == []
    assert sponsored.list(*place, "--from-block", later) == ""


@pytest.mark.parametrize(
    ("rpc", "factory", "words"),
    [
        ("", None, "no factory is known on chain 31337: give --factory ADDRESS"),
        ("", "0x12", "the address '0x12': expected 0x and 40 hex digits"),
        ("", "FEDERATION", "is not a factory of this version"),
        ("", "NOBODY", "there is no contract at"),
        ("DOWN", None, "cannot be reached (connection refused)"),
        ("nonsense", None, "was expected to be like http://127.0.0.1:8545"),
    ],
)
def test_where_nothing_can_be_listed(
    sponsored: Sponsored, rpc: str, factory: str | None, words: str
) -> None:
    urls = {"": sponsored.world.rpc_url, "DOWN": f"http://127.0.0.1:{free_port()}"}
    known = {"FEDERATION": sponsored.world.address, "NOBODY": GUEST.address}
    chosen = () if factory is None else ("--factory", known.get(factory, factory))
    error = one_line(sponsored.list("--rpc", urls.get(rpc, rpc), *chosen, code=1))
    assert error.startswith("error: ")
    assert words in error


def test_no_block_is_before_the_first(sponsored: Sponsored) -> None:
    assert "--from-block" in sponsored.list("--from-block", "-5", code=2)


def test_a_federation_is_shown_in_words(sponsored: Sponsored) -> None:
    shown = sponsored.program.here("federation", "show", "--federation", str(sponsored.file))
    for words in (
        f"federation   {sponsored.world.address} on chain 31337",
        f"sponsor      {sponsored.world.sponsor.address}",
        "test@1, lora of rank 16 on a, b",
        "pays         20.00 tokens for an update of 25 examples or more",
        "0 of 16 taken",
        "whom the sponsor invites may join",
        "challenge 1 s; no leaf can be requested",
        "bond 200.00, fee 5.00 a round",
    ):
        assert words in shown
    # A folder stands for the federation.json in it.
    described = sponsored.program.json_here(
        "federation", "show", "--federation", str(sponsored.folder)
    )
    assert described["escrow"] == ESCROW
    assert (described["closed"], described["over"], described["rounds"]) == (False, False, [])


def test_what_was_announced_is_shown(own: Sponsored) -> None:
    line = "https://ann.example/blocks"
    assert "is not the sponsor of" in own.run("announce", line, who="stranger", code=1)
    assert "names no place" in own.run("announce", "[red]x[/red]", code=1)
    assert "at most 4 places" in own.run("announce", *[f"https://{n}.x" for n in "abcde"], code=1)
    said = own.run("announce", f"{line}/", "https://b.example")
    sponsor = own.world.sponsor.address
    assert said == f"announced for {sponsor}: {line}, https://b.example"
    shown = own.program.here("federation", "show", "--federation", str(own.file))
    assert f"announced    sponsor {sponsor}: {line}, https://b.example\n" in shown
    described = own.program.json_here("federation", "show", "--federation", str(own.file))
    made = described["announced"][sponsor]
    assert (made["role"], made["places"]) == ("sponsor", [line, "https://b.example"])


def test_what_is_no_federation_file(sponsored: Sponsored, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no JSON\n")
    for name, words in (("nowhere", "No such file"), ("text", "not JSON")):
        place = ("--federation", str(tmp_path / name))
        error = one_line(sponsored.program.here("federation", "show", *place, code=1))
        assert error.startswith("error: federation file ")
        assert words in error


# --------------------------------------------------------------------------- invite


def test_an_invitation_admits_its_guest(own: Sponsored) -> None:
    world = own.world
    settings = own.folder / "participant.toml"
    settings.write_text(
        'federation = "federation.json"\nkeystore = "guest.json"\npassword_file = "password"\n'
        'data = "cards.jsonl"\nmodel = "tiny-llama"\n'
    )
    join = ("participant", "join", "--config", str(settings))
    assert "admits by invitation" in own.program.here(*join, code=1)
    file = own.folder / "invitation.json"
    assert own.run("invite", GUEST.address, "--output", str(file)) == f"written  {file}"
    world.sponsor.send(GUEST.address, b"", 10**18)
    world.token.transfer(GUEST.address, TokenUnits(50 * TOKEN))
    joined = own.program.here(*join, "--invitation", str(file))
    assert "joined, with 50.00 tokens at stake" in joined
    assert world.client().get_participant(GUEST.address).active


def test_an_invitation_is_one_line(sponsored: Sponsored) -> None:
    # Taken in any case, and written with its checksum.
    line = sponsored.run("invite", GUEST.address.lower(), "--expires", "30m")
    invitation = Invitation.load(line)
    assert invitation.participant == GUEST.address
    longer = Invitation.load(sponsored.run("invite", GUEST.address, "--expires", "12h"))
    assert 0 <= longer.expiry - invitation.expiry - (12 * 3_600 - 1_800) < 600


@pytest.mark.parametrize(
    ("arguments", "who", "words"),
    [
        (("0x12",), "sponsor", "the address '0x12': expected 0x and 40 hex digits"),
        ((GUEST.address, "--expires", "1w"), "sponsor", "expected a duration such as 30m, 12h"),
        ((GUEST.address, "--expires", "0d"), "sponsor", "expected a duration such as 30m, 12h"),
        ((GUEST.address,), "stranger", "is not the sponsor of"),
        ((GUEST.address,), "nobody", "cannot be read: No such file"),
    ],
)
def test_who_cannot_be_invited(
    sponsored: Sponsored, arguments: tuple[str, ...], who: str, words: str
) -> None:
    error = sponsored.run("invite", *arguments, who=who, code=1)
    assert error.startswith("error: ")
    assert words in error


def test_without_a_terminal_a_password_file_is_asked_for(sponsored: Sponsored) -> None:
    wallet = ("--keystore", str(sponsored.folder / "sponsor.json"))
    place = ("--federation", str(sponsored.file))
    error = sponsored.program.here("federation", "close", *place, *wallet, code=1)
    assert "no password: name its file (--password-file" in one_line(error)


# -------------------------------------------------------------------- close, refund


def test_a_federation_is_closed_and_its_escrow_comes_back(own: Sponsored) -> None:
    world = own.world
    assert "is not over: close it" in own.run("refund", code=1)
    assert "is not the sponsor of" in own.run("close", who="stranger", code=1)
    closed = own.run("close")
    assert closed.startswith(f"closed {world.address}: it is over")
    assert "is closed already" in own.run("close", code=1)
    assert "opens no further round" in own.run("invite", GUEST.address, code=1)
    held = world.token.balance_of(world.sponsor.address)
    refunded = json.loads(
        own.program.here(
            *("federation", "refund", "--federation", str(own.file), "--json"),
            *("--keystore", str(own.folder / "sponsor.json")),
            *("--password-file", str(own.folder / "password")),
        )
    )
    assert refunded == {"federation": world.address, "refunded": ESCROW}
    assert world.token.balance_of(world.sponsor.address) == held + ESCROW
    assert own.run("refund") == f"refunded 0.00 tokens to {world.sponsor.address}"
    place = ("--rpc", world.rpc_url, "--factory", own.factory)
    (line,) = (each for each in own.list(*place).splitlines() if world.address in each)
    assert line.endswith("by invitation, over")


def test_an_open_round_runs_to_its_end_after_the_closing(tmp_path: Path) -> None:
    with World(tmp_path / "world", names=("ann",)) as world:
        own = Sponsored(world, tmp_path)
        refused = own.run("invite", GUEST.address, code=1)
        assert "it asks for no invitation" in refused
        round_id = world.open_round()
        assert own.run("close").endswith("its open round runs to its end")
        assert "wait for the open round's end" in own.run("refund", code=1)
        world.commit_and_reveal(round_id)
        world.settle(round_id)
        held = world.token.balance_of(world.sponsor.address)
        assert own.run("refund").startswith("refunded ")
        # One update of 10 examples was paid, and the whole fee.
        paid = (20 * TOKEN + 1) * 10 // 25 + 5 * TOKEN
        assert world.token.balance_of(world.sponsor.address) == held + ESCROW - paid


def test_an_order_is_read_before_its_wallet_is_opened(tmp_path: Path) -> None:
    """Nobody types a password to hear that a file is not there."""
    order = ("--config", str(tmp_path / "missing.toml"), "--aggregator", GUEST.address)
    program = Program(tmp_path / "home")
    said = program.here("federation", "create", *order, "--keystore", "no.json", code=1)
    assert "missing.toml" in one_line(said)
