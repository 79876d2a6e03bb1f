"""Which chains are for development, by their EIP-155 chain ids."""

from typing import Final

DEVELOPMENT_CHAINS: Final = frozenset({1337, 31337})
"""The ids of geth's, Hardhat's and Foundry's development chains."""


def is_development_chain(chain_id: int) -> bool:
    """Whether nothing of value is on a chain with this id."""
    return chain_id in DEVELOPMENT_CHAINS
