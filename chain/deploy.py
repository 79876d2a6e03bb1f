"""Deployment of contracts: a development token, and a factory with all that its federations run."""

from eth_utils.address import to_checksum_address

from chain.authentic import FACTORY
from chain.factory import Factory
from chain.token import Erc20
from contracts.compiler import link, load_artifact
from ethereum.transactions import Sender
from protocol.errors import Unavailable
from protocol.types import Address, TokenUnits


def deploy_token(sender: Sender, supply: TokenUnits) -> Erc20:
    """Return a new development token, whose whole `supply` belongs to the sender.

    Raises as `Sender.send` does.
    """
    return Erc20(sender.w3, _deploy(sender, "DevToken", {}, supply), sender)


def deploy_factory(sender: Sender) -> Factory:
    """Deploy the libraries, and a factory with the implementation linked to them; return it.

    Raises as `Sender.send` does.
    """
    return Factory(sender.w3, _deploy(sender, FACTORY, {}), sender)


def _deploy(sender: Sender, name: str, libraries: dict[str, Address], *values: object) -> Address:
    """Deploy an artifact and the libraries that it needs, each once; return its address."""
    artifact = load_artifact(name)
    for library in artifact["linkReferences"]:
        if library not in libraries:
            libraries[library] = _deploy(sender, library, libraries)
    code = link(artifact["bytecode"], artifact["linkReferences"], libraries)
    contract = sender.w3.eth.contract(abi=artifact["abi"], bytecode=code)
    # Not through web3's transact(): gas, fees and nonce are the Sender's.
    data = contract.constructor(*values).data_in_transaction
    receipt = sender.send(None, bytes.fromhex(str(data).removeprefix("0x")))
    if receipt.contract_address is None:
        raise Unavailable(
            "the Ethereum RPC's receipt of the deployment names no contract", service="chain"
        )
    return Address(to_checksum_address(receipt.contract_address))
