// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFactory} from "./IFactory.sol";
import {IFederation} from "./IFederation.sol";

/// @title What terms a federation can be founded with
/// @dev A transaction holds 131,072 bytes in geth's pool and 2^24 gas (EIP-7825), and every step of the largest round
///      must fit. The largest dispute, challengeAverage() of 64 updates under a tree of depth 32, has 115,300 bytes and
///      costs 4.7 million gas: so the limits on `roundSeats` and `treeDepth` are all that this takes. challengeSum() of
///      32 masked updates under a tree of depth 24 has 69,500 bytes and costs 5.1 million gas.
library Limits {
    uint256 private constant MOST_AGGREGATORS = 8;
    uint256 private constant MOST_PARTICIPANTS = 512;
    uint256 private constant MOST_ROUND_SEATS = 64;
    uint256 private constant MOST_MASKED_SEATS = 32; // a set of them is a word of 32 bits (struct Sum)
    uint256 private constant LEAST_SET = 3; // of two, each knows the other's update from the sum
    uint256 private constant MASKED_LEAVES = 1 << 24; // numbers of a sketch then fit 64 signed bits
    uint256 private constant MOST_TREE_DEPTH = 32;
    uint256 private constant FRACTION_BITS = 24;
    uint256 private constant MOST_WEIGHT = 1 << 24; // sums of weighted differences then fit 32 bits (library Average)
    uint256 private constant MOST_MONEY = (1 << 112) - 1; // what is burned or escrowed adds up in 128 bits (struct State)
    uint256 private constant LONGEST_WINDOW = 30 days;
    uint256 private constant LONGEST_LIFE = 5 * 365 days;

    /// @notice Reverts with InvalidTerm unless every term is in range.
    function requireValid(IFederation.Terms memory terms) internal view {
        _requireIdentity(terms.identity);
        _requireSeats(terms.seats);
        _requireMoney(terms.money);
        _requireRules(terms);
        _requireWindows(terms.windows);
        if (terms.windows.responseSeconds != 0 && terms.money.availabilityDeposit == 0) {
            revert IFactory.InvalidTerm("availabilityDeposit", 0);
        }
    }

    /// @notice Reverts unless there are 1 to 8 aggregators, none of them twice or the zero address.
    function requireValid(address[] memory aggregators) internal pure {
        if (aggregators.length == 0 || aggregators.length > MOST_AGGREGATORS) {
            revert IFactory.InvalidTerm("aggregators", aggregators.length);
        }
        for (uint256 i = 0; i < aggregators.length; ++i) {
            if (aggregators[i] == address(0)) revert IFactory.InvalidAggregator(address(0));
            for (uint256 earlier = 0; earlier < i; ++earlier) {
                if (aggregators[earlier] == aggregators[i]) revert IFactory.InvalidAggregator(aggregators[i]);
            }
        }
    }

    function _requireIdentity(IFederation.Identity memory t) private pure {
        _require(t.specDigest != 0, "specDigest", 0);
        _require(t.initialModelRoot != 0, "initialModelRoot", 0);
        _require(t.initialModelManifest != 0, "initialModelManifest", 0);
        _require(t.zeroRoot != 0, "zeroRoot", 0);
        _require(t.leafCount != 0, "leafCount", 0);
        // The smallest power of two that holds every leaf, and no larger.
        bool isDepth =
            t.treeDepth <= MOST_TREE_DEPTH && 1 << t.treeDepth >= t.leafCount && (1 << t.treeDepth) / 2 < t.leafCount;
        _require(isDepth, "treeDepth", t.treeDepth);
        _require(t.gridBits <= FRACTION_BITS, "gridBits", t.gridBits);
    }

    function _requireSeats(IFederation.Seats memory t) private pure {
        _require(t.maxParticipants != 0 && t.maxParticipants <= MOST_PARTICIPANTS, "maxParticipants", t.maxParticipants);
        bool isMinimum = t.minParticipants != 0 && t.minParticipants <= t.maxParticipants;
        _require(isMinimum, "minParticipants", t.minParticipants);
        _require(t.roundTarget != 0, "roundTarget", 0);
        _require(t.roundSeats != 0 && t.roundSeats <= MOST_ROUND_SEATS, "roundSeats", t.roundSeats);
        _require(t.maxMissed != 0, "maxMissed", 0);
        bool isCap = t.weightCap != 0 && uint256(t.roundSeats) * t.weightCap < MOST_WEIGHT;
        _require(isCap, "weightCap", t.weightCap);
        _require(t.rounds != 0, "rounds", 0);
    }

    function _requireMoney(IFederation.Money memory t) private view {
        _require(address(t.token).code.length != 0, "token", uint160(address(t.token)));
        _requireAmount("updateReward", t.updateReward, 0);
        _requireAmount("aggregatorFee", t.aggregatorFee, 0);
        _requireAmount("participantStake", t.participantStake, 1);
        _require(t.missedRevealPenalty <= t.participantStake, "missedRevealPenalty", t.missedRevealPenalty);
        _requireAmount("aggregatorBond", t.aggregatorBond, 1);
        _requireAmount("availabilityDeposit", t.availabilityDeposit, 0);
    }

    function _requireWindows(IFederation.Windows memory t) private view {
        _requireWindow("commitSeconds", t.commitSeconds, 1);
        _requireWindow("revealSeconds", t.revealSeconds, 1);
        _requireWindow("proposeSeconds", t.proposeSeconds, 1);
        // A request is made before the last two responseSeconds: one for the answer, one to dispute what it shows.
        _requireWindow("challengeSeconds", t.challengeSeconds, 1);
        _require(t.challengeSeconds >= 3 * uint256(t.responseSeconds), "responseSeconds", t.responseSeconds);
        // A stake must outlast every commitment it stands for, with time left to take the penalty.
        uint256 shortest = uint256(t.commitSeconds) + t.revealSeconds + t.sealSeconds + t.unmaskSeconds
            + t.assistSeconds + t.proposeSeconds;
        _requireWindow("unbondingSeconds", t.unbondingSeconds, shortest);
        bool isDate = t.closesAt > block.timestamp && t.closesAt <= block.timestamp + LONGEST_LIFE;
        _require(isDate, "closesAt", t.closesAt);
    }

    function _requireRules(IFederation.Terms memory t) private pure {
        if (t.rules.privacy == IFederation.Privacy.Clear) {
            _require(t.rules.minSet == 0, "minSet", t.rules.minSet);
            _require(t.windows.sealSeconds == 0, "sealSeconds", t.windows.sealSeconds);
            _require(t.windows.unmaskSeconds == 0, "unmaskSeconds", t.windows.unmaskSeconds);
            _require(t.windows.assistSeconds == 0, "assistSeconds", t.windows.assistSeconds);
            return;
        }
        // Private, or paid by measured help: a masked update cannot be measured by itself.
        _require(t.rules.scoring == IFederation.Scoring.Equal, "scoring", uint8(t.rules.scoring));
        _require(t.seats.roundSeats <= MOST_MASKED_SEATS, "roundSeats", t.seats.roundSeats);
        bool isLeast = t.rules.minSet >= LEAST_SET && t.rules.minSet <= t.seats.minParticipants
            && t.rules.minSet <= t.seats.roundSeats;
        _require(isLeast, "minSet", t.rules.minSet);
        _require(t.identity.leafCount < MASKED_LEAVES, "leafCount", t.identity.leafCount);
        _requireWindow("sealSeconds", t.windows.sealSeconds, 1);
        _requireWindow("unmaskSeconds", t.windows.unmaskSeconds, 1);
        _requireWindow("assistSeconds", t.windows.assistSeconds, 1);
    }

    function _requireAmount(bytes32 term, uint256 value, uint256 least) private pure {
        _require(value >= least && value <= MOST_MONEY, term, value);
    }

    function _requireWindow(bytes32 term, uint256 value, uint256 shortest) private pure {
        _require(value >= shortest && value <= LONGEST_WINDOW, term, value);
    }

    function _require(bool isInRange, bytes32 term, uint256 value) private pure {
        if (!isInRange) revert IFactory.InvalidTerm(term, value);
    }
}
