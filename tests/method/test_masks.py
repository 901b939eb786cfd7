"Masks: the algebra as properties, what may be pruned, files not to be trusted, overlap and chance."

import math
import operator
import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

from sparse_sharing.masks import (
    Mask,
    chance_overlap,
    intersection,
    overlap_ratio,
    union,
)
from sparse_sharing.weights import prunable

properties = settings(deadline=None, max_examples=60)

SHAPES = {"conv": (2, 3, 3), "hidden": (3, 5), "out": (1, 3)}  # 18 + 15 + 3: no multiple of 8


def mask_of(bits, shapes=SHAPES):
    "Mask whose weights, in the order of the names, are the given truth values."
    flat, start, tensors = torch.tensor(bits, dtype=torch.bool), 0, {}
    for name, shape in shapes.items():
        tensors[name] = flat[start : start + math.prod(shape)].view(shape)
        start += math.prod(shape)
    return Mask(tensors)


TOTAL = sum(map(math.prod, SHAPES.values()))
masks = st.lists(st.booleans(), min_size=TOTAL, max_size=TOTAL).map(mask_of)


def paper_encoder():
    "A network with the 530,700 prunable weights of the paper's first experiment."
    return nn.ModuleDict(
        {"chars": nn.Conv1d(30, 30, 3), "words": nn.LSTM(130, 200, bidirectional=True)}
    )


@pytest.fixture
def net():
    return nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))


class TestAlgebra:
    @properties
    @given(masks, masks)
    def test_de_morgan(self, a, b):
        assert ~(a & b) == ~a | ~b
        assert ~(a | b) == ~a & ~b

    @properties
    @given(masks, masks, masks)
    def test_lattice(self, a, b, c):
        assert a & a == a == a | a and ~~a == a
        assert a & b == b & a and a | b == b | a
        assert (a & b) & c == a & (b & c) and (a | b) | c == a | (b | c)
        assert a & (b | c) == (a & b) | (a & c)
        assert a & (a | b) == a == a | (a & b)

    @properties
    @given(masks, masks)
    def test_subset(self, a, b):
        assert a & b <= a <= a | b
        assert (a <= b) == (a & b == a) == (a | b == b)
        assert (a <= b and b <= a) == (a == b)
        assert (b >= a) == (a <= b)

    @properties
    @given(masks, masks)
    def test_counts(self, a, b):
        assert a.size == TOTAL and 0 <= a.kept <= TOTAL
        assert a.kept + (~a).kept == TOTAL and (a & ~a).kept == 0
        assert (a & b).kept + (a | b).kept == a.kept + b.kept
        assert a.density == a.kept / TOTAL

    @properties
    @given(masks)
    def test_per_tensor_view(self, a):
        pytest.importorskip("pandas", reason="no pandas: the extra study")
        table = a.densities()
        assert list(table.columns) == ["parameter", "kept", "size", "density"]
        assert list(table["parameter"]) == list(a) == sorted(SHAPES)
        assert table["kept"].sum() == a.kept and table["size"].sum() == a.size
        assert np.isclose(np.average(table["density"], weights=table["size"]), a.density)

    def test_equality_minds_names_shapes_and_types(self):
        a = Mask({"w": torch.ones(2, 3, dtype=torch.bool)})
        assert a != Mask({"v": a["w"]})
        assert a != Mask({"w": a["w"].T})
        assert a != {"w": a["w"]} and a != "w"
        assert (a == Mask(dict(a))) is True


