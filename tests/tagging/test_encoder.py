"The base model against PyTorch's own parts, alone and in company, and its sizes."

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call

from sparse_sharing.masks import Mask
from sparse_sharing.sharing import HardSharing, SparseSharing
from sparse_sharing.tagging.batches import Vocabulary, encode
from sparse_sharing.tagging.encoder import BiLSTM, CharCNN, Dropout, Encoder, Sizes, linear_head
from sparse_sharing.tagging.sentences import Corpus, Sentence
from sparse_sharing.weights import prunable

properties = settings(deadline=None, max_examples=30)

SMALL = Sizes(word=6, char=4, filters=5, hidden=3)
TEXTS = ["a ab abc", "ba", "c bca abcabcabc a b ab cab", "bb aa"]


def encoded(texts: list[str]):
    sentences = [Sentence(tuple(t.split()), {"pos": ("X",) * len(t.split())}) for t in texts]
    vocab = Vocabulary.build(Corpus("letters", sentences, [], []))
    return vocab, encode(sentences, vocab)


VOCAB, SPLIT = encoded(TEXTS)
ALL = np.arange(len(TEXTS))


def convolved(cnn: CharCNN, chars: torch.Tensor) -> torch.Tensor:
    "What PyTorch's convolution makes of one word, which is framed by the row of the padding."
    half = cnn.conv.kernel_size[0] // 2
    framed = F.embedding(F.pad(chars, (half, half)), cnn.embedding.weight)[None].transpose(1, 2)
    return F.conv1d(framed, cnn.conv.weight, cnn.conv.bias).relu().amax(2)[0]


class TestCharCNN:
    @pytest.fixture(params=[1, 3, 5], ids=lambda w: f"window {w}")
    def cnn(self, request):
        torch.manual_seed(0)
        return CharCNN(9, Sizes(char=4, filters=6, window=request.param))

    def test_it_is_a_convolution(self, cnn):
        for word in ([5], [1, 8], [2, 3, 4], [7, 7, 6, 5, 4, 3]):
            chars = torch.tensor([word])
            theirs = cnn.conv(cnn.embedding(chars).transpose(1, 2)).relu().amax(2)
            assert torch.allclose(cnn(chars), theirs, atol=1e-6)
            assert torch.allclose(cnn(chars)[0], convolved(cnn, chars[0]), atol=1e-6)

    def test_its_gradients_are_those_of_the_convolution(self, cnn):
        chars, weights = torch.tensor([2, 8, 5, 5, 3]), torch.randn(6)
        ours = torch.autograd.grad(cnn(chars[None])[0] @ weights, list(cnn.parameters()))
        theirs = torch.autograd.grad(convolved(cnn, chars) @ weights, list(cnn.parameters()))
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))
        assert all(g.any() for g in ours)

    def test_of_equal_places_the_first_one_learns(self, cnn):
        "`aaaa` has the same windows several times; words beside it have gradients of their own."
        words, weights = torch.tensor([[5, 5, 5, 5], [2, 8, 0, 0]]), torch.randn(2, 6)
        ours = torch.autograd.grad((cnn(words) * weights).sum(), list(cnn.parameters()))
        each = [convolved(cnn, word[word > 0]) for word in words]
        theirs = torch.autograd.grad((torch.stack(each) * weights).sum(), list(cnn.parameters()))
        rows = ours[0].any(1) if cnn.conv.kernel_size[0] > 1 else None
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))
        assert rows is None or rows[[2, 5, 8]].all()

    def test_padding_never_wins(self, cnn):
        "Also where every real answer is far below zero and padding's would be zero."
        with torch.no_grad():
            cnn.conv.weight.fill_(-1)
            cnn.embedding.weight[1:] = 3
            cnn.conv.bias.fill_(50)
        short = torch.tensor([[4, 2]])
        assert torch.equal(cnn(short), cnn(F.pad(short, (0, 7))))
        assert torch.allclose(cnn(short)[0], convolved(cnn, short[0]))

    @properties
    @given(st.lists(st.lists(st.integers(1, 8), min_size=1, max_size=7), min_size=1, max_size=6))
    def test_a_word_means_the_same_in_any_company(self, words):
        torch.manual_seed(0)
        cnn, longest = CharCNN(9, Sizes(char=4, filters=6)), max(map(len, words))
        table = cnn(torch.tensor([w + [0] * (longest - len(w)) for w in words]))
        for word, row in zip(words, table, strict=True):
            assert torch.allclose(row, cnn(torch.tensor([word]))[0], atol=1e-6)

    @pytest.mark.parametrize("window", [2, 4])
    def test_an_even_window_has_no_middle(self, window):
        with pytest.raises(ValueError, match="odd"):
            CharCNN(9, Sizes(window=window))


