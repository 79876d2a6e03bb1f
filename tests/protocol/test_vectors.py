"""Both implementations against the golden vectors, which Solidity replays as well."""

import json
import struct
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from protocol.average import most_moved, move_by_sum_into, move_model
from protocol.bundle import Bundle, bundle_bytes, commit, deal
from protocol.canonical import sha256
from protocol.checks import ACCEPTED, Check
from protocol.cid import digest_of_raw_cid, raw_cid
from protocol.commitment import (
    PREFIX_BYTES,
    compute_commitment,
    compute_masked_commitment,
    compute_members_hash,
    compute_seed,
    compute_update_digest,
    is_eligible,
)
from protocol.differences import choose_grid, encode_differences
from protocol.encoding import Kind, encode_values, layer_bytes, layer_values, value_type
from protocol.errors import Misconfigured, Rejected
from protocol.manifest import Manifest
from protocol.masking import (
    MASKED_VALUE,
    Mask,
    add_masked,
    mask,
    masks_of,
    remove_masks,
    signed_sum,
    stream,
)
from protocol.pair_keys import MaskedRound, is_small_order, pair_seed, public_key, share_key
from protocol.payout import compute_fee, compute_payouts
from protocol.projection import project, solve_coefficients
from protocol.reveal import Reveal
from protocol.scoring import compute_scores, to_millionths
from protocol.screening import squared_norm_limit
from protocol.shares import default_threshold, open_shares, recover, seal_shares, split
from protocol.similarity import (
    movement_products,
    movement_squares,
    products,
    similarity,
    sum_of_squares,
)
from protocol.sketches import (
    adds_up,
    compute_sketch_seed,
    exceeds_limit,
    is_weak,
    pack_sketch,
    parse_sketch,
    sketch,
    sketch_similarity,
)
from protocol.spec import Encoding, Spec
from protocol.streams import StreamAccount, sketch_stream
from protocol.tree import (
    ZERO,
    compute_proof,
    compute_root,
    is_proof_valid,
    leaf_digest,
    leaf_digests,
    node_digest,
    stream_proof,
    tree_depth,
    zero_root,
)
from protocol.types import Address, BasisPoints, Digest, RoundId, TokenUnits
from protocol.verdict import Verdict, compute_weight, verdicts_hash
from tests.protocol import make_vectors, reference
from tests.protocol.strategies import Update, make_spec, packed

STORED: tuple[Kind, ...] = ("update", "model")


def load(name: str) -> Any:
    return json.loads((make_vectors.FOLDER / name).read_text(encoding="utf-8"))


