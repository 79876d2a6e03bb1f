"""Prepares a network of containers: one folder per role, with a wallet and settings.

    FOLDER/federation/federation.json     readable by everybody: chain, contract, IPFS
    FOLDER/aggregator/                    wallet.json, wallet.password, aggregator.toml
    FOLDER/auditor/                       wallet.json, wallet.password
    FOLDER/NAME/                          the same for a participant, and its private data

Each folder is a volume that only its role mounts, at the same path. Every step checks what is
already there, so that preparing again, after a restart or a kill half-way, does nothing twice.
"""

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from chain.federation import connect_federation
from chain.location import FederationLocation
from devnet import roles
from devnet.accounts import CHAIN_ID
from devnet.factory import factory_in
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
Store = dict[str, Any]

ROLES: Final = ("federation", "aggregator", "auditor")
_OWN: Final[Facts] = {
    "keystore": "wallet.json",
    "password_file": "wallet.password",
    "poll_seconds": 0.5,  # the chain is next door
}
_ANSWER_SECONDS: Final = 60.0
_SWARM_PORT: Final = 4001  # Kubo's own

Tell = Callable[[str], None]


def prepare(
    config: Config, folder: Path, rpc_url: str, ipfs_url: str, tell: Tell, own_ipfs: str = ""
) -> Path:
    """Return the federation file of the network in `folder`, prepared as far as it is missing.

    `own_ipfs` is where each role's own daemon is, by its name, as in http://kubo-{name}:5001; a
    role without one uses `ipfs_url`. `tell` is called with a line for each step. Raises Unavailable
    when an endpoint does not answer, and Misconfigured when a participant has the name of another
    role, or when the chain is not the one of an earlier preparation.
    """
    taken = sorted(set(ROLES) & set(config.data.participants))
    if taken:
        raise Misconfigured(f"data.participants: {taken[0]} is the name of another role")
    store = ContentStore(ipfs_url)  # before its address is named: a password may stand in it
    _await("the chain", rpc_url, is_chain)
    _await("IPFS", ipfs_url, is_ipfs)
    sponsor = roles.connect_sponsor(rpc_url, CHAIN_ID)
    wallet = roles.dev_wallet(folder / "aggregator")

    # 1. The federation. The file is written once the contract is there: killed before that, the
    # next run deploys another one.
    file = folder / "federation" / "federation.json"
    if not file.exists():
        with tempfile.TemporaryDirectory(prefix="commonweight-model-") as model:
            cache, layers = Path(model) / "cache", Path(model) / "layers"
            tell(f"preparing the model {config.model.source}")
            plan = found.plan(config, 0, cache, layers)
            tell("deploying the contract")
            factory = factory_in(file.parent, sponsor)
            means = found.Means(sponsor, store, rpc_url, factory)
            made = found.deploy(plan, means, [wallet.address])
        if own_ipfs and (of_sponsor := _own_store(ipfs_url)):
            places = "\n".join(of_sponsor["announce"])
            connect_federation(made, sponsor.wallet).announce(places)
        write_location(file, made)
    location = FederationLocation.load(file)
    try:
        federation = connect_federation(location)
    except Misconfigured as error:
        raise Misconfigured(
            f"{error}; the network was prepared on another chain: remove its volumes to start anew"
        ) from error
    tell(f"federation {location.address}")

    # 2. The aggregator. Its settings are written last, and mark it as prepared: one that has
    # unbonded since is left as it is.
    tell(f"aggregator {wallet.address}")
    settings = folder / "aggregator" / "aggregator.toml"
    if not settings.exists():
        roles.bond_aggregator(sponsor, location, wallet)
        known: Facts = {"federation": str(file), "min_participants": len(config.data.participants)}
        evaluating = roles.evaluating(config)
        own = _section(own_ipfs, "aggregator")
        write_toml(settings, {**known, **evaluating, **_OWN, **own})

    # 3. The auditor, with gas money for a challenge.
    auditor = roles.dev_wallet(folder / "auditor").address
    roles.give(sponsor, federation, auditor, TokenUnits(0))
    tell(f"auditor {auditor}")

    # 4. Participants.
    for name, data in config.data.participants.items():
        home, source = folder / name, config.model.source
        section = _section(own_ipfs, name)
        _add_participant(home, data, source, file, sponsor, location, section, tell)
    return file


def _add_participant(
    home: Path,
    data: Path,
    model: str,
    file: Path,
    sponsor: Sender,
    location: FederationLocation,
    section: Mapping[str, Store],
    tell: Tell,
) -> None:
    wallet = roles.dev_wallet(home)
    tell(f"{home.name} {wallet.address}")
    settings = home / "participant.toml"
    if settings.exists():  # written last; whoever has left since is not brought back
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
    write_toml(settings, {**known, **_OWN, **section})


def _section(own_ipfs: str, name: str) -> dict[str, Store]:
    if own_ipfs and "{name}" not in own_ipfs:
        raise Misconfigured(f"{own_ipfs} is one daemon: {{name}} in it stands for each role's own")
    store = _own_store(own_ipfs.format(name=name))
    return {"store": store} if store else {}


def _own_store(url: str) -> Store:
    """Return the section [store] of who has the daemon at `url`; empty when there is none."""
    if not url or not is_ipfs(url):
        return {}
    host = urlsplit(url).hostname
    peer = f"/dns4/{host}/tcp/{_SWARM_PORT}/p2p/{ContentStore(url).id()}"
    return {"ipfs": url, "announce": [peer], "allow_private": True}


def _await(name: str, url: str, answers: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not answers(url):
        if time.monotonic() > deadline:
            raise Unavailable(f"{name} at {url} did not answer within {_ANSWER_SECONDS:.0f} s")
        time.sleep(0.5)
