"""What a transaction must fulfil before it is mined, with the words of go-ethereum's pool.

Wallet libraries recognise these messages, so they are kept to the letter. A transaction that
passes is mined at once, also when it reverts.
"""

from typing import Any

from eth.constants import SECPK1_N

from chain.devchain.ledger import Ledger
from chain.devchain.rpc_error import invalid_params, refused

SUPPORTED_TYPES = (0, 1, 2)  # legacy, EIP-2930, EIP-1559
MAX_INITCODE_BYTES = 49_152  # EIP-3860
MAX_TRANSACTION_BYTES = 131_072  # what go-ethereum's pool takes


def read_transaction(ledger: Ledger, raw: bytes) -> Any:
    """Return the py-evm transaction in `raw`, its signature checked.

    Raises RpcError when the bytes are no signed transaction of a supported type.
    """
    if not raw:
        raise invalid_params("the transaction is empty")
    if raw[0] < 0x80 and raw[0] not in SUPPORTED_TYPES:
        raise refused("transaction type not supported")
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise refused(f"oversized data: transaction size {len(raw)}, limit {MAX_TRANSACTION_BYTES}")
    try:
        transaction = ledger.decode(raw)
        is_same = transaction.encode() == raw
        _ = transaction.sender  # recovered from the signature, and kept
    except Exception as error:  # py-evm, rlp and eth-keys each raise their own kinds
        raise invalid_params(f"the transaction cannot be decoded: {error!s:.200}") from error
    if not 0 < transaction.s <= SECPK1_N // 2:
        raise invalid_params("invalid transaction v, r, s values")  # EIP-2
    if not is_same:
        raise invalid_params("the transaction is not encoded canonically")
    return transaction


def check_transaction(ledger: Ledger, transaction: Any) -> None:
    """Raise RpcError unless `transaction` can go into the next block."""
    if ledger.transaction(bytes(transaction.hash)) is not None:
        raise refused("already known")
    if transaction.chain_id not in (None, ledger.chain_id):
        raise refused(
            f"invalid chain id for signer: have {transaction.chain_id} want {ledger.chain_id}"
        )
    check_gas(transaction, ledger.head.header.gas_limit)
    _check_fees(ledger, transaction)
    state = ledger.state_after(ledger.head)
    _check_nonce(state.get_nonce(transaction.sender), transaction.nonce)
    cost = transaction.gas * transaction.max_fee_per_gas + transaction.value
    check_funds(state.get_balance(transaction.sender), cost)


def minimum_gas(transaction: Any) -> int:
    """Return the gas below which `transaction` is not valid: intrinsic, and EIP-7623's floor."""
    zeros = transaction.data.count(0)
    tokens = zeros + 4 * (len(transaction.data) - zeros)
    return max(int(transaction.intrinsic_gas), int(21_000 + 10 * tokens))


def check_gas(transaction: Any, gas_limit: int) -> None:
    """Raise RpcError when the gas or the creation code is out of bounds."""
    if transaction.gas > gas_limit:
        raise refused(f"exceeds block gas limit: gas {transaction.gas}, limit {gas_limit}")
    if not transaction.to and len(transaction.data) > MAX_INITCODE_BYTES:
        raise refused(
            f"max initcode size exceeded: code size {len(transaction.data)},"
            f" limit {MAX_INITCODE_BYTES}"
        )
    if transaction.gas < minimum_gas(transaction):
        raise refused(
            f"intrinsic gas too low: gas {transaction.gas},"
            f" minimum needed {minimum_gas(transaction)}"
        )


def check_funds(balance: int, cost: int) -> None:
    """Raise RpcError unless `balance` covers `cost`, both in wei."""
    if balance < cost:
        raise refused(
            f"insufficient funds for gas * price + value: balance {balance}, tx cost {cost},"
            f" overshot {cost - balance}"
        )


def _check_fees(ledger: Ledger, transaction: Any) -> None:
    fee, tip = transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas
    if tip > fee:
        raise refused(
            "max priority fee per gas higher than max fee per gas:"
            f" maxPriorityFeePerGas: {tip}, maxFeePerGas: {fee}"
        )
    base_fee = ledger.next_header(ledger.head.timestamp + 1).base_fee_per_gas
    if fee < base_fee:
        raise refused(
            f"max fee per gas less than block base fee: maxFeePerGas: {fee}, baseFee: {base_fee}"
        )


def _check_nonce(next_nonce: int, nonce: int) -> None:
    if nonce < next_nonce:
        raise refused(f"nonce too low: next nonce {next_nonce}, tx nonce {nonce}")
    if nonce > next_nonce:
        # A pool would hold it until the gap is filled; this chain mines at once and has no pool.
        raise refused(f"nonce too high: next nonce {next_nonce}, tx nonce {nonce}")