class TestMask:
    def test_is_a_sorted_mapping(self):
        bits = torch.tensor([True, False])
        mask = Mask({"b": bits, "a": ~bits})
        assert list(mask) == ["a", "b"] and len(mask) == 2 and "b" in mask and "c" not in mask
        assert torch.equal(mask["b"], bits)
        with pytest.raises(KeyError):
            mask["c"]

    def test_does_not_change_with_its_tensors(self):
        source = torch.tensor([True, True, False])
        mask = Mask({"w": source})
        source.zero_()
        mask["w"].zero_()
        next(iter(mask.values())).zero_()
        mask.to("cpu")["w"].zero_()
        assert mask.kept == 2 and mask["w"].tolist() == [True, True, False]

    def test_repr_gives_density_and_counts(self):
        text = repr(Mask({"w": torch.arange(2000) < 500}))
        assert "0.2500" in text and "500" in text and "2,000" in text

    def test_other_device(self):
        mask = Mask.ones(nn.Linear(3, 2)).to("meta")
        assert mask["weight"].device.type == "meta"

    @pytest.mark.parametrize(
        ("tensors", "error", "words"),
        [
            ({"w": torch.ones(2)}, TypeError, "'w' is torch.float32"),
            ({"w": torch.ones(2, dtype=torch.uint8)}, TypeError, "'w' is torch.uint8"),
            ({"w": [True, False]}, TypeError, "'w' is list"),
            ({"w": torch.ones(0, dtype=torch.bool)}, ValueError, "'w' has no element"),
            ({}, ValueError, "at least one parameter"),
        ],
    )
    def test_refuses_what_is_no_mask(self, tensors, error, words):
        with pytest.raises(error, match=words):
            Mask(tensors)

    @pytest.mark.parametrize("operation", [operator.and_, operator.or_, operator.le])
    def test_refuses_a_mask_of_another_network(self, operation):
        a = Mask.ones(nn.Linear(3, 2))
        with pytest.raises(ValueError, match=r"'weight' is of shape \(2, 3\).*\(3, 2\)"):
            operation(a, Mask.ones(nn.Linear(2, 3)))
        with pytest.raises(ValueError, match="'other.weight' is missing in the first"):
            operation(a, Mask.ones(nn.ModuleDict({"other": nn.Linear(3, 2)})))

    def test_refuses_operands_of_other_types(self):
        a = Mask.ones(nn.Linear(3, 2))
        for wrong in (None, 1, dict(a), a["weight"]):
            for operation in (operator.and_, operator.or_, operator.le):
                with pytest.raises(TypeError):
                    operation(a, wrong)


class TestOnesAndRandom:
    def test_ones_has_the_prunable_weights(self, net):
        mask = Mask.ones(net)
        assert list(mask) == ["0.weight", "2.weight"] and mask.kept == mask.size == 8
        assert list(Mask.ones(net, names=["2.weight", "2.bias"])) == ["2.bias", "2.weight"]

    def test_unknown_name(self, net):
        for make in (Mask.ones, lambda *a: Mask.random(a[0], 0.5, torch.Generator(), a[1])):
            with pytest.raises(ValueError, match="no parameter is called '1.weight'"):
                make(net, ["1.weight"])

    def test_nothing_to_prune(self):
        with pytest.raises(ValueError, match="can be pruned"):
            Mask.ones(nn.Embedding(3, 4))

    @properties
    @given(
        rows=st.integers(1, 9),
        columns=st.integers(1, 9),
        density=st.floats(0, 1),
        seed=st.integers(0, 99),
    )
    def test_random_keeps_the_exact_number(self, rows, columns, density, seed):
        module = nn.Sequential(nn.Linear(columns, rows), nn.Linear(rows, 3))
        mask = Mask.random(module, density, torch.Generator().manual_seed(seed))
        assert mask.kept == round(density * mask.size)
        assert {n: t.shape for n, t in mask.items()} == {
            n: module.get_parameter(n).shape for n in prunable(module)
        }

    def test_random_is_the_generators(self, net):
        one, same = (Mask.random(net, 0.5, torch.Generator().manual_seed(1)) for _ in range(2))
        generator = torch.Generator().manual_seed(1)
        later = [Mask.random(net, 0.5, generator) for _ in range(5)]
        assert one == same == later[0] and any(mask != one for mask in later)
        state = torch.get_rng_state()
        Mask.random(net, 0.5, torch.Generator())
        assert torch.equal(state, torch.get_rng_state())  # the global stream is left alone

    def test_random_is_uniform_over_all_weights(self, net):
        generator, draws = torch.Generator().manual_seed(0), 2000
        drawn = [Mask.random(net, 3 / 8, generator) for _ in range(draws)]
        share = torch.cat([sum(m[n].double() for m in drawn).flatten() / draws for n in drawn[0]])
        assert share.sub(3 / 8).abs().max() < 5 * math.sqrt(3 / 8 * 5 / 8 / draws)

    @pytest.mark.parametrize("density", [-0.1, 1.1, float("nan")])
    def test_random_refuses_other_densities(self, net, density):
        with pytest.raises(ValueError, match="from 0 to 1"):
            Mask.random(net, density, torch.Generator())


