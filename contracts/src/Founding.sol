// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "./IFederation.sol";

/// @notice Who founded a federation, and when.
/// @param sponsor Who founded it
/// @param createdAt Unix time of the founding
struct Founder {
    address sponsor;
    uint40 createdAt;
}

/// @title What is fixed at founding, behind the code of the proxy
/// @notice abi.encode(terms, sponsor, createdAt, aggregators), from byte 45 of the code on (ERC-1167).
/// @dev In memory a struct of numbers is what it is in that encoding, one word a field, so that each group is copied as
///      it stands: 400 gas, where decoding everything would cost each call 9,000. The factory encoded it, so that
///      nothing is left to check. Addresses are 45 + 32 * (fields before): test/Terms.t.sol reads them all.
library Founding {
    uint256 private constant IDENTITY_AT = 45;
    uint256 private constant SEATS_AT = 301;
    uint256 private constant MONEY_AT = 557;
    uint256 private constant WINDOWS_AT = 781;
    uint256 private constant RULES_AT = 1101;
    uint256 private constant FOUNDER_AT = 1197;
    uint256 private constant COUNT_AT = 1293; // behind where the list begins
    uint256 private constant LIST_AT = 1325;

    /// @notice The bytes that the factory puts behind the proxy's code.
    function encode(IFederation.Terms memory terms, Founder memory founder_, address[] memory aggregators_)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encode(terms, founder_, aggregators_);
    }

    /// @notice What is trained, and how its bytes are read.
    // slither-disable-next-line assembly
    function identity() internal view returns (IFederation.Identity memory group) {
        assembly ("memory-safe") { extcodecopy(address(), group, IDENTITY_AT, 256) }
    }

    /// @notice Who may take part, and how many at once.
    // slither-disable-next-line assembly
    function seats() internal view returns (IFederation.Seats memory group) {
        assembly ("memory-safe") { extcodecopy(address(), group, SEATS_AT, 256) }
    }

    /// @notice Prices, stakes and penalties.
    // slither-disable-next-line assembly
    function money() internal view returns (IFederation.Money memory group) {
        assembly ("memory-safe") { extcodecopy(address(), group, MONEY_AT, 224) }
    }

    /// @notice How long each step may take.
    // slither-disable-next-line assembly
    function windows() internal view returns (IFederation.Windows memory group) {
        assembly ("memory-safe") { extcodecopy(address(), group, WINDOWS_AT, 320) }
    }

    /// @notice What is open to be read, and what is paid for.
    // slither-disable-next-line assembly
    function rules() internal view returns (IFederation.Rules memory group) {
        assembly ("memory-safe") { extcodecopy(address(), group, RULES_AT, 96) }
    }

    /// @notice Whether updates are masked.
    // slither-disable-next-line assembly
    function isMasked() internal view returns (bool masked) {
        assembly ("memory-safe") {
            extcodecopy(address(), 0x00, RULES_AT, 0x20) // Privacy.Clear is 0
            masked := mload(0x00)
        }
    }

    /// @notice Reverts unless updates are masked.
    function requireMasked() internal view {
        if (!isMasked()) revert IFederation.WrongPrivacy(IFederation.Privacy.Clear);
    }

    /// @notice Reverts where updates are masked.
    function requireClear() internal view {
        if (isMasked()) revert IFederation.WrongPrivacy(IFederation.Privacy.Masked);
    }

    /// @notice Who founded the federation, and when.
    // slither-disable-next-line assembly
    function founder() internal view returns (Founder memory group) {
        assembly ("memory-safe") { extcodecopy(address(), group, FOUNDER_AT, 64) }
    }

    /// @notice How many aggregators are listed.
    // slither-disable-next-line assembly
    function aggregatorCount() internal view returns (uint256 count) {
        assembly ("memory-safe") {
            extcodecopy(address(), 0x00, COUNT_AT, 0x20)
            count := mload(0x00)
        }
    }

    /// @notice The aggregator at a position of the list, which must be below their number.
    // slither-disable-next-line assembly
    function aggregator(uint256 index) internal view returns (address account) {
        assembly ("memory-safe") {
            extcodecopy(address(), 0x00, add(LIST_AT, mul(index, 0x20)), 0x20)
            account := mload(0x00)
        }
    }
}