class TestDropout:
    @pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
    def test_share_and_scale(self, p):
        torch.manual_seed(0)
        x = torch.full((400, 333), 3.0)
        y, rate = Dropout(p)(x), round(256 * p) / 256
        kept = y[y != 0]
        assert torch.allclose(kept, torch.tensor(3 / (1 - rate)))
        deviation = (rate * (1 - rate) / x.numel()) ** 0.5
        assert abs((y == 0).double().mean().item() - rate) < 5 * deviation

    def test_units_are_dropped_independently(self):
        torch.manual_seed(0)
        drops = (Dropout(0.5)(torch.ones(4000, 16)) == 0).double()
        correlations = torch.corrcoef(drops.T) - torch.eye(16)
        assert correlations.abs().max() < 5 / 4000**0.5, "neighbours share their bytes"

    def test_it_draws_anew_and_repeats_with_the_seed(self):
        x, dropout = torch.ones(99), Dropout(0.5)
        torch.manual_seed(7)
        first, second = dropout(x), dropout(x)
        torch.manual_seed(7)
        assert torch.equal(dropout(x), first) and not torch.equal(first, second)

    def test_its_gradient_is_its_factor(self):
        x = torch.rand(5, 7, requires_grad=True)
        y = Dropout(0.5)(x)
        (grad,) = torch.autograd.grad(y.sum(), x)
        assert torch.equal(grad * x, y)

    @pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4)])
    def test_any_shape(self, shape):
        x = torch.rand(shape)
        assert Dropout(0.5)(x).shape == shape
        assert Dropout(0.0)(x) is x and Dropout(0.5).eval()(x) is x

    @pytest.mark.parametrize("p", [-0.1, 0.999, 1.0])
    def test_a_rate_that_leaves_nothing_is_refused(self, p):
        with pytest.raises(ValueError, match="dropout"):
            Dropout(p)


class TestWordDropout:
    @pytest.fixture
    def stem(self):
        torch.manual_seed(0)
        sizes = Sizes(word=6, char=4, filters=5, hidden=3, dropout=0.0, word_dropout=0.3)
        return Encoder(VOCAB, sizes).stem

    def test_some_training_words_are_read_as_unknown(self, stem):
        batch = SPLIT.batch(np.zeros(4000, int))  # the same three words, many times
        words = stem(batch)[:, :, :6]
        unknown = (words == stem.words.weight[1]).all(2)
        assert unknown.float().mean().item() == pytest.approx(0.3, abs=0.02)
        known = F.embedding(batch.words, stem.words.weight)
        assert torch.equal(words[~unknown], known[~unknown])

    def test_their_letters_stay(self, stem):
        batch = SPLIT.batch(ALL)
        letters = F.embedding(batch.forms, stem.chars(batch.chars))
        assert torch.equal(stem(batch)[:, :, 6:], letters)

    def test_padding_stays_padding(self, stem):
        batch = SPLIT.batch(ALL)
        assert not stem(batch)[:, :, :6][batch.words == 0].any()

    def test_not_in_evaluation(self, stem):
        batch = SPLIT.batch(ALL)
        words = stem.eval()(batch)[:, :, :6]
        assert torch.equal(words, F.embedding(batch.words, stem.words.weight))


