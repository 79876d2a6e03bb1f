// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Average} from "./Average.sol";
import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Lead} from "./Lead.sol";
import {Phases} from "./Phases.sol";
import {Proofs} from "./Proofs.sol";
import {State} from "./State.sol";

/// @title What shows a proposal to be wrong
/// @dev Linked; the federation calls it with its own storage. Each function returns only if it has refuted the proposal.
library Disputes {
    uint256 private constant ZERO_UPDATE = 9; // reasons, docs/protocol.md §6
    uint256 private constant DUPLICATE = 10;

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
        Proofs.requireModelLeaves(state, identity, round, leaf, before, model);
        (uint256[] memory sums, uint256 total) = _sumAccepted(identity, leaf, verdicts, updates);
        if (total == 0) revert IFederation.NothingAveraged(round);
        uint256 s = Proofs.stepBits(identity, round);
        if (Average.isAverage(sums, total, s, before.values, model.values)) {
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
        Proofs.requireModelLeaves(state, identity, round, leaf, before, model);
        if (Average.isBounded(Proofs.stepBits(identity, round), before.values, model.values)) {
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

    function _countAccepted(IFederation.Verdict[] calldata verdicts) private pure returns (uint256 accepted) {
        for (uint256 i = 0; i < verdicts.length; ++i) {
            if (verdicts[i].weight != 0) accepted += 1;
        }
    }
}
