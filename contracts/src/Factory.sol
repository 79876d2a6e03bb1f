// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";

import {Federation} from "./Federation.sol";
import {Founder, Founding} from "./Founding.sol";
import {IFactory} from "./IFactory.sol";
import {IFederation} from "./IFederation.sol";
import {Limits} from "./Limits.sol";

/// @title Where federations are founded
/// @notice It keeps nothing and rules nothing: a federation is its sponsor's, under the terms in its code.
contract Factory is IFactory {
    /// @inheritdoc IFactory
    address public immutable implementation;

    /// @notice Deploys the implementation too, so that it is no other than what this was compiled with.
    constructor() {
        implementation = address(new Federation());
    }

    /// @inheritdoc IFactory
    function create(IFederation.Terms memory terms, address[] memory aggregators)
        external
        returns (address federation)
    {
        Limits.requireValid(terms);
        Limits.requireValid(aggregators);
        Founder memory founder = Founder({sponsor: msg.sender, createdAt: uint40(block.timestamp)});
        federation = Clones.cloneWithImmutableArgs(implementation, Founding.encode(terms, founder, aggregators));
        emit FederationCreated(federation, msg.sender, terms.identity.specDigest);
    }
}
