// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Average} from "./Average.sol";
import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Lead} from "./Lead.sol";
import {Masks} from "./Masks.sol";
import {Phases} from "./Phases.sol";
import {Proofs} from "./Proofs.sol";
import {Sets} from "./Sets.sol";
import {State} from "./State.sol";
import {Tree} from "./Tree.sol";

/// @title What shows a proposal to be wrong
/// @dev Linked; the federation calls it with its own storage. Each function returns only if it has refuted the proposal.
library Disputes {
    uint256 private constant FRACTION_BITS = 24;
    uint256 private constant ZERO_UPDATE = 9; // reasons, docs/protocol.md §6
    uint256 private constant DUPLICATE = 10;
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

    /// @notice See IFederation.challengeAverage.
    function challengeAverage(
        State storage state,
        uint256 round,
        uint256 leaf,
        IFederation.Verdict[] calldata verdicts,
        IFederation.OpenedLeaf[] calldata updates,
        IFederation.Leaf calldata before,
        IFederation.Leaf calldata model
    ) external {
        Founding.requireClear();
        Proofs.requireChallengeable(state, round, verdicts);
        IFederation.Identity memory identity = Founding.identity();
        _requireModelLeaves(state, identity, round, leaf, before, model);
        (uint256[] memory sums, uint256 total) = _sumAccepted(identity, leaf, verdicts, updates);
        if (total == 0) revert IFederation.NothingAveraged(round);
        uint256 s = _stepBits(identity, round);
        if (Average.isAverage(sums, total, s, before.values, model.values)) {
            revert IFederation.LeafIsRight(round, leaf);
        }
        Lead.refute(state, round, msg.sender);
    }

    /// @notice See IFederation.challengeSum.
    function challengeSum(
        State storage state,
        uint256 round,
        uint256 leaf,
        IFederation.Verdict[] calldata verdicts,
        bytes calldata members,
        bytes calldata updates,
        IFederation.Leaf calldata before,
        IFederation.Leaf calldata model
    ) external {
        Founding.requireMasked();
        Proofs.requireChallengeable(state, round, verdicts);
        IFederation.Identity memory identity = Founding.identity();
        _requireModelLeaves(state, identity, round, leaf, before, model);
        MaskedLeaves memory at = _locate(state.sums[round], members, updates, identity.treeDepth);
        at.leaf = leaf;
        at.stepBits = _stepBits(identity, round);
        uint256[] memory sums = _sumMasked(at, verdicts, updates);
        if (_isAverage(sums, at, before, model)) {
            revert IFederation.LeafIsRight(round, leaf);
        }
        Lead.refute(state, round, msg.sender);
    }

    /// @notice See IFederation.challengeMove.
    function challengeMove(
        State storage state,
        uint256 round,
        uint256 leaf,
        IFederation.Leaf calldata before,
        IFederation.Leaf calldata model
    ) external {
        Phases.requireStatus(state, round, IFederation.Status.Challenge);
        IFederation.Identity memory identity = Founding.identity();
        _requireModelLeaves(state, identity, round, leaf, before, model);
        if (Average.isBounded(_stepBits(identity, round), before.values, model.values)) {
            revert IFederation.MoveIsBounded(round, leaf);
        }
        Lead.refute(state, round, msg.sender);
    }

    /// @notice See IFederation.challengeVerdict.
    function challengeVerdict(
        State storage state,
        uint256 round,
        uint256 index,
        IFederation.Verdict[] calldata verdicts,
        IFederation.Opening calldata opening
    ) external {
        Proofs.requireChallengeable(state, round, verdicts);
        IFederation.Verdict calldata verdict = Proofs.openVerdict(verdicts, index, opening);
        uint256 cap = Founding.seats().weightCap;
        uint256 weight = opening.examples < cap ? opening.examples : cap;
        bool isRight = verdict.weight == 0 || verdict.weight == weight;
        // The root of a masked update says nothing about what is under the mask.
        if (!Founding.isMasked()) {
            bool isZero = opening.root == Founding.identity().zeroRoot;
            isRight = isRight
                && (isZero ? verdict.reason != 0 && verdict.reason <= ZERO_UPDATE : verdict.reason != ZERO_UPDATE);
        }
        if (isRight) revert IFederation.VerdictIsRight(round, verdict.participant);
        Lead.refute(state, round, msg.sender);
    }

    /// @notice See IFederation.challengeDuplicate.
    function challengeDuplicate(
        State storage state,
        uint256 round,
        uint256 index,
        uint256 earlier,
        IFederation.Verdict[] calldata verdicts,
        IFederation.Opening calldata opening,
        IFederation.Opening calldata earlierOpening
    ) external {
        // What is in a sealed set stays: a standby could not answer for it.
        Founding.requireClear();
        Proofs.requireChallengeable(state, round, verdicts);
        IFederation.Verdict calldata verdict = Proofs.openVerdict(verdicts, index, opening);
        address first = Proofs.openVerdict(verdicts, earlier, earlierOpening).participant;
        bool isDuplicate = opening.root == earlierOpening.root
            && state.submissions[round][first].order < state.submissions[round][verdict.participant].order;
        if (!isDuplicate || (verdict.reason != 0 && verdict.reason <= DUPLICATE)) {
            revert IFederation.VerdictIsRight(round, verdict.participant);
        }
        Lead.refute(state, round, msg.sender);
    }

    /// @notice See IFederation.challengeOriginal.
    function challengeOriginal(
        State storage state,
        uint256 round,
        uint256 index,
        IFederation.Verdict[] calldata verdicts,
        IFederation.Opening[] calldata all
    ) external {
        Founding.requireClear();
        Proofs.requireChallengeable(state, round, verdicts);
        if (index >= verdicts.length) revert IFederation.VerdictOutOfRange(index, verdicts.length);
        if (all.length != verdicts.length) revert IFederation.OpenedCount(all.length, verdicts.length);
        IFederation.Verdict calldata verdict = verdicts[index];
        if (verdict.reason != DUPLICATE) revert IFederation.VerdictIsRight(round, verdict.participant);
        uint256 order = state.submissions[round][verdict.participant].order;
        for (uint256 i = 0; i < all.length; ++i) {
            address other = Proofs.openVerdict(verdicts, i, all[i]).participant;
            if (all[i].root == all[index].root && state.submissions[round][other].order < order) {
                revert IFederation.VerdictIsRight(round, verdict.participant);
            }
        }
        Lead.refute(state, round, msg.sender);
    }

    /// @dev Held against the current model's root and the proposal's.
    function _requireModelLeaves(
        State storage state,
        IFederation.Identity memory identity,
        uint256 round,
        uint256 leaf,
        IFederation.Leaf calldata before,
        IFederation.Leaf calldata model
    ) private view {
        Proofs.requireIndex(identity, leaf);
        Proofs.requireLeaf(identity, Phases.currentRoot(state), leaf, before, Proofs.MODEL_LEAF_BYTES);
        Proofs.requireLeaf(identity, state.rounds[round].modelRoot, leaf, model, Proofs.MODEL_LEAF_BYTES);
    }

    /// @dev The accepted leaves times their weights, added up as library Average does, and the sum of the weights.
    function _sumAccepted(
        IFederation.Identity memory identity,
        uint256 leaf,
        IFederation.Verdict[] calldata verdicts,
        IFederation.OpenedLeaf[] calldata updates
    ) private view returns (uint256[] memory sums, uint256 total) {
        uint256 accepted = _countAccepted(verdicts);
        if (updates.length != accepted) revert IFederation.OpenedCount(updates.length, accepted);
        sums = Average.empty();
        uint256 next = 0;
        for (uint256 i = 0; i < verdicts.length; ++i) {
            uint256 weight = verdicts[i].weight;
            if (weight == 0) continue;
            IFederation.OpenedLeaf calldata update = updates[next++];
            // slither-disable-next-line unused-return
            Proofs.openVerdict(verdicts, i, update.opening);
            Proofs.requireLeaf(identity, update.opening.root, leaf, update.leaf, Proofs.UPDATE_LEAF_BYTES);
            Average.add(sums, update.leaf.values, weight);
            total += weight;
        }
    }

    /// @dev What is common to the records of a dispute over masked updates. Reverts unless they are all there.
    function _locate(IFederation.Sum storage sum, bytes calldata members, bytes calldata updates, uint256 depth)
        private
        view
        returns (MaskedLeaves memory at)
    {
        at.count = Sets.requireMembers(sum.membersHash, members);
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

    /// @dev Fewer words at once than the dispute itself has: it would be too deep for the stack.
    function _isAverage(
        uint256[] memory sums,
        MaskedLeaves memory at,
        IFederation.Leaf calldata before,
        IFederation.Leaf calldata model
    ) private pure returns (bool) {
        return Average.isAverage(sums, at.total, at.stepBits, before.values, model.values);
    }

    function _countAccepted(IFederation.Verdict[] calldata verdicts) private pure returns (uint256 accepted) {
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].weight != 0) accepted += 1;
        }
    }

    /// @dev Bits of a model's step in an update's: 24 less those of the round's grid.
    function _stepBits(IFederation.Identity memory identity, uint256 round) private pure returns (uint256) {
        uint256 finer = identity.gridEvery == 0 ? 0 : (round - 1) / identity.gridEvery;
        uint256 grid = identity.gridBits + finer;
        return grid < FRACTION_BITS ? FRACTION_BITS - grid : 0;
    }
}
