"The vocabulary's rules, and batches: each word once, in its place."

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_sharing.tagging.batches import Vocabulary, coverage, encode
from sparse_sharing.tagging.sentences import Corpus, Sentence

properties = settings(deadline=None, max_examples=60)


def sentence(text: str) -> Sentence:
    "From `word/POS word/POS`."
    words, tags = zip(*(word.rsplit("/", 1) for word in text.split()), strict=True)
    return Sentence(words, {"pos": tags})


CORPUS = Corpus(
    "example",
    train=[sentence("The/DT river/NN Zim/NNP rises/VBZ"), sentence("the/DT River/NN falls/VBZ")],
    dev=[sentence("A/DT quay/NN the/DT zim/NNP !/. !/.")],
    test=[sentence("Quay/NN of/IN Oz/NNP")],
)
WORDS = st.text(st.sampled_from("abAB-é0ł"), min_size=1, max_size=9)
SPLITS = st.lists(st.lists(WORDS, min_size=1, max_size=12), min_size=1, max_size=25)


def split_of(texts: list[list[str]]):
    "Any words as sentences, each word tagged with whether it starts with a vowel, and encoded."
    sentences = [Sentence(tuple(t), {"pos": tuple("CV"[w[0] in "aAé"] for w in t)}) for t in texts]
    vocab = Vocabulary.build(Corpus("any", sentences, [], []))
    return sentences, vocab, encode(sentences, vocab)


class TestVocabulary:
    def test_rows_of_words(self):
        vocab = Vocabulary.build(CORPUS, rows={"quay", "the", "nowhere"})
        by_frequency = ("river", "the", "falls", "rises", "zim")
        assert vocab.words == ("<pad>", "<unk>", *by_frequency, "quay")
        assert Vocabulary.build(CORPUS).words == ("<pad>", "<unk>", *by_frequency)

    def test_characters_keep_their_case_and_are_known_from_the_second_time_on(self):
        chars = Vocabulary.build(CORPUS).chars
        seen = Counter("TheriverZimrisestheRiverfalls")
        assert chars[:2] == ("<pad>", "<unk>")
        assert set(chars[2:]) == {c for c, n in seen.items() if n > 1}
        assert "T" not in chars and "t" not in chars and "i" in chars and "!" not in chars

    def test_tags_that_training_lacks_stand_apart(self):
        vocab = Vocabulary.build(CORPUS)
        assert vocab.tags == {"pos": ("DT", "NN", "NNP", "VBZ")}
        assert vocab.unseen == {"pos": (".", "IN")}
        dev = encode(CORPUS.dev, vocab)
        assert dev.tags["pos"].tolist() == [0, 1, 0, 2, 4, 4]

    def test_coverage_counts_types_and_tokens(self):
        table = coverage(CORPUS, {"the", "quay", "nowhere"}).set_index("split")
        assert table.loc["train"].tolist() == [5, 7, 100 * 1 / 5, 100 * 2 / 7]
        assert table.loc["dev"].tolist() == [5, 6, 100 * 2 / 5, 100 * 2 / 6]
        assert table.loc["test"].tolist() == [3, 3, 100 * 1 / 3, 100 * 1 / 3]

    def test_vectors_are_those_of_the_file_or_small_and_random(self):
        rows = {"the": np.array([1, 2, 3, 4], np.float32)}
        vocab = Vocabulary.build(CORPUS, rows)
        table = vocab.vectors(rows, 4, seed=1)
        the = vocab.words.index("the")
        rest = [i for i in range(1, len(vocab.words)) if i != the]
        assert table.dtype == torch.float32 and table.shape == (len(vocab.words), 4)
        assert table[the].tolist() == [1, 2, 3, 4] and not table[0].any()
        assert table[rest].all() and (table[rest].abs() <= (3 / 4) ** 0.5).all()
        assert torch.equal(table, vocab.vectors(rows, 4, seed=1))
        assert not torch.equal(table[rest], vocab.vectors(rows, 4, seed=2)[rest])

    def test_random_vectors_have_variance_one_over_width(self):
        words = [Sentence(tuple(f"w{i}" for i in range(3000)), {})]
        table = Vocabulary.build(Corpus("many", words, [], [])).vectors({}, 20, seed=0)
        assert table[1:].var().item() == pytest.approx(1 / 20, rel=0.02)

    def test_a_word_that_is_called_like_padding_leaves_padding_alone(self):
        corpus = Corpus("odd", [Sentence(("<pad>", "<unk>", "x"), {})], [], [])
        rows = {w: np.ones(2, np.float32) for w in ("<pad>", "<unk>", "x")}
        vocab = Vocabulary.build(corpus, rows)
        assert not vocab.vectors(rows, 2, seed=0)[0].any()
        assert (encode(corpus.train, vocab).form_words > 1).all()

    def test_vectors_of_another_width_are_refused(self):
        rows = {"the": np.zeros(50, np.float32)}
        with pytest.raises(ValueError, match="have 50 numbers, the model wants 100: take"):
            Vocabulary.build(CORPUS, rows).vectors(rows, 100, seed=0)


class TestEncode:
    def test_an_empty_split_is_refused(self):
        with pytest.raises(ValueError, match="no sentences"):
            encode([], Vocabulary.build(CORPUS))

    @properties
    @given(SPLITS)
    def test_nothing_is_lost(self, texts):
        sentences, vocab, split = split_of(texts)
        assert len(split) == len(texts) and split.lengths.tolist() == list(map(len, texts))
        words = [w for t in texts for w in t]
        forms = split.form_chars[split.tokens]
        assert [vocab.words[i] for i in split.form_words[split.tokens]] == [
            w.lower() for w in words
        ]
        for word, row in zip(words, forms, strict=True):
            known = [c if c in vocab.chars else "<unk>" for c in word]
            assert [vocab.chars[i] for i in row[: len(word)]] == known and not row[
                len(word) :
            ].any()
        tags = [t for s in sentences for t in s.tags["pos"]]
        assert [vocab.tags["pos"][i] for i in split.tags["pos"]] == tags
        assert len(split.form_words) == len(set(words)), "a spelling stands there twice"


