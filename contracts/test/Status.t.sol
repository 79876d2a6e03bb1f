// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev status: which phase at which second, and which phases end early
///      ├── None → Commit on opening
///      ├── Commit → Reveal when all expected committed, or at commitDeadline with a commitment
///      ├── Commit → Propose at commitDeadline with none
///      ├── Reveal → Propose when all committed revealed, or at revealDeadline
///      ├── Propose → Expired at proposeDeadline
///      ├── Propose → Challenge on a proposal, → Settleable at challengeDeadline
///      └── Finalized and Abandoned for ever
///      isOver: idle, and no round can be opened
contract StatusTest is World {
    IFederation.Status private constant NONE = IFederation.Status.None;

    function test_PhasesEndAtTheirDeadlines() public {
        _assertStatus(1, NONE);
        uint256 round = _openWith(3);
        _assertStatus(0, NONE);
        _assertStatus(round + 1, NONE);
        _assertStatus(round, IFederation.Status.Commit);
        _commitAll(round, 2);
        _assertLastSecond(round, START + COMMIT, IFederation.Status.Commit, IFederation.Status.Reveal);
        _reveal(round, 0);
        _assertLastSecond(round, START + COMMIT + REVEAL, IFederation.Status.Reveal, IFederation.Status.Propose);
        _assertLastSecond(
            round, START + COMMIT + REVEAL + PROPOSE, IFederation.Status.Propose, IFederation.Status.Expired
        );
    }

    function test_AProposalIsSettleableAtItsDeadline() public {
        uint256 round = _proposedWith(2);
        uint256 deadline = START + CHALLENGE;
        _assertLastSecond(round, deadline, IFederation.Status.Challenge, IFederation.Status.Settleable);
        vm.warp(deadline + 1_000_000);
        _assertStatus(round, IFederation.Status.Settleable);
        federation.finalize(round, _verdicts(2));
        _assertStatus(round, IFederation.Status.Finalized);
        vm.warp(deadline + 2_000_000);
        _assertStatus(round, IFederation.Status.Finalized);
    }

    function test_AllCommittedEndsThePhaseEarly() public {
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        _assertStatus(round, IFederation.Status.Commit);
        _commit(round, 2);
        _assertStatus(round, IFederation.Status.Reveal);
    }

    function test_AllRevealedEndsThePhaseEarly() public {
        uint256 round = _openWith(3);
        _commitAll(round, 2);
        vm.warp(START + COMMIT);
        _reveal(round, 1);
        _assertStatus(round, IFederation.Status.Reveal);
        _reveal(round, 0);
        _assertStatus(round, IFederation.Status.Propose);
    }

    function test_ALeavingParticipantIsStillWaitedFor() public {
        uint256 round = _openWith(3);
        vm.prank(_participant(2));
        federation.leave();
        _commitAll(round, 2);
        _assertStatus(round, IFederation.Status.Commit);
        vm.warp(START + COMMIT);
        _assertStatus(round, IFederation.Status.Reveal);
    }

    function test_ALateJoinerIsNotWaitedFor() public {
        uint256 round = _openWith(2);
        _joinOne(stranger);
        _commitAll(round, 2);
        _assertStatus(round, IFederation.Status.Reveal);
    }

    function test_WithoutCommitmentNothingIsToBeRevealed() public {
        uint256 round = _openWith(2);
        _assertLastSecond(round, START + COMMIT, IFederation.Status.Commit, IFederation.Status.Propose);
    }

    function test_AbandonedIsForEver() public {
        uint256 round = _openWith(2);
        vm.warp(START + COMMIT);
        federation.abandon(round);
        vm.warp(START + COMMIT + 1_000_000);
        _assertStatus(round, IFederation.Status.Abandoned);
    }

    function test_OverToTheSecond() public {
        vm.warp(START + 99_999);
        vm.assertTrue(!federation.isOver(), "a round can still be opened");
        vm.warp(START + 100_000);
        vm.assertTrue(federation.isOver(), "too late");
    }

    function test_NotOverWhileARoundIsOpen() public {
        uint256 round = _openWith(1);
        _close();
        vm.assertTrue(!federation.isOver(), "open");
        federation.abandon(round);
        vm.assertTrue(federation.isOver(), "idle and too late");
    }

    function _assertLastSecond(uint256 round, uint256 deadline, IFederation.Status before, IFederation.Status then_)
        private
    {
        vm.warp(deadline - 1);
        _assertStatus(round, before);
        vm.warp(deadline);
        _assertStatus(round, then_);
    }
}
