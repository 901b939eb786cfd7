"Masks in pieces: nothing lost, the gates where PyTorch has them, and overlaps counted by hand."

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sparse_sharing.masks import Mask, chance_overlap, overlap_ratio
from sparse_sharing.study.overlaps import GATES, part_overlaps, parts
from sparse_sharing.tagging.batches import Vocabulary
from sparse_sharing.tagging.encoder import Encoder, Sizes

properties = settings(deadline=None, max_examples=40)

VOCAB = Vocabulary(("<pad>",), ("<pad>",), {}, {})
ENCODERS = {
    name: Encoder(VOCAB, Sizes(word=3, char=2, filters=filters, hidden=2, layers=layers))
    for name, filters, layers in [
        ("one layer", 4, 1),
        ("two layers", 4, 2),
        ("no characters", 0, 1),
    ]
}
each_encoder = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)


def random_mask(encoder, density, seed):
    return Mask.random(encoder, density, torch.Generator().manual_seed(seed))


class TestParts:
    @each_encoder
    @properties
    @given(density=st.floats(0, 1), seed=st.integers(0, 1000))
    def test_they_are_the_whole_mask_once(self, encoder, density, seed):
        mask = random_mask(encoder, density, seed)
        pieces = list(parts(mask))
        assert sum(int(t.sum()) for _, t in pieces) == mask.kept
        assert sum(t.numel() for _, t in pieces) == mask.size
        labels = Counter(tuple(label.values()) for label, _ in pieces)
        assert set(labels.values()) == {1} and all(t.dtype == torch.bool for _, t in pieces)

    @each_encoder
    def test_every_tensor_can_be_put_together_again(self, encoder):
        mask = random_mask(encoder, 0.5, 0)
        found = {}
        for label, rows in parts(mask):
            if label["gate"]:
                number = int(label["layer"].removeprefix("LSTM ")) - 1
                name = f"layers.{number}.{label['direction']}.weight_{label['weight']}_l0"
            else:
                name = label["layer"] + ".weight"
            found.setdefault(name, []).append((label["gate"], rows))
        assert all([g for g, _ in v] in ([""], list(GATES)) for v in found.values())
        assert Mask({n: torch.cat([t for _, t in v]) for n, v in found.items()}) == mask

    def test_the_names_of_the_parts(self):
        "The character network is one part; an LSTM is sixteen."
        mask = Mask.ones(ENCODERS["two layers"])
        found = [tuple(label.values()) for label, _ in parts(mask)]
        lstm = [
            (f"LSTM {n}", direction, weight, gate)
            for n in (1, 2)
            for direction in ("ltr", "rtl")
            for weight in ("hh", "ih")
            for gate in ("input", "forget", "cell", "output")
        ]
        assert sorted(found) == sorted([*lstm, ("stem.chars.conv", "", "", "")])
        without = Mask.ones(ENCODERS["no characters"])
        assert {label["layer"] for label, _ in parts(without)} == {"LSTM 1"}

    @pytest.mark.parametrize(
        "name",
        ["layers.0.ltr.bias_ih_l0", "layers.0.ltr.weight_ih_l1", "my.layers.0.ltr.weight_ih_l0"],
    )
    def test_what_only_looks_like_an_lstm_is_a_part_by_name(self, name):
        kept = torch.ones(8, 3, dtype=torch.bool)
        ((label, rows),) = parts(Mask({name: kept}))
        assert label == dict(layer=name, direction="", weight="", gate="")
        assert torch.equal(rows, kept)


