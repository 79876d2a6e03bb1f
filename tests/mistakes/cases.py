"""The mistakes: what is typed, in a folder with which files.

`{NAME}` in a line or a file stands for something that is made anew each time: a port that is taken,
an address where nothing listens.
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
PARTICIPANT: Final = (
    'federation = "federation.json"\nkeystore = "wallet.json"\npassword_file = "password"\n'
    'data = "cards.jsonl"\nmodel = "tiny-llama"\n'
)
AGGREGATOR: Final = (
    'federation = "federation.json"\nkeystore = "wallet.json"\npassword_file = "password"\n'
)
CARDS: Final = '{"question": "What beats?", "answer": "The heart."}\n'


@dataclass(frozen=True)
class Mistake:
    """A command line, and how the files it finds differ from good ones.

    `files` has the whole text of a file by its name (None: it is not there), `told` what the table
    says of them. `modes` are of files that others may read.
    """

    line: str
    told: str = ""
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    typed: str | None = None
    """What is typed at the prompts."""


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
    key = change.partition("=")[0].strip()
    kept = [line for line in PARTICIPANT.splitlines() if line.partition(" ")[0] != key]
    text = "\n".join([*kept, change]) + "\n"
    told = f"participant.toml has `{change}`" if "\n" not in change else change
    return Mistake(f"{NAME} participant run", told, {"participant.toml": text})


NAME: Final = "commonweight"


def config(old: str, new: str) -> Mistake:
    """Return a check of the tiny configuration with `old` replaced."""
    assert TINY.count(old) == 1, old
    text = TINY.replace(old, new).replace('"flashcards/', f'"{ROOT}/configs/flashcards/')
    return Mistake(
        f"{NAME} federation check my.toml", f"my.toml has `{new.strip()}`", {"my.toml": text}
    )


def prepared(command: str, told: str, **files: str | bytes | None) -> Mistake:
    """Return a command with files of these texts; a name's `_` is its dot."""
    named = {name.replace("_", "."): text for name, text in files.items()}
    return Mistake(f"{NAME} {command}", told, named)


