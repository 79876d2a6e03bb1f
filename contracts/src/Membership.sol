// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {SignatureChecker} from "@openzeppelin/contracts/utils/cryptography/SignatureChecker.sol";

import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Phases} from "./Phases.sol";
import {Sets} from "./Sets.sol";
import {Stakes} from "./Stakes.sol";
import {Standing, State} from "./State.sol";
import {Tokens} from "./Tokens.sol";

/// @title Seats: taken, left, freed, and what they cost
/// @dev Linked; the federation calls it with its own storage.
library Membership {
    bytes32 private constant INVITATION = keccak256("Invitation(address participant,uint40 expiry)");
    bytes32 private constant NAME = keccak256("Commonweight");
    bytes32 private constant VERSION = keccak256("2");
    bytes1 private constant DOMAIN_FIELDS = 0x0f; // name, version, chainId, verifyingContract: ERC-5267

    /// @notice See IFederation.join.
    function join(State storage state, uint40 expiry, bytes calldata signature) external {
        IFederation.Seats memory seats = Founding.seats();
        IFederation.Money memory money = Founding.money();
        IFederation.Participant storage participant = state.participants[msg.sender];
        if (participant.active) revert IFederation.AlreadyJoined(msg.sender);
        if (state.standing.activeCount >= seats.maxParticipants) {
            revert IFederation.FederationFull(seats.maxParticipants);
        }
        if (seats.byInvitation) _requireInvited(expiry, signature);
        uint128 amount = money.participantStake - participant.stake;
        state.participants[msg.sender] = IFederation.Participant({
            stake: money.participantStake,
            unlockAt: 0,
            joinedBlock: uint40(block.number),
            lastCommitted: 0,
            active: true
        });
        _countJoined(state.standing);
        emit IFederation.Joined(msg.sender, amount);
        if (amount != 0) Tokens.pull(money.token, amount);
    }

    /// @notice See IFederation.leave.
    function leave(State storage state) external {
        IFederation.Participant storage participant = state.participants[msg.sender];
        if (participant.unlockAt != 0) revert IFederation.AlreadyLeaving(msg.sender, participant.unlockAt);
        if (participant.stake == 0) revert IFederation.NotJoined(msg.sender);
        emit IFederation.Left(msg.sender, _unbond(state, participant));
    }

    /// @notice See IFederation.evict.
    function evict(State storage state, address account, uint256[] calldata rounds) external {
        IFederation.Participant storage participant = state.participants[account];
        if (!participant.active) revert IFederation.NotJoined(account);
        IFederation.Seats memory seats = Founding.seats();
        if (rounds.length != seats.maxMissed) revert IFederation.MissedCount(rounds.length, seats.maxMissed);
        uint256 previous = participant.lastCommitted;
        for (uint256 i = 0; i < rounds.length; ++i) {
            if (rounds[i] <= previous) revert IFederation.MissedOrder(previous, rounds[i]);
            if (!_hasMissed(state, rounds[i], account, seats)) revert IFederation.NotMissed(rounds[i], account);
            previous = rounds[i];
        }
        emit IFederation.Evicted(account, _unbond(state, participant));
    }

    /// @notice See IFederation.penalize.
    function penalize(State storage state, uint256 round, address account) external {
        IFederation.Status actual = Phases.status(state, round);
        if (actual <= IFederation.Status.Reveal || actual == IFederation.Status.Unseeded) {
            IFederation.Status required = Founding.isMasked() ? IFederation.Status.Seal : IFederation.Status.Propose;
            revert IFederation.WrongStatus(round, required, actual);
        }
        IFederation.Submission storage submission = state.submissions[round][account];
        if (submission.state == IFederation.SubmissionState.Revealed && Founding.isMasked()) {
            _requireSilent(state, round, account, actual);
        } else {
            Phases.requireSubmission(state, round, account, IFederation.SubmissionState.Committed);
            // Who can keep everybody's reveals out must not take everybody's stake.
            if (state.rounds[round].revealed == 0) revert IFederation.NothingRevealed(round);
        }
        Stakes.penalize(state, round, account, IFederation.SubmissionState.Penalized);
    }

    /// @notice Credits an account its stake once unbonding is over.
    function releaseStake(State storage state, address account) external {
        IFederation.Participant storage participant = state.participants[account];
        if (participant.unlockAt == 0 || block.timestamp < participant.unlockAt) return;
        uint256 amount = participant.stake;
        delete state.participants[account];
        state.creditOf[account] += amount;
        emit IFederation.StakeReleased(account, amount);
    }

    function _requireInvited(uint40 expiry, bytes calldata signature) private view {
        if (block.timestamp > expiry) revert IFederation.InvitationExpired(block.timestamp, expiry);
        bytes32 domain =
            MessageHashUtils.toDomainSeparator(DOMAIN_FIELDS, NAME, VERSION, block.chainid, address(this), 0);
        bytes32 invitation = keccak256(abi.encode(INVITATION, msg.sender, expiry));
        bytes32 digest = MessageHashUtils.toTypedDataHash(domain, invitation);
        if (!SignatureChecker.isValidSignatureNowCalldata(Founding.founder().sponsor, digest, signature)) {
            revert IFederation.InvalidInvitation(msg.sender, expiry);
        }
    }

    /// @dev Asked, past the time to commit, not full, and nothing sent.
    function _hasMissed(State storage state, uint256 round, address account, IFederation.Seats memory seats)
        private
        view
        returns (bool)
    {
        IFederation.Round storage r = state.rounds[round];
        IFederation.Status actual = Phases.status(state, round);
        bool isPast = r.commitDeadline != 0 && actual > IFederation.Status.Commit;
        return isPast && r.committed < seats.roundSeats && state.participants[account].joinedBlock < r.openedBlock
            && state.submissions[round][account].state == IFederation.SubmissionState.None
            && Phases.isEligible(state, round, account, seats.roundTarget);
    }

    /// @dev It was in the set and posted no secrets, and nobody can for it any more.
    function _requireSilent(State storage state, uint256 round, address account, IFederation.Status actual)
        private
        view
    {
        if (actual != IFederation.Status.Void && actual != IFederation.Status.Abandoned) {
            revert IFederation.WrongStatus(round, IFederation.Status.Void, actual);
        }
        Sets.requireIn(state.sums[round].byOrder, round, account, state.submissions[round][account]);
    }

    function _unbond(State storage state, IFederation.Participant storage participant)
        private
        returns (uint40 unlockAt)
    {
        unlockAt = uint40(block.timestamp) + Founding.windows().unbondingSeconds;
        Stakes.deactivate(state, participant);
        participant.unlockAt = unlockAt;
    }

    function _countJoined(Standing storage standing) private {
        standing.activeCount += 1;
        if (standing.joinBlock != block.number) {
            standing.joinBlock = uint40(block.number);
            standing.joinedThen = 0;
        }
        standing.joinedThen += 1;
    }
}
