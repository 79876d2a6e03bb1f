"""The ERC-20 of a federation; its smallest unit counts rewards, stakes and bonds."""

from typing import Final

from web3 import Web3

from chain.contract import ContractClient
from ethereum.transactions import Receipt, Sender
from ethereum.wallet import Wallet
from protocol.text import printable
from protocol.types import Address, TokenUnits

_LONGEST_SYMBOL: Final = 32


class Erc20(ContractClient):
    """The token at `address`; without a wallet it can only be read.

    Reads are of the latest block or of `block`; writes wait for the receipt and raise as
    `ethereum.transactions.Sender.send` does.
    """

    def __init__(self, w3: Web3, address: Address, wallet: Wallet | Sender | None = None) -> None:
        sender = Sender(w3, wallet) if isinstance(wallet, Wallet) else wallet
        # DevToken's interface, and so its errors, contain all of a plain ERC-20's.
        super().__init__(w3, address, "DevToken", sender)

    def balance_of(self, account: Address, block: int | None = None) -> TokenUnits:
        """Return the balance of `account`."""
        return TokenUnits(self._read("balanceOf", account, block=block))

    def allowance(self, owner: Address, spender: Address, block: int | None = None) -> TokenUnits:
        """Return how many of `owner`'s units `spender` may still take."""
        return TokenUnits(self._read("allowance", owner, spender, block=block))

    def total_supply(self, block: int | None = None) -> TokenUnits:
        """Return the number of units in existence."""
        return TokenUnits(self._read("totalSupply", block=block))

    def decimals(self) -> int:
        """Return the number of decimals: 10^decimals units are one token."""
        return int(self._read("decimals"))

    def symbol(self) -> str:
        """Return the token's short name, fit to be shown: anybody may have deployed the token."""
        return printable(self._read_as(str, "symbol"))[:_LONGEST_SYMBOL]

    def approve(self, spender: Address, amount: TokenUnits) -> Receipt:
        """Let `spender` take exactly `amount`, replacing any earlier allowance."""
        return self._write("approve", spender, amount)

    def transfer(self, to: Address, amount: TokenUnits) -> Receipt:
        """Send `amount` from the wallet to `to`."""
        return self._write("transfer", to, amount)
