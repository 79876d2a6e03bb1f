// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Clones} from "@openzeppelin/contracts/proxy/Clones.sol";

import {IFederation} from "./IFederation.sol";

/// @notice What is fixed at founding.
/// @param terms What the sponsor chose
/// @param sponsor Who founded the federation
/// @param createdAt Unix time of the founding
/// @param aggregators In order of precedence
struct Facts {
    IFederation.Terms terms;
    address sponsor;
    uint40 createdAt;
    address[] aggregators;
}

/// @title What is fixed at founding, behind the code of the proxy
/// @notice abi.encode(terms, sponsor, createdAt, aggregators). Reading it there costs no storage slot.
library Founding {
    /// @notice The bytes that the factory puts behind the proxy's code.
    function encode(Facts memory facts) internal pure returns (bytes memory) {
        return abi.encode(facts.terms, facts.sponsor, facts.createdAt, facts.aggregators);
    }

    /// @notice Everything, as the federation that runs this was founded with it.
    function read() internal view returns (Facts memory facts) {
        bytes memory args = Clones.fetchCloneArgs(address(this));
        (facts.terms, facts.sponsor, facts.createdAt, facts.aggregators) =
            abi.decode(args, (IFederation.Terms, address, uint40, address[]));
    }

    /// @notice The seats alone, for commit() and reveal(): what stands behind them is not decoded.
    function readSeats() internal view returns (IFederation.Seats memory seats) {
        (, seats) = abi.decode(Clones.fetchCloneArgs(address(this)), (IFederation.Identity, IFederation.Seats));
    }
}
