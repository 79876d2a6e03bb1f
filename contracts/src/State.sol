// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "./IFederation.sol";

/// @notice Where a federation stands between rounds, in one storage slot.
/// @param roundCount Rounds opened so far
/// @param lastFinalizedRound Its model is the current one; 0: the initial model
/// @param activeCount Seats that may commit
/// @param joinBlock The last block in which somebody joined
/// @param joinedThen Active seats that joined in that block: a round opened in it does not count them
/// @param currentAggregatorIndex Position of the current aggregator in the list
/// @param bonded Aggregators whose bond is held: bit i stands for position i of the list
/// @param slashed Aggregators that lost theirs, likewise
/// @param idleSince Unix time since which no round has been open; 0: since the founding
/// @param isClosed Whether the sponsor closed the federation
struct Standing {
    uint32 roundCount;
    uint32 lastFinalizedRound;
    uint16 activeCount;
    uint40 joinBlock;
    uint16 joinedThen;
    uint8 currentAggregatorIndex;
    uint8 bonded;
    uint8 slashed;
    uint40 idleSince;
    bool isClosed;
}

/// @notice All that a federation stores. Its terms are no part of it: they stand in its code (library Founding).
/// @param standing Where it stands between rounds
/// @param escrow Token units set aside for rewards and fees
/// @param burned Token units that penalties took; in one slot with the escrow, which is seldom empty
/// @param deposits Token units held for leaf requests
/// @param creditOf Token units an account can withdraw
/// @param participants Seats by account
/// @param rounds Rounds by number, from 1
/// @param submissions Submissions by round and participant
/// @param requests Leaf requests by keccak256(root, leaf)
/// @param sums What is summed, by round, where updates are masked
struct State {
    Standing standing;
    uint128 escrow;
    uint128 burned;
    uint256 deposits;
    mapping(address account => uint256 amount) creditOf;
    mapping(address account => IFederation.Participant participant) participants;
    mapping(uint256 round => IFederation.Round facts) rounds;
    mapping(uint256 round => mapping(address participant => IFederation.Submission submission)) submissions;
    mapping(bytes32 key => IFederation.LeafRequest request) requests;
    mapping(uint256 round => IFederation.Sum sum) sums;
}
