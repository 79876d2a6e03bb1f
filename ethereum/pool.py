"""A node's pool as one wallet sees it: what it takes, at what price, and what it knows."""

import re
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import (
    TransactionIndexingInProgress,
    TransactionNotFound,
    Web3Exception,
    Web3RPCError,
)
from web3.types import Nonce, RPCEndpoint, TxParams, TxReceipt, Wei

from ethereum.fees import FeeLimit, Fees, Head, going_fees, lower_fees, raise_fees, read_head
from ethereum.nonces import Call, Flight, Nonces
from ethereum.refusals import Refusal, read_refusal
from ethereum.rpc import error_message, plain_errors
from ethereum.wallet import Wallet
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from protocol.types import Digest

_GAS_MARGIN: Final = (6, 5)  # the state may change between the estimate and the block
MOST_GAS: Final = 2**24
"""The most gas that a transaction may have (EIP-7825)."""
# geth's words. A number below MOST_GAS is what the wallet's ether would pay for.
_ALLOWANCE: Final = re.compile(r"gas required exceeds allowance \((\d+)\)")


class Answer(Enum):
    """The outcome of an offer."""

    TAKEN_UP = auto()
    NONCE_USED = auto()
    """The nonce is mined already, or too far ahead for the node."""
    OCCUPIED = auto()
    """Another transaction waits under the nonce and was not, or could not be, replaced."""


@dataclass(frozen=True)
class Holder:
    """The transaction that waits under a nonce, as far as the node reports it."""

    transaction_hash: str
    fees: Fees


