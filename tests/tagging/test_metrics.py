"""The scorers against seqeval, conlleval and seqscore.

`conlleval` (from PyPI) is a Python edition of the shared tasks' Perl script that, unlike the script,
has rules for BIOES. `seqscore` is an independent scorer; it repairs ill-formed BIO2 but not ill-formed BIOES, so for BIOES this file first
erases what is not well formed, by a regular expression, and lets seqscore refuse what is left if
the expression is wrong. The readers of the paper's released code are held against their rules,
written here as regular expressions over the tags of a sentence.
"""

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import conlleval
import numpy as np
import pytest
import seqeval.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from seqscore.encoding import get_encoding
from seqscore.scoring import score_label_sequences
from seqscore.validation import validate_labels

from sparse_sharing.tagging.metrics import (
    SpanCounter,
    accuracy,
    span_f1,
    span_f1_released_multi,
    span_f1_released_single,
    span_f1_strict,
)

LETTERS = {"BIO2": "BI", "BIOES": "BIES"}
SEQSCORE = {"BIO2": "BIO", "BIOES": "BIOES"}
TYPES = ("PER", "LOC", "X-Y")
TAGS = {
    scheme: ("O", *(f"{letter}-{type_}" for letter in letters for type_ in TYPES))
    for scheme, letters in LETTERS.items()
}
both_schemes = pytest.mark.parametrize("scheme", list(LETTERS))

Sentences = list[list[str]]
Splits = dict[str, dict[str, Sentences]]  # split -> words, pos, BIO2, BIOES


def as_ids(sentences: Sentences, tags: list[str]) -> np.ndarray:
    return np.array([tags.index(tag) for sentence in sentences for tag in sentence], dtype=np.int64)


def counted(gold: Sentences, predicted: Sentences, tags: list[str]) -> float:
    "F1 of `SpanCounter`, for sentences."
    ids = as_ids(gold, tags), as_ids(predicted, tags)
    return SpanCounter(tags).f1(*ids, list(map(len, gold)))


def conlleval_f1(gold: Sentences, predicted: Sentences) -> float:
    lines: list[str] = []
    for g, p in zip(gold, predicted, strict=True):
        if g:  # conlleval wants no blank line before the first word
            lines += [f"w {a} {b}" for a, b in zip(g, p, strict=True)] + [""]
    return 100 * conlleval.evaluate(lines)["overall"]["chunks"]["evals"]["f1"]


def well_formed_bioes(tags: list[str]) -> list[str]:
    "The tags with `O` in place of all that is no well-formed span."
    text = " ".join(tags) + " "
    kept = re.sub(r"(S-\S+ |B-(\S+) (?:I-\2 )*E-\2 )|\S+ ", lambda m: m.group(1) or "O ", text)
    return kept.split()


def seqscore_f1(gold: Sentences, predicted: Sentences, scheme: str) -> float:
    "Strict F1 of seqscore; it raises if `well_formed_bioes` leaves anything ill formed."
    repair = "discard" if scheme == "BIO2" else None
    if scheme == "BIOES":
        gold, predicted = ([well_formed_bioes(s) for s in side] for side in (gold, predicted))
    score, _ = score_label_sequences(predicted, gold, SEQSCORE[scheme], repair=repair)
    return 100 * score.f1


Spans = set[tuple[int, int, str]]  # first word, last word + 1, type

# Spans in the tags of a sentence, each tag with a blank after it.
RELEASED_SINGLE = {
    "BIOES": r"(?<!\S)(?:S-\S+ |B-\S+ (?:O |I-\S+ )*(?:E-\S+ )?)",
    "BIO2": r"(?<!\S)B-(\S+) (?:I-\1 )*",
}
RELEASED_MULTI = r"(?<!\S)(?:[ES]-\S+ |[BI]-(\S+) (?:I-\1 )*(?:E-\1 )?)"


def matched_spans(expression: str, tags: list[str]) -> Spans:
    "The spans that match, each with the type of its first tag."
    text, spans = "".join(f"{tag} " for tag in tags), set()
    for match in re.finditer(expression, text):
        first, stop = (text[:place].count(" ") for place in match.span())
        spans.add((first, stop, tags[first][2:]))
    return spans