def raw(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def digest(text: str) -> Digest:
    assert len(raw(text)) == 32
    return Digest(raw(text))


@pytest.mark.parametrize("name", make_vectors.FILES)
def test_the_committed_file_is_what_the_reference_makes(name: str) -> None:
    committed = (make_vectors.FOLDER / name).read_text(encoding="utf-8")
    assert committed == make_vectors.text(make_vectors.FILES[name]())


def floats(texts: list[str]) -> Any:
    return np.array([struct.unpack(">d", raw(text))[0] for text in texts])


def hexed(values: Any) -> list[str]:
    return ["0x" + struct.pack(">d", value).hex() for value in values.tolist()]


def test_encoding() -> None:
    vectors = load("encoding.json")
    values = floats(vectors["float64"])
    assert [repr(value) for value in values.tolist()] == vectors["values"]
    assert encode_values(values).tolist() == vectors["encoded"]
    for value in floats(vectors["refused_float64"]):
        with pytest.raises(Rejected):
            encode_values(np.array(value))
    check_layer(vectors["layer"], "model")


def check_layer(layer: Any, kind: Kind) -> None:
    native = value_type(kind).newbyteorder("=")
    values = np.array(layer["values"], native).reshape(layer["shape"])
    assert layer_bytes(values, kind) == raw(layer["file"])
    back = layer_values(raw(layer["file"]), tuple(layer["shape"]), kind)
    np.testing.assert_array_equal(back, values)
    assert back.dtype == native


def test_differences() -> None:
    vectors = load("differences.json")
    for case in vectors["cases"]:
        before, after = np.array(case["before"], np.int32), floats(case["after_float64"])
        carried = floats(case["carried_float64"])
        made = encode_differences(before, after, carried, case["grid"])
        assert made.steps.tolist() == case["steps"]
        assert hexed(made.carried) == case["carried_on_float64"]
    check_layer(vectors["layer"], "update")


def test_grids() -> None:
    vectors = load("differences.json")
    for bits, every, round_id, grid in zip(*vectors["schedules"].values(), strict=True):
        assert Encoding(grid_bits=bits, grid_every=every).grid_in(round_id) == grid
    for trial in vectors["trials"]:
        values = np.repeat(floats(trial["float64"]), trial["counts"])
        parts = [values[:1], values[1:].reshape(1, -1)]
        if trial["grid"] is None:
            with pytest.raises(Misconfigured):
                choose_grid(parts)
        else:
            assert choose_grid(parts) == trial["grid"]


def test_tree() -> None:
    vectors = load("tree.json")
    assert leaf_digest(b"") == raw(vectors["leaf_of_nothing"])
    assert node_digest(ZERO, ZERO) == raw(vectors["node_of_zeros"])
    for case in vectors["cases"]:
        data, size = raw(case["data"]), case["leaf_bytes"]
        assert compute_root([data], size) == raw(case["root"])
        assert tree_depth(case["leaf_count"]) == case["depth"]
        for proof in case["proofs"]:
            siblings = [digest(sibling) for sibling in proof["siblings"]]
            assert compute_proof(leaf_digests([data], size), proof["index"]) == siblings
            leaf = raw(proof["leaf"])
            assert stream_proof([data], size, proof["index"]) == (leaf, siblings)
            assert is_proof_valid(digest(case["root"]), leaf, proof["index"], siblings)


def test_zero_roots() -> None:
    vectors = load("tree.json")
    for count, root in zip(vectors["zero_leaf_counts"], vectors["zero_roots"], strict=True):
        assert zero_root(count) == raw(root)


def stored(text: str, kind: Kind) -> Any:
    return np.frombuffer(raw(text), value_type(kind))


def test_average() -> None:
    for case in load("average.json")["cases"]:
        updates = [stored(text, "update") for text in case["update_bytes"]]
        before, after = stored(case["before_bytes"], "model"), stored(case["after_bytes"], "model")
        moved = move_model(before, updates, case["weights"], case["grid"])
        assert moved.tolist() == after.tolist()
        distance = np.abs(after.astype(np.int64) - before)
        assert distance.max() <= most_moved(case["grid"])


def test_moves() -> None:
    for case in load("moves.json")["cases"]:
        before, after = stored(case["before_bytes"], "model"), stored(case["after_bytes"], "model")
        assert most_moved(case["grid"]) == case["most_moved"]
        distance = np.abs(after.astype(np.int64) - before)
        assert bool(distance.max() <= most_moved(case["grid"])) == case["is_bounded"]


def test_commitments() -> None:
    for case in load("commitments.json")["cases"]:
        root, manifest, examples = digest(case["root"]), digest(case["manifest"]), case["examples"]
        commitment = compute_commitment(
            Address(case["federation"]),
            RoundId(int(case["round"])),
            Address(case["participant"]),
            root,
            manifest,
            int(examples),
            raw(case["salt"]),
        )
        assert commitment == raw(case["commitment"])
        assert compute_update_digest(root, manifest, int(examples)) == raw(case["update_digest"])


def test_eligibility() -> None:
    vectors = load("eligibility.json")
    for case in vectors["seeds"]:
        seed = compute_seed(
            Address(case["federation"]),
            RoundId(int(case["round"])),
            digest(case["block_hash"]),
            int(case["prevrandao"]),
        )
        assert seed == raw(case["seed"])
    answers = set()
    for case in vectors["cases"]:
        seed, who = digest(case["seed"]), Address(case["participant"])
        answer = is_eligible(seed, who, case["active"], case["round_target"])
        assert answer == case["eligible"]
        answers.add(answer)
    assert answers == {True, False}


def test_spec() -> None:
    vectors = load("spec.json")
    spec = Spec.model_validate(vectors["document"])
    assert spec.to_bytes() == raw(vectors["bytes"])
    assert Spec.parse(raw(vectors["bytes"])) == spec
    assert spec.digest() == raw(vectors["digest"])
    assert raw_cid(spec.digest()) == vectors["cid"]
    for kind in STORED:
        places = range(len(spec.layers))
        assert [spec.layer_bytes(i, kind) for i in places] == vectors["layer_bytes"][kind]
        sizes = [spec.block_sizes(i, kind) for i in places]
        assert [len(each) for each in sizes] == vectors["block_counts"][kind]
        assert [sum(each) for each in sizes] == vectors["layer_bytes"][kind]
    assert (spec.leaf_count, spec.tree_depth) == (vectors["leaf_count"], vectors["tree_depth"])
    assert spec.zero_root == raw(vectors["zero_root"])


def test_spec_options() -> None:
    vectors = load("spec_options.json")
    for case in vectors["cases"]:
        spec = Spec.model_validate(case["document"])
        assert spec.to_bytes() == raw(case["bytes"])
        assert Spec.parse(raw(case["bytes"])) == spec
        assert spec.digest() == raw(case["digest"])
    for case in vectors["refused"]:
        with pytest.raises(Misconfigured, match="not canonical JSON"):
            Spec.parse(raw(case))


def test_learning_rates_over_the_rounds() -> None:
    document = load("spec_options.json")["cases"][3]["document"]
    training = Spec.model_validate(document).training
    assert training.learning_rate_in(1) == training.learning_rate == 0.0005
    assert training.learning_rate_in(51) == pytest.approx(0.000375)
    assert training.learning_rate_in(101) == training.learning_rate_in(500) == 0.00025
    rates = [training.learning_rate_in(number) for number in range(1, 102)]
    assert rates == sorted(rates, reverse=True)


def test_manifest() -> None:
    for case in load("manifest.json")["cases"]:
        manifest = Manifest.parse(raw(case["bytes"]))
        assert manifest == Manifest.model_validate(case["document"])
        assert manifest.to_bytes() == raw(case["bytes"])
        assert manifest.digest() == raw(case["digest"])
        assert raw_cid(manifest.digest()) == case["cid"]
        assert digest_of_raw_cid(case["cid"]) == raw(case["digest"])


def test_refused_manifests() -> None:
    vectors = load("manifest.json")
    for why, data in zip(vectors["refused_why"], vectors["refused_bytes"], strict=True):
        with pytest.raises(Rejected) as caught:
            Manifest.parse(raw(data))
        assert caught.value.check == Check.MANIFEST, why


def test_norms() -> None:
    vectors = load("norms.json")
    rows = zip(vectors["max_update_norms"], vectors["grids"], vectors["limits"], strict=True)
    for decimal, grid, limit in rows:
        assert squared_norm_limit(float(decimal), grid) == int(limit)
    for case in vectors["cases"]:
        limit = None if case["max_update_norm"] is None else float(case["max_update_norm"])
        spec = make_spec([(300,)], limit, case["min_norm"])
        spec = spec.model_copy(update={"encoding": Encoding(grid_bits=case["grid"], grid_every=0)})
        update = Update(spec, [packed(case["values"])])
        assert sum_of_squares(np.array(case["values"], np.int8)) == int(case["squared_norm"])
        if case["reason"] == ACCEPTED:
            assert update.screen().squared_norm == int(case["squared_norm"])
            continue
        with pytest.raises(Rejected) as caught:
            update.screen()
        assert caught.value.check == case["reason"]


def test_similarity() -> None:
    for case in load("similarity.json")["cases"]:
        a = np.array(case["a"], np.int8)
        if case["is_movement"]:
            b = np.array(case["b"], np.int64)
            (product,) = movement_products([a], b)
            squares = movement_squares(b)
        else:
            ((squares_a, product), (_, squares)) = products([a, np.array(case["b"], np.int8)])
            assert squares_a == int(case["squares_a"])
        assert (product, squares) == (int(case["product"]), int(case["squares_b"]))
        assert similarity(product, sum_of_squares(a), squares) == case["similarity"]


def verdicts_of(case: Any) -> list[Verdict]:
    digests = [
        compute_update_digest(digest(root), digest(manifest), examples)[:PREFIX_BYTES]
        for root, manifest, examples in zip(
            case["roots"], case["manifests"], case["examples"], strict=True
        )
    ]
    assert [revealed + bytes(2) for revealed in digests] == [raw(w) for w in case["revealed"]]
    columns = (case["participants"], digests, case["weights"], case["scores"], case["reasons"])
    verdicts = [
        Verdict(Address(p), d, w, BasisPoints(s), r) for p, d, w, s, r in zip(*columns, strict=True)
    ]
    for verdict, examples in zip(verdicts, case["examples"], strict=True):
        if verdict.is_accepted:
            assert verdict.weight == compute_weight(examples, case["weight_cap"])
    return verdicts


def test_verdicts() -> None:
    for case in load("verdicts.json")["cases"]:
        assert verdicts_hash(verdicts_of(case)) == raw(case["hash"])


def test_payouts() -> None:
    for case in load("payouts.json")["cases"]:
        verdicts, cap = verdicts_of(case), case["weight_cap"]
        paid = compute_payouts(TokenUnits(int(case["update_reward"])), cap, verdicts)
        expected = zip(case["participants"], case["payouts"], case["reasons"], strict=True)
        assert paid == {who: int(amount) for who, amount, reason in expected if reason == 0}
        weight = sum(compute_weight(examples, cap) for examples in case["examples"])
        assert weight == case["revealed_weight"]
        fee = compute_fee(TokenUnits(int(case["aggregator_fee"])), verdicts, weight)
        assert fee == int(case["fee"])


def test_scores() -> None:
    vectors = load("scores.json")
    measured = floats(vectors["float64"]).tolist()
    assert [to_millionths(loss) for loss in measured] == vectors["millionths"]
    for case in vectors["cases"]:
        found = compute_scores(case["before"], case["average"], case["without"])
        assert [score.value for score in found] == case["scores"]
        assert [score.is_harm for score in found] == case["harm"]


def test_projections() -> None:
    for case in load("projections.json")["cases"]:
        older, update = case["older"], case["update"]
        gram = [[reference.product(u, v) for v in older] for u in older]
        (found,) = solve_coefficients(gram, [[reference.product(update, u) for u in older]])
        assert hexed(np.array(found)) == case["coefficients_float64"]
        arrays = [np.array(vector, np.int64) for vector in older]
        assert project(arrays, found, len(update)).tolist() == case["repeated"]


def test_cids_of_another_implementation() -> None:
    vectors = load("cids.json")
    for block in vectors["blocks"]:
        content = bytes((31 * (i % 251) + 7) % 251 for i in range(block["size"]))
        assert sha256(content).hex() == block["sha256"]
        assert raw_cid(digest(block["sha256"])) == reference.cid(content) == block["cid"]
        assert digest_of_raw_cid(block["cid"]) == raw(block["sha256"])
    for cid in vectors["refused"]:
        with pytest.raises(Misconfigured, match="not the CIDv1 of a raw block"):
            digest_of_raw_cid(cid)


def test_streams() -> None:
    for each in load("masking.json")["streams"]:
        found = stream(raw(each["seed"]), each["leaf"], 1)
        assert found.astype(MASKED_VALUE).tobytes() == raw(each["stream"])


def test_masking() -> None:
    for case in load("masking.json")["cases"]:
        leaf, who = case["leaf"], [Address(each) for each in case["participants"]]
        published = [np.frombuffer(raw(y), MASKED_VALUE) for y in case["masked_bytes"]]
        honest = []
        for i, each in enumerate(who):
            seeds = {
                peer: raw(seed)
                for peer, seed in zip(who, case["pair_seeds"][i], strict=True)
                if peer != each
            }
            masks = masks_of(each, raw(case["own_seeds"][i]), seeds)
            update = stored(case["update_bytes"][i], "update")
            y = mask(update, case["weights"][i], masks, leaf)
            honest.append(y.tolist() == published[i].tolist())
        assert sum(honest) >= len(who) - 1  # one of them may have published garbage
        sums = np.zeros(256, np.uint32)
        for i in case["accepted"]:
            add_masked(sums, published[i])
        signs = case["opened_signs"]
        opened = [
            Mask(raw(seed), sign) for seed, sign in zip(case["opened_seeds"], signs, strict=True)
        ]
        remove_masks(sums, opened, leaf)
        assert signed_sum(sums).astype(">i4").tobytes() == raw(case["sum_bytes"])
        before, after = stored(case["before_bytes"], "model"), np.empty(256, np.int32)
        total, grid = case["total_weight"], case["grid"]
        move_by_sum_into(after, before, signed_sum(sums), total, grid)
        assert after.tolist() == stored(case["after_bytes"], "model").tolist()
        if all(honest):
            updates = [stored(case["update_bytes"][i], "update") for i in case["accepted"]]
            weights = [case["weights"][i] for i in case["accepted"]]
            assert after.tolist() == move_model(before, updates, weights, grid).tolist()


def test_pair_keys() -> None:
    vectors = load("pair_keys.json")
    for case in vectors["cases"]:
        of = MaskedRound(
            int(case["chain_id"]), Address(case["federation"]), RoundId(int(case["round"]))
        )
        low, high = (Address(each) for each in case["participants"])
        one, other = (raw(key) for key in case["private_keys"])
        keys = [raw(key) for key in case["public_keys"]]
        assert [public_key(one), public_key(other)] == keys
        for private, own, peer, key in ((one, low, high, keys[1]), (other, high, low, keys[0])):
            assert pair_seed(of, private, own, peer, key) == raw(case["pair_seed"])
            made = [share_key(of, private, own, peer, key, dealer) for dealer in (low, high)]
            assert made == [raw(each) for each in case["share_keys"]]
    for key in vectors["small_order_keys"]:
        assert is_small_order(raw(key))
    for key in vectors["other_keys"]:
        assert not is_small_order(raw(key))
    for case in vectors["commitments"]:
        commitment = compute_masked_commitment(
            Address(case["federation"]),
            RoundId(int(case["round"])),
            Address(case["participant"]),
            raw(case["public_key"]),
            int(case["examples"]),
            raw(case["salt"]),
        )
        assert commitment == raw(case["commitment"])


def test_openings() -> None:
    for case in load("openings.json")["cases"]:
        reveal = Reveal(
            Address(case["members"][0]),
            Digest(raw(case["root"])),
            Digest(raw(case["manifest"])),
            int(case["examples"]),
            Digest(raw(case["secrets"])),
        )
        assert reveal.bound_manifest == raw(case["bound"])
        assert reveal.digest == raw(case["revealed_digest"])
        known = replace(reveal, seeds=tuple(raw(seed) for seed in case["seeds"]))
        assert known.bound_manifest == raw(case["opened"])
        assert known.digest == raw(case["opened_digest"])
        assert compute_members_hash(case["members"]) == raw(case["members_hash"])


def test_copied_keys_lead_to_other_seeds() -> None:
    copied = load("pair_keys.json")["copied"]
    of = MaskedRound(copied["chain_id"], Address(copied["federation"]), RoundId(copied["round"]))
    private, own = raw(copied["private_key"]), Address(copied["participant"])
    victim, copier = Address(copied["victim"]), Address(copied["copier"])
    seeds = {pair_seed(of, private, own, victim, raw(copied["victim_key"]))}
    assert seeds == {raw(copied["victim_seed"])}
    for each in copied["keys"]:
        seed = pair_seed(of, private, own, copier, raw(each["public_key"]))
        assert seed == raw(each["pair_seed"]), each["why"]
        # The binding's keys alone would tell them apart, but for the same bytes.
        seeds |= {seed, pair_seed(of, private, own, victim, raw(each["public_key"]))}
    assert len(seeds) == 2 * len(copied["keys"])


def test_shares() -> None:
    vectors = load("shares.json")
    assert [default_threshold(peers) for peers in vectors["peers"]] == vectors["thresholds"]
    for case in vectors["cases"]:
        secret, places, threshold = raw(case["secret"]), case["places"], case["threshold"]
        made = split(secret, threshold, places, raw(case["randomness"]))
        assert made == [raw(share) for share in case["shares"]]
        assert recover(dict(zip(places, made, strict=True)), threshold) == secret
    for case in vectors["boxes"]:
        key, plain = raw(case["key"]), [raw(share) for share in case["shares"]]
        assert seal_shares(key, plain, raw(case["nonce"])) == raw(case["box"])
        assert open_shares(key, raw(case["box"])) == plain


def test_bundles() -> None:
    vectors = load("bundles.json")
    assert [bundle_bytes(peers) for peers in vectors["peers"]] == vectors["sizes"]
    for case in vectors["cases"]:
        peers = [Address(peer) for peer in case["peers"]]
        seeds = {peer: raw(seed) for peer, seed in zip(peers, case["pair_seeds"], strict=True)}
        keys = {peer: raw(key) for peer, key in zip(peers, case["share_keys"], strict=True)}
        drawn = BytesIO(raw(case["randomness"]))
        dealer, own = Address(case["dealer"]), raw(case["own_seed"])
        made = deal(
            dealer,
            own,
            dict(reversed(seeds.items())),
            keys,
            case["threshold"],
            drawn.read,
        )
        assert not drawn.read()
        assert made.to_bytes() == raw(case["bytes"])
        assert Bundle.parse(raw(case["bytes"])) == made
        assert list(made.commitments) == [raw(each) for each in case["commitments"]]
        assert made.secrets_digest() == raw(case["secrets"])
        for peer in peers:
            assert made.commitment_of_pair(peer) == commit(seeds[peer])
            assert made.open_box(peer, keys[peer])[0] != own
    for why, data in zip(vectors["refused_why"], vectors["refused_bytes"], strict=True):
        with pytest.raises(Rejected) as caught:
            Bundle.parse(raw(data))
        assert caught.value.check == Check.BUNDLE, why


def numbers(texts: list[str]) -> list[int]:
    return [int(text) for text in texts]


def test_sketches() -> None:
    vectors = load("sketches.json")
    for case in vectors["seeds"]:
        seed = compute_sketch_seed(digest(case["block_hash"]), int(case["prevrandao"]))
        assert seed == raw(case["z"])
    rows = zip(vectors["leaves"], vectors["positions"], vectors["r"], strict=True)
    for leaf, position, r in rows:
        one = np.zeros(256, np.int8)
        one[position] = 1
        assert sketch(one, raw(vectors["z"]), leaf) == r
    for case in vectors["cases"]:
        update, z = stored(case["update_bytes"], "update"), raw(case["z"])
        found = [case["weight"] * number for number in sketch(update, z, case["leaf"])]
        assert found == numbers(case["sketch"])
        assert pack_sketch(found) == raw(case["sketch_bytes"])
        assert parse_sketch(raw(case["sketch_bytes"])) == found
        # The sum of one update alone.
        sums = update.astype(np.int32) * np.int32(case["weight"])
        assert adds_up([found], sketch(sums, z, case["leaf"]))
    for case in vectors["wide"]:
        values = np.array(numbers(case["values"]), np.int32 if case["is_signed"] else np.uint32)
        assert sketch(values, raw(case["z"]), case["leaf"]) == numbers(case["sketch"])


def test_what_sketches_say() -> None:
    vectors = load("sketches.json")
    for case in vectors["judged"]:
        values, weight = numbers(case["sketch"]), case["weight"]
        limit = float(case["max_update_norm"])
        assert exceeds_limit(values, weight, limit, case["grid"]) == case["exceeds"]
        assert is_weak(values, weight, case["min_norm"]) == case["is_weak"]
    similar = [numbers(each) for each in vectors["similar"]["sketches"]]
    found = [sketch_similarity(each, similar[0]) for each in similar]
    assert found == vectors["similar"]["to_the_first"]


def test_accounts_of_masks() -> None:
    vectors = load("streams.json")
    seeds = {
        Address(peer): raw(seed)
        for peer, seed in zip(vectors["peers"], vectors["seeds"], strict=True)
    }
    z, leaf = raw(vectors["z"]), vectors["leaf"]
    sketches = {peer: tuple(sketch_stream(seed, z, leaf, 2)) for peer, seed in seeds.items()}
    assert [list(each) for each in sketches.values()] == [
        numbers(each) for each in vectors["sketches"]
    ]
    for case in vectors["accounts"]:
        account = StreamAccount(sketches, {peer: seeds[peer] for peer in case["opened"]})
        assert account.to_bytes() == raw(case["account"])
        assert StreamAccount.parse(raw(case["account"]), list(seeds)) == account
    whole = raw(vectors["accounts"][0]["account"])
    for wrong in (whole[:-1], whole + b"\0", b""):
        with pytest.raises(Rejected):
            StreamAccount.parse(wrong, list(seeds))
