// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Facts, Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Lead} from "./Lead.sol";
import {Tokens} from "./Tokens.sol";
import {Phases} from "./Phases.sol";
import {Standing, State} from "./State.sol";

/// @title The aggregator's part of a round, and what anybody may do when it is late
/// @dev Linked; the federation calls it with its own storage.
library Rounds {
    uint256 private constant FULL = 10_000; // basis points

    /// @notice See IFederation.bond.
    function bond(State storage state) external {
        Facts memory facts = Founding.read();
        Lead.requireState(state, facts, msg.sender, IFederation.AggregatorState.Listed);
        // What is over stays over: the escrow may have gone back already.
        if (Phases.isOver(state, facts)) _revertOver(state, facts);
        uint256 amount = facts.terms.money.aggregatorBond;
        state.aggregatorStates[msg.sender] = IFederation.AggregatorState.Bonded;
        state.standing.bondedCount += 1;
        emit IFederation.Bonded(msg.sender, amount);
        Tokens.pull(facts.terms.money.token, amount);
    }

    /// @notice See IFederation.unbond.
    function unbond(State storage state) external {
        Facts memory facts = Founding.read();
        Lead.requireState(state, facts, msg.sender, IFederation.AggregatorState.Bonded);
        Phases.requireIdle(state);
        bool leads = msg.sender == Lead.current(state, facts);
        if (leads && !Phases.isOver(state, facts)) revert IFederation.LeadMustStay(msg.sender);
        uint256 amount = facts.terms.money.aggregatorBond;
        delete state.aggregatorStates[msg.sender];
        state.standing.bondedCount -= 1;
        state.creditOf[msg.sender] += amount;
        emit IFederation.Unbonded(msg.sender, amount);
    }

    /// @notice See IFederation.openRound.
    function openRound(State storage state) external returns (uint256 round) {
        Facts memory facts = Founding.read();
        Lead.requireCurrent(state, facts);
        Lead.requireState(state, facts, msg.sender, IFederation.AggregatorState.Bonded);
        Phases.requireIdle(state);
        if (Phases.hasEnded(state, facts)) _revertOver(state, facts);
        uint16 active = _activeBefore(state.standing);
        uint256 least = facts.terms.seats.minParticipants;
        if (active < least) revert IFederation.TooFewParticipants(active, least);
        uint256 required =
            facts.terms.seats.roundSeats * uint256(facts.terms.money.updateReward) + facts.terms.money.aggregatorFee;
        if (state.escrow < required) revert IFederation.EscrowTooLow(state.escrow, required);
        round = uint256(state.standing.roundCount) + 1;
        state.standing.roundCount = uint32(round);
        state.rounds[round].openedBlock = uint40(block.number);
        state.rounds[round].active = active;
        emit IFederation.RoundOpened(round, msg.sender, uint40(block.number), active);
    }

    /// @notice See IFederation.fixSeed.
    function fixSeed(State storage state, uint256 round) external {
        Facts memory facts = Founding.read();
        Phases.requireStatus(state, round, IFederation.Status.Seed, facts.terms.seats.roundSeats);
        IFederation.Round storage r = state.rounds[round];
        uint256 openedBlock = r.openedBlock;
        if (block.number <= openedBlock) revert IFederation.SeedTooEarly(block.number, openedBlock);
        bytes32 seed = keccak256(abi.encode(address(this), round, blockhash(openedBlock), block.prevrandao));
        uint40 commitDeadline = uint40(block.timestamp) + facts.terms.windows.commitSeconds;
        uint40 revealDeadline = commitDeadline + facts.terms.windows.revealSeconds;
        uint40 proposeDeadline = revealDeadline + facts.terms.windows.proposeSeconds;
        r.seed = seed;
        r.commitDeadline = commitDeadline;
        r.revealDeadline = revealDeadline;
        r.nextDeadline = proposeDeadline;
        emit IFederation.SeedFixed(round, seed, commitDeadline, revealDeadline, proposeDeadline);
    }

    /// @notice See IFederation.propose.
    function propose(
        State storage state,
        uint256 round,
        bytes32 root,
        bytes32 manifest,
        IFederation.Verdict[] calldata verdicts
    ) external {
        Facts memory facts = Founding.read();
        Phases.requireStatus(state, round, IFederation.Status.Propose, facts.terms.seats.roundSeats);
        Lead.requireCurrent(state, facts);
        if (root == 0 || manifest == 0) revert IFederation.ZeroDigest();
        if (!_checkVerdicts(state, facts, round, verdicts)) _requireModelStays(state, facts, root, manifest);
        IFederation.Round storage proposed = state.rounds[round];
        uint40 challengeDeadline = uint40(block.timestamp) + facts.terms.windows.challengeSeconds;
        proposed.stage = IFederation.Stage.Proposed;
        proposed.nextDeadline = challengeDeadline;
        proposed.proposals += 1;
        proposed.modelRoot = root;
        proposed.modelManifest = manifest;
        proposed.verdictsHash = keccak256(abi.encode(verdicts));
        emit IFederation.Proposed(round, msg.sender, root, manifest, challengeDeadline, verdicts);
    }

    /// @notice See IFederation.finalize.
    function finalize(State storage state, uint256 round, IFederation.Verdict[] calldata verdicts) external {
        Facts memory facts = Founding.read();
        Phases.requireStatus(state, round, IFederation.Status.Settleable, facts.terms.seats.roundSeats);
        IFederation.Round storage settled = state.rounds[round];
        bytes32 given = keccak256(abi.encode(verdicts));
        if (given != settled.verdictsHash) revert IFederation.VerdictsMismatch(given, settled.verdictsHash);
        address aggregator = Lead.current(state, facts);
        settled.stage = IFederation.Stage.Finalized;
        state.standing.lastFinalizedRound = uint32(round);
        state.standing.idleSince = uint40(block.timestamp);
        (uint256 paid, uint256 accepted) = _creditParticipants(state, facts, round, verdicts);
        uint256 fee = _fee(facts, accepted, settled.revealedWeight);
        state.creditOf[aggregator] += fee;
        state.escrow -= paid + fee;
        emit IFederation.Finalized(round, settled.modelRoot, settled.modelManifest, aggregator, fee, paid + fee);
    }

    /// @notice See IFederation.abandon.
    function abandon(State storage state, uint256 round) external {
        Facts memory facts = Founding.read();
        IFederation.Status actual = Phases.status(state, round, facts.terms.seats.roundSeats);
        // A counter that only reveal() raises, not a balance that a donation could move.
        // slither-disable-next-line incorrect-equality
        bool isEmpty = state.rounds[round].revealed == 0;
        bool isUnseeded = actual == IFederation.Status.Unseeded;
        bool isExpired = actual == IFederation.Status.Expired;
        if (!isUnseeded && !isExpired && !(actual == IFederation.Status.Propose && isEmpty)) {
            revert IFederation.WrongStatus(round, IFederation.Status.Expired, actual);
        }
        if (!isEmpty) {
            (bool found, uint8 index) = Lead.nextStandby(state, facts);
            if (found) revert IFederation.StandbyAvailable(facts.aggregators[index]);
            Lead.slash(state, facts, round, 0);
        }
        Lead.abandon(state, round);
    }

    /// @notice See IFederation.replaceAggregator.
    function replaceAggregator(State storage state) external {
        Facts memory facts = Founding.read();
        uint256 round = state.standing.roundCount;
        (bool found, uint8 index) = Lead.nextStandby(state, facts);
        if (!found) revert IFederation.NoStandby();
        // Nobody is blamed for a round in which there was nothing to propose: it can only be abandoned.
        bool isEmpty = state.rounds[round].revealed == 0;
        if (!isEmpty && Phases.status(state, round, facts.terms.seats.roundSeats) == IFederation.Status.Expired) {
            Lead.slash(state, facts, round, 0);
            Lead.handOver(state, facts, round, index);
            return;
        }
        Phases.requireIdle(state);
        uint256 deadline = uint256(Phases.idleSince(state, facts)) + facts.terms.windows.proposeSeconds;
        if (block.timestamp < deadline) revert IFederation.AggregatorNotLate(block.timestamp, deadline);
        address previous = Lead.current(state, facts);
        state.standing.idleSince = uint40(block.timestamp);
        state.standing.currentAggregatorIndex = index;
        emit IFederation.AggregatorReplaced(0, previous, facts.aggregators[index], 0);
    }

    function _revertOver(State storage state, Facts memory facts) private view {
        revert IFederation.FederationOver(
            state.standing.roundCount, facts.terms.windows.closesAt, state.standing.isClosed
        );
    }

    /// @dev Seats that joined in this block do not count: they could be taken after the block's content is known.
    function _activeBefore(Standing storage standing) private view returns (uint16) {
        return standing.joinBlock == block.number ? standing.activeCount - standing.joinedThen : standing.activeCount;
    }

    /// @dev Returns whether an update is in the average.
    function _checkVerdicts(
        State storage state,
        Facts memory facts,
        uint256 round,
        IFederation.Verdict[] calldata verdicts
    ) private view returns (bool isMoved) {
        uint256 revealed = state.rounds[round].revealed;
        if (verdicts.length != revealed) revert IFederation.VerdictCount(verdicts.length, revealed);
        bool isEqual = facts.terms.rules.scoring == IFederation.Scoring.Equal;
        address previous = address(0);
        for (uint256 i = 0; i < verdicts.length; ++i) {
            IFederation.Verdict memory v = verdicts[i];
            if (v.participant <= previous) revert IFederation.VerdictOrder(previous, v.participant);
            _requireRevealed(state, round, v);
            bool isValid = v.reason == 0
                ? v.weight != 0 && v.weight <= facts.terms.seats.weightCap
                    && (isEqual ? v.score == FULL : v.score <= FULL)
                : v.weight == 0 && v.score == 0;
            if (!isValid) revert IFederation.InvalidVerdict(v.participant, v.weight, v.score, v.reason);
            if (v.weight != 0) isMoved = true;
            previous = v.participant;
        }
    }

    /// @dev A proposal made before a reorganisation does not pass after it over other reveals.
    function _requireRevealed(State storage state, uint256 round, IFederation.Verdict memory v) private view {
        IFederation.Submission memory submission = state.submissions[round][v.participant];
        if (submission.state != IFederation.SubmissionState.Revealed) {
            revert IFederation.WrongSubmissionState(
                round, v.participant, IFederation.SubmissionState.Revealed, submission.state
            );
        }
        if (v.revealed != submission.digest) {
            revert IFederation.RevealMismatch(v.participant, v.revealed, submission.digest);
        }
    }

    function _requireModelStays(State storage state, Facts memory facts, bytes32 root, bytes32 manifest) private view {
        (bytes32 currentRoot, bytes32 currentManifest) = Phases.currentModel(state, facts);
        if (root != currentRoot || manifest != currentManifest) revert IFederation.ModelMustStay(root, currentRoot);
    }

    /// @dev Credits everybody the price of its update, rounded down. Returns their sum, and that of the weights.
    function _creditParticipants(
        State storage state,
        Facts memory facts,
        uint256 round,
        IFederation.Verdict[] calldata verdicts
    ) private returns (uint256 paid, uint256 accepted) {
        uint256 reward = facts.terms.money.updateReward;
        uint256 whole = facts.terms.seats.weightCap * FULL;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            IFederation.Verdict calldata v = verdicts[i];
            accepted += v.weight;
            uint256 amount = reward * v.weight * v.score / whole;
            if (amount == 0) continue;
            paid += amount;
            state.creditOf[v.participant] += amount;
            emit IFederation.Paid(round, v.participant, amount);
        }
    }

    /// @dev By weight, rounded down. Weights that nobody challenged may be more than what was revealed: the fee is
    ///      never more than the term, or the escrow might not hold it and the round could not be settled.
    function _fee(Facts memory facts, uint256 accepted, uint256 revealed) private pure returns (uint256) {
        uint256 whole = facts.terms.money.aggregatorFee;
        return accepted < revealed ? whole * accepted / revealed : (revealed == 0 ? 0 : whole);
    }
}
