// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {DisputeWorld} from "./kit/DisputeWorld.sol";
import {Trees} from "./kit/Trees.sol";

/// @dev challengeAverage
///      ├── not in the challenge window: WrongStatus
///      ├── other verdicts than proposed: VerdictsMismatch
///      ├── no such leaf: LeafOutOfRange
///      ├── no update accepted: NothingAveraged
///      ├── too few or too many updates opened: OpenedCount
///      ├── another update than revealed: RevealMismatch
///      ├── an update's or the model's leaf is
///      │   ├── of another length: LeafLength
///      │   ├── proved by another number of siblings: ProofLength
///      │   └── not in the tree: RootMismatch
///      ├── the leaf is right: LeafIsRight
///      └── the leaf is wrong: ProposalRefuted; half the bond to the challenger, half to the escrow
///          ├── a standby is bonded: the round is its to propose, with the same reveals
///          └── none is: Abandoned
///      challengeVerdict
///      ├── not in the challenge window, other verdicts, another update: as above
///      ├── no such verdict: VerdictOutOfRange
///      ├── a rejection, or weight and score as they must be: VerdictIsRight
///      └── another weight or score: ProposalRefuted, as above
contract DisputeTest is DisputeWorld {
    uint256 private constant COUNT = 3;

    function setUp() public override {
        super.setUp();
        _draw(1, COUNT);
    }

    // ------------------------------------------------------------- the fault

    function test_AWrongLeafCostsTheBondAndHandsTheRoundOn() public {
        _flip(4, 0);
        uint256 round = _proposedModel(COUNT);
        bytes32 root = federation.getRound(round).modelRoot;
        uint256 escrow = federation.escrow();
        vm.warp(block.timestamp + 17);
        uint40 deadline = uint40(block.timestamp) + PROPOSE;
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorSlashed(round, aggregators[0], BOND);
        vm.expectEmit(address(federation));
        emit IFederation.ProposalRefuted(round, challenger, aggregators[0], root, BOND / 2);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorReplaced(round, aggregators[0], aggregators[1], deadline);
        _challenge(round, COUNT, 4);

        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        vm.assertEq(federation.currentAggregator(), aggregators[1]);
        vm.assertEq(federation.creditOf(challenger), BOND / 2);
        vm.assertEq(federation.escrow(), escrow + BOND / 2);
        IFederation.Round memory facts = federation.getRound(round);
        vm.assertEq(facts.modelRoot, 0);
        vm.assertEq(facts.modelManifest, 0);
        vm.assertEq(facts.verdictsHash, 0);
        vm.assertEq(facts.challengeDeadline, 0);
        vm.assertEq(facts.proposeDeadline, deadline);
        vm.assertEq(facts.revealed, COUNT);
        _assertStatus(round, IFederation.Status.Propose);
    }

    function test_TheStandbyFinishesTheRoundAndEverybodyIsPaid() public {
        _flip(0, 77);
        uint256 round = _proposedModel(COUNT);
        _challenge(round, COUNT, 0);
        _flip(0, 77);
        _proposeModel(round, _verdicts(COUNT));
        vm.warp(block.timestamp + CHALLENGE);
        federation.finalize(round, _verdicts(COUNT));
        _assertStatus(round, IFederation.Status.Finalized);
        vm.assertEq(federation.creditOf(aggregators[1]), FEE);
        vm.assertEq(federation.creditOf(aggregators[0]), 0);
        uint256 total = uint256(_examples(0)) + _examples(1) + _examples(2);
        for (uint256 i = 0; i < COUNT; ++i) {
            vm.assertEq(federation.creditOf(_participant(i)), REWARD * uint256(_examples(i)) / total);
        }
    }

    function test_AStandbyThatRepeatsTheLieLosesItsBondToo() public {
        _flip(2, 5);
        uint256 round = _proposedModel(COUNT);
        _challenge(round, COUNT, 2);
        _proposeModel(round, _verdicts(COUNT));
        vm.expectEmit(address(federation));
        emit IFederation.Abandoned(round); // aggregators[2] has not posted a bond
        _challenge(round, COUNT, 2);
        vm.assertEq(federation.creditOf(challenger), 2 * (BOND / 2));
        _assertAggregator(aggregators[1], IFederation.AggregatorState.Slashed);
        _assertStatus(round, IFederation.Status.Abandoned);
        vm.assertEq(federation.idleSince(), block.timestamp);
        (bytes32 root,) = federation.currentModel();
        vm.assertEq(root, INITIAL_ROOT);
        uint256 held = federation.escrow() + federation.creditOf(challenger) + COUNT * STAKE;
        vm.assertEq(token.balanceOf(address(federation)), held);
    }

    function test_TheOddUnitOfABondGoesToTheEscrow() public {
        IFederation.Terms memory terms = _terms();
        terms.aggregatorBond = 7;
        federation = _deploy(terms);
        _flip(1, 1);
        uint256 round = _proposedModel(COUNT);
        uint256 escrow = federation.escrow();
        _challenge(round, COUNT, 1);
        vm.assertEq(federation.creditOf(challenger), 3);
        vm.assertEq(federation.escrow(), escrow + 4);
    }

    function test_ARejectedUpdateIsNotAveraged() public {
        // The lead averages all three although it rejects one.
        uint256 round = _revealedWith(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(COUNT);
        verdicts[1] = _rejection(1, 8);
        _proposeModel(round, verdicts);
        IFederation.OpenedUpdate[] memory all = _opened(round, COUNT, 3);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 3);
        vm.expectRevert(abi.encodeWithSelector(IFederation.OpenedCount.selector, 3, 2));
        federation.challengeAverage(round, 3, verdicts, all, model);
        IFederation.OpenedUpdate[] memory accepted = new IFederation.OpenedUpdate[](2);
        accepted[0] = all[0];
        accepted[1] = all[2];
        vm.prank(challenger);
        federation.challengeAverage(round, 3, verdicts, accepted, model);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    // -------------------------------------------------------------- refusals

    function test_RevertWhen_TheLeafIsRight() public {
        uint256 round = _proposedModel(COUNT);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _expectRight(round, leaf);
        }
        _assertStatus(round, IFederation.Status.Challenge);
    }

    function test_RevertWhen_AnotherLeafIsWrong() public {
        _flip(2, 9);
        uint256 round = _proposedModel(COUNT);
        _expectRight(round, 1);
        _expectRight(round, 3);
    }

    function test_RevertWhen_OutsideTheWindow() public {
        _flip(0, 0);
        uint256 round = _revealedWith(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(COUNT);
        IFederation.OpenedUpdate[] memory updates = _opened(round, COUNT, 0);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 0);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Propose);
        federation.challengeAverage(round, 0, verdicts, updates, model);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Propose);
        federation.challengeVerdict(round, 0, verdicts, _root(round, 0), _manifest(round, 0), _examples(0));
        _proposeModel(round, verdicts);
        vm.warp(block.timestamp + CHALLENGE - 1);
        uint256 lastSecond = block.timestamp;
        vm.warp(lastSecond + 1);
        _expectWrongStatus(round, IFederation.Status.Challenge, IFederation.Status.Settleable);
        federation.challengeAverage(round, 0, verdicts, updates, model);
        vm.warp(lastSecond);
        federation.challengeAverage(round, 0, verdicts, updates, model);
    }

    function test_RevertWhen_TheVerdictsAreOthers() public {
        _flip(0, 0);
        uint256 round = _proposedModel(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(COUNT);
        IFederation.OpenedUpdate[] memory updates = _opened(round, COUNT, 0);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 0);
        bytes32 proposed = federation.getRound(round).verdictsHash;
        verdicts[2].weight += 1;
        bytes memory expected =
            abi.encodeWithSelector(IFederation.VerdictsMismatch.selector, keccak256(abi.encode(verdicts)), proposed);
        vm.expectRevert(expected);
        federation.challengeAverage(round, 0, verdicts, updates, model);
        vm.expectRevert(expected);
        federation.challengeVerdict(round, 2, verdicts, _root(round, 2), _manifest(round, 2), _examples(2));
    }

    function test_RevertWhen_TheLeafDoesNotExist() public {
        uint256 round = _proposedModel(COUNT);
        IFederation.OpenedUpdate[] memory updates = _opened(round, COUNT, 0);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafOutOfRange.selector, LEAVES, LEAVES));
        federation.challengeAverage(round, LEAVES, _verdicts(COUNT), updates, model);
        // 2^3 places above, place 8 has the path of place 0.
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafOutOfRange.selector, 8, LEAVES));
        federation.challengeAverage(round, 8, _verdicts(COUNT), updates, model);
    }

    function test_RevertWhen_NothingWasAveraged() public {
        uint256 round = _revealedWith(1);
        IFederation.Verdict[] memory verdicts = new IFederation.Verdict[](1);
        verdicts[0] = _rejection(0, 8);
        vm.prank(aggregators[0]);
        federation.propose(round, INITIAL_ROOT, INITIAL_MANIFEST, verdicts);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingAveraged.selector, round));
        federation.challengeAverage(round, 0, verdicts, new IFederation.OpenedUpdate[](0), model);
    }

    function test_RevertWhen_AnUpdateIsNotTheOneRevealed() public {
        _flip(0, 0);
        uint256 round = _proposedModel(COUNT);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 0);
        IFederation.OpenedUpdate[] memory updates = _opened(round, COUNT, 0);
        (updates[0], updates[1]) = (updates[1], updates[0]);
        _expectRevealMismatch(round, 0, updates[0]);
        federation.challengeAverage(round, 0, _verdicts(COUNT), updates, model);

        updates = _opened(round, COUNT, 0);
        updates[2].examples += 1;
        _expectRevealMismatch(round, 2, updates[2]);
        federation.challengeAverage(round, 0, _verdicts(COUNT), updates, model);

        updates = _opened(round, COUNT, 0);
        updates[1].manifest = _manifest(round, 2);
        _expectRevealMismatch(round, 1, updates[1]);
        federation.challengeAverage(round, 0, _verdicts(COUNT), updates, model);
    }

    function test_RevertWhen_ALeafIsNotOfTheTree() public {
        uint256 round = _proposedModel(COUNT);
        bytes32 wrong = sha256(bytes.concat(hex"00", modelLeaves[1]));
        IFederation.OpenedUpdate[] memory updates = _opened(round, COUNT, 0);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 0);

        // A right leaf proved at another place, a sibling bent, a value bent.
        IFederation.Leaf memory other = _leafOf(modelLeaves, 1);
        other.proof[0] = wrong;
        _refuseModel(round, 0, updates, other);
        model.proof[2] ^= bytes32(uint256(1));
        _refuseModel(round, 0, updates, model);
        model.proof[2] ^= bytes32(uint256(1));
        model.values[39] ^= 0x80;
        _refuseModel(round, 0, updates, model);
        model.values[39] ^= 0x80;

        updates[1].leaf.values[0] ^= 0x01;
        bytes32 computed = Trees.fold(updates[1].leaf.values, 0, updates[1].leaf.proof);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RootMismatch.selector, computed, updates[1].root));
        federation.challengeAverage(round, 0, _verdicts(COUNT), updates, model);
    }

    function test_RevertWhen_LengthsAreOthers() public {
        uint256 round = _proposedModel(COUNT);
        IFederation.OpenedUpdate[] memory updates = _opened(round, COUNT, 0);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 0);
        bytes memory values = model.values;
        model.values = bytes.concat(values, bytes4(0));
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafLength.selector, 44, 40));
        federation.challengeAverage(round, 0, _verdicts(COUNT), updates, model);
        model.values = "";
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafLength.selector, 0, 40));
        federation.challengeAverage(round, 0, _verdicts(COUNT), updates, model);

        model.values = values;
        bytes32[] memory proof = model.proof;
        model.proof = new bytes32[](4);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ProofLength.selector, 4, 3));
        federation.challengeAverage(round, 0, _verdicts(COUNT), updates, model);
        // A node is no leaf: the 65 bytes under a node's digest do not fit, nor does a proof from its level.
        model.proof = new bytes32[](2);
        vm.expectRevert(abi.encodeWithSelector(IFederation.ProofLength.selector, 2, 3));
        federation.challengeAverage(round, 0, _verdicts(COUNT), updates, model);
        model.proof = proof;

        updates[2].leaf.values = bytes.concat(updates[2].leaf.values, hex"00");
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafLength.selector, 41, 40));
        federation.challengeAverage(round, 0, _verdicts(COUNT), updates, model);
    }

    // ---------------------------------------------------------- the verdicts

    function test_AWeightOrScoreThatIsNotTheRulesCostsTheBond() public {
        for (uint256 change = 0; change < 3; ++change) {
            examplesOf[1] = 2000; // above the cap of 150
            federation = _deploy(_terms());
            uint256 round = _revealedWith(COUNT);
            IFederation.Verdict[] memory verdicts = _verdicts(COUNT);
            verdicts[1].weight = 150;
            if (change == 0) verdicts[1].weight = 149;
            if (change == 1) verdicts[1].score = FULL - 1;
            if (change == 2) verdicts[0].weight += 1;
            _proposeModel(round, verdicts);
            uint256 index = change == 2 ? 0 : 1;
            bytes32 root = _root(round, index);
            _expectRightVerdict(round, 1 - index, verdicts);
            vm.expectEmit(address(federation));
            emit IFederation.ProposalRefuted(
                round, challenger, aggregators[0], federation.getRound(round).modelRoot, BOND / 2
            );
            vm.prank(challenger);
            federation.challengeVerdict(round, index, verdicts, root, _manifest(round, index), _examples(index));
            _assertStatus(round, IFederation.Status.Propose);
            vm.assertEq(federation.currentAggregator(), aggregators[1]);
        }
    }

    function test_RevertWhen_TheVerdictIsRightOrARejection() public {
        uint256 round = _revealedWith(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(COUNT);
        verdicts[0] = _rejection(0, 8);
        _proposeModel(round, verdicts);
        for (uint256 i = 0; i < COUNT; ++i) {
            _expectRightVerdict(round, i, verdicts);
        }
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictOutOfRange.selector, 3, 3));
        federation.challengeVerdict(round, 3, verdicts, _root(round, 0), _manifest(round, 0), _examples(0));
    }

    function test_RevertWhen_AVerdictIsChallengedWithMadeUpExamples() public {
        uint256 round = _proposedModel(COUNT);
        bytes31 given = bytes31(keccak256(abi.encode(_root(round, 1), _manifest(round, 1), _examples(1) + 1)));
        bytes31 revealed = federation.getSubmission(round, _participant(1)).digest;
        IFederation.Verdict[] memory verdicts = _verdicts(COUNT);
        bytes32 root = _root(round, 1);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(1), given, revealed));
        federation.challengeVerdict(round, 1, verdicts, root, _manifest(round, 1), _examples(1) + 1);
    }

    // ------------------------------------------------------------------ fuzz

    /// @dev Honest rounds of one to eight participants: no challenge of any leaf succeeds.
    function testFuzz_AnHonestLeafCannotBeRefuted(uint256 seed, uint8 count, uint8 leaf) public {
        count = uint8(_bound(count, 1, SEATS));
        _draw(seed, count);
        uint256 round = _proposedModel(count);
        _expectRight(round, leaf % LEAVES, count);
    }

    /// @dev Any single bit of any leaf of the model.
    function testFuzz_AnyWrongBitCanBeProved(uint256 seed, uint8 count, uint16 place) public {
        count = uint8(_bound(count, 1, SEATS));
        uint256 bit = place % (LEAVES * 32 * LEAF_VALUES);
        uint256 leaf = bit / (32 * LEAF_VALUES);
        _draw(seed, count);
        _flip(leaf, bit % (32 * LEAF_VALUES));
        uint256 round = _proposedModel(count);
        _expectRight(round, (leaf + 1) % LEAVES, count);
        _challenge(round, count, leaf);
        vm.assertEq(federation.creditOf(challenger), BOND / 2);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        _assertStatus(round, IFederation.Status.Propose);
    }

    // --------------------------------------------------------------- helpers

    function _expectRight(uint256 round, uint256 leaf) private {
        _expectRight(round, leaf, COUNT);
    }

    function _expectRight(uint256 round, uint256 leaf, uint256 count) private {
        IFederation.Verdict[] memory verdicts = _verdicts(count);
        IFederation.OpenedUpdate[] memory updates = _opened(round, count, leaf);
        IFederation.Leaf memory model = _leafOf(modelLeaves, leaf);
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafIsRight.selector, round, leaf));
        federation.challengeAverage(round, leaf, verdicts, updates, model);
    }

    function _expectRightVerdict(uint256 round, uint256 i, IFederation.Verdict[] memory verdicts) private {
        bytes32 root = _root(round, i);
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictIsRight.selector, round, _participant(i)));
        federation.challengeVerdict(round, i, verdicts, root, _manifest(round, i), _examples(i));
    }

    function _expectRevealMismatch(uint256 round, uint256 i, IFederation.OpenedUpdate memory update) private {
        bytes31 given = bytes31(keccak256(abi.encode(update.root, update.manifest, update.examples)));
        bytes31 revealed = federation.getSubmission(round, _participant(i)).digest;
        vm.expectRevert(abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(i), given, revealed));
    }

    function _refuseModel(
        uint256 round,
        uint256 leaf,
        IFederation.OpenedUpdate[] memory updates,
        IFederation.Leaf memory model
    ) private {
        bytes32 required = federation.getRound(round).modelRoot;
        bytes32 computed = Trees.fold(model.values, leaf, model.proof);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RootMismatch.selector, computed, required));
        federation.challengeAverage(round, leaf, _verdicts(COUNT), updates, model);
    }
}
