// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Average} from "./Average.sol";
import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Lead} from "./Lead.sol";
import {Masks} from "./Masks.sol";
import {Proofs} from "./Proofs.sol";
import {Sets} from "./Sets.sol";
import {State} from "./State.sol";
import {Tree} from "./Tree.sol";

/// @title What shows a proposal over masked updates to be wrong
/// @dev Linked; the federation calls it with its own storage. Beside library Disputes and not in it: more constants there
///      would make each of them dearer to use.
library Sums {
    uint256 private constant OPENING_BYTES = 36; // of a masked update's record: a manifest's digest and the examples

    /// @dev What the records of a dispute over masked updates have in common.
    struct MaskedLeaves {
        uint256 leaf; // its number
        uint256 depth; // siblings of its proof
        uint256 byRank; // the set, as in struct Sum
        uint256 count; // members, in the set and outside
        uint256 length; // bytes of a record
        uint256 stepBits; // of a model's step in an update's
        uint256[] lanes; // as library Masks adds them up
        uint256 total; // of the weights, once they are added up
    }

    /// @notice See IFederation.challengeSum.
    function challengeSum(
        State storage state,
        uint256 round,
        uint256 leaf,
        IFederation.Verdict[] calldata verdicts,
        bytes calldata updates,
        IFederation.Leaf calldata before,
        IFederation.Leaf calldata model
    ) external {
        Founding.requireMasked();
        Proofs.requireChallengeable(state, round, verdicts);
        IFederation.Identity memory identity = Founding.identity();
        Proofs.requireModelLeaves(state, identity, round, leaf, before, model);
        MaskedLeaves memory at = _locate(state, round, updates, identity.treeDepth);
        at.leaf = leaf;
        at.stepBits = Proofs.stepBits(identity, round);
        uint256[] memory sums = _sumMasked(at, verdicts, updates);
        if (_isAverage(sums, at, before, model)) {
            revert IFederation.LeafIsRight(round, leaf);
        }
        Lead.refute(state, round, msg.sender);
    }

    /// @dev What is common to the records of a dispute over masked updates. Reverts unless they are all there.
    function _locate(State storage state, uint256 round, bytes calldata updates, uint256 depth)
        private
        view
        returns (MaskedLeaves memory at)
    {
        IFederation.Sum storage sum = state.sums[round];
        at.count = state.rounds[round].committed;
        at.byRank = sum.byRank;
        at.depth = depth;
        uint256 size = sum.size;
        at.length = Proofs.MODEL_LEAF_BYTES + 32 * depth + OPENING_BYTES + 32 * (1 + at.count - size);
        if (updates.length != at.length * size) revert IFederation.LeafLength(updates.length, at.length * size);
    }

    /// @dev The sum of the set's leaves without their masks, as library Average has sums. The verdicts with a weight are
    ///      the set, in ascending order: propose() saw to it.
    function _sumMasked(MaskedLeaves memory at, IFederation.Verdict[] calldata verdicts, bytes calldata updates)
        private
        view
        returns (uint256[] memory)
    {
        at.lanes = Masks.empty();
        uint256 begin = 0;
        uint256 rank = 0;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            uint256 weight = verdicts[i].weight;
            if (weight == 0) continue;
            while (!Sets.has(at.byRank, rank)) ++rank;
            bytes calldata record = updates[begin:begin + at.length];
            _requireRecord(at, verdicts[i], record);
            Masks.add(at.lanes, record[:Proofs.MODEL_LEAF_BYTES]);
            _removeMasks(at, rank, record);
            at.total += weight;
            begin += at.length;
            ++rank;
        }
        return Masks.held(at.lanes, at.total);
    }

    /// @dev Reverts unless leaf and secrets are those of the opening that the proposal took.
    // slither-disable-next-line assembly
    function _requireRecord(MaskedLeaves memory at, IFederation.Verdict calldata verdict, bytes calldata record)
        private
        view
    {
        bytes32[] calldata proof;
        uint256 depth = at.depth;
        assembly ("memory-safe") {
            proof.offset := add(record.offset, 1024)
            proof.length := depth
        }
        uint256 seedsAt = _seedsAt(at);
        bytes calldata opening = record[seedsAt - OPENING_BYTES:];
        bytes32 root = Tree.rootOf(record[:Proofs.MODEL_LEAF_BYTES], at.leaf, proof);
        bytes32 manifest = keccak256(abi.encodePacked(bytes32(opening), record[seedsAt:]));
        uint32 examples = uint32(bytes4(opening[32:]));
        bytes30 given = bytes30(keccak256(abi.encode(root, manifest, examples)));
        if (given != verdict.revealed) {
            revert IFederation.RevealMismatch(verdict.participant, given, verdict.revealed);
        }
    }

    /// @dev Where a record's seeds begin: behind leaf, proof and what is left of the opening.
    function _seedsAt(MaskedLeaves memory at) private pure returns (uint256) {
        return Proofs.MODEL_LEAF_BYTES + 32 * at.depth + OPENING_BYTES;
    }

    /// @dev Takes the own stream of the member at `rank` away, and those it shares with who is outside the set: of two
    ///      participants the lower one added their stream and the higher one subtracted it.
    function _removeMasks(MaskedLeaves memory at, uint256 rank, bytes calldata record) private view {
        bytes calldata seeds = record[_seedsAt(at):];
        uint32 leaf = uint32(at.leaf); // fewer than 2^24 (library Limits)
        Masks.remove(at.lanes, bytes32(seeds), leaf, true);
        uint256 next = 32;
        for (uint256 other = 0; other < at.count; ++other) {
            if (Sets.has(at.byRank, other)) continue;
            Masks.remove(at.lanes, bytes32(seeds[next:]), leaf, rank < other);
            next += 32;
        }
    }

    /// @dev By itself, since the dispute has too many words on the stack to open both leaves.
    function _isAverage(
        uint256[] memory sums,
        MaskedLeaves memory at,
        IFederation.Leaf calldata before,
        IFederation.Leaf calldata model
    ) private pure returns (bool) {
        return Average.isAverage(sums, at.total, at.stepBits, before.values, model.values);
    }
}
