// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../../src/IFederation.sol";
import {Trees} from "./Trees.sol";
import {World} from "./World.sol";

/// @dev A federation whose updates and models are real trees: 5 leaves of 10 values at depth 3.
abstract contract DisputeWorld is World {
    uint256 internal constant LEAVES = 5;
    uint32 internal constant LEAF_VALUES = 10; // not a multiple of the eight that a word holds

    mapping(uint256 i => bytes[] leaves) internal updateLeaves;
    mapping(uint256 i => bytes32 root) internal rootOf; // kept: hashing calls a precompile, which would use up a prank
    mapping(uint256 i => uint32 examples) internal examplesOf;
    bytes[] internal modelLeaves;
    address internal challenger = _account("challenger");

    function _terms() internal view virtual override returns (IFederation.Terms memory terms) {
        terms = super._terms();
        terms.leafCount = uint32(LEAVES);
        terms.treeDepth = 3;
        terms.leafValues = LEAF_VALUES;
        terms.weightCap = 150;
    }

    function _root(uint256, uint256 i) internal view override returns (bytes32) {
        return rootOf[i];
    }

    function _examples(uint256 i) internal view override returns (uint32) {
        return examplesOf[i];
    }

    /// @dev Draws updates of `count` participants and the honest model. Every third value is an extreme one.
    function _draw(uint256 seed, uint256 count) internal {
        for (uint256 i = 0; i < count; ++i) {
            uint256 drawn = uint256(keccak256(abi.encode(seed, i)));
            examplesOf[i] = uint32(1 + drawn % 150);
            delete updateLeaves[i];
            for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
                updateLeaves[i].push(_drawLeaf(drawn, leaf));
            }
            rootOf[i] = Trees.root(updateLeaves[i]);
        }
        delete modelLeaves;
        for (uint256 leaf = 0; leaf < LEAVES; ++leaf) {
            modelLeaves.push(_meanLeaf(leaf, count));
        }
    }

    function _drawLeaf(uint256 seed, uint256 leaf) private pure returns (bytes memory values) {
        int256[6] memory extremes = [int256(type(int32).max), -type(int32).max, 0, 1, -1, type(int32).min];
        values = new bytes(4 * LEAF_VALUES);
        for (uint256 k = 0; k < LEAF_VALUES; ++k) {
            uint256 drawn = uint256(keccak256(abi.encode(seed, leaf, k)));
            int256 value = drawn % 3 == 0 ? extremes[(drawn >> 8) % 6] : int256(int32(uint32(drawn >> 8)));
            Trees.put(values, 4 * k, value);
        }
    }

    function _meanLeaf(uint256 leaf, uint256 count) internal view returns (bytes memory) {
        bytes[] memory leaves = new bytes[](count);
        uint32[] memory weights = new uint32[](count);
        for (uint256 i = 0; i < count; ++i) {
            leaves[i] = updateLeaves[i][leaf];
            weights[i] = _examples(i);
        }
        return Trees.mean(leaves, weights);
    }

    /// @dev Everybody has revealed and the lead proposes what stands in modelLeaves.
    function _proposedModel(uint256 count) internal returns (uint256 round) {
        round = _revealedWith(count);
        _proposeModel(round, _verdicts(count));
    }

    function _proposeModel(uint256 round, IFederation.Verdict[] memory verdicts) internal {
        bytes32 root = Trees.root(modelLeaves);
        vm.prank(federation.currentAggregator());
        federation.propose(round, root, NEW_MANIFEST, verdicts);
    }

    function _opened(uint256 round, uint256 count, uint256 leaf)
        internal
        view
        returns (IFederation.OpenedUpdate[] memory updates)
    {
        updates = new IFederation.OpenedUpdate[](count);
        for (uint256 i = 0; i < count; ++i) {
            updates[i] = IFederation.OpenedUpdate({
                root: _root(round, i),
                manifest: _manifest(round, i),
                examples: _examples(i),
                leaf: _leafOf(updateLeaves[i], leaf)
            });
        }
    }

    function _leafOf(bytes[] memory leaves, uint256 leaf) internal pure returns (IFederation.Leaf memory) {
        return IFederation.Leaf({values: leaves[leaf], proof: Trees.proof(leaves, leaf)});
    }

    function _challenge(uint256 round, uint256 count, uint256 leaf) internal {
        IFederation.Verdict[] memory verdicts = _verdicts(count);
        IFederation.OpenedUpdate[] memory updates = _opened(round, count, leaf);
        IFederation.Leaf memory model = _leafOf(modelLeaves, leaf);
        vm.prank(challenger);
        federation.challengeAverage(round, leaf, verdicts, updates, model);
    }

    function _flip(uint256 leaf, uint256 bit) internal {
        modelLeaves[leaf][bit / 8] ^= bytes1(uint8(1) << uint8(bit % 8));
    }
}
