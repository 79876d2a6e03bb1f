"""Sending a transaction and seeing it mined, however the node, the fees or another sender behave.

The rules:
1. A call that reverts when estimated is not sent.
2. Transactions of one wallet over one connection take their nonces under one lock: what the chain
   counts as pending, past those still in flight here. When a nonce proves taken, the next is tried.
   With a journal, what still waits from before a restart is overtaken (chain/nonces.py).
3. Fees are EIP-1559's, gas is the estimate and a fifth. What is not mined in time is sent again
   under the same nonce with fees an eighth higher, as often as needed: only one can be mined.
4. When another transaction took the nonce in the end, the call is estimated and sent anew.
5. A mined transaction that failed is run again by eth_call to learn the contract's error.
"""

import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import TransactionIndexingInProgress, TransactionNotFound, Web3RPCError
from web3.types import LogReceipt, Nonce, TxParams, TxReceipt, Wei

from chain.nonces import Fees, Nonces
from chain.reverts import UNKNOWN, Reverted
from chain.rpc import error_message, plain_errors
from chain.wallet import Wallet
from protocol.errors import Misconfigured, Unavailable
from protocol.quantities import Address, Digest

GAS_MARGIN = (6, 5)  # the state may change between the estimate and the block
FEE_BUMP = (9, 8)  # pools ask for 10% more to replace a transaction
NONCE_ATTEMPTS = 6
DISPLACED_ATTEMPTS = 3
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 2.0
_NONCE_WORDS = re.compile(r"nonce|already|underpriced|replacement", re.IGNORECASE)


@dataclass(frozen=True)
class SendingLimits:
    """How long to wait and what to pay. Times in seconds, fees in wei a unit of gas.

    `displaced_seconds` is how long a nonce must look taken by a transaction from elsewhere before
    the call is sent anew: nodes behind a load balancer may lag behind one another.
    """

    receipt_seconds: float = 180.0
    bump_after_seconds: float = 45.0
    displaced_seconds: float = 5.0
    max_fee_per_gas: int = 1_000 * 10**9


@dataclass(frozen=True)
class Receipt:
    """A transaction that was mined and succeeded. `effective_gas_price` is wei a unit of gas."""

    transaction_hash: Digest
    block_number: int
    block_hash: Digest
    gas_used: int
    effective_gas_price: int
    logs: tuple[LogReceipt, ...]
    contract_address: Address | None = None


class NotMined(Unavailable):
    """A transaction was sent but not seen mined in time: it may still be mined later."""

    def __init__(self, transaction_hash: Digest, nonce: int, text: str) -> None:
        super().__init__(text)
        self.transaction_hash = transaction_hash
        self.nonce = nonce


@dataclass(frozen=True)
class _Call:
    to: Address | None
    data: bytes
    value: int


@dataclass
class _Flight:
    """A call under one nonce, and every transaction that was sent for it."""

    call: _Call
    gas: int
    nonce: int
    fees: Fees
    hashes: list[Digest] = field(default_factory=list)


_registry: WeakKeyDictionary[Web3, dict[Address, Nonces]] = WeakKeyDictionary()
_registry_lock = threading.Lock()


