"""The accounts a devnet's chain starts with. Their keys are public: send no real money."""

from functools import cache

from eth_account import Account
from eth_account.hdaccount import seed_from_mnemonic
from eth_account.hdaccount.deterministic import HDPath
from eth_account.signers.local import LocalAccount

# The test mnemonic that Hardhat and Foundry document; everybody knows the keys it leads to.
DEV_MNEMONIC = "test test test test test test test test test test test junk"
CHAIN_ID = 31337  # that of Hardhat's and Foundry's chains
DEV_ACCOUNTS = 20
DEV_BALANCE_WEI = 10_000 * 10**18
_HD_PATH = "m/44'/60'/0'/0"


@cache
def dev_account(index: int) -> LocalAccount:
    """Return dev account `index` (0 to 19) with its private key, at HD path m/44'/60'/0'/0/index.

    Raises ValueError when there is no such account.
    """
    if not 0 <= index < DEV_ACCOUNTS:
        raise ValueError(f"dev account {index} does not exist: there are 0 to {DEV_ACCOUNTS - 1}")
    key = HDPath(f"{_HD_PATH}/{index}").derive(_seed())
    account: LocalAccount = Account.from_key(key)
    return account


def dev_keys() -> tuple[bytes, ...]:
    """Return the 20 private keys, 32 bytes each, in the order of `dev_account`."""
    return tuple(bytes(dev_account(index).key) for index in range(DEV_ACCOUNTS))


@cache
def _seed() -> bytes:
    return seed_from_mnemonic(DEV_MNEMONIC, passphrase="")
