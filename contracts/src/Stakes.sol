// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {State} from "./State.sol";

/// @title What is taken of a participant's stake, and of its seat
library Stakes {
    /// @notice Burns the penalty of a submission, or what is left of the stake, and marks the submission.
    /// @param marked What the submission becomes: it is penalized once
    function penalize(State storage state, uint256 round, address account, IFederation.SubmissionState marked)
        internal
    {
        IFederation.Participant storage participant = state.participants[account];
        uint128 penalty = Founding.money().missedRevealPenalty;
        uint128 amount = participant.stake < penalty ? participant.stake : penalty;
        state.submissions[round][account].state = marked;
        if (amount != 0) deactivate(state, participant); // no longer fully staked: join() fills it up
        participant.stake -= amount;
        state.burned += amount;
        emit IFederation.Penalized(round, account, amount);
    }

    /// @notice Takes a seat out of the count of those that may commit.
    function deactivate(State storage state, IFederation.Participant storage participant) internal {
        if (!participant.active) return;
        participant.active = false;
        state.standing.activeCount -= 1;
        // Two numbers of blocks, not a balance that a donation could move.
        // slither-disable-next-line incorrect-equality
        if (participant.joinedBlock == block.number) state.standing.joinedThen -= 1;
    }
}
