"""What must be so before a role can start: looked at one by one, each a line that says what is
missing and what to do about it.

    preflight = Preflight(answers)
    for finding in preflight.participant():
        print(finding.line())
    preflight.location          # what to write to federation.json, once the contract was found
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chain.deploy import find_deployment_block
from chain.federation import Federation
from chain.location import FederationLocation
from chain.records import AggregatorState
from chain.rpc import connect, plain_errors
from chain.wallet import Wallet, load_keystore
from commonweight.show import tokens
from protocol.errors import CommonweightError, Misconfigured
from protocol.quantities import Address, parse_address
from protocol.spec import Spec
from storage.ipfs import ContentStore

if TYPE_CHECKING:
    from web3 import Web3

ROUND_GAS: Final = 400_000
"""A first round of a participant: approve, join, commit, reveal, withdraw, and some to spare."""
PROPOSAL_GAS: Final = 1_500_000
"""A first round of an aggregator: approve, bond, open, propose, finalize for some 50 updates."""


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
    data: Path | str | None = None
    model: str = ""
    cache: Path = Path("cache")


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

    def participant(self) -> Iterator[Finding]:
        """Yield what a participant needs, in the order in which it is best put right."""
        yield from self._common()
        if self._federation is not None and self.wallet is not None:
            yield self._look("gas", lambda: self._gas(ROUND_GAS))
            yield self._look("stake", self._stake)
        yield self._look("data", self._data)
        if self._spec is not None:
            yield self._look("model", self._model)
            yield self._look("memory", self._memory)

    def aggregator(self) -> Iterator[Finding]:
        """Yield what an aggregator needs."""
        yield from self._common()
        if self._federation is not None and self.wallet is not None:
            yield self._look("listed", self._listed)
            yield self._look("gas", lambda: self._gas(PROPOSAL_GAS))
            yield self._look("bond", self._bond)

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

    def _stake(self) -> str:
        federation = self._open_federation()
        terms, standing = federation.terms(), federation.get_participant(self._address())
        if standing.active:
            return f"joined already, with {tokens(standing.stake)} tokens at stake"
        if standing.unlock_at:
            return "leaving: `commonweight participant run` would withdraw the stake"
        if federation.active_count() >= terms.max_participants:
            raise Misconfigured(f"all {terms.max_participants} seats are taken: try again later")
        return self._pays(terms.participant_stake - standing.stake, "joining stakes")

    def _bond(self) -> str:
        federation = self._open_federation()
        if federation.aggregator_state(self._address()) is AggregatorState.BONDED:
            return "posted already"
        return self._pays(federation.terms().aggregator_bond, "the bond is")

    def _pays(self, amount: int, what: str) -> str:
        federation = self._open_federation()
        held = federation.token.balance_of(self._address())
        shown = f"holds {tokens(held)} of token {federation.terms().token}, {what} {tokens(amount)}"
        if held < amount:
            raise Misconfigured(f"{self._address()} {shown}: get {tokens(amount - held)} more")
        return shown

    def _listed(self) -> str:
        federation = self._open_federation()
        state = federation.aggregator_state(self._address())
        if state in (AggregatorState.UNLISTED, AggregatorState.SLASHED):
            listed = ", ".join(federation.aggregators())
            raise Misconfigured(
                f"{self._address()} is {state.name.lower()}: the sponsor listed {listed}"
            )
        place = list(federation.aggregators()).index(self._address())
        return "the lead" if place == 0 else f"standby number {place}"

    # ----------------------------------------------------------------- content

    def _ipfs(self) -> str:
        return f"peer {ContentStore(self.answers.ipfs_url).id()}"

    def _fetch_spec(self) -> str:
        digest = self._open_federation().terms().spec_digest
        self._spec = Spec.parse(ContentStore(self.answers.ipfs_url).get_block(digest))
        return f"{len(self._spec.layers)} layers, {self._spec.total_bytes:,} bytes an update"

    def _data(self) -> str:
        data = self.answers.data
        if data is None or (isinstance(data, Path) and not data.is_file()):
            raise Misconfigured(f"no file {data}: expected your questions and answers")
        # torch is what trains, and reading examples is beside it: an auditor's install has neither.
        if importlib.util.find_spec("torch") is None:
            raise ModuleNotFoundError(name="torch")
        from training.examples import load

        report = load(data).report
        dropped = sum(report.dropped.values())
        suffix = f", {dropped} rows without question or answer dropped" if dropped else ""
        return f"{report.examples} examples in {data}{suffix}"

    def _model(self) -> str:
        from training.sources import describe_source, resolve_source

        assert self._spec is not None
        source = resolve_source(self.answers.model, self.answers.cache)
        needs_chat = self._spec.template == "chat"
        found, pinned = describe_source(source, needs_chat=needs_chat), self._spec.base_model
        for part in ("weights_digest", "tokenizer_digest", "chat_template_digest"):
            if getattr(found, part) != getattr(pinned, part):
                raise Misconfigured(
                    f"{self.answers.model} is not {pinned.name}@{pinned.revision}: its {part} is"
                    f" {getattr(found, part)[:16]}…, the spec says {getattr(pinned, part)[:16]}…"
                )
        return f"{pinned.name}@{pinned.revision}, byte for byte"

    def _memory(self) -> str:
        from training.memory import RUNTIME_BYTES, estimate_memory, free_memory
        from training.sources import resolve_source

        assert self._spec is not None
        spec = self._spec
        source = resolve_source(self.answers.model, self.answers.cache)
        estimate = estimate_memory(source.folder, spec.quantization, spec.lora, spec.training)
        needed, free = estimate.total + RUNTIME_BYTES, free_memory()
        shown = f"about {needed / 2**30:.1f} GiB to train"
        if free is None:
            return shown
        shown += f", {free / 2**30:.1f} GiB are free"
        if needed > free:
            raise Misconfigured(f"{shown}: use a larger machine or a GPU")
        return shown

    def _address(self) -> Address:
        assert self.wallet is not None
        return self.wallet.address

    def _open_federation(self) -> Federation:
        assert self._federation is not None
        return self._federation
