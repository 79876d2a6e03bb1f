// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Founding} from "./Founding.sol";
import {IFederation} from "./IFederation.sol";
import {State} from "./State.sol";

/// @title Who leads, and what it loses
library Lead {
    /// @notice Who opens rounds and proposes now.
    function current(State storage state) internal view returns (address) {
        return Founding.aggregator(state.standing.currentAggregatorIndex);
    }

    /// @notice Reverts unless the caller leads.
    function requireCurrent(State storage state) internal view {
        address aggregator = current(state);
        if (msg.sender != aggregator) revert IFederation.NotAggregator(msg.sender, aggregator);
    }

    /// @notice Whether an address may aggregate, has posted its bond, or has lost it.
    function stateOf(State storage state, address account) internal view returns (IFederation.AggregatorState) {
        uint256 count = Founding.aggregatorCount();
        for (uint256 i = 0; i < count; ++i) {
            if (Founding.aggregator(i) != account) continue;
            if (state.standing.slashed & _bit(i) != 0) return IFederation.AggregatorState.Slashed;
            bool isBonded = state.standing.bonded & _bit(i) != 0;
            return isBonded ? IFederation.AggregatorState.Bonded : IFederation.AggregatorState.Listed;
        }
        return IFederation.AggregatorState.Unlisted;
    }

    /// @notice Reverts unless the aggregator is in the state `required`.
    function requireState(State storage state, address account, IFederation.AggregatorState required) internal view {
        IFederation.AggregatorState actual = stateOf(state, account);
        if (actual != required) revert IFederation.WrongAggregatorState(account, required, actual);
    }

    /// @notice Turns a listed aggregator into a bonded one, or back.
    function toggleBonded(State storage state, address account) internal {
        uint256 index = 0;
        while (Founding.aggregator(index) != account) ++index;
        state.standing.bonded ^= _bit(index);
    }

    /// @notice How many aggregators' bonds are held.
    function countBonded(State storage state) internal view returns (uint8 count) {
        for (uint256 rest = state.standing.bonded; rest != 0; rest >>= 1) {
            if (rest & 1 != 0) count += 1;
        }
    }

    /// @notice The next bonded aggregator after the current one, in the order of the list.
    function nextStandby(State storage state) internal view returns (bool found, uint8 index) {
        uint256 count = Founding.aggregatorCount();
        uint256 leading = state.standing.currentAggregatorIndex;
        uint8 bonded = state.standing.bonded;
        for (uint256 step = 1; step < count; ++step) {
            uint256 candidate = (leading + step) % count;
            if (bonded & _bit(candidate) != 0) return (true, uint8(candidate));
        }
    }

    /// @notice Takes the current aggregator's bond: `reward` of it is for the caller to credit, the rest is burned.
    /// @return aggregator Who lost it
    function slash(State storage state, uint256 round, uint128 bond, uint128 reward)
        internal
        returns (address aggregator)
    {
        aggregator = current(state);
        uint8 bit = _bit(state.standing.currentAggregatorIndex);
        state.standing.bonded &= ~bit;
        state.standing.slashed |= bit;
        state.burned += bond - reward;
        emit IFederation.AggregatorSlashed(round, aggregator, bond);
    }

    /// @notice Makes a standby responsible for an open round, with a phase of its own to propose or, before that, to
    ///         seal a masked round's set. A sealed set stays.
    function handOver(State storage state, uint256 round, uint8 index) internal {
        address previous = current(state);
        IFederation.Windows memory windows = Founding.windows();
        bool isUnsealed = Founding.isMasked() && state.sums[round].sealedBlock == 0;
        uint40 deadline = uint40(block.timestamp) + (isUnsealed ? windows.sealSeconds : windows.proposeSeconds);
        state.rounds[round].nextDeadline = deadline;
        state.standing.currentAggregatorIndex = index;
        emit IFederation.AggregatorReplaced(round, previous, current(state), deadline);
    }

    /// @notice Ends a round without a model.
    function abandon(State storage state, uint256 round) internal {
        state.rounds[round].stage = IFederation.Stage.Abandoned;
        state.standing.idleSince = uint40(block.timestamp);
        emit IFederation.Abandoned(round);
    }

    /// @notice Voids the proposal with every request about it, takes the aggregator's bond, credits half of it to
    ///         `rewarded` and hands the round on, reveals and all.
    function refute(State storage state, uint256 round, address rewarded) internal {
        IFederation.Round storage refuted = state.rounds[round];
        uint128 bond = Founding.money().aggregatorBond;
        uint128 reward = bond / 2;
        address aggregator = slash(state, round, bond, reward);
        state.creditOf[rewarded] += reward;
        emit IFederation.ProposalRefuted(round, rewarded, aggregator, refuted.modelRoot, reward);
        withdrawProposal(refuted);
        (bool found, uint8 index) = nextStandby(state);
        if (found) handOver(state, round, index);
        else abandon(state, round);
    }

    /// @notice Forgets the proposal, if one stands, with every request about it.
    function withdrawProposal(IFederation.Round storage r) internal {
        r.stage = IFederation.Stage.Open;
        r.openRequests = 0;
        r.modelRoot = 0;
        r.modelManifest = 0;
        r.verdictsHash = 0;
    }

    /// @dev At most eight are listed.
    function _bit(uint256 index) private pure returns (uint8) {
        return uint8(1 << index);
    }
}
