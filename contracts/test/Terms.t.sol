// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Federation} from "../src/Federation.sol";
import {IFederation} from "../src/IFederation.sol";
import {World} from "./kit/World.sol";

/// @dev constructor
///      ├── every term in range: deploys, returns them from terms(), lists the aggregators, emits Created
///      ├── one term out of range: InvalidTerm(its name, its value)
///      └── an aggregator zero or twice: InvalidAggregator
contract TermsTest is World {
    function test_TermsAreKept() public view {
        vm.assertEq(abi.encode(federation.terms()), abi.encode(_terms()));
        vm.assertEq(federation.sponsor(), sponsor);
        vm.assertEq(federation.idleSince(), START);
        vm.assertEq(federation.aggregators(), aggregators);
        vm.assertEq(federation.currentAggregator(), aggregators[0]);
        for (uint256 i = 0; i < aggregators.length; ++i) {
            _assertAggregator(aggregators[i], IFederation.AggregatorState.Listed);
        }
        _assertAggregator(sponsor, IFederation.AggregatorState.Unlisted);
        (bytes32 root, bytes32 manifest) = federation.currentModel();
        vm.assertEq(root, INITIAL_ROOT);
        vm.assertEq(manifest, INITIAL_MANIFEST);
    }

    function test_EmitsCreated() public {
        IFederation.Terms memory terms = _terms();
        bytes32 creation = keccak256(abi.encodePacked(type(Federation).creationCode, abi.encode(terms, aggregators)));
        Factory factory = new Factory();
        address expected = address(
            uint160(uint256(keccak256(abi.encodePacked(bytes1(0xff), address(factory), bytes32(0), creation))))
        );
        vm.expectEmit(expected);
        emit IFederation.Created(address(factory), terms.specDigest, INITIAL_ROOT, INITIAL_MANIFEST, aggregators);
        factory.create(terms, aggregators);
    }

    function test_RevertWhen_TokenIsNoContract() public {
        IFederation.Terms memory terms = _terms();
        terms.token = IERC20(stranger);
        _refuse(terms, "token", uint160(stranger));
    }

    function test_RevertWhen_ADigestIsZero() public {
        IFederation.Terms memory terms = _terms();
        terms.specDigest = 0;
        _refuse(terms, "specDigest", 0);
        terms = _terms();
        terms.initialModelRoot = 0;
        _refuse(terms, "initialModelRoot", 0);
        terms = _terms();
        terms.initialModelManifest = 0;
        _refuse(terms, "initialModelManifest", 0);
    }

    function test_RevertWhen_ThereIsNoLeaf() public {
        IFederation.Terms memory terms = _terms();
        terms.leafCount = 0;
        _refuse(terms, "leafCount", 0);
    }

    function test_TreeDepthIsTheSmallestThatHoldsEveryLeaf() public {
        _acceptDepth(1, 0);
        _acceptDepth(2, 1);
        _acceptDepth(3, 2);
        _acceptDepth(4, 2);
        _acceptDepth(5, 3);
        _acceptDepth(1 << 31, 31);
        _acceptDepth((1 << 31) + 1, 32);
        _acceptDepth(type(uint32).max, 32);
    }

    function test_RevertWhen_TreeIsTooShallowOrTooDeep() public {
        _refuseDepth(1, 1);
        _refuseDepth(2, 0);
        _refuseDepth(2, 2);
        _refuseDepth(4, 3);
        _refuseDepth(5, 2);
        _refuseDepth(type(uint32).max, 31);
        _refuseDepth(type(uint32).max, 33);
        _refuseDepth(type(uint32).max, 255);
    }

    function testFuzz_ExactlyOneDepthIsRight(uint32 leafCount, uint8 depth) public {
        leafCount = uint32(_bound(leafCount, 1, type(uint32).max));
        depth = uint8(_bound(depth, 0, 40));
        uint8 right = 0;
        while (uint256(1) << right < leafCount) right += 1;
        if (depth == right) _acceptDepth(leafCount, depth);
        else _refuseDepth(leafCount, depth);
    }

    function test_SeatsFitIntoOneSettlement() public {
        IFederation.Terms memory terms = _terms();
        terms.maxParticipants = 512;
        _deploy(terms);
        terms.maxParticipants = 513;
        _refuse(terms, "maxParticipants", 513);
        terms.maxParticipants = 0;
        _refuse(terms, "maxParticipants", 0);
    }

    function test_AChallengeFitsIntoOneTransaction() public {
        IFederation.Terms memory terms = _terms();
        terms.leafValues = 0;
        _refuse(terms, "leafValues", 0);
        // (participants + 1) * (4 * leafValues + 32 * treeDepth + 192) <= 400,000
        terms.maxParticipants = 249;
        terms.leafValues = 280;
        _deploy(terms);
        terms.leafValues = 281;
        _refuse(terms, "leafValues", 281);
        terms.leafValues = type(uint32).max; // the product is made in 256 bits
        _refuse(terms, "leafValues", type(uint32).max);
    }

    function test_WeightsFitIntoTheAverage() public {
        IFederation.Terms memory terms = _terms();
        terms.weightCap = 0;
        _refuse(terms, "weightCap", 0);
        terms.maxParticipants = 8;
        terms.weightCap = uint32(1 << 28) - 1;
        _deploy(terms);
        terms.weightCap = 1 << 28;
        _refuse(terms, "weightCap", 1 << 28);
        terms.weightCap = type(uint32).max;
        _refuse(terms, "weightCap", type(uint32).max);
    }

    function test_RevertWhen_NoRoundCanBeOpened() public {
        IFederation.Terms memory terms = _terms();
        terms.rounds = 0;
        _refuse(terms, "rounds", 0);
        terms = _terms();
        terms.closesAt = uint40(START);
        _refuse(terms, "closesAt", START);
        terms.closesAt = uint40(START + 1);
        _deploy(terms);
    }

    function test_SamplingFractionIsAShare() public {
        IFederation.Terms memory terms = _terms();
        terms.samplingFraction = 1;
        _deploy(terms);
        terms.samplingFraction = 0;
        _refuse(terms, "samplingFraction", 0);
        terms.samplingFraction = FULL + 1;
        _refuse(terms, "samplingFraction", FULL + 1);
    }

    function test_RevertWhen_NothingIsAtStake() public {
        IFederation.Terms memory terms = _terms();
        terms.participantStake = 0;
        _refuse(terms, "participantStake", 0);
        terms = _terms();
        terms.aggregatorBond = 0;
        _refuse(terms, "aggregatorBond", 0);
    }

    function test_PenaltyIsPartOfTheStake() public {
        IFederation.Terms memory terms = _terms();
        terms.missedRevealPenalty = STAKE;
        _deploy(terms);
        terms.missedRevealPenalty = 0;
        _deploy(terms);
        terms.missedRevealPenalty = STAKE + 1;
        _refuse(terms, "missedRevealPenalty", STAKE + 1);
    }

    function test_RevertWhen_APhaseHasNoTime() public {
        IFederation.Terms memory terms = _terms();
        terms.commitSeconds = 0;
        _refuse(terms, "commitSeconds", 0);
        terms = _terms();
        terms.revealSeconds = 0;
        _refuse(terms, "revealSeconds", 0);
        terms = _terms();
        terms.proposeSeconds = 0;
        _refuse(terms, "proposeSeconds", 0);
    }

    function test_AnAnswerAndItsDisputeFitIntoTheWindow() public {
        IFederation.Terms memory terms = _terms();
        terms.challengeSeconds = 3 * RESPONSE;
        _deploy(terms);
        terms.challengeSeconds = 3 * RESPONSE - 1;
        _refuse(terms, "responseSeconds", RESPONSE);
        terms.challengeSeconds = type(uint32).max;
        terms.responseSeconds = type(uint32).max / 3;
        _deploy(terms);
        terms.responseSeconds += 1; // the product is made in 256 bits
        _refuse(terms, "responseSeconds", terms.responseSeconds);
        terms.responseSeconds = type(uint32).max;
        _refuse(terms, "responseSeconds", type(uint32).max);
    }

    function test_ADemandCostsSomethingUnlessThereIsNone() public {
        IFederation.Terms memory terms = _terms();
        terms.availabilityDeposit = 0;
        _refuse(terms, "availabilityDeposit", 0);
        terms.responseSeconds = 0;
        _deploy(terms);
        terms.challengeSeconds = 0;
        _deploy(terms);
        terms.availabilityDeposit = type(uint128).max;
        _deploy(terms);
        terms.challengeSeconds = CHALLENGE;
        terms.responseSeconds = 1;
        _deploy(terms);
    }

    function test_UnbondingOutlastsACommitment() public {
        IFederation.Terms memory terms = _terms();
        terms.unbondingSeconds = COMMIT + REVEAL + PROPOSE;
        _deploy(terms);
        terms.unbondingSeconds -= 1;
        _refuse(terms, "unbondingSeconds", terms.unbondingSeconds);
        terms.commitSeconds = type(uint32).max; // the sum is made in 256 bits
        terms.unbondingSeconds = type(uint32).max;
        _refuse(terms, "unbondingSeconds", type(uint32).max);
    }

    function test_OneToEightAggregators() public {
        address[] memory listed = new address[](8);
        for (uint256 i = 0; i < 8; ++i) {
            listed[i] = _participant(i);
        }
        vm.assertEq(new Federation(_terms(), listed).aggregators(), listed);
        vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidTerm.selector, bytes32("aggregators"), 9));
        new Federation(_terms(), new address[](9));
        vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidTerm.selector, bytes32("aggregators"), 0));
        new Federation(_terms(), new address[](0));
    }

    function test_RevertWhen_AnAggregatorIsZeroOrTwice() public {
        address[] memory listed = new address[](3);
        listed[0] = aggregators[0];
        listed[1] = aggregators[1];
        vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidAggregator.selector, address(0)));
        new Federation(_terms(), listed);
        listed[2] = aggregators[0];
        vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidAggregator.selector, aggregators[0]));
        new Federation(_terms(), listed);
    }

    function _refuse(IFederation.Terms memory terms, bytes32 term, uint256 value) private {
        vm.expectRevert(abi.encodeWithSelector(IFederation.InvalidTerm.selector, term, value));
        new Federation(terms, aggregators);
    }

    function _refuseDepth(uint32 leafCount, uint8 depth) private {
        IFederation.Terms memory terms = _terms();
        terms.leafCount = leafCount;
        terms.treeDepth = depth;
        _refuse(terms, "treeDepth", depth);
    }

    function _acceptDepth(uint32 leafCount, uint8 depth) private {
        IFederation.Terms memory terms = _terms();
        terms.leafCount = leafCount;
        terms.treeDepth = depth;
        vm.assertEq(_deploy(terms).terms().treeDepth, depth);
    }
}

/// @dev Deploys to an address that is known beforehand.
contract Factory {
    function create(IFederation.Terms memory terms, address[] memory aggregators) external returns (Federation) {
        return new Federation{salt: 0}(terms, aggregators);
    }
}
