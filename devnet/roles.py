"""Wallets, settings and money for the roles of a development network.

    dev_wallet         a wallet with its password beside it
    add_participant    its settings;    join_participant   its stake, paid for by the sponsor
    add_aggregator     its settings;    bond_aggregator    its bond

Each step checks what is already there, so that an interrupted set-up can be run again.
"""

import secrets
from pathlib import Path
from typing import Final

from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from contracts.enums import AggregatorState
from devnet.accounts import dev_account
from ethereum.rpc import connect
from ethereum.transactions import Sender
from ethereum.wallet import Wallet, load_keystore
from protocol.types import Address, TokenUnits
from runtime.settings import write_toml
from sponsor.config import Config
from storage.files import write_atomically

# Dev wallets hold play money: scrypt at full strength would cost a second per wallet and process.
_DEV_WORK_FACTOR: Final = 2**12
_GAS_MONEY_WEI: Final = 10**18


def dev_wallet(folder: Path) -> Wallet:
    """Return the wallet of `folder`, created with a random password if there is none."""
    # The password before the keystore: killed in between, the next run uses the same password.
    keystore, password = folder / "wallet.json", folder / "wallet.password"
    if not keystore.exists():
        if not password.exists():
            write_atomically(password, secrets.token_hex(16).encode() + b"\n", mode=0o600)
        Wallet.create().save_keystore(
            keystore, password.read_text().strip(), work_factor=_DEV_WORK_FACTOR
        )
    return load_keystore(keystore, password.read_text().strip())


def give(sponsor: Sender, federation: Federation, to: Address, tokens: TokenUnits) -> None:
    """Send gas money and what is missing of `tokens` to a wallet, unless it has them."""
    if sponsor.w3.eth.get_balance(sponsor.w3.to_checksum_address(to)) < _GAS_MONEY_WEI:
        sponsor.send(to, b"", _GAS_MONEY_WEI)
    held = federation.token.balance_of(to)
    if held < tokens:
        federation.token.transfer(to, TokenUnits(tokens - held))


def add_aggregator(
    folder: Path,
    federation_file: Path,
    progress: Path,
    wait_for: Path,
    config: Config,
    cache: Path,
) -> Wallet:
    """Write an aggregator's settings to `folder` and return its wallet."""
    wallet = dev_wallet(folder)
    settings: dict[str, object] = {
        "federation": str(federation_file),
        "keystore": "wallet.json",
        "password_file": "wallet.password",
        "progress": str(progress),
        "wait_for": str(wait_for),
        "mode": config.aggregation.mode,
        **evaluating(config),
        "cache": str(cache),
    }
    write_toml(folder / "aggregator.toml", settings)
    return wallet


def evaluating(config: Config) -> dict[str, object]:
    """Return the settings that an aggregator needs to measure help, none where it does not."""
    return {} if config.rules.scoring == "equal" else {"model": config.model.source}


def bond_aggregator(sponsor: Sender, location: FederationLocation, wallet: Wallet) -> None:
    """Give the aggregator its bond and post it, unless it is bonded."""
    federation = connect_federation(location, wallet)
    if federation.aggregator_state(wallet.address) is AggregatorState.LISTED:
        bond = federation.terms().money.aggregator_bond
        give(sponsor, _as(federation, sponsor), wallet.address, bond)
        federation.bond()


def add_participant(
    folder: Path,
    name: str,
    data: Path,
    config: Config,
    cache: Path,
    federation_file: Path,
    progress: Path,
) -> Wallet:
    """Write a participant's settings to `folder` and return its wallet."""
    wallet = dev_wallet(folder)
    settings = {
        "name": name,
        "federation": str(federation_file),
        "keystore": "wallet.json",
        "password_file": "wallet.password",
        "data": str(data),
        "model": config.model.source,
        "cache": str(cache),
        "progress": str(progress),
        "validation": config.data.validation,
        "fields": config.data.fields.model_dump(exclude_none=True),
    }
    if config.data.encoding is not None:
        settings["encoding"] = config.data.encoding
    write_toml(folder / "participant.toml", settings)
    return wallet


def join_participant(sponsor: Sender, location: FederationLocation, wallet: Wallet) -> None:
    """Give the participant its stake and join, unless it has joined."""
    federation = connect_federation(location, wallet)
    if not federation.get_participant(wallet.address).active:
        stake = federation.terms().money.participant_stake
        give(sponsor, _as(federation, sponsor), wallet.address, stake)
        federation.join()


def connect_sponsor(rpc_url: str, chain_id: int) -> Sender:
    """Return the devnet's sponsor: the first of the dev accounts."""
    return Sender(connect(rpc_url, chain_id=chain_id), Wallet.from_key(bytes(dev_account(0).key)))


def _as(federation: Federation, sender: Sender) -> Federation:
    return Federation(
        sender.w3, federation.address, sender, deployment_block=federation.deployment_block
    )
