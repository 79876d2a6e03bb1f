"""Terms for tests, and one factory for each chain that they found federations on."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any
from weakref import WeakKeyDictionary

from web3 import Web3

from chain.deploy import deploy_factory
from chain.factory import Factory
from chain.federation import Federation
from chain.records import Terms
from ethereum.rpc import RpcProvider
from ethereum.transactions import Sender
from protocol.types import Address
from sponsor.config import Config

_BY_URL: dict[str, Address] = {}
_IN_PROCESS: "WeakKeyDictionary[Web3, Address]" = WeakKeyDictionary()


def changed(terms: Terms, **changes: Any) -> Terms:
    """Return terms with some fields of their sections changed, by the fields' names alone."""
    sections = {}
    for section in fields(terms):
        part = getattr(terms, section.name)
        own = {each.name for each in fields(part)} & set(changes)
        sections[section.name] = replace(part, **{name: changes.pop(name) for name in own})
    assert not changes, f"no terms are named {', '.join(changes)}"
    return replace(terms, **sections)


def configured(config: Config, **changes: Any) -> Config:
    """Return a configuration with some keys of its sections changed, by their names alone."""
    sections = {}
    for name in ("seats", "money", "windows", "encoding", "screening", "rules"):
        part = getattr(config, name)
        own = set(type(part).model_fields) & set(changes)
        sections[name] = part.model_copy(update={key: changes.pop(key) for key in own})
    assert not changes, f"no keys are named {', '.join(changes)}"
    return config.model_copy(update=sections)


def factory_of(sender: Sender) -> Factory:
    """Return the factory of the sender's chain, deployed the first time."""
    # Six contracts: for each federation anew they would take most of a test's time.
    w3, provider = sender.w3, sender.w3.provider
    known: Any = _IN_PROCESS
    key: Any = w3
    if isinstance(provider, RpcProvider):
        known, key = _BY_URL, provider.place
    address = known.get(key)
    # A test may have gone back to before it was deployed, or another chain be at this port.
    if address is None or not w3.eth.get_code(w3.to_checksum_address(address)):
        factory = deploy_factory(sender)
        known[key] = factory.address
        return factory
    return Factory(w3, address, sender)


def found_federation(sender: Sender, terms: Terms, aggregators: Sequence[Address]) -> Federation:
    """Return a new federation of the chain's factory; the sender is its sponsor."""
    return factory_of(sender).create(terms, aggregators)
