"""The mistakes: what is typed, in a folder with which files.

`{NOBODY}` stands for an address where nothing listens, `{TAKEN}` for a port where something does,
`{CHAIN}` and `{IPFS}` for a devnet's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TINY: Final = (ROOT / "configs" / "tiny.toml").read_text()
ADDRESS: Final = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
WALLET: Final = "wallet.json"
FEDERATION: Final = {
    "version": 2,
    "chain_id": 31337,
    "address": ADDRESS,
    "deployment_block": 0,
    "rpc_url": "{NOBODY}",
    "ipfs_url": "{NOBODY}",
}
AGGREGATOR: Final = (
    'federation = "federation.json"\nkeystore = "wallet.json"\npassword_file = "password"\n'
)
PARTICIPANT: Final = AGGREGATOR + 'data = "cards.jsonl"\nmodel = "tiny-llama"\n'
CARDS: Final = '{"question": "What beats?", "answer": "The heart."}\n'
WITH_PASSWORD: Final = "federation close --keystore wallet.json --password-file password"


@dataclass(frozen=True)
class Mistake:
    """A command line without its first word, and how the files it finds differ from good ones.

    `files` has the whole text of a file by its name (None: it is not there), and `told` is what the
    table says of them. `mode` is that of wallet.json. `subject` names the preflight check whose
    line is the answer; without one the answer is the line on stderr.
    """

    line: str
    told: str = ""
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    mode: int = 0o600
    typed: str | None = None
    subject: str = ""


def good_files() -> dict[str, str | bytes]:
    """Return the files that a command finds unless a mistake changes them."""
    return {
        "federation.json": json.dumps(FEDERATION),
        "participant.toml": PARTICIPANT,
        "aggregator.toml": AGGREGATOR,
        "cards.jsonl": CARDS,
        "password": "a good password\n",
    }


def setting(change: str) -> Mistake:
    """Return a run with a changed or additional line of participant.toml."""
    key = change.partition(" ")[0]
    kept = [line for line in PARTICIPANT.splitlines() if line.partition(" ")[0] != key]
    text = "\n".join([*kept, change]) + "\n"
    told = f"participant.toml has `{change}`"
    return Mistake("participant run", told, {"participant.toml": text})


def federation(told: str, content: str) -> Mistake:
    """Return a look at the federation of a federation.json."""
    return Mistake("federation show", told, {"federation.json": content})


def config(old: str, new: str) -> Mistake:
    """Return a check of the tiny configuration with `old` replaced."""
    assert TINY.count(old) == 1, old
    text = TINY.replace(old, new).replace('"flashcards/', f'"{ROOT}/configs/flashcards/')
    told = f"my.toml has `{' '.join(new.split())}`"
    return Mistake("federation check my.toml", told, {"my.toml": text})


def data(told: str, name: str, content: str | bytes | None, options: str = "") -> Mistake:
    """Return a preflight check of a participant's data."""
    line = f"participant init --yes --data {name} {options}".strip()
    good = f"--federation federation.json --model tiny-llama {line.partition('--yes ')[2]}"
    return Mistake(f"participant init --yes {good}", told, {name: content}, subject="data")


