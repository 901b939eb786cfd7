"The CRF against all paths of small cases, at its numerical limits, and inside a model that trains."

from copy import deepcopy
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import grad, gradcheck

from sparse_sharing.masks import Mask
from sparse_sharing.optim import SubnetSGD, subnet_step
from sparse_sharing.sharing import HardSharing, SparseSharing
from sparse_sharing.tagging import crf
from sparse_sharing.tagging.batches import Vocabulary, encode
from sparse_sharing.tagging.corpora import read_conll2003
from sparse_sharing.tagging.crf import (
    FORBIDDEN,
    CRFHead,
    crf_head,
    forward_algorithm,
    log_partition,
    marginals,
    path_score,
    viterbi,
)
from sparse_sharing.tagging.encoder import Encoder, Sizes, linear_head
from sparse_sharing.tagging.schemes import breaks
from sparse_sharing.tagging.sentences import Corpus, Sentence
from sparse_sharing.weights import prunable

BIOES = ["B-X", "E-X", "I-X", "O", "S-X"]
TAGS = {
    "one tag": (["NN"], "none"),
    "two tags": (["NN", "VB"], "none"),
    "bioes without rules": (BIOES, "none"),
    "bioes": (BIOES, "bioes"),
    "bioes of single words": (["O", "S-X", "S-Y"], "bioes"),
    "iob2": (["B-X", "B-Y", "I-X", "O"], "iob2"),
    "iob1": (["B-X", "I-X", "I-Y"], "iob1"),
}
cases = st.builds(
    dict,
    kind=st.sampled_from(sorted(TAGS)),
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    spread=st.sampled_from([0.0, 1.0, 10.0, 300.0]),
    seed=st.integers(0, 999),
)
properties = settings(deadline=None, max_examples=60)


def made(kind, lengths, spread, seed, dtype=torch.float64):
    "A head with random scores, and emissions that are nan where padded."
    g = torch.Generator().manual_seed(seed)
    head = CRFHead(nn.Identity(), *TAGS[kind])
    for p in head.parameters():
        p.data = spread * torch.randn(p.shape, generator=g, dtype=dtype)
    shape = max(lengths), len(lengths), len(head.tags)
    emissions = spread * torch.randn(shape, generator=g, dtype=dtype)
    for i, n in enumerate(lengths):
        emissions[n:, i] = torch.nan
    return head, emissions.requires_grad_()


def all_paths(head, emissions):
    "Every path of one sentence that the scheme allows, with its score."
    every = list(product(range(len(head.tags)), repeat=len(emissions)))
    if head.scheme != "none":
        every = [p for p in every if not breaks([head.tags[i] for i in p], head.scheme)]
    p = torch.tensor(every)
    scores = head.start[p[:, 0]] + head.end[p[:, -1]]
    scores = scores + sum(e[p[:, t]] for t, e in enumerate(emissions))
    for t in range(1, p.shape[1]):
        scores = scores + head.transitions[p[:, t - 1], p[:, t]]
    return p, scores


def gold_of(head, emissions, lengths, seed=0):
    "A path that the scheme allows for each sentence, -100 where padded."
    rng = np.random.default_rng(seed)
    tags = torch.full(emissions.shape[:2], -100)
    for i, n in enumerate(lengths):
        p, _ = all_paths(head, emissions[:n, i])
        tags[:n, i] = p[rng.integers(len(p))]
    return tags


def uses(head, emissions):
    return [emissions, head.start, head.end, head.transitions]


