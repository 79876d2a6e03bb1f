"""The federation contract: one method per contract function, typed results, no decisions.

    federation = Federation(connect(rpc_url, chain_id=31337), address, wallet)
    opened = federation.open_round()
    federation.status(opened.round_id)      # Status.SEED

Reads are of the latest mined block. `now` returns a client whose reads, counts and logs are all of
one block; single reads take `block`. Only the time of the next block is read at "pending", since a
transaction in the pool may still be replaced (docs/decisions/0012-decisions-on-mined-blocks.md).
Writes wait for the receipt and raise `contracts.reverts.Reverted` with the contract's error, sent
or not. contracts/src/IFederation.sol documents what each call does and requires,
docs/protocol.md the digests.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from web3 import Web3
from web3.exceptions import BlockNotFound
from web3.types import RPCEndpoint

from chain.authentic import IMPLEMENTATION, Founding, check_federation, find_founding
from chain.contract import ContractClient
from chain.development import is_development_chain
from chain.event_index import EventIndex
from chain.event_log import EventLog
from chain.events import FederationEvent, LeafPosted, RoundOpened, events_in, read_events
from chain.history import History
from chain.invitation import Invitation
from chain.location import FederationLocation
from chain.records import (
    Leaf,
    LeafAnswer,
    LeafRequest,
    Model,
    OpenedLeaf,
    Opening,
    Participant,
    Round,
    Secrets,
    Submission,
    Sum,
    Terms,
)
from chain.token import Erc20
from contracts.enums import AggregatorState, Status
from contracts.reverts import Reverted, known_errors
from ethereum.rpc import connect, plain_errors
from ethereum.transactions import Receipt, Sender, SendingLimits
from ethereum.wallet import Wallet
from protocol.commitment import pack_members
from protocol.errors import Misconfigured, Unavailable, WrongBytes
from protocol.tree import is_proof_valid
from protocol.types import Address, Digest, RoundId, TokenUnits, UnixTime, parse_address
from protocol.verdict import Verdict


@dataclass(frozen=True)
class OpenedRound:
    """A round that was just opened; its seed is still to be fixed."""

    round_id: RoundId
    event: RoundOpened
    receipt: Receipt


class Federation(ContractClient):
    """The federation at `address`; read-only without a wallet.

    Raises Misconfigured when there is no contract at the address, or one that only looks like a
    federation of this version (chain/authentic.py).
    """

    def __init__(
        self,
        w3: Web3,
        address: Address,
        wallet: Wallet | Sender | None = None,
        *,
        deployment_block: int = 0,
    ) -> None:
        sender = Sender(w3, wallet) if isinstance(wallet, Wallet) else wallet
        super().__init__(w3, parse_address(address), IMPLEMENTATION, sender)
        self.deployment_block = deployment_block
        check_federation(w3, self.address)
        self._terms = self._read_as(Terms.from_abi, "terms")
        money = self._terms.money
        # Shared by all clients that `now` returns, so that each only reads new blocks.
        self.event_log = EventLog(w3, self.address, money.availability_deposit)
        self.token = Erc20(w3, money.token, sender)
        self._known: dict[tuple[str, *tuple[object, ...]], Any] = {}  # of a pinned client

    def now(self) -> "Federation":
        """Return this client pinned to the newest mined block.

        Its reads agree with one another and with its logs, whatever is mined or sent meanwhile.
        """
        with plain_errors():
            head = int(self.w3.eth.block_number)
        return self.at(head)

    def at(self, block: int) -> "Federation":
        """Return this client pinned to `block`; a full node has the state of about 128 blocks."""
        pinned = copy(self)
        pinned.block, pinned._known = block, {}
        return pinned

    def finalized_block(self) -> int:
        """Return the newest block that no reorganisation can undo, by the chain's consensus.

        On a development chain without finality (eth-tester) it is the newest block.
        """
        with plain_errors():
            try:
                found = int(self.w3.eth.get_block("finalized")["number"])
            except BlockNotFound:
                found = 0
        if not found and is_development_chain(self.chain_id):
            return self.head
        return found

    def ask_for_block(self) -> None:
        """Ask for another block on a development chain, which may mine on demand only.

        Nothing becomes final there while nobody sends anything. Elsewhere, and where the node does
        not know the request, nothing happens.
        """
        if is_development_chain(self.chain_id):
            with suppress(Unavailable, Reverted), plain_errors():
                self.w3.provider.make_request(RPCEndpoint("evm_mine"), [])

    def pinned(self) -> "Federation":
        """Return this client if it is pinned to a block already, else `now`."""
        return self.now() if self.block is None else self

    def _read_once(
        self,
        name: str,
        *values: object,
        kind: Callable[[Any], Any] = int,
        block: int | None = None,
    ) -> Any:
        """Read as `_read_as` does; a pinned client asks once, since its block does not change."""
        if self.block is None or block is not None:
            return self._read_as(kind, name, *values, block=block)
        if (name, *values) not in self._known:
            self._known[name, *values] = self._read_as(kind, name, *values)
        return self._known[name, *values]

    def next_time(self) -> UnixTime:
        """Return the time that the node expects of the next block, to compare deadlines with."""
        # The latest block may be old on a chain that mines only on demand. Where a node does not
        # serve "pending", the connection supplies a block (ethereum/rpc.py).
        with plain_errors():
            return UnixTime(self.w3.eth.get_block("pending")["timestamp"])

    def history(self) -> History:
        """Return the federation's history up to the block that this client reads from.

        Raises MissingLogs when the node returns fewer logs than the contract counts, and
        Unavailable when it no longer has that block's state or the chain changes meanwhile.
        """
        now = self.pinned()
        return now.event_log.up_to(now.head, now)

    def keep_events(self, folder: Path) -> None:
        """Begin with the events that were kept in `folder`, and keep there what is read now."""
        index = EventIndex(folder, self.w3, self.address, self.deployment_block)
        self.event_log.use(index)

    def founding(self) -> Founding:
        """Return where the federation was founded; Misconfigured by no factory of this version."""
        return find_founding(self.w3, self.address, self.created_at(), self.deployment_block)

    # ------------------------------------------------------------------- reads

    def terms(self) -> Terms:
        """Return the terms fixed at the founding, which are read once."""
        return self._terms

    def sponsor(self) -> Address:
        """Return who founded the federation."""
        return Address(self._read("sponsor"))

    def created_at(self) -> UnixTime:
        """Return when the federation was founded."""
        return UnixTime(self._read("createdAt"))

    def round_count(self, block: int | None = None) -> RoundId:
        """Return the number of rounds opened, which is the newest round's number."""
        return RoundId(self._read_once("roundCount", block=block))

    def last_finalized_round(self, block: int | None = None) -> RoundId:
        """Return the round whose model is the current one; 0 for the initial model."""
        return RoundId(self._read("lastFinalizedRound", block=block))

    def active_count(self, block: int | None = None) -> int:
        """Return how many participants may commit."""
        return int(self._read("activeCount", block=block))

    def bonded_count(self, block: int | None = None) -> int:
        """Return how many aggregators are bonded."""
        return int(self._read("bondedCount", block=block))

    def is_closed(self, block: int | None = None) -> bool:
        """Whether the sponsor closed the federation."""
        return bool(self._read("isClosed", block=block))

    def idle_since(self, block: int | None = None) -> UnixTime:
        """Return when the last round ended or the aggregator changed; valid between rounds."""
        return UnixTime(self._read("idleSince", block=block))

    def escrow(self, block: int | None = None) -> TokenUnits:
        """Return the token units set aside for rewards and fees."""
        return TokenUnits(self._read("escrow", block=block))

    def deposits(self, block: int | None = None) -> TokenUnits:
        """Return the deposits of leaf requests that are neither answered nor settled."""
        return TokenUnits(self._read("deposits", block=block))

    def burned(self, block: int | None = None) -> TokenUnits:
        """Return the token units that penalties took: they stay in the contract for ever."""
        return TokenUnits(self._read("burned", block=block))

    def credit_of(self, account: Address, block: int | None = None) -> TokenUnits:
        """Return what `account` can withdraw, without a stake that is still to be released."""
        return TokenUnits(self._read("creditOf", account, block=block))

    def aggregators(self, block: int | None = None) -> tuple[Address, ...]:
        """Return the listed aggregators in order of precedence."""
        return tuple(Address(each) for each in self._read("aggregators", block=block))

    def aggregator_state(self, aggregator: Address, block: int | None = None) -> AggregatorState:
        """Return whether `aggregator` is listed, bonded or slashed."""
        return self._read_as(AggregatorState, "aggregatorState", aggregator, block=block)

    def current_aggregator(self, block: int | None = None) -> Address:
        """Return who opens rounds and proposes."""
        return Address(self._read("currentAggregator", block=block))

    def current_aggregator_index(self, block: int | None = None) -> int:
        """Return the active aggregator's position in `aggregators`."""
        return int(self._read("currentAggregatorIndex", block=block))

    def current_model(self, block: int | None = None) -> Model:
        """Return the last finalized round's model, or the initial one."""
        root, manifest = self._read("currentModel", block=block)
        return Model(root, manifest)

    def get_round(self, round_id: RoundId, block: int | None = None) -> Round:
        """Return the facts of a round; all zero when it was not opened."""
        facts: Round = self._read_once("getRound", round_id, kind=Round.from_abi, block=block)
        return facts

    def get_sum(self, round_id: RoundId, block: int | None = None) -> Sum:
        """Return what is stored of a round's masked sum; all zero until a set is sealed."""
        found: Sum = self._read_once("getSum", round_id, kind=Sum.from_abi, block=block)
        return found

    def get_submission(
        self, round_id: RoundId, participant: Address, block: int | None = None
    ) -> Submission:
        """Return what `participant` submitted to a round."""
        return self._read_as(
            Submission.from_abi, "getSubmission", round_id, participant, block=block
        )

    def leaf_request(self, root: Digest, index: int, block: int | None = None) -> LeafRequest:
        """Return the request for leaf `index` under `root`; all zero when there is none."""
        return self._read_as(LeafRequest.from_abi, "leafRequest", root, index, block=block)

    def get_participant(self, account: Address, block: int | None = None) -> Participant:
        """Return the standing of `account`; all zero when it never joined."""
        return self._read_as(Participant.from_abi, "getParticipant", account, block=block)

    def status(self, round_id: RoundId, block: int | None = None) -> Status:
        """Return a round's status at the time of `block`, or at the time of the next block.

        The latter is what a transaction sent now finds if no other comes before it.
        """
        if block is not None:
            return self._read_as(Status, "status", round_id, block=block)
        # From mined facts, not by asking the contract at "pending": a commitment in the pool would
        # open the reveal phase, and could be replaced once the first reveal is seen there.
        now = self.pinned()
        facts = now.get_round(round_id)
        if facts.is_ended or not facts.is_seeded:
            return facts.status_at(UnixTime(0), now.head + 1, self._terms)
        masked = now.get_sum(round_id) if self._terms.is_masked else None
        return facts.status_at(self.next_time(), now.head + 1, self._terms, masked)

    def is_eligible(self, round_id: RoundId, account: Address, block: int | None = None) -> bool:
        """Whether the round's seed drew `account`; meaningless before the seed is fixed."""
        return bool(self._read("isEligible", round_id, account, block=block))

    def is_over(self, block: int | None = None) -> bool:
        """Whether no round is open and none can be opened any more; `block` as for `status`."""
        if block is not None:
            return bool(self._read("isOver", block=block))
        now = self.pinned()
        newest = now.round_count()
        if newest and not now.get_round(newest).is_ended:
            return False
        if newest >= self._terms.seats.rounds or now.is_closed():
            return True
        # Before the first round the aggregators may still be about to bond.
        if newest and not now.bonded_count():
            return True
        return self.next_time() >= self._terms.windows.closes_at

    # ------------------------------------------------------------------- money

    def fund(self, amount: TokenUnits) -> Receipt:
        """Add `amount` to the escrow, approving it first if necessary."""
        return self._write_paying(amount, "fund", amount)

    def refund(self) -> Receipt:
        """Once the federation is over, credit the remaining escrow to the sponsor."""
        return self._write("refund")

    def close(self) -> Receipt:
        """End the federation, as its sponsor: no further round; the open one runs to its end."""
        return self._write("close")

    def withdraw(self) -> Receipt:
        """Take the wallet's credit, and its stake once unbonding is over."""
        return self._write("withdraw")

    def withdraw_to(self, to: Address) -> Receipt:
        """Pay the wallet's credit, and its stake once unbonding is over, to another account."""
        return self._write("withdrawTo", to)

    def approve_exactly(self, amount: TokenUnits) -> Receipt:
        """Let the federation take exactly `amount` of the wallet's tokens, once."""
        return self.token.approve(self.address, amount)

    # ------------------------------------------------------------ participants

    def join(self, invitation: Invitation | None = None) -> Receipt:
        """Take part from the next round on: top up the stake, approving the difference first.

        A federation `by_invitation` needs one that the sponsor signed.
        """
        stake = self.get_participant(self.sender.address).stake
        missing = TokenUnits(self._terms.money.participant_stake - stake)
        shown = (0, b"") if invitation is None else (invitation.expiry, invitation.signature)
        return self._write_paying(missing, "join", *shown)

    def leave(self) -> Receipt:
        """Stop taking part; the stake is available after `unbonding_seconds`."""
        return self._write("leave")

    def commit(self, round_id: RoundId, commitment: Digest) -> Receipt:
        """Commit the wallet to an update (`protocol.commitment.compute_commitment`)."""
        return self._write("commit", round_id, commitment)

    def reveal(
        self, round_id: RoundId, root: Digest, manifest: Digest, examples: int, salt: bytes
    ) -> Receipt:
        """Reveal the update that the wallet committed to; it must be pinned already."""
        return self._write("reveal", round_id, root, manifest, examples, salt)

    def commit_masked(self, round_id: RoundId, commitment: Digest, public_key: bytes) -> Receipt:
        """Commit the wallet to a key (`protocol.commitment.compute_masked_commitment`)."""
        return self._write("commitMasked", round_id, commitment, public_key)

    def reveal_masked(
        self,
        round_id: RoundId,
        opening: Opening,
        public_key: bytes,
        salt: bytes,
        secrets: Digest,
    ) -> Receipt:
        """Reveal the wallet's masked update; it must be pinned already.

        `opening` has the manifest's own digest, `secrets` that of the commitments in its bundle.
        """
        values = *opening.to_abi(), public_key, salt, secrets
        return self._write("revealMasked", round_id, values)

    def unmask(self, round_id: RoundId, secrets: Secrets, sketch: Digest) -> Receipt:
        """Post the secrets of a member of the set: the wallet's own, or recovered ones."""
        return self._write("unmask", round_id, secrets.to_abi(), sketch)

    def assist(self, round_id: RoundId, silent: Address, shares: Sequence[bytes]) -> Receipt:
        """Tell the wallet's shares of a silent member's secrets, in the order of `Unmasked`."""
        return self._write("assist", round_id, silent, list(shares))

    def object_to(self, round_id: RoundId) -> Receipt:
        """Say, as a member of the set, that the sum does not fit the sketches."""
        return self._write("object", round_id)

    def post_streams(self, round_id: RoundId, streams: Digest) -> Receipt:
        """Account for the wallet's masks in a set that was refused, by a block's digest."""
        return self._write("postStreams", round_id, streams)

    def penalize(self, round_id: RoundId, participant: Address) -> Receipt:
        """Take the penalty for what was not revealed, or not unmasked, in time."""
        return self._write("penalize", round_id, participant)

    def evict(self, participant: Address, rounds: Sequence[RoundId]) -> Receipt:
        """Free the seat of a participant that missed `rounds` (`History.missed_rounds`).

        Ascending, and exactly `max_missed` of them.
        """
        return self._write("evict", participant, list(rounds))

    def announce(self, whereabouts: str) -> Receipt:
        """Say where the wallet's owner can be reached, in at most 512 bytes."""
        return self._write("announce", whereabouts)

    # -------------------------------------------------------------- aggregator

    def bond(self) -> Receipt:
        """Post the wallet's bond, approving it first if necessary."""
        return self._write_paying(self._terms.money.aggregator_bond, "bond")

    def unbond(self) -> Receipt:
        """Credit the wallet its bond, once the federation is over or between rounds of others."""
        return self._write("unbond")

    def open_round(self) -> OpenedRound:
        """Open the next round and return its number; `fix_seed` is due from the next block on."""
        receipt = self._write("openRound")
        event = next(each for each in self.events_in(receipt) if isinstance(each, RoundOpened))
        return OpenedRound(event.round, event, receipt)

    def fix_seed(self, round_id: RoundId) -> Receipt:
        """Draw the participants to be asked, in one of the 256 blocks after the opening.

        Reverted with SeedTooEarly, without sending, before the next block, and with WrongStatus
        when somebody else was faster.
        """
        return self._write("fixSeed", round_id)

    def propose(
        self, round_id: RoundId, root: Digest, manifest: Digest, verdicts: Sequence[Verdict]
    ) -> Receipt:
        """Propose the round's model, with a verdict on every reveal, ascending by participant."""
        return self._write("propose", round_id, root, manifest, _rows(verdicts))

    def seal_set(self, round_id: RoundId, verdicts: Sequence[Verdict]) -> Receipt:
        """Say which masked updates are summed: a verdict on all that committed, ascending."""
        return self._write("sealSet", round_id, _rows(verdicts))

    def fix_sketch(self, round_id: RoundId) -> Receipt:
        """Draw the vectors of the sketches, in a block after the seal's; anybody may.

        Reverted with SketchTooEarly or SketchIsFixed, without sending, before and after.
        """
        return self._write("fixSketch", round_id)

    def void_round(
        self, round_id: RoundId, members: Sequence[Address], openings: Sequence[Opening]
    ) -> Receipt:
        """End a round whose sum cannot be opened or is objected to.

        `members` are all that committed, `openings` those of the set that unmasked by themselves;
        both ascending.
        """
        opened = [each.to_abi() for each in openings]
        return self._write("voidRound", round_id, pack_members(members), opened)

    def finalize(self, round_id: RoundId, verdicts: Sequence[Verdict]) -> Receipt:
        """Settle a round whose challenge window has passed, with the verdicts as proposed."""
        return self._write("finalize", round_id, _rows(verdicts))

    def abandon(self, round_id: RoundId) -> Receipt:
        """End a round without seed or update, or whose aggregator is late with no standby left."""
        return self._write("abandon", round_id)

    def replace_aggregator(self) -> Receipt:
        """Make the next bonded standby active when the active aggregator is late."""
        return self._write("replaceAggregator")

    # ---------------------------------------------------------------- disputes

    def challenge_average(
        self,
        round_id: RoundId,
        leaf: int,
        verdicts: Sequence[Verdict],
        updates: Sequence[OpenedLeaf],
        before: Leaf,
        model: Leaf,
    ) -> Receipt:
        """Prove that one leaf of the proposed model is not docs/protocol.md §7's.

        The verdicts are as proposed, `updates` those in the average, in the order of the verdicts,
        `before` is of the current model. Reverted with LeafIsRight, without sending, when the leaf
        is right.
        """
        values = _average_dispute(round_id, leaf, verdicts, updates, before, model)
        return self._write("challengeAverage", *values)

    def try_challenge_average(
        self,
        round_id: RoundId,
        leaf: int,
        verdicts: Sequence[Verdict],
        updates: Sequence[OpenedLeaf],
        before: Leaf,
        model: Leaf,
    ) -> None:
        """Raise the Reverted that `challenge_average` would raise now; nothing is sent."""
        values = _average_dispute(round_id, leaf, verdicts, updates, before, model)
        self._read("challengeAverage", *values)

    def challenge_sum(
        self,
        round_id: RoundId,
        leaf: int,
        verdicts: Sequence[Verdict],
        updates: Sequence[OpenedLeaf],
        before: Leaf,
        model: Leaf,
    ) -> Receipt:
        """Prove that one leaf is not what the sum of the masked updates makes of it (§13).

        As `challenge_average`.
        """
        packed = b"".join(each.packed() for each in updates)
        rest = _rows(verdicts), packed, before.to_abi(), model.to_abi()
        return self._write("challengeSum", round_id, leaf, *rest)

    def challenge_move(self, round_id: RoundId, leaf: int, before: Leaf, model: Leaf) -> Receipt:
        """Prove that a value of one leaf moved further than any average can move it.

        Reverted with MoveIsBounded, without sending, when none did.
        """
        return self._write("challengeMove", round_id, leaf, before.to_abi(), model.to_abi())

    def challenge_verdict(
        self, round_id: RoundId, index: int, verdicts: Sequence[Verdict], opening: Opening
    ) -> Receipt:
        """Prove that verdict `index` has a wrong weight, or is wrong about the zero update."""
        return self._write("challengeVerdict", round_id, index, _rows(verdicts), opening.to_abi())

    def challenge_duplicate(
        self,
        round_id: RoundId,
        index: int,
        earlier: int,
        verdicts: Sequence[Verdict],
        opening: Opening,
        earlier_opening: Opening,
    ) -> Receipt:
        """Prove that verdict `index` lets a copy pass of what verdict `earlier` is about."""
        opened = opening.to_abi(), earlier_opening.to_abi()
        return self._write("challengeDuplicate", round_id, index, earlier, _rows(verdicts), *opened)

    def challenge_original(
        self,
        round_id: RoundId,
        index: int,
        verdicts: Sequence[Verdict],
        openings: Sequence[Opening],
    ) -> Receipt:
        """Prove that verdict `index` calls an original a copy; `openings` of all, in order."""
        opened = [each.to_abi() for each in openings]
        return self._write("challengeOriginal", round_id, index, _rows(verdicts), opened)

    # ------------------------------------------------------------ availability

    def request_model_leaf(self, round_id: RoundId, leaf: int) -> Receipt:
        """Request a leaf of the proposed model; pays the deposit, approving it first.

        Whoever posts the leaf gets the deposit. If nobody does, `settle_request` returns it
        together with half of the aggregator's bond.
        """
        deposit = self._terms.money.availability_deposit
        return self._write_paying(deposit, "requestModelLeaf", round_id, leaf)

    def request_update_leaf(
        self,
        round_id: RoundId,
        leaf: int,
        index: int,
        verdicts: Sequence[Verdict],
        opening: Opening,
    ) -> Receipt:
        """Request a leaf of the update that verdict `index` accepts; verdicts as proposed."""
        deposit = self._terms.money.availability_deposit
        values = round_id, leaf, index, _rows(verdicts), opening.to_abi()
        return self._write_paying(deposit, "requestUpdateLeaf", *values)

    def post_leaves(self, answers: Sequence[LeafAnswer]) -> Receipt:
        """Post requested leaves, for each of which the wallet is credited the deposit.

        Those that somebody else has posted meanwhile are passed over.
        """
        return self._write("postLeaves", [each.to_abi() for each in answers])

    def settle_request(self, root: Digest, index: int) -> Receipt:
        """Settle a leaf request that is overdue, or whose proposal no longer stands."""
        return self._write("settleRequest", root, index)

    def posted_leaf(self, event: LeafPosted) -> Leaf:
        """Return the leaf that was posted; raises WrongBytes when it is not one of its root."""
        # The contract has checked the proof, but the log comes from a node that may lie.
        if not is_proof_valid(event.root, event.values, event.leaf, event.proof):
            raise WrongBytes(
                f"the RPC returned wrong bytes for leaf {event.leaf} under 0x{event.root.hex()}",
                service="chain",
            )
        return Leaf(event.values, event.proof)

    # ------------------------------------------------------------------ events

    def events_in(self, receipt: Receipt) -> tuple[FederationEvent, ...]:
        """Return the federation's events of a transaction, in order."""
        return events_in(self.address, receipt.logs)

    def read_events(
        self,
        from_block: int | None = None,
        to_block: int | None = None,
        *,
        round_id: RoundId | None = None,
    ) -> list[FederationEvent]:
        """Return the events of a range of blocks in chain order; see `chain.events.read_events`.

        From the deployment block when `from_block` is None; when `to_block` is, to the block that
        this client reads from, or to the latest.
        """
        first = self.deployment_block if from_block is None else from_block
        last = self.block if to_block is None else to_block
        return read_events(self.w3, self.address, first, last, round_id=round_id)

    # ---------------------------------------------------------------- internal

    def _write_paying(self, amount: TokenUnits, name: str, *values: object) -> Receipt:
        """Send a call that takes `amount` of the wallet's tokens, approving it if necessary."""
        payer = self.sender.address
        if self.token.allowance(payer, self.address) < amount:
            # A call that would fail anyway must not leave an allowance behind.
            try:
                self._dry_run(name, *values)
            except Reverted as error:
                # The token is called last. Its refusal only says that the allowance is missing.
                if error.name in known_errors(IMPLEMENTATION) - {"SafeERC20FailedOperation"}:
                    raise
            held = self.token.balance_of(payer)
            if held < amount:
                raise Misconfigured(
                    f"{payer} holds {held:,} units of the token {self.token.address},"
                    f" {name} takes {amount:,}"
                )
            # Never more: an allowance that stays could be used by a fault in the contract.
            self.approve_exactly(amount)
        return self._write(name, *values)


