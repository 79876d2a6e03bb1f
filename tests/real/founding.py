"""A federation on geth with a Kubo for each role: founded and funded, before anybody has joined."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from devnet import roles
from devnet.accounts import CHAIN_ID
from devnet.factory import factory_in
from ethereum.wallet import Wallet
from protocol.canonical import sha256
from protocol.types import TokenUnits
from runtime.settings import write_location, write_toml
from sponsor.config import Config
from sponsor.found import InitialModel, Means, Plan, deploy
from storage.ipfs import ContentStore
from storage.layers import LayerFolder
from tests.commonweight.program import TINY
from tests.terms import configured
from tests.world import TOKEN, small_spec

SPONSOR: Final = "sponsor"
AGGREGATOR: Final = "aggregator"
AUDITOR: Final = "auditor"
PARTICIPANTS: Final = ("ann", "bob", "cem")
MEMBERS: Final = (AGGREGATOR, *PARTICIPANTS, AUDITOR)
ROLES: Final = (SPONSOR, *MEMBERS)
MONEY: Final = TokenUnits(3_000 * TOKEN)
"""What everybody has before the first round: enough for a bond, a stake or deposits."""


@dataclass(frozen=True)
class Founded:
    """Where the federation is, as each role finds it, and everybody's wallet."""

    folder: Path
    location: FederationLocation

    def wallet(self, name: str) -> Wallet:
        return roles.dev_wallet(self.folder / name)

    def client(self, name: str | None = None) -> Federation:
        """Return the contract as `name` uses it."""
        return connect_federation(self.location, None if name is None else self.wallet(name))


def found(folder: Path, rpc_url: str, ipfs_urls: dict[str, str], **terms: Any) -> Founded:
    """Return a federation with a small adapter, whose rounds take seconds.

    `ipfs_urls` has the store of each role. `terms` change those of configs/tiny.toml.
    """
    config = configured(Config.load(TINY), **terms)
    sponsor = roles.connect_sponsor(rpc_url, CHAIN_ID)
    assert config.data.held_out is not None
    held_out = sha256(config.data.held_out.read_bytes()).hex()
    model, spec = LayerFolder(folder / "initial", "model"), small_spec(evaluation_digest=held_out)
    model.write(spec, [np.zeros(layer.shape, np.int32) for layer in spec.layers])
    initial = InitialModel(model, model.root(spec))
    store = ContentStore(ipfs_urls[SPONSOR])
    aggregator = roles.dev_wallet(folder / AGGREGATOR)
    means = Means(sponsor, store, rpc_url, factory_in(folder, sponsor))
    location = deploy(Plan(config, spec, initial, None), means, [aggregator.address])
    founded = Founded(folder, location)
    client = connect_federation(location, sponsor.wallet)
    for name in MEMBERS:
        roles.give(sponsor, client, founded.wallet(name).address, MONEY)
        place = location.model_copy(update={"ipfs_url": ipfs_urls[name]})
        write_location(folder / name / "federation.json", place)
    return founded


def write_settings(founded: Founded, confirmations: int) -> None:
    """Write the settings of aggregator and participants, for `commonweight … run`."""
    common = {
        "federation": "federation.json",
        "keystore": "wallet.json",
        "password_file": "wallet.password",
        "poll_seconds": 0.3,
        "confirmations": confirmations,
    }
    leads = {**common, "min_participants": len(PARTICIPANTS)}
    write_toml(founded.folder / AGGREGATOR / "aggregator.toml", leads)
    for name in PARTICIPANTS:
        trains = {**common, "name": name, "data": "none", "model": "none"}
        write_toml(founded.folder / name / "participant.toml", trains)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log that are JSON: what a role reported."""
    whole, _, _ = path.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
