// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {Availability} from "./Availability.sol";
import {Disputes} from "./Disputes.sol";
import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Lead} from "./Lead.sol";
import {Masking} from "./Masking.sol";
import {Membership} from "./Membership.sol";
import {Phases} from "./Phases.sol";
import {Rounds} from "./Rounds.sol";
import {State} from "./State.sol";
import {Submissions} from "./Submissions.sol";
import {Sums} from "./Sums.sol";
import {Tokens} from "./Tokens.sol";

/// @title One federation: its money, its commitments and the record of its rounds
/// @notice Participants stake, commit to an update and reveal it; the aggregator proposes the round's model;
///         in the challenge window anybody can show it to be wrong; after it anybody settles the round and
///         everybody withdraws what is theirs.
///         There is no owner and no upgrade. Every step after a deadline can be pushed on by anybody.
/// @dev This is the code that every proxy of the factory runs; the proxies hold storage and terms. Each function keeps
///      one order: checks, accounting, event, token transfer. Status is derived, never stored.
///      Tokens in = credited + escrowed + staked + bonded + deposited + withdrawn + burned, always.
contract Federation is IFederation, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint256 private constant LONGEST_WHEREABOUTS = 512;

    State private _state;

    // ------------------------------------------------------------------ money

    /// @inheritdoc IFederation
    function fund(uint256 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        _state.escrow += SafeCast.toUint128(amount);
        emit Funded(msg.sender, amount);
        Tokens.pull(Founding.money().token, amount);
    }

    /// @inheritdoc IFederation
    function refund() external {
        if (!Phases.isOver(_state)) {
            revert FederationNotOver(_state.standing.roundCount, Founding.windows().closesAt);
        }
        uint256 amount = _state.escrow;
        if (amount == 0) revert ZeroAmount();
        _state.escrow = 0;
        address owner = Founding.founder().sponsor;
        _state.creditOf[owner] += amount;
        emit Refunded(owner, amount);
    }

    /// @inheritdoc IFederation
    function withdraw() external nonReentrant returns (uint256 amount) {
        return _withdraw(msg.sender);
    }

    /// @inheritdoc IFederation
    function withdrawTo(address to) external nonReentrant returns (uint256 amount) {
        return _withdraw(to);
    }

    /// @inheritdoc IFederation
    function close() external {
        address owner = Founding.founder().sponsor;
        if (msg.sender != owner) revert NotSponsor(msg.sender, owner);
        if (_state.standing.isClosed) revert AlreadyClosed();
        _state.standing.isClosed = true;
        emit Closed(msg.sender);
    }

    // ------------------------------------------------------------- membership

    /// @inheritdoc IFederation
    function join(uint40 expiry, bytes calldata signature) external nonReentrant {
        Membership.join(_state, expiry, signature);
    }

    /// @inheritdoc IFederation
    function leave() external {
        Membership.leave(_state);
    }

    /// @inheritdoc IFederation
    function evict(address account, uint256[] calldata rounds) external {
        Membership.evict(_state, account, rounds);
    }

    /// @inheritdoc IFederation
    function penalize(uint256 round, address account) external {
        Membership.penalize(_state, round, account);
    }

    /// @inheritdoc IFederation
    function announce(string calldata whereabouts) external {
        uint256 length = bytes(whereabouts).length;
        if (length > LONGEST_WHEREABOUTS) revert WhereaboutsTooLong(length, LONGEST_WHEREABOUTS);
        emit Announced(msg.sender, whereabouts);
    }

    // ----------------------------------------------------------------- rounds

    /// @inheritdoc IFederation
    function bond() external nonReentrant {
        Rounds.bond(_state);
    }

    /// @inheritdoc IFederation
    function unbond() external {
        Rounds.unbond(_state);
    }

    /// @inheritdoc IFederation
    function openRound() external returns (uint256 round) {
        return Rounds.openRound(_state);
    }

    /// @inheritdoc IFederation
    function fixSeed(uint256 round) external {
        Rounds.fixSeed(_state, round);
    }

    /// @inheritdoc IFederation
    function commit(uint256 round, bytes32 commitment) external {
        Submissions.commit(_state, round, commitment);
    }

    /// @inheritdoc IFederation
    function reveal(uint256 round, bytes32 root, bytes32 manifest, uint32 examples, bytes32 salt) external {
        Submissions.reveal(_state, round, root, manifest, examples, salt);
    }

    /// @inheritdoc IFederation
    function commitMasked(uint256 round, bytes32 commitment, bytes32 publicKey) external {
        Submissions.commitMasked(_state, round, commitment, publicKey);
    }

    /// @inheritdoc IFederation
    function revealMasked(uint256 round, MaskedReveal calldata revealed) external {
        Submissions.revealMasked(_state, round, revealed);
    }

    /// @inheritdoc IFederation
    function sealSet(uint256 round, Verdict[] calldata verdicts) external {
        Masking.sealSet(_state, round, verdicts);
    }

    /// @inheritdoc IFederation
    function fixSketch(uint256 round) external {
        Masking.fixSketch(_state, round);
    }

    /// @inheritdoc IFederation
    function unmask(uint256 round, Secrets calldata secrets, bytes32 sketch) external {
        Masking.unmask(_state, round, secrets, sketch);
    }

    /// @inheritdoc IFederation
    function assist(uint256 round, address silent, bytes32[] calldata shares) external {
        Masking.assist(_state, round, silent, shares);
    }

    /// @inheritdoc IFederation
    function object(uint256 round) external {
        Masking.object(_state, round);
    }

    /// @inheritdoc IFederation
    function postStreams(uint256 round, bytes32 streams) external {
        Masking.postStreams(_state, round, streams);
    }

    /// @inheritdoc IFederation
    function voidRound(uint256 round, bytes calldata members, Opening[] calldata openings) external {
        Masking.voidRound(_state, round, members, openings);
    }

    /// @inheritdoc IFederation
    function propose(uint256 round, bytes32 root, bytes32 manifest, Verdict[] calldata verdicts) external {
        Rounds.propose(_state, round, root, manifest, verdicts);
    }

    /// @inheritdoc IFederation
    function finalize(uint256 round, Verdict[] calldata verdicts) external {
        Rounds.finalize(_state, round, verdicts);
    }

    /// @inheritdoc IFederation
    function abandon(uint256 round) external {
        Rounds.abandon(_state, round);
    }

    /// @inheritdoc IFederation
    function replaceAggregator() external {
        Rounds.replaceAggregator(_state);
    }

    // --------------------------------------------------------------- disputes

    /// @inheritdoc IFederation
    function challengeAverage(
        uint256 round,
        uint256 leaf,
        Verdict[] calldata verdicts,
        OpenedLeaf[] calldata updates,
        Leaf calldata before,
        Leaf calldata model
    ) external {
        Disputes.challengeAverage(_state, round, leaf, verdicts, updates, before, model);
    }

    /// @inheritdoc IFederation
    function challengeSum(
        uint256 round,
        uint256 leaf,
        Verdict[] calldata verdicts,
        bytes calldata updates,
        Leaf calldata before,
        Leaf calldata model
    ) external {
        Sums.challengeSum(_state, round, leaf, verdicts, updates, before, model);
    }

    /// @inheritdoc IFederation
    function challengeMove(uint256 round, uint256 leaf, Leaf calldata before, Leaf calldata model) external {
        Disputes.challengeMove(_state, round, leaf, before, model);
    }

    /// @inheritdoc IFederation
    function challengeVerdict(uint256 round, uint256 index, Verdict[] calldata verdicts, Opening calldata opening)
        external
    {
        Disputes.challengeVerdict(_state, round, index, verdicts, opening);
    }

    /// @inheritdoc IFederation
    function challengeDuplicate(
        uint256 round,
        uint256 index,
        uint256 earlier,
        Verdict[] calldata verdicts,
        Opening calldata opening,
        Opening calldata earlierOpening
    ) external {
        Disputes.challengeDuplicate(_state, round, index, earlier, verdicts, opening, earlierOpening);
    }

    /// @inheritdoc IFederation
    function challengeOriginal(uint256 round, uint256 index, Verdict[] calldata verdicts, Opening[] calldata all)
        external
    {
        Disputes.challengeOriginal(_state, round, index, verdicts, all);
    }

    // ----------------------------------------------------------- availability

    /// @inheritdoc IFederation
    function requestModelLeaf(uint256 round, uint256 leaf) external nonReentrant {
        Availability.requestModelLeaf(_state, round, leaf);
    }

    /// @inheritdoc IFederation
    function requestUpdateLeaf(
        uint256 round,
        uint256 leaf,
        uint256 index,
        Verdict[] calldata verdicts,
        Opening calldata opening
    ) external nonReentrant {
        Availability.requestUpdateLeaf(_state, round, leaf, index, verdicts, opening);
    }

    /// @inheritdoc IFederation
    function postLeaves(LeafAnswer[] calldata answers) external {
        Availability.postLeaves(_state, answers);
    }

    /// @inheritdoc IFederation
    function settleRequest(bytes32 root, uint256 leaf) external {
        Availability.settleRequest(_state, root, leaf);
    }

    // ------------------------------------------------------------------ reads

    /// @inheritdoc IFederation
    function terms() external view returns (Terms memory) {
        return Terms({
            identity: Founding.identity(),
            seats: Founding.seats(),
            money: Founding.money(),
            windows: Founding.windows(),
            rules: Founding.rules()
        });
    }

    /// @inheritdoc IFederation
    function sponsor() external view returns (address) {
        return Founding.founder().sponsor;
    }

    /// @inheritdoc IFederation
    function createdAt() external view returns (uint40) {
        return Founding.founder().createdAt;
    }

    /// @inheritdoc IFederation
    function aggregators() external view returns (address[] memory list) {
        list = new address[](Founding.aggregatorCount());
        for (uint256 i = 0; i < list.length; ++i) {
            list[i] = Founding.aggregator(i);
        }
    }

    /// @inheritdoc IFederation
    function aggregatorState(address account) external view returns (AggregatorState) {
        return Lead.stateOf(_state, account);
    }

    /// @inheritdoc IFederation
    function currentAggregatorIndex() external view returns (uint8) {
        return _state.standing.currentAggregatorIndex;
    }

    /// @inheritdoc IFederation
    function currentAggregator() external view returns (address) {
        return Lead.current(_state);
    }

    /// @inheritdoc IFederation
    function currentModel() external view returns (bytes32 root, bytes32 manifest) {
        return (Phases.currentRoot(_state), Phases.currentManifest(_state));
    }

    /// @inheritdoc IFederation
    function roundCount() external view returns (uint32) {
        return _state.standing.roundCount;
    }

    /// @inheritdoc IFederation
    function lastFinalizedRound() external view returns (uint32) {
        return _state.standing.lastFinalizedRound;
    }

    /// @inheritdoc IFederation
    function activeCount() external view returns (uint16) {
        return _state.standing.activeCount;
    }

    /// @inheritdoc IFederation
    function bondedCount() external view returns (uint8) {
        return Lead.countBonded(_state);
    }

    /// @inheritdoc IFederation
    function idleSince() external view returns (uint40) {
        return Phases.idleSince(_state);
    }

    /// @inheritdoc IFederation
    function isClosed() external view returns (bool) {
        return _state.standing.isClosed;
    }

    /// @inheritdoc IFederation
    function isOver() external view returns (bool) {
        return Phases.isOver(_state);
    }

    /// @inheritdoc IFederation
    function escrow() external view returns (uint256) {
        return _state.escrow;
    }

    /// @inheritdoc IFederation
    function deposits() external view returns (uint256) {
        return _state.deposits;
    }

    /// @inheritdoc IFederation
    function burned() external view returns (uint256) {
        return _state.burned;
    }

    /// @inheritdoc IFederation
    function creditOf(address account) external view returns (uint256) {
        return _state.creditOf[account];
    }

    /// @inheritdoc IFederation
    function status(uint256 round) external view returns (Status) {
        return Phases.status(_state, round);
    }

    /// @inheritdoc IFederation
    function getRound(uint256 round) external view returns (Round memory) {
        return _state.rounds[round];
    }

    /// @inheritdoc IFederation
    function getSum(uint256 round) external view returns (Sum memory) {
        return _state.sums[round];
    }

    /// @inheritdoc IFederation
    function isEligible(uint256 round, address account) external view returns (bool) {
        return Phases.isEligible(_state, round, account, Founding.seats().roundTarget);
    }

    /// @inheritdoc IFederation
    function getSubmission(uint256 round, address account) external view returns (Submission memory) {
        return _state.submissions[round][account];
    }

    /// @inheritdoc IFederation
    function getParticipant(address account) external view returns (Participant memory) {
        return _state.participants[account];
    }

    /// @inheritdoc IFederation
    function leafRequest(bytes32 root, uint256 leaf) external view returns (LeafRequest memory) {
        return Availability.leafRequest(_state, root, leaf);
    }

    /// @dev The caller's credit, and its stake once unbonding is over.
    function _withdraw(address to) private returns (uint256 amount) {
        if (to == address(0) || to == address(this)) revert InvalidRecipient(to);
        Membership.releaseStake(_state, msg.sender);
        amount = _state.creditOf[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        _state.creditOf[msg.sender] = 0;
        emit Withdrawn(msg.sender, to, amount);
        Founding.money().token.safeTransfer(to, amount);
    }
}
