// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {Phases} from "./Phases.sol";
import {State} from "./State.sol";

/// @title What participants send: commitments and reveals
/// @dev Functions here are part of the federation's own code: everybody calls them in every round, and a linked library
///      costs each call 3,000 gas.
library Submissions {
    /// @notice See IFederation.commit.
    function commit(State storage state, uint256 round, bytes32 commitment) internal {
        IFederation.Seats memory seats = Founding.seats();
        IFederation.Round storage r = state.rounds[round];
        uint8 order = r.committed;
        if (order >= seats.roundSeats) revert IFederation.RoundFull(round, seats.roundSeats);
        Phases.requireStatus(state, round, IFederation.Status.Commit);
        if (commitment == 0) revert IFederation.ZeroDigest();
        IFederation.Participant storage participant = state.participants[msg.sender];
        if (!participant.active || participant.joinedBlock >= r.openedBlock) {
            revert IFederation.NotActive(round, msg.sender);
        }
        if (!Phases.isEligible(state, round, msg.sender, seats.roundTarget)) {
            revert IFederation.NotEligible(round, msg.sender);
        }
        Phases.requireSubmission(state, round, msg.sender, IFederation.SubmissionState.None);
        state.submissions[round][msg.sender] = IFederation.Submission({
            digest: bytes30(commitment), order: order, state: IFederation.SubmissionState.Committed
        });
        r.committed = order + 1;
        participant.lastCommitted = uint32(round);
        emit IFederation.Committed(round, msg.sender, commitment);
    }

    /// @notice See IFederation.reveal.
    function reveal(State storage state, uint256 round, bytes32 root, bytes32 manifest, uint32 examples, bytes32 salt)
        internal
    {
        IFederation.Seats memory seats = Founding.seats();
        Phases.requireStatus(state, round, IFederation.Status.Reveal);
        Phases.requireSubmission(state, round, msg.sender, IFederation.SubmissionState.Committed);
        if (root == 0 || manifest == 0) revert IFederation.ZeroDigest();
        if (examples == 0) revert IFederation.NoExamples();
        IFederation.Submission storage submission = state.submissions[round][msg.sender];
        bytes30 opened =
            bytes30(keccak256(abi.encode(address(this), round, msg.sender, root, manifest, examples, salt)));
        if (opened != submission.digest) revert IFederation.CommitmentMismatch(submission.digest, opened);
        submission.digest = bytes30(keccak256(abi.encode(root, manifest, examples)));
        submission.state = IFederation.SubmissionState.Revealed;
        _count(state.rounds[round], examples < seats.weightCap ? examples : seats.weightCap);
        emit IFederation.Revealed(round, msg.sender, root, manifest, examples, salt);
    }

    /// @dev The weights of all seats together are below 2^24 (library Limits).
    function _count(IFederation.Round storage r, uint32 weight) private {
        r.revealed += 1;
        r.revealedWeight += uint24(weight);
    }
}
