// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev openRound
///      ├── not the current aggregator: NotAggregator; not bonded: WrongAggregatorState
///      ├── a round is open: RoundStillOpen
///      ├── every round used, or too late: FederationOver
///      ├── nobody active: NoParticipants
///      ├── escrow below one reward and fee: EscrowTooLow
///      └── else: seed and deadlines are fixed, RoundOpened
///      propose
///      ├── not its phase: WrongStatus; not the current aggregator: NotAggregator
///      ├── a zero digest: ZeroDigest
///      ├── not one verdict a reveal: VerdictCount
///      ├── out of order or twice: VerdictOrder
///      ├── about a participant that did not reveal: WrongSubmissionState
///      ├── weight, score and reason at odds: InvalidVerdict
///      ├── none accepted and another model: ModelMustStay
///      └── else: root, manifest, hash and deadline on record, Proposed
///      finalize
///      ├── not its phase: WrongStatus
///      ├── other verdicts: VerdictsMismatch
///      ├── no positive share: nobody is paid, no fee
///      └── else: shares rounded down, fee, remainder stays, Paid and Finalized
///      abandon
///      ├── not empty or late: WrongStatus
///      ├── a standby could go on: StandbyAvailable
///      ├── empty: no bond is lost, Abandoned
///      └── late, nobody left: the bond goes to the escrow, Abandoned
contract RoundTest is World {
    // -------------------------------------------------------------- openRound

    function test_OpenFixesSeedAndDeadlines() public {
        _fund(REWARD + FEE);
        _bond(aggregators[0]);
        _join(3);
        vm.prevrandao(keccak256("randao"));
        vm.warp(START + 77);
        bytes32 seed =
            keccak256(abi.encode(keccak256("randao"), blockhash(block.number - 1), address(federation), uint256(1)));
        uint40 opened = uint40(START + 77);
        vm.expectEmit(address(federation));
        emit IFederation.RoundOpened(
            1, aggregators[0], seed, opened + COMMIT, opened + COMMIT + REVEAL, opened + COMMIT + REVEAL + PROPOSE, 3
        );
        vm.assertEq(_open(), 1);
        vm.assertEq(federation.roundCount(), 1);
        IFederation.Round memory expected;
        expected.commitDeadline = opened + COMMIT;
        expected.revealDeadline = opened + COMMIT + REVEAL;
        expected.proposeDeadline = opened + COMMIT + REVEAL + PROPOSE;
        expected.expected = 3;
        expected.seed = seed;
        vm.assertEq(abi.encode(federation.getRound(1)), abi.encode(expected));
    }

    function test_RevertWhen_AnotherAggregatorOpens() public {
        _bond(aggregators[1]);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotAggregator.selector, aggregators[1], aggregators[0]));
        vm.prank(aggregators[1]);
        federation.openRound();
    }

    function test_RevertWhen_OpeningWithoutBond() public {
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.WrongAggregatorState.selector,
                aggregators[0],
                IFederation.AggregatorState.Bonded,
                IFederation.AggregatorState.Listed
            )
        );
        vm.prank(aggregators[0]);
        federation.openRound();
    }

    function test_RevertWhen_OpeningUnderAnOpenRound() public {
        uint256 round = _openWith(1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RoundStillOpen.selector, round, IFederation.Status.Commit));
        vm.prank(aggregators[0]);
        federation.openRound();
    }

    function test_RevertWhen_EveryRoundIsUsed() public {
        IFederation.Terms memory terms = _terms();
        terms.rounds = 1;
        federation = _deploy(terms);
        _finalizedWith(1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationOver.selector, 1, START + 100_000));
        vm.prank(aggregators[0]);
        federation.openRound();
    }

    function test_OpenUpToTheLastSecond() public {
        _fund(REWARD + FEE);
        _bond(aggregators[0]);
        _join(1);
        vm.warp(START + 100_000);
        vm.expectRevert(abi.encodeWithSelector(IFederation.FederationOver.selector, 0, START + 100_000));
        vm.prank(aggregators[0]);
        federation.openRound();
        vm.warp(START + 99_999);
        vm.assertEq(_open(), 1);
    }

    function test_RevertWhen_NobodyTakesPart() public {
        _fund(REWARD + FEE);
        _bond(aggregators[0]);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NoParticipants.selector));
        vm.prank(aggregators[0]);
        federation.openRound();
    }

    function test_OpenNeedsRewardAndFeeInEscrow() public {
        _bond(aggregators[0]);
        _join(1);
        _fund(REWARD + FEE - 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.EscrowTooLow.selector, REWARD + FEE - 1, REWARD + FEE));
        vm.prank(aggregators[0]);
        federation.openRound();
        _fund(1);
        vm.assertEq(_open(), 1);
    }

    // ---------------------------------------------------------------- propose

    function test_ProposalIsOnRecord() public {
        uint256 round = _revealedWith(3);
        IFederation.Verdict[] memory verdicts = _verdicts(3);
        verdicts[1] = _rejection(1, 8);
        uint40 deadline = uint40(block.timestamp + CHALLENGE);
        vm.expectEmit(address(federation));
        emit IFederation.Proposed(round, aggregators[0], NEW_ROOT, NEW_MANIFEST, deadline, verdicts);
        _proposeAs(aggregators[0], round, verdicts);
        IFederation.Round memory proposed = federation.getRound(round);
        vm.assertEq(proposed.modelRoot, NEW_ROOT);
        vm.assertEq(proposed.modelManifest, NEW_MANIFEST);
        vm.assertEq(proposed.verdictsHash, keccak256(abi.encode(verdicts)));
        vm.assertEq(proposed.challengeDeadline, deadline);
        (bytes32 root,) = federation.currentModel();
        vm.assertEq(root, INITIAL_ROOT); // not before it is settled
    }

    function test_ProposalIsTakenUpToTheLastSecond() public {
        uint256 round = _revealedWith(1);
        uint256 deadline = federation.getRound(round).proposeDeadline;
        vm.warp(deadline);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Expired);
        _proposeAs(aggregators[0], round, _verdicts(1));
        vm.warp(deadline - 1);
        _proposeAs(aggregators[0], round, _verdicts(1));
    }

    function test_RevertWhen_ProposingOutsideItsPhase() public {
        uint256 round = _openWith(2);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Commit);
        _proposeAs(aggregators[0], round, _verdicts(2));
        _commitAll(round, 2);
        _reveal(round, 0);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Reveal);
        _proposeAs(aggregators[0], round, _verdicts(1));
        _reveal(round, 1);
        _proposeAs(aggregators[0], round, _verdicts(2));
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Challenge);
        _proposeAs(aggregators[0], round, _verdicts(2));
    }

    function test_RevertWhen_AnotherAggregatorProposes() public {
        uint256 round = _revealedWith(1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotAggregator.selector, aggregators[1], aggregators[0]));
        vm.prank(aggregators[1]);
        federation.propose(round, NEW_ROOT, NEW_MANIFEST, _verdicts(1));
    }

    function test_RevertWhen_ProposingAZeroDigest() public {
        uint256 round = _revealedWith(1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(aggregators[0]);
        federation.propose(round, 0, NEW_MANIFEST, _verdicts(1));
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(aggregators[0]);
        federation.propose(round, NEW_ROOT, 0, _verdicts(1));
    }

    function test_RevertWhen_AVerdictIsMissingOrTooMany() public {
        uint256 round = _revealedWith(3);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictCount.selector, 2, 3));
        _proposeAs(aggregators[0], round, _verdicts(2));
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictCount.selector, 4, 3));
        _proposeAs(aggregators[0], round, _verdicts(4));
    }

    function test_RevertWhen_VerdictsAreOutOfOrderOrTwice() public {
        uint256 round = _revealedWith(3);
        IFederation.Verdict[] memory verdicts = _verdicts(3);
        (verdicts[1], verdicts[2]) = (verdicts[2], verdicts[1]);
        _refuseOrder(round, verdicts, _participant(2), _participant(1));
        verdicts = _verdicts(3);
        verdicts[1] = _verdict(0);
        _refuseOrder(round, verdicts, _participant(0), _participant(0));
        verdicts = _verdicts(3);
        verdicts[0].participant = address(0);
        _refuseOrder(round, verdicts, address(0), address(0));
    }

    function test_RevertWhen_AVerdictIsAboutSomebodyWhoDidNotReveal() public {
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        _reveal(round, 0);
        vm.warp(START + COMMIT + REVEAL);
        IFederation.Verdict[] memory verdicts = new IFederation.Verdict[](1);
        IFederation.SubmissionState revealed = IFederation.SubmissionState.Revealed;
        verdicts[0] = _verdict(1);
        _expectWrongSubmission(round, _participant(1), revealed, IFederation.SubmissionState.Committed);
        _proposeAs(aggregators[0], round, verdicts);
        verdicts[0] = _verdict(2);
        _expectWrongSubmission(round, _participant(2), revealed, IFederation.SubmissionState.None);
        _proposeAs(aggregators[0], round, verdicts);
        federation.penalize(round, _participant(1));
        verdicts[0] = _rejection(1, 1);
        _expectWrongSubmission(round, _participant(1), revealed, IFederation.SubmissionState.Penalized);
        _proposeAs(aggregators[0], round, verdicts);
    }

    function test_RevertWhen_WeightScoreAndReasonAreAtOdds() public {
        uint256 round = _revealedWith(1);
        _refuseVerdict(round, 0, FULL, 0); // accepted without weight
        _refuseVerdict(round, WEIGHT_CAP + 1, FULL, 0);
        _refuseVerdict(round, 1, FULL + 1, 0);
        _refuseVerdict(round, 1, 0, 8); // rejected with weight
        _refuseVerdict(round, 0, 1, 8); // rejected with score
        _refuseVerdict(round, 0, 0, 0);
    }

    function test_EdgesOfAVerdictAreTaken() public {
        uint256 round = _revealedWith(4);
        IFederation.Verdict[] memory verdicts = _verdicts(4);
        verdicts[0].weight = WEIGHT_CAP;
        verdicts[1].weight = 1;
        verdicts[2].score = 0;
        verdicts[3] = _rejection(3, 255);
        _proposeAs(aggregators[0], round, verdicts);
        _assertStatus(round, IFederation.Status.Challenge);
    }

    function test_WithNothingAcceptedTheModelStays() public {
        uint256 round = _revealedWith(1);
        IFederation.Verdict[] memory verdicts = new IFederation.Verdict[](1);
        verdicts[0] = _rejection(0, 7);
        _refuseNewModel(round, NEW_ROOT, INITIAL_MANIFEST, verdicts);
        _refuseNewModel(round, INITIAL_ROOT, NEW_MANIFEST, verdicts);
        vm.prank(aggregators[0]);
        federation.propose(round, INITIAL_ROOT, INITIAL_MANIFEST, verdicts);
        vm.warp(block.timestamp + CHALLENGE);
        vm.expectEmit(address(federation));
        emit IFederation.Finalized(round, INITIAL_ROOT, INITIAL_MANIFEST, aggregators[0], 0, 0);
        federation.finalize(round, verdicts);
        vm.assertEq(federation.escrow(), REWARD + FEE);
        vm.assertEq(federation.creditOf(aggregators[0]), 0);
    }

    function test_AnEmptyRoundMayBeProposedAsItIs() public {
        uint256 round = _openWith(2);
        vm.warp(START + COMMIT);
        IFederation.Verdict[] memory none = new IFederation.Verdict[](0);
        vm.prank(aggregators[0]);
        federation.propose(round, INITIAL_ROOT, INITIAL_MANIFEST, none);
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, none);
        _assertStatus(round, IFederation.Status.Finalized);
        vm.assertEq(federation.escrow(), REWARD + FEE);
    }

    // --------------------------------------------------------------- finalize

    function test_FinalizePaysSharesRoundedDown() public {
        uint256 round = _revealedWith(4);
        IFederation.Verdict[] memory verdicts = _verdicts(4);
        verdicts[0].weight = 3;
        verdicts[1].weight = 4;
        verdicts[1].score = 5000;
        verdicts[2].weight = 2;
        verdicts[3] = _rejection(3, 8);
        _proposeAs(aggregators[0], round, verdicts);
        vm.warp(block.timestamp + CHALLENGE);
        // shares 3, 2 and 2 of 7
        vm.expectEmit(address(federation));
        emit IFederation.Paid(round, _participant(0), 428);
        vm.expectEmit(address(federation));
        emit IFederation.Paid(round, _participant(1), 285);
        vm.expectEmit(address(federation));
        emit IFederation.Paid(round, _participant(2), 285);
        vm.expectEmit(address(federation));
        emit IFederation.Finalized(round, NEW_ROOT, NEW_MANIFEST, aggregators[0], FEE, 998 + FEE);
        vm.prank(stranger);
        federation.finalize(round, verdicts);
        vm.assertEq(federation.creditOf(_participant(0)), 428);
        vm.assertEq(federation.creditOf(_participant(1)), 285);
        vm.assertEq(federation.creditOf(_participant(2)), 285);
        vm.assertEq(federation.creditOf(_participant(3)), 0);
        vm.assertEq(federation.creditOf(aggregators[0]), FEE);
        vm.assertEq(federation.escrow(), 2);
        vm.assertEq(federation.idleSince(), block.timestamp);
    }

    function test_TheNextRoundStartsFromTheFinalizedModel() public {
        uint256 round = _finalizedWith(2);
        vm.assertEq(federation.lastFinalizedRound(), round);
        (bytes32 root, bytes32 manifest) = federation.currentModel();
        vm.assertEq(root, NEW_ROOT);
        vm.assertEq(manifest, NEW_MANIFEST);
        _fund(2000);
        round = _open();
        _commit(round, 0);
        vm.warp(block.timestamp + COMMIT + REVEAL);
        federation.abandon(round);
        (root,) = federation.currentModel();
        vm.assertEq(root, NEW_ROOT);
    }

    function test_WithEveryScoreZeroNobodyIsPaid() public {
        uint256 round = _revealedWith(2);
        IFederation.Verdict[] memory verdicts = _verdicts(2);
        verdicts[0].score = 0;
        verdicts[1].score = 0;
        _proposeAs(aggregators[0], round, verdicts);
        vm.warp(block.timestamp + CHALLENGE);
        vm.expectEmit(address(federation));
        emit IFederation.Finalized(round, NEW_ROOT, NEW_MANIFEST, aggregators[0], 0, 0);
        federation.finalize(round, verdicts);
        vm.assertEq(federation.escrow(), REWARD + FEE);
    }

    function test_AShareBelowOneUnitIsNotPaid() public {
        uint256 round = _revealedWith(2);
        IFederation.Verdict[] memory verdicts = _verdicts(2);
        verdicts[0].weight = 1;
        verdicts[0].score = 1;
        verdicts[1].weight = WEIGHT_CAP;
        _proposeAs(aggregators[0], round, verdicts);
        vm.warp(block.timestamp + CHALLENGE);
        vm.recordLogs();
        federation.finalize(round, verdicts);
        vm.assertEq(vm.getRecordedLogs().length, 2, "one Paid and Finalized");
        vm.assertEq(federation.creditOf(_participant(0)), 0);
        vm.assertEq(federation.creditOf(_participant(1)), REWARD - 1);
        vm.assertEq(federation.escrow(), 1);
    }

    function test_FinalizeFromTheFirstSecondAfterTheWindow() public {
        uint256 round = _proposedWith(1);
        uint256 deadline = federation.getRound(round).challengeDeadline;
        vm.warp(deadline - 1);
        _expectWrongStatus(round, IFederation.Status.Settleable, IFederation.Status.Challenge);
        federation.finalize(round, _verdicts(1));
        vm.warp(deadline);
        federation.finalize(round, _verdicts(1));
        _expectWrongStatus(round, IFederation.Status.Settleable, IFederation.Status.Finalized);
        federation.finalize(round, _verdicts(1));
        vm.assertEq(federation.creditOf(_participant(0)), REWARD);
    }

    function test_RevertWhen_FinalizingARoundWithoutProposal() public {
        _expectWrongStatus(7, IFederation.Status.Settleable, IFederation.Status.None);
        federation.finalize(7, _verdicts(1));
        uint256 round = _revealedWith(1);
        _expectWrongStatus(round, IFederation.Status.Settleable, IFederation.Status.Propose);
        federation.finalize(round, _verdicts(1));
    }

    function testFuzz_SharesAddUp(uint32[6] memory weights, uint16[6] memory scores, uint128 reward) public {
        IFederation.Terms memory terms = _terms();
        terms.roundReward = uint128(_bound(reward, 0, type(uint96).max));
        federation = _deploy(terms);
        uint256 round = _revealedWith(6);
        IFederation.Verdict[] memory verdicts = _verdicts(6);
        uint256 total = 0;
        for (uint256 i = 0; i < 6; ++i) {
            verdicts[i].weight = uint32(_bound(weights[i], 1, WEIGHT_CAP));
            verdicts[i].score = uint16(_bound(scores[i], 0, FULL));
            total += uint256(verdicts[i].weight) * verdicts[i].score;
        }
        _proposeAs(aggregators[0], round, verdicts);
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, verdicts);
        uint256 paid = 0;
        for (uint256 i = 0; i < 6; ++i) {
            uint256 credit = federation.creditOf(_participant(i));
            uint256 share = uint256(verdicts[i].weight) * verdicts[i].score;
            // credit is the whole part of reward * share / total
            vm.assertLe(credit * total, terms.roundReward * share, "too much");
            if (total != 0) vm.assertGt((credit + 1) * total, terms.roundReward * share, "too little");
            paid += credit;
        }
        uint256 fee = total == 0 ? 0 : FEE;
        vm.assertEq(federation.creditOf(aggregators[0]), fee);
        vm.assertEq(federation.escrow(), terms.roundReward + FEE - paid - fee);
    }

    // ---------------------------------------------------------------- abandon

    function test_AnEmptyRoundEndsWithoutLoss() public {
        uint256 round = _openWith(2);
        vm.warp(START + COMMIT);
        vm.expectEmit(address(federation));
        emit IFederation.Abandoned(round);
        vm.prank(stranger);
        federation.abandon(round);
        _assertStatus(round, IFederation.Status.Abandoned);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
        vm.assertEq(federation.idleSince(), block.timestamp);
        vm.assertEq(federation.escrow(), REWARD + FEE);
        vm.assertEq(_open(), round + 1);
    }

    function test_AnEmptyRoundEndsWithoutLossEvenLate() public {
        uint256 round = _openWith(2);
        _commitAll(round, 2);
        vm.warp(START + COMMIT + REVEAL + PROPOSE);
        _assertStatus(round, IFederation.Status.Expired);
        federation.abandon(round);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
    }

    function test_RevertWhen_AbandoningARoundThatGoesOn() public {
        _refuseAbandoning(1, IFederation.Status.None);
        uint256 round = _openWith(2);
        _refuseAbandoning(round, IFederation.Status.Commit);
        _commitAll(round, 2);
        _refuseAbandoning(round, IFederation.Status.Reveal);
        _revealAll(round, 2);
        _refuseAbandoning(round, IFederation.Status.Propose);
        _proposeAs(aggregators[0], round, _verdicts(2));
        _refuseAbandoning(round, IFederation.Status.Challenge);
        vm.warp(block.timestamp + CHALLENGE);
        _refuseAbandoning(round, IFederation.Status.Settleable);
        federation.finalize(round, _verdicts(2));
        _refuseAbandoning(round, IFederation.Status.Finalized);
    }

    function test_RevertWhen_AbandoningTwice() public {
        uint256 round = _openWith(1);
        vm.warp(START + COMMIT);
        federation.abandon(round);
        _refuseAbandoning(round, IFederation.Status.Abandoned);
    }

    function test_RevertWhen_AStandbyCouldGoOn() public {
        uint256 round = _revealedWith(1);
        vm.warp(federation.getRound(round).proposeDeadline);
        vm.expectRevert(abi.encodeWithSelector(IFederation.StandbyAvailable.selector, aggregators[1]));
        federation.abandon(round);
    }

    function test_ALateRoundWithoutStandbyCostsTheBond() public {
        _fund(REWARD + FEE);
        _bond(aggregators[0]);
        _join(1);
        uint256 round = _open();
        _commit(round, 0);
        _reveal(round, 0);
        uint256 deadline = federation.getRound(round).proposeDeadline;
        vm.warp(deadline - 1);
        _refuseAbandoning(round, IFederation.Status.Propose);
        vm.warp(deadline);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorSlashed(round, aggregators[0], BOND);
        vm.expectEmit(address(federation));
        emit IFederation.Abandoned(round);
        federation.abandon(round);
        vm.assertEq(federation.escrow(), REWARD + FEE + BOND);
        vm.assertEq(federation.lastFinalizedRound(), 0);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    // ---------------------------------------------------------------- helpers

    function _refuseOrder(uint256 round, IFederation.Verdict[] memory verdicts, address previous, address next)
        private
    {
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOrder.selector, previous, next));
        _proposeAs(aggregators[0], round, verdicts);
    }

    function _refuseVerdict(uint256 round, uint32 weight, uint16 score, uint8 reason) private {
        IFederation.Verdict[] memory verdicts = new IFederation.Verdict[](1);
        verdicts[0] = IFederation.Verdict(_participant(0), weight, score, reason);
        vm.expectRevert(
            abi.encodeWithSelector(IFederation.InvalidVerdict.selector, _participant(0), weight, score, reason)
        );
        _proposeAs(aggregators[0], round, verdicts);
    }

    function _refuseNewModel(uint256 round, bytes32 root, bytes32 manifest, IFederation.Verdict[] memory verdicts)
        private
    {
        vm.expectRevert(abi.encodeWithSelector(IFederation.ModelMustStay.selector, root, INITIAL_ROOT));
        vm.prank(aggregators[0]);
        federation.propose(round, root, manifest, verdicts);
    }

    function _refuseAbandoning(uint256 round, IFederation.Status actual) private {
        _expectWrongStatus(round, IFederation.Status.Expired, actual);
        federation.abandon(round);
    }
}
