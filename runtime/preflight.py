"""Preflight checks of a role: each a line that says what was found, or what is missing and what to
do about it.

    preflight = ParticipantPreflight(answers, data, model, cache)      # node/preflight.py
    for finding in preflight.findings():
        print(finding.line())
    preflight.location          # what to write to federation.json, once the contract was found
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chain.deploy import find_deployment_block
from chain.federation import Federation
from chain.location import FederationLocation
from ethereum.rpc import connect, plain_errors
from ethereum.wallet import Wallet, load_keystore
from protocol.errors import CommonweightError, Misconfigured
from protocol.spec import Spec
from protocol.types import Address, format_tokens, parse_address
from storage.ipfs import ContentStore

if TYPE_CHECKING:
    from web3 import Web3


@dataclass(frozen=True)
class Answers:
    """What the user gave; `password` is None when there is no way to have it."""

    rpc_url: str
    ipfs_url: str
    address: str
    keystore: Path
    password: str | None
    chain_id: int | None = None
    from_block: int | None = None


@dataclass(frozen=True)
class Finding:
    """One look: `text` says what was found, or what is missing."""

    subject: str
    is_ok: bool
    text: str

    def line(self) -> str:
        """Return the finding for a person."""
        return f"{'ok     ' if self.is_ok else 'MISSING'}  {self.subject:<12} {self.text}"


class Preflight:
    """Looks at everything that can be looked at: one fault does not hide those behind it."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.wallet: Wallet | None = None
        self.location: FederationLocation | None = None
        self._w3: Web3 | None = None
        self._federation: Federation | None = None
        self._spec: Spec | None = None

    def _common(self) -> Iterator[Finding]:
        yield self._look("wallet", self._wallet)
        yield self._look("chain", self._chain)
        if self._w3 is not None:
            yield self._look("contract", self._contract)
        yield self._look("ipfs", self._ipfs)
        if self._federation is not None:
            yield self._look("spec", self._fetch_spec)

    def _look(self, subject: str, check: Callable[[], str]) -> Finding:
        try:
            return Finding(subject, True, check())
        except CommonweightError as error:
            return Finding(subject, False, str(error))
        except ModuleNotFoundError as error:
            advice = "pip install 'commonweight[train]'"
            return Finding(subject, False, f"{error.name} is not installed: {advice}")

    # ------------------------------------------------------------------- chain

    def _wallet(self) -> str:
        if self.answers.password is None:
            raise Misconfigured("no password for the keystore: give --password-file")
        self.wallet = load_keystore(self.answers.keystore, self.answers.password)
        return f"{self.wallet.address}, its file is readable by its owner alone"

    def _chain(self) -> str:
        w3 = connect(self.answers.rpc_url, chain_id=self.answers.chain_id)
        self._w3 = w3
        with plain_errors():
            return f"chain {w3.eth.chain_id} at block {w3.eth.block_number:,}"

    def _contract(self) -> str:
        assert self._w3 is not None
        address = parse_address(self.answers.address)
        federation = Federation(self._w3, address, self.wallet)
        block = self.answers.from_block
        if block is None:
            block = find_deployment_block(self._w3, address)
        federation.deployment_block = block
        self._federation = federation
        with plain_errors():
            chain_id = int(self._w3.eth.chain_id)
        self.location = FederationLocation(
            chain_id=chain_id,
            address=address,
            deployment_block=block,
            rpc_url=self.answers.rpc_url,
            ipfs_url=self.answers.ipfs_url,
        )
        if federation.is_over():
            raise Misconfigured(f"the federation at {address} is over: no round will be opened")
        left = federation.terms().rounds - federation.round_count()
        return f"a federation with {left} of {federation.terms().rounds} rounds to come"

    def _gas(self, gas: int) -> str:
        w3 = self._open_federation().w3
        with plain_errors():
            balance = int(w3.eth.get_balance(w3.to_checksum_address(self._address())))
            price = int(w3.eth.gas_price)
        needed = gas * price
        shown = f"holds {balance / 10**18:.6f} ether, a first round costs about"
        if balance < needed:
            raise Misconfigured(
                f"{self._address()} {shown} {needed / 10**18:.6f}: send it some for gas"
            )
        return f"{shown} {needed / 10**18:.6f}"

    def _pays(self, amount: int, what: str) -> str:
        federation = self._open_federation()
        held = federation.token.balance_of(self._address())
        token = federation.terms().token
        shown = f"holds {format_tokens(held)} of token {token}, {what} {format_tokens(amount)}"
        if held < amount:
            raise Misconfigured(
                f"{self._address()} {shown}: get {format_tokens(amount - held)} more"
            )
        return shown

    # ----------------------------------------------------------------- content

    def _ipfs(self) -> str:
        return f"peer {ContentStore(self.answers.ipfs_url).id()}"

    def _fetch_spec(self) -> str:
        digest = self._open_federation().terms().spec_digest
        self._spec = Spec.parse(ContentStore(self.answers.ipfs_url).get_block(digest))
        return f"{len(self._spec.layers)} layers, {self._spec.total_bytes:,} bytes an update"

    def _address(self) -> Address:
        assert self.wallet is not None
        return self.wallet.address

    def _open_federation(self) -> Federation:
        assert self._federation is not None
        return self._federation
