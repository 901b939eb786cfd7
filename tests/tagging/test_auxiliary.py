"Auxiliary layers: positions, and a task that is as related to entities as one likes."

import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from math import log2

import pytest
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from sparse_sharing.tagging import generated
from sparse_sharing.tagging.auxiliary import (
    Invented,
    deal,
    entity_types,
    places,
    with_positions,
    with_related,
)
from sparse_sharing.tagging.batches import Vocabulary, encode
from sparse_sharing.tagging.sentences import Corpus, Sentence

# What `python tests/test_auxiliary.py` prints. It changes when the task does, and then on purpose only.
DIGEST = "f50999b197b3bfc46e9e07ec52b00228f250d6733f3d980e5370fbc50af72ecc"

TAGS = st.sampled_from(["O", "O", "S-PER", "S-LOC", "B-ORG", "E-ORG"])
WORDS = st.text("abcAB.", min_size=1, max_size=4)
SENTENCES = st.lists(st.tuples(WORDS, TAGS), min_size=1, max_size=6).map(
    lambda pairs: Sentence(tuple(w for w, _ in pairs), {"ner": tuple(t for _, t in pairs)})
)
ENTITY = Sentence(("Ada", "left"), {"ner": ("S-PER", "O")})
CORPORA = st.tuples(st.lists(SENTENCES, max_size=5), st.lists(SENTENCES, max_size=3)).map(
    lambda splits: Corpus("small", [ENTITY, *splits[0]], splits[1], [])
)
SHARES = st.floats(0, 1)


@pytest.fixture(scope="module")
def corpus():
    return generated.generate()


@pytest.fixture(scope="module")
def knob(corpus):
    "The tags of all training words at five places of the knob."
    return {r: aux(with_related(corpus, r), "train") for r in (0, 0.25, 0.5, 0.75, 1)}


def aux(corpus, *splits):
    return [
        t
        for k in splits or ("train", "dev", "test")
        for s in corpus.splits[k]
        for t in s.tags["aux"]
    ]


def entropy(values):
    return -sum(n / len(values) * log2(n / len(values)) for n in Counter(values).values())


def information(a, b):
    "Mutual information in bits."
    return entropy(a) + entropy(b) - entropy(list(zip(a, b, strict=True)))


def sentence(words, tags):
    return Sentence(tuple(words.split()), {"ner": tuple(tags.split())})


# --- positions


@given(CORPORA)
def test_positions_count_from_nought_and_leave_the_rest_alone(corpus):
    found = with_positions(corpus)
    for split, sentences in corpus.splits.items():
        for before, after in zip(sentences, found.splits[split], strict=True):
            assert [int(t) for t in after.tags["pp"]] == list(range(len(before.words)))
            assert replace(after, tags={"ner": after.tags["ner"]}) == before


def test_a_position_that_training_lacks_is_an_unseen_tag():
    short, long = sentence("a b", "O O"), sentence("a b c", "O O O")
    corpus = with_positions(Corpus("small", [short], [long], [short]))
    vocab = Vocabulary.build(corpus)
    assert vocab.tags["pp"] == ("0", "1") and vocab.unseen["pp"] == ("2",)
    assert encode(corpus.dev, vocab).tags["pp"].tolist() == [0, 1, 2]


# --- dealing and places


@given(st.dictionaries(st.text(max_size=2), st.integers(1, 50), min_size=1), SHARES)
def test_what_is_dealt_misses_by_less_than_the_largest_key(counts, share):
    total = sum(counts.values())
    wanted = {"x": share * total, "y": (1 - share) * total}
    found = deal(counts, wanted)
    assert found.keys() == counts.keys()
    for label, n in wanted.items():
        got = sum(counts[k] for k in found if found[k] == label)
        assert abs(got - n) <= max(counts.values())


def test_the_order_of_counts_does_not_matter():
    counts, wanted = {"a": 5, "b": 3, "c": 3, "d": 2}, {"x": 6, "y": 7}
    reverse = dict(reversed(counts.items())), dict(reversed(wanted.items()))
    assert deal(*reverse) == deal(counts, wanted) == {"a": "y", "b": "x", "c": "x", "d": "y"}
    assert places(reverse[0]) == places(counts)


@given(st.dictionaries(st.text(max_size=2), st.integers(1, 50)), SHARES)
def test_about_the_share_of_the_knob_lies_below_it(counts, share):
    found, total = places(counts), sum(counts.values())
    assert all(0 < place < 1 for place in found.values())
    assert len(set(found.values())) == len(counts)
    if counts:
        below = sum(n for k, n in counts.items() if found[k] < share)
        assert abs(below - share * total) <= max(counts.values()) / 2 + 1e-6


# --- the ends


@given(CORPORA)
def test_at_one_it_is_the_type_of_the_entity(corpus):
    every = with_related(corpus, 1)
    for s in (*every.train, *every.dev):
        assert s.tags["aux"] == tuple(t[2:] or "O" for t in s.tags["ner"])


@given(CORPORA)
def test_at_nought_the_tags_of_dev_do_not_matter(corpus):
    blank = [replace(s, tags={"ner": ("O",) * len(s.words)}) for s in corpus.dev]
    other = Corpus("small", corpus.train, blank, [])
    assert aux(with_related(other, 0)) == aux(with_related(corpus, 0))


