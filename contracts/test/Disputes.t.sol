// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {DisputeWorld} from "./kit/DisputeWorld.sol";
import {Trees} from "./kit/Trees.sol";

/// @dev challengeAverage, challengeMove and what a refutation does. Libraries.t.sol plays ten times as many cases of the
///      arithmetic alone.
contract DisputesTest is DisputeWorld {
    // -------------------------------------------------------- challengeAverage

    /// @notice One wrong value of one leaf refutes the proposal: half the bond to the challenger, half burned, the
    ///         proposal void, the standby's turn.
    function test_AWrongLeafRefutesTheProposal() public {
        _draw(1, COUNT);
        _bend(4, 255, 1);
        uint256 round = _proposedModel(COUNT);
        bytes32 root = Trees.root(modelLeaves);
        IFederation.Leaf memory start = _leafOf(beforeLeaves, 4);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 4);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        IFederation.OpenedLeaf[] memory updates = _openedAll(round, COUNT, 4);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorSlashed(round, aggregators[0], BOND);
        vm.expectEmit(address(federation));
        emit IFederation.ProposalRefuted(round, challenger, aggregators[0], root, HALF);
        vm.expectEmit(address(federation));
        emit IFederation.AggregatorReplaced(round, aggregators[0], aggregators[1], uint40(block.timestamp + PROPOSE));
        vm.prank(challenger);
        federation.challengeAverage(round, 4, verdicts, updates, start, model);
        _assertRefuted(round);
    }

    /// @notice An honest proposal cannot be refuted by any of its leaves.
    function test_RevertWhen_TheLeafIsRight() public {
        _draw(1, COUNT);
        uint256 round = _proposedModel(COUNT);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            _refuseAverage(round, leaf, abi.encodeWithSelector(IFederation.LeafIsRight.selector, round, leaf));
        }
    }

    /// @notice Honest rounds of any updates, weights and models: no leaf can be refuted, by average or by move.
    /// forge-config: default.fuzz.runs = 24
    /// forge-config: deep.fuzz.runs = 1000
    function testFuzz_AnHonestLeafCannotBeRefuted(uint256 seed, uint8 count, uint8 leaf) public {
        count = uint8(_bound(count, 1, SEATS));
        seed = seed >> 1; // participants add their number to it
        _draw(seed, count);
        uint256 round = _proposedModel(count);
        _refuseAverageOf(round, leaf % LEAVES, count);
        bytes memory bounded = abi.encodeWithSelector(IFederation.MoveIsBounded.selector, round, leaf % LEAVES);
        _refuseMove(round, leaf % LEAVES, bounded);
    }

    /// @notice Any single bit of any leaf of the model can be proved wrong, and the other leaves cannot.
    /// forge-config: default.fuzz.runs = 24
    /// forge-config: deep.fuzz.runs = 1000
    function testFuzz_AnyWrongBitCanBeProved(uint256 seed, uint8 count, uint16 place) public {
        count = uint8(_bound(count, 1, SEATS));
        uint256 bit = place % (LEAVES * 32 * VALUES);
        uint256 leaf = bit / (32 * VALUES);
        _draw(seed >> 1, count);
        _flip(leaf, bit % (32 * VALUES));
        uint256 round = _proposedModel(count);
        _refuseAverageOf(round, (leaf + 1) % LEAVES, count);
        _challengeAverage(round, count, leaf);
        _assertRefuted(round);
    }

    /// @notice Weights are those of the verdicts: an average by other weights is refuted.
    function test_AnAverageByOtherWeightsIsRefuted() public {
        _draw(1, COUNT);
        uint256 round = _revealedWith(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        verdicts[1].weight = verdicts[1].weight == 1 ? 2 : verdicts[1].weight - 1;
        _proposeModel(round, verdicts);
        _challengeAverage(round, 0, verdicts, _openedAll(round, COUNT, 0));
        _assertRefuted(round);
    }

    /// @notice Rejected updates are left out; the rest is averaged in the order of the verdicts.
    function test_RejectedUpdatesAreLeftOut() public {
        _draw(1, COUNT);
        uint256 round = _revealedWith(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        verdicts[1] = _rejection(round, 1, 8);
        IFederation.OpenedLeaf[] memory updates = new IFederation.OpenedLeaf[](2);
        (updates[0], updates[1]) = (_opened(round, 0, 2), _opened(round, 2, 2));
        _proposeModel(round, verdicts); // that of all three
        uint256 id = vm.snapshotState();
        _challengeAverage(round, 2, verdicts, updates);
        _assertRefuted(round);
        vm.revertToState(id);

        bytes[] memory leaves = new bytes[](2);
        uint256[] memory weights = new uint256[](2);
        (weights[0], weights[1]) = (verdicts[0].weight, verdicts[2].weight);
        vm.warp(block.timestamp + 1);
        federation = _deploy(_terms());
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            (leaves[0], leaves[1]) = (updateLeaves[0][leaf], updateLeaves[2][leaf]);
            modelLeaves[leaf] = Trees.moved(beforeLeaves[leaf], leaves, weights, 24 - GRID);
        }
        round = _revealedWith(COUNT);
        _proposeModel(round, verdicts); // that of the two
        IFederation.Leaf memory start = _leafOf(beforeLeaves, 2);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 2);
        _expectLeafIsRight(round, 2);
        federation.challengeAverage(round, 2, verdicts, updates, start, model);
    }

    /// @notice Updates are opened in the order of the verdicts, each as it was revealed, and all of them.
    function test_RevertWhen_OtherUpdatesAreOpened() public {
        _draw(1, COUNT);
        _bend(0, 0, 1);
        uint256 round = _proposedModel(COUNT);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        IFederation.OpenedLeaf[] memory updates = _openedAll(round, 2, 0);
        _refuseOpened(round, verdicts, updates, abi.encodeWithSelector(IFederation.OpenedCount.selector, 2, 3));
        updates = new IFederation.OpenedLeaf[](4);
        for (uint256 i = 0; i < 4; ++i) {
            updates[i] = _opened(round, i % COUNT, 0);
        }
        _refuseOpened(round, verdicts, updates, abi.encodeWithSelector(IFederation.OpenedCount.selector, 4, 3));
        updates = _openedAll(round, COUNT, 0);
        (updates[0], updates[1]) = (updates[1], updates[0]);
        _refuseOpened(round, verdicts, updates, _revealMismatch(round, 0, _digest(round, 1)));
        for (uint256 field = 0; field < 3; ++field) {
            updates = _openedAll(round, COUNT, 0);
            IFederation.Opening memory opening = updates[1].opening;
            if (field == 0) opening.root = rootOf[0];
            if (field == 1) opening.manifest = NEW_MANIFEST;
            if (field == 2) opening.examples += 1;
            _refuseOpened(round, verdicts, updates, _revealMismatch(round, 1, _digestOf(opening)));
        }
    }

    /// @notice Leaves are proved under the revealed roots, the current model's and the proposal's.
    function test_RevertWhen_ALeafIsNotInItsTree() public {
        _draw(1, COUNT);
        _bend(0, 0, 1);
        uint256 round = _proposedModel(COUNT);
        IFederation.OpenedLeaf[] memory updates = _openedAll(round, COUNT, 0);
        IFederation.Leaf memory start = _leafOf(beforeLeaves, 0);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 0);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);

        updates[2].leaf.values = bytes.concat(updates[2].leaf.values);
        updates[2].leaf.values[0] ^= 0x01;
        _refuseRoot(updates[2].leaf, 0, rootOf[2]);
        federation.challengeAverage(round, 0, verdicts, updates, start, model);
        updates[2].leaf.values[0] ^= 0x01;
        updates[0].leaf.proof[1] ^= bytes32(uint256(1));
        _refuseRoot(updates[0].leaf, 0, rootOf[0]);
        federation.challengeAverage(round, 0, verdicts, updates, start, model);
        updates[0].leaf.proof[1] ^= bytes32(uint256(1));

        IFederation.Leaf memory other = _leafOf(modelLeaves, 0);
        _refuseRoot(other, 0, Trees.root(beforeLeaves));
        federation.challengeAverage(round, 0, verdicts, updates, other, model);
        other = _leafOf(beforeLeaves, 0);
        _refuseRoot(other, 0, Trees.root(modelLeaves));
        federation.challengeAverage(round, 0, verdicts, updates, start, other);
        other = _leafOf(modelLeaves, 1); // a leaf of the tree, at another place
        _refuseRoot(other, 0, Trees.root(modelLeaves));
        federation.challengeAverage(round, 0, verdicts, updates, start, other);
        federation.challengeAverage(round, 0, verdicts, updates, start, model);
    }

    /// @notice An update's leaf has 256 bytes, a model's 1,024, a proof one sibling a level.
    function test_RevertWhen_LengthsAreOthers() public {
        _draw(1, COUNT);
        _bend(0, 0, 1);
        uint256 round = _proposedModel(COUNT);
        for (uint256 which = 0; which < 3; ++which) {
            for (uint256 change = 0; change < 5; ++change) {
                IFederation.OpenedLeaf[] memory updates = _openedAll(round, COUNT, 0);
                IFederation.Leaf memory start = _leafOf(beforeLeaves, 0);
                IFederation.Leaf memory model = _leafOf(modelLeaves, 0);
                IFederation.Leaf memory bent = which == 0 ? updates[1].leaf : which == 1 ? start : model;
                bytes memory refusal = _bendLength(bent, change);
                IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
                vm.expectRevert(refusal);
                federation.challengeAverage(round, 0, verdicts, updates, start, model);
            }
        }
    }

    /// @notice There are as many leaves as the terms say: padding cannot be challenged.
    function test_RevertWhen_ThereIsNoSuchLeaf() public {
        _draw(1, COUNT);
        uint256 round = _proposedModel(COUNT);
        uint256[4] memory numbers = [LEAVES, 7, 8, type(uint256).max];
        for (uint256 i = 0; i < 4; ++i) {
            bytes memory refusal = abi.encodeWithSelector(IFederation.LeafOutOfRange.selector, numbers[i], LEAVES);
            IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
            IFederation.OpenedLeaf[] memory updates = _openedAll(round, COUNT, 0);
            IFederation.Leaf memory start = _leafOf(beforeLeaves, 0);
            vm.expectRevert(refusal);
            federation.challengeAverage(round, numbers[i], verdicts, updates, start, start);
            vm.expectRevert(refusal);
            federation.challengeMove(round, numbers[i], start, start);
        }
    }

    /// @notice Nothing accepted, nothing averaged.
    function test_RevertWhen_NothingWasAveraged() public {
        _draw(1, COUNT);
        uint256 round = _revealedWith(COUNT);
        _proposeNothing(round, COUNT, 8);
        IFederation.Verdict[] memory verdicts = _rejections(round, COUNT, 8);
        IFederation.Leaf memory start = _leafOf(beforeLeaves, 0);
        vm.expectRevert(abi.encodeWithSelector(IFederation.NothingAveraged.selector, round));
        federation.challengeAverage(round, 0, verdicts, new IFederation.OpenedLeaf[](0), start, start);
    }

    /// @notice Challenges are made with the verdicts that were proposed.
    function test_RevertWhen_TheVerdictsAreOthers() public {
        _draw(1, COUNT);
        _bend(0, 0, 1);
        uint256 round = _proposedModel(COUNT);
        IFederation.Verdict[] memory bent = _verdicts(round, COUNT);
        bent[0].weight += 1;
        bytes memory refusal = abi.encodeWithSelector(
            IFederation.VerdictsMismatch.selector,
            keccak256(abi.encode(bent)),
            keccak256(abi.encode(_verdicts(round, COUNT)))
        );
        _refuseOpened(round, bent, _openedAll(round, COUNT, 0), refusal);
        IFederation.Opening memory opening = _opening(round, 0);
        vm.expectRevert(refusal);
        federation.challengeVerdict(round, 0, bent, opening);
        IFederation.Opening memory other = _opening(round, 1);
        vm.expectRevert(refusal);
        federation.challengeDuplicate(round, 0, 1, bent, opening, other);
        vm.expectRevert(refusal);
        federation.challengeOriginal(round, 0, bent, new IFederation.Opening[](3));
    }

    /// @notice Challenges are made in the challenge window and at no other time.
    function test_RevertWhen_ChallengedOutsideTheWindow() public {
        _draw(1, COUNT);
        _bend(0, 0, 1);
        uint256 round = _revealedWith(COUNT);
        _refuseEverything(round, IFederation.Status.Propose);
        _proposeModel(round, _verdicts(round, COUNT));
        vm.warp(block.timestamp + CHALLENGE);
        _refuseEverything(round, IFederation.Status.Settleable);
        uint256 id = vm.snapshotState();
        vm.warp(block.timestamp - 1);
        _challengeAverage(round, COUNT, 0); // in the last second
        vm.revertToState(id);
        federation.finalize(round, _verdicts(round, COUNT));
        _refuseEverything(round, IFederation.Status.Finalized);
        _refuseEverything(2, IFederation.Status.None);
    }

    // -------------------------------------------------- the model it starts from

    /// @notice The model before is that of the last finalized round, not the first one.
    function test_TheSecondRoundStartsFromTheFirstsModel() public {
        _draw(1, COUNT);
        uint256 round = _proposedModel(COUNT);
        _finalize(round, _verdicts(round, COUNT));
        _fund(ESCROW);
        beforeLeaves = modelLeaves;
        _draw(2, COUNT);
        _bend(3, 7, -1);
        _mine();
        round = _open();
        _commitAll(round, COUNT);
        _revealAll(round, COUNT);
        _proposeModel(round, _verdicts(round, COUNT));
        _refuseAverageOf(round, 0, COUNT);
        vm.assertEq(round, 2);
        _challengeAverage(round, COUNT, 3);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    /// @notice A void proposal of an earlier try is no model to start from.
    function test_TheStandbyStartsFromTheSameModel() public {
        _draw(1, COUNT);
        _bend(0, 0, 5);
        uint256 round = _proposedModel(COUNT);
        _challengeAverage(round, COUNT, 0);
        _bend(0, 0, -5);
        _proposeModel(round, _verdicts(round, COUNT));
        vm.assertEq(federation.getRound(round).proposals, 2);
        _refuseAverageOf(round, 0, COUNT);
        _bend(0, 0, 0);
        _finalize(round, _verdicts(round, COUNT));
        vm.assertGt(federation.creditOf(aggregators[1]), 0, "the standby's fee");
    }

    // ---------------------------------------------------------------- the grid

    /// @notice The grid gets finer by one bit every gridEvery rounds, up to 24 bits: s = 24 - min(24, G1 + (r-1)/every).
    /// forge-config: default.fuzz.runs = 24
    /// forge-config: deep.fuzz.runs = 1000
    function testFuzz_TheGridGetsFiner(uint8 gridBits, uint32 every, uint8 rounds) public {
        gridBits = uint8(_bound(gridBits, 0, 24));
        every = uint32(_bound(every, 0, 4));
        rounds = uint8(_bound(rounds, 1, 9));
        IFederation.Terms memory terms = _terms();
        terms.identity.gridBits = gridBits;
        terms.identity.gridEvery = every;
        federation = _deploy(terms);
        _draw(3, COUNT);
        _ready(COUNT);
        _skipRounds(rounds - 1);
        uint256 bits = every == 0 ? gridBits : gridBits + (rounds - 1) / every;
        uint256 shift = 24 - (bits > 24 ? 24 : bits);
        _checkShift(rounds, shift);
    }

    /// @notice Nor does the grid break after hundreds of rounds: it stays at 24 bits.
    function test_TheGridStaysAt24Bits() public {
        IFederation.Terms memory terms = _terms();
        terms.identity.gridBits = 23;
        terms.identity.gridEvery = 1;
        terms.seats.rounds = 300;
        federation = _deploy(terms);
        _draw(3, COUNT);
        _ready(COUNT);
        _skipRounds(269);
        _checkShift(270, 0);
    }

    // ------------------------------------------------------------ the extremes

    /// @notice A -128 counts, and the sum is held within 127 * W.
    function test_AByteOfMinus128IsHeld() public {
        _draw(1, 2);
        for (uint256 i = 0; i < 2; ++i) {
            updateLeaves[i][0] = _fill(0x80, VALUES);
            rootOf[i] = Trees.root(updateLeaves[i]);
        }
        modelLeaves[0] = _movedLeaf(0, 2, 24 - GRID);
        vm.assertEq(
            Trees.value(modelLeaves[0], 2),
            Trees.hold(Trees.value(beforeLeaves[0], 2) - 127 * 2 ** 11, Trees.LARGEST),
            "held at -127 steps"
        );
        uint256 round = _proposedModel(2);
        _refuseAverageOf(round, 0, 2);
        _refuseMove(round, 0, abi.encodeWithSelector(IFederation.MoveIsBounded.selector, round, 0));
    }

    /// @notice Values are held within 2^31 - 1 on both sides, with the coarsest grid too.
    function test_ValuesAreHeldWithin2To31() public {
        for (uint8 bits = 0; bits <= 24; bits += 12) {
            IFederation.Terms memory terms = _terms();
            terms.identity.gridBits = bits;
            federation = _deploy(terms);
            _draw(1, COUNT);
            updateLeaves[0][1] = _fill(0x7f, VALUES);
            updateLeaves[1][1] = _fill(0x7f, VALUES);
            updateLeaves[2][1] = _fill(0x7f, VALUES);
            updateLeaves[0][2] = updateLeaves[1][2] = updateLeaves[2][2] = _fill(0x81, VALUES);
            for (uint256 i = 0; i < COUNT; ++i) {
                rootOf[i] = Trees.root(updateLeaves[i]);
            }
            _average(COUNT, 24 - bits);
            uint256 round = _proposedModel(COUNT);
            _refuseAverageOf(round, 1, COUNT);
            _refuseAverageOf(round, 2, COUNT);
        }
    }

    /// @notice A proposal may hold -2^31, which no encoding uses: it is a wrong value like any other.
    function test_TheValueThatIsNeverUsedIsRefuted() public {
        _draw(1, COUNT);
        uint256 k = 0;
        while (Trees.value(modelLeaves[1], k) != -Trees.LARGEST) k += 1;
        _bend(1, k, -1);
        uint256 round = _proposedModel(COUNT);
        _challengeAverage(round, COUNT, 1);
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
    }

    // ------------------------------------------------------------ challengeMove

    /// @notice A value that moved by more than 127 steps refutes the proposal without any update.
    function test_AMoveTooFarRefutesTheProposal() public {
        for (uint256 i = 0; i < 4; ++i) {
            int256 limit = 127 * 2 ** 11;
            int256 by = i % 2 == 0 ? limit : -limit;
            bool isTooFar = i < 2;
            if (isTooFar) by += i % 2 == 0 ? int256(1) : -1;
            federation = _deploy(_terms());
            _draw(1, 1);
            modelLeaves = beforeLeaves;
            uint256 k = 0;
            while (_distance(Trees.value(beforeLeaves[2], k)) > 1_000_000_000) k += 1;
            _bend(2, k, by);
            uint256 round = _proposedModel(1);
            if (isTooFar) {
                _refuseMove(round, 1, abi.encodeWithSelector(IFederation.MoveIsBounded.selector, round, 1));
                uint256 credit = federation.creditOf(challenger);
                _challengeMove(round, 2);
                vm.assertEq(federation.creditOf(challenger), credit + HALF);
                _assertRefuted(round);
            } else {
                _refuseMove(round, 2, abi.encodeWithSelector(IFederation.MoveIsBounded.selector, round, 2));
            }
        }
    }

    /// @notice From one end of the range to the other is a move like any other: nothing wraps round.
    function test_MovesDoNotWrapRound() public {
        IFederation.Terms memory terms = _terms();
        terms.identity.gridBits = 0; // the coarsest: 127 * 2^24 is half the range
        federation = _deploy(terms);
        _draw(1, 1);
        modelLeaves = beforeLeaves;
        uint256 k = 0;
        while (Trees.value(beforeLeaves[0], k) != Trees.LARGEST) k += 1;
        _bend(0, k, -2 * Trees.LARGEST - 1);
        uint256 round = _proposedModel(1);
        _challengeMove(round, 0);
        _assertRefuted(round);
    }

    /// @notice The bound is exact for any value and any move, at any grid.
    /// forge-config: default.fuzz.runs = 24
    /// forge-config: deep.fuzz.runs = 1000
    function testFuzz_TheBoundIsExact(uint256 seed, int32 to, uint8 gridBits) public {
        gridBits = uint8(_bound(gridBits, 0, 24));
        IFederation.Terms memory terms = _terms();
        terms.identity.gridBits = gridBits;
        federation = _deploy(terms);
        _draw(1, 1);
        modelLeaves = beforeLeaves;
        uint256 k = seed % VALUES;
        int256 from = Trees.value(beforeLeaves[0], k);
        int256 limit = 127 * int256(2 ** (24 - uint256(gridBits)));
        int256 target = to;
        if (seed >> 8 & 3 == 0) target = from + limit + int256(seed >> 10 & 1);
        if (seed >> 8 & 3 == 1) target = from - limit - int256(seed >> 10 & 1);
        if (target > Trees.LARGEST || target < -Trees.LARGEST - 1) target = to;
        _bend(0, k, target - from);
        uint256 round = _proposedModel(1);
        if (_distance(target - from) > limit) {
            _challengeMove(round, 0);
            _assertRefuted(round);
        } else {
            _refuseMove(round, 0, abi.encodeWithSelector(IFederation.MoveIsBounded.selector, round, 0));
        }
    }

    /// @notice Moves are shown with leaves of the two models and no others.
    function test_RevertWhen_AMoveIsShownWithOtherLeaves() public {
        _draw(1, 1);
        modelLeaves = beforeLeaves;
        _flip(0, 0);
        uint256 round = _proposedModel(1);
        IFederation.Leaf memory start = _leafOf(beforeLeaves, 0);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 0);
        _refuseRoot(model, 0, Trees.root(beforeLeaves));
        federation.challengeMove(round, 0, model, model);
        _refuseRoot(start, 0, Trees.root(modelLeaves));
        federation.challengeMove(round, 0, start, start);
        for (uint256 which = 0; which < 2; ++which) {
            for (uint256 change = 0; change < 5; ++change) {
                start = _leafOf(beforeLeaves, 0);
                model = _leafOf(modelLeaves, 0);
                bytes memory refusal = _bendLength(which == 0 ? start : model, change);
                vm.expectRevert(refusal);
                federation.challengeMove(round, 0, start, model);
            }
        }
        _challengeMove(round, 0);
    }

    // ------------------------------------------------------------ refutations

    /// @notice Without a standby the round is abandoned, nobody is paid for it, and the federation is over.
    function test_WithoutStandbyTheRoundIsAbandoned() public {
        _draw(1, COUNT);
        _bend(0, 0, 1);
        _fund(ESCROW);
        _bond(aggregators[0]);
        _join(COUNT);
        _mine();
        uint256 round = _open();
        _commitAll(round, COUNT);
        _revealAll(round, COUNT);
        _proposeModel(round, _verdicts(round, COUNT));
        _challengeAverage(round, COUNT, 0);
        _assertStatus(round, IFederation.Status.Abandoned);
        vm.assertEq(federation.creditOf(challenger), HALF);
        vm.assertEq(federation.burned(), BOND - HALF);
        vm.assertTrue(federation.isOver(), "over at once");
        vm.assertEq(federation.idleSince(), block.timestamp);
    }

    /// @notice Each standby answers with its own bond, the last one as the first.
    function test_EveryStandbyAnswersWithItsOwnBond() public {
        _draw(1, COUNT);
        _bend(0, 0, 1);
        uint256 round = _revealedWith(COUNT);
        _bond(aggregators[2]);
        for (uint256 i = 0; i < 3; ++i) {
            vm.assertEq(federation.currentAggregator(), aggregators[i]);
            _proposeModel(round, _verdicts(round, COUNT));
            _challengeAverage(round, COUNT, 0);
            _assertAggregator(aggregators[i], IFederation.AggregatorState.Slashed);
            vm.assertEq(federation.creditOf(challenger), (i + 1) * HALF);
        }
        vm.assertEq(federation.burned(), 3 * uint256(BOND - HALF));
        vm.assertEq(federation.getRound(round).proposals, 3);
        _assertStatus(round, IFederation.Status.Abandoned);
        vm.assertEq(federation.bondedCount(), 0);
    }

    /// @notice A proposal is refuted once.
    function test_RevertWhen_RefutedTwice() public {
        _draw(1, COUNT);
        _bend(0, 0, 1);
        uint256 round = _proposedModel(COUNT);
        _challengeAverage(round, COUNT, 0);
        _refuseEverything(round, IFederation.Status.Propose);
        vm.assertEq(federation.creditOf(challenger), HALF);
    }

    // --------------------------------------------------------------- helpers

    function _skipRounds(uint256 rounds) private {
        for (uint256 i = 0; i < rounds; ++i) {
            uint256 round = _openUnseeded();
            vm.roll(block.number + 257);
            federation.abandon(round);
        }
    }

    /// @dev The round's honest model with this shift stands; with any other shift it would not.
    function _checkShift(uint256 expected, uint256 shift) private {
        _average(COUNT, shift);
        uint256 round = _open();
        vm.assertEq(round, expected);
        _commitAll(round, COUNT);
        _revealAll(round, COUNT);
        _proposeModel(round, _verdicts(round, COUNT));
        uint256 id = vm.snapshotState();
        _refuseAverageOf(round, 1, COUNT);
        _refuseMove(round, 1, abi.encodeWithSelector(IFederation.MoveIsBounded.selector, round, 1));
        vm.revertToState(id);
    }

    function _distance(int256 value) private pure returns (int256) {
        return value < 0 ? -value : value;
    }

    function _fill(bytes1 value, uint256 length) private pure returns (bytes memory filled) {
        filled = new bytes(length);
        for (uint256 k = 0; k < length; ++k) {
            filled[k] = value;
        }
    }

    function _digestOf(IFederation.Opening memory opening) private pure returns (bytes30) {
        return bytes30(keccak256(abi.encode(opening.root, opening.manifest, uint256(opening.examples))));
    }

    function _revealMismatch(uint256 round, uint256 i, bytes30 given) private view returns (bytes memory) {
        return abi.encodeWithSelector(IFederation.RevealMismatch.selector, _participant(i), given, _digest(round, i));
    }

    /// @dev One byte more or less, none, or one sibling more or less; and how that is refused.
    function _bendLength(IFederation.Leaf memory leaf, uint256 change) private pure returns (bytes memory) {
        uint256 length = leaf.values.length;
        if (change == 3) leaf.proof = new bytes32[](4);
        if (change == 4) leaf.proof = new bytes32[](2);
        if (change > 2) return abi.encodeWithSelector(IFederation.ProofLength.selector, leaf.proof.length, 3);
        bytes memory values = new bytes(change == 0 ? length + 1 : change == 1 ? length - 1 : 0);
        for (uint256 k = 0; k < values.length && k < length; ++k) {
            values[k] = leaf.values[k];
        }
        leaf.values = values;
        return abi.encodeWithSelector(IFederation.LeafLength.selector, values.length, length);
    }

    function _refuseRoot(IFederation.Leaf memory leaf, uint256 index, bytes32 required) private {
        bytes32 computed = Trees.fold(leaf.values, index, leaf.proof);
        vm.expectRevert(abi.encodeWithSelector(IFederation.RootMismatch.selector, computed, required));
    }

    function _refuseOpened(
        uint256 round,
        IFederation.Verdict[] memory verdicts,
        IFederation.OpenedLeaf[] memory updates,
        bytes memory refusal
    ) private {
        IFederation.Leaf memory start = _leafOf(beforeLeaves, 0);
        IFederation.Leaf memory model = _leafOf(modelLeaves, 0);
        vm.expectRevert(refusal);
        federation.challengeAverage(round, 0, verdicts, updates, start, model);
    }

    function _refuseAverageOf(uint256 round, uint256 leaf, uint256 count) private {
        IFederation.Verdict[] memory verdicts = _verdicts(round, count);
        IFederation.OpenedLeaf[] memory updates = _openedAll(round, count, leaf);
        IFederation.Leaf memory start = _leafOf(beforeLeaves, leaf);
        IFederation.Leaf memory model = _leafOf(modelLeaves, leaf);
        _expectLeafIsRight(round, leaf);
        federation.challengeAverage(round, leaf, verdicts, updates, start, model);
    }

    function _refuseAverage(uint256 round, uint256 leaf, bytes memory refusal) private {
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        IFederation.OpenedLeaf[] memory updates = _openedAll(round, COUNT, leaf);
        IFederation.Leaf memory start = _leafOf(beforeLeaves, leaf);
        IFederation.Leaf memory model = _leafOf(modelLeaves, leaf);
        vm.expectRevert(refusal);
        federation.challengeAverage(round, leaf, verdicts, updates, start, model);
    }

    function _refuseMove(uint256 round, uint256 leaf, bytes memory refusal) private {
        IFederation.Leaf memory start = _leafOf(beforeLeaves, leaf);
        IFederation.Leaf memory model = _leafOf(modelLeaves, leaf);
        vm.expectRevert(refusal);
        federation.challengeMove(round, leaf, start, model);
    }

    /// @dev Each of the five challenges.
    function _refuseEverything(uint256 round, IFederation.Status actual) private {
        bytes memory refusal =
            abi.encodeWithSelector(IFederation.WrongStatus.selector, round, IFederation.Status.Challenge, actual);
        _refuseAverage(round, 0, refusal);
        _refuseMove(round, 0, refusal);
        IFederation.Verdict[] memory verdicts = _verdicts(round, COUNT);
        IFederation.Opening memory opening = _opening(round, 0);
        vm.expectRevert(refusal);
        federation.challengeVerdict(round, 0, verdicts, opening);
        vm.expectRevert(refusal);
        federation.challengeDuplicate(round, 0, 1, verdicts, opening, opening);
        vm.expectRevert(refusal);
        federation.challengeOriginal(round, 0, verdicts, new IFederation.Opening[](3));
    }
}
