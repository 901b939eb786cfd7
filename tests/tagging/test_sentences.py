"Sentences, tagging schemes, column files and their errors, and what a corpus knows of itself."

import hashlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_sharing.tagging.sentences import (
    SLIPS,
    Corpus,
    FormatError,
    Sentence,
    breaks,
    legal,
    read_conll,
    to_bio2,
    to_bioes,
)

SCHEMES = ("iob1", "bio2", "bioes")
KINDS = st.sampled_from(["PER", "LOC", "WORK-OF-ART"])  # a type may hold a hyphen


def encode(segments, scheme):
    "Tags of spans (type, length), where type None is outside: written from the definitions alone."
    tags, last = [], None
    for kind, length in segments:
        if kind is None:
            tags += ["O"] * length
        elif scheme == "iob1":
            tags += [("B-" if kind == last else "I-") + kind] + [f"I-{kind}"] * (length - 1)
        elif scheme == "bio2":
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
        elif length == 1:
            tags += [f"S-{kind}"]
        else:
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (length - 2) + [f"E-{kind}"]
        last = kind
    return tuple(tags)


segments = st.lists(st.tuples(st.none() | KINDS, st.integers(1, 4)), max_size=8)
any_tag = st.just("O") | st.builds("{}-{}".format, st.sampled_from("BIES"), KINDS)
words = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=" \t\r\n\ufeff"), min_size=1
).filter(lambda w: w != "-DOCSTART-")


# --- schemes


@given(segments, st.sampled_from(SCHEMES))
def test_all_schemes_become_bio2_and_come_back(spans, scheme):
    tags = encode(spans, scheme)
    assert breaks(tags, scheme) == []
    assert to_bio2(tags, scheme) == encode(spans, "bio2")
    assert to_bioes(encode(spans, "bio2")) == encode(spans, "bioes")
    assert to_bio2(to_bioes(encode(spans, "bio2")), "bioes") == encode(spans, "bio2")


@given(st.lists(any_tag, max_size=6))
def test_a_text_with_a_span_follows_at_most_one_scheme(tags):
    fits = [scheme for scheme in SCHEMES if not breaks(tags, scheme)]
    assert len(fits) == 3 if all(tag == "O" for tag in tags) else len(fits) <= 1


@given(st.lists(any_tag, max_size=6), st.sampled_from(SCHEMES))
def test_conversion_refuses_exactly_what_breaks_the_scheme(tags, scheme):
    if breaks(tags, scheme):
        with pytest.raises(ValueError, match="cannot"):
            to_bio2(tags, scheme)
    else:
        assert breaks(to_bio2(tags, scheme), "bio2") == []


@pytest.mark.parametrize(
    "tag", ["B", "B-", "I", "I-", "O-", "O-NP", "-NP", "X-NP", "b-NP", "BI-NP"]
)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_scheme_has_a_malformed_tag(tag, scheme):
    assert not legal("", tag, scheme)


def test_unknown_scheme():
    with pytest.raises(ValueError, match="no scheme is called 'iob2': take iob1, bio2 or bioes"):
        legal("", "O", "iob2")


@pytest.mark.parametrize(
    "tags, scheme, message",
    [
        (("O", "B-NP"), "iob1", "tag 2: B-NP cannot follow O in IOB1"),
        (("I-NP",), "bio2", "tag 1: I-NP cannot begin a sentence in BIO2"),
        (("S-NP", "B-NP"), "bioes", "tag 2: B-NP cannot end a sentence in BIOES"),
    ],
)
def test_conversion_errors(tags, scheme, message):
    with pytest.raises(ValueError) as e:
        to_bio2(tags, scheme)
    assert str(e.value) == message


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


# --- files


NER = ("word", "ner")