class TestBiLSTM:
    def test_it_is_the_bidirectional_lstm_of_pytorch(self):
        "On packed sequences, which is what spares it the padding."
        torch.manual_seed(0)
        ours, theirs = BiLSTM(7, 4), nn.LSTM(7, 4, bidirectional=True)
        backwards = {k + "_reverse": v for k, v in ours.rtl.state_dict().items()}
        theirs.load_state_dict(ours.ltr.state_dict() | backwards)
        batch = SPLIT.batch(ALL)
        real = batch.words > 0
        inputs = torch.randn(*batch.words.shape, 7)
        xs = [inputs.clone().requires_grad_() for _ in range(2)]
        packed = nn.utils.rnn.pack_padded_sequence(
            xs[1], torch.from_numpy(batch.lengths), enforce_sorted=False
        )
        y = ours(xs[0], batch)[real]
        z = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0])[0][real]
        assert torch.allclose(y, z, atol=1e-6)
        weights = torch.randn_like(y)
        ours, theirs = (
            torch.autograd.grad((out * weights).sum(), x)[0]
            for out, x in zip((y, z), xs, strict=True)
        )
        assert torch.allclose(ours, theirs, atol=1e-5) and not ours[~real].any()

    def test_its_first_weights(self):
        layer = BiLSTM(7, 4)
        for name, p in layer.named_parameters():
            if "weight" in name:
                bound = (6 / sum(p.shape)) ** 0.5
                assert 0.8 * bound < p.abs().max() <= bound
            else:
                assert p.tolist() == [0] * 4 + [1] * 4 + [0] * 8