class TestBatch:
    @properties
    @given(SPLITS, st.data())
    def test_each_word_is_in_its_place(self, texts, data):
        _, vocab, split = split_of(texts)
        ids = st.integers(0, len(texts) - 1)
        chosen = np.array(data.draw(st.lists(ids, min_size=1, max_size=8)))
        batch = split.batch(chosen)
        time = max(len(texts[i]) for i in chosen)
        assert batch.words.shape == batch.forms.shape == batch.tags["pos"].shape
        assert batch.words.shape == (time, len(chosen))
        assert batch.lengths.tolist() == [len(texts[i]) for i in chosen]
        assert batch.sentences.tolist() == chosen.tolist()
        assert len(batch.chars.unique(dim=0)) <= len(batch.chars) <= batch.forms.numel()
        for j, i in enumerate(chosen):
            n = len(texts[i])
            assert [vocab.words[w] for w in batch.words[:n, j]] == [w.lower() for w in texts[i]]
            assert not batch.words[n:, j].any() and (batch.tags["pos"][n:, j] == -100).all()
            assert [vocab.tags["pos"][t] for t in batch.tags["pos"][:n, j]] == [
                "CV"[w[0] in "aAé"] for w in texts[i]
            ]
            for word, chars in zip(texts[i], batch.chars[batch.forms[:n, j]], strict=True):
                assert (chars > 0).sum() == len(word) and not chars[len(word) :].any()

    @properties
    @given(SPLITS)
    def test_reverse_turns_each_sentence_within_its_length(self, texts):
        split = split_of(texts)[2]
        batch = split.batch(np.arange(len(texts)))
        time, size = batch.words.shape
        place = torch.arange(time * size)
        assert torch.equal(batch.reverse[batch.reverse], place), "applied twice, it does nothing"
        step, column = batch.reverse.view(time, size) // size, batch.reverse.view(time, size) % size
        for j, text in enumerate(texts):
            n = len(text)
            assert step[:, j].tolist() == [*range(n)][::-1] + [*range(n, time)]
        assert torch.equal(column, torch.arange(size).expand(time, size))

    def test_a_batch_moves_whole(self):
        batch = encode(CORPUS.train, Vocabulary.build(CORPUS)).batch(np.array([1, 0]))
        moved = batch.to("meta")
        tensors = [moved.words, moved.forms, moved.chars, moved.reverse, *moved.tags.values()]
        assert {t.device.type for t in tensors} == {"meta"}
        assert moved.lengths is batch.lengths and batch.words.device.type == "cpu"


class TestEpoch:
    @properties
    @given(SPLITS, st.integers(1, 7), st.integers(1, 4), st.integers(0, 9))
    def test_every_sentence_is_there_once(self, texts, size, pool, seed):
        split = split_of(texts)[2]
        for batches in (
            list(split.shuffled(size, np.random.default_rng(seed), pool)),
            list(split.in_order(size)),
        ):
            assert sorted(i for b in batches for i in b.sentences) == list(range(len(texts)))
            assert all(len(b.sentences) <= size for b in batches)
            assert len(batches) == -(-len(texts) // size)

    def test_the_order_follows_from_the_generator(self):
        split = split_of([["a"] * (1 + i % 9) for i in range(200)])[2]

        def order(seed):
            return [b.sentences.tolist() for b in split.shuffled(10, np.random.default_rng(seed))]

        assert order(3) == order(3) != order(4)
        first, second = (set(map(tuple, map(sorted, order(s)))) for s in (3, 4))
        assert not first & second, "batches are made anew, not only shuffled"

    def test_batches_of_an_epoch_are_not_sorted_by_length(self):
        split = split_of([["a"] * (1 + i % 40) for i in range(400)])[2]
        lengths = [b.words.shape[0] for b in split.shuffled(10, np.random.default_rng(0))]
        assert np.corrcoef(lengths, range(len(lengths)))[0, 1] < 0.5

    def test_little_is_padding(self):
        rng = np.random.default_rng(0)
        split = split_of([["a"] * n for n in rng.integers(1, 60, 2000)])[2]
        for batches in (split.shuffled(10, rng), split.in_order()):
            counts = np.array([(b.lengths.sum(), b.words.numel()) for b in batches])
            words, places = counts.sum(0)
            assert words == len(split.tokens) and words / places > 0.95


def test_several_corpora_have_one_vocabulary_and_a_layer_has_one_corpus():
    a = [Sentence(("Ada", "falls"), {"pos": ("N", "V")})]
    b = [Sentence(("Bo", "falls"), {"who": ("S-PER", "O")})]
    schemes = {"who": "bioes"}
    one = Corpus("one", a, a, a, schemes={})
    other = Corpus("other", b, b, b, schemes=schemes, file_schemes={"who": "iob2"})
    both = Vocabulary.build([one, other])
    assert both.words[2:] == ("falls", "ada", "bo") and set(both.tags) == {"pos", "who"}
    assert both.schemes == {"pos": "none", "who": "bioes"} and both.file_schemes == {"who": "iob2"}
    assert Vocabulary.build([one]) == Vocabulary.build(one)
    split = encode(b, both, other.layers)
    assert list(split.tags) == ["who"]
    with pytest.raises(ValueError, match="one and one both have pos tags"):
        Vocabulary.build([one, one])