class TestPrunable:
    def test_paper_encoder(self):
        encoder = paper_encoder()
        mask = Mask.ones(encoder)
        assert mask.size == 530_700
        assert sum(p.numel() for p in encoder.parameters()) - mask.size == 3_230

    def test_transformer(self):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        names = prunable(nn.TransformerEncoder(layer, 2))
        parts = ["self_attn.in_proj_weight", "self_attn.out_proj.weight"]
        parts += ["linear1.weight", "linear2.weight"]
        assert names == [f"layers.{i}.{part}" for i in range(2) for part in parts]

    def test_biases_and_norms_of_any_dimension_stay(self):
        net = nn.ModuleDict(
            {
                "attention": nn.MultiheadAttention(4, 2, add_bias_kv=True),
                "layer_norm": nn.LayerNorm((2, 4)),
                "rms_norm": nn.RMSNorm((2, 4)),
                "batch_norm": nn.BatchNorm2d(3),
                "bag": nn.EmbeddingBag(5, 4),
                "unbiased": nn.Linear(4, 4, bias=False),
            }
        )
        assert net["attention"].bias_k.dim() == 3
        assert prunable(net) == [
            "attention.in_proj_weight",
            "attention.out_proj.weight",
            "unbiased.weight",
        ]

    def test_tied_weight_counts_once(self):
        net = nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)})
        net["b"].weight = net["a"].weight
        assert prunable(net) == ["a.weight"] and Mask.ones(net).size == 16
        assert prunable(net, exclude="b") == []
        with pytest.raises(ValueError, match="first name"):
            Mask.ones(net, names=["b.weight"])

    def test_weight_tied_to_an_embedding_stays(self):
        net = nn.ModuleDict({"out": nn.Linear(4, 9), "words": nn.Embedding(9, 4)})
        net["words"].weight = net["out"].weight
        assert prunable(net) == []

    def test_exclude(self):
        net = nn.ModuleDict(
            {"head": nn.ModuleDict({"pos": nn.Linear(2, 3)}), "header": nn.Linear(2, 2)}
        )
        assert prunable(net, exclude=["head"]) == ["header.weight"] == prunable(net, exclude="head")
        assert prunable(net, exclude=["head.pos", "header.weight"]) == []
        assert prunable(net, exclude=["header.bias"]) == prunable(net)

    @pytest.mark.parametrize("entry", ["hea", "header.weigh", "weight", "", "head."])
    def test_exclude_that_matches_nothing(self, entry):
        net = nn.ModuleDict({"head": nn.Linear(2, 3), "header": nn.Linear(2, 2)})
        with pytest.raises(ValueError, match=f"cannot exclude '{entry}'.*there are head.weight"):
            prunable(net, exclude=["head", entry])


