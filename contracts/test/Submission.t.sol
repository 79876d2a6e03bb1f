// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev commit
///      ├── not the commit phase: WrongStatus
///      ├── zero: ZeroDigest
///      ├── not joined, left, or joined after the opening: NotActive
///      ├── not drawn: NotEligible (Sampling.t.sol)
///      ├── committed already: WrongSubmissionState
///      └── else: on record, Committed
///      reveal
///      ├── not the reveal phase: WrongStatus
///      ├── not committed, or revealed already: WrongSubmissionState
///      ├── a zero digest: ZeroDigest; no examples: NoExamples
///      ├── any value differs from the commitment's: CommitmentMismatch
///      └── else: on record, Revealed
contract SubmissionTest is World {
    uint256 private round;

    function setUp() public override {
        super.setUp();
        round = _openWith(3);
    }

    function test_CommitIsOnRecord() public {
        bytes32 commitment = _commitment(round, 0);
        vm.expectEmit(address(federation));
        emit IFederation.Committed(round, _participant(0), commitment);
        vm.prank(_participant(0));
        federation.commit(round, commitment);
        IFederation.Submission memory submission = federation.getSubmission(round, _participant(0));
        vm.assertEq(bytes32(submission.digest), bytes32(bytes31(commitment)));
        _assertSubmission(round, _participant(0), IFederation.SubmissionState.Committed);
        vm.assertEq(federation.getRound(round).committed, 1);
    }

    function test_RevertWhen_CommittingToARoundNotInThatPhase() public {
        _expectWrongStatus(0, IFederation.Status.Commit, IFederation.Status.None);
        vm.prank(_participant(0));
        federation.commit(0, keccak256("x"));
        _expectWrongStatus(round + 1, IFederation.Status.Commit, IFederation.Status.None);
        vm.prank(_participant(0));
        federation.commit(round + 1, keccak256("x"));
        _commit(round, 1);
        vm.warp(START + COMMIT);
        _expectWrongStatus(round, IFederation.Status.Commit, IFederation.Status.Reveal);
        vm.prank(_participant(0));
        federation.commit(round, keccak256("x"));
    }

    function test_CommitIsTakenUpToTheLastSecond() public {
        vm.warp(START + COMMIT - 1);
        _commit(round, 0);
        vm.assertEq(federation.getRound(round).committed, 1);
    }

    function test_RevertWhen_CommittingToZero() public {
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(_participant(0));
        federation.commit(round, 0);
    }

    function test_RevertWhen_ANonParticipantCommits() public {
        _refuseInactive(stranger);
        vm.prank(_participant(0));
        federation.leave();
        _refuseInactive(_participant(0));
        _joinOne(stranger);
        _refuseInactive(stranger);
        vm.prank(_participant(0));
        federation.join();
        _refuseInactive(_participant(0));
    }

    function test_RevertWhen_CommittingTwice() public {
        _commit(round, 0);
        _expectWrongSubmission(
            round, _participant(0), IFederation.SubmissionState.None, IFederation.SubmissionState.Committed
        );
        vm.prank(_participant(0));
        federation.commit(round, keccak256("second thoughts"));
    }

    function test_RevealIsOnRecord() public {
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        vm.expectEmit(address(federation));
        emit IFederation.Revealed(
            round, _participant(1), _root(round, 1), _manifest(round, 1), _examples(1), _salt(round, 1)
        );
        _reveal(round, 1);
        IFederation.Submission memory submission = federation.getSubmission(round, _participant(1));
        bytes32 digest = keccak256(abi.encode(_root(round, 1), _manifest(round, 1), uint256(_examples(1))));
        vm.assertEq(bytes32(submission.digest), bytes32(bytes31(digest)));
        _assertSubmission(round, _participant(1), IFederation.SubmissionState.Revealed);
        vm.assertEq(federation.getRound(round).revealed, 1);
        vm.assertEq(federation.getRound(round).committed, 2);
    }

    function test_RevertWhen_RevealingOutsideItsPhase() public {
        _commitAll(round, 2);
        vm.warp(START + COMMIT - 1);
        _expectWrongStatus(round, IFederation.Status.Reveal, IFederation.Status.Commit);
        _reveal(round, 0);
        vm.warp(START + COMMIT + REVEAL);
        _expectWrongStatus(round, IFederation.Status.Reveal, IFederation.Status.Propose);
        _reveal(round, 0);
        vm.warp(START + COMMIT + REVEAL - 1);
        _reveal(round, 0);
    }

    function test_RevertWhen_RevealingWithoutCommitmentOrTwice() public {
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        IFederation.SubmissionState committed = IFederation.SubmissionState.Committed;
        _expectWrongSubmission(round, _participant(2), committed, IFederation.SubmissionState.None);
        _reveal(round, 2);
        _reveal(round, 0);
        _expectWrongSubmission(round, _participant(0), committed, IFederation.SubmissionState.Revealed);
        _reveal(round, 0);
    }

    function test_RevertWhen_ARevealedValueIsEmpty() public {
        _commitAll(round, 3);
        bytes32 one = bytes32(uint256(1));
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(_participant(0));
        federation.reveal(round, 0, one, 1, one);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(_participant(0));
        federation.reveal(round, one, 0, 1, one);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NoExamples.selector));
        vm.prank(_participant(0));
        federation.reveal(round, one, one, 0, one);
    }

    /// @dev Any one bit of any one value.
    function testFuzz_RevertWhen_AValueDiffersFromTheCommitment(uint256 which, uint256 bit) public {
        _commitAll(round, 3);
        bytes32[4] memory values =
            [_root(round, 0), _manifest(round, 0), bytes32(uint256(_examples(0))), _salt(round, 0)];
        which = _bound(which, 0, 3);
        bit = _bound(bit, 0, which == 2 ? 31 : 255);
        values[which] ^= bytes32(1 << bit);
        vm.assume(uint256(values[2]) != 0);
        bytes32 opened = keccak256(
            abi.encode(address(federation), round, _participant(0), values[0], values[1], values[2], values[3])
        );
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.CommitmentMismatch.selector, bytes31(_commitment(round, 0)), bytes31(opened)
            )
        );
        vm.prank(_participant(0));
        federation.reveal(round, values[0], values[1], uint32(uint256(values[2])), values[3]);
    }

    function _refuseInactive(address account) private {
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotActive.selector, round, account));
        vm.prank(account);
        federation.commit(round, keccak256("x"));
    }
}