class TestAllPaths:
    @properties
    @given(cases)
    def test_loss_and_gradients(self, case):
        head, emissions = made(**case)
        gold, total = gold_of(head, emissions, case["lengths"]), 0
        for i, n in enumerate(case["lengths"]):
            p, scores = all_paths(head, emissions[:n, i])
            total = total + scores.logsumexp(0) - scores[(p == gold[:n, i]).all(1)].squeeze()
        want = total / sum(case["lengths"])
        got = head.loss(emissions, gold)
        assert torch.allclose(got, want, rtol=1e-9, atol=1e-9)
        wanted = grad(want, uses(head, emissions), materialize_grads=True)
        for a, b in zip(grad(got, uses(head, emissions)), wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-9), "no nan, also where padded"

    @properties
    @given(cases)
    def test_best_path(self, case):
        head, emissions = made(**case)
        best = head.decode(emissions, case["lengths"])
        assert best.shape == emissions.shape[:2]
        for i, n in enumerate(case["lengths"]):
            p, scores = all_paths(head, emissions[:n, i])
            at = (p == best[:n, i]).all(1)
            assert at.any() and (best[n:, i] == -100).all()
            assert scores[at].item() == pytest.approx(scores.max().item(), abs=1e-9)

    @properties
    @given(cases)
    def test_marginals(self, case):
        head, emissions = made(**case)
        found = head.marginals(emissions, case["lengths"])
        assert not found.requires_grad
        for i, n in enumerate(case["lengths"]):
            p, scores = all_paths(head, emissions[:n, i])
            want = torch.einsum(
                "p,ptj->tj", scores.softmax(0), F.one_hot(p, len(head.tags)).double()
            )
            assert torch.allclose(found[:n, i], want, atol=1e-9) and not found[n:, i].any()

    @properties
    @given(cases)
    def test_float32(self, case):
        case = case | dict(spread=min(case["spread"], 10.0))
        head, emissions = made(**case, dtype=torch.float32)
        gold = gold_of(head, emissions, case["lengths"])
        loss = head.loss(emissions, gold)
        assert loss.dtype == torch.float32
        twin, exact = deepcopy(head).double(), emissions.detach().double().requires_grad_()
        want = twin.loss(exact, gold)
        assert torch.allclose(loss.double(), want, rtol=1e-5, atol=1e-6)
        for a, b in zip(
            grad(loss, uses(head, emissions)), grad(want, uses(twin, exact)), strict=True
        ):
            assert a.dtype == torch.float32 and torch.allclose(a.double(), b, atol=1e-6)

    @pytest.mark.parametrize("kind", ["bioes", "bioes without rules"])
    def test_each_sentence_by_its_own_weight(self, kind):
        "Gradients of a weighted sum, not of the sum alone."
        head, emissions = made(kind, [3, 1, 4], 1.0, 0)
        real, weights = ~emissions[:, :, 0].isnan(), torch.tensor([2.0, 0.0, -3.0]).double()
        grads = [
            grad((weights * f(emissions, head.table(), real)).sum(), uses(head, emissions))
            for f in (log_partition, forward_algorithm)
        ]
        assert all(torch.allclose(a, b) for a, b in zip(*grads, strict=True))
        assert not grads[0][0][:, 1].any()

    def test_numerical_gradients(self):
        head, emissions = made("two tags", [3, 2], 1.0, 0)
        real = ~emissions[:, :, 0].isnan()
        clean = emissions.detach().nan_to_num().requires_grad_()
        assert gradcheck(
            lambda e, t: log_partition(e, t, real), (clean, head.table().detach().requires_grad_())
        )


class TestPadding:
    @pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf, 1e30])
    @pytest.mark.parametrize("spread", [1.0, 300.0])
    def test_nothing_in_it_matters(self, value, spread):
        lengths, results = [2, 6, 1], []
        for padding in (0.0, value):
            head, emissions = made("bioes", lengths, spread, 1, torch.float32)
            emissions = emissions.detach().nan_to_num(padding).requires_grad_()
            gold = gold_of(head, emissions, lengths)
            loss = head.loss(emissions, gold)
            grads = grad(loss, uses(head, emissions))
            results.append([
                loss, *grads, head.decode(emissions, lengths), head.marginals(emissions, lengths)
            ])  # fmt: skip
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
        assert all(not results[1][1][n:, i].any() for i, n in enumerate(lengths))

    @properties
    @given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(0, 99))
    def test_a_sentence_means_the_same_in_any_company(self, lengths, seed):
        head, emissions = made("bioes", lengths, 2.0, seed)
        table, real = head.table(), ~emissions[:, :, 0].isnan()
        together = log_partition(emissions, table, real)
        best = viterbi(emissions, table, real)
        for i, n in enumerate(lengths):
            alone, whole = emissions[:n, i : i + 1], real[:n, i : i + 1]
            assert torch.allclose(together[i], log_partition(alone, table, whole)[0])
            assert torch.equal(best[:n, i], viterbi(alone, table, whole)[:, 0])

    @pytest.mark.parametrize("kind", ["numpy", "tensor", "list"])
    def test_lengths_as_they_come(self, kind):
        head, emissions = made("two tags", [3, 2], 1.0, 0)
        lengths = {"numpy": np.array([3, 2]), "tensor": torch.tensor([3, 2]), "list": [3, 2]}[kind]
        assert (head.decode(emissions, lengths) == -100).sum() == 1