@given(
    st.lists(st.lists(st.tuples(words, KINDS), min_size=1, max_size=4), min_size=1, max_size=4),
    st.sampled_from([" ", "\t", "  ", " \t "]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, rows, space, newline, mark):
    file = tmp_path_factory.mktemp("round") / "a.txt"
    blocks = [newline.join(f"{w}{space}{t}" for w, t in sentence) for sentence in rows]
    text = "\ufeff" * mark + (newline * 2).join(blocks)
    file.write_bytes(text.encode())
    got = read_conll(file, ("word", "pos"))
    assert [list(zip(s.words, s.tags["pos"], strict=True)) for s in got] == rows


@given(st.lists(segments.filter(bool), min_size=1), st.sampled_from(SCHEMES))
def test_the_scheme_of_a_file_is_found(tmp_path_factory, sentences, scheme):
    file = tmp_path_factory.mktemp("scheme") / "a.txt"
    file.write_text("\n\n".join("\n".join(f"w {t}" for t in encode(s, scheme)) for s in sentences))
    as_ner = read_conll(file, NER)
    as_chunk = read_conll(file, ("word", "chunk"))
    assert [s.tags["ner"] for s in as_ner] == [encode(s, "bioes") for s in sentences]
    assert [s.tags["chunk"] for s in as_chunk] == [encode(s, "bio2") for s in sentences]


LAYOUT = "Mend the line, or give `read_conll` the layout in `columns`, where _ skips one."
TAG = "Write O, or one of B- I- E- S- and a type, as in B-NP."
ONE = "Write the whole file in one scheme."
TWO = "Correct one of the two."
BAD = {
    "empty": (b"", "x:1: no sentence in this file. Give one with a word per line."),
    "blank": (b"\n \t\r\n", "x:1: no sentence in this file. Give one with a word per line."),
    "docstart": (
        b"-DOCSTART- O\n\n",
        "x:1: no sentence in this file. Give one with a word per line.",
    ),
    "few": (b"a O\n\nb\n", f"x:3: expected 2 columns (word ner), found 1. {LAYOUT}"),
    "many": (b"a O\nb N O\n", f"x:2: expected 2 columns (word ner), found 3. {LAYOUT}"),
    "empty field": (b"a\t\n", f"x:1: expected 2 columns (word ner), found 1. {LAYOUT}"),
    "old mac": (
        b"a O\rb O\r",
        f"x:1: expected 2 columns (word ner), found 3. U+000D does not "
        f"separate, only space and tab do. {LAYOUT}",
    ),
    "no-break space": (
        "a O\nb\u00a0O\n".encode(),
        "x:2: expected 2 columns (word ner), found 1. U+00A0 does not separate, only space and tab "
        f"do. {LAYOUT}",
    ),
    "line separator": (
        "a O\u2028b O\n".encode(),
        "x:1: expected 2 columns (word ner), found 3. U+2028 does not separate, only space and tab "
        f"do. {LAYOUT}",
    ),
    "latin1": (
        b"a O\n\n\xe9t\xe9 O\n",
        "x:3: byte 0xe9 is not UTF-8. "
        "Convert the file, for instance with iconv -f latin1 -t utf-8.",
    ),
    "prefix": (b"a O\nb X-NP\n", f"x:2: X-NP is no ner tag. {TAG}"),
    "bare": (b"a O\n\nb O\nc B\n", f"x:4: B is no ner tag. {TAG}"),
    "no type": (b"a B-\n", f"x:1: B- is no ner tag. {TAG}"),
    "typed O": (b"a O-X\n", f"x:1: O-X is no ner tag. {TAG}"),
    "mixed": (
        b"a I-X\n\nb O\nc B-X\n",
        "x:4: the ner tags mix two schemes: B-X cannot follow O in IOB1, but in line 1 I-X cannot "
        f"begin a sentence in BIO2. {ONE}",
    ),
    "mixed types": (
        b"a B-X\nb I-Y\n",
        "x:2: the ner tags mix two schemes: I-Y cannot follow B-X in BIO2, but in line 1 B-X "
        f"cannot begin a sentence in IOB1. {ONE}",
    ),
    "bioes open": (
        b"a S-X\n\nb B-X\n\nc O\n",
        "x:3: ner tag B-X cannot end a sentence in BIOES, the scheme that "
        f"S-X in line 1 belongs to. {TWO}",
    ),
    "bioes type": (
        b"a B-X\nb E-Y\n",
        "x:2: ner tag E-Y cannot follow B-X in BIOES, the scheme that "
        f"E-Y in line 2 belongs to. {TWO}",
    ),
    "bioes inside": (
        b"-DOCSTART- O\na I-X\n\n\nb S-X\n",
        "x:2: ner tag I-X cannot begin a sentence in BIOES, the scheme that "
        f"S-X in line 5 belongs to. {TWO}",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_file(here, name):
    content, message = BAD[name]
    (here / "x").write_bytes(content)
    with pytest.raises(FormatError) as e:
        read_conll("x", NER)
    assert str(e.value) == message


def test_odd_but_sound_files(here):
    (here / "x").write_bytes(
        "\ufeffa\u00a0b\u2003c  S-X \t\r\n# O\r\n \r\n-DOCSTART- O\nb O".encode()
    )
    first, second = read_conll("x", NER)
    assert first == Sentence(("a\u00a0b\u2003c", "#"), {"ner": ("S-X", "O")})
    assert second == Sentence(("b",), {"ner": ("O",)})


def test_docstart_ends_a_sentence_whatever_its_columns(here):
    (here / "x").write_text("a O\n-DOCSTART- (1) -X- -X- O\nb O\n")
    assert [s.words for s in read_conll("x", NER)] == [("a",), ("b",)]


def test_a_few_slips_pass(here):
    n = round(1 / SLIPS)
    for ok, other in [("B", "I"), ("I", "B")]:
        (here / "x").write_text(f"a {ok}-X\n\n" * (n - 1) + f"a {other}-X\n")
        assert {s.tags["ner"] for s in read_conll("x", NER)} == {("S-X",)}
        (here / "x").write_text(f"a {ok}-X\n\n" * (n - 2) + f"a {other}-X\n")
        with pytest.raises(FormatError, match=rf"^x:{2 * n - 3}: the ner tags mix two schemes"):
            read_conll("x", NER)


def test_folder_is_read_in_order(here):
    for name, word in [
        ("b/1.txt", "third"),
        ("a/2.txt", "second"),
        ("a/10.txt", "first"),
        (".hidden/1.txt", "no"),
        ("a/.DS_Store", "no"),
        ("c.md", "no"),
    ]:
        (here / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (here / "d" / name).write_text(word + " S-X\n" if "first" in word else word + " B-X\n")
    got = read_conll("d", NER, pattern="*.txt")
    assert [s.words[0] for s in got] == ["first", "second", "third"]
    assert {s.tags["ner"] for s in got} == {("S-X",)}
    with pytest.raises(FileNotFoundError) as e:
        read_conll("d", NER, pattern="*.conll")
    assert str(e.value) == "d: no file matches *.conll. Check folder and pattern."


def test_missing_file(here):
    with pytest.raises(FileNotFoundError) as e:
        read_conll("nowhere")
    assert str(e.value) == "nowhere: no such file or folder. Check the path."


@pytest.mark.parametrize("columns", [("pos", "ner"), ("word", "word"), ("word", "x", "x"), "word"])
def test_columns_are_checked(here, columns):
    with pytest.raises(ValueError, match="call one of them word, and no two alike"):
        read_conll("x", columns)


def test_target_schemes(here):
    (here / "x").write_text("1 a N B-X\n2 b N I-X\n")
    (s,) = read_conll("x", (None, "word", "_", "srl"), schemes={"srl": "bioes"})
    assert s.tags == {"srl": ("B-X", "E-X")}
    (s,) = read_conll("x", ("_", "word", "pos", "ner"), schemes={})
    assert s.tags == {"pos": ("N", "N"), "ner": ("B-X", "I-X")}
    with pytest.raises(ValueError, match="spans are kept in bio2 or bioes"):
        read_conll("x", schemes={"ner": "iob1"})


def test_reading_is_fast(here):
    sentence = "".join(f"word{i} NN I-{'NP' if i % 3 else 'VP'} O\n" for i in range(14))
    (here / "x").write_text((sentence + "\n") * 20_000)
    start = time.process_time()
    assert len(read_conll("x")) == 20_000
    assert (
        time.process_time() - start < 5
    )  # about 1 s on an idle core; quadratic code takes minutes


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
    rows = corpus().unseen()
    assert rows.values.tolist() == [["dev", "pos", "Z", 1, 1], ["test", "pos", "Z", 1, 1]]