class TestFile:
    @properties
    @given(st.data())
    def test_round_trip(self, tmp_path_factory, data):
        path = tmp_path_factory.getbasetemp() / "round_trip.safetensors"
        names = st.text(st.characters(exclude_categories=["C"]), max_size=5)
        shapes = data.draw(
            st.dictionaries(names, st.lists(st.integers(1, 7), max_size=4), min_size=1, max_size=4)
        )
        total = sum(map(math.prod, shapes.values()))
        bits = data.draw(st.integers(0, 2**total - 1))
        mask = mask_of([bool(bits >> i & 1) for i in range(total)], shapes)
        mask.save(path)
        assert Mask.load(path) == mask

    def test_small_and_alone(self, tmp_path):
        path = tmp_path / "deep" / "folder" / "mask.safetensors"
        mask = Mask.random(paper_encoder(), 0.5, torch.Generator().manual_seed(0))
        mask.save(path)
        mask.save(str(path))  # over the old one
        assert path.stat().st_size < 70_000
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        (tmp_path / "plain").touch()
        assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # others may read it
        assert Mask.load(path) == mask

    @pytest.mark.e2e
    def test_same_mask_same_bytes_in_another_process(self, tmp_path):
        script = (
            "import sys, torch; from sparse_sharing.masks import Mask; "
            "mask = Mask({n: torch.arange(11) % 3 == i for i, n in enumerate(sys.argv[2:])}); "
            "mask.save(sys.argv[1])"
        )
        theirs, ours = tmp_path / "theirs.safetensors", tmp_path / "ours.safetensors"
        subprocess.run([sys.executable, "-c", script, str(theirs), *"cab"], check=True)
        Mask({name: torch.arange(11) % 3 == "cab".index(name) for name in "abc"}).save(ours)
        assert theirs.read_bytes() == ours.read_bytes()

    def test_failed_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "mask.safetensors"
        old = Mask.ones(nn.Linear(3, 2))
        old.save(path)

        def full(*_, **__):
            raise OSError("disk full")

        monkeypatch.setattr("os.replace", full)
        with pytest.raises(OSError, match="disk full"):
            (~old).save(path)
        assert Mask.load(path) == old and list(tmp_path.iterdir()) == [path]

    def test_new_file_takes_the_place_of_the_old_one_at_once(self, tmp_path):
        path = tmp_path / "mask.safetensors"
        old = Mask.ones(nn.Linear(3, 2))
        old.save(path)
        content = path.read_bytes()
        with path.open("rb") as reader:  # who has begun to read the old file, reads it to the end
            (~old).save(path)
            assert reader.read() == content
        assert Mask.load(path) == ~old

    @pytest.fixture
    def saved(self, tmp_path):
        path = tmp_path / "mask.safetensors"
        mask_of([i % 3 == 0 for i in range(12)], {"hidden": (3, 3), "out": (1, 3)}).save(path)
        return path

    def refused(self, path, *words):
        with pytest.raises(ValueError) as caught:
            Mask.load(path)
        for word in (str(path), "Mask.save", "restore", *words):
            assert word in str(caught.value)

    def test_a_flipped_bit_anywhere_is_found(self, saved):
        content = saved.read_bytes()
        weights = 8 + int.from_bytes(content[:8], "little")  # behind the header and its length
        for i in range(len(content)):
            for bit in range(8) if i >= weights else (i % 8, (i + 3) % 8):
                flipped = content[i] ^ 1 << bit
                saved.write_bytes(content[:i] + bytes([flipped]) + content[i + 1 :])
                self.refused(saved)

    def test_every_length_but_the_right_one_is_found(self, saved):
        content = saved.read_bytes()
        for length in range(len(content)):
            saved.write_bytes(content[:length])
            self.refused(saved)
        saved.write_bytes(content + b"\0")
        self.refused(saved)

    def test_text(self, saved):
        saved.write_text("a text of more than eight bytes\n" * 9)
        self.refused(saved)

    def test_foreign_safetensors(self, saved):
        save_file({"hidden": np.zeros((3, 5), np.uint8)}, saved)
        self.refused(saved, "metadata")
        save_file({"hidden": np.zeros((3, 5))}, saved, metadata={"format": "pt"})
        self.refused(saved, "metadata")

    @pytest.mark.parametrize(
        "description",
        [
            "",
            "[]",
            "{}",
            "null",
            '{"shapes": null}',
            '{"shapes": {}}',
            '{"shapes": {"w": "3"}}',
            '{"shapes": {"w": [9]}}',
            '{"shapes": {"w": [2.5]}}',
            '{"shapes": {"w": [-1]}}',
            '{"shapes": {"w": [8]}}',
            '{"shapes": {"w": [1' + 30 * "0" + "]}}",
            '{"sha256": "0", "shapes": {"w": [8]}}',
        ],
    )
    @pytest.mark.parametrize("kind", [np.uint8, np.float32])
    def test_forged_description(self, saved, description, kind):
        save_file({"w": np.ones(1, kind)}, saved, metadata={"sparse_sharing.mask.1": description})
        self.refused(saved)

    def test_edited_weights_with_old_checksum(self, saved):
        with safe_open(saved, framework="numpy") as file:
            metadata, tensors = file.metadata(), {n: file.get_tensor(n) for n in file.keys()}
        save_file(tensors, saved, metadata=metadata)
        Mask.load(saved)
        save_file(tensors | {"out": ~tensors["out"]}, saved, metadata=metadata)
        self.refused(saved, "checksum")
        save_file({n: t for n, t in tensors.items() if n != "out"}, saved, metadata=metadata)
        self.refused(saved, "checksum")
        save_file(tensors | {"more": tensors["out"]}, saved, metadata=metadata)
        self.refused(saved, "more")

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="absent.safetensors"):
            Mask.load(tmp_path / "absent.safetensors")


