"""A dev Ethereum chain: eth-tester behind a real JSON-RPC endpoint, kept in a journal.

`DevChain` serves what wallets, web3.py and Foundry's `cast` ask of a node, on loopback. It mines
a block for each transaction at once, its clock follows the wall clock, and a chain with a journal
comes back with the same blocks after a restart. For development and tests only: the keys of its
accounts are public.

    with DevChain(journal=Path("chain.jsonl")) as chain:
        w3 = Web3(Web3.HTTPProvider(chain.url))

Needs the `devnet` extra (eth-tester, py-evm).
"""

from chain.dev_accounts import DEV_ACCOUNTS, DEV_MNEMONIC, dev_account, dev_keys
from chain.devchain.server import DevChain

__all__ = ["DEV_ACCOUNTS", "DEV_MNEMONIC", "DevChain", "dev_account", "dev_keys"]