class TestNumerics:
    @staticmethod
    def reference(emissions, table, real):
        "log Z in float64, with plain minus infinity and sentence by sentence."
        table = table.masked_fill(table == FORBIDDEN, -torch.inf)
        found = []
        for i, n in enumerate(real.sum(0).tolist()):
            e = emissions[:n, i].double()
            alpha = table[-1, :-1] + e[0]
            for t in range(1, n):
                alpha = (alpha[:, None] + table[:-1, :-1]).logsumexp(0) + e[t]
            found.append((alpha + table[:-1, -1]).logsumexp(0))
        return torch.stack(found)

    @pytest.mark.parametrize("spread", [0.1, 3.0, 20.0, 100.0, 1000.0])
    @pytest.mark.parametrize("kind", ["two tags", "bioes", "iob2", "bioes without rules"])
    def test_length_200_in_float32(self, kind, spread):
        lengths = [200, 200, 137, 1]
        head, emissions = made(kind, lengths, spread, 0, torch.float32)
        real = ~emissions[:, :, 0].isnan()
        table = head.table().detach()
        want = self.reference(emissions, table, real)
        assert torch.allclose(log_partition(emissions, table, real), want, rtol=0, atol=1e-4)
        double = emissions.detach().double()
        exact = marginals(double.requires_grad_(), table, real)
        found = marginals(emissions, table, real)
        assert torch.allclose(found.double(), exact, rtol=0, atol=1e-4)
        assert torch.allclose(found.sum(2), real.float(), atol=1e-5)

        best = viterbi(emissions, table, real)
        score = path_score(emissions, table, best)
        assert torch.equal(best, viterbi(double, table, real))
        assert (score <= want + 1e-9).all(), "no path outweighs all paths"
        if spread >= 100:
            assert torch.allclose(score, want, rtol=0, atol=10), "one path is nearly all"

    @pytest.mark.parametrize("spread, fast", [(1.0, True), (30.0, True), (1e4, False)])
    def test_the_fast_way_takes_what_training_meets(self, spread, fast):
        head, emissions = made("bioes", [30] * 10, 1.0, 0)
        for p in [emissions, *head.parameters()]:
            p.data.clamp_(-1, 1).mul_(spread)
        real = torch.ones(30, 10, dtype=torch.bool)
        with torch.no_grad():
            assert (crf._both_ways(emissions, head.table(), real) is not None) == fast

    @properties
    @given(cases)
    @example(dict(kind="bioes", lengths=[4], spread=100.0, seed=0))
    def test_both_ways_agree(self, case):
        "In values of 100 and -100 alone, where sums cancel."
        head, emissions = made(**case | dict(spread=1.0))
        for p in [emissions, *head.parameters()]:
            p.data = 100 * p.data.sign()
        real = ~emissions[:, :, 0].isnan()
        a, b = (f(emissions, head.table(), real) for f in (log_partition, forward_algorithm))
        assert torch.allclose(a, b, atol=1e-9)
        pairs = zip(*(grad(z.sum(), uses(head, emissions)) for z in (a, b)), strict=True)
        assert all(torch.allclose(x, y, atol=1e-9) for x, y in pairs)

    def test_a_best_start_that_has_no_good_end(self):
        "The best path is the one that scaled weights have long lost."
        head = CRFHead(nn.Identity(), BIOES, "bioes")
        emissions = torch.zeros(3, 1, 5)
        emissions[0, 0, BIOES.index("B-X")] = 2000
        emissions[1:, 0, [BIOES.index("E-X"), BIOES.index("I-X")]] = -5000
        real = torch.ones(3, 1, dtype=torch.bool)
        with torch.no_grad():
            assert crf._both_ways(emissions, head.table(), real) is None
        p, scores = all_paths(head, emissions[:, 0])
        z = log_partition(emissions, head.table(), real)
        assert z.item() == pytest.approx(scores.logsumexp(0).item(), abs=1e-6)
        assert "O" in [head.tags[i] for i in head.decode(emissions, [3]).flatten()]
        assert torch.allclose(head.marginals(emissions, [3]).sum(2), torch.ones(3, 1))

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_a_diverged_model_is_not_hidden(self, bad):
        head, emissions = made("bioes", [3], 1.0, 0)
        gold = gold_of(head, emissions, [3])
        broken = emissions.detach().clone()
        broken[1, 0, 2] = bad
        assert not head.loss(broken, gold).isfinite()

    def test_it_repeats_to_the_last_bit(self):
        head, emissions = made("bioes", [9, 30, 30, 4], 2.0, 0, torch.float32)
        gold = head.decode(emissions, [9, 30, 30, 4])
        runs = [grad(head.loss(emissions, gold), uses(head, emissions)) for _ in range(2)]
        assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))

    def test_no_second_derivative(self):
        head, emissions = made("two tags", [3], 1.0, 0)
        loss = head.loss(emissions, gold_of(head, emissions, [3]))
        with pytest.raises(RuntimeError, match="differentiated once.*take forward_algorithm"):
            grad(loss, emissions, create_graph=True)