class TestOverlap:
    @properties
    @given(st.lists(masks, min_size=1, max_size=4))
    def test_union_and_intersection(self, some):
        assert all(intersection(some) <= mask <= union(some) for mask in some)
        assert ~union(some) == intersection([~mask for mask in some])
        assert union(iter(some)) == union(some)

    @properties
    @given(masks, masks, masks)
    def test_bounds_and_symmetry(self, a, b, c):
        a = a | mask_of([True] + [False] * (TOTAL - 1))  # at least one weight
        ratio = overlap_ratio([a, b, c])
        assert 0 <= ratio <= overlap_ratio([a, b]) <= 1
        assert {overlap_ratio(order) for order in permutations([a, b, c])} == {ratio}
        assert overlap_ratio([a, a]) == 1 and overlap_ratio([a, ~a]) == 0
        assert (overlap_ratio([a, b]) == 1) == (a == b)

    @properties
    @given(st.floats(0.05, 1), st.floats(0.05, 1))
    def test_chance_of_one_tensor_is_the_formula(self, d, e):
        module = nn.Linear(20, 20)
        pair = [Mask.random(module, x, torch.Generator().manual_seed(0)) for x in (d, e)]
        d, e = (mask.density for mask in pair)
        assert math.isclose(chance_overlap(pair), d * e / (d + e - d * e))
        assert math.isclose(chance_overlap(pair), chance_overlap(pair, per_tensor=True))

    def test_chance_at_the_densities_of_table_4(self):
        encoder, generator = paper_encoder(), torch.Generator().manual_seed(0)
        pos, ner, chunk = (Mask.random(encoder, d, generator) for d in (0.5012, 0.5623, 0.4467))
        assert round(chance_overlap([pos, ner]), 2) == 0.36
        assert round(chance_overlap([ner, chunk]), 2) == 0.33
        assert round(chance_overlap([pos, chunk]), 2) == 0.31

    @pytest.mark.parametrize("tasks", [2, 3])
    def test_chance_is_what_random_masks_give(self, tasks):
        module, generator = nn.Linear(40, 25), torch.Generator().manual_seed(0)
        draws = [
            [Mask.random(module, d, generator) for d in (0.5, 0.6, 0.3)[:tasks]] for _ in range(200)
        ]
        measured = np.mean([overlap_ratio(drawn) for drawn in draws])
        assert abs(measured - chance_overlap(draws[0])) < 0.004

    def test_chance_per_tensor_is_what_shuffling_inside_tensors_gives(self):
        shapes = {"full": (20, 20), "thin": (20, 30)}
        generator = torch.Generator().manual_seed(0)

        def shuffled(full, thin):
            tensors = {}
            for name, kept in (("full", full), ("thin", thin)):
                order = torch.randperm(math.prod(shapes[name]), generator=generator)
                tensors[name] = (order < kept).view(shapes[name])
            return Mask(tensors)

        pairs = [(shuffled(360, 60), shuffled(300, 120)) for _ in range(200)]
        measured = np.mean([overlap_ratio(pair) for pair in pairs])
        assert abs(measured - chance_overlap(pairs[0], per_tensor=True)) < 0.004
        assert measured > chance_overlap(pairs[0]) + 0.1

    @properties
    @given(masks, masks)
    def test_chance_bounds(self, a, b):
        a = a | mask_of([True] + [False] * (TOTAL - 1))
        for per_tensor in (False, True):
            chance = chance_overlap([a, b], per_tensor)
            assert 0 <= chance <= 1
            assert math.isclose(chance, chance_overlap([b, a], per_tensor))
        full = a | ~a
        assert chance_overlap([full, full]) == chance_overlap([full, full], per_tensor=True) == 1
        assert math.isclose(chance_overlap([a, full]), a.density)

    @pytest.mark.parametrize("ratio", [overlap_ratio, chance_overlap])
    def test_refuses_what_has_no_ratio(self, ratio):
        a = Mask.ones(nn.Linear(3, 2))
        with pytest.raises(ValueError, match="at least 2, got 1"):
            ratio([a])
        with pytest.raises(ValueError, match="keep nothing"):
            ratio([~a, ~a])
        with pytest.raises(ValueError, match="different networks"):
            ratio([a, Mask.ones(nn.Linear(2, 3))])

    @pytest.mark.parametrize("combine", [union, intersection, overlap_ratio, chance_overlap])
    def test_refuses_what_are_no_masks(self, combine):
        a = Mask.ones(nn.Linear(3, 2))
        with pytest.raises(TypeError, match=r"\.values\(\)"):
            combine({"pos": a, "ner": a})
        with pytest.raises(TypeError, match="got str"):
            combine(a)
        with pytest.raises(ValueError, match="got 0"):
            combine([])
