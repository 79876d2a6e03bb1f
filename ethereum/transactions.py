"""Send a transaction and see it mined, however the node, the fees or another sender behave.

The rules:
1. A call that reverts when estimated is not sent. Gas is the estimate plus a fifth, at most 2^24.
2. Transactions of one wallet over one connection take their nonces under one lock, from what is
   mined and what is in flight here (nonces.py). When a nonce proves used or occupied, another is
   tried.
3. Fees follow EIP-1559 (fees.py). Where a pool wants more they rise within the limit; where a node
   caps them they fall (pool.py).
4. A waiting call is looked after at least once per block, so that it can be mined:
   a. What the node has forgotten is offered again, from the next block on with higher fees.
   b. What the base fee has overtaken, or what is next and not mined in time, is replaced under the
      same nonce with higher fees: only one of them can be mined.
   c. A hole below its nonce is filled: with what was sent under that nonce, or else with a transfer
      of nothing to the wallet itself.
   d. What has held a lower nonce for two blocks, and no call here waits for, is replaced likewise.
      Where the limit forbids that, it is reported and the call goes on waiting.
5. When another transaction took the nonce in the end, the call is estimated and sent anew.
6. A mined transaction that failed is run again by eth_call to learn the contract's error.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from web3 import Web3
from web3.types import LogReceipt, TxReceipt

from contracts.reverts import UNKNOWN, Reverted
from ethereum.fees import Fees, Head, raise_fees
from ethereum.nonces import Call, Flight, Nonces
from ethereum.pool import Answer, Holder, Pool
from ethereum.rpc import plain_errors
from ethereum.wallet import Wallet
from protocol.errors import CommonweightError, Unavailable
from protocol.types import Address, Digest

NONCE_ATTEMPTS: Final = 6
DISPLACED_ATTEMPTS: Final = 3
STALLED_BLOCKS: Final = 2
# A second at most, so that a chain with blocks of one second is still looked at once per block.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 1.0


@dataclass(frozen=True)
class SendingLimits:
    """How long to wait and what to pay. Times are in seconds, fees in wei per unit of gas.

    `displaced_seconds` is how long a nonce must appear taken by a transaction from elsewhere before
    the call is sent anew: nodes behind a load balancer may lag behind one another. Without
    `max_fee_per_gas` the limit follows what gas usually costs (ethereum/fees.py).
    """

    receipt_seconds: float = 180.0
    bump_after_seconds: float = 45.0
    displaced_seconds: float = 5.0
    max_fee_per_gas: int | None = 1_000 * 10**9


@dataclass(frozen=True)
class Receipt:
    """A transaction that was mined and succeeded.

    `effective_gas_price` is in wei per unit of gas, 0 where the node does not say it.
    """

    transaction_hash: Digest
    block_number: int
    block_hash: Digest
    gas_used: int
    effective_gas_price: int
    logs: tuple[LogReceipt, ...]
    contract_address: Address | None = None


class NotMined(Unavailable):
    """A transaction was sent but not seen mined in time: it may still be mined later."""

    service = "chain"

    def __init__(self, transaction_hash: Digest, nonce: int, text: str) -> None:
        super().__init__(text)
        self.transaction_hash = transaction_hash
        self.nonce = nonce


@dataclass
class _Watch:
    """What a waiting call remembers from one look to the next."""

    raised: float = field(default_factory=time.monotonic)
    overtaken_at: int = -1
    """The block at which the fees were last raised because the base fee had overtaken them."""
    forgotten_at: int | None = None
    """The block at which the node had last forgotten the flight."""
    forgotten: int = 0
    """How often the flight was offered again with higher fees because it had been forgotten."""
    stall: tuple[int, int] = (-1, 0)
    """The lowest nonce that is not mined, and the block since which that is so."""
    trouble: str = ""
    reported: set[int] = field(default_factory=set)
    """The nonces whose holders have been reported to the wallet's owner."""


# The nonces of each wallet over each connection, for as long as a Sender uses them: two senders
# that counted by themselves would give one nonce twice.
_registry: WeakValueDictionary[tuple[str, int, Address], Nonces] = WeakValueDictionary()
_registry_lock = threading.Lock()