def released_single_spans(tags: list[str], scheme: str) -> Spans:
    "One that ends with the sentence, and not by an `E` or `S`, is its first word alone."
    matched = matched_spans(RELEASED_SINGLE[scheme], tags)
    return {
        (first, first + 1 if stop == len(tags) and tags[-1][0] not in "ES" else stop, type_)
        for first, stop, type_ in matched
    }


def f1_of_spans(gold: list[Spans], predicted: list[Spans]) -> float:
    n_right = sum(len(g & p) for g, p in zip(gold, predicted, strict=True))
    n_spans = sum(map(len, gold)) + sum(map(len, predicted))
    return 200 * n_right / n_spans if n_spans else 0


def released_single_f1(gold: Sentences, predicted: Sentences, scheme: str) -> float:
    sides = [[released_single_spans(tags, scheme) for tags in side] for side in (gold, predicted)]
    return f1_of_spans(*sides)


def released_multi_f1(gold: Sentences, predicted: Sentences) -> float:
    sides = [[matched_spans(RELEASED_MULTI, tags) for tags in side] for side in (gold, predicted)]
    return f1_of_spans(*sides)


def to_bio2(tags: list[str]) -> list[str]:
    "Well-formed BIOES in BIO2."
    letters = str.maketrans("ES", "IB")
    return [tag[0].translate(letters) + tag[1:] for tag in tags]


@st.composite
def tagged(draw: st.DrawFn, scheme: str) -> tuple[Sentences, Sentences]:
    "Gold and predicted tags of some sentences, mostly ill formed, with many tags in common."
    tag = st.sampled_from(TAGS[scheme])
    word = st.one_of(tag.map(lambda t: (t, t)), st.tuples(tag, tag))
    sentences = draw(
        st.lists(st.lists(word, max_size=8), min_size=1, max_size=5).filter(lambda s: any(s))
    )
    return [[g for g, _ in s] for s in sentences], [[p for _, p in s] for s in sentences]


@both_schemes
@settings(deadline=None)
@given(data=st.data())
def test_counter_equals_seqeval(scheme: str, data: st.DataObject) -> None:
    gold, predicted = data.draw(tagged(scheme))
    tags = data.draw(st.permutations(TAGS[scheme]))
    lenient = 100 * seqeval.metrics.f1_score(gold, predicted, zero_division=0)
    assert counted(gold, predicted, tags) == lenient
    assert span_f1(gold, predicted) == lenient


@both_schemes
@settings(deadline=None)
@given(data=st.data())
def test_spans_equal_seqeval(scheme: str, data: st.DataObject) -> None:
    "Not only as many spans: the same ones."
    gold, _ = data.draw(tagged(scheme))
    counter = SpanCounter(TAGS[scheme])
    spans = counter.spans(as_ids(gold, list(TAGS[scheme])), list(map(len, gold)))
    expected, offset = [], 0
    for sentence in gold:
        for type_, first, last in seqeval.metrics.sequence_labeling.get_entities(sentence):
            expected.append((type_, offset + first, offset + last + 1))
        offset += len(sentence)
    assert [(counter.types[t], a, b) for a, b, t in spans.tolist()] == expected


@both_schemes
@settings(deadline=None)
@given(data=st.data())
def test_lenient_equals_conlleval(scheme: str, data: st.DataObject) -> None:
    gold, predicted = data.draw(tagged(scheme))
    assert span_f1(gold, predicted) == pytest.approx(conlleval_f1(gold, predicted), abs=1e-9)


@both_schemes
@settings(deadline=None)
@given(data=st.data())
def test_strict_equals_seqscore(scheme: str, data: st.DataObject) -> None:
    gold, predicted = data.draw(tagged(scheme))
    strict = span_f1_strict(gold, predicted, scheme)
    assert strict == pytest.approx(seqscore_f1(gold, predicted, scheme), abs=1e-9)