class TestHead:
    def test_before_training_it_is_the_cross_entropy_per_word(self):
        torch.manual_seed(0)
        head, linear = CRFHead(nn.Identity(), BIOES), torch.randn(7, 3, 5, requires_grad=True)
        tags = torch.randint(5, (7, 3))
        tags[4:, 1] = tags[1:, 2] = -100
        losses = [
            head.loss(linear, tags),
            F.cross_entropy(linear.flatten(0, 1), tags.flatten(), ignore_index=-100),
        ]
        assert torch.allclose(*losses)
        assert torch.allclose(*(grad(x, linear)[0] for x in losses), atol=1e-7)
        assert torch.equal(head.decode(linear, [7, 4, 1])[:, 0], linear[:, 0].argmax(1))

    @properties
    @given(st.sampled_from(["bioes", "iob2", "iob1"]), st.integers(0, 999), st.integers(1, 12))
    def test_no_forbidden_path_is_decoded_or_learnt(self, kind, seed, n):
        head, emissions = made(kind, [n, 1], 5.0, seed, torch.float32)
        for i, path in enumerate(head.decode(emissions, [n, 1]).T.tolist()):
            assert not breaks([head.tags[j] for j in path[: [n, 1][i]]], head.scheme)
        head.loss(emissions, head.decode(emissions, [n, 1])).backward()
        inner, first, last = (
            head.forbidden[:-1, :-1], head.forbidden[-1, :-1], head.forbidden[:-1, -1]
        )  # fmt: skip
        assert not head.transitions.grad[inner].any()
        assert not head.start.grad[first].any() and not head.end.grad[last].any()

    @pytest.mark.parametrize(
        "gold, message",
        [
            ("O I-X E-X", "sentence 1 of the batch, word 1: I-X cannot follow O in BIOES"),
            ("E-X O O", "sentence 1 of the batch, word 0: E-X cannot begin a sentence in BIOES"),
            ("O O B-X", "sentence 1 of the batch, word 3: B-X cannot end one in BIOES"),
        ],
    )
    def test_gold_that_breaks_the_scheme(self, gold, message):
        tags = torch.full((5, 2), BIOES.index("O"))
        tags[:, 1] = -100
        tags[:3, 1] = torch.tensor([BIOES.index(t) for t in gold.split()])
        with pytest.raises(ValueError, match=message):
            CRFHead(nn.Identity(), BIOES, "bioes").loss(torch.zeros(5, 2, 5), tags)
        assert CRFHead(nn.Identity(), BIOES).loss(torch.zeros(5, 2, 5), tags).isfinite()

    @pytest.mark.parametrize(
        "tags, message",
        [
            ([[0, 5]], "tags from 0 to 5, but this head knows 0 to 4"),
            ([[0, -1]], "tags from -1 to 0"),
            ([[0, -100], [0, 3]], "padding must come last"),
            ([[0, -100]], r"lengths \[1, 0\] for emissions of 1 words x 2 sentences"),
        ],
    )
    def test_tags_that_cannot_be(self, tags, message):
        tags = torch.tensor(tags)
        with pytest.raises(ValueError, match=message):
            CRFHead(nn.Identity(), BIOES).loss(torch.zeros(*tags.shape, 5), tags)

    @pytest.mark.parametrize("lengths", [[3], [3, 4], [3, 0], [[3, 3]], [3, -1]])
    def test_lengths_that_do_not_fit(self, lengths):
        head = CRFHead(nn.Identity(), BIOES)
        for read in (head.decode, head.marginals):
            with pytest.raises(ValueError, match="for emissions of 3 words x 2 sentences"):
                read(torch.zeros(3, 2, 5), lengths)

    @pytest.mark.parametrize(
        "tags, scheme, message",
        [
            (BIOES, "bilo", "no scheme is called 'bilo'"),
            (BIOES, "bilou", "B-X stands in no sentence that BILOU allows"),
            (BIOES, "iob2", "E-X stands in no sentence that IOB2 allows"),
            (["B-X", "I-X", "O"], "bioes", "B-X stands in no sentence that BIOES allows"),
            (["DT", "NN"], "bioes", "DT stands in no sentence"),
            (["I-X", "E-X", "O"], "bioes", "I-X stands in no sentence"),
            (["B-X", "E-X"], "bioes", "none of these tags can be a whole sentence in BIOES"),
        ],
    )
    def test_tags_and_schemes_that_do_not_fit(self, tags, scheme, message):
        with pytest.raises(ValueError, match=message):
            CRFHead(nn.Identity(), tags, scheme)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    def test_emissions_that_say_nothing(self, value):
        "The best of them is no tag; padding may hold anything."
        head, emissions = CRFHead(nn.Identity(), BIOES, "bioes"), torch.zeros(3, 2, 5)
        emissions[2, 0] = value
        for read in (head.decode, head.marginals):
            assert read(emissions, [2, 3]).shape[:2] == (3, 2)
            with pytest.raises(
                ValueError, match="sentence 0 of the batch, word 2: its best emission"
            ):
                read(emissions, [3, 3])

    def test_one_impossible_tag_is_not_the_end(self):
        head, emissions = CRFHead(nn.Identity(), BIOES, "bioes"), torch.zeros(2, 1, 5)
        emissions[0, 0, 3] = float("-inf")
        assert head.decode(emissions, [2]).flatten().tolist()[0] != 3

    @pytest.mark.parametrize("scheme", ["bioes", "none"])
    def test_a_gold_tag_at_minus_infinity(self, scheme):
        head, emissions = CRFHead(nn.Identity(), BIOES, scheme), torch.zeros(2, 2, 5)
        emissions[1, 1, 3] = float("-inf")
        message = "sentence 1 of the batch, word 1: the emission of the gold tag O is -inf"
        with pytest.raises(ValueError, match=message):
            head.loss(emissions, torch.full((2, 2), 3))
        assert head.loss(emissions, torch.tensor([[3, 3], [3, -100]])).isfinite()

    def test_it_begins_as_a_linear_head(self):
        sizes = Sizes(hidden=3)
        torch.manual_seed(0)
        linear = linear_head(5, sizes).eval()
        torch.manual_seed(0)
        head = crf_head(BIOES, sizes, "bioes").eval()
        x = torch.randn(4, 2, 6)
        assert torch.equal(head(x), linear(x))
        assert set(head.state_dict()) == {
            "scorer.1.weight", "scorer.1.bias", "start", "end", "transitions"
        }  # fmt: skip
        assert not any(p.any() for p in (head.start, head.end, head.transitions))


