// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev propose, finalize and abandon.
contract ProposalsTest is World {
    // ---------------------------------------------------------------- propose

    /// @notice A proposal is on record with its hash and deadline, and is not the current model before it is settled.
    function test_AProposalIsOnRecord() public {
        uint256 round = _revealedWith(3);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 3);
        verdicts[1] = _rejection(round, 1, 8);
        uint40 deadline = uint40(block.timestamp + CHALLENGE);
        vm.expectEmit(address(federation));
        emit IFederation.Proposed(round, aggregators[0], NEW_ROOT, NEW_MANIFEST, deadline, verdicts);
        _propose(round, verdicts);
        IFederation.Round memory facts = federation.getRound(round);
        vm.assertEq(facts.modelRoot, NEW_ROOT);
        vm.assertEq(facts.modelManifest, NEW_MANIFEST);
        vm.assertEq(facts.verdictsHash, keccak256(abi.encode(verdicts)));
        vm.assertEq(facts.nextDeadline, deadline);
        vm.assertEq(facts.proposals, 1);
        vm.assertEq(uint8(facts.stage), uint8(IFederation.Stage.Proposed), "stage");
        _assertStatus(round, IFederation.Status.Challenge);
        (bytes32 root,) = federation.currentModel();
        vm.assertEq(root, INITIAL_ROOT);
    }

    /// @notice Proposals are taken up to the last second before the deadline.
    function test_AProposalIsTakenUpToTheLastSecond() public {
        uint256 round = _revealedWith(1);
        uint256 deadline = federation.getRound(round).nextDeadline;
        IFederation.Verdict[] memory verdicts = _verdicts(round, 1);
        vm.warp(deadline);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Expired);
        _proposeAs(aggregators[0], round, verdicts);
        vm.warp(deadline - 1);
        _proposeAs(aggregators[0], round, verdicts);
    }

    /// @notice Nothing is proposed before the reveals are in, twice, or for no round.
    function test_RevertWhen_ProposingOutsideItsPhase() public {
        uint256 round = _openWith(3);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 1);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Commit);
        _proposeAs(aggregators[0], round, verdicts);
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        _reveal(round, 0);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Reveal);
        _proposeAs(aggregators[0], round, verdicts);
        vm.warp(START + COMMIT + REVEAL);
        _proposeAs(aggregators[0], round, verdicts);
        _expectWrongStatus(round, IFederation.Status.Propose, IFederation.Status.Challenge);
        _proposeAs(aggregators[0], round, verdicts);
        _expectWrongStatus(7, IFederation.Status.Propose, IFederation.Status.None);
        _proposeAs(aggregators[0], 7, verdicts);
    }

    /// @notice Only the current aggregator proposes.
    function test_RevertWhen_AnotherAggregatorProposes() public {
        uint256 round = _revealedWith(1);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotAggregator.selector, aggregators[1], aggregators[0]));
        _proposeAs(aggregators[1], round, verdicts);
    }

    /// @notice Root and manifest name something.
    function test_RevertWhen_ProposingAZeroDigest() public {
        uint256 round = _revealedWith(1);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(aggregators[0]);
        federation.propose(round, 0, NEW_MANIFEST, verdicts);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ZeroDigest.selector));
        vm.prank(aggregators[0]);
        federation.propose(round, NEW_ROOT, 0, verdicts);
    }

    /// @notice Every reveal has one verdict.
    function test_RevertWhen_AVerdictIsMissingOrTooMany() public {
        uint256 round = _revealedWith(3);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 2);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictCount.selector, 2, 3));
        _proposeAs(aggregators[0], round, verdicts);
        verdicts = _verdicts(round, 4);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictCount.selector, 4, 3));
        _proposeAs(aggregators[0], round, verdicts);
    }

    /// @notice Verdicts are in ascending order of participant, each once.
    function test_RevertWhen_VerdictsAreOutOfOrderOrTwice() public {
        uint256 round = _revealedWith(3);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 3);
        (verdicts[1], verdicts[2]) = (verdicts[2], verdicts[1]);
        _refuseOrder(round, verdicts, _participant(2), _participant(1));
        verdicts = _verdicts(round, 3);
        verdicts[1] = _verdict(round, 0);
        _refuseOrder(round, verdicts, _participant(0), _participant(0));
        verdicts = _verdicts(round, 3);
        verdicts[0].participant = address(0);
        _refuseOrder(round, verdicts, address(0), address(0));
    }

    /// @notice Verdicts are about those who revealed.
    function test_RevertWhen_AVerdictIsAboutSomebodyWhoDidNotReveal() public {
        uint256 round = _openWith(4);
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        _reveal(round, 0);
        vm.warp(START + COMMIT + REVEAL);
        IFederation.Verdict[] memory verdicts = new IFederation.Verdict[](1);
        IFederation.SubmissionState revealed = IFederation.SubmissionState.Revealed;
        verdicts[0] = _verdict(round, 1);
        verdicts[0].revealed = federation.getSubmission(round, _participant(1)).digest;
        _expectWrongSubmission(round, _participant(1), revealed, IFederation.SubmissionState.Committed);
        _proposeAs(aggregators[0], round, verdicts);
        verdicts[0] = _verdict(round, 2);
        verdicts[0].revealed = 0;
        _expectWrongSubmission(round, _participant(2), revealed, IFederation.SubmissionState.None);
        _proposeAs(aggregators[0], round, verdicts);
        federation.penalize(round, _participant(1));
        verdicts[0] = _rejection(round, 1, 1);
        verdicts[0].revealed = federation.getSubmission(round, _participant(1)).digest;
        _expectWrongSubmission(round, _participant(1), revealed, IFederation.SubmissionState.Penalized);
        _proposeAs(aggregators[0], round, verdicts);
    }

    /// @notice A verdict names what was revealed, accepted or not: after a reorganisation it may be something else.
    function test_RevertWhen_AVerdictNamesOtherReveals() public {
        uint256 round = _revealedWith(2);
        for (uint256 i = 0; i < 2; ++i) {
            IFederation.Verdict[] memory verdicts = _verdicts(round, 2);
            verdicts[1] = _rejection(round, 1, 8);
            verdicts[i].revealed = _digest(round, 7);
            vm.expectRevert(
                abi.encodeWithSelector(
                    IFederation.RevealMismatch.selector, _participant(i), _digest(round, 7), _digest(round, i)
                )
            );
            _proposeAs(aggregators[0], round, verdicts);
        }
    }

    /// @notice A verdict with bits that its types do not have is refused: its hash would be one that nobody could give
    ///         again, and the proposal beyond dispute.
    function test_RevertWhen_AVerdictHasStrangeBits() public {
        uint256 round = _revealedWith(2);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 2);
        bytes memory call = abi.encodeCall(IFederation.propose, (round, NEW_ROOT, NEW_MANIFEST, verdicts));
        uint256 first = 4 + 32 * 5; // behind selector, round, root, manifest, offset and length
        for (uint256 field = 0; field < 10; ++field) {
            uint256 place = first + 32 * field + (field % 5 == 1 ? 31 : 0);
            call[place] ^= 0x01;
            vm.prank(aggregators[0]);
            (bool isProposed,) = address(federation).call(call);
            vm.assertFalse(isProposed, vm.toString(field));
            call[place] ^= 0x01;
        }
        vm.prank(aggregators[0]);
        (bool isTaken,) = address(federation).call(call);
        vm.assertTrue(isTaken, "as it is");
        vm.assertEq(federation.getRound(round).verdictsHash, keccak256(abi.encode(verdicts)));
    }

    /// @notice However the verdicts lie in the call, their hash is that of the one encoding.
    function test_TheHashIsThatOfTheOneEncoding() public {
        uint256 round = _revealedWith(2);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 2);
        bytes memory packed = abi.encode(verdicts);
        bytes memory tail = new bytes(packed.length - 32); // without its own offset
        for (uint256 k = 0; k < tail.length; ++k) {
            tail[k] = packed[k + 32];
        }
        // A word of nonsense stands before the array.
        bytes memory call = bytes.concat(
            IFederation.propose.selector, abi.encode(round, NEW_ROOT, NEW_MANIFEST, 160), abi.encode(uint256(7)), tail
        );
        vm.prank(aggregators[0]);
        (bool isTaken,) = address(federation).call(call);
        vm.assertTrue(isTaken, "taken");
        vm.assertEq(federation.getRound(round).verdictsHash, keccak256(abi.encode(verdicts)));
        _finalize(round, verdicts);
    }

    /// @notice Under equal scoring a verdict is (1..cap, 10,000, 0) or (0, 0, reason).
    function test_RevertWhen_WeightScoreAndReasonAreAtOdds() public {
        uint256 round = _revealedWith(1);
        _refuseVerdict(round, 0, FULL, 0); // accepted without weight
        _refuseVerdict(round, WEIGHT_CAP + 1, FULL, 0);
        _refuseVerdict(round, type(uint32).max, FULL, 0);
        _refuseVerdict(round, 1, FULL + 1, 0);
        _refuseVerdict(round, 1, FULL - 1, 0);
        _refuseVerdict(round, 1, 0, 0);
        _refuseVerdict(round, 1, 0, 8); // rejected with weight
        _refuseVerdict(round, 1, FULL, 8);
        _refuseVerdict(round, 0, 1, 8); // rejected with score
        _refuseVerdict(round, 0, 0, 0);
    }

    /// @notice Under held-out scoring an accepted update has any score up to 10,000.
    function test_HeldOutScoresAreTaken() public {
        IFederation.Terms memory terms = _terms();
        terms.rules.scoring = IFederation.Scoring.HeldOut;
        federation = _deploy(terms);
        uint256 round = _revealedWith(4);
        _refuseVerdictOf(round, 4, 1, FULL + 1, 0);
        _refuseVerdictOf(round, 4, 0, 0, 0);
        _refuseVerdictOf(round, 4, 0, FULL, 0);
        _refuseVerdictOf(round, 4, 1, 0, 13);
        _refuseVerdictOf(round, 4, WEIGHT_CAP + 1, 1, 0);
        _refuseVerdictOf(round, 4, 0, 1, 13);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 4);
        verdicts[0].score = 0;
        verdicts[1].score = 1;
        verdicts[2].score = FULL;
        verdicts[3] = _rejection(round, 3, 13);
        _propose(round, verdicts);
        _assertStatus(round, IFederation.Status.Challenge);
    }

    /// @notice The outermost weights and reasons are taken.
    function test_EdgesOfAVerdictAreTaken() public {
        uint256 round = _revealedWith(4);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 4);
        verdicts[0].weight = WEIGHT_CAP;
        verdicts[1].weight = 1;
        verdicts[2] = _rejection(round, 2, 1);
        verdicts[3] = _rejection(round, 3, 255);
        _propose(round, verdicts);
        _assertStatus(round, IFederation.Status.Challenge);
    }

    /// @notice With nothing accepted, root and manifest stay, and nobody is paid, the aggregator included.
    function test_WithNothingAcceptedTheModelStays() public {
        uint256 round = _revealedWith(1);
        IFederation.Verdict[] memory verdicts = _rejections(round, 1, 7);
        _refuseNewModel(round, NEW_ROOT, INITIAL_MANIFEST, verdicts);
        _refuseNewModel(round, INITIAL_ROOT, NEW_MANIFEST, verdicts);
        _proposeNothing(round, 1, 7);
        vm.warp(block.timestamp + CHALLENGE);
        vm.expectEmit(address(federation));
        emit IFederation.Finalized(round, INITIAL_ROOT, INITIAL_MANIFEST, aggregators[0], 0, 0);
        federation.finalize(round, verdicts);
        vm.assertEq(federation.escrow(), ESCROW);
        vm.assertEq(federation.creditOf(aggregators[0]), 0);
    }

    /// @notice A round without reveals may be proposed instead of abandoned: the model stays, and there is no fee.
    function test_AnEmptyRoundMayBeProposed() public {
        uint256 round = _openWith(1);
        vm.warp(START + COMMIT);
        IFederation.Verdict[] memory none = new IFederation.Verdict[](0);
        _refuseNewModel(round, NEW_ROOT, NEW_MANIFEST, none);
        _proposeNothing(round, 0, 7);
        _finalize(round, none);
        vm.assertEq(federation.creditOf(aggregators[0]), 0);
        vm.assertEq(federation.escrow(), ESCROW);
        (bytes32 root, bytes32 manifest) = federation.currentModel();
        vm.assertEq(root, INITIAL_ROOT);
        vm.assertEq(manifest, INITIAL_MANIFEST);
    }

    /// @notice The model that must stay is that of the last finalized round, whatever was abandoned since.
    function test_TheModelThatStaysIsTheLastFinalizedOne() public {
        _finalizedWith(1);
        _fund(3 * ESCROW);
        _mine();
        uint256 empty = _open();
        vm.warp(block.timestamp + COMMIT);
        federation.abandon(empty);
        uint256 round = _open();
        _commitAll(round, 1);
        _revealAll(round, 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ModelMustStay.selector, INITIAL_ROOT, NEW_ROOT));
        vm.prank(aggregators[0]);
        federation.propose(round, INITIAL_ROOT, INITIAL_MANIFEST, _rejections(round, 1, 7));
        _proposeNothing(round, 1, 7);
        _finalize(round, _rejections(round, 1, 7));
        vm.assertEq(federation.lastFinalizedRound(), round);
        (bytes32 root, bytes32 manifest) = federation.currentModel();
        vm.assertEq(root, NEW_ROOT);
        vm.assertEq(manifest, NEW_MANIFEST);
    }

    // --------------------------------------------------------------- finalize

    /// @notice Each accepted update is paid the posted price by its weight, rounded down, whoever else takes part; the
    ///         fee is scaled by the weight accepted of the weight revealed.
    function test_ARoundIsSettled() public {
        uint256 round = _revealedWith(3);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 3);
        verdicts[1] = _rejection(round, 1, 8);
        _propose(round, verdicts);
        vm.warp(federation.getRound(round).nextDeadline);
        _assertStatus(round, IFederation.Status.Settleable);
        uint256 fee = uint256(FEE) * 202 / 303; // 33
        vm.expectEmit(address(federation));
        emit IFederation.Paid(round, _participant(0), 100);
        vm.expectEmit(address(federation));
        emit IFederation.Paid(round, _participant(2), 102);
        vm.expectEmit(address(federation));
        emit IFederation.Finalized(round, NEW_ROOT, NEW_MANIFEST, aggregators[0], fee, 202 + fee);
        vm.prank(stranger);
        federation.finalize(round, verdicts);
        vm.assertEq(federation.creditOf(_participant(0)), 100);
        vm.assertEq(federation.creditOf(_participant(1)), 0);
        vm.assertEq(federation.creditOf(_participant(2)), 102);
        vm.assertEq(federation.creditOf(aggregators[0]), fee);
        vm.assertEq(federation.escrow(), ESCROW - 202 - fee);
        _assertStatus(round, IFederation.Status.Finalized);
        vm.assertEq(federation.lastFinalizedRound(), round);
        vm.assertEq(federation.idleSince(), block.timestamp);
        (bytes32 root, bytes32 manifest) = federation.currentModel();
        vm.assertEq(root, NEW_ROOT);
        vm.assertEq(manifest, NEW_MANIFEST);
        vm.assertEq(uint8(federation.getRound(round).stage), uint8(IFederation.Stage.Finalized), "stage");
    }

    /// @notice floor(updateReward * w * score / (weightCap * 10,000)) each; floor(fee * accepted / revealed) for the
    ///         aggregator; the rest stays in escrow. Whatever the prices, weights and scores.
    /// forge-config: default.fuzz.runs = 64
    /// forge-config: deep.fuzz.runs = 10000
    function testFuzz_ThePostedPriceIsPaid(uint128 reward, uint128 fee, uint32 cap, uint256 seed) public {
        IFederation.Terms memory terms = _terms();
        terms.rules.scoring = IFederation.Scoring.HeldOut;
        terms.seats.weightCap = cap = uint32(_bound(cap, 1, ((1 << 24) - 1) / SEATS));
        terms.money.updateReward = reward = uint128(_bound(reward, 1, (1 << 112) - 1));
        terms.money.aggregatorFee = fee = uint128(_bound(fee, 0, (1 << 112) - 1));
        federation = _deploy(terms);
        uint256 count = 1 + seed % 4;
        uint256 round = _revealedWith(count);
        IFederation.Verdict[] memory verdicts = _verdicts(round, count);
        uint256 accepted = 0;
        for (uint256 i = 0; i < count; ++i) {
            uint256 drawn = uint256(keccak256(abi.encode(seed, i)));
            if (drawn % 4 == 0) verdicts[i] = _rejection(round, i, 12);
            else verdicts[i].score = uint16(drawn % 10_001);
            accepted += verdicts[i].weight;
        }
        if (accepted == 0) _proposeNothing(round, count, 12);
        else _propose(round, verdicts);
        uint256 escrow = federation.escrow();
        _finalize(round, verdicts);
        uint256 left = escrow;
        for (uint256 i = 0; i < count; ++i) {
            uint256 due = uint256(reward) * verdicts[i].weight * verdicts[i].score / (uint256(cap) * 10_000);
            vm.assertEq(federation.creditOf(_participant(i)), due, "price");
            left -= due;
        }
        uint256 dueFee = uint256(fee) * accepted / federation.getRound(round).revealedWeight;
        vm.assertEq(federation.creditOf(aggregators[0]), dueFee, "fee");
        vm.assertEq(federation.escrow(), left - dueFee, "escrow");
    }

    /// @notice A full round at full weight and score takes exactly what was asked for at its opening.
    function test_AFullRoundTakesExactlyTheEscrow() public {
        IFederation.Terms memory terms = _terms();
        terms.seats.weightCap = 100;
        federation = _deploy(terms);
        _finalizedWith(SEATS);
        vm.assertEq(federation.escrow(), 0);
        vm.assertEq(federation.creditOf(aggregators[0]), FEE);
        vm.assertEq(federation.creditOf(_participant(7)), REWARD);
    }

    /// @notice A round is not settled before its challenge window has passed, nor twice.
    function test_RevertWhen_SettlingOutsideItsPhase() public {
        uint256 round = _revealedWith(1);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 1);
        IFederation.Status required = IFederation.Status.Settleable;
        _expectWrongStatus(round, required, IFederation.Status.Propose);
        federation.finalize(round, verdicts);
        _propose(round, verdicts);
        vm.warp(federation.getRound(round).nextDeadline - 1);
        _expectWrongStatus(round, required, IFederation.Status.Challenge);
        federation.finalize(round, verdicts);
        vm.warp(federation.getRound(round).nextDeadline);
        federation.finalize(round, verdicts);
        _expectWrongStatus(round, required, IFederation.Status.Finalized);
        federation.finalize(round, verdicts);
    }

    /// @notice A round is settled with the verdicts that were proposed and no others.
    function test_RevertWhen_SettlingOtherVerdicts() public {
        uint256 round = _proposedWith(2);
        vm.warp(block.timestamp + CHALLENGE);
        IFederation.Verdict[] memory verdicts = _verdicts(round, 2);
        for (uint256 field = 0; field < 5; ++field) {
            IFederation.Verdict[] memory bent = _verdicts(round, 2);
            if (field == 0) bent[1].participant = stranger;
            if (field == 1) bent[1].revealed = 0;
            if (field == 2) bent[1].weight += 1;
            if (field == 3) bent[1].score -= 1;
            if (field == 4) bent[1].reason = 8;
            _refuseVerdicts(round, bent, verdicts);
        }
        _refuseVerdicts(round, _verdicts(round, 1), verdicts);
        _refuseVerdicts(round, _verdicts(round, 3), verdicts);
        federation.finalize(round, verdicts);
    }

    // ---------------------------------------------------------------- abandon

    /// @notice A round in which nobody revealed is abandoned after its reveal phase; nobody loses anything.
    function test_AnEmptyRoundIsAbandoned() public {
        uint256 round = _openWith(2);
        _refuseAbandoning(round, IFederation.Status.Commit);
        _commit(round, 0);
        vm.warp(START + COMMIT);
        _refuseAbandoning(round, IFederation.Status.Reveal);
        vm.warp(START + COMMIT + REVEAL);
        _assertStatus(round, IFederation.Status.Propose);
        vm.expectEmit(address(federation));
        emit IFederation.Abandoned(round);
        vm.prank(stranger);
        federation.abandon(round);
        _assertStatus(round, IFederation.Status.Abandoned);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
        vm.assertEq(federation.idleSince(), block.timestamp);
        vm.assertEq(federation.lastFinalizedRound(), 0);
        vm.assertEq(federation.escrow(), ESCROW);
        vm.assertEq(federation.burned(), 0);
        _refuseAbandoning(round, IFederation.Status.Abandoned);
    }

    /// @notice A round to which nobody committed is abandoned once its commit phase is over.
    function test_ARoundWithoutCommitmentsIsAbandoned() public {
        uint256 round = _openWith(2);
        vm.warp(START + COMMIT);
        _assertStatus(round, IFederation.Status.Propose);
        federation.abandon(round);
        _assertStatus(round, IFederation.Status.Abandoned);
    }

    /// @notice An empty round is abandoned without a slash even when the proposal deadline has passed too.
    function test_AnEmptyExpiredRoundCostsNobody() public {
        uint256 round = _openWith(2);
        vm.warp(START + COMMIT + REVEAL + PROPOSE);
        _assertStatus(round, IFederation.Status.Expired);
        federation.abandon(round);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Bonded);
        vm.assertEq(federation.burned(), 0);
    }

    /// @notice A round with updates is not abandoned as long as somebody can propose it.
    function test_RevertWhen_SomebodyCanPropose() public {
        uint256 round = _revealedWith(1);
        _refuseAbandoning(round, IFederation.Status.Propose);
        vm.warp(START + COMMIT + REVEAL + PROPOSE);
        vm.expectRevert(abi.encodeWithSelector(IFederation.StandbyAvailable.selector, aggregators[1]));
        federation.abandon(round);
        federation.replaceAggregator();
        _propose(round, _verdicts(round, 1));
        _refuseAbandoning(round, IFederation.Status.Challenge);
        vm.warp(block.timestamp + CHALLENGE);
        _refuseAbandoning(round, IFederation.Status.Settleable);
        federation.finalize(round, _verdicts(round, 1));
        _refuseAbandoning(round, IFederation.Status.Finalized);
        _refuseAbandoning(2, IFederation.Status.None);
    }

    /// @notice A late aggregator without a bonded standby loses its whole bond, burned; the federation is over.
    function test_ALateAggregatorWithoutStandby() public {
        _fund(ESCROW);
        _bond(aggregators[0]);
        _join(1);
        _mine();
        uint256 round = _open();
        _commitAll(round, 1);
        _revealAll(round, 1);
        vm.warp(START + COMMIT + REVEAL + PROPOSE);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorSlashed(round, aggregators[0], BOND);
        vm.expectEmit(address(federation));
        emit IFederation.Abandoned(round);
        federation.abandon(round);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.burned(), BOND);
        vm.assertEq(federation.escrow(), ESCROW);
        vm.assertEq(federation.bondedCount(), 0);
        vm.assertTrue(federation.isOver(), "over");
    }

    // --------------------------------------------------------------- helpers

    function _refuseOrder(uint256 round, IFederation.Verdict[] memory verdicts, address previous, address participant)
        private
    {
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOrder.selector, previous, participant));
        _proposeAs(aggregators[0], round, verdicts);
    }

    function _refuseVerdict(uint256 round, uint32 weight, uint16 score, uint8 reason) private {
        _refuseVerdictOf(round, 1, weight, score, reason);
    }

    /// @dev The first of `count` verdicts is at odds.
    function _refuseVerdictOf(uint256 round, uint256 count, uint32 weight, uint16 score, uint8 reason) private {
        IFederation.Verdict[] memory verdicts = _verdicts(round, count);
        (verdicts[0].weight, verdicts[0].score, verdicts[0].reason) = (weight, score, reason);
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

    function _refuseVerdicts(uint256 round, IFederation.Verdict[] memory given, IFederation.Verdict[] memory proposed)
        private
    {
        vm.expectRevert(
            abi.encodeWithSelector(
                IFederation.VerdictsMismatch.selector, keccak256(abi.encode(given)), keccak256(abi.encode(proposed))
            )
        );
        federation.finalize(round, given);
    }

    function _refuseAbandoning(uint256 round, IFederation.Status actual) private {
        _expectWrongStatus(round, IFederation.Status.Expired, actual);
        federation.abandon(round);
    }
}
