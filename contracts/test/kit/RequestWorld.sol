// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../../src/IFederation.sol";
import {DisputeWorld} from "./DisputeWorld.sol";
import {Trees} from "./Trees.sol";

/// @dev A proposal of real trees, a challenger with tokens, and one line for each step of a leaf request.
abstract contract RequestWorld is DisputeWorld {
    uint256 internal constant PURSE = 1000;

    address internal responder = _account("responder");

    function setUp() public virtual override {
        super.setUp();
        _draw(1, COUNT);
        _give(challenger, PURSE);
    }

    // --------------------------------------------------------------- requests

    function _modelRoot(uint256 round) internal view returns (bytes32) {
        return federation.getRound(round).modelRoot;
    }

    function _requestModel(uint256 round, uint256 leaf) internal {
        _requestModelAs(challenger, round, leaf);
    }

    function _requestModelAs(address account, uint256 round, uint256 leaf) internal {
        vm.prank(account);
        federation.requestModelLeaf(round, leaf);
    }

    function _requestUpdate(uint256 round, uint256 i, uint256 leaf) internal {
        _requestUpdate(round, i, leaf, _verdicts(round, COUNT));
    }

    function _requestUpdate(uint256 round, uint256 i, uint256 leaf, IFederation.Verdict[] memory verdicts) internal {
        IFederation.Opening memory opening = _opening(round, i);
        vm.prank(challenger);
        federation.requestUpdateLeaf(round, leaf, i, verdicts, opening);
    }

    // ---------------------------------------------------------------- answers

    function _modelAnswer(uint256 leaf) internal view returns (IFederation.LeafAnswer memory) {
        return IFederation.LeafAnswer({root: Trees.root(modelLeaves), index: leaf, leaf: _leafOf(modelLeaves, leaf)});
    }

    function _updateAnswer(uint256 i, uint256 leaf) internal view returns (IFederation.LeafAnswer memory) {
        return IFederation.LeafAnswer({root: rootOf[i], index: leaf, leaf: _leafOf(updateLeaves[i], leaf)});
    }

    function _post(IFederation.LeafAnswer memory answer) internal {
        _postAs(responder, answer);
    }

    function _postAs(address account, IFederation.LeafAnswer memory answer) internal {
        IFederation.LeafAnswer[] memory answers = new IFederation.LeafAnswer[](1);
        answers[0] = answer;
        vm.prank(account);
        federation.postLeaves(answers);
    }

    /// @dev Whoever settles is not the challenger and gets nothing.
    function _settle(bytes32 root, uint256 leaf) internal {
        vm.prank(stranger);
        federation.settleRequest(root, leaf);
        vm.assertEq(federation.creditOf(stranger), 0, "whoever settles");
    }

    // ------------------------------------------------------------- assertions

    function _assertRequest(bytes32 root, uint256 leaf, IFederation.RequestState expected) internal view {
        vm.assertEq(uint8(federation.leafRequest(root, leaf).state), uint8(expected), "request");
    }

    /// @dev Nothing is left of the request.
    function _assertForgotten(bytes32 root, uint256 leaf) internal view {
        IFederation.LeafRequest memory none;
        vm.assertEq(abi.encode(federation.leafRequest(root, leaf)), abi.encode(none));
    }

    function _assertOpen(uint256 round, uint256 expected) internal view {
        vm.assertEq(federation.getRound(round).openRequests, expected, "open requests");
    }

    function _expectNotRequested(bytes32 root, uint256 leaf) internal {
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotRequested.selector, root, leaf));
    }
}
