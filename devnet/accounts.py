"""The funded accounts of a devnet's chain. Their keys are public: never send real money to them."""

from functools import cache

from eth_account import Account
from eth_account.hdaccount import seed_from_mnemonic
from eth_account.hdaccount.deterministic import HDPath
from eth_account.signers.local import LocalAccount

# The test mnemonic that Hardhat and Foundry document, and anvil's default: everybody has its keys.
DEV_MNEMONIC = "test test test test test test test test test test test junk"
CHAIN_ID = 31337  # that of Hardhat's and Foundry's chains
DEV_ACCOUNTS = 20
DEV_BALANCE_WEI = 10_000 * 10**18
_HD_PATH = "m/44'/60'/0'/0"


# Cached, since deriving a key takes elliptic-curve arithmetic.
@cache
def dev_account(index: int) -> LocalAccount:
    """Return dev account `index` (0 to 19) with its private key, at HD path m/44'/60'/0'/0/index.

    Raises ValueError when the account does not exist.
    """
    if not 0 <= index < DEV_ACCOUNTS:
        raise ValueError(f"dev account {index} does not exist: there are 0 to {DEV_ACCOUNTS - 1}")
    key = HDPath(f"{_HD_PATH}/{index}").derive(_seed())
    account: LocalAccount = Account.from_key(key)
    return account


def dev_keys() -> tuple[bytes, ...]:
    """Return the 20 private keys, 32 bytes each, in the order of `dev_account`."""
    return tuple(bytes(dev_account(index).key) for index in range(DEV_ACCOUNTS))


# 2,048 rounds of HMAC-SHA-512 (BIP-39), the same for all accounts.
@cache
def _seed() -> bytes:
    return seed_from_mnemonic(DEV_MNEMONIC, passphrase="")
