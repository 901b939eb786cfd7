"Sentences, and what a corpus knows of itself."

import hashlib
import warnings
from dataclasses import replace

import pytest

from sparse_sharing.tagging.batches import Vocabulary
from sparse_sharing.tagging.sentences import Corpus, FormatError, Sentence

# --- sentences


@pytest.mark.parametrize(
    "bad",
    [
        ((), {}),
        (("a", ""), {}),
        (("a", "b"), {"pos": ("X",)}),
        (("a",), {"pos": ("X", "Y")}),
        (("a",), {"pos": ("",)}),
    ],
)
def test_sentence_is_checked(bad):
    with pytest.raises(ValueError):
        Sentence(*bad)


# --- corpora


def corpus(name="c", **tags):
    a, b = Sentence(("a", "b"), {"pos": ("X", "Y"), **tags}), Sentence(("c",), {"pos": ("Z",)})
    return Corpus(name, [a], [b], [b, a])


def test_checksum_is_of_words_and_tags():
    base = corpus(ner=("O", "S-X")).checksum
    assert len(base) == len(hashlib.sha256().hexdigest())
    assert corpus("other", ner=("O", "S-X")).checksum == base
    assert corpus(ner=("S-X", "O")).checksum != base
    assert corpus().checksum != base
    s = [Sentence((w,), {}) for w in ("a", "b")]
    assert Corpus("c", s, [], []).checksum != Corpus("c", s[:1], s[1:], []).checksum
    one = [Sentence(("a", "b"), {})]
    assert Corpus("c", s, [], []).checksum != Corpus("c", one, [], []).checksum


def test_checksum_is_of_genres_where_there_are_any():
    "Without them it is what it was before there were genres: recorded results go by it."
    s = Sentence(("a",), {"pos": ("X",)})
    line = b'[["a"], {"pos": ["X"]}]\n'
    assert Corpus("c", [s], [], []).checksum == hashlib.sha256(line + b"\n\n\n").hexdigest()
    genres = [Sentence(s.words, s.tags, genre) for genre in ("", "nw", "mz")]
    assert genres[0] == s != genres[1]
    assert len({Corpus("c", [g], [], []).checksum for g in genres}) == 3


def test_checksum_ignores_the_order_of_layers():
    s, t = ({"pos": ("X",), "ner": ("O",)}, {"ner": ("O",), "pos": ("X",)})
    make = [Corpus("c", [Sentence(("a",), tags)], [], []) for tags in (s, t)]
    assert make[0].checksum == make[1].checksum


def test_layers_are_those_of_every_training_sentence():
    c = corpus(ner=("O", "O"))
    assert c.layers == ("pos", "ner")
    assert Corpus("c", c.test, [], []).layers == ("pos",)
    assert Corpus("c", [], [], []).layers == ()


def test_unseen_tags_are_counted():
    assert corpus().unseen() == [("dev", "pos", "Z", 1, 1), ("test", "pos", "Z", 1, 1)]


# --- schemes of layers


def spans(tags, **schemes):
    "A corpus with one sentence in every split."
    s = Sentence(tuple("abcd"[: len(tags)]), {"x": tuple(tags)})
    return Corpus("c", [s], [s], [s], schemes=schemes)


def test_a_layer_of_another_scheme_has_another_checksum():
    sums = {spans(["O", "I-X"], **schemes).checksum for schemes in ({}, {"x": "iob1"}, {"x": "io"})}
    assert len(sums) == 3
    assert spans(["O", "I-X"]).checksum == spans(["O", "I-X"], x="none").checksum
    ner = Sentence(("a",), {"ner": ("S-X",), "chunk": ("B-X",)})
    paper = Corpus("c", [ner], [ner], [ner])
    assert (paper.scheme("ner"), paper.scheme("chunk"), paper.scheme("pos")) == (
        *("bioes", "iob2"),
        "none",
    )
    assert replace(paper, schemes={"chunk": "iob2", "ner": "bioes"}).checksum == paper.checksum
    assert replace(paper, schemes={}).checksum != paper.checksum


def test_spans_are_counted_in_every_scheme():
    for scheme, tags in [
        ("iob1", ["I-X", "B-X", "O", "I-X"]),
        ("iob2", ["B-X", "B-X", "O", "B-X"]),
        ("ioe1", ["E-X", "I-X", "O", "I-X"]),
        ("ioe2", ["E-X", "E-X", "O", "E-X"]),
        ("bioes", ["S-X", "S-X", "O", "S-X"]),
        ("bilou", ["U-X", "U-X", "O", "U-X"]),
        ("io", ["X", "Y", "O", "X"]),
    ]:
        made = spans(tags, x=scheme)
        made.check()
        assert made.describe()["x spans"].tolist() == [3, 3, 3], scheme
    assert spans(["X", "Y", "O", "X"]).describe()["x tags"].tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(dev=[]), "c: no sentence in dev. Give it a file with some."),
        (dict(test=[]), "c: no sentence in test. Give it a file with some."),
        (
            dict(dev=[Sentence(("a",), {})]),
            "c: sentence 1 of dev has no x tags, which all of training has. Read dev with the same "
            "columns, or leave x out.",
        ),
        (
            dict(schemes={}),
            "c: x tags such as B-X mark spans, but the layer has no scheme. Say schemes="
            "{'x': 'bioes'}, or 'none' if each stands for itself.",
        ),
        (
            dict(schemes={"x": "bioes"}),
            "c: sentence 1 of train: x tag O cannot follow B-X in BIOES. Correct it, or give the "
            "layer its scheme.",
        ),
        (
            dict(schemes={"x": "bilou"}),
            "c: sentence 1 of train: x tag O cannot follow B-X in BILOU. Correct it, or give the "
            "layer its scheme.",
        ),
        (
            dict(test=[Sentence(("a",), {"x": ("S-X",)})]),
            "c: sentence 1 of test: x tag S-X is no tag of IOB2. Correct it, or give the layer its "
            "scheme.",
        ),
    ],
)
def test_a_corpus_that_cannot_be_learnt_is_refused(change, message):
    made = spans(["B-X", "O"], x="iob2")
    made.check()
    replace(made, schemes={"x": "none"}).check()
    with pytest.raises(FormatError) as e:
        replace(made, **change).check()
    assert str(e.value) == message


def test_layers_can_be_left_out():
    both = corpus(ner=("O", "S-X"))
    assert both.with_layers(["ner", "pos"]) is both
    part = Corpus("c", both.train, both.train, both.train).with_layers(["ner"])
    assert (part.layers, part.scheme("ner")) == (("ner",), "bioes")
    with pytest.raises(ValueError, match="c has no layer chunk: it has pos, ner"):
        both.with_layers(["chunk"])


def test_a_layer_that_a_training_sentence_lacks_is_told():
    c = corpus(ner=("O", "O"))
    part = Corpus("c", c.test, c.train, c.train)  # ner is in the second sentence alone
    what = "sentence 1 of train has no ner tags, which others have: tag all of training, or leave"
    with pytest.raises(ValueError, match=f"c has no layer ner: {what}"):
        part.with_layers(["ner"])
    for asked in (part.check, part.check_tags, lambda: Vocabulary.build(part)):
        with pytest.warns(UserWarning, match=f"c: ner cannot be learnt: {what}"):
            asked()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Corpus("c", c.train, c.train, c.train).check()