SECTIONS: Final[Mapping[str, tuple[Mistake, ...]]] = {
    "Commands and options": (
        Mistake("demmo"),
        Mistake("audit rum"),
        Mistake("demo --confg my.toml"),
        Mistake("demo --seed one"),
        Mistake("explore --port eighty"),
        Mistake("audit run --round 0"),
        Mistake("federation create --keystore wallet.json"),
        Mistake("federation invite --keystore wallet.json"),
        Mistake("devnet up --block-time -1"),
        Mistake("devnet up --chain ganache"),
        Mistake("devnet serve chains"),
        Mistake("devnet status", "the devnet is not running"),
        Mistake("model export mine --merged int4"),
        Mistake("model average a.safetensors b.safetensors --weights 3,one --output mean"),
        Mistake("model average a.safetensors --weights 3,1 --output mean"),
        Mistake("model average a.safetensors --output mean --fraction-bits 99"),
        Mistake("model average a.safetensors --output mean", "there is no such file"),
        Mistake("model chat hello --question hello"),
        Mistake("model chat"),
        Mistake("model chat hello", "no federation anywhere", {"federation.json": None}),
        Mistake("model chat hello --adapter nowhere", "there is no such folder"),
        Mistake("model export there --adapter bafy"),
        Mistake("profile nowhere", "there is no such folder"),
        Mistake("participant run --log-format yaml"),
        Mistake("participant run --metrics-port 0"),
        Mistake("participant run --metrics-port {TAKEN}", "the port is in use"),
        Mistake("devnet serve ipfs --port {TAKEN}", "so it is here"),
    ),
    "Addresses and amounts": (
        Mistake("audit run 0x1234"),
        Mistake(f"audit run {ADDRESS.replace('C5', 'c5')}", "one capital is wrong"),
        Mistake("audit run ann.eth"),
        Mistake("audit run", "no federation anywhere", {"federation.json": None}),
        Mistake(f"devnet fund {ADDRESS} --ether -1"),
        Mistake(f"devnet fund {ADDRESS} --ether 1ETH"),
        Mistake(f"devnet fund {ADDRESS} --tokens 1,5"),
        Mistake(f"federation invite {ADDRESS} --keystore wallet.json --expires 7"),
        Mistake("federation announce http//store.example --keystore wallet.json"),
        Mistake("participant leave --to 0x12"),
        Mistake("store check 0x12"),
    ),
    "Settings": (
        Mistake("participant run", "there is no participant.toml", {"participant.toml": None}),
        Mistake(
            "participant run",
            "participant.toml ends in `[store`",
            {"participant.toml": PARTICIPANT + "[store"},
        ),
        Mistake(
            "participant run",
            "participant.toml is UTF-16",
            {"participant.toml": PARTICIPANT.encode("utf-16")},
        ),
        setting('keystor = "wallet.json"'),
        setting("keystore = 5"),
        setting('poll_seconds = "2s"'),
        setting("poll_seconds = -2"),
        setting('max_fee_gwei = "30 gwei"'),
        setting("confirmations = 1.5"),
        setting('withdraw_to = "0x12"'),
        setting("validation = 1.5"),
        setting('rejoin = "perhaps"'),
        setting('store = { public = "store.example" }'),
        setting('store = { ipfs = "http://ann:secret@127.0.0.1:5001" }'),
        setting("privacy = { trusted = [], min_trusted = 1 }"),
        setting('fields = { question = "q", anser = "a" }'),
        Mistake(
            "aggregator run",
            'aggregator.toml has `keep = "some"`',
            {"aggregator.toml": AGGREGATOR + 'keep = "some"\n'},
        ),
        Mistake(
            "aggregator run",
            "aggregator.toml lacks `keystore`",
            {"aggregator.toml": 'federation = "federation.json"\n'},
        ),
        Mistake("aggregator run --config .", "a folder is named"),
    ),
    "Configurations": (
        Mistake("demo --config nowhere.toml", "there is no such file"),
        config("rounds = 3", "rounds = 0"),
        config("update_reward = 250.0", "update_reward = -250.0"),
        config("update_reward = 250.0", 'update_reward = "250 tokens"'),
        config("commit_seconds = 600", 'commit_seconds = "10m"'),
        config("[money]", "[monies]"),
        config("learning_rate = 0.01", "learning_rate = 0"),
        config("[windows]", '[rules]\nscoring = "heldout"\n[windows]'),
        config("held_out.jsonl", "heldout.jsonl"),
    ),
    "Federation files": (
        Mistake("federation show --federation nowhere.json", "there is no such file"),
        federation("federation.json is cut short", '{"version": 2, '),
        federation("federation.json is empty", ""),
        federation(
            "its `address` has a wrong capital",
            json.dumps({**FEDERATION, "address": ADDRESS.replace("C5", "c5")}),
        ),
        federation(
            "its `rpc_url` is `localhost`", json.dumps({**FEDERATION, "rpc_url": "localhost"})
        ),
        Mistake("federation show", "nothing answers at its `rpc_url`"),
        federation(
            "its `address` has no contract on this chain",
            json.dumps({**FEDERATION, "rpc_url": "{CHAIN}"}),
        ),
        federation(
            "its `chain_id` is another chain's",
            json.dumps({**FEDERATION, "rpc_url": "{CHAIN}", "chain_id": 1}),
        ),
        Mistake(f"audit run {ADDRESS} --rpc {{CHAIN}} --ipfs {{IPFS}}", "no contract is there"),
        Mistake(f"explore --rpc {{CHAIN}} --factory {ADDRESS} --port 0", "no factory is there"),
    ),
    "Wallets": (
        Mistake("federation close --keystore wallet.json", "no password is given"),
        Mistake(f"{WITH_PASSWORD[:-1]}t", "there is no such password file"),
        Mistake(WITH_PASSWORD, "it has another password", {"password": "another\n"}),
        Mistake(WITH_PASSWORD, "the password file is empty", {"password": ""}),
        Mistake(WITH_PASSWORD, "there is no wallet.json", {WALLET: None}),
        Mistake(WITH_PASSWORD, "others can read wallet.json", mode=0o644),
        Mistake(WITH_PASSWORD, "wallet.json is a text", {WALLET: "my key"}),
        Mistake("keys new wallet.json --password-file password", "there is a wallet.json"),
        Mistake("keys new wallets/new.json --password-file password", "there is no such folder"),
        Mistake("keys import new.json", "`secret` is typed as the key", typed="secret\n"),
        Mistake("audit watch", "no wallet is named"),
        Mistake("participant join --invitation invite.json", "there is no such file"),
    ),
    "Data": (
        data("there is no such file", "cards.csv", None),
        data("the file is empty", "cards.csv", ""),
        data("its columns are `prompt` and `reply`", "cards.csv", "prompt,reply\nWhat?,This.\n"),
        data("it has no answers", "cards.csv", "question,answer\nWhat beats?,\n"),
        data("a line is cut short", "cards.json", '[{"question": "What beats?", '),
        data("the file is a spreadsheet", "cards.xlsx", b"PK\x03\x04"),
        data("it is Latin-1", "cards.csv", "question,answer\nWo?,Über.\n".encode("latin-1")),
        data("", "cards.jsonl", CARDS, "--encoding latin9000"),
    ),
}
