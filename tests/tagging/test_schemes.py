"Seven schemes: their rules, their spans, and the way from any to any other."

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_sharing.tagging.schemes import (
    SCHEMES,
    SchemeError,
    breaks,
    convert,
    in_bies,
    legal,
    letter_and_type,
    look_like_spans,
    nearly_spans,
    rewrite,
    scheme_called,
    spans,
)

EACH = tuple(SCHEMES)
KINDS = st.sampled_from(["PER", "LOC", "WORK-OF-ART"])  # a type may hold a hyphen
segments = st.lists(st.tuples(st.none() | KINDS, st.integers(1, 4)), max_size=8)


def outside_in(letters, n):
    "First, inner and last letters of a span of n words; one letter for a single word."
    first, inner, last, single = letters
    return [single] if n == 1 else [first, *[inner] * (n - 2), last]


def encode(parts, scheme):
    "Tags of spans (type, length), where type None is outside: written from the definitions alone."
    tags = []
    for i, (kind, n) in enumerate(parts):
        before = parts[i - 1][0] if i else None
        after = parts[i + 1][0] if i + 1 < len(parts) else None
        if kind is None:
            tags += ["O"] * n
            continue
        if scheme == "io":
            tags += [kind] * n
            continue
        first = {"iob1": "B" if before == kind else "I"}.get(scheme, "I")
        last = {"ioe1": "E" if after == kind else "I"}.get(scheme, "I")
        letters = {
            "iob1": outside_in((first, "I", "I", first), n),
            "iob2": outside_in("BIIB", n),
            "ioe1": outside_in(("I", "I", last, last), n),
            "ioe2": outside_in("IIEE", n),
            "bioes": outside_in("BIES", n),
            "bilou": outside_in("BILU", n),
        }[scheme]
        tags += [f"{letter}-{kind}" for letter in letters]
    return tuple(tags)


def positions(parts):
    "The spans (first, last + 1, type) of the same."
    place, result = 0, []
    for kind, n in parts:
        if kind is not None:
            result.append((place, place + n, kind))
        place += n
    return result


def touching(parts):
    "Whether two spans of one type stand side by side."
    return any(a[0] is not None and a[0] == b[0] for a, b in zip(parts, parts[1:], strict=False))


@settings(deadline=None)
@given(segments, st.sampled_from(EACH))
def test_tags_follow_their_scheme_and_give_their_spans(parts, scheme):
    tags = encode(parts, scheme)
    assert breaks(tags, scheme) == []
    if scheme != "io" or not touching(parts):
        assert spans(tags, scheme) == positions(parts)


@settings(deadline=None)
@given(segments, st.sampled_from(EACH), st.sampled_from(EACH))
def test_any_scheme_becomes_any_other_and_comes_back(parts, source, target):
    tags = encode(parts, source)
    if "io" in (source, target) and touching(parts):
        if source != "io":
            with pytest.raises(SchemeError, match="which IO cannot say"):
                convert(tags, source, "io")
        return
    there = convert(tags, source, target)
    assert there == encode(parts, target)
    assert convert(there, target, source) == tags


any_tag = st.just("O") | st.builds("{}-{}".format, st.sampled_from("BIESLU"), KINDS) | KINDS


@settings(deadline=None)
@given(st.lists(any_tag, max_size=6), st.sampled_from(EACH))
def test_conversion_refuses_exactly_what_breaks_the_scheme(tags, scheme):
    if breaks(tags, scheme):
        with pytest.raises(SchemeError) as caught:
            convert(tags, scheme, "bioes")
        assert 0 <= caught.value.index < len(tags)
        assert str(caught.value).startswith(f"tag {caught.value.index + 1}: ")
    else:
        assert breaks(convert(tags, scheme, "iob2"), "iob2") == []


@settings(deadline=None)
@given(st.lists(any_tag, max_size=6))
def test_schemes_that_fit_the_same_tags_give_the_same_spans(tags):
    fits = [scheme for scheme in EACH if scheme != "io" and not breaks(tags, scheme)]
    assert len({tuple(spans(tags, scheme)) for scheme in fits}) <= 1


@settings(deadline=None)
@given(st.lists(any_tag, max_size=6), st.sampled_from(EACH))
def test_what_is_rewritten_keeps_its_spans_also_where_it_is_broken(tags, scheme):
    assert spans(rewrite(tags, scheme, "iob2"), "iob2") == spans(tags, scheme)