@both_schemes
@settings(deadline=None)
@given(data=st.data())
def test_strict_is_lenient_where_all_is_well_formed(scheme: str, data: st.DataObject) -> None:
    gold, predicted = data.draw(tagged("BIOES"))
    gold, predicted = ([well_formed_bioes(s) for s in side] for side in (gold, predicted))
    if scheme == "BIO2":
        gold, predicted = ([to_bio2(s) for s in side] for side in (gold, predicted))
    assert span_f1_strict(gold, predicted, scheme) == span_f1(gold, predicted)


@both_schemes
@settings(deadline=None)
@given(data=st.data())
def test_released_single_follows_its_rules(scheme: str, data: st.DataObject) -> None:
    gold, predicted = data.draw(tagged(scheme))
    if data.draw(st.booleans(), label="gold well formed"):
        gold = [well_formed_bioes(tags) for tags in gold]
        gold = [to_bio2(tags) for tags in gold] if scheme == "BIO2" else gold
    by_rules = released_single_f1(gold, predicted, scheme)
    assert span_f1_released_single(gold, predicted, scheme) == pytest.approx(by_rules, abs=1e-9)


@both_schemes
@settings(deadline=None)
@given(data=st.data())
def test_released_multi_follows_its_rules_and_is_lenient(scheme: str, data: st.DataObject) -> None:
    gold, predicted = data.draw(tagged(scheme))
    score = span_f1_released_multi(gold, predicted)
    assert score == pytest.approx(released_multi_f1(gold, predicted), abs=1e-9)
    assert score == span_f1(gold, predicted)


@both_schemes
@settings(deadline=None)
@given(data=st.data())
def test_all_readers_agree_where_all_is_well_formed(scheme: str, data: st.DataObject) -> None:
    "For BIO2 only if the last word of a sentence is outside, hence the `O`."
    gold, predicted = data.draw(tagged("BIOES"))
    gold, predicted = ([well_formed_bioes(s) for s in side] for side in (gold, predicted))
    if scheme == "BIO2":
        gold, predicted = ([[*to_bio2(s), "O"] for s in side] for side in (gold, predicted))
    lenient = span_f1(gold, predicted)
    assert span_f1_released_single(gold, predicted, scheme) == lenient
    assert span_f1_released_multi(gold, predicted) == lenient


# (tags, spans of the released single-task reader): the gold tags written for these spans are right.
RELEASED_BY_HAND = {
    "BIOES": [
        ("B-PER I-PER O", "S-PER O O"),
        ("B-PER I-PER O S-LOC", "B-PER I-PER E-PER S-LOC"),
        ("B-PER O O B-LOC E-LOC", "B-PER I-PER E-PER B-LOC E-LOC"),
        ("B-PER O E-LOC", "B-PER I-PER E-PER"),
        ("B-PER I-LOC E-PER", "B-PER I-PER E-PER"),
        ("B-PER B-PER E-PER", "S-PER B-PER E-PER"),
        ("S-PER I-PER E-PER", "S-PER O O"),
        ("O I-PER E-PER", "O O O"),
        ("B-PER E-PER E-PER", "B-PER E-PER O"),
        ("O B-PER", "O S-PER"),
    ],
    "BIO2": [
        ("O I-PER O", "O O O"),
        ("B-PER I-LOC I-PER O", "B-PER O O O"),
        ("B-PER B-PER I-PER O", "B-PER B-PER I-PER O"),
        ("O B-PER I-PER I-PER", "O B-PER O O"),
        ("B-PER I-LOC", "B-PER O"),
    ],
}


@both_schemes
def test_released_single_by_hand(scheme: str) -> None:
    "A second, well-formed sentence keeps the score above 0 where there is no span to read."
    second = "B-LOC O".split() if scheme == "BIO2" else "S-LOC O".split()
    for text, as_read in RELEASED_BY_HAND[scheme]:
        gold, predicted = [as_read.split(), second], [text.split(), second]
        assert span_f1_released_single(gold, predicted, scheme) == 100, text


