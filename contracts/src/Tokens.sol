// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IFederation} from "./IFederation.sol";

/// @title Tokens on their way in
library Tokens {
    using SafeERC20 for IERC20;

    /// @notice Takes `amount` from the caller, and all of it: a token that keeps a fee would leave a debt.
    function pull(IERC20 token, uint256 amount) internal {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 received = token.balanceOf(address(this)) - before;
        if (received != amount) revert IFederation.WrongAmountReceived(received, amount);
    }
}