def connect_federation(
    location: FederationLocation,
    wallet: Wallet | None = None,
    limits: SendingLimits | None = None,
    journal: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> Federation:
    """Return the federation at `location`, after checking chain, code and founding.

    `limits`, `journal` and `report` are the sender's, see ethereum/transactions.py. Raises
    Misconfigured when the RPC serves another chain, or the contract only looks like a federation.
    """
    w3 = connect(location.rpc_url, chain_id=location.chain_id)
    sender = None if wallet is None else Sender(w3, wallet, limits, journal, report)
    block = location.deployment_block
    federation = Federation(w3, location.address, sender, deployment_block=block)
    federation.deployment_block = federation.founding().block
    return federation


def _average_dispute(
    round_id: RoundId,
    leaf: int,
    verdicts: Sequence[Verdict],
    updates: Sequence[OpenedLeaf],
    before: Leaf,
    model: Leaf,
) -> tuple[object, ...]:
    opened = [each.to_abi() for each in updates]
    return round_id, leaf, _rows(verdicts), opened, before.to_abi(), model.to_abi()


def _rows(verdicts: Sequence[Verdict]) -> list[tuple[Address, bytes, int, int, int]]:
    return [(v.participant, v.revealed, v.weight, v.score, v.reason) for v in verdicts]