def test_the_four_readers_differ_by_hand() -> None:
    gold, predicted = [["B-PER", "E-PER", "O", "S-LOC"]], [["B-PER", "I-PER", "O", "S-LOC"]]
    assert span_f1(gold, predicted) == 100
    assert span_f1_released_multi(gold, predicted) == 100
    assert span_f1_released_single(gold, predicted, "BIOES") == 50
    assert span_f1_strict(gold, predicted, "BIOES") == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize(
    "scheme, gold, predicted, single, multi",
    [
        ("BIOES", "B-P I-P E-P", "B-P O E-P", 100, 0),
        ("BIOES", "B-P I-P E-P", "B-P I-Q E-Q", 100, 0),
        ("BIOES", "B-P E-P O", "B-P I-P O", 0, 100),
        ("BIOES", "S-P O", "B-P O", 100, 100),
        ("BIOES", "S-P S-P", "B-P S-P", 100, 100),
        ("BIOES", "O S-P", "I-P S-P", 100, 200 / 3),
        ("BIO2", "B-P I-P O", "B-P I-Q O", 0, 0),
        ("BIO2", "O B-P", "I-P B-P", 100, 200 / 3),
        ("BIO2", "B-P I-P", "B-P I-P", 100, 100),
        ("BIO2", "B-P I-P", "B-P O", 100, 0),
        ("BIO2", "B-P I-P O", "B-P O O", 0, 0),
        ("BIO2", "O O", "O O", 0, 0),
    ],
)
def test_the_released_scorers_by_hand(
    scheme: str, gold: str, predicted: str, single: float, multi: float
) -> None:
    sides = [gold.split()], [predicted.split()]
    assert span_f1_released_single(*sides, scheme) == pytest.approx(single)
    assert span_f1_released_multi(*sides) == pytest.approx(multi)


# (tags, lenient spans, strict spans), spans as (first word, last word + 1, type)
ILL_FORMED = {
    "unfinished": ("B-PER I-PER O", [(0, 2, "PER")], []),
    "begun by I": ("O I-PER E-PER", [(1, 3, "PER")], []),
    "end alone": ("O E-PER O", [(1, 2, "PER")], []),
    "end after end": ("B-PER E-PER E-PER", [(0, 2, "PER"), (2, 3, "PER")], [(0, 2, "PER")]),
    "single, then inside": ("S-PER I-PER E-PER", [(0, 1, "PER"), (1, 3, "PER")], [(0, 1, "PER")]),
    "inside, then single": ("B-PER I-PER S-PER", [(0, 2, "PER"), (2, 3, "PER")], [(2, 3, "PER")]),
    "begun twice": ("B-PER B-PER E-PER", [(0, 1, "PER"), (1, 3, "PER")], [(1, 3, "PER")]),
    "type changes": ("B-PER I-LOC E-PER", [(0, 1, "PER"), (1, 2, "LOC"), (2, 3, "PER")], []),
}


@pytest.mark.parametrize("case", list(ILL_FORMED))
def test_ill_formed_bioes_by_hand(case: str) -> None:
    text, lenient, strict = ILL_FORMED[case]
    tags = text.split()
    counter = SpanCounter(TAGS["BIOES"])
    spans = counter.spans(as_ids([tags], list(TAGS["BIOES"])), [len(tags)])
    assert [(a, b, counter.types[t]) for a, b, t in spans.tolist()] == lenient

    # against a gold side that holds the lenient spans only, recall shows what strict mode takes
    gold = ["O"] * len(tags)
    for a, b, type_ in lenient:
        letters = "S" if b - a == 1 else "B" + "I" * (b - a - 2) + "E"
        gold[a:b] = [f"{letter}-{type_}" for letter in letters]
    assert span_f1([gold], [tags]) == 100
    expected = 200 * len(strict) / (len(strict) + len(lenient))
    assert span_f1_strict([gold], [tags], "BIOES") == pytest.approx(expected, abs=1e-9)


