"Column files and their errors: what is read, and what is refused with file, line and cure."

import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_schemes import EACH, KINDS, encode, segments, touching

from sparse_sharing.tagging.columns import LONG, SLIPS, problems, read_conll
from sparse_sharing.tagging.lines import files_in, layout
from sparse_sharing.tagging.sentences import FormatError, Sentence

words = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=" \t\r\n\ufeff\0"), min_size=1
).filter(lambda w: w != "-DOCSTART-")
NER = ("word", "ner")


# --- what is read


@settings(deadline=None)
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
    got = read_conll(file, ("word", "pos"), comments="none")
    assert [list(zip(s.words, s.tags["pos"], strict=True)) for s in got] == rows


@settings(deadline=None)
@given(st.lists(segments.filter(bool), min_size=1), st.sampled_from(EACH), st.sampled_from(EACH))
def test_the_scheme_of_a_file_is_found(tmp_path_factory, sentences, source, kept):
    "Or declared, if it has bare types; and the layer is in the scheme that was asked for."
    file = tmp_path_factory.mktemp("scheme") / "a.txt"
    file.write_text("\n\n".join("\n".join(f"w {t}" for t in encode(s, source)) for s in sentences))
    declared = f"x=io>{kept}" if source == "io" else f"x={kept}"
    if "io" in (source, kept) and any(touching(s) for s in sentences):
        if source != "io":
            with pytest.raises(FormatError, match="which IO cannot say"):
                read_conll(file, "word x", declared)
        return
    got = read_conll(file, "word x", declared)
    assert [s.tags["x"] for s in got] == [encode(s, kept) for s in sentences]


@pytest.mark.parametrize("source", EACH)
def test_a_declared_scheme_is_taken(here, source):
    (here / "x").write_text("\n".join(f"w {t}" for t in encode([("X", 2), (None, 1)], source)))
    for schemes in (f"x={source}>bioes", {"x": (source, "bioes")}):
        assert read_conll("x", "word x", schemes)[0].tags["x"] == ("B-X", "E-X", "O")
    assert read_conll("x", "word x", f"x={source}")[0].tags["x"][2] == "O"


def test_the_paper_s_layers_need_no_declaration(here):
    (here / "x").write_text("a N I-NP I-PER\n")
    (s,) = read_conll("x")
    assert s.tags == {"pos": ("N",), "chunk": ("B-NP",), "ner": ("S-PER",)}


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


def test_a_file_with_tabs_is_split_at_tabs(here):
    (here / "x").write_text("New York\t\tB-LOC\t\n 10 000 \tCD\tO\n\t\t\nfell\tVBD\tO\n")
    first, second = read_conll("x", "word _ ner")
    assert first == Sentence(("New York", "10 000"), {"ner": ("S-LOC", "O")})
    assert second.words == ("fell",)


def test_a_delimiter_is_declared(here):
    (here / "x").write_text("a\tb, c,O\nd,S-X\n")
    with pytest.raises(FormatError):
        read_conll("x", NER)
    (here / "x").write_text("a b,O\n d ,S-X\n")
    assert [s.words for s in read_conll("x", NER, delimiter=",")] == [("a b", "d")]
    (here / "x").write_text("a\tO\nd O\n")
    for said in ("space", " "):
        assert [s.words for s in read_conll("x", NER, delimiter=said)] == [("a", "d")]
    (here / "x").write_text("a b\tO\n")
    for said in ("tab", "\t"):
        assert [s.words for s in read_conll("x", NER, delimiter=said)] == [("a b",)]


def test_comments_are_declared_and_a_hashtag_is_a_word(here):
    (here / "x").write_text("# sent_id 1\n#\n#hashtag O\n# O\n\n# b O\n#c O\n")
    got = read_conll("x", NER, comments="#")
    assert [s.words for s in got] == [("#hashtag", "#"), ("#c",)]
    (here / "x").write_text("#newpar\n#tag\tO\n# x\tO\n")
    assert [s.words for s in read_conll("x", NER, comments="#")] == [("#tag", "# x")]
    (here / "x").write_text("%% note\n%%c O\n")
    assert [s.words for s in read_conll("x", NER, comments="%%")] == [("%%c",)]
    (here / "x").write_text("# text = Yes\na b c d\n")
    got = read_conll("x", ("word", "x", "y", "z"), comments="none")
    assert [s.words for s in got] == [("#", "a")]


TREEBANK = (
    "# newdoc id = a\n# text = Ada didn't sell\n"
    "1\tAda\tAda\tPROPN\tNNP\tNumber=Sing\t4\tnsubj\t_\t_\n"
    "2-3\tdidn't\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No\n"
    "2\tdid\tdo\tAUX\tVBD\t_\t4\taux\t_\t_\n"
    "3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_\n"
    "3.1\twill\twill\tAUX\tMD\t_\t_\t_\t_\t_\n"
    "4\tsell\tsell\tVERB\tVB\t_\t0\troot\t_\t_\n"
    "\n# text = #10 000\n"
    "1\t#10 000\t_\tNUM\tCD\t_\t0\troot\t_\t_\n\n"
)


