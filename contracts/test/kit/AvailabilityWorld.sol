// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IFederation} from "../../src/IFederation.sol";
import {DisputeWorld} from "./DisputeWorld.sol";
import {Trees} from "./Trees.sol";

/// @dev A proposal of real trees, a challenger with tokens, and one line for each step of a demand.
abstract contract AvailabilityWorld is DisputeWorld {
    uint256 internal constant COUNT = 3;
    uint256 internal constant PURSE = 1000;

    address internal responder = _account("responder");

    function setUp() public virtual override {
        super.setUp();
        _draw(1, COUNT);
        _give(challenger, PURSE);
    }

    // ---------------------------------------------------------------- demands

    function _modelRoot(uint256 round) internal view returns (bytes32) {
        return federation.getRound(round).modelRoot;
    }

    function _demandModel(uint256 round, uint256 leaf) internal {
        _demandModelAs(challenger, round, leaf);
    }

    function _demandModelAs(address account, uint256 round, uint256 leaf) internal {
        vm.prank(account);
        federation.challengeModelAvailability(round, leaf);
    }

    function _demandUpdate(uint256 round, uint256 i, uint256 leaf) internal {
        _demandUpdate(round, i, leaf, _verdicts(COUNT));
    }

    function _demandUpdate(uint256 round, uint256 i, uint256 leaf, IFederation.Verdict[] memory verdicts) internal {
        (bytes32 root, bytes32 manifest, uint32 examples) = (_root(round, i), _manifest(round, i), _examples(i));
        vm.prank(challenger);
        federation.challengeUpdateAvailability(round, leaf, i, verdicts, root, manifest, examples);
    }

    // ---------------------------------------------------------------- answers

    function _postModel(uint256 leaf) internal {
        _postModelAs(responder, leaf);
    }

    function _postModelAs(address account, uint256 leaf) internal {
        bytes32 root = Trees.root(modelLeaves);
        IFederation.Leaf memory opened = _leafOf(modelLeaves, leaf);
        vm.prank(account);
        federation.postLeaf(root, leaf, opened);
    }

    function _postUpdate(uint256 i, uint256 leaf) internal {
        IFederation.Leaf memory opened = _leafOf(updateLeaves[i], leaf);
        vm.prank(responder);
        federation.postLeaf(rootOf[i], leaf, opened);
    }

    /// @dev Whoever settles is not the challenger and gets nothing.
    function _settle(bytes32 root, uint256 leaf) internal {
        vm.prank(stranger);
        federation.settleAvailability(root, leaf);
        vm.assertEq(federation.creditOf(stranger), 0, "whoever settles");
    }

    // ------------------------------------------------------------- assertions

    function _assertRequest(bytes32 root, uint256 leaf, IFederation.RequestState expected) internal view {
        vm.assertEq(uint8(federation.availabilityRequest(root, leaf).state), uint8(expected), "request");
    }

    /// @dev Nothing is left of the request but, perhaps, that the leaf is public.
    function _assertForgotten(bytes32 root, uint256 leaf) internal view {
        IFederation.AvailabilityRequest memory none;
        vm.assertEq(abi.encode(federation.availabilityRequest(root, leaf)), abi.encode(none));
    }

    function _assertOpen(uint256 round, uint256 expected) internal view {
        vm.assertEq(federation.getRound(round).openRequests, expected, "open requests");
    }

    function _expectNotDemanded(bytes32 root, uint256 leaf) internal {
        vm.expectRevert(abi.encodeWithSelector(IFederation.NotDemanded.selector, root, leaf));
    }
}
