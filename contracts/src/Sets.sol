// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "./IFederation.sol";

/// @title Who is in a sealed set: bits of a word, and the addresses they stand for
library Sets {
    uint256 private constant ADDRESS_BYTES = 20;

    /// @notice Whether bit `place` is set.
    function has(uint256 set, uint256 place) internal pure returns (bool) {
        return (set >> place) & 1 != 0;
    }

    /// @notice Reverts unless `members` are the addresses that `required` is the digest of.
    /// @return count How many they are
    function requireMembers(bytes32 required, bytes calldata members) internal pure returns (uint256 count) {
        bytes32 given = keccak256(members);
        if (given != required) revert IFederation.MembersMismatch(given, required);
        return countOf(members);
    }

    /// @notice How many addresses there are.
    function countOf(bytes calldata members) internal pure returns (uint256) {
        return members.length / ADDRESS_BYTES;
    }

    /// @notice The address at a position, which must be below their number.
    function memberAt(bytes calldata members, uint256 rank) internal pure returns (address) {
        return address(bytes20(members[ADDRESS_BYTES * rank:]));
    }

    /// @notice Reverts unless the submission is of the set `byOrder`.
    /// @dev Who submitted nothing has the order 0, as the first that committed.
    function requireIn(uint256 byOrder, uint256 round, address account, IFederation.Submission storage submission)
        internal
        view
    {
        bool isIn = submission.state != IFederation.SubmissionState.None && has(byOrder, submission.order);
        if (!isIn) revert IFederation.NotInSet(round, account);
    }
}
