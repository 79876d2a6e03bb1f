"""Prepares a network of containers: a folder a role, each with a wallet and settings of its own.

    FOLDER/federation/federation.json     what everybody may read: chain, contract, IPFS
    FOLDER/aggregator/                    wallet.json, wallet.password, aggregator.toml
    FOLDER/auditor/                       wallet.json, wallet.password
    FOLDER/NAME/                          the same for a participant, and its private data

Each folder is a volume that only its role mounts, at the same path. Every step looks before it
acts: prepared again after a restart, or after being killed half-way, nothing is done twice.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from devnet import roles
from devnet.accounts import CHAIN_ID
from ethereum.transactions import Sender
from protocol.errors import Misconfigured, Unavailable
from protocol.types import TokenUnits
from runtime.healthcheck import is_chain, is_ipfs
from runtime.settings import write_location, write_toml
from sponsor import found
from sponsor.config import Config
from storage.files import write_atomically
from storage.ipfs import ContentStore

Facts = dict[str, str | int | float | bool]

ROLES: Final = ("federation", "aggregator", "auditor")
_OWN: Final[Facts] = {
    "keystore": "wallet.json",
    "password_file": "wallet.password",
    "poll_seconds": 0.5,  # the chain is next door
}
_ANSWER_SECONDS: Final = 60.0

Tell = Callable[[str], None]


def prepare(config: Config, folder: Path, rpc_url: str, ipfs_url: str, tell: Tell) -> Path:
    """Return the federation file of the network in `folder`, made where it is missing.

    `tell` hears of each step. Unavailable when an endpoint does not answer; Misconfigured when a
    participant is named like another role, or when the chain is not the one of an earlier time.
    """
    taken = sorted(set(ROLES) & set(config.data.participants))
    if taken:
        raise Misconfigured(f"data.participants: {taken[0]} is the name of another role")
    _await("the chain", rpc_url, is_chain)
    _await("IPFS", ipfs_url, is_ipfs)
    sponsor = roles.connect_sponsor(rpc_url, CHAIN_ID)
    file = folder / "federation" / "federation.json"
    if not file.exists():
        location = _deploy(config, folder, sponsor, ContentStore(ipfs_url), rpc_url, tell)
        write_location(file, location)
    location = FederationLocation.load(file)
    federation = _open(location)
    tell(f"federation {location.address}")
    participants = len(config.data.participants)
    _add_aggregator(folder / "aggregator", participants, file, sponsor, location, tell)
    _add_auditor(folder, sponsor, federation, tell)
    for name, data in config.data.participants.items():
        home, model = folder / name, config.model.source
        _add_participant(home, data, model, file, sponsor, location, tell)
    return file


def _deploy(
    config: Config, folder: Path, sponsor: Sender, store: ContentStore, rpc_url: str, tell: Tell
) -> FederationLocation:
    aggregator = roles.dev_wallet(folder / "aggregator")
    with tempfile.TemporaryDirectory(prefix="commonweight-model-") as model:
        tell(f"preparing the model {config.model.source}")
        spec, initial = found.build_spec(config, 0, Path(model) / "cache", Path(model) / "layers")
        tell("deploying the contract")
        return found.deploy(config, spec, initial, sponsor, [aggregator.address], store, rpc_url)


def _open(location: FederationLocation) -> Federation:
    try:
        return connect_federation(location)
    except Misconfigured as error:
        raise Misconfigured(
            f"{error}; the network was prepared on another chain: remove its volumes to start anew"
        ) from error


def _add_aggregator(
    home: Path,
    participants: int,
    file: Path,
    sponsor: Sender,
    location: FederationLocation,
    tell: Tell,
) -> None:
    wallet = roles.dev_wallet(home)
    tell(f"aggregator {wallet.address}")
    settings = home / "aggregator.toml"
    if not settings.exists():  # written last: whoever is prepared is left as it is
        roles.bond_aggregator(sponsor, location, wallet)
        known: Facts = {"federation": str(file), "min_participants": participants}
        write_toml(settings, {**known, **_OWN})


def _add_auditor(folder: Path, sponsor: Sender, federation: Federation, tell: Tell) -> None:
    wallet = roles.dev_wallet(folder / "auditor")
    roles.give(sponsor, federation, wallet.address, TokenUnits(0))  # gas for a challenge
    tell(f"auditor {wallet.address}")


def _add_participant(
    home: Path,
    data: Path,
    model: str,
    file: Path,
    sponsor: Sender,
    location: FederationLocation,
    tell: Tell,
) -> None:
    wallet = roles.dev_wallet(home)
    tell(f"{home.name} {wallet.address}")
    settings = home / "participant.toml"
    if settings.exists():  # who has left since is not brought back
        return
    private = home / f"data{data.suffix}"
    write_atomically(private, data.read_bytes(), mode=0o600)
    roles.join_participant(sponsor, location, wallet)
    known: Facts = {
        "name": home.name,
        "federation": str(file),
        "data": private.name,
        "model": model,
    }
    write_toml(settings, {**known, **_OWN})


def _await(name: str, url: str, answers: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not answers(url):
        if time.monotonic() > deadline:
            raise Unavailable(f"{name} at {url} did not answer within {_ANSWER_SECONDS:.0f} s")
        time.sleep(0.5)
