"""Putting contracts on the chain: a development token, and a federation."""

from collections.abc import Sequence

from eth_utils.address import to_checksum_address
from web3 import Web3

from chain.federation import Federation
from chain.records import Terms
from chain.token import Erc20
from contracts.compiler import load_artifact
from ethereum.rpc import plain_errors
from ethereum.transactions import Receipt, Sender
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Address, TokenUnits


def deploy_token(sender: Sender, supply: TokenUnits) -> Erc20:
    """Return a new development token; the whole `supply` belongs to the sender.

    Raises as `Sender.send` does.
    """
    address, _ = _deploy(sender, "DevToken", supply)
    return Erc20(sender.w3, address, sender)


def deploy_federation(sender: Sender, terms: Terms, aggregators: Sequence[Address]) -> Federation:
    """Return a new federation with its `deployment_block`; the sender is its sponsor.

    The first of `aggregators` leads, the others stand by in this order. Reverted, without sending,
    with the name of the term that is out of range; otherwise raises as `Sender.send` does.
    """
    address, receipt = _deploy(sender, "Federation", terms.to_abi(), list(aggregators))
    return Federation(sender.w3, address, sender, deployment_block=receipt.block_number)


def find_deployment_block(w3: Web3, address: Address) -> int:
    """Return the first block at which the contract at `address` is there, or an earlier one.

    Looks at the code of some twenty blocks. A node that has forgotten old states makes it start at
    0, which only costs time when events are read.
    """
    account = to_checksum_address(address)
    try:
        with plain_errors():
            first, last = 0, int(w3.eth.block_number)
            while first < last:
                middle = (first + last) // 2
                if w3.eth.get_code(account, middle):
                    last = middle
                else:
                    first = middle + 1
    except (Misconfigured, Unavailable):
        return 0
    return last


def _deploy(sender: Sender, artifact: str, *values: object) -> tuple[Address, Receipt]:
    compiled = load_artifact(artifact)
    contract = sender.w3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    data = contract.constructor(*values).data_in_transaction
    receipt = sender.send(None, bytes.fromhex(str(data).removeprefix("0x")))
    if receipt.contract_address is None:
        raise Unavailable(
            "the Ethereum RPC's receipt of the deployment names no contract", service="chain"
        )
    return Address(to_checksum_address(receipt.contract_address)), receipt