TEXTS = ["a ab abc", "ba ab", "c bca abc a b ab cab", "bb"]
SMALL = Sizes(word=6, char=4, filters=5, hidden=3, dropout=0.0, word_dropout=0.0)


@pytest.fixture
def split():
    "Words that say nothing, and tags that take turns."
    turns = [("N", "V") * 9, ("V", "N") * 9]
    sentences = [
        Sentence(tuple(t.split()), {"pos": turns[i % 2][: len(t.split())]})
        for i, t in enumerate(TEXTS)
    ]
    vocab = Vocabulary.build(Corpus("letters", sentences, [], []))
    return vocab, encode(sentences, vocab)


class TestInAModel:
    def build(self, vocab, sparse=False):
        torch.manual_seed(0)
        encoder, heads = Encoder(vocab, SMALL), {"pos": crf_head(vocab.tags["pos"], SMALL)}
        if not sparse:
            return HardSharing(encoder, heads)
        return SparseSharing(encoder, heads, {"pos": Mask.random(encoder, 0.5, torch.Generator())})

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize("optimiser", ["sgd", "adam"])
    def test_it_trains(self, split, sparse, optimiser):
        vocab, data = split
        model, batch = self.build(vocab, sparse), data.batch(np.arange(len(TEXTS)))
        if optimiser == "sgd":
            optimizer = SubnetSGD(model, lr=0.1)
        else:
            model.encoder.stem.words.sparse = False
            optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        head, first = model.heads["pos"], None
        for _ in range(80):
            loss = head.loss(model(batch, task="pos"), batch.tags["pos"])
            first = first or loss.item()
            optimizer.zero_grad()
            loss.backward()
            subnet_step(optimizer, model, "pos")
        assert loss.item() < first / 4
        assert all(p.any() for p in (head.start, head.end, head.transitions))
        model.eval()
        best = head.decode(model(batch, task="pos"), batch.lengths)
        assert torch.equal(best, batch.tags["pos"])

    def test_neighbours_tell_what_words_do_not(self):
        "Constant encodings: a linear head stays at log 2, the CRF learns that tags take turns."
        torch.manual_seed(0)
        head, x = CRFHead(nn.Linear(1, 2), ["N", "V"]), torch.ones(8, 4, 1)
        tags = torch.tensor([[0, 1] * 4, [1, 0] * 4] * 2).T
        optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
        for _ in range(200):
            loss = head.loss(head(x), tags)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert loss.item() < 1.2 * np.log(2) / 8, "one choice for a sentence of eight words"
        assert F.cross_entropy(head(x).flatten(0, 1), tags.flatten()).item() > 0.99 * np.log(2)

    def test_it_is_never_pruned(self, split):
        model = self.build(split[0])
        assert not [n for n in prunable(model.encoder) if "transitions" in n]
        assert model.count_parameters() == HardSharing(
            model.encoder, {"pos": linear_head(2, SMALL)}
        ).count_parameters()  # fmt: skip

    def test_a_copy_and_another_number_type(self, split):
        vocab, data = split
        model, batch = self.build(vocab), data.batch(np.arange(len(TEXTS)))
        twin = deepcopy(model).double()
        a, b = (m.heads["pos"].loss(m(batch, task="pos"), batch.tags["pos"]) for m in (model, twin))
        assert b.dtype == torch.float64 and a.item() == pytest.approx(b.item(), abs=1e-5)


@pytest.mark.filterwarnings("ignore:chunk tag I-PRT is in dev")
def test_every_gold_sentence_of_conll2003_is_allowed(data_dir):
    corpus = read_conll2003(data_dir / "conll2003")
    vocab = Vocabulary.build(corpus)
    train = encode(corpus.train, vocab)
    for layer, scheme in [("ner", "bioes"), ("chunk", "iob2"), ("pos", "none")]:
        head, words = CRFHead(nn.Identity(), vocab.tags[layer], scheme), 0
        for batch in train.in_order(500):
            zeros = torch.zeros(*batch.words.shape, len(head.tags))
            loss, uniform = head.loss(zeros, batch.tags[layer]).item(), np.log(len(head.tags))
            assert 0 < loss < uniform if scheme != "none" else loss == pytest.approx(uniform)
            words += batch.lengths.sum()
        assert words == len(train.tokens)
