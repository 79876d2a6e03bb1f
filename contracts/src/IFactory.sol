// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "./IFederation.sol";

/// @title Where federations are founded
interface IFactory {
    /// @notice A federation was founded. Its terms and aggregators stand in its code: terms(), aggregators().
    event FederationCreated(address indexed federation, address indexed sponsor, bytes32 indexed specDigest);

    /// @notice A term is out of range.
    error InvalidTerm(bytes32 term, uint256 value);
    /// @notice An aggregator is the zero address or listed twice.
    error InvalidAggregator(address aggregator);

    /// @notice Founds a federation; the caller is its sponsor.
    /// @param terms What can never change
    /// @param aggregators The first leads, the others stand by in this order; at most 8
    /// @return federation A minimal proxy of the implementation (ERC-1167) with the terms behind its code
    function create(IFederation.Terms calldata terms, address[] calldata aggregators)
        external
        returns (address federation);

    /// @notice The code that every federation of this factory runs.
    function implementation() external view returns (address);
}