SECTIONS: Final[Mapping[str, tuple[Mistake, ...]]] = {
    "Commands and options": tuple(
        Mistake(f"{NAME} {line}")
        for line in (
            "demmo",
            "audit rum",
            "demo --confg my.toml",
            "demo --seed one",
            "explore --port eighty",
            "audit run --round 0",
            "federation create --keystore wallet.json",
            "federation invite --keystore wallet.json",
            "devnet up --block-time -1",
            "devnet up --chain ganache",
            "devnet serve chains",
            "model export mine --merged int4",
            "model average a.safetensors b.safetensors --weights 3,one --output mean",
            "model average a.safetensors --weights 3,1 --output mean",
            "model average a.safetensors --output mean --fraction-bits 99",
            "participant run --metrics-port 0",
            "participant run --log-format yaml",
        )
    ),
    "Addresses and amounts": (
        Mistake(
            f"{NAME} audit run 0x70997970c51812dc3A010C7d01b50e0d17dc79C8", "one capital is wrong"
        ),
        Mistake(f"{NAME} audit run {ADDRESS[:-1]}", "one digit is missing"),
        Mistake(f"{NAME} audit run ann.eth"),
        Mistake(f"{NAME} devnet fund {ADDRESS} --ether -1"),
        Mistake(f"{NAME} devnet fund {ADDRESS} --ether 1ETH"),
        Mistake(f"{NAME} devnet fund {ADDRESS} --tokens 1,5"),
        Mistake(f"{NAME} federation invite {ADDRESS} --keystore wallet.json --expires 7"),
        Mistake(f"{NAME} federation announce http//store.example --keystore wallet.json"),
        Mistake(f"{NAME} participant leave --to 0x12"),
        Mistake(f"{NAME} store check 0x12"),
    ),
    "Settings": (
        prepared("participant run", "no participant.toml", participant_toml=None),
        prepared(
            "participant run",
            "participant.toml ends in `[store`",
            participant_toml=PARTICIPANT + "[store",
        ),
        prepared(
            "participant run",
            "participant.toml is UTF-16",
            participant_toml=PARTICIPANT.encode("utf-16"),
        ),
        setting('keystor = "wallet.json"'),
        setting('poll_seconds = "2s"'),
        setting("poll_seconds = -2"),
        setting('max_fee_gwei = "30 gwei"'),
        setting("confirmations = 1.5"),
        setting('withdraw_to = "0x12"'),
        setting("validation = 1.5"),
        setting("rejoin = 1.0"),
        setting('store = { public = "store.example" }'),
        setting('store = { ipfs = "http://ann:secret@127.0.0.1:5001" }'),
        setting("privacy = { trusted = [], min_trusted = 1 }"),
        setting('fields = { question = "q", anser = "a" }'),
        prepared(
            "aggregator run",
            'aggregator.toml has `keep = "some"`',
            aggregator_toml=AGGREGATOR + 'keep = "some"\n',
        ),
        prepared(
            "aggregator run",
            "aggregator.toml lacks `keystore`",
            aggregator_toml='federation = "federation.json"\n',
        ),
        prepared("aggregator run --config .", "a folder is named"),
    ),
    "Configurations": (
        Mistake(f"{NAME} federation check mine.toml", "there is no such file"),
        Mistake(f"{NAME} demo --config configs", "there is no such folder"),
        config("rounds = 3", "rounds = 0"),
        config("update_reward = 250.0", "update_reward = -250.0"),
        config("update_reward = 250.0", 'update_reward = "250 tokens"'),
        config("commit_seconds = 600", 'commit_seconds = "10m"'),
        config("[money]", "[monies]"),
        config("learning_rate = 0.01", "learning_rate = 0"),
        config("[windows]", '[rules]\nscoring = "heldout"\n\n[windows]'),
    ),
    "Federation files": (
        prepared(
            "federation show", "federation.json is cut short", federation_json='{"version": 2, '
        ),
        prepared("federation show", "federation.json is an empty file", federation_json=""),
        prepared(
            "federation show",
            "its `address` has a wrong capital",
            federation_json=json.dumps({**FEDERATION, "address": ADDRESS.replace("C8", "c8")}),
        ),
        prepared(
            "federation show",
            "its `rpc_url` lacks `http://`",
            federation_json=json.dumps({**FEDERATION, "rpc_url": "localhost"}),
        ),
        Mistake(f"{NAME} federation show", "nothing answers at its `rpc_url`"),
        Mistake(f"{NAME} audit run", "nor for an audit"),
    ),
    "Wallets": (
        Mistake(f"{NAME} participant status", "there is no wallet.json", {WALLET: None}),
        Mistake(f"{NAME} federation close --keystore wallet.json", "no password is given"),
        Mistake(
            f"{NAME} federation close --keystore wallet.json --password-file pasword",
            "there is no such file",
        ),
        prepared(
            "federation close --keystore wallet.json --password-file password",
            "another password",
            password="another\n",
        ),
        prepared(
            "federation close --keystore wallet.json --password-file password",
            "the password file is empty",
            password="",
        ),
        Mistake(
            f"{NAME} federation close --keystore wallet.json --password-file password",
            "others can read wallet.json",
            modes={WALLET: 0o644},
        ),
        prepared(
            "federation close --keystore wallet.json --password-file password",
            "wallet.json is a text",
            wallet_json="my key",
        ),
        Mistake(f"{NAME} keys new wallet.json --password-file password", "wallet.json exists"),
        Mistake(f"{NAME} keys import new.json", "`secret` is typed as the key", typed="secret\n"),
        Mistake(
            f"{NAME} keys new wallets/new.json --password-file password",
            "there is no folder wallets",
        ),
        Mistake(f"{NAME} audit watch", "no wallet is named"),
    ),
}
