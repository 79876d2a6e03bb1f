"""The ERC-20 of a federation: rewards, stakes and bonds are counted in its smallest unit."""

from web3 import Web3

from chain.contract import ContractClient
from ethereum.transactions import Receipt, Sender
from ethereum.wallet import Wallet
from protocol.types import Address, TokenUnits


class Erc20(ContractClient):
    """The token at `address`. Without a wallet it can only be read.

    Reads are of the latest block or of `block`; writes wait for the receipt and raise as
    `ethereum.transactions.Sender.send` does.
    """

    def __init__(self, w3: Web3, address: Address, wallet: Wallet | Sender | None = None) -> None:
        sender = Sender(w3, wallet) if isinstance(wallet, Wallet) else wallet
        super().__init__(w3, address, "DevToken", sender)

    def balance_of(self, account: Address, block: int | None = None) -> TokenUnits:
        """Return what `account` holds."""
        return TokenUnits(self._read("balanceOf", account, block=block))

    def allowance(self, owner: Address, spender: Address, block: int | None = None) -> TokenUnits:
        """Return how much of `owner`'s tokens `spender` may still take."""
        return TokenUnits(self._read("allowance", owner, spender, block=block))

    def total_supply(self, block: int | None = None) -> TokenUnits:
        """Return how many units exist."""
        return TokenUnits(self._read("totalSupply", block=block))

    def decimals(self) -> int:
        """Return how many decimals a unit has: 10^decimals units are one token."""
        return int(self._read("decimals"))

    def symbol(self) -> str:
        """Return the token's short name."""
        return str(self._read("symbol"))

    def approve(self, spender: Address, amount: TokenUnits) -> Receipt:
        """Let `spender` take exactly `amount`, in place of what it was allowed before."""
        return self._write("approve", spender, amount)

    def transfer(self, to: Address, amount: TokenUnits) -> Receipt:
        """Send `amount` from the wallet to `to`."""
        return self._write("transfer", to, amount)