class TestGates:
    def test_their_rows_do_what_they_are_called(self):
        """An LSTM of PyTorch is worked out by hand from the rows of each part.

        With i, f, o the logistic function of their rows and g the tangent: c' = f c + i g, and h' = o tanh c'.
        """
        torch.manual_seed(0)
        lstm = nn.LSTM(3, 2, bias=False).double()
        weights = {}
        for weight in ("ih", "hh"):
            matrix = getattr(lstm, f"weight_{weight}_l0")
            for gate in GATES:
                kept = [
                    rows
                    for label, rows in parts(self.only(matrix, gate, weight))
                    if label["gate"] == gate
                ]
                assert len(kept) == 1 and kept[0].all()
                where = self.only(matrix, gate, weight)[f"layers.0.ltr.weight_{weight}_l0"]
                weights[weight, gate] = matrix[where].view(2, -1)
        x, (h, c) = torch.randn(1, 3).double(), torch.randn(2, 1, 2).double()

        def rows(gate):
            return x[0] @ weights["ih", gate].T + h[0] @ weights["hh", gate].T

        new_c = rows("forget").sigmoid() * c[0] + rows("input").sigmoid() * rows("cell").tanh()
        new_h = rows("output").sigmoid() * new_c.tanh()
        _, (their_h, their_c) = lstm(x[None], (h[None], c[None]))
        assert torch.allclose(new_c, their_c[0, 0]) and torch.allclose(new_h, their_h[0, 0])

    @staticmethod
    def only(matrix, gate, weight):
        "The mask whose part of that gate is full, and whose other parts are empty."
        for quarter in range(4):
            kept = torch.zeros(matrix.shape, dtype=torch.bool)
            kept[2 * quarter : 2 * quarter + 2] = True
            mask = Mask({f"layers.0.ltr.weight_{weight}_l0": kept})
            if {label["gate"] for label, rows in parts(mask) if rows.any()} == {gate}:
                return mask
        raise AssertionError(f"no quarter of the rows is the {gate} gate")


class TestOverlaps:
    @properties
    @given(
        st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), min_size=2, max_size=3),
        st.integers(0, 1000),
    )
    def test_they_are_those_that_one_counts_by_hand(self, densities, seed):
        encoder = ENCODERS["one layer"]
        masks = [random_mask(encoder, d, seed + i) for i, d in enumerate(densities)]
        table = part_overlaps(masks)
        assert list(table) == "layer direction weight gate weights density overlap chance".split()
        rows = table.to_dict("records")
        for row, pieces in zip(rows, zip(*map(parts, masks), strict=True), strict=True):
            bits = [piece.flatten().tolist() for _, piece in pieces]
            both, some = (sum(map(f, zip(*bits, strict=True))) for f in (all, any))
            size = len(bits[0])
            shares = [sum(b) / size for b in bits]
            assert {k: row[k] for k in pieces[0][0]} == pieces[0][0] and row["weights"] == size
            assert row["density"] == pytest.approx(sum(shares) / len(shares))
            if some:
                at_least_one = 1 - math.prod(1 - s for s in shares)
                assert row["overlap"] == pytest.approx(both / some)
                assert row["chance"] == pytest.approx(math.prod(shares) / at_least_one)
            else:
                assert math.isnan(row["overlap"] or math.nan) and math.isnan(
                    row["chance"] or math.nan
                )

    def test_one_part_alone_is_the_whole(self):
        "There, what is said of parts and what is said of masks must agree."
        masks = [Mask({"w": torch.rand(9, 9, generator=g) < 0.5}) for g in self.streams(3)]
        row = part_overlaps(masks).iloc[0]
        assert row.layer == "w" and row.overlap == overlap_ratio(masks)
        assert row.chance == pytest.approx(chance_overlap(masks))

    @staticmethod
    def streams(n):
        return [torch.Generator().manual_seed(i) for i in range(n)]

    def test_a_part_that_no_mask_keeps_has_no_overlap(self):
        "It is neither 0 nor 1, and the parts beside it have theirs."
        kept = torch.ones(8, 3, dtype=torch.bool)
        kept[2:4] = False
        masks = [Mask({"layers.0.rtl.weight_hh_l0": kept})] * 2
        table = part_overlaps(masks).set_index("gate")
        assert table.loc["forget", ["overlap", "chance"]].isna().all()
        assert table.loc["forget", "density"] == 0
        others = table.drop("forget")
        assert (others.overlap == 1).all() and (others.chance == 1).all()

    def test_a_part_that_one_mask_keeps_is_not_shared(self):
        full, empty = (Mask({"w": torch.full((2, 2), b)}) for b in (True, False))
        row = part_overlaps([full, empty]).iloc[0]
        assert (row.overlap, row.chance, row.density) == (0, 0, 0.5)

    def test_masks_of_encoders_of_other_depths_are_refused(self):
        masks = [Mask.ones(ENCODERS[n]) for n in ("one layer", "two layers")]
        with pytest.raises((ValueError, RuntimeError)):
            part_overlaps(masks)