@settings(deadline=None)
@given(segments, st.sampled_from(EACH))
def test_the_letters_that_scorers_know(parts, scheme):
    tags = [in_bies(tag, scheme) for tag in encode(parts, scheme)]
    expected = {"bilou": "bioes"}.get(scheme, scheme)
    if scheme == "io":
        assert tags == ["O" if t == "O" else f"I-{t}" for t in encode(parts, "io")]
    else:
        assert tuple(tags) == encode(parts, expected)


@pytest.mark.parametrize(
    "tag", ["B", "B-", "I", "I-", "O-", "O-NP", "-NP", "X-NP", "b-NP", "BI-NP"]
)
@pytest.mark.parametrize("scheme", [s for s in EACH if s != "io"])
def test_no_scheme_with_letters_has_a_malformed_tag(tag, scheme):
    assert not legal("", tag, scheme)
    assert letter_and_type(tag, scheme) is None


def test_io_takes_bare_types_and_i_alone():
    assert letter_and_type("LOC", "io") == letter_and_type("I-LOC", "io") == ("I", "LOC")
    assert letter_and_type("B-LOC", "io") is None and letter_and_type("", "io") is None


@pytest.mark.parametrize(
    "said, scheme",
    [("BIO2", "iob2"), ("bio", "iob2"), ("IOBES", "bioes"), ("Bilou", "bilou"), ("", "none")],
)
def test_schemes_have_other_names(said, scheme):
    assert scheme_called(said) == scheme


def test_unknown_scheme():
    for call in (lambda: legal("", "O", "iob3"), lambda: scheme_called("iob3")):
        with pytest.raises(ValueError, match="no scheme is called 'iob3': take iob1, iob2, ioe1"):
            call()


@pytest.mark.parametrize(
    "tags, scheme, message",
    [
        (("O", "B-NP"), "iob1", "tag 2: B-NP cannot follow O in IOB1"),
        (("I-NP",), "iob2", "tag 1: I-NP cannot begin a sentence in IOB2"),
        (("S-NP", "B-NP"), "bioes", "tag 2: B-NP cannot end a sentence in BIOES"),
        (("U-NP", "I-NP"), "bilou", "tag 2: I-NP cannot follow U-NP in BILOU"),
        (("E-NP", "O"), "ioe1", "tag 2: O cannot follow E-NP in IOE1"),
        (("I-NP", "O"), "ioe2", "tag 2: O cannot follow I-NP in IOE2"),
        (("S-NP",), "bilou", "tag 1: S-NP is no tag of BILOU"),
    ],
)
def test_conversion_errors(tags, scheme, message):
    with pytest.raises(SchemeError) as e:
        convert(tags, scheme, "bioes")
    assert str(e.value) == message


@pytest.mark.parametrize(
    "tags, sign",
    [
        (["O", "B-X", "I-X"], "B-X"),
        (["U-X"], "U-X"),
        (["O"], ""),
        (["O", "B-X", "NN"], ""),
        (["S-", "O"], ""),
        ([], ""),
    ],
)
def test_what_looks_like_spans(tags, sign):
    assert look_like_spans(tags) == sign


@pytest.mark.parametrize(
    "tags, tag, cure",
    [
        ("O B I", "B", "Append one to every letter, as in B-TERM"),
        ("E O I", "E", "Append one to every letter, as in E-TERM"),
        ("B- I- O", "B-", "Append one to every letter, as in B-TERM"),
        ("O b-PER", "b-PER", "Write B-PER"),
        ("B-PER I_PER", "I_PER", "Write I-PER"),
        ("_ I/PER o", "I/PER", "Write I-PER"),
        ("PER.S PER.B -", "PER.S", "Write S-PER"),
        ("B-X M-X E-X", "M-X", "Write I-X"),
    ],
)
def test_tags_that_nearly_mark_spans(tags, tag, cure):
    near = nearly_spans(tags.split())
    assert (near.tag, near.cure) == (tag, cure)


@pytest.mark.parametrize(
    "tags",
    ["", "O", "O I", "S V O", "B-X I-X O", "S-B E-B", "B_X LOC", "E_mail S_mail", "B-cell T-cell"],
)
def test_tags_that_do_not(tags):
    assert nearly_spans(tags.split()) is None