def test_a_span_does_not_cross_sentences() -> None:
    gold, predicted = [["B-PER"], ["I-PER", "O"]], [["B-PER"], ["I-PER", "O"]]
    counter = SpanCounter(["O", "B-PER", "I-PER"])
    ids = np.array([1, 2, 0])
    assert counter.spans(ids, [1, 2]).tolist() == [[0, 1, 0], [1, 2, 0]]
    assert counter.spans(ids, [3]).tolist() == [[0, 2, 0]]
    assert counter.spans(ids, [0, 1, 0, 2, 0]).tolist() == counter.spans(ids, [1, 2]).tolist()
    assert span_f1(gold, predicted) == 100
    assert span_f1_strict(gold, predicted, "BIO2") == 100  # the one strict span of either side


def test_no_right_span_is_zero_without_a_warning() -> None:
    outside, span = [["O", "O"]], [["O", "B-PER"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for gold, predicted in [(outside, outside), (outside, span), (span, outside)]:
            assert span_f1(gold, predicted) == 0
            assert span_f1_strict(gold, predicted, "BIO2") == 0
            assert span_f1_released_single(gold, predicted, "BIO2") == 0
            assert span_f1_released_multi(gold, predicted) == 0
            assert counted(gold, predicted, ["O", "B-PER"]) == 0


def test_scores_are_plain_floats() -> None:
    gold = [["B-PER"]]
    scores = [accuracy(gold, gold), span_f1(gold, gold), span_f1_strict(gold, gold, "BIO2")]
    scores.append(counted(gold, gold, ["O", "B-PER"]))
    scores += [span_f1_released_single(gold, gold, "BIO2"), span_f1_released_multi(gold, gold)]
    assert [type(score) for score in scores] == [float] * 6
    assert scores == [100] * 6


def test_tuples_are_sentences_too() -> None:
    gold, predicted = (("B-PER", "E-PER", "S-LOC"),), (("B-PER", "E-PER", "O"),)
    assert span_f1(gold, predicted) == pytest.approx(100 * 2 / 3)
    assert span_f1_strict(gold, predicted, "BIOES") == pytest.approx(100 * 2 / 3)
    assert span_f1_released_single(gold, predicted, "BIOES") == pytest.approx(100 * 2 / 3)
    assert span_f1_released_multi(gold, predicted) == pytest.approx(100 * 2 / 3)
    assert accuracy(gold, predicted) == pytest.approx(100 * 2 / 3)


def test_a_tag_that_is_never_predicted_counts_as_missed() -> None:
    tags = ["O", "S-PER", "S-RARE"]
    gold, predicted = [["S-PER", "S-RARE"]], [["S-PER", "O"]]
    assert counted(gold, predicted, tags) == span_f1(gold, predicted) == pytest.approx(100 * 2 / 3)


def strict_bio2(gold: Sentences, predicted: Sentences) -> float:
    return span_f1_strict(gold, predicted, "BIO2")


def released_single_bio2(gold: Sentences, predicted: Sentences) -> float:
    return span_f1_released_single(gold, predicted, "BIO2")


SPAN_SCORES = [span_f1, strict_bio2, released_single_bio2, span_f1_released_multi]


@pytest.mark.parametrize("score", [accuracy, *SPAN_SCORES])
@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([["O"], ["O", "O"]], [["O"], ["O"]], "sentence 1: 2 gold tags but 1 predicted"),
        ([["O"], ["O"]], [["O"]], "sentence 1 has no predicted tags"),
        ([], [["O"]], "sentence 0 has no gold tags"),
        (["O"], ["O"], "sentence 0 is a string"),
        ([], [], "no word"),
        ([[]], [[]], "no word"),
    ],
)
def test_sides_that_do_not_match(
    score: Callable, gold: Sentences, predicted: Sentences, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score(gold, predicted)


@pytest.mark.parametrize("tag", ["NN", "B", "B-", "-PER", "O-PER", "", "L-PER", "PER-B", "BI-PER"])
def test_tags_that_are_no_span_tags(tag: str) -> None:
    for gold, predicted in [([["O"], ["O", tag]], [["O"], ["O", "O"]]), ([["O"]], [[tag]])]:
        where = "sentence 1, word 1" if len(gold) == 2 else "sentence 0, word 0"
        for score in SPAN_SCORES:
            with pytest.raises(ValueError, match=f"{where}: '{tag}' is not a span tag"):
                score(gold, predicted)
    with pytest.raises(ValueError, match="is not a span tag"):
        SpanCounter(["O", tag])


def test_tags_of_another_scheme() -> None:
    for score in (span_f1_strict, span_f1_released_single):
        with pytest.raises(ValueError, match="sentence 0, word 1: 'S-PER' is not"):
            score([["O", "O"]], [["O", "S-PER"]], "BIO2")
        with pytest.raises(ValueError, match="no scheme is called 'BIOSE': take iob1, iob2, ioe1"):
            score([["O"]], [["O"]], "BIOSE")


@pytest.mark.parametrize(
    ("ids", "lengths", "message"),
    [
        ([0, 1, -1], [3], "indices from -1 to 1, .* 0 to 1"),
        ([0, 2], [2], "indices from 0 to 2"),
        ([0, 1], [1], "add up to 1 words"),
        ([0, 1], [], "add up to 0 words"),
        ([[0, 1]], [2], r"shape \(1, 2\)"),
    ],
)
def test_ids_that_do_not_fit(ids: list, lengths: list[int], message: str) -> None:
    counter = SpanCounter(["O", "B-PER"])
    with pytest.raises(ValueError, match=message):
        counter.spans(np.array(ids), lengths)
    if np.sum(lengths):
        for pair in [(np.array(ids), np.zeros(2, int)), (np.zeros(2, int), np.array(ids))]:
            with pytest.raises(ValueError):
                counter.f1(*pair, lengths)


def test_the_counter_needs_words() -> None:
    empty = np.zeros(0, dtype=int)
    counter = SpanCounter(["O", "B-PER"])
    assert counter.spans(empty, []).shape == (0, 3)
    with pytest.raises(ValueError, match="no word"):
        counter.f1(empty, empty, [])


# Real tags: CoNLL-2003, tagged by the most frequent tag of each word.


@pytest.fixture(scope="module")
def conll2003(data_dir: Path) -> Splits:
    "Words, POS, chunks (BIO2) and entities (BIOES) of train and dev, read without the package."
    folder = data_dir / "conll2003"
    if not folder.is_dir():
        pytest.skip(f"no CoNLL-2003 in {data_dir}")
    splits = {}
    for split, name in {"train": "eng.train", "dev": "eng.testa"}.items():
        rows = [
            [line.split() for line in block.splitlines()]
            for block in (folder / name).read_text(encoding="utf-8").split("\n\n")
            if block.strip() and not block.lstrip().startswith("-DOCSTART-")
        ]
        words, pos, chunk, ner = ([[row[i] for row in s] for s in rows] for i in range(4))
        splits[split] = {
            "words": words,
            "pos": pos,
            "BIO2": [from_iob1(tags, "BIO2") for tags in chunk],
            "BIOES": [from_iob1(tags, "BIOES") for tags in ner],
        }
    return splits


def from_iob1(tags: list[str], scheme: str) -> list[str]:
    "IOB1, as in the files of CoNLL-2003, to another scheme, by seqscore."
    iob1 = get_encoding("IOB")
    checked = validate_labels(tags, iob1, repair="conlleval")
    mentions = iob1.decode_labels(checked.repaired_labels or tags)
    return list(get_encoding(SEQSCORE[scheme]).encode_mentions(mentions, len(tags)))


def most_frequent(conll2003: Splits, layer: str) -> list[list[str]]:
    "Each dev word's most frequent tag in train; the most frequent of all for unknown words."
    train = conll2003["train"]
    seen: defaultdict[str, Counter[str]] = defaultdict(Counter)
    total: Counter[str] = Counter()
    for words, tags in zip(train["words"], train[layer], strict=True):
        for word, tag in zip(words, tags, strict=True):
            seen[word][tag] += 1
            total[tag] += 1
    best = {word: tags.most_common(1)[0][0] for word, tags in seen.items()}
    fallback = total.most_common(1)[0][0]
    return [[best.get(word, fallback) for word in words] for words in conll2003["dev"]["words"]]


def corrupted(gold: Sentences) -> Sentences:
    "The gold tags with one tag in ten drawn again, so that spans break in every way."
    rng = np.random.default_rng(0)
    tags = sorted({tag for sentence in gold for tag in sentence})
    return [
        [tags[rng.integers(len(tags))] if rng.random() < 0.1 else tag for tag in sentence]
        for sentence in gold
    ]


@both_schemes
@pytest.mark.parametrize("prediction", ["most frequent", "corrupted gold"])
def test_all_scorers_agree_on_real_tags(conll2003: Splits, scheme: str, prediction: str) -> None:
    gold = conll2003["dev"][scheme]
    predicted = (
        most_frequent(conll2003, scheme) if prediction == "most frequent" else corrupted(gold)
    )
    tags = sorted({tag for sentence in gold + predicted for tag in sentence})
    lenient, strict = span_f1(gold, predicted), span_f1_strict(gold, predicted, scheme)
    assert strict != lenient  # some spans are ill formed, or this would say little
    assert 20 < lenient < 99
    assert counted(gold, predicted, tags) == lenient
    assert lenient == pytest.approx(conlleval_f1(gold, predicted), abs=1e-9)
    assert strict == pytest.approx(seqscore_f1(gold, predicted, scheme), abs=1e-9)
    single = span_f1_released_single(gold, predicted, scheme)
    assert single == pytest.approx(released_single_f1(gold, predicted, scheme), abs=1e-9)
    assert single not in (lenient, strict)
    assert span_f1_released_multi(gold, predicted) == lenient


def test_accuracy_on_real_tags(conll2003: Splits) -> None:
    gold, predicted = conll2003["dev"]["pos"], most_frequent(conll2003, "pos")
    assert accuracy(gold, predicted) == 100 * seqeval.metrics.accuracy_score(gold, predicted)
    assert 80 < accuracy(gold, predicted) < 95


SAME = {  # two names: the first of one word, beside the second
    "iob1": (["I-X", "B-X", "I-X"], ["I-X", "I-X", "I-X"]),
    "iob2": (["B-X", "B-X", "I-X"], ["B-X", "I-X", "I-X"]),
    "ioe1": (["E-X", "I-X", "I-X"], ["I-X", "I-X", "I-X"]),
    "ioe2": (["E-X", "I-X", "E-X"], ["I-X", "I-X", "E-X"]),
    "bioes": (["S-X", "B-X", "E-X"], ["B-X", "I-X", "E-X"]),
    "bilou": (["U-X", "B-X", "L-X"], ["B-X", "I-X", "L-X"]),
}


@pytest.mark.parametrize("scheme", SAME)
def test_spans_are_scored_in_every_scheme(scheme: str) -> None:
    gold, other = SAME[scheme]
    tags = sorted({"O", *gold, *other})
    index = np.array([[tags.index(t) for t in side] for side in (gold, other)])
    for strict in (False, True):
        score = span_f1_strict if strict else span_f1
        assert score([gold], [gold], scheme) == 100
        assert score([gold], [other], scheme) == 0
    assert SpanCounter(tags, scheme).f1(index[0], index[0], [3]) == 100
    assert SpanCounter(tags, scheme).f1(index[0], index[1], [3]) == 0


def test_bare_types_are_scored() -> None:
    gold, other = ["X", "X", "O", "Y"], ["X", "X", "O", "X"]
    counter = SpanCounter(["O", "X", "Y"], "io")
    for score in (span_f1, span_f1_strict):
        assert score([gold], [gold], "io") == 100
        assert score([gold], [other], "io") == 50
    assert counter.f1(np.array([1, 1, 0, 2]), np.array([1, 1, 0, 1]), [4]) == 50
    with pytest.raises(ValueError, match="'B-X' is no tag of IO"):
        span_f1([["B-X"]], [["O"]], "io")
