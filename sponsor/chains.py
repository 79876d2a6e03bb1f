"""What of a federation's needs a chain does not meet, by its EIP-155 chain id.

A federation draws participants from Ethereum's block hashes and `prevrandao` (docs/protocol.md §8).
"""

from typing import Final

# https://docs.arbitrum.io/build-decentralized-apps/arbitrum-vs-ethereum/block-numbers-and-time
_ARBITRUM: Final = {
    42161: "Arbitrum One",
    42170: "Arbitrum Nova",
    421614: "Arbitrum Sepolia",
}
# https://docs.linea.build/get-started/build/ethereum-differences
_LINEA: Final = {59144: "Linea", 59141: "Linea Sepolia"}
# https://docs.optimism.io/stack/differences
_OP_STACK: Final = {
    10: "OP Mainnet",
    130: "Unichain",
    480: "World Chain",
    1135: "Lisk",
    8453: "Base",
    34443: "Mode",
    57073: "Ink",
    81457: "Blast",
    84532: "Base Sepolia",
    7777777: "Zora",
    11155420: "OP Sepolia",
}


def describe_misfits(chain_id: int) -> list[str]:
    """Return one line for each thing that a federation needs and this chain does not have."""
    if name := _ARBITRUM.get(chain_id):
        return [
            f"on {name} block hashes are no source of randomness, prevrandao is constant, and"
            " block.number is the parent chain's: who is asked can be foreseen"
        ]
    if name := _LINEA.get(chain_id):
        return [f"on {name} prevrandao is constant: the opening block's hash alone decides"]
    if name := _OP_STACK.get(chain_id):
        return [f"on {name} the sequencer sets prevrandao: it could choose who is asked"]
    return []
