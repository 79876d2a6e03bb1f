"""Putting contracts on the chain: a development token, and a federation."""

from collections.abc import Sequence

from eth_utils.address import to_checksum_address

from chain.compiler import load_artifact
from chain.federation import Federation
from chain.records import Terms
from chain.token import Erc20
from chain.transactions import Receipt, Sender
from protocol.errors import Unavailable
from protocol.quantities import Address, TokenUnits


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


def _deploy(sender: Sender, artifact: str, *values: object) -> tuple[Address, Receipt]:
    compiled = load_artifact(artifact)
    contract = sender.w3.eth.contract(abi=compiled["abi"], bytecode=compiled["bytecode"])
    data = contract.constructor(*values).data_in_transaction
    receipt = sender.send(None, bytes.fromhex(str(data).removeprefix("0x")))
    if receipt.contract_address is None:
        raise Unavailable("the Ethereum RPC's receipt of the deployment names no contract")
    return Address(to_checksum_address(receipt.contract_address)), receipt