def test_conllu_is_known_by_its_ten_columns(here):
    (here / "x").write_text(TREEBANK)
    first, second = read_conll("x", "conllu")
    assert first.words == ("Ada", "did", "n't", "sell") and second.words == ("#10 000",)
    assert first.tags == {
        "upos": ("PROPN", "AUX", "PART", "VERB"),
        "xpos": ("NNP", "VBD", "RB", "VB"),
    }
    other = read_conll("x", "_ word _ _ _ _ _ deprel _ _")
    assert other[0].tags == {"deprel": ("nsubj", "aux", "advmod", "root")}


SYNTAX = st.lists(st.sampled_from(["word", "range", "empty"]), min_size=1, max_size=8).filter(
    lambda kinds: "word" in kinds
)


@settings(deadline=None)
@given(st.lists(SYNTAX, min_size=1, max_size=5), st.sampled_from("\t "))
def test_words_and_sentences_are_counted_as_the_treebank_counts(tmp_path_factory, trees, space):
    "Lines whose number is whole are words; those with a hyphen or a dot are not."
    file, blocks = tmp_path_factory.mktemp("treebank") / "a.conllu", []
    for kinds in trees:
        rows, n = ["# text = #1 made"], 0
        for kind in [*kinds, "word"]:  # what a range spells comes after it
            n += kind == "word"
            number = {"word": f"{n}", "range": f"{n + 1}-{n + 2}", "empty": f"{n}.1"}[kind]
            form = f"{kind}{n}"
            rows.append(space.join((number, form, "_", "X", "Y", "_", "_", "_", "_", "_")))
        blocks.append("\n".join(rows))
    file.write_text("\n\n".join(blocks) + "\n")
    got = read_conll(file, "conllu")
    assert [len(s.words) for s in got] == [kinds.count("word") + 1 for kinds in trees]
    assert {w[:4] for s in got for w in s.words} == {"word"}
    assert {tag for s in got for tag in s.tags["upos"]} == {"X"}


def test_ten_columns_of_another_kind_are_no_treebank(here):
    (here / "x").write_text("#a\t1\t2\t3\t4\t5\t6\t7\t8\tO\n")
    columns = "word _ _ _ _ _ _ _ _ ner"
    assert read_conll("x", columns, "ner=bioes")[0].words == ("#a",)


def test_an_encoding_is_named(here):
    (here / "x").write_bytes("é O\n".encode("latin-1"))
    assert read_conll("x", NER, encoding="latin-1")[0].words == ("é",)


def test_a_few_slips_pass(here):
    n = round(1 / SLIPS)
    for letters, ok, other in [("IOB", "B", "I"), ("IOB", "I", "B"), ("IOE", "E", "I")]:
        (here / "x").write_text(f"a {ok}-X\n\n" * (n - 1) + f"a {other}-X\n")
        assert {s.tags["ner"] for s in read_conll("x", NER)} == {("S-X",)}, letters
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


# --- what is read, and told


def told(text, columns="word x", schemes="", **more):
    "What is warned of in a file `x` with this text."
    Path("x").write_text(text, encoding="utf-8")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_conll("x", columns, schemes, **more)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    "text, sign, cure",
    [
        ("big B\ncat I\nsat O\n", "B", "Append one to every letter, as in B-TERM"),
        ("sat O\nAda B_PER\nMoss I_PER\n", "B_PER", "Write B-PER"),
        ("Ada b-per\nMoss _\n", "b-per", "Write B-per"),
        ("Ada PER-B\n", "PER-B", "Write B-PER"),
    ],
)
def test_letters_that_nobody_declared_are_told(here, text, sign, cure):
    (*_, warning) = told(text)
    assert f"x tags such as {sign} are taken for single tags, and scored by accuracy" in warning
    assert cure in warning and "say x=none" in warning
    assert told(text, schemes="x=none") == []


@pytest.mark.parametrize("tags", ["NN VB I", "S V O", "I O", "E S", "PER LOC O", "_x B_ C"])
def test_tags_that_mark_no_spans_are_not_told(here, tags):
    assert told("".join(f"a {tag}\n" for tag in tags.split())) == []


@pytest.mark.parametrize("mark", ["_", "-"])
def test_a_missing_tag_is_told_in_every_kind_of_layer(here, mark):
    text = f"Ada PER\nfell O\nBo {mark}\n"
    (warning,) = told(text)
    assert warning.startswith(
        f"x:3: 1 of 3 x tags are {mark}, which is learnt as a tag. If it says"
    )
    (warning,) = told(text, schemes="x=io>bioes")
    assert warning.startswith(f"x:3: 1 of 3 x tags are {mark}, which is learnt as a type of spans.")
    assert warning.endswith("if it stands for words outside, write O.")


def test_bare_types_without_a_word_outside_are_told(here):
    (warning,) = told("Ada PER\nfell 0\n", schemes="x=io>bioes")
    assert (
        warning == "x:1: no x tag is O, so that each word is in a span. Write O for words outside."
    )
    assert told("Ada PER\nfell O\n", schemes="x=io>bioes") == []


