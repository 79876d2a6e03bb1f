"""Running a call without mining it: eth_call and eth_estimateGas."""

from dataclasses import dataclass
from typing import Any

from eth.exceptions import OutOfGas, Revert
from eth.vm.spoof import SpoofTransaction
from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from chain.devchain.admission import check_funds, check_gas, minimum_gas
from chain.devchain.ledger import Ledger
from chain.devchain.params import read_address, read_bytes, read_quantity
from chain.devchain.rpc_error import EXECUTION_REVERTED, RpcError, invalid_params, refused

CALL_STIPEND = 2_300
ERROR_SELECTOR = bytes.fromhex("08c379a0")  # Error(string)


@dataclass(frozen=True)
class CallRequest:
    """What to run; no `gas` means as much as the block allows, no `to` creates a contract."""

    sender: bytes
    to: bytes
    data: bytes
    value: int
    gas: int | None
    fee: int  # wei a unit of gas that the sender would pay at most; 0 when not said
    access_list: tuple[tuple[bytes, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Outcome:
    """How a run ended; `error` is None when it succeeded. `gas_used` is after refunds."""

    output: bytes
    gas_used: int
    refund: int
    error: Exception | None

    def raise_error(self) -> None:
        """Raise the RpcError of a run that failed, with its revert bytes; else do nothing."""
        if self.error is None:
            return
        if isinstance(self.error, Revert):
            raise RpcError(
                EXECUTION_REVERTED,
                "execution reverted" + _revert_reason(self.output),
                "0x" + self.output.hex(),
            )
        if isinstance(self.error, OutOfGas):
            raise refused("out of gas")
        raise refused(f"execution failed: {type(self.error).__name__}: {self.error}")


def read_call(params: Any) -> CallRequest:
    """Return the call of a JSON transaction object. Raises RpcError when a field is wrong."""
    if not isinstance(params, dict):
        raise invalid_params("transaction: expected an object")
    data = params.get("input") or params.get("data") or "0x"
    gas = params.get("gas")
    fee = params.get("maxFeePerGas") or params.get("gasPrice") or 0
    return CallRequest(
        sender=read_address(params.get("from") or "0x" + "00" * 20, "from"),
        to=read_address(params["to"], "to") if params.get("to") else b"",
        data=read_bytes(data, "data"),
        value=read_quantity(params.get("value") or 0, "value"),
        gas=None if gas is None else read_quantity(gas, "gas"),
        fee=read_quantity(fee, "maxFeePerGas"),
        access_list=read_access_list(params.get("accessList") or []),
    )


def read_access_list(entries: Any) -> tuple[tuple[bytes, tuple[int, ...]], ...]:
    """Return (address, slots) pairs of a JSON access list."""
    try:
        return tuple(
            (
                read_address(entry["address"], "accessList address"),
                tuple(
                    int.from_bytes(read_bytes(key, "storageKeys", 32), "big")
                    for key in entry["storageKeys"]
                ),
            )
            for entry in entries
        )
    except (KeyError, TypeError) as error:
        raise invalid_params("accessList: expected address and storageKeys") from error


def run_call(ledger: Ledger, call: CallRequest, header: Any) -> Outcome:
    """Run `call` on the state and in the context of `header`; no fee is charged.

    Raises RpcError when the call could not even start.
    """
    gas = min(call.gas or header.gas_limit, header.gas_limit)
    return _run(ledger, call, header, gas)


def estimate_gas(ledger: Ledger, call: CallRequest, header: Any) -> int:
    """Return gas with which `call` succeeds in the context of `header`, within 1.5% of the least.

    Raises RpcError with the revert bytes when it fails with any gas.
    """
    most: int = min(call.gas or header.gas_limit, header.gas_limit)
    if call.fee:
        balance = ledger.chain.get_vm(header).state.get_balance(call.sender)
        check_funds(balance, call.value)
        most = min(most, (balance - call.value) // call.fee)
    outcome = _run(ledger, call, header, most)
    if isinstance(outcome.error, OutOfGas):
        raise refused(f"gas required exceeds allowance ({most})")
    outcome.raise_error()
    failing = max(outcome.gas_used, minimum_gas(_spoof(ledger, call, header, most))) - 1
    # Calls pass on 63/64 of their gas, so what was used may be too little to succeed with. This
    # first guess is nearly always enough, and spares most steps of the search.
    guess = (outcome.gas_used + outcome.refund + CALL_STIPEND) * 64 // 63
    for candidate in (failing + 1, guess):
        if failing < candidate < most:
            if _run(ledger, call, header, candidate).error is None:
                most = candidate
            else:
                failing = candidate
    while failing + 1 < most and most - failing > most * 0.015:
        middle = (most + failing) // 2
        if _run(ledger, call, header, middle).error is None:
            most = middle
        else:
            failing = middle
    return most


def _spoof(ledger: Ledger, call: CallRequest, header: Any, gas: int) -> Any:
    nonce = ledger.chain.get_vm(header).state.get_nonce(call.sender)
    unsigned = ledger.chain.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
        chain_id=ledger.chain_id,
        nonce=nonce,
        max_priority_fee_per_gas=0,
        max_fee_per_gas=0,
        gas=gas,
        to=call.to,
        value=call.value,
        data=call.data,
        access_list=call.access_list,
    )
    return SpoofTransaction(unsigned, from_=call.sender)


def _run(ledger: Ledger, call: CallRequest, header: Any, gas: int) -> Outcome:
    # Base fee 0, so that a call without a fee is not refused: as go-ethereum does.
    vm = ledger.chain.get_vm(header.copy(base_fee_per_gas=0))
    transaction = _spoof(ledger, call, header, gas)
    check_gas(transaction, header.gas_limit)
    check_funds(vm.state.get_balance(call.sender), call.value)
    vm.state.lock_changes()
    computation = vm.state.apply_transaction(transaction)
    return Outcome(
        output=bytes(computation.output),
        gas_used=int(vm.finalize_gas_used(transaction, computation)),
        refund=int(computation.get_gas_refund()) if computation.is_success else 0,
        error=computation.error if computation.is_error else None,
    )


def _revert_reason(output: bytes) -> str:
    """Return ": " and the text of Error(string), or nothing for any other revert."""
    if not output.startswith(ERROR_SELECTOR):
        return ""
    try:
        (reason,) = decode(["string"], output[4:])
    except DecodingError:
        return ""
    return f": {reason}"
