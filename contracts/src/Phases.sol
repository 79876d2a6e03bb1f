// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {State} from "./State.sol";

/// @title Where rounds and the federation stand
/// @notice Derived from stored facts, the block's time and its number, and never stored.
library Phases {
    uint256 private constant SEED_BLOCKS = 256; // as far back as a block's hash can be had

    /// @notice Where a round stands now.
    function status(State storage state, uint256 round) internal view returns (IFederation.Status) {
        IFederation.Round storage r = state.rounds[round];
        IFederation.Stage stage = r.stage;
        if (r.openedBlock == 0) return IFederation.Status.None;
        if (stage == IFederation.Stage.Finalized) return IFederation.Status.Finalized;
        if (stage == IFederation.Stage.Abandoned) return IFederation.Status.Abandoned;
        if (stage == IFederation.Stage.Proposed) {
            if (isObjected(state, round)) return IFederation.Status.Void;
            // An overdue leaf keeps the round here until settleRequest(), which anybody may call at once.
            bool isOpen = block.timestamp < r.nextDeadline || r.openRequests != 0;
            return isOpen ? IFederation.Status.Challenge : IFederation.Status.Settleable;
        }
        uint256 commitDeadline = r.commitDeadline;
        if (commitDeadline == 0) {
            bool hasHash = block.number <= r.openedBlock + SEED_BLOCKS;
            return hasHash ? IFederation.Status.Seed : IFederation.Status.Unseeded;
        }
        uint256 committed = r.committed;
        // Nobody is left to commit: the phase ends early.
        bool isFull = committed >= r.active || committed >= Founding.seats().roundSeats;
        if (!isFull && block.timestamp < commitDeadline) return IFederation.Status.Commit;
        if (r.revealed < committed && block.timestamp < r.revealDeadline && committed >= Founding.rules().minSet) {
            // With fewer no sum can be opened, and nobody is to be blamed for revealing nothing into such a round.
            return IFederation.Status.Reveal;
        }
        IFederation.Status next = Founding.isMasked() ? _afterReveal(state.sums[round]) : IFederation.Status.Propose;
        bool hasDeadline = next == IFederation.Status.Propose || next == IFederation.Status.Seal;
        return hasDeadline && block.timestamp >= r.nextDeadline ? IFederation.Status.Expired : next;
    }

    /// @notice Whether two thirds of the set object to the sum.
    function isObjected(State storage state, uint256 round) internal view returns (bool) {
        if (!Founding.isMasked()) return false;
        IFederation.Sum storage sum = state.sums[round];
        return 3 * uint256(sum.objections) >= 2 * uint256(sum.size);
    }

    /// @notice Reverts unless the round is in the phase `required`.
    function requireStatus(State storage state, uint256 round, IFederation.Status required) internal view {
        IFederation.Status actual = status(state, round);
        if (actual != required) revert IFederation.WrongStatus(round, required, actual);
    }

    /// @notice Reverts unless the submission is in the state `required`.
    function requireSubmission(
        State storage state,
        uint256 round,
        address account,
        IFederation.SubmissionState required
    ) internal view {
        IFederation.SubmissionState actual = state.submissions[round][account].state;
        if (actual != required) revert IFederation.WrongSubmissionState(round, account, required, actual);
    }

    /// @notice Whether no round is open.
    function isIdle(State storage state) internal view returns (bool) {
        uint256 round = state.standing.roundCount;
        return round == 0 || state.rounds[round].stage >= IFederation.Stage.Finalized;
    }

    /// @notice Reverts while a round is open.
    function requireIdle(State storage state) internal view {
        if (isIdle(state)) return;
        uint256 round = state.standing.roundCount;
        revert IFederation.RoundStillOpen(round, status(state, round));
    }

    /// @notice Whether no round is open and none can be opened any more.
    function isOver(State storage state) internal view returns (bool) {
        if (!isIdle(state)) return false;
        uint256 count = state.standing.roundCount;
        bool isLeaderless = count != 0 && state.standing.bonded == 0;
        return isLeaderless || hasEnded(state);
    }

    /// @notice Whether no further round can be opened, whoever leads.
    function hasEnded(State storage state) internal view returns (bool) {
        return state.standing.isClosed || state.standing.roundCount >= Founding.seats().rounds
            || block.timestamp >= Founding.windows().closesAt;
    }

    /// @notice Unix time since which no round has been open.
    function idleSince(State storage state) internal view returns (uint40) {
        uint40 since = state.standing.idleSince;
        return since == 0 ? Founding.founder().createdAt : since;
    }

    /// @notice Root of the last finalized round's model, or of the initial one.
    function currentRoot(State storage state) internal view returns (bytes32) {
        uint256 last = state.standing.lastFinalizedRound;
        return last == 0 ? Founding.identity().initialModelRoot : state.rounds[last].modelRoot;
    }

    /// @notice SHA-256 of that model's manifest.
    function currentManifest(State storage state) internal view returns (bytes32) {
        uint256 last = state.standing.lastFinalizedRound;
        return last == 0 ? Founding.identity().initialModelManifest : state.rounds[last].modelManifest;
    }

    /// @notice Whether the round's seed drew `account`.
    /// @param roundTarget The term
    function isEligible(State storage state, uint256 round, address account, uint256 roundTarget)
        internal
        view
        returns (bool)
    {
        IFederation.Round storage r = state.rounds[round];
        uint256 active = r.active;
        if (active <= roundTarget) return true;
        uint256 drawn = uint256(keccak256(abi.encode(r.seed, account)));
        // Divided first, or the product would overflow; what that loses is below 10^-72.
        // slither-disable-next-line divide-before-multiply
        return drawn < type(uint256).max / active * roundTarget;
    }

    /// @dev What a masked round waits for once the reveals are in, the deadlines of seal and proposal aside.
    function _afterReveal(IFederation.Sum storage sum) private view returns (IFederation.Status) {
        if (sum.sealedBlock == 0) return IFederation.Status.Seal;
        if (sum.unmasked == sum.size) return IFederation.Status.Propose;
        if (block.timestamp < sum.unmaskDeadline) return IFederation.Status.Unmask;
        return block.timestamp < sum.assistDeadline ? IFederation.Status.Assist : IFederation.Status.Void;
    }
}
