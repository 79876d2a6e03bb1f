// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev commit, reveal and penalize, and the phases they belong to.
contract SubmissionsTest is World {
    // ----------------------------------------------------------------- commit

    /// @notice A commitment is on record with its first 30 bytes and its number in the round.
    function test_ACommitmentIsOnRecord() public {
        uint256 round = _openWith(3);
        for (uint256 i = 0; i < 2; ++i) {
            uint256 who = 2 - i;
            vm.expectEmit(address(federation));
            emit IFederation.Committed(round, _participant(who), _commitment(round, who));
            _commit(round, who);
            IFederation.Submission memory submission = federation.getSubmission(round, _participant(who));
            vm.assertEq(bytes32(submission.digest), bytes32(bytes30(_commitment(round, who))), "digest");
            vm.assertEq(submission.order, i, "order");
            _assertSubmission(round, _participant(who), IFederation.SubmissionState.Committed);
            vm.assertEq(federation.getRound(round).committed, i + 1, "committed");
        }
    }

    /// @notice The number of the commitment stays when it is revealed.
    function test_TheOrderStaysAfterTheReveal() public {
        uint256 round = _openWith(2);
        _commit(round, 1);
        _commit(round, 0);
        _revealAll(round, 2);
        vm.assertEq(federation.getSubmission(round, _participant(1)).order, 0, "first");
        vm.assertEq(federation.getSubmission(round, _participant(0)).order, 1, "second");
    }

    /// @notice Nobody commits outside the commit phase.
    function test_RevertWhen_CommittingOutsideItsPhase() public {
        uint256 round = _openWith(3);
        bytes32 commitment = _commitment(round, 1);
        _commit(round, 0);
        vm.warp(START + COMMIT - 1);
        _assertStatus(round, IFederation.Status.Commit);
        vm.warp(START + COMMIT);
        _expectWrongStatus(round, IFederation.Status.Commit, IFederation.Status.Reveal);
        vm.prank(_participant(1));
        federation.commit(round, commitment);
        _expectWrongStatus(2, IFederation.Status.Commit, IFederation.Status.None);
        vm.prank(_participant(1));
        federation.commit(2, commitment);
    }

    /// @notice A commitment of zero is none.
    function test_RevertWhen_TheCommitmentIsZero() public {
        uint256 round = _openWith(1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(_participant(0));
        federation.commit(round, 0);
    }

    /// @notice Only active seats commit: not strangers, not who left.
    function test_RevertWhen_CommittingWithoutASeat() public {
        uint256 round = _openWith(2);
        _expectNotActive(round, stranger);
        vm.prank(stranger);
        federation.commit(round, keccak256("x"));
        _leave(_participant(0));
        _expectNotActive(round, _participant(0));
        vm.prank(_participant(0));
        federation.commit(round, keccak256("x"));
    }

    /// @notice Who joins in the block of the opening, or later, takes part in later rounds only.
    function test_RevertWhen_JoinedInTheBlockOfTheOpening() public {
        _ready(1);
        _fund(ESCROW);
        uint256 round = _openUnseeded();
        _joinOne(_participant(1)); // the same block
        _mine();
        _joinOne(_participant(2));
        federation.fixSeed(round);
        for (uint256 i = 1; i < 3; ++i) {
            _expectNotActive(round, _participant(i));
            vm.prank(_participant(i));
            federation.commit(round, keccak256("x"));
        }
        vm.warp(block.timestamp + COMMIT);
        federation.abandon(round);
        _mine();
        round = _open();
        _commitAll(round, 3);
    }

    /// @notice Who joins in the block of the opening, but before it, does not take part either.
    function test_RevertWhen_JoinedJustBeforeTheOpening() public {
        _ready(1);
        _joinOne(_participant(1));
        uint256 round = _open();
        vm.assertEq(federation.getRound(round).active, 1);
        _expectNotActive(round, _participant(1));
        vm.prank(_participant(1));
        federation.commit(round, keccak256("x"));
    }

    /// @notice Whom the seed did not ask cannot commit.
    function test_RevertWhen_TheSeedDidNotAsk() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.roundTarget = 3;
        federation = _deploy(terms);
        uint256 round = _openWith(SEATS);
        uint256 asked = 0;
        for (uint256 i = 0; i < SEATS; ++i) {
            address account = _participant(i);
            bool isAsked = federation.isEligible(round, account);
            if (isAsked) asked += 1;
            else vm.expectRevert(abi.encodeWithSelector(IFederation.NotEligible.selector, round, account));
            vm.prank(account);
            federation.commit(round, keccak256(abi.encode(i)));
        }
        vm.assertGt(asked, 0, "somebody");
        vm.assertGt(SEATS, asked, "not everybody");
    }

    /// @notice One commitment a seat and round.
    function test_RevertWhen_CommittingTwice() public {
        uint256 round = _openWith(2);
        _commit(round, 0);
        _expectWrongSubmission(
            round, _participant(0), IFederation.SubmissionState.None, IFederation.SubmissionState.Committed
        );
        _commit(round, 0);
    }

    /// @notice At most roundSeats commitments; with the last one the commit phase is over or the next one is refused.
    function test_RevertWhen_TheRoundIsFull() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.roundSeats = 2;
        federation = _deploy(terms);
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        bytes32 commitment = _commitment(round, 2);
        vm.prank(_participant(2));
        (bool isTaken,) = address(federation).call(abi.encodeCall(IFederation.commit, (round, commitment)));
        vm.assertFalse(isTaken, "a third of two seats");
        vm.assertEq(federation.getRound(round).committed, 2);
        _revealAll(round, 2);
        _propose(round, _verdicts(round, 2));
        _finalize(round, _verdicts(round, 2));
    }

    // ----------------------------------------------------------------- reveal

    /// @notice A reveal is on record with the first 30 bytes of its digest and adds min(examples, cap) to the round.
    function test_ARevealIsOnRecord() public {
        uint256 round = _openWith(2);
        _commitAll(round, 2);
        (bytes32 root, bytes32 manifest, bytes32 salt) = (_root(round, 0), _manifest(round, 0), _salt(round, 0));
        vm.expectEmit(address(federation));
        emit IFederation.Revealed(round, _participant(0), root, manifest, 100, salt);
        _reveal(round, 0);
        vm.assertEq(
            bytes32(federation.getSubmission(round, _participant(0)).digest), bytes32(_digest(round, 0)), "digest"
        );
        _assertSubmission(round, _participant(0), IFederation.SubmissionState.Revealed);
        vm.assertEq(federation.getRound(round).revealed, 1);
        vm.assertEq(federation.getRound(round).revealedWeight, 100);
        _reveal(round, 1);
        vm.assertEq(federation.getRound(round).revealed, 2);
        vm.assertEq(federation.getRound(round).revealedWeight, 201);
    }

    /// @notice What is claimed above the cap does not count.
    function testFuzz_TheRevealedWeightIsCapped(uint32 examples) public {
        examples = uint32(_bound(examples, 1, type(uint32).max));
        uint256 round = _openWith(1);
        _commitClaiming(round, 0, examples);
        _revealClaiming(round, 0, examples);
        uint256 expected = examples < WEIGHT_CAP ? examples : WEIGHT_CAP;
        vm.assertEq(federation.getRound(round).revealedWeight, expected);
    }

    /// @notice Nobody reveals outside the reveal phase.
    function test_RevertWhen_RevealingOutsideItsPhase() public {
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        _expectWrongStatus(round, IFederation.Status.Reveal, IFederation.Status.Commit);
        _reveal(round, 0);
        vm.warp(START + COMMIT);
        _reveal(round, 0);
        vm.warp(START + COMMIT + REVEAL - 1);
        _assertStatus(round, IFederation.Status.Reveal);
        vm.warp(START + COMMIT + REVEAL);
        _expectWrongStatus(round, IFederation.Status.Reveal, IFederation.Status.Propose);
        _reveal(round, 1);
    }

    /// @notice Only who committed reveals, and once.
    function test_RevertWhen_RevealingTwiceOrWithoutCommitment() public {
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        _reveal(round, 0);
        IFederation.SubmissionState committed = IFederation.SubmissionState.Committed;
        _expectWrongSubmission(round, _participant(0), committed, IFederation.SubmissionState.Revealed);
        _reveal(round, 0);
        _expectWrongSubmission(round, _participant(2), committed, IFederation.SubmissionState.None);
        _reveal(round, 2);
    }

    /// @notice Root and manifest name something, and there is at least one example.
    function test_RevertWhen_ThereIsNothingToReveal() public {
        uint256 round = _openWith(1);
        _commit(round, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(_participant(0));
        federation.reveal(round, 0, keccak256("m"), 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(_participant(0));
        federation.reveal(round, keccak256("r"), 0, 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NoExamples.selector));
        vm.prank(_participant(0));
        federation.reveal(round, keccak256("r"), keccak256("m"), 0, 0);
    }

    /// @notice Every part of what was committed to binds: root, manifest, examples and salt.
    function test_RevertWhen_TheRevealIsNotWhatWasCommitted() public {
        uint256 round = _openWith(1);
        _commit(round, 0);
        (bytes32 root, bytes32 manifest, uint32 examples) = (_root(round, 0), _manifest(round, 0), _examples(0));
        bytes32 salt = _salt(round, 0);
        bytes32 other = keccak256("other");
        _refuseReveal(round, other, manifest, examples, salt);
        _refuseReveal(round, root, other, examples, salt);
        _refuseReveal(round, root, manifest, examples + 1, salt);
        _refuseReveal(round, root, manifest, examples, other);
        _reveal(round, 0);
    }

    /// @notice The commitments of other participants, rounds and federations open nothing here.
    function test_RevertWhen_TheCommitmentIsAnothers() public {
        IFederation other = federation;
        federation = _deploy(_terms());
        uint256 round = _openWith(3);
        bytes32[3] memory foreign = [
            _commitmentOf(address(other), round, _participant(0), round, 0),
            _commitmentOf(address(federation), round + 1, _participant(1), round, 1),
            _commitmentOf(address(federation), round, _participant(0), round, 2)
        ];
        for (uint256 i = 0; i < 3; ++i) {
            vm.prank(_participant(i));
            federation.commit(round, foreign[i]);
        }
        for (uint256 i = 0; i < 3; ++i) {
            _expectMismatch(foreign[i], _commitment(round, i));
            _reveal(round, i);
        }
    }

    // --------------------------------------------------------------- penalize

    /// @notice A commitment that was not revealed costs the penalty, which is burned, and the seat until it is filled up.
    function test_AMissedRevealIsPenalized() public {
        uint256 round = _missed();
        vm.expectEmit(address(federation));
        emit IFederation.Penalized(round, _participant(1), PENALTY);
        vm.prank(stranger);
        federation.penalize(round, _participant(1));
        _assertSubmission(round, _participant(1), IFederation.SubmissionState.Penalized);
        vm.assertEq(federation.burned(), PENALTY, "burned");
        vm.assertEq(federation.escrow(), ESCROW, "not the escrow's");
        vm.assertEq(federation.creditOf(stranger), 0, "nor the caller's");
        IFederation.Participant memory participant = federation.getParticipant(_participant(1));
        vm.assertEq(participant.stake, STAKE - PENALTY);
        vm.assertFalse(participant.active, "active");
        vm.assertEq(federation.activeCount(), 2);
    }

    /// @notice Filling the stake up takes the penalty's amount and gives the seat back, for later rounds.
    function test_JoiningFillsThePenaltyUp() public {
        uint256 round = _missed();
        federation.penalize(round, _participant(1));
        _give(_participant(1), PENALTY);
        vm.expectEmit(address(federation));
        emit IFederation.Joined(_participant(1), PENALTY);
        _joinAs(_participant(1));
        vm.assertEq(federation.getParticipant(_participant(1)).stake, STAKE);
        vm.assertEq(federation.activeCount(), 3);
        vm.assertEq(token.balanceOf(_participant(1)), 0);
    }

    /// @notice Nobody is penalized before the reveal phase is over, nor while the round has no reveal at all.
    function test_RevertWhen_PenalizingTooEarly() public {
        uint256 round = _openWith(3);
        _refusePenalty(round, IFederation.Status.Commit);
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        _refusePenalty(round, IFederation.Status.Reveal);
        _reveal(round, 0);
        vm.warp(START + COMMIT + REVEAL - 1);
        _refusePenalty(round, IFederation.Status.Reveal);
        vm.warp(START + COMMIT + REVEAL);
        federation.penalize(round, _participant(1));
    }

    /// @notice When nobody revealed, the network may have been down: nobody is penalized, then or later.
    function test_RevertWhen_NobodyRevealed() public {
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        vm.warp(START + COMMIT + REVEAL);
        _expectNothingRevealed(round);
        federation.penalize(round, _participant(0));
        federation.abandon(round);
        _expectNothingRevealed(round);
        federation.penalize(round, _participant(0));
        vm.assertEq(federation.getParticipant(_participant(0)).stake, STAKE);
    }

    /// @notice Who revealed, did not commit or was penalized already is not penalized.
    function test_RevertWhen_PenalizingAnyoneElse() public {
        uint256 round = _missed();
        IFederation.SubmissionState committed = IFederation.SubmissionState.Committed;
        _expectWrongSubmission(round, _participant(0), committed, IFederation.SubmissionState.Revealed);
        federation.penalize(round, _participant(0));
        _expectWrongSubmission(round, _participant(2), committed, IFederation.SubmissionState.None);
        federation.penalize(round, _participant(2));
        federation.penalize(round, _participant(1));
        _expectWrongSubmission(round, _participant(1), committed, IFederation.SubmissionState.Penalized);
        federation.penalize(round, _participant(1));
    }

    /// @notice A penalty can be taken after the round has ended, and from a seat that is leaving.
    function test_ALeavingSeatIsPenalizedToo() public {
        uint256 round = _missed();
        _leave(_participant(1));
        _propose(round, _verdicts(round, 1));
        _finalize(round, _verdicts(round, 1));
        federation.penalize(round, _participant(1));
        vm.assertEq(federation.getParticipant(_participant(1)).stake, STAKE - PENALTY);
        vm.assertEq(federation.activeCount(), 2);
        vm.warp(block.timestamp + UNBONDING);
        vm.assertEq(_withdraw(_participant(1)), STAKE - PENALTY);
    }

    /// @notice A penalty takes at most what is left of the stake.
    function test_APenaltyTakesAtMostTheStake() public {
        IFederation.Terms memory terms = _terms();
        terms.money.missedRevealPenalty = STAKE;
        federation = _deploy(terms);
        uint256 first = _openWith(2);
        _commitAll(first, 2);
        vm.warp(START + COMMIT);
        _reveal(first, 0);
        vm.warp(START + COMMIT + REVEAL);
        _propose(first, _verdicts(first, 1));
        _finalize(first, _verdicts(first, 1));
        _mine();
        _fund(ESCROW);
        uint256 second = _open();
        _commitAll(second, 2);
        vm.warp(federation.getRound(second).commitDeadline);
        _reveal(second, 0);
        vm.warp(federation.getRound(second).revealDeadline);
        federation.penalize(first, _participant(1));
        vm.expectEmit(address(federation));
        emit IFederation.Penalized(second, _participant(1), 0);
        federation.penalize(second, _participant(1));
        vm.assertEq(federation.burned(), STAKE);
        vm.assertEq(federation.getParticipant(_participant(1)).stake, 0);
    }

    /// @notice Under terms without a penalty a missed reveal costs nothing and no seat.
    function test_WithoutPenaltyNothingIsLost() public {
        IFederation.Terms memory terms = _terms();
        terms.money.missedRevealPenalty = 0;
        federation = _deploy(terms);
        uint256 round = _missed();
        federation.penalize(round, _participant(1));
        vm.assertTrue(federation.getParticipant(_participant(1)).active, "active");
        vm.assertEq(federation.burned(), 0);
        vm.assertEq(federation.activeCount(), 3);
    }

    // --------------------------------------------------------------- helpers

    /// @dev Two of three commit, the first reveals, and the reveal phase is over.
    function _missed() private returns (uint256 round) {
        round = _openWith(3);
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        _reveal(round, 0);
        vm.warp(START + COMMIT + REVEAL);
    }

    function _commitClaiming(uint256 round, uint256 i, uint32 examples) private {
        (bytes32 root, bytes32 manifest, address account) = (_root(round, i), _manifest(round, i), _participant(i));
        vm.prank(account);
        federation.commit(
            round,
            keccak256(
                abi.encode(address(federation), round, account, root, manifest, uint256(examples), _salt(round, i))
            )
        );
    }

    function _revealClaiming(uint256 round, uint256 i, uint32 examples) private {
        vm.prank(_participant(i));
        federation.reveal(round, _root(round, i), _manifest(round, i), examples, _salt(round, i));
    }

    function _refuseReveal(uint256 round, bytes32 root, bytes32 manifest, uint32 examples, bytes32 salt) private {
        address account = _participant(0);
        bytes32 opened =
            keccak256(abi.encode(address(federation), round, account, root, manifest, uint256(examples), salt));
        _expectMismatch(_commitment(round, 0), opened);
        vm.prank(account);
        federation.reveal(round, root, manifest, examples, salt);
    }

    function _refusePenalty(uint256 round, IFederation.Status actual) private {
        _expectWrongStatus(round, IFederation.Status.Propose, actual);
        federation.penalize(round, _participant(1));
    }

    function _expectMismatch(bytes32 committed, bytes32 opened) private {
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.CommitmentMismatch.selector, bytes30(committed), bytes30(opened))
        );
    }

    function _expectNotActive(uint256 round, address account) private {
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotActive.selector, round, account));
    }

    function _expectNothingRevealed(uint256 round) private {
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingRevealed.selector, round));
    }
}