class Sender:
    """Sends a wallet's transactions over one connection; safe to use from several threads.

    Senders of the same wallet and connection share their nonces, so making a second one is fine.
    What waits when the process dies is overtaken after a restart with the same `journal`, a file.
    """

    def __init__(
        self,
        w3: Web3,
        wallet: Wallet,
        limits: SendingLimits | None = None,
        journal: Path | None = None,
    ) -> None:
        self.w3 = w3
        self.wallet = wallet
        self.limits = limits or SendingLimits()
        with _registry_lock:
            self._nonces = _registry.setdefault(w3, {}).setdefault(wallet.address, Nonces())
        if journal is not None:
            self._nonces.keep_in(journal)
        with plain_errors():
            self._chain_id = w3.eth.chain_id

    @property
    def address(self) -> Address:
        """Who sends."""
        return self.wallet.address

    def send(self, to: Address | None, data: bytes, value: int = 0) -> Receipt:
        """Return the receipt of a transaction to `to`, or of a deployment when it is None.

        `value` is in wei. Reverted when the contract refuses, Misconfigured when the wallet cannot
        pay, NotMined when it was sent but not seen mined in time, Unavailable when the node is down
        or gas costs more than the limit.
        """
        call = _Call(to, data, value)
        for _ in range(DISPLACED_ATTEMPTS):
            flight = self._launch(call, self._estimate_gas(call))
            with self._nonces.flying(flight.nonce):
                mined = self._wait(flight)
            if mined is not None:
                return self._checked(flight, mined)
        raise Unavailable(
            f"{DISPLACED_ATTEMPTS} transactions of {self.address} were displaced by others:"
            " is the wallet used elsewhere at the same time?"
        )

    # ------------------------------------------------------------------ launch

    def _estimate_gas(self, call: _Call) -> int:
        with plain_errors():
            # In the next block, where it will run: at a deadline the latest block may be too early.
            estimate = self.w3.eth.estimate_gas(self._request(call), "pending")
        return estimate * GAS_MARGIN[0] // GAS_MARGIN[1]

    def _launch(self, call: _Call, gas: int) -> _Flight:
        with self._nonces.lock:
            for attempt in range(NONCE_ATTEMPTS):
                nonce, fees = self._choose_nonce()
                flight = _Flight(call, gas, nonce, fees)
                self._nonces.claim(nonce, fees)
                if self._is_taken_up(flight):
                    return flight
                time.sleep(0.05 * 2**attempt)
        raise Unavailable(
            f"the Ethereum RPC takes no nonce of {self.address}, the last tried was {nonce}:"
            " is the wallet used elsewhere at the same time?"
        )

    def _choose_nonce(self) -> tuple[int, Fees]:
        """Return the next nonce and what to offer: more than the transaction it overtakes."""
        nonce, overtaken = self._nonces.choose(self._count("latest"), self._count("pending"))
        fresh = self._current_fees()
        return nonce, fresh if overtaken is None else self._outbid(overtaken, fresh)

    def _outbid(self, before: Fees, fresh: Fees) -> Fees:
        """Return fees an eighth higher than `before`, or the same at the limit."""
        most = max(_raised(before.most), fresh.most)
        tip = max(_raised(before.tip), fresh.tip)
        return Fees(min(tip, most), most) if most <= self.limits.max_fee_per_gas else before

    def _is_taken_up(self, flight: _Flight) -> bool:
        """Send the flight's first transaction; its nonce is free again unless it was taken up."""
        is_sent = False
        try:
            is_sent = self._offer(flight)
        finally:
            if not is_sent:
                self._nonces.release(flight.nonce)
        return is_sent

    def _offer(self, flight: _Flight) -> bool:
        """Send the flight's next transaction; False when its nonce is taken."""
        raw = self._sign(flight)
        with plain_errors():
            try:
                self.w3.eth.send_raw_transaction(raw)
            except Web3RPCError as error:
                if self._is_known(flight.hashes[-1]):
                    return True
                if _NONCE_WORDS.search(error_message(error)):
                    return False
                raise self._refusal(flight, error) from error
            except Unavailable:
                # It may have arrived before the line broke: the wait will tell.
                return True
        return True

    def _sign(self, flight: _Flight) -> bytes:
        transaction = self._request(flight.call)
        transaction["nonce"] = Nonce(flight.nonce)
        transaction["gas"] = flight.gas
        transaction["maxFeePerGas"] = Wei(flight.fees.most)
        transaction["maxPriorityFeePerGas"] = Wei(flight.fees.tip)
        transaction["chainId"] = self._chain_id
        raw = self.wallet.sign(transaction)
        transaction_hash = Digest(keccak(raw))
        if transaction_hash not in flight.hashes:  # signatures are deterministic
            flight.hashes.append(transaction_hash)
        return raw

    def _request(self, call: _Call) -> TxParams:
        request: TxParams = {"from": to_checksum_address(self.address), "data": call.data}
        request["value"] = Wei(call.value)
        if call.to is not None:
            request["to"] = to_checksum_address(call.to)
        return request

    def _current_fees(self) -> Fees:
        with plain_errors():
            base = self.w3.eth.get_block("latest").get("baseFeePerGas")
            tip = self.w3.eth.max_priority_fee
        if base is None:
            raise Misconfigured(
                f"chain {self._chain_id} has no base fee: one with EIP-1559 was expected"
            )
        limit = self.limits.max_fee_per_gas
        if base + tip > limit:
            raise Unavailable(
                f"gas costs {base + tip:,} wei a unit now, the limit is {limit:,}: wait or raise it"
            )
        return Fees(tip, min(2 * base + tip, limit))  # twice: six full blocks cannot outrun it

    def _refusal(self, flight: _Flight, error: Web3RPCError) -> Misconfigured | Unavailable:
        cost = flight.gas * flight.fees.most + flight.call.value
        with plain_errors():
            balance = self.w3.eth.get_balance(to_checksum_address(self.address))
        if balance < cost:
            return Misconfigured(
                f"{self.address} holds {balance:,} wei, the transaction may cost {cost:,}:"
                " send it some ether"
            )
        return Unavailable(f"the Ethereum RPC refuses the transaction: {error_message(error)}")

    # -------------------------------------------------------------------- wait

    def _wait(self, flight: _Flight) -> TxReceipt | None:
        """Return the receipt, or None when the nonce went to a transaction from elsewhere."""
        started = bumped = time.monotonic()
        taken_since: float | None = None
        pause = _FIRST_PAUSE_S
        while True:
            now = time.monotonic()
            try:
                receipt = self._find_receipt(flight)
                if receipt is not None:
                    return receipt
                taken_since = (taken_since or now) if self._is_taken(flight) else None
                if taken_since and now - taken_since >= self.limits.displaced_seconds:
                    return None
                if now - bumped >= self.limits.bump_after_seconds and not taken_since:
                    bumped = now
                    self._bump(flight)
            except Unavailable:
                pass  # the node may come back before the time is up
            if now - started >= self.limits.receipt_seconds:
                raise self._not_mined(flight)
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def _find_receipt(self, flight: _Flight) -> TxReceipt | None:
        with plain_errors():
            found = (self._get_receipt(each) for each in reversed(flight.hashes))
            return next((receipt for receipt in found if receipt is not None), None)

    def _get_receipt(self, transaction_hash: Digest) -> TxReceipt | None:
        try:
            receipt = self.w3.eth.get_transaction_receipt(HexBytes(transaction_hash))
        except (TransactionNotFound, TransactionIndexingInProgress):
            return None
        return receipt if receipt.get("blockNumber") is not None else None

    def _is_taken(self, flight: _Flight) -> bool:
        """Whether the nonce is used up and no transaction of the flight is known any more."""
        if self._count("latest") <= flight.nonce:
            return False
        return not any(self._is_known(each) for each in flight.hashes)

    def _bump(self, flight: _Flight) -> None:
        """Offer the flight again, with fees an eighth higher while the limit allows it."""
        flight.fees = self._outbid(flight.fees, self._current_fees())
        self._nonces.raise_fees(flight.nonce, flight.fees)
        self._offer(flight)  # at the limit the same again, lest the pool has dropped it

    def _not_mined(self, flight: _Flight) -> NotMined:
        latest = flight.hashes[-1]
        return NotMined(
            latest,
            flight.nonce,
            f"transaction 0x{latest.hex()} of {self.address} (nonce {flight.nonce}) was not mined"
            f" within {self.limits.receipt_seconds:g} s: look whether it was before sending again",
        )

    # ------------------------------------------------------------------- after

    def _checked(self, flight: _Flight, mined: TxReceipt) -> Receipt:
        receipt = _as_receipt(mined)
        if mined["status"] == 1:
            return receipt
        reason = self._replay(flight, receipt)
        raise Reverted(
            reason.name,
            reason.arguments,
            f"{reason} (transaction 0x{receipt.transaction_hash.hex()})",
        )

    def _replay(self, flight: _Flight, receipt: Receipt) -> Reverted:
        """Return why a mined transaction failed: run again after its block, then before it."""
        if receipt.gas_used >= flight.gas:
            return Reverted(
                "OutOfGas", {"gas": flight.gas}, f"it ran out of its {flight.gas:,} gas"
            )
        request = self._request(flight.call)
        request["gas"] = flight.gas
        for block in (receipt.block_number, receipt.block_number - 1):
            try:
                with plain_errors():
                    self.w3.eth.call(request, block)
            except Reverted as reason:
                return reason
            except Unavailable:
                continue
        return Reverted(UNKNOWN, {}, "the contract reverted, and does not when called again")

    # ------------------------------------------------------------------ small

    def _count(self, block: Literal["pending", "latest"]) -> int:
        with plain_errors():
            return self.w3.eth.get_transaction_count(to_checksum_address(self.address), block)

    def _is_known(self, transaction_hash: Digest) -> bool:
        with plain_errors():
            try:
                self.w3.eth.get_transaction(HexBytes(transaction_hash))
            except TransactionNotFound:
                return False
        return True


def _raised(fee: int) -> int:
    return fee * FEE_BUMP[0] // FEE_BUMP[1] + 1


def _as_receipt(mined: TxReceipt) -> Receipt:
    created = mined.get("contractAddress")
    return Receipt(
        transaction_hash=Digest(bytes(mined["transactionHash"])),
        block_number=int(mined["blockNumber"]),
        block_hash=Digest(bytes(mined["blockHash"])),
        gas_used=int(mined["gasUsed"]),
        effective_gas_price=int(mined["effectiveGasPrice"]),
        logs=tuple(mined["logs"]),
        contract_address=None if created is None else Address(created),
    )