class TestEncoder:
    @pytest.mark.parametrize("layers", [1, 2])
    def test_padding_is_harmless(self, layers):
        torch.manual_seed(0)
        encoder = Encoder(VOCAB, Sizes(word=6, char=4, filters=5, hidden=3, layers=layers)).eval()
        together = encoder(SPLIT.batch(ALL))
        for i, text in enumerate(TEXTS):
            n = len(text.split())
            alone = encoder(SPLIT.batch(np.array([i])))[:, 0]
            assert alone.shape == (n, 6)
            assert torch.allclose(together[:n, i], alone, atol=1e-6)

    def test_no_gradient_comes_from_padding(self):
        "The loss of the short sentence has the same gradients beside a long one."
        torch.manual_seed(0)
        model = HardSharing(Encoder(VOCAB, SMALL), {"pos": linear_head(3, SMALL)}).eval()

        def gradients(ids):
            batch = SPLIT.batch(np.array(ids))
            scores = model(batch, task="pos").log_softmax(2)[: SPLIT.lengths[1], 0, 0]
            model.zero_grad()
            scores.sum().backward()
            return {
                n: p.grad.to_dense() if p.grad.is_sparse else p.grad
                for n, p in model.named_parameters()
            }

        alone, beside = gradients([1]), gradients([1, 2])
        assert all(torch.allclose(alone[n], beside[n], atol=1e-6) for n in alone)

    def test_its_output_is_its_layers_in_turn(self):
        torch.manual_seed(0)
        encoder = Encoder(VOCAB, Sizes(word=6, char=4, filters=5, hidden=3, layers=3)).eval()
        batch = SPLIT.batch(ALL)
        x = encoder.stem(batch)
        for layer in encoder.layers:
            x = layer(x, batch)
        assert torch.equal(x, encoder(batch)) and len(encoder.layers) == 3

    def test_word_vectors_are_taken_over(self):
        vectors = torch.randn(len(VOCAB.words), 6)
        weight = Encoder(VOCAB, SMALL, vectors).stem.words.weight
        assert torch.equal(weight, vectors) and weight.requires_grad
        vectors.zero_()
        assert weight.any(), "the table is its own"

    def test_the_first_layers_do_not_depend_on_the_depth(self):
        states = []
        for layers in (1, 2):
            torch.manual_seed(0)
            sizes = Sizes(word=6, char=4, filters=5, hidden=3, layers=layers)
            states.append(Encoder(VOCAB, sizes).state_dict())
        assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())

    @pytest.mark.parametrize(
        "layers, weights, biases", [(1, 530_700, 3_230), (2, 1_490_700, 6_430)]
    )
    def test_the_papers_sizes(self, layers, weights, biases):
        with torch.device("meta"):
            sizes = Sizes(layers=layers)
            model = HardSharing(Encoder(VOCAB, sizes), {"pos": linear_head(3, sizes)})
        assert Mask.ones(model.encoder).size == weights
        assert model.count_parameters() == weights + biases

    def test_what_may_be_pruned(self):
        directions = [f"layers.0.{d}.weight_{x}h_l0" for d in ("ltr", "rtl") for x in "hi"]
        assert sorted(prunable(Encoder(VOCAB, SMALL))) == [*directions, "stem.chars.conv.weight"]

    def test_without_filters_there_is_no_character_network(self):
        "Words that differ in their spelling alone, and have no vector of their own, look the same."
        torch.manual_seed(0)
        sizes = replace(SMALL, filters=0)
        encoder = Encoder(VOCAB, sizes).eval()
        assert encoder.stem.chars is None
        assert not [n for n, _ in encoder.named_parameters() if "char" in n]
        directions = [f"layers.0.{d}.weight_{x}h_l0" for d in ("ltr", "rtl") for x in "hi"]
        assert sorted(prunable(encoder)) == directions
        assert Mask.ones(encoder).size == 2 * 4 * 3 * (6 + 3)
        batch = SPLIT.batch(ALL)
        assert torch.equal(encoder.stem(batch), encoder.stem.words(batch.words))
        other = replace(batch, chars=torch.ones_like(batch.chars))
        assert torch.equal(encoder(batch), encoder(other))
        torch.manual_seed(0)
        spelled = Encoder(VOCAB, SMALL).eval()
        assert not torch.equal(spelled(batch), spelled(other))

    def test_without_filters_every_weight_gets_a_gradient(self):
        torch.manual_seed(0)
        encoder = Encoder(VOCAB, replace(SMALL, filters=0))
        encoder(SPLIT.batch(ALL)).sum().backward()
        assert all(p.grad is not None for p in encoder.parameters())

    def test_the_head_is_linear(self):
        torch.manual_seed(0)
        head = linear_head(7, SMALL).eval()
        weight, bias = head[1].weight, head[1].bias
        x = torch.randn(3, 2, 6)
        assert torch.allclose(head(x), x @ weight.T, atol=1e-6) and not bias.any()
        assert weight.abs().max() <= (6 / (6 + 7)) ** 0.5


class TestInsideAMask:
    def test_masked_weights_are_as_good_as_gone(self):
        "A pass through `functional_call` is one through a network whose other weights are 0."
        torch.manual_seed(0)
        encoder = Encoder(VOCAB, SMALL).eval()
        mask = Mask.random(encoder, 0.5, torch.Generator().manual_seed(1))
        model = SparseSharing(encoder, {"pos": linear_head(3, SMALL)}, {"pos": mask}).eval()
        batch = SPLIT.batch(ALL)
        masked = model.encode(batch, task="pos")
        dense = encoder(batch)
        with torch.no_grad():
            for name, p in encoder.named_parameters():
                if name in mask:
                    p.mul_(mask[name])
        assert torch.equal(masked, encoder(batch)) and not torch.allclose(masked, dense)

    def test_the_gradient_of_the_convolution_stays_inside(self):
        torch.manual_seed(0)
        encoder = Encoder(VOCAB, SMALL).eval()
        weight = encoder.get_parameter("stem.chars.conv.weight")
        kept = torch.rand(weight.shape) < 0.5
        replaced = {"stem.chars.conv.weight": weight * kept}
        functional_call(encoder, replaced, (SPLIT.batch(ALL),)).sum().backward()
        assert weight.grad[kept].any() and not weight.grad[~kept].any()
        assert encoder.get_parameter("stem.chars.conv.bias").grad.any()
