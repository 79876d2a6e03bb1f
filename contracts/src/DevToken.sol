// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A plain ERC-20 for development chains
/// @notice The whole supply goes to the deployer; nobody can mint afterwards. It has no value.
contract DevToken is ERC20 {
    /// @param supply Token units (18 decimals) given to the deployer
    constructor(uint256 supply) ERC20("Commonweight development token", "CWD") {
        _mint(msg.sender, supply);
    }
}
