// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Lead} from "./Lead.sol";
import {Phases} from "./Phases.sol";
import {Proofs} from "./Proofs.sol";
import {Sets} from "./Sets.sol";
import {Standing, State} from "./State.sol";
import {Tokens} from "./Tokens.sol";

/// @title The aggregator's part of a round, and what anybody may do when it is late
/// @dev Linked; the federation calls it with its own storage.
library Rounds {
    uint256 private constant FULL = 10_000; // basis points
    uint256 private constant SILENT = 15; // reason, docs/protocol.md §13

    /// @notice See IFederation.bond.
    function bond(State storage state) external {
        Lead.requireState(state, msg.sender, IFederation.AggregatorState.Listed);
        // What is over stays over: the escrow may have gone back already.
        if (Phases.isOver(state)) _revertOver(state);
        IFederation.Money memory money = Founding.money();
        Lead.toggleBonded(state, msg.sender);
        emit IFederation.Bonded(msg.sender, money.aggregatorBond);
        Tokens.pull(money.token, money.aggregatorBond);
    }

    /// @notice See IFederation.unbond.
    function unbond(State storage state) external {
        Lead.requireState(state, msg.sender, IFederation.AggregatorState.Bonded);
        Phases.requireIdle(state);
        bool leads = msg.sender == Lead.current(state);
        if (leads && !Phases.isOver(state)) revert IFederation.LeadMustStay(msg.sender);
        uint256 amount = Founding.money().aggregatorBond;
        Lead.toggleBonded(state, msg.sender);
        state.creditOf[msg.sender] += amount;
        emit IFederation.Unbonded(msg.sender, amount);
    }

    /// @notice See IFederation.openRound.
    function openRound(State storage state) external returns (uint256 round) {
        Lead.requireCurrent(state);
        Lead.requireState(state, msg.sender, IFederation.AggregatorState.Bonded);
        Phases.requireIdle(state);
        if (Phases.hasEnded(state)) _revertOver(state);
        uint16 active = _activeBefore(state.standing);
        IFederation.Seats memory seats = Founding.seats();
        if (active < seats.minParticipants) revert IFederation.TooFewParticipants(active, seats.minParticipants);
        IFederation.Money memory money = Founding.money();
        uint256 required = seats.roundSeats * uint256(money.updateReward) + money.aggregatorFee;
        if (state.escrow < required) revert IFederation.EscrowTooLow(state.escrow, required);
        round = uint256(state.standing.roundCount) + 1;
        state.standing.roundCount = uint32(round);
        state.rounds[round].openedBlock = uint40(block.number);
        state.rounds[round].active = active;
        emit IFederation.RoundOpened(round, msg.sender, uint40(block.number), active);
    }

    /// @notice See IFederation.fixSeed.
    function fixSeed(State storage state, uint256 round) external {
        Phases.requireStatus(state, round, IFederation.Status.Seed);
        IFederation.Round storage r = state.rounds[round];
        uint256 openedBlock = r.openedBlock;
        if (block.number <= openedBlock) revert IFederation.SeedTooEarly(block.number, openedBlock);
        bytes32 seed = keccak256(abi.encode(address(this), round, blockhash(openedBlock), block.prevrandao));
        IFederation.Windows memory windows = Founding.windows();
        uint40 commitDeadline = uint40(block.timestamp) + windows.commitSeconds;
        uint40 revealDeadline = commitDeadline + windows.revealSeconds;
        // Until the set is sealed there is nothing to propose: what the aggregator owes first has the next deadline.
        uint40 nextDeadline = revealDeadline + (Founding.isMasked() ? windows.sealSeconds : windows.proposeSeconds);
        r.seed = seed;
        r.commitDeadline = commitDeadline;
        r.revealDeadline = revealDeadline;
        r.nextDeadline = nextDeadline;
        emit IFederation.SeedFixed(round, seed, commitDeadline, revealDeadline, nextDeadline);
    }

    /// @notice See IFederation.propose.
    function propose(
        State storage state,
        uint256 round,
        bytes32 root,
        bytes32 manifest,
        IFederation.Verdict[] calldata verdicts
    ) external {
        Phases.requireStatus(state, round, IFederation.Status.Propose);
        Lead.requireCurrent(state);
        if (root == 0 || manifest == 0) revert IFederation.ZeroDigest();
        uint256 revealed = state.rounds[round].revealed;
        if (verdicts.length != revealed) revert IFederation.VerdictCount(verdicts.length, revealed);
        if (!_checkVerdicts(state, round, verdicts)) _requireModelStays(state, root, manifest);
        IFederation.Round storage proposed = state.rounds[round];
        uint40 challengeDeadline = uint40(block.timestamp) + Founding.windows().challengeSeconds;
        proposed.stage = IFederation.Stage.Proposed;
        proposed.nextDeadline = challengeDeadline;
        proposed.proposals += 1;
        proposed.modelRoot = root;
        proposed.modelManifest = manifest;
        proposed.verdictsHash = Proofs.hash(verdicts);
        emit IFederation.Proposed(round, msg.sender, root, manifest, challengeDeadline, verdicts);
    }

    /// @notice See IFederation.finalize.
    function finalize(State storage state, uint256 round, IFederation.Verdict[] calldata verdicts) external {
        Phases.requireStatus(state, round, IFederation.Status.Settleable);
        IFederation.Round storage settled = state.rounds[round];
        bytes32 given = Proofs.hash(verdicts);
        if (given != settled.verdictsHash) revert IFederation.VerdictsMismatch(given, settled.verdictsHash);
        address aggregator = Lead.current(state);
        settled.stage = IFederation.Stage.Finalized;
        state.standing.lastFinalizedRound = uint32(round);
        state.standing.idleSince = uint40(block.timestamp);
        (uint128 paid, uint256 accepted) = _creditParticipants(state, round, verdicts);
        uint128 fee = _fee(accepted, settled.revealedWeight);
        state.creditOf[aggregator] += fee;
        state.escrow -= paid + fee;
        emit IFederation.Finalized(round, settled.modelRoot, settled.modelManifest, aggregator, fee, paid + fee);
    }

    /// @notice See IFederation.abandon.
    function abandon(State storage state, uint256 round) external {
        IFederation.Status actual = Phases.status(state, round);
        bool isEmpty = _isEmpty(state, round);
        bool isUnseeded = actual == IFederation.Status.Unseeded;
        bool isExpired = actual == IFederation.Status.Expired;
        bool isRevealed = actual == IFederation.Status.Seal || actual == IFederation.Status.Propose;
        if (!isUnseeded && !isExpired && !(isRevealed && isEmpty)) {
            revert IFederation.WrongStatus(round, IFederation.Status.Expired, actual);
        }
        if (!isEmpty) {
            (bool found, uint8 index) = Lead.nextStandby(state);
            if (found) revert IFederation.StandbyAvailable(Founding.aggregator(index));
            _slashWhole(state, round);
        }
        Lead.abandon(state, round);
    }

    /// @notice See IFederation.replaceAggregator.
    function replaceAggregator(State storage state) external {
        uint256 round = state.standing.roundCount;
        (bool found, uint8 index) = Lead.nextStandby(state);
        if (!found) revert IFederation.NoStandby();
        // Nobody is blamed for a round in which there was nothing to propose: it can only be abandoned.
        if (!_isEmpty(state, round) && Phases.status(state, round) == IFederation.Status.Expired) {
            _slashWhole(state, round);
            Lead.handOver(state, round, index);
            return;
        }
        Phases.requireIdle(state);
        uint256 deadline = uint256(Phases.idleSince(state)) + Founding.windows().proposeSeconds;
        if (block.timestamp < deadline) revert IFederation.AggregatorNotLate(block.timestamp, deadline);
        address previous = Lead.current(state);
        state.standing.idleSince = uint40(block.timestamp);
        state.standing.currentAggregatorIndex = index;
        emit IFederation.AggregatorReplaced(0, previous, Founding.aggregator(index), 0);
    }

    /// @dev Whether fewer updates were revealed than a model takes: one, or `minSet` where only sums are opened.
    function _isEmpty(State storage state, uint256 round) private view returns (bool) {
        uint256 revealed = state.rounds[round].revealed;
        return revealed == 0 || revealed < Founding.rules().minSet;
    }

    function _slashWhole(State storage state, uint256 round) private {
        // slither-disable-next-line unused-return
        Lead.slash(state, round, Founding.money().aggregatorBond, 0);
    }

    function _revertOver(State storage state) private view {
        revert IFederation.FederationOver(
            state.standing.roundCount, Founding.windows().closesAt, state.standing.isClosed
        );
    }

    /// @dev Seats that joined in this block do not count: they could be taken after the block's content is known.
    function _activeBefore(Standing storage standing) private view returns (uint16) {
        // Two numbers of blocks, not a balance that a donation could move.
        // slither-disable-next-line incorrect-equality
        return standing.joinBlock == block.number ? standing.activeCount - standing.joinedThen : standing.activeCount;
    }

    /// @dev Returns whether an update is in the average.
    function _checkVerdicts(State storage state, uint256 round, IFederation.Verdict[] calldata verdicts)
        private
        view
        returns (bool isMoved)
    {
        uint256 cap = Founding.seats().weightCap;
        uint256 leastScore = Founding.rules().scoring == IFederation.Scoring.Equal ? FULL : 0;
        // No sealed set is empty: 0 stands for updates that are clear.
        uint256 set = Founding.isMasked() ? state.sums[round].byOrder : 0;
        isMoved = set != 0;
        address previous = address(0);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            IFederation.Verdict calldata v = verdicts[i];
            address participant = v.participant;
            if (participant <= previous) revert IFederation.VerdictOrder(previous, participant);
            IFederation.Submission storage submission = state.submissions[round][participant];
            _requireRevealed(submission, round, v);
            if (set != 0) _requireSealed(submission, round, v, set, cap);
            else if (_requireForm(v, cap, leastScore)) isMoved = true;
            previous = participant;
        }
    }

    /// @dev A proposal made before a reorganisation does not pass after it over other reveals.
    function _requireRevealed(IFederation.Submission storage submission, uint256 round, IFederation.Verdict calldata v)
        private
        view
    {
        IFederation.SubmissionState actual = submission.state;
        // Secrets are known of those that revealed only.
        bool isRevealed =
            actual == IFederation.SubmissionState.Revealed || actual >= IFederation.SubmissionState.Unmasked;
        if (!isRevealed) {
            revert IFederation.WrongSubmissionState(round, v.participant, IFederation.SubmissionState.Revealed, actual);
        }
        bytes30 revealed = submission.digest;
        if (v.revealed != revealed) revert IFederation.RevealMismatch(v.participant, v.revealed, revealed);
    }

    /// @dev Masked: who is in the sum was settled by the seal, and who was silent by who posted its secrets. What is
    ///      left to the aggregator are weights, and reasons not to pay.
    function _requireSealed(
        IFederation.Submission storage submission,
        uint256 round,
        IFederation.Verdict calldata v,
        uint256 set,
        uint256 cap
    ) private view {
        uint32 weight = v.weight;
        uint16 score = v.score;
        uint8 reason = v.reason;
        bool isRecovered = submission.state == IFederation.SubmissionState.Recovered;
        if ((weight != 0) != Sets.has(set, submission.order) || (reason == SILENT) != isRecovered) {
            revert IFederation.NotAsSealed(round, v.participant);
        }
        bool isValid = reason == 0 ? weight != 0 && score == FULL : score == 0;
        if (!isValid || weight > cap) revert IFederation.InvalidVerdict(v.participant, weight, score, reason);
    }

    /// @dev Returns whether the update is in the average.
    function _requireForm(IFederation.Verdict calldata v, uint256 cap, uint256 leastScore)
        private
        pure
        returns (bool isAccepted)
    {
        uint32 weight = v.weight;
        uint16 score = v.score;
        uint8 reason = v.reason;
        isAccepted = reason == 0;
        bool isValid = isAccepted
            ? weight != 0 && weight <= cap && score >= leastScore && score <= FULL
            : weight == 0 && score == 0;
        if (!isValid) revert IFederation.InvalidVerdict(v.participant, weight, score, reason);
    }

    function _requireModelStays(State storage state, bytes32 root, bytes32 manifest) private view {
        bytes32 current = Phases.currentRoot(state);
        bool stays = root == current && manifest == Phases.currentManifest(state);
        if (!stays) revert IFederation.ModelMustStay(root, current);
    }

    /// @dev Credits everybody the price of its update, rounded down. Returns their sum, and that of the weights.
    function _creditParticipants(State storage state, uint256 round, IFederation.Verdict[] calldata verdicts)
        private
        returns (uint128 paid, uint256 accepted)
    {
        uint256 reward = Founding.money().updateReward;
        uint256 whole = Founding.seats().weightCap * FULL;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            IFederation.Verdict calldata v = verdicts[i];
            uint256 weight = v.weight;
            accepted += weight;
            // At most the reward, since propose() saw to weight and score.
            uint128 amount = uint128(reward * (weight * v.score) / whole);
            if (amount == 0) continue;
            address participant = v.participant;
            paid += amount;
            state.creditOf[participant] += amount;
            emit IFederation.Paid(round, participant, amount);
        }
    }

    /// @dev By weight, rounded down. Weights that nobody challenged may be more than what was revealed: the fee is
    ///      never more than the term, or the escrow might not hold it and the round could not be settled.
    function _fee(uint256 accepted, uint256 revealed) private view returns (uint128) {
        uint128 whole = Founding.money().aggregatorFee;
        if (revealed == 0) return 0;
        return accepted < revealed ? uint128(whole * accepted / revealed) : whole;
    }
}
