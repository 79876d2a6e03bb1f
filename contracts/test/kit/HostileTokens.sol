// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

abstract contract TestToken is ERC20 {
    constructor() ERC20("Test", "TEST") {
        _mint(msg.sender, type(uint128).max);
    }
}

/// @dev Keeps one unit of every transferFrom.
contract FeeToken is TestToken {
    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        _spendAllowance(from, msg.sender, amount);
        _transfer(from, to, amount - 1);
        _burn(from, 1);
        return true;
    }
}

/// @dev Delivers one unit too many.
contract GenerousToken is TestToken {
    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        _mint(to, 1);
        return super.transferFrom(from, to, amount);
    }
}

/// @dev Takes from the receiver instead.
contract ShrinkingToken is TestToken {
    function transferFrom(address, address to, uint256) public override returns (bool) {
        _burn(to, 1);
        return true;
    }
}

/// @dev Says that it failed, and did.
contract FalseToken is TestToken {
    bool public lies;

    function startLying() external {
        lies = true;
    }

    function transfer(address to, uint256 amount) public override returns (bool) {
        return lies ? false : super.transfer(to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) public override returns (bool) {
        return lies ? false : super.transferFrom(from, to, amount);
    }
}

/// @dev Says that it succeeded, and moved nothing.
contract IdleToken is TestToken {
    function transferFrom(address, address, uint256) public pure override returns (bool) {
        return true;
    }
}

/// @dev Balances shrink by themselves: each is a share of a supply that the issuer lowers.
contract RebasingToken is TestToken {
    uint256 public percent = 100;

    function rebase(uint256 percent_) external {
        percent = percent_;
    }

    function balanceOf(address account) public view override returns (uint256) {
        return super.balanceOf(account) * percent / 100;
    }

    /// @dev Amounts are given in today's units.
    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount * 100 / percent);
    }
}

/// @dev Returns nothing, as some old tokens do; otherwise honest.
contract SilentToken {
    mapping(address account => uint256) public balanceOf;

    constructor() {
        balanceOf[msg.sender] = type(uint128).max;
    }

    function transfer(address to, uint256 amount) external {
        _move(msg.sender, to, amount);
    }

    function transferFrom(address from, address to, uint256 amount) external {
        _move(from, to, amount);
    }

    function _move(address from, address to, uint256 amount) private {
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
    }
}

/// @dev Its issuer can stop all transfers, or those of one account.
contract PausableToken is TestToken {
    error Paused();
    error Blocked(address account);

    bool public paused;
    mapping(address account => bool) public isBlocked;

    function setPaused(bool value) external {
        paused = value;
    }

    function setBlocked(address account, bool value) external {
        isBlocked[account] = value;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (paused) revert Paused();
        if (isBlocked[to]) revert Blocked(to);
        super._update(from, to, amount);
    }
}

/// @dev Once armed, calls its sender back through an accomplice before it moves anything.
contract ReentrantToken is TestToken {
    Accomplice public immutable accomplice = new Accomplice();
    bytes private _payload;
    bool public calledBack;
    bool public succeeded;
    bytes public answer;

    function arm(bytes calldata payload) external {
        _payload = payload;
    }

    function _update(address from, address to, uint256 amount) internal override {
        bytes memory payload = _payload;
        if (payload.length != 0) {
            delete _payload;
            calledBack = true;
            (succeeded, answer) = accomplice.act(msg.sender, payload);
        }
        super._update(from, to, amount);
    }
}

/// @dev An account that does whatever it is told.
contract Accomplice {
    function act(address target, bytes calldata payload) external returns (bool, bytes memory) {
        return target.call(payload);
    }
}