def test_a_file_that_is_one_sentence_is_told(here):
    assert told("a X\n\n" + "a X\n" * LONG) == []
    (warning,) = told("a X\n\n" + "a X\n" * (LONG + 1))
    assert warning.startswith("x:3: a sentence of 1,001 words begins here. An empty line ends a")


def test_comments_that_were_read_as_words_are_declared_either_way(here):
    text = "# s1\na X\n\n# s2\na X\n"
    with pytest.raises(FormatError, match="^x:1: 2 of 2 sentences begin with the word #, as comm"):
        told(text)
    assert told(text, comments="#") == [] == told(text, comments="none")
    assert read_conll("x", "word x", comments="#")[1].words == ("a",)
    assert told("# X\na X\n\na X\n") == []  # the sign of a pound


@pytest.mark.parametrize("mark", [",", ";"])
def test_quotation_marks_of_a_table_are_refused(here, mark):
    (here / "x").write_text(f'a{mark}N\n"b"{mark}"N"\n')
    with pytest.raises(FormatError, match='^x:2: "b" begins with a quotation mark, which would st'):
        read_conll("x", "word x", delimiter=mark)
    (here / "x").write_text(f'"{mark}N\na"{mark}N\n')
    assert read_conll("x", "word x", delimiter=mark)[0].words == ('"', 'a"')
    (here / "x").write_text('"b"\tN\n')
    assert read_conll("x", "word x")[0].words == ('"b"',)


def test_utf_16_is_read_where_it_is_named(here):
    (here / "x").write_text("é O\n", encoding="utf-16")
    for name in ("utf-16", "UTF16", "utf_16"):
        assert read_conll("x", NER, encoding=name)[0].words == ("é",)
    with pytest.raises(FormatError, match="^x:1: this is UTF-16. Convert the file with iconv"):
        read_conll("x", NER, encoding="latin-1")


# --- what is refused (each kind of damage is in test_malformed.py)


def test_all_problems_are_listed(here):
    (here / "x").write_text("a\nb O\n\nc d e\n")
    (here / "y").write_text("a O\nb X\n")
    (here / "z").write_text("a O\n")
    got = problems(files_in("."), layout("word ner", "ner=bioes"))
    assert [line.split(":")[:2] for line in got] == [["x", "1"], ["x", "4"], ["y", "2"]]
    assert problems(files_in("z"), layout("word ner", "ner=bioes")) == []


# --- layouts that make no sense

WORD = "call one of them word, and no two alike"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(columns="pos ner"), f"columns pos ner: {WORD}"),
        (dict(columns=("word", "word")), f"columns word word: {WORD}"),
        (dict(columns=("word", "x", "x")), f"columns word x x: {WORD}"),
        (dict(columns=("word", "")), f"columns word : {WORD}"),
        (dict(columns=""), f"columns : {WORD}"),
        (
            dict(columns="word ner", schemes="ne=bioes"),
            "schemes speak of ne, but the columns are word ner: name one of these",
        ),
        (
            dict(columns="word ner", schemes="word=bioes"),
            "schemes speak of word, but the columns are word ner: name one of these",
        ),
        (dict(schemes="ner=bilo"), "no scheme is called 'bilo': take iob1, iob2, ioe1, ioe2"),
        (dict(schemes="ner=x>bioes"), "no scheme is called 'x': take iob1, iob2, ioe1, ioe2"),
        (dict(schemes="ner"), "schemes 'ner': write each name once, as in ner=bioes"),
        (dict(schemes="ner="), "schemes 'ner=': write each name once, as in ner=bioes"),
        (
            dict(schemes="ner=bioes ner=iob2"),
            "schemes 'ner=bioes ner=iob2': write each name once, as in ner=bioes",
        ),
        (dict(schemes="ner=>bioes"), "schemes: ner=>bioes names no scheme before the >"),
        (dict(schemes="ner=bioes>none"), "schemes: ner cannot go from bioes to none: one has no"),
        (dict(schemes={"ner": 3}), "schemes: ner is 3: give a scheme, or that of the file and it"),
        (dict(delimiter="ab"), "delimiter is 'ab': give tab, space or one character, or nothing"),
        (dict(encoding="utf-9"), "no encoding is called 'utf-9': take utf-8 or latin-1, say"),
    ],
)
def test_a_layout_that_makes_no_sense(here, arguments, message):
    (here / "x").write_text("a N O O\n")
    with pytest.raises(ValueError) as e:
        read_conll("x", **{"columns": "word pos chunk ner", "schemes": "ner=bioes", **arguments})
    assert str(e.value).startswith(message)


def test_reading_is_fast(here):
    sentence = "".join(f"word{i} NN I-{'NP' if i % 3 else 'VP'} O\n" for i in range(14))
    (here / "x").write_text((sentence + "\n") * 20_000)
    start = time.process_time()
    assert len(read_conll("x")) == 20_000
    assert time.process_time() - start < 6  # about 1 s on an idle core; quadratic code: minutes
