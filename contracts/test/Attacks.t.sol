// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Federation} from "../src/Federation.sol";
import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev What a cheat would try, each attempt as one test (docs/threat-model.md).
contract AttacksTest is World {
    // A copy of somebody else's commitment, seen in the mempool.

    function test_ACopiedCommitmentCannotBeRevealed() public {
        uint256 round = _openWith(2);
        bytes32 copied = _commitment(round, 0);
        vm.prank(_participant(1)); // first into the block
        federation.commit(round, copied);
        _commit(round, 0);
        _reveal(round, 0);
        bytes32 opened = _commitmentOf(address(federation), round, _participant(1), round, 0);
        _expectMismatch(copied, opened);
        _revealAs(_participant(1), round, 0);
        vm.warp(START + COMMIT + REVEAL);
        federation.penalize(round, _participant(1));
        _assertSubmission(round, _participant(0), IFederation.SubmissionState.Revealed);
    }

    function test_ARevealCannotBeTakenOver() public {
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        IFederation.SubmissionState committed = IFederation.SubmissionState.Committed;
        _expectWrongSubmission(round, _participant(2), committed, IFederation.SubmissionState.None);
        _revealAs(_participant(2), round, 0);
        bytes32 opened = _commitmentOf(address(federation), round, _participant(1), round, 0);
        _expectMismatch(_commitment(round, 1), opened);
        _revealAs(_participant(1), round, 0);
    }

    // The same commitment again.

    function test_ACommitmentOfAnEarlierRoundIsWorthless() public {
        _fund(10_000);
        uint256 first = _openWith(1);
        _commit(first, 0);
        _reveal(first, 0);
        _propose(first, _verdicts(1));
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(first, _verdicts(1));
        uint256 second = _open();
        bytes32 old = _commitment(first, 0);
        vm.prank(_participant(0));
        federation.commit(second, old);
        _expectMismatch(old, _commitmentOf(address(federation), second, _participant(0), first, 0));
        vm.prank(_participant(0));
        federation.reveal(second, _root(first, 0), _manifest(first, 0), _examples(0), _salt(first, 0));
    }

    function test_ACommitmentOfAnotherFederationIsWorthless() public {
        Federation other = federation;
        federation = _deploy(_terms());
        uint256 round = _openWith(1);
        bytes32 foreign = _commitmentOf(address(other), round, _participant(0), round, 0);
        vm.prank(_participant(0));
        federation.commit(round, foreign);
        _expectMismatch(foreign, _commitment(round, 0));
        _reveal(round, 0);
    }

    // One participant, two shares.

    function test_TwoVerdictsOnOneParticipantAreRefused() public {
        uint256 round = _revealedWith(2);
        IFederation.Verdict[] memory verdicts = _verdicts(2);
        verdicts[1] = _verdict(0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOrder.selector, _participant(0), _participant(0)));
        _proposeAs(aggregators[0], round, verdicts);
    }

    function test_LeavingAndComingBackIsNoSecondCommitment() public {
        uint256 round = _openWith(2);
        _commit(round, 0);
        vm.prank(_participant(0));
        federation.leave();
        vm.prank(_participant(0));
        federation.join();
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotActive.selector, round, _participant(0)));
        vm.prank(_participant(0));
        federation.commit(round, keccak256("second"));
        vm.assertEq(federation.getRound(round).committed, 1);
    }

    function test_TheSeatsOfARoundAreThoseOfItsOpening() public {
        uint256 round = _openWith(2);
        vm.prank(_participant(1));
        federation.leave();
        _joinOne(stranger); // into the freed seat
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotActive.selector, round, stranger));
        vm.prank(stranger);
        federation.commit(round, keccak256("x"));
    }

    // Other verdicts at settlement than at proposal.

    function testFuzz_ABentVerdictIsRefused(uint256 which, uint8 field) public {
        uint256 round = _proposedWith(4);
        vm.warp(block.timestamp + CHALLENGE);
        IFederation.Verdict[] memory verdicts = _verdicts(4);
        which = _bound(which, 0, 3);
        field = uint8(_bound(field, 0, 3));
        if (field == 0) verdicts[which].participant = stranger;
        if (field == 1) verdicts[which].weight += 1;
        if (field == 2) verdicts[which].score -= 1;
        if (field == 3) verdicts[which].reason = 8;
        _refuseVerdicts(round, verdicts);
    }

    function test_AListThatIsCutExtendedOrReorderedIsRefused() public {
        uint256 round = _proposedWith(4);
        vm.warp(block.timestamp + CHALLENGE);
        _refuseVerdicts(round, _verdicts(3));
        _refuseVerdicts(round, _verdicts(5));
        _refuseVerdicts(round, new IFederation.Verdict[](0));
        IFederation.Verdict[] memory verdicts = _verdicts(4);
        (verdicts[0], verdicts[1]) = (verdicts[1], verdicts[0]);
        _refuseVerdicts(round, verdicts);
        federation.finalize(round, _verdicts(4));
    }

    function test_VerdictsOfAnotherRoundAreRefused() public {
        _fund(10_000);
        uint256 first = _finalizedWith(3);
        uint256 second = _open();
        _commitAll(second, 2);
        vm.warp(block.timestamp + COMMIT);
        _revealAll(second, 2);
        _propose(second, _verdicts(2));
        vm.warp(block.timestamp + CHALLENGE);
        _refuseVerdicts(second, _verdicts(3));
        _assertStatus(first, IFederation.Status.Finalized);
    }

    // Dust and greed.

    function test_DustIsNeverPaidTwiceAndNeverLost() public {
        _fund(10_000);
        uint256 round = _finalizedWith(3); // weights 100, 101, 102
        vm.assertEq(federation.creditOf(_participant(0)), 330);
        vm.assertEq(federation.creditOf(_participant(1)), 333);
        vm.assertEq(federation.creditOf(_participant(2)), 336);
        vm.assertEq(federation.escrow(), 10_000 + 1);
        vm.assertEq(round, 1);
    }

    function test_ClaimingMoreExamplesThanTheCapGainsNothing() public {
        uint256 round = _openWith(1);
        bytes32 root = _root(round, 0);
        uint32 claimed = type(uint32).max;
        bytes32 commitment =
            keccak256(abi.encode(address(federation), round, _participant(0), root, root, uint256(claimed), root));
        vm.prank(_participant(0));
        federation.commit(round, commitment);
        vm.prank(_participant(0));
        federation.reveal(round, root, root, claimed, root);
        IFederation.Verdict[] memory verdicts = _verdicts(1);
        verdicts[0].weight = claimed;
        vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidVerdict.selector, _participant(0), claimed, FULL, 0));
        _proposeAs(aggregators[0], round, verdicts);
    }

    function test_TheLargestSharesDoNotOverflow() public {
        IFederation.Terms memory terms = _terms();
        terms.maxParticipants = 1;
        terms.weightCap = (1 << 31) - 1;
        terms.roundReward = type(uint128).max - FEE - BOND - STAKE;
        terms.aggregatorFee = 0;
        federation = _deploy(terms);
        _fund(terms.roundReward);
        _bond(aggregators[0]);
        _join(1);
        uint256 round = _open();
        _commit(round, 0);
        _reveal(round, 0);
        IFederation.Verdict[] memory verdicts = _verdicts(1);
        verdicts[0].weight = terms.weightCap;
        _propose(round, verdicts);
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, verdicts);
        vm.assertEq(federation.creditOf(_participant(0)), terms.roundReward);
    }

    // Money that is not the sponsor's.

    function test_TheSponsorCannotTakeWhatIsOwed() public {
        uint256 round = _proposedWith(2);
        vm.warp(START + 100_000);
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationNotOver.selector, round, START + 100_000));
        vm.prank(sponsor);
        federation.refund();
        federation.finalize(round, _verdicts(2));
        federation.refund();
        vm.prank(sponsor);
        vm.assertEq(federation.withdraw(), 1); // what rounding left
        uint256 owed = federation.creditOf(_participant(0)) + federation.creditOf(_participant(1)) + FEE;
        vm.assertEq(token.balanceOf(address(federation)), owed + 2 * uint256(BOND) + 2 * uint256(STAKE));
    }

    function test_ADonationIsNobodysCredit() public {
        require(token.transfer(address(federation), 123));
        _close();
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroAmount.selector));
        federation.refund();
    }

    // Silence and haste.

    function test_AnAggregatorThatGoesSilentCannotLockTheMoney() public {
        uint256 round = _revealedWith(2);
        vm.warp(START + 1_000_000);
        federation.replaceAggregator();
        vm.warp(block.timestamp + PROPOSE);
        federation.abandon(round);
        federation.refund();
        vm.assertEq(federation.creditOf(sponsor), REWARD + FEE + 2 * uint256(BOND));
    }

    function test_OneParticipantCannotHurryTheOthers() public {
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        _expectWrongStatus(round, IFederation.Status.Reveal, IFederation.Status.Commit);
        _reveal(round, 0);
        vm.prank(_participant(1));
        federation.leave(); // does not count as done
        _expectWrongStatus(round, IFederation.Status.Reveal, IFederation.Status.Commit);
        _reveal(round, 0);
        _commit(round, 2);
        _reveal(round, 0);
        _reveal(round, 2);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Reveal);
        _proposeAs(aggregators[0], round, _verdicts(2));
        _reveal(round, 1); // it left, and may still reveal
        _propose(round, _verdicts(3));
    }

    function test_APenaltyForAnOldRoundDoesNotUndoANewCommitment() public {
        _fund(10_000);
        uint256 first = _openWith(2);
        _commit(first, 1);
        vm.warp(START + COMMIT + REVEAL);
        federation.abandon(first);
        uint256 second = _open();
        _commitAll(second, 2);
        federation.penalize(first, _participant(1));
        _revealAll(second, 2);
        _propose(second, _verdicts(2));
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(second, _verdicts(2));
        vm.assertGt(federation.creditOf(_participant(1)), 0, "paid for the second round");
    }

    function _expectMismatch(bytes32 committed, bytes32 opened) private {
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.CommitmentMismatch.selector, bytes31(committed), bytes31(opened))
        );
    }

    function _refuseVerdicts(uint256 round, IFederation.Verdict[] memory verdicts) private {
        bytes32 proposed = federation.getRound(round).verdictsHash;
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.VerdictsMismatch.selector, keccak256(abi.encode(verdicts)), proposed)
        );
        federation.finalize(round, verdicts);
    }
}
