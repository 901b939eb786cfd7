"The generated corpus: the same everywhere, well-formed, and hard in the ways its notebook claims."

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sparse_sharing.tagging import generated
from sparse_sharing.tagging.generated import (
    CLOSED,
    FEATURES,
    GRAMMAR,
    LENGTHS,
    annotate,
    derivations,
    generate,
    inflect,
    language,
    rules,
    spans,
    stems,
)
from sparse_sharing.tagging.practice import practice
from sparse_sharing.tagging.schemes import breaks

ROOT = Path(__file__).resolve().parents[2]
PENN = set(
    "CC CD DT IN JJ JJR JJS MD NN NNS NNP NNPS POS PRP PRP$ RB TO VB VBD VBG VBN VBP VBZ WDT WP WRB , .".split()
)
# What `python tests/test_toy.py` prints. It changes when the grammar or the lexicon does, and then on purpose only.
DIGEST = "53a4285fd59a0a9300bc3eaafba0e79ac021e4905143b98731624c8323ae4e85"


@pytest.fixture(scope="module")
def corpus():
    return generate()


def digest(corpus):
    "A digest of the text itself, whatever the corpus class counts in."
    text = [
        " ".join(row)
        for split in (corpus.train, corpus.dev, corpus.test)
        for s in split
        for row in (s.words, s.tags["pos"], s.tags["chunk"], s.tags["ner"])
    ]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()


def words(sentences):
    return [w for s in sentences for w in s.words]


# --- determinism