@given(CORPORA)
def test_at_nought_letters_decide_whatever_their_case(corpus):
    invented = Invented.like(corpus.train)
    for s in (*corpus.train, *corpus.dev):
        upper = replace(s, words=tuple(w.upper() for w in s.words))
        assert invented.tags(upper) == invented.tags(s)


def test_an_invented_entity_is_told_by_its_start_and_the_word_two_before():
    invented = Invented({"ab": "invented"}, {"": "LOC", "x": "PER"}, other="ORG")
    words = "Abel x abbot xy abba z zz".split()
    tags = invented.tags(sentence(" ".join(words), "O O O O O O O"))
    assert tags == ["LOC", "O", "ORG", "O", "ORG", "O", "O"]
    assert invented.tags(sentence("xa z ab", "O O O")) == ["O", "O", "PER"]


# --- between


@given(CORPORA, SHARES, SHARES)
def test_a_word_changes_over_once(corpus, a, b):
    low, high = sorted((a, b))
    tags = (aux(with_related(corpus, r)) for r in (0, low, high, 1))
    for at_0, at_low, at_high, at_1 in zip(*tags, strict=True):
        assert at_low in (at_0, at_1)
        assert at_high in (at_low, at_1)  # never back


def test_words_that_start_alike_change_over_together(corpus):
    half = with_related(corpus, 0.5)
    invented, sides = Invented.like(corpus.train), {}
    for s in (*half.train, *half.dev, *half.test):
        for w, tag, real, other in zip(
            s.words, s.tags["aux"], entity_types(s), invented.tags(s), strict=True
        ):
            if real != other:
                sides.setdefault(w[:2].lower(), set()).add(tag == real)
    assert len(sides) > 80 and all(len(side) == 1 for side in sides.values())
    assert 0.3 < sum(True in side for side in sides.values()) / len(sides) < 0.7


# --- only one thing is turned


def test_classes_are_as_many_and_as_frequent_everywhere(knob):
    want = Counter(knob[1])
    for tags in knob.values():
        assert Counter(tags).keys() == want.keys()
        for tag, n in Counter(tags).items():
            assert abs(n - want[tag]) < 0.01 * len(tags)
        assert abs(entropy(tags) - entropy(knob[1])) < 0.03


def test_information_about_entities_rises_from_nothing_to_nearly_all(corpus, knob):
    ner = [t for s in corpus.train for t in s.tags["ner"]]
    found = [information(tags, ner) / entropy(ner) for tags in knob.values()]
    assert found == sorted(found)
    assert found[0] < 0.02 and found[-1] > 0.9
    assert min(b - a for a, b in zip(found, found[1:], strict=False)) > 0.05


def test_the_knob_is_the_share_of_words_that_follow_in_both_kinds_of_entity(knob):
    for end in (0, 1):
        differ = [i for i, t in enumerate(knob[end]) if t != "O" and knob[0][i] != knob[1][i]]
        assert len(differ) > 2000
        for r, tags in knob.items():
            assert abs(sum(tags[i] == knob[1][i] for i in differ) / len(differ) - r) < 0.06


# --- determinism


def digest(corpus):
    tags = " ".join(t for r in (0, 0.3, 1) for t in aux(with_related(corpus, r)))
    return hashlib.sha256(tags.encode()).hexdigest()


@pytest.mark.e2e
def test_same_task_in_every_process():
    assert digest(generated.generate(200, 40, 40)) == DIGEST
    out = subprocess.run(
        [sys.executable, __file__],
        env={
            **os.environ,
            "PYTHONHASHSEED": "4711",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == DIGEST


# --- errors


@pytest.mark.parametrize("relatedness", [-0.1, 1.01, float("nan")])
def test_a_knob_beyond_its_ends_is_refused(relatedness):
    with pytest.raises(
        ValueError, match=f"relatedness is {relatedness}: take a number from 0 to 1"
    ):
        with_related(Corpus("small", [ENTITY], [], []), relatedness)


@pytest.mark.parametrize("add", [with_positions, lambda c: with_related(c, 0.5)])
def test_a_layer_is_added_once(add):
    once = add(Corpus("small", [ENTITY], [], []))
    with pytest.raises(ValueError, match="small has a layer (pp|aux) already: add it to a corpus"):
        add(once)


def test_a_layer_of_one_sentence_in_test_is_there_already():
    odd = replace(ENTITY, tags={**ENTITY.tags, "pp": ("0", "1")})
    with pytest.raises(ValueError, match="layer pp already"):
        with_positions(Corpus("small", [ENTITY], [ENTITY], [odd]))


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_a_corpus_without_entities_is_refused(split):
    splits = {"train": [ENTITY], "dev": [ENTITY], "test": [ENTITY]}
    splits[split] = [Sentence(("a",), {"pos": ("DT",)})]
    with pytest.raises(ValueError, match="small lacks the layer ner: take a corpus with entities"):
        with_related(Corpus("small", **splits), 0)


def test_there_must_be_an_entity_to_imitate():
    with pytest.raises(ValueError, match="have no entity: take a corpus with some"):
        with_related(Corpus("small", [sentence("a b", "O O")], [ENTITY], []), 1)
    with pytest.raises(ValueError, match="lacks the layer ner"):
        with_related(Corpus("empty", [], [], []), 1)


if __name__ == "__main__":
    print(digest(generated.generate(200, 40, 40)))