class Sender:
    """Sends a wallet's transactions over one connection; safe to use from several threads.

    Senders of the same wallet and connection share their nonces, so a second one does no harm.
    What waits when the process dies is overtaken after a restart with the same `journal`, a file.
    `report` receives one line for whatever the wallet's owner should know though the call goes on.
    """

    def __init__(
        self,
        w3: Web3,
        wallet: Wallet,
        limits: SendingLimits | None = None,
        journal: Path | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.w3 = w3
        self.wallet = wallet
        self.limits = limits or SendingLimits()
        self._report = report
        with plain_errors():
            self._chain_id = w3.eth.chain_id
        place = (str(w3.provider), self._chain_id, wallet.address)
        with _registry_lock:
            self._nonces = _registry.setdefault(place, Nonces())
        if journal is not None:
            self._nonces.keep_in(journal)
        limit = self.limits.max_fee_per_gas
        self._pool = Pool(w3, wallet, self._chain_id, self._nonces, limit)

    @property
    def address(self) -> Address:
        """The wallet's address."""
        return self.wallet.address

    def fee_limit(self) -> tuple[int, str]:
        """Return the most to pay for a unit of gas now, in wei, and where that comes from."""
        limit = self._pool.fee_limit
        return limit.value, limit.reason

    def send(self, to: Address | None, data: bytes, value: int = 0) -> Receipt:
        """Return the receipt of a transaction to `to`, or of a deployment when it is None.

        `value` is in wei. Raises Reverted when the contract refuses, Misconfigured when the wallet
        cannot pay, NotMined when the transaction was sent but not seen mined in time, and
        Unavailable when the node is down or gas costs more than the limit.
        """
        call = Call(to, data, value)
        for _ in range(DISPLACED_ATTEMPTS):
            # Rule 1. "pending" has the effects of what an earlier call left in the pool: the same
            # call again would be refused there as already done, and what waits would never be
            # overtaken.
            try:
                gas = self._pool.estimate_gas(call)
            except Reverted:
                if not self._nonces.has_left_behind(self._pool.mined()):
                    raise
                gas = self._pool.estimate_gas(call, "latest")
            # Rules 2 to 4.
            flight = self._launch(call, gas)
            with self._nonces.awaited(flight):
                mined = self._wait(flight)
                if mined is not None:
                    self._nonces.land(flight)  # before the nonce is given back
            # Rule 6.
            if mined is not None:
                receipt = _as_receipt(mined)
                if mined["status"] == 1:
                    return receipt
                reason = self._replay(call, flight.gas, receipt)
                text = f"{reason} (transaction 0x{receipt.transaction_hash.hex()})"
                raise Reverted(reason.name, reason.arguments, text)
            # Rule 5.
            self._tell(
                f"nonce {flight.nonce} of {self.address} went to a transaction from elsewhere:"
                " is the wallet used elsewhere at the same time?"
            )
        raise Unavailable(
            f"{DISPLACED_ATTEMPTS} transactions of {self.address} were displaced by others:"
            " is the wallet used elsewhere at the same time?"
        )

    # ------------------------------------------------------------------ launch

    def _launch(self, call: Call, gas: int) -> Flight:
        """Rules 2 and 3: return the flight of a call that the node has taken up."""
        occupied: set[int] = set()
        with self._nonces.lock:
            for attempt in range(NONCE_ATTEMPTS):
                # 1. Choose a nonce and the fees that it takes.
                mined, pending = self._pool.mined(), self._pool.pending()
                nonce, overtaken = self._nonces.choose(mined, pending, occupied)
                fees = self._outbid(overtaken)
                if fees is None:
                    occupied.add(nonce)  # no room to overtake: wait behind it
                    continue
                # 2. Differ from what landed. A node that lags behind gives a nonce again; the same
                #    call at the same fees would be the same transaction, and the receipt that the
                #    earlier call had would be taken for that of this one.
                landed = self._nonces.recall(nonce)
                if landed is not None and landed.call == call and landed.fees.most >= fees.most:
                    has_room = landed.fees.most < self._pool.limit
                    fees = Fees(fees.tip, landed.fees.most + 1 if has_room else fees.most - 1)
                # 3. Claim the nonce and use it; it is free again unless the node takes it up.
                flight = Flight(call, gas, nonce, fees, self._pool.limit)
                self._nonces.claim(flight)
                answer = None
                try:
                    answer = self._pool.offer(flight, fees, displaces=overtaken is not None)
                finally:
                    if answer is not Answer.TAKEN_UP:
                        self._nonces.release(nonce)
                # 4. Try another nonce, or the same a little later.
                if answer is Answer.TAKEN_UP:
                    return flight
                if answer is Answer.OCCUPIED:
                    occupied.add(nonce)
                else:
                    time.sleep(0.05 * 2**attempt)  # the node may lag behind
        raise Unavailable(
            f"the Ethereum RPC takes no nonce of {self.address}, the last tried was {nonce}:"
            " is the wallet used elsewhere at the same time?",
            service="chain",
        )

    def _outbid(self, other: Flight | Holder | None) -> Fees | None:
        """Return what to offer now, more than `other` does; None where the limit forbids that."""
        going = self._pool.going_fees()
        return going if other is None else raise_fees(other.fees, going, self._pool.limit)

    # -------------------------------------------------------------------- wait

    def _wait(self, flight: Flight) -> TxReceipt | None:
        """Return the receipt, or None when the nonce went to a transaction from elsewhere."""
        started = time.monotonic()
        displaced_since: float | None = None
        watch, pause = _Watch(), _FIRST_PAUSE_S
        while True:
            try:
                receipt = self._pool.find_receipt(flight)
                if receipt is not None:
                    return receipt
                mined = self._pool.mined()
                if mined > flight.nonce and not self._pool.knows(flight):
                    # Rule 5: the nonce is used by something unknown, for long enough?
                    displaced_since = displaced_since or time.monotonic()
                    if time.monotonic() - displaced_since >= self.limits.displaced_seconds:
                        return None
                else:
                    displaced_since = None
                if mined <= flight.nonce:
                    self._look_after(flight, watch, mined)
            except CommonweightError as error:
                watch.trouble = str(error)  # it may pass before the time is up
            if time.monotonic() - started >= self.limits.receipt_seconds:
                latest = flight.hashes[-1]
                trouble = f". Meanwhile: {watch.trouble}" if watch.trouble else ""
                raise NotMined(
                    latest,
                    flight.nonce,
                    f"transaction 0x{latest.hex()} of {self.address} (nonce {flight.nonce}) was not"
                    f" mined within {self.limits.receipt_seconds:g} s: check whether it has been"
                    f" before sending again{trouble}",
                )
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_S)

    def _look_after(self, flight: Flight, watch: _Watch, mined: int) -> None:
        """Rule 4, for a flight that is not mined: first itself, then what is below it."""
        head = self._pool.head()
        for care in (self._keep_offered, self._clear_the_way):
            try:
                care(flight, watch, head, mined)
            except CommonweightError as error:
                watch.trouble = str(error)  # the other may help all the same

    def _keep_offered(self, flight: Flight, watch: _Watch, head: Head, mined: int) -> None:
        """Rules 4a and 4b."""
        is_overtaken = flight.fees.most < head.base_fee + flight.fees.tip
        if not self._pool.knows(flight):
            # 4a. Some nodes return a hash though their pool was too full for the transaction: the
            #     first time the same is offered, then once per block with a higher tip.
            if watch.forgotten_at is None and not is_overtaken:
                self._pool.offer(flight, flight.fees, displaces=True)
                watch.forgotten_at = head.number
            elif watch.forgotten_at is None or head.number > watch.forgotten_at:
                self._raise(flight, watch, watch.forgotten, tip_alone=True)
                watch.forgotten += 1
                watch.forgotten_at = head.number
            return
        watch.forgotten_at = None
        # 4b. Only what is next can be late; the base fee is compared once per block.
        is_late = time.monotonic() - watch.raised >= self.limits.bump_after_seconds
        if (is_late and mined == flight.nonce) or (
            is_overtaken and watch.overtaken_at < head.number
        ):
            watch.overtaken_at = head.number
            self._raise(flight, watch)

    def _raise(
        self, flight: Flight, watch: _Watch, step: int = 0, *, tip_alone: bool = False
    ) -> None:
        """Rule 4b: replace a flight with higher fees, or offer the same again at the limit."""
        # Before the offer: if the node fails meanwhile, the next try waits its time as well.
        watch.raised = time.monotonic()
        going = self._pool.going_fees()
        fees = raise_fees(flight.fees, going, flight.ceiling, step, tip_alone=tip_alone)
        self._pool.offer(flight, fees or flight.fees, displaces=True)

    def _clear_the_way(self, flight: Flight, watch: _Watch, head: Head, mined: int) -> None:
        """Rules 4c and 4d. What another call of this process waits for, that call looks after."""
        if watch.stall[0] != mined or self._is_awaited(mined):
            watch.stall = mined, head.number
        if not self._nonces.lock.acquire(blocking=False):
            return  # a nonce is being taken: it may be the missing one
        try:
            for nonce in range(mined, flight.nonce):
                if self._is_awaited(nonce):
                    continue
                # 4c. By the node's count a hole; some nodes do not count what waits in their pool,
                #     and then the nonce proves to be occupied.
                if self._pool.pending() == nonce:
                    known, going = self._nonces.recall(nonce), self._pool.going_fees()
                    if known is None or known.call is None:
                        known = self._transfer_to_itself(nonce, going)
                    fees = known.fees if known.fees.most >= going.most else going
                    answer = self._pool.offer(known, fees, displaces=False)
                    if answer is Answer.TAKEN_UP:
                        self._nonces.keep(known)
                    if answer is not Answer.OCCUPIED:
                        continue
                # 4d. Only the lowest: nothing above it can be mined before it.
                if nonce == mined and head.number - watch.stall[1] >= STALLED_BLOCKS:
                    watch.stall = mined, head.number
                    self._displace(nonce, watch)
        finally:
            self._nonces.lock.release()

    def _is_awaited(self, nonce: int) -> bool:
        """Whether a call of this process waits for the nonce, over any connection."""
        with _registry_lock:
            shared = [
                each
                for (_, chain_id, address), each in _registry.items()
                if (chain_id, address) == (self._chain_id, self.address)
            ]
        return any(each.is_awaited(nonce) for each in shared)

    def _displace(self, nonce: int, watch: _Watch) -> None:
        """Rule 4d: replace what holds `nonce`, or report why that is impossible."""
        known, holder = self._nonces.recall(nonce), self._pool.find_holder(nonce)
        outcome = f"and cannot be replaced for {self._pool.limit:,} wei per unit of gas, the limit"
        try:
            fees = self._outbid(holder or known)
            if fees is not None:
                flight = known
                if flight is None or flight.call is None:
                    flight = self._transfer_to_itself(nonce, fees)
                answer = self._pool.offer(flight, fees, displaces=True)
                if answer is Answer.TAKEN_UP:
                    self._nonces.keep(flight)
                    outcome = "and was replaced by a transfer of nothing"
                # Mined meanwhile, or our own call with higher fees: nothing the owner should know.
                if answer is Answer.NONCE_USED or (known and answer is Answer.TAKEN_UP):
                    return
        except Unavailable as error:
            outcome = f"and cannot be replaced: {error}"
        which = holder.transaction_hash if holder else "that the node does not show"
        origin = "sent earlier" if known else "not from here"
        watch.trouble = (
            f"nonce {nonce} of {self.address} was held by transaction {which}, {origin}, which was"
            f" not mined within {STALLED_BLOCKS} blocks {outcome}"
        )
        if nonce not in watch.reported:
            watch.reported.add(nonce)
            self._tell(watch.trouble)

    def _transfer_to_itself(self, nonce: int, fees: Fees) -> Flight:
        call = Call(self.address, b"", 0)
        return Flight(call, self._pool.estimate_gas(call), nonce, fees, self._pool.limit)

    def _tell(self, line: str) -> None:
        if self._report is not None:
            self._report(line)

    # ------------------------------------------------------------------- after

    def _replay(self, call: Call, gas: int, receipt: Receipt) -> Reverted:
        """Return why a mined transaction failed, by running it again.

        On the state after its block, then on the one before: which shows the reason depends on the
        other transactions of the block.
        """
        # A call keeps back a 64th of its gas from what it calls (EIP-150). For a federation that is
        # two deep, proxy and library, so what ran out in there leaves about a 32nd.
        if receipt.gas_used >= gas - gas // 32:
            return Reverted("OutOfGas", {"gas": gas}, f"it ran out of its {gas:,} gas")
        request = self._pool.request(call)
        request["gas"] = gas
        for block in (receipt.block_number, receipt.block_number - 1):
            try:
                with plain_errors():
                    self.w3.eth.call(request, block)
            except Reverted as reason:
                return reason
            except Unavailable:
                continue  # the node may not have that state any more
        return Reverted(UNKNOWN, {}, "the contract reverted, and does not when called again")


def _as_receipt(mined: TxReceipt) -> Receipt:
    created = mined.get("contractAddress")
    return Receipt(
        transaction_hash=Digest(bytes(mined["transactionHash"])),
        block_number=int(mined["blockNumber"]),
        block_hash=Digest(bytes(mined["blockHash"])),
        gas_used=int(mined["gasUsed"]),
        effective_gas_price=int(mined.get("effectiveGasPrice", 0)),  # some nodes leave it out
        logs=tuple(mined["logs"]),
        contract_address=None if created is None else Address(created),
    )