@pytest.mark.e2e
@pytest.mark.parametrize("hash_seed", ["0", "1", "4711"])
def test_same_corpus_in_every_process(hash_seed):
    out = subprocess.run(
        [sys.executable, __file__],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.strip() == DIGEST


def test_same_corpus_twice(corpus):
    assert generate().checksum == corpus.checksum
    assert digest(generate()) == DIGEST


def test_global_random_state_is_neither_read_nor_changed(corpus):
    random.seed(3)
    before = random.getstate()
    assert generate().checksum == corpus.checksum
    assert random.getstate() == before


def test_size_of_a_split_changes_no_other(corpus):
    other = generate(n_train=50, n_dev=400, n_test=30)
    assert other.train == corpus.train[:50]
    assert other.dev == corpus.dev
    assert other.test == corpus.test[:30]
    assert generate(n_train=20, n_dev=10, n_test=400).test == corpus.test


def test_seeds_differ_in_text_but_share_the_language(corpus):
    other = generate(seed=1)
    train = {s.words for s in corpus.train}
    assert sum(s.words in train for s in other.train) < 20
    vocabulary = set(words(corpus.train))
    assert sum(w in vocabulary for w in words(other.train)) > 0.9 * len(words(other.train))


def test_splits_have_streams_of_their_own(corpus):
    dev, test = {s.words for s in corpus.dev}, {s.words for s in corpus.test}
    train = {s.words for s in corpus.train}
    assert len(dev & test) < 4 and len(train & (dev | test)) < 8


def test_default_corpus_takes_less_than_two_seconds():
    language.cache_clear()
    start = time.process_time()
    generate()
    assert time.process_time() - start < 2


# --- well-formed


def test_sizes_name_and_layers(corpus):
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (2000, 400, 400)
    assert corpus.name == "generated"
    assert tuple(corpus.layers) == ("pos", "chunk", "ner")


@pytest.mark.parametrize("sizes", [{"n_train": 0}, {"n_dev": 0}, {"n_test": -1}])
def test_an_empty_split_is_refused(sizes):
    with pytest.raises(ValueError, match="at least one sentence"):
        generate(**sizes)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tags_are_well_formed(seed):
    c = generate(300, 100, 100, seed=seed)
    for s in c.train + c.dev + c.test:
        assert {len(tags) for tags in s.tags.values()} == {len(s.words)}
        assert breaks(s.tags["chunk"], "iob2") == []
        assert breaks(s.tags["ner"], "bioes") == []
        assert set(s.tags["pos"]) <= PENN
        assert s.tags["pos"][-1] == "." and len(s.words) in LENGTHS
        assert not s.words[0][0].islower()
        assert all(w and w == w.strip() and " " not in w and "/" not in w for w in s.words)


def test_types(corpus):
    kinds = {
        layer: {t.partition("-")[2] for s in corpus.train for t in s.tags[layer] if t != "O"}
        for layer in ("chunk", "ner")
    }
    assert kinds["chunk"] == {"NP", "VP", "PP", "ADVP", "ADJP", "SBAR"}
    assert kinds["ner"] == {"PER", "LOC", "ORG", "MISC"}
    assert {t for s in corpus.train for t in s.tags["pos"]} == PENN


def test_every_tag_of_dev_and_test_occurs_in_training(corpus):
    for layer in corpus.layers:
        known = {t for s in corpus.train for t in s.tags[layer]}
        assert {t for s in corpus.dev + corpus.test for t in s.tags[layer]} <= known


def test_lengths(corpus):
    lengths = [len(s.words) for s in corpus.train]
    assert 12 < sum(lengths) / len(lengths) < 15
    assert min(lengths) < 7 and max(lengths) > 30


def test_entities_lie_inside_chunks():
    for marks in derivations(300, "dev", 0):
        chunks = spans(marks, "[")
        for _, start, stop in spans(marks, "{"):
            assert any(a <= start and stop <= b for label, a, b in chunks if label == "NP")


def test_tags_are_those_of_the_derivation():
    marks = "(X [NP the/DT {LOC Molan/NNP River/NNP } ] [NP Mon/NNP ] 's/VBZ ./. )".split()
    s = annotate(marks)
    assert s.words == ("The", "Molan", "River", "Mon", "'s", ".")
    assert s.tags["pos"] == ("DT", "NNP", "NNP", "NNP", "VBZ", ".")
    assert s.tags["chunk"] == ("B-NP", "I-NP", "I-NP", "B-NP", "O", "O")
    assert s.tags["ner"] == ("O", "B-LOC", "E-LOC", "O", "O", "O")


# --- the difficulties


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_share_of_unknown_words(seed):
    c = generate(seed=seed)
    vocabulary = set(words(c.train))
    for split in (c.dev, c.test):
        unknown = sum(w not in vocabulary for w in words(split)) / len(words(split))
        assert 0.05 < unknown < 0.13


def test_held_out_words_never_occur_in_training():
    def leaves(unseen):
        return {
            leaf.rsplit("/", 1)[0]
            for name, rule in language(unseen).items()
            if name[0].islower()
            for (leaf,) in rule.options
        }

    held_out = leaves(True) - leaves(False)
    assert 0.15 < len(held_out) / len(leaves(True)) < 0.25
    train = {w for w in words(generate(5000, 1, 1).train)}
    capitalised = {w[0].upper() + w[1:] for w in held_out} - {
        w[0].upper() + w[1:] for w in leaves(False)
    }
    assert not train & (held_out | capitalised)
    assert len(set(words(generate(1, 400, 1).dev)) & held_out) > 100


def test_words_are_ambiguous(corpus):
    for layer, share in {"pos": 0.08, "chunk": 0.2, "ner": 0.03}.items():
        found = {}
        for s in corpus.train:
            for w, t in zip(s.words, s.tags[layer], strict=True):
                found.setdefault(w, set()).add(t)
        dev = words(corpus.dev)
        assert sum(len(found.get(w, ())) > 1 for w in dev) > share * len(dev)


def test_a_name_is_of_several_types(corpus):
    found = {}
    for s in corpus.train:
        for w, t in zip(s.words, s.tags["ner"], strict=True):
            if t[0] == "S":
                found.setdefault(w, set()).add(t)
    assert sum({"S-PER", "S-LOC", "S-ORG"} <= types for types in found.values()) > 30


def test_layers_are_no_functions_of_each_other(corpus):
    for known in corpus.layers:
        for asked in set(corpus.layers) - {known}:
            found = {}
            for s in corpus.train:
                for a, b in zip(s.tags[known], s.tags[asked], strict=True):
                    found.setdefault(a, set()).add(b)
            assert max(map(len, found.values())) > 2


def test_the_frame_decides_the_type_of_bare_names():
    framed = 0
    for marks in derivations(500, "train", 0):
        symbols = spans(marks, "(")
        frame = symbols[0][0].removeprefix("frame.")
        if frame not in ("PER", "LOC", "ORG"):
            continue
        for label, start, stop in symbols:
            if label.startswith("Name."):
                assert label == f"Name.{frame}"
                assert (frame, start, stop) in spans(marks, "{")
                framed += 1
    assert framed > 100


def test_local_cues_decide_against_the_frame():
    "A name beside a verb of saying is a person and a name after `in` a place, whatever opened the sentence."
    says = {"said", "argued", "added", "claimed", "warned"}
    places = {"in", "near", "at", "across"}
    seen = {"PER": 0, "LOC": 0}
    for s in generate(2000, 1, 1).train:
        for i, (w, tag) in enumerate(zip(s.words, s.tags["ner"], strict=True)):
            if tag[0] != "S" or s.tags["pos"][i] != "NNP" or w.lower() in says:
                continue
            if s.words[i + 1] in says and s.tags["chunk"][i + 1] == "B-VP":
                assert tag == "S-PER"
                seen["PER"] += s.words[0] in ("Along", "Inside")
            elif i and s.words[i - 1] in places:
                assert tag == "S-LOC"
                seen["LOC"] += s.words[0] in ("Among", "Inside")
    assert min(seen.values()) > 20


def test_subject_and_verb_agree(corpus):
    wrong = {"he": "VBP", "she": "VBP", "they": "VBZ", "we": "VBZ", "you": "VBZ"}
    seen = 0
    for s in corpus.train:
        for w, after in zip(s.words, s.tags["pos"][1:], strict=False):
            assert after != wrong.get(w.lower())
            seen += after in ("VBP", "VBZ") and w.lower() in wrong
    assert seen > 20


def test_agreement_reaches_across_a_relative_clause():
    "The number of the subject is that of its verb, however far away it is."
    longest = 0
    for marks in derivations(500, "train", 0):
        symbols = spans(marks, "(")
        starts = {
            stop: (label, start) for label, start, stop in symbols if label.startswith("Subject.")
        }
        for label, start, _ in symbols:
            if label.startswith("Predicate.") and start in starts:
                subject, first = starts[start]
                assert subject.split(".")[1] == label.split(".")[1]
                longest = max(longest, start - first)
    assert longest >= 8


def test_a_past_frame_makes_every_finite_verb_past():
    seen = 0
    for marks in derivations(2000, "train", 0):
        if any(label == "Time.past" for label, _, _ in spans(marks, "(")):
            assert not {"VBZ", "VBP", "MD"} & set(annotate(marks).tags["pos"])
            seen += 1
    assert seen > 50


# --- the parts


def test_rules_copy_features_and_share_out_the_rest():
    found = rules("A.$n -> 3 B.$n | C.$m\n    D.$m\nE -> 2 x/X")
    assert found["A.s"].options == (("B.s",), ("C.s", "D.s"), ("C.p", "D.p"))
    assert found["A.s"].cumulative == (3, 3.5, 4)
    assert found["E"].options == (("x/X",),) and found["E"].cumulative == (2,)
    assert list(found) == ["A.s", "A.p", "E"]


def test_an_unknown_feature_is_refused():
    with pytest.raises(ValueError, match=r"no feature is called \$x"):
        rules("A.$x -> B")


def test_an_undefined_symbol_is_refused(monkeypatch):
    monkeypatch.setattr(generated, "GRAMMAR", GRAMMAR + "Extra -> Nowhere\n")
    with pytest.raises(ValueError, match="Extra is rewritten with Nowhere"):
        language.__wrapped__(True)


def test_no_symbol_is_left_over():
    "Everything defined is reached from `Text`: no dead rule, no dead word class."
    grammar, reached, todo = language(True), set(), ["Text"]
    while todo:
        symbol = todo.pop()
        if symbol in grammar and symbol not in reached:
            reached.add(symbol)
            todo += [part for parts in grammar[symbol].options for part in parts]
    assert set(grammar) == reached


def test_draw_follows_the_weights():
    pick = rules("A -> 3 x/X | y/Y")["A"]
    rng = random.Random(0)
    share = sum(pick.draw(rng) == ("x/X",) for _ in range(4000)) / 4000
    assert abs(share - 0.75) < 0.03


@pytest.mark.parametrize("at", [0.0, 1 - 2**-53])
def test_draw_at_the_edges(at):
    class Edge(random.Random):
        def random(self):
            return at

    pick = rules("A -> 3 x/X | y/Y")["A"]
    assert pick.draw(Edge()) == pick.options[0 if at == 0 else -1]


def test_stems_differ_and_are_not_words_of_the_closed_classes():
    rng = random.Random("lexicon")
    taken = {"for", "bal"}
    made = stems(rng, taken)
    found = [next(made) for _ in range(3000)]
    assert len(set(found)) == 3000 and not {"for", "bal"} & set(found)
    assert taken == {"for", "bal", *found}
    assert all(2 < len(s) < 10 and s.isalpha() and s.islower() for s in found)
    closed = {w for line in CLOSED.strip().splitlines() for w in line.split()[2:]}
    invented = {
        leaf.rsplit("/", 1)[0]
        for name in ("noun.s", "tr.base", "in.base", "di.base", "adj", "name")
        for (leaf,) in language(True)[name].options
    }
    assert not closed & invented


@pytest.mark.parametrize(
    "word, ending, want",
    [
        ("pas", "s", "pases"),
        ("stuvex", "s", "stuvexes"),
        ("dolity", "s", "dolities"),
        ("dolify", "ed", "dolified"),
        ("dolify", "ing", "dolifying"),
        ("dolate", "ed", "dolated"),
        ("dolate", "s", "dolates"),
        ("dol", "est", "dolest"),
        ("dol", "", "dol"),
    ],
)
def test_inflect(word, ending, want):
    assert inflect(word, ending) == want


def test_features_are_used():
    assert all(f"${name}" in GRAMMAR for name in FEATURES)


# --- the corpus to practise on


def test_only_parts_of_speech_of_training_are_wrong():
    wrong, right = practice(50, 20, 20), practice(50, 20, 20, wrong=0)
    assert wrong.name == right.name == "practice"
    assert wrong.dev == right.dev and wrong.test == right.test
    for one, other in zip(wrong.train, right.train, strict=True):
        assert one.words == other.words
        assert {k: v for k, v in one.tags.items() if k != "pos"} == {
            k: v for k, v in other.tags.items() if k != "pos"
        }
    assert wrong.train != right.train
    tags = {t for s in right.train for t in s.tags["pos"]}
    assert {t for s in wrong.train for t in s.tags["pos"]} <= tags


def test_the_corpus_to_practise_on_is_the_same_twice_and_has_few_words():
    assert practice().checksum == practice().checksum != practice(seed=1).checksum
    assert len(set(words(practice().train))) < len(set(words(generate(300).train)))


@pytest.mark.parametrize(
    "change, said", [(dict(n_dev=0), "at least one"), (dict(wrong=1.5), "from 0 to 1")]
)
def test_a_corpus_to_practise_on_that_cannot_be_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        practice(**change)


if __name__ == "__main__":
    print(digest(generate()))
