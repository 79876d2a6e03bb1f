// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../../src/IFederation.sol";
import {Trees} from "./Trees.sol";
import {World} from "./World.sol";

/// @dev A federation whose updates and models are real trees: 5 leaves at depth 3, 256 bytes a leaf of an update and
///      1,024 bytes a leaf of a model.
abstract contract DisputeWorld is World {
    uint256 internal constant LEAVES = 5;
    uint256 internal constant VALUES = 256;
    uint8 internal constant GRID = 13;
    uint256 internal constant COUNT = 3; // updates of a usual round

    bytes[] internal beforeLeaves; // of the model that the round starts from
    bytes[] internal modelLeaves; // of the model that is proposed
    mapping(uint256 i => bytes[] leaves) internal updateLeaves;
    mapping(uint256 i => bytes32 root) internal rootOf; // kept: hashing calls a precompile, which would use up a prank
    mapping(uint256 i => uint32 examples) internal examplesOf;
    uint32 internal gridEvery;
    bytes32 private initialRoot;
    address internal challenger = _account("challenger");

    function setUp() public virtual override {
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            beforeLeaves.push(_drawModelLeaf(uint256(keccak256("before")), leaf));
        }
        initialRoot = Trees.root(beforeLeaves);
        super.setUp();
    }

    function _terms() internal view virtual override returns (IFederation.Terms memory terms) {
        terms = super._terms();
        terms.identity.initialModelRoot = initialRoot;
        terms.identity.leafCount = uint32(LEAVES);
        terms.identity.treeDepth = 3;
        terms.identity.gridBits = GRID;
        terms.identity.gridEvery = gridEvery;
        terms.identity.zeroRoot = _zeroRoot();
        terms.seats.weightCap = 150;
    }

    function _zeroRoot() internal pure returns (bytes32) {
        bytes[] memory zeros = new bytes[](LEAVES);
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            zeros[leaf] = new bytes(VALUES);
        }
        return Trees.root(zeros);
    }

    function _root(uint256, uint256 i) internal view virtual override returns (bytes32) {
        return rootOf[i];
    }

    function _examples(uint256 i) internal view virtual override returns (uint32) {
        return examplesOf[i];
    }

    // -------------------------------------------------------------- the bytes

    /// @dev Draws updates of `count` participants and the honest model of round 1. Some claim more than the cap counts.
    function _draw(uint256 seed, uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            examplesOf[i] = uint32(1 + uint256(keccak256(abi.encode(seed, i))) % 170);
            delete updateLeaves[i];
            for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
                updateLeaves[i].push(_drawUpdateLeaf(seed + i, leaf));
            }
            rootOf[i] = Trees.root(updateLeaves[i]);
        }
        _average(count, 24 - GRID);
    }

    /// @dev What a round over all of them makes of the model before it.
    function _average(uint256 count, uint256 shift) internal {
        delete modelLeaves;
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            modelLeaves.push(_movedLeaf(leaf, count, shift));
        }
    }

    function _movedLeaf(uint256 leaf, uint256 count, uint256 shift) internal view returns (bytes memory) {
        bytes[] memory leaves = new bytes[](count);
        uint256[] memory weights = new uint256[](count);
        uint32 cap = federation.terms().seats.weightCap;
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = updateLeaves[i][leaf];
            weights[i] = examplesOf[i] < cap ? examplesOf[i] : cap;
        }
        return Trees.moved(beforeLeaves[leaf], leaves, weights, shift);
    }

    /// @dev Every fourth value is one of the outermost.
    function _drawUpdateLeaf(uint256 seed, uint256 leaf) internal pure returns (bytes memory values) {
        values = new bytes(VALUES);
        bytes4 extremes = 0x7f8101ff; // 127, -127, 1, -1
        for (uint256 word = 0; word < VALUES / 32; ++word) {
            bytes32 drawn = keccak256(abi.encode("update", seed, leaf, word));
            for (uint256 k = 0; k < 32; ++k) {
                bytes1 value = drawn[k];
                if (k % 4 == 0) value = extremes[uint8(value) % 4];
                if (value == 0x80) value = 0x00; // nobody may reveal a -128
                values[32 * word + k] = value;
            }
        }
    }

    /// @dev Some values are so far out that the next model is held within 2^31 - 1.
    function _drawModelLeaf(uint256 seed, uint256 leaf) internal pure returns (bytes memory values) {
        int256[6] memory extremes = [Trees.LARGEST, -Trees.LARGEST, 0, 1, -1, Trees.LARGEST - 100_000];
        values = new bytes(4 * VALUES);
        for (uint256 k = 0; k < VALUES; ++k) {
            uint256 drawn = uint256(keccak256(abi.encode("model", seed, leaf, k)));
            int256 value = drawn % 4 == 0 ? extremes[(drawn >> 8) % 6] : int256(int32(uint32(drawn >> 8)));
            Trees.put(values, k, Trees.hold(value, Trees.LARGEST));
        }
    }

    /// @dev Adds to one value of the proposed model.
    function _bend(uint256 leaf, uint256 k, int256 by) internal {
        bytes memory values = modelLeaves[leaf];
        Trees.put(values, k, Trees.value(values, k) + by);
        modelLeaves[leaf] = values;
    }

    function _flip(uint256 leaf, uint256 bit) internal {
        modelLeaves[leaf][bit / 8] ^= bytes1(uint8(1) << uint8(bit % 8));
    }

    // ------------------------------------------------------------ the dispute

    /// @dev Everybody has revealed and the lead proposes what stands in modelLeaves.
    function _proposedModel(uint256 count) internal returns (uint256 round) {
        round = _revealedWith(count);
        _proposeModel(round, _verdicts(round, count));
    }

    function _proposeModel(uint256 round, IFederation.Verdict[] memory verdicts) internal {
        bytes32 root = Trees.root(modelLeaves);
        vm.prank(federation.currentAggregator());
        federation.propose(round, root, NEW_MANIFEST, verdicts);
    }

    function _leafOf(bytes[] memory leaves, uint256 leaf) internal pure returns (IFederation.Leaf memory) {
        return IFederation.Leaf({values: leaves[leaf], proof: Trees.proof(leaves, leaf)});
    }

    function _opened(uint256 round, uint256 i, uint256 leaf) internal view returns (IFederation.OpenedLeaf memory) {
        return IFederation.OpenedLeaf({opening: _opening(round, i), leaf: _leafOf(updateLeaves[i], leaf)});
    }

    function _openedAll(uint256 round, uint256 count, uint256 leaf)
        internal
        view
        returns (IFederation.OpenedLeaf[] memory updates)
    {
        updates = new IFederation.OpenedLeaf[](count);
        for (uint256 i = 0; i < count; ++i) {
            updates[i] = _opened(round, i, leaf);
        }
    }

    function _challengeAverage(uint256 round, uint256 count, uint256 leaf) internal {
        _challengeAverage(round, leaf, _verdicts(round, count), _openedAll(round, count, leaf));
    }

    function _challengeAverage(
        uint256 round,
        uint256 leaf,
        IFederation.Verdict[] memory verdicts,
        IFederation.OpenedLeaf[] memory updates
    ) internal {
        IFederation.Leaf memory start = _leafOf(beforeLeaves, leaf);
        IFederation.Leaf memory model = _leafOf(modelLeaves, leaf);
        vm.prank(challenger);
        federation.challengeAverage(round, leaf, verdicts, updates, start, model);
    }

    function _challengeMove(uint256 round, uint256 leaf) internal {
        IFederation.Leaf memory start = _leafOf(beforeLeaves, leaf);
        IFederation.Leaf memory model = _leafOf(modelLeaves, leaf);
        vm.prank(challenger);
        federation.challengeMove(round, leaf, start, model);
    }

    function _challengeVerdict(uint256 round, uint256 index, IFederation.Verdict[] memory verdicts, uint256 i)
        internal
    {
        IFederation.Opening memory opening = _opening(round, i);
        vm.prank(challenger);
        federation.challengeVerdict(round, index, verdicts, opening);
    }

    // ------------------------------------------------------------- assertions

    function _expectLeafIsRight(uint256 round, uint256 leaf) internal {
        vm.expectRevert(abi.encodeWithSelector(IFederation.LeafIsRight.selector, round, leaf));
    }

    function _expectVerdictIsRight(uint256 round, uint256 i) internal {
        vm.expectRevert(abi.encodeWithSelector(IFederation.VerdictIsRight.selector, round, _participant(i)));
    }

    /// @dev Half the bond to the challenger and half burned, the proposal void, the standby's turn.
    function _assertRefuted(uint256 round) internal view {
        vm.assertEq(federation.creditOf(challenger), HALF, "half of the bond to the challenger");
        vm.assertEq(federation.burned(), BOND - HALF, "the rest burned");
        _assertAggregator(aggregators[0], IFederation.AggregatorState.Slashed);
        _assertStatus(round, IFederation.Status.Propose);
        vm.assertEq(federation.currentAggregator(), aggregators[1]);
        IFederation.Round memory facts = federation.getRound(round);
        vm.assertEq(facts.modelRoot, 0);
        vm.assertEq(facts.modelManifest, 0);
        vm.assertEq(facts.verdictsHash, 0);
        vm.assertEq(uint8(facts.stage), uint8(IFederation.Stage.Open), "stage");
        vm.assertEq(facts.nextDeadline, block.timestamp + PROPOSE);
        vm.assertEq(federation.escrow(), ESCROW, "escrow untouched");
    }
}
