// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev join
///      ├── active already: AlreadyJoined
///      ├── no seat: FederationFull
///      ├── new: pays the whole stake, Joined
///      ├── leaving: comes back for nothing
///      └── penalized: fills the stake up
///      leave
///      ├── never joined, or lost all: NotJoined
///      ├── leaving already: AlreadyLeaving
///      ├── active: the seat is free, Left
///      └── penalized: what is left of the stake unbonds
///      penalize
///      ├── before the reveals are over: WrongStatus
///      ├── not committed, revealed, or penalized already: WrongSubmissionState
///      ├── stake covers it: the penalty goes to the escrow, the seat is free, Penalized
///      ├── stake does not: all of it goes
///      └── no penalty in the terms: on record only
contract MembershipTest is World {
    function test_JoinTakesTheStake() public {
        address account = _participant(0);
        _give(account, STAKE);
        vm.expectEmit(address(federation));
        emit IFederation.Joined(account, STAKE);
        vm.prank(account);
        federation.join();
        vm.assertEq(federation.activeCount(), 1);
        vm.assertEq(token.balanceOf(account), 0);
        _assertParticipant(account, STAKE, 0, 0, true);
    }

    function test_RevertWhen_JoiningTwice() public {
        _join(1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyJoined.selector, _participant(0)));
        vm.prank(_participant(0));
        federation.join();
    }

    function test_RevertWhen_EverySeatIsTaken() public {
        _join(SEATS);
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationFull.selector, SEATS));
        vm.prank(stranger);
        federation.join();
        vm.prank(_participant(3));
        federation.leave();
        _joinOne(stranger);
        vm.assertEq(federation.activeCount(), SEATS);
    }

    function test_ALeavingParticipantComesBackForNothing() public {
        _join(1);
        uint256 round = _openWith(0);
        address account = _participant(0);
        vm.prank(account);
        federation.leave();
        vm.expectEmit(address(federation));
        emit IFederation.Joined(account, 0);
        vm.prank(account);
        federation.join();
        _assertParticipant(account, STAKE, 0, uint32(round), true);
        vm.warp(block.timestamp + UNBONDING);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingToWithdraw.selector, account));
        vm.prank(account);
        federation.withdraw();
    }

    function test_LeaveFreesTheSeat() public {
        _join(2);
        address account = _participant(0);
        vm.expectEmit(address(federation));
        emit IFederation.Left(account, uint40(START + UNBONDING));
        vm.prank(account);
        federation.leave();
        vm.assertEq(federation.activeCount(), 1);
        _assertParticipant(account, STAKE, uint40(START + UNBONDING), 0, false);
    }

    function test_RevertWhen_LeavingTwice() public {
        _join(1);
        vm.prank(_participant(0));
        federation.leave();
        vm.warp(START + 7);
        vm.expectRevert(abi.encodeWithSelector(IFederation.AlreadyLeaving.selector, _participant(0), START + UNBONDING));
        vm.prank(_participant(0));
        federation.leave();
    }

    function test_RevertWhen_LeavingWithoutHavingJoined() public {
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotJoined.selector, stranger));
        vm.prank(stranger);
        federation.leave();
    }

    function test_PenaltyGoesToTheEscrow() public {
        uint256 round = _missedWith(2);
        uint256 escrow = federation.escrow();
        address account = _participant(1);
        vm.expectEmit(address(federation));
        emit IFederation.Penalized(round, account, PENALTY);
        vm.prank(stranger);
        federation.penalize(round, account);
        vm.assertEq(federation.escrow(), escrow + PENALTY);
        vm.assertEq(federation.activeCount(), 1);
        _assertParticipant(account, STAKE - PENALTY, 0, 0, false);
        _assertSubmission(round, account, IFederation.SubmissionState.Penalized);
    }

    function test_APenalizedParticipantFillsItsStakeUp() public {
        uint256 round = _missedWith(2);
        address account = _participant(1);
        federation.penalize(round, account);
        _give(account, PENALTY);
        vm.expectEmit(address(federation));
        emit IFederation.Joined(account, PENALTY);
        vm.prank(account);
        federation.join();
        _assertParticipant(account, STAKE, 0, uint32(round), true);
    }

    function test_APenalizedParticipantLeavesWithTheRest() public {
        uint256 round = _missedWith(2);
        address account = _participant(1);
        federation.penalize(round, account);
        vm.prank(account);
        federation.leave();
        vm.assertEq(federation.activeCount(), 1);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(account);
        vm.assertEq(federation.withdraw(), STAKE - PENALTY);
    }

    function test_LeavingDoesNotEscapeThePenalty() public {
        uint256 round = _openWith(2);
        _commitAll(round, 2);
        address account = _participant(1);
        vm.prank(account);
        federation.leave();
        uint256 unlockAt = block.timestamp + UNBONDING;
        vm.warp(START + COMMIT + REVEAL);
        federation.penalize(round, account);
        vm.warp(unlockAt);
        vm.prank(account);
        vm.assertEq(federation.withdraw(), STAKE - PENALTY);
    }

    function test_SeveralPenaltiesTakeAtMostTheStake() public {
        IFederation.Terms memory terms = _terms();
        terms.missedRevealPenalty = 300;
        federation = _deploy(terms);
        uint256 first = _missedWith(2);
        federation.abandon(first);
        uint256 second = _open();
        _commit(second, 1);
        vm.warp(block.timestamp + COMMIT + REVEAL);
        address account = _participant(1);
        federation.penalize(first, account);
        vm.expectEmit(address(federation));
        emit IFederation.Penalized(second, account, 200);
        federation.penalize(second, account);
        vm.assertEq(federation.getParticipant(account).stake, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotJoined.selector, account));
        vm.prank(account);
        federation.leave();
    }

    function test_WithoutAPenaltyTheMissIsOnRecordOnly() public {
        IFederation.Terms memory terms = _terms();
        terms.missedRevealPenalty = 0;
        federation = _deploy(terms);
        uint256 round = _missedWith(1);
        vm.expectEmit(address(federation));
        emit IFederation.Penalized(round, _participant(0), 0);
        federation.penalize(round, _participant(0));
        _assertParticipant(_participant(0), STAKE, 0, 0, true);
    }

    function test_RevertWhen_PenalizingBeforeTheRevealsAreOver() public {
        _expectWrongStatus(1, IFederation.Status.Propose, IFederation.Status.None);
        federation.penalize(1, _participant(0));
        uint256 round = _openWith(2);
        _commit(round, 0);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Commit);
        federation.penalize(round, _participant(0));
        vm.warp(START + COMMIT + REVEAL - 1);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Reveal);
        federation.penalize(round, _participant(0));
        vm.warp(START + COMMIT + REVEAL);
        federation.penalize(round, _participant(0));
    }

    function test_RevertWhen_ThereIsNothingToPenalize() public {
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        _reveal(round, 0);
        vm.warp(START + COMMIT + REVEAL);
        IFederation.SubmissionState committed = IFederation.SubmissionState.Committed;
        _expectWrongSubmission(round, _participant(0), committed, IFederation.SubmissionState.Revealed);
        federation.penalize(round, _participant(0));
        _expectWrongSubmission(round, _participant(2), committed, IFederation.SubmissionState.None);
        federation.penalize(round, _participant(2));
        federation.penalize(round, _participant(1));
        _expectWrongSubmission(round, _participant(1), committed, IFederation.SubmissionState.Penalized);
        federation.penalize(round, _participant(1));
    }

    function test_PenaltyComesInEveryLaterStatus() public {
        uint256 round = _openWith(5);
        _commitAll(round, 5);
        _reveal(round, 0);
        vm.warp(START + COMMIT + REVEAL);
        federation.penalize(round, _participant(1)); // Propose
        _propose(round, _verdicts(1));
        federation.penalize(round, _participant(2)); // Challenge
        vm.warp(block.timestamp + CHALLENGE);
        federation.penalize(round, _participant(3)); // Settleable
        federation.finalize(round, _verdicts(1));
        federation.penalize(round, _participant(4)); // Finalized
        vm.assertEq(federation.escrow(), 4 * uint256(PENALTY));
    }

    /// @dev Everybody committed, nobody revealed, and the time for it is over.
    function _missedWith(uint256 participants) private returns (uint256 round) {
        round = _openWith(participants);
        _commitAll(round, participants);
        vm.warp(START + COMMIT + REVEAL);
    }

    function _assertParticipant(address account, uint128 stake, uint40 unlockAt, uint32 joinedAfter, bool active)
        private
        view
    {
        IFederation.Participant memory actual = federation.getParticipant(account);
        vm.assertEq(actual.stake, stake, "stake");
        vm.assertEq(actual.unlockAt, unlockAt, "unlockAt");
        vm.assertEq(actual.joinedAfterRound, joinedAfter, "joinedAfterRound");
        vm.assertEq(actual.active, active, "active");
    }
}