class Pool:
    """Offers a wallet's transactions to a node, for fees within a limit (`FeeLimit`)."""

    def __init__(
        self, w3: Web3, wallet: Wallet, chain_id: int, nonces: Nonces, limit: int | None
    ) -> None:
        self._w3 = w3
        self._wallet = wallet
        self._account = to_checksum_address(wallet.address)
        self._chain_id = chain_id
        self._nonces = nonces
        self.fee_limit = FeeLimit(w3, limit)

    @property
    def limit(self) -> int:
        """The most to offer now, in wei per unit of gas."""
        return self.fee_limit.value

    # ------------------------------------------------------------------- reads

    def head(self) -> Head:
        """Return the latest block; Misconfigured on a chain without EIP-1559."""
        return read_head(self._w3)

    def going_fees(self) -> Fees:
        """Return what to offer now; Unavailable when gas costs more than the limit."""
        return going_fees(self._w3, self.head().base_fee, self.limit)

    def mined(self) -> int:
        """Return how many of the wallet's transactions are mined."""
        with plain_errors():
            return self._w3.eth.get_transaction_count(self._account, "latest")

    def pending(self) -> int:
        """Return that count including what waits in the pool, where the node counts it."""
        with plain_errors():
            return self._w3.eth.get_transaction_count(self._account, "pending")

    def knows(self, flight: Flight) -> bool:
        """Whether the node knows any of a flight's transactions, waiting or mined."""
        # The newest first: it is the likeliest, and each look is a request.
        return any(self._knows(each) for each in reversed(flight.hashes))

    def find_receipt(self, flight: Flight) -> TxReceipt | None:
        """Return the receipt of whichever of a flight's transactions was mined."""
        for transaction_hash in reversed(flight.hashes):
            with plain_errors(), suppress(TransactionNotFound, TransactionIndexingInProgress):
                receipt = self._w3.eth.get_transaction_receipt(HexBytes(transaction_hash))
                # A receipt without a block is that of a waiting transaction.
                if receipt.get("blockNumber") is not None:
                    return receipt
        return None

    def find_holder(self, nonce: int) -> Holder | None:
        """Return the wallet's transaction that waits under `nonce`, where the node reports it."""
        # Neither is standard: a node serves one, the other or none.
        methods: tuple[tuple[str, list[str]], ...] = (
            ("eth_getTransactionBySenderAndNonce", [self._account, hex(nonce)]),
            ("txpool_contentFrom", [self._account]),
        )
        for method, params in methods:
            try:
                answer = self._w3.manager.request_blocking(RPCEndpoint(method), params)
                if method == "txpool_contentFrom":
                    waiting = {**answer["queued"], **answer["pending"]}
                    answer = waiting.get(str(nonce))
                if answer is not None:
                    tip, most = (
                        int(str(answer.get(name) or answer["gasPrice"]), 16)  # before EIP-1559
                        for name in ("maxPriorityFeePerGas", "maxFeePerGas")
                    )
                    return Holder(str(answer["hash"]), Fees(tip, most))
            except (Web3Exception, CommonweightError, KeyError, TypeError, ValueError):
                continue  # not served, or in another form: it is only for a better report
        return None

    def estimate_gas(self, call: Call, block: Literal["pending", "latest"] = "pending") -> int:
        """Return the gas to send `call` with.

        Raises Reverted when the contract refuses it on `block`: by default the next one, where it
        will run, as at a deadline the latest may be too early. Raises Misconfigured when it needs
        more than any transaction may have.
        """
        request = self.request(call)
        with plain_errors():
            try:
                needed = self._w3.eth.estimate_gas(request, block)
            except Web3RPCError as error:
                # An allowance this high is the node's cap, not the wallet's ether.
                allowance = _ALLOWANCE.search(error_message(error))
                if allowance and int(allowance.group(1)) >= MOST_GAS:
                    raise _too_much_gas("more than that") from error
                raise
        if needed > MOST_GAS:
            raise _too_much_gas(f"{needed:,}")
        return min(needed * _GAS_MARGIN[0] // _GAS_MARGIN[1], MOST_GAS)

    # ------------------------------------------------------------------- offers

    def offer(self, flight: Flight, fees: Fees, *, displaces: bool) -> Answer:
        """Send the flight's call at `fees`, or at what the node asks for instead.

        The fees rise until a full pool takes the transaction, and with `displaces` until it
        replaces whatever waits under its nonce; they fall where the node caps them. Raises
        Unavailable when the node refuses it even so, Misconfigured when the wallet cannot pay.
        """
        stands, step = flight.fees, 0
        try:
            while True:
                if fees != flight.fees:
                    flight.fees = fees
                    self._nonces.write()  # before it is sent: afterwards might be too late
                refusal, message = self._submit(flight)
                if refusal is None:
                    stands = fees
                    return Answer.TAKEN_UP
                if refusal is Refusal.NONCE:
                    return Answer.NONCE_USED
                if refusal is Refusal.OTHER:
                    raise self._refused(flight, message)
                if refusal is Refusal.FEE_CAP:
                    lower = lower_fees(fees, self.head().base_fee)
                    if lower is None:
                        raise Unavailable(
                            f"the Ethereum RPC refuses {flight.gas:,} gas even at the"
                            f" {fees.most:,} wei per unit that they cost now: {message}",
                            service="chain",
                        )
                    flight.ceiling = lower.most  # never to rise past the cap again
                    fees = lower
                    continue
                is_occupied = refusal is Refusal.OCCUPIED
                higher = raise_fees(fees, fees, flight.ceiling, step, tip_alone=not is_occupied)
                if is_occupied and (higher is None or not displaces):
                    return Answer.OCCUPIED
                if higher is None:
                    raise Unavailable(
                        f"the pool of the Ethereum RPC does not take the transaction at"
                        f" {fees.most:,} wei per unit of gas, the limit is {flight.ceiling:,}:"
                        f" {message}",
                        service="chain",
                    )
                fees, step = higher, step + 1
        finally:
            flight.fees = stands  # a refused offer did not change what waits

    def _submit(self, flight: Flight) -> tuple[Refusal | None, str]:
        """Send the flight's call at its fees; return the refusal, if any, and its words."""
        assert flight.call is not None
        transaction = self.request(flight.call)
        transaction["nonce"] = Nonce(flight.nonce)
        transaction["gas"] = flight.gas
        transaction["maxFeePerGas"] = Wei(flight.fees.most)
        transaction["maxPriorityFeePerGas"] = Wei(flight.fees.tip)
        transaction["chainId"] = self._chain_id
        raw = self._wallet.sign(transaction)
        transaction_hash = Digest(keccak(raw))
        is_new = transaction_hash not in flight.hashes  # signatures are deterministic
        # Noted before it is sent: if the line breaks then, the wait looks for this hash as well.
        if is_new:
            flight.hashes.append(transaction_hash)
        with plain_errors():
            try:
                self._w3.eth.send_raw_transaction(raw)
            except Web3RPCError as error:
                message = error_message(error)
                refusal = read_refusal(message)
                if refusal is Refusal.KNOWN or self._knows(transaction_hash):
                    return None, ""
                if is_new:
                    flight.hashes.remove(transaction_hash)
                return refusal, message
            except Unavailable:
                pass  # it may have arrived before the line broke: the wait will show
        return None, ""

    def request(self, call: Call) -> TxParams:
        """Return a call in the form that estimates and eth_call take."""
        request: TxParams = {"from": self._account, "data": call.data, "value": Wei(call.value)}
        if call.to is not None:
            request["to"] = to_checksum_address(call.to)
        return request

    def _refused(self, flight: Flight, message: str) -> Misconfigured | Unavailable:
        # By the balance, not by the words: every client has its own for a lack of ether.
        assert flight.call is not None
        cost = flight.gas * flight.fees.most + flight.call.value
        with plain_errors():
            balance = self._w3.eth.get_balance(self._account)
        if balance < cost:
            return Misconfigured(
                f"{self._wallet.address} holds {balance:,} wei, the transaction may cost {cost:,}:"
                " send it some ether"
            )
        return Unavailable(f"the Ethereum RPC refuses the transaction: {message}", service="chain")

    def _knows(self, transaction_hash: Digest) -> bool:
        with plain_errors():
            try:
                self._w3.eth.get_transaction(HexBytes(transaction_hash))
            except TransactionNotFound:
                return False
        return True


def _too_much_gas(needed: str) -> Misconfigured:
    return Misconfigured(
        f"no transaction may have more than {MOST_GAS:,} gas (EIP-7825), the call needs {needed}"
    )
