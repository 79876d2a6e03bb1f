// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "./IFederation.sol";
import {Phases} from "./Phases.sol";
import {State} from "./State.sol";
import {Tree} from "./Tree.sol";

/// @title What a caller shows: verdicts, openings and leaves, held against the digests stored
library Proofs {
    uint256 private constant FRACTION_BITS = 24;
    uint256 internal constant UPDATE_LEAF_BYTES = 256; // 256 values of one byte
    uint256 internal constant MODEL_LEAF_BYTES = 1024; // 256 values of four: of models, and of masked updates

    /// @notice Reverts unless the round's proposal stands with these verdicts and can be disputed.
    function requireChallengeable(State storage state, uint256 round, IFederation.Verdict[] calldata verdicts)
        internal
        view
    {
        Phases.requireStatus(state, round, IFederation.Status.Challenge);
        bytes32 given = hash(verdicts);
        bytes32 proposed = state.rounds[round].verdictsHash;
        if (given != proposed) revert IFederation.VerdictsMismatch(given, proposed);
    }

    /// @notice keccak256(abi.encode(verdicts)).
    /// @dev Hashes the words as they came. The federation, which calls the linked libraries, encoded them anew for that
    ///      call: no bits are set that decoding would refuse. Encoding them once more would cost 600 gas each.
    // slither-disable-start assembly,write-after-write
    function hash(IFederation.Verdict[] calldata verdicts) internal pure returns (bytes32) {
        bytes calldata words;
        assembly ("memory-safe") {
            words.offset := verdicts.offset
            words.length := mul(verdicts.length, 160)
        }
        return keccak256(abi.encodePacked(uint256(32), verdicts.length, words));
    }

    // slither-disable-end assembly,write-after-write

    /// @notice The verdict at `index`. Reverts unless `opening` is what its participant revealed.
    /// @dev propose() held the digest in the verdict against what is stored, so that no slot is read here.
    function openVerdict(IFederation.Verdict[] calldata verdicts, uint256 index, IFederation.Opening calldata opening)
        internal
        pure
        returns (IFederation.Verdict calldata verdict)
    {
        if (index >= verdicts.length) revert IFederation.VerdictOutOfRange(index, verdicts.length);
        verdict = verdicts[index];
        bytes30 given = bytes30(keccak256(abi.encode(opening)));
        if (given != verdict.revealed) {
            revert IFederation.RevealMismatch(verdict.participant, given, verdict.revealed);
        }
    }

    /// @notice Reverts unless there is such a leaf.
    function requireIndex(IFederation.Identity memory identity, uint256 index) internal pure {
        if (index >= identity.leafCount) revert IFederation.LeafOutOfRange(index, identity.leafCount);
    }

    /// @notice Reverts unless the leaf is number `index` of the update or model with this root, of `length` bytes.
    /// @dev Fixed lengths bound what a dispute can cost, and leave a leaf one way to be read.
    function requireLeaf(
        IFederation.Identity memory identity,
        bytes32 root,
        uint256 index,
        IFederation.Leaf calldata leaf,
        uint256 length
    ) internal view {
        if (leaf.values.length != length) revert IFederation.LeafLength(leaf.values.length, length);
        if (leaf.proof.length != identity.treeDepth) {
            revert IFederation.ProofLength(leaf.proof.length, identity.treeDepth);
        }
        bytes32 computed = Tree.rootOf(leaf.values, index, leaf.proof);
        if (computed != root) revert IFederation.RootMismatch(computed, root);
    }

    /// @notice Reverts unless these are a leaf of the current model and that of the proposal.
    function requireModelLeaves(
        State storage state,
        IFederation.Identity memory identity,
        uint256 round,
        uint256 leaf,
        IFederation.Leaf calldata before,
        IFederation.Leaf calldata model
    ) internal view {
        requireIndex(identity, leaf);
        requireLeaf(identity, Phases.currentRoot(state), leaf, before, MODEL_LEAF_BYTES);
        requireLeaf(identity, state.rounds[round].modelRoot, leaf, model, MODEL_LEAF_BYTES);
    }

    /// @notice Bits of a model's step in an update's: 24 less those of the round's grid.
    function stepBits(IFederation.Identity memory identity, uint256 round) internal pure returns (uint256) {
        uint256 finer = identity.gridEvery == 0 ? 0 : (round - 1) / identity.gridEvery;
        uint256 grid = identity.gridBits + finer;
        return grid < FRACTION_BITS ? FRACTION_BITS - grid : 0;
    }
}
