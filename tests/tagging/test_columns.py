"Column files and their errors: what is read, and what is refused with file, line and cure."

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_schemes import EACH, KINDS, encode, segments, touching

from sparse_sharing.tagging.columns import SLIPS, problems, read_conll
from sparse_sharing.tagging.lines import files_in, layout
from sparse_sharing.tagging.sentences import FormatError, Sentence

words = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters=" \t\r\n\ufeff"), min_size=1
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


# --- what is refused: name -> content, columns, schemes, more, message

LAYOUT = "Mend the line, or give the layout in `columns`, where _ skips one."
RAW = "Text without tags can be tagged, but not learnt from. "
TAG = (
    "Write O, or one of B- I- E- S- L- U- and a type, as in B-NP; or declare bare types, as "
    "ner=io>bioes."
)
ONE = "Write the whole file in one scheme."
TWO = "Correct one of the two."
OTHER = "which was declared. Declare another, or mend it."
TABS = "Mend the line, or say delimiter=tab, or delimiter=space for any white space."
NONE_HERE = "no sentence in this file. Give one with a word per line."
DECLARE = (
    "Declare the scheme to keep them in, as schemes {0}=bioes, or {0}=none if each tag stands for "
    "itself."
)
REMARK = "looks like a comment. Say comments=#, or none if it is a word."
ROW = "1\ta\t_\tX\tY\t_\t_\t_\t_\t_\n"

BAD = {
    "empty": (b"", "", "", f"x:1: {NONE_HERE}"),
    "blank": (b"\n \t\r\n", "", "", f"x:1: {NONE_HERE}"),
    "docstart": (b"-DOCSTART- O\n\n", "", "", f"x:1: {NONE_HERE}"),
    "only comments": (b"# a\n# b\n", "", "", f"x:1: {NONE_HERE}"),
    "few": (b"a O\n\nb\n", "", "", f"x:3: expected 2 columns (word ner), found 1. {RAW}{LAYOUT}"),
    "many": (b"a O\nb N O\n", "", "", f"x:2: expected 2 columns (word ner), found 3. {LAYOUT}"),
    "raw text": (b"a\nb\n", "", "", f"x:1: expected 2 columns (word ner), found 1. {RAW}{LAYOUT}"),
    "empty field at the end": (
        b"a\t\n",
        *("", ""),
        f"x:1: expected 2 columns (word ner), found 1. {RAW}{LAYOUT}",
    ),
    "empty field": (
        b"New York\t\tB-LOC\n",
        *("word pos ner", "ner=bioes"),
        "x:1: the pos field is empty. Fill it in, or mend the tabs.",
    ),
    "empty word": (
        b"a\tO\n \tO\n",
        *("", ""),
        "x:2: the word field is empty. Fill it in, or mend the tabs.",
    ),
    "a space in a tag": (
        b"a\tB-LOC x\n",
        *("", ""),
        "x:1: 'B-LOC x' is no ner tag: it holds white space. Mend the separators.",
    ),
    "a tab in one line": (
        b"a O\nb\tO\n",
        *("", ""),
        f"x:2: this line has a tab, others have none. {TABS}",
    ),
    "no tab in one line": (
        b"a\tO\nb O\n",
        *("", ""),
        f"x:2: this line has no tab, others have one. {TABS}",
    ),
    "old mac": (
        b"a O\rb O\r",
        *("", ""),
        "x:1: expected 2 columns (word ner), found 3. U+000D does not separate, only space and tab "
        f"do. {LAYOUT}",
    ),
    "no-break space": (
        "a O\nb\u00a0O\n".encode(),
        *("", ""),
        "x:2: expected 2 columns (word ner), found 1. U+00A0 does not separate, only space and tab "
        f"do. {LAYOUT}",
    ),
    "line separator": (
        "a O\u2028b O\n".encode(),
        *("", ""),
        "x:1: expected 2 columns (word ner), found 3. U+2028 does not separate, only space and tab "
        f"do. {LAYOUT}",
    ),
    "latin1": (
        b"a O\n\n\xe9t\xe9 O\n",
        *("", ""),
        "x:3: byte 0xe9 is not UTF-8. Convert the file, for instance with iconv -f latin1 -t "
        "utf-8, or name its encoding.",
    ),
    "utf-16": (
        "a O\n".encode("utf-16"),
        *("", ""),
        "x:1: byte 0xff is not UTF-8. Convert the file, for instance with iconv -f latin1 -t "
        "utf-8, or name its encoding.",
    ),
    "prefix": (b"a O\nb X-NP\n", "", "", f"x:2: X-NP is no ner tag. {TAG}"),
    "letter alone": (b"a O\n\nb O\nc B\n", "", "", f"x:4: B is no ner tag. {TAG}"),
    "no type": (b"a B-\n", "", "", f"x:1: B- is no ner tag. {TAG}"),
    "typed O": (b"a O-X\n", "", "", f"x:1: O-X is no ner tag. {TAG}"),
    "lower case": (b"a b-x\n", "", "", f"x:1: b-x is no ner tag. {TAG}"),
    "bare types": (b"a PER\nb O\n", "", "", f"x:1: PER is no ner tag. {TAG}"),
    "bare and not": (b"a B-PER\nb LOC\n", "", "", f"x:2: LOC is no ner tag. {TAG}"),
    "BMES": (b"a B-X\nb M-X\nc E-X\n", "", "", f"x:2: M-X is no ner tag. {TAG}"),
    "mixed": (
        b"a I-X\n\nb O\nc B-X\n",
        *("", ""),
        "x:4: the ner tags mix two schemes: B-X cannot follow O in IOB1, but in line 1 I-X cannot "
        f"begin a sentence in IOB2. {ONE}",
    ),
    "mixed types": (
        b"a B-X\nb I-Y\n",
        *("", ""),
        "x:2: the ner tags mix two schemes: I-Y cannot follow B-X in IOB2, but in line 1 B-X "
        f"cannot begin a sentence in IOB1. {ONE}",
    ),
    "mixed from the end": (
        b"a E-X\n\nb I-X\nc O\n",
        *("", ""),
        "x:4: the ner tags mix two schemes: O cannot follow I-X in IOE2, but in line 1 E-X cannot "
        f"end a sentence in IOE1. {ONE}",
    ),
    "bioes open": (
        b"a S-X\n\nb B-X\n\nc O\n",
        *("", ""),
        "x:3: ner tag B-X cannot end a sentence in BIOES, the scheme that S-X in line 1 belongs "
        f"to. {TWO}",
    ),
    "bioes type": (
        b"a B-X\nb E-Y\n",
        *("", ""),
        "x:2: ner tag E-Y cannot follow B-X in BIOES, the scheme that E-Y in line 2 belongs to. "
        + TWO,
    ),
    "bioes inside": (
        b"-DOCSTART- O\na I-X\n\n\nb S-X\n",
        *("", ""),
        "x:2: ner tag I-X cannot begin a sentence in BIOES, the scheme that S-X in line 5 belongs "
        f"to. {TWO}",
    ),
    "bilou open": (
        b"a B-X\nb O\n\nc U-X\n",
        *("", ""),
        "x:2: ner tag O cannot follow B-X in BILOU, the scheme that U-X in line 4 belongs to. "
        + TWO,
    ),
    "bilou and bioes": (
        b"a U-X\n\nb S-X\n",
        *("", ""),
        "x:3: ner tag S-X is no tag of BILOU, the scheme that U-X in line 1 belongs to. " + TWO,
    ),
    "bilou last of another type": (
        b"a B-X\nb L-Y\n",
        *("", ""),
        "x:2: ner tag L-Y cannot follow B-X in BILOU, the scheme that L-Y in line 2 belongs to. "
        + TWO,
    ),
    "declared ioe2": (
        b"a I-X\nb O\n",
        *("", "ner=ioe2>bioes"),
        f"x:2: ner tag O cannot follow I-X in IOE2, {OTHER}",
    ),
    "declared iob1": (
        b"a B-X\nb O\n",
        *("", "ner=iob1>bioes"),
        f"x:1: ner tag B-X cannot begin a sentence in IOB1, {OTHER}",
    ),
    "declared iob2": (
        b"a O\nb I-X\n",
        *("", "ner=iob2>bioes"),
        f"x:2: ner tag I-X cannot follow O in IOB2, {OTHER}",
    ),
    "declared bilou": (
        b"a S-X\n",
        *("", "ner=bilou>bioes"),
        f"x:1: ner tag S-X is no tag of BILOU, {OTHER}",
    ),
    "declared io": (
        b"a PER\nb B-PER\n",
        *("", "ner=io>bioes"),
        f"x:2: ner tag B-PER is no tag of IO, {OTHER}",
    ),
    "side by side in io": (
        b"a O\nb B-X\nc B-X\n",
        *("", "ner=io"),
        "x:3: ner tag B-X begins a span right after another of its type, which IO cannot say: keep "
        "the layer in another scheme.",
    ),
    "spans that nobody declared": (
        b"wrote O\nGhent B-place\n",
        *("word x", "x="),
        "x:2: x tags such as B-place mark spans. " + DECLARE.format("x"),
    ),
    "spans as parts of speech": (
        b"wrote O\n\nGhent U-place\n",
        *("word pos", "pos="),
        "x:3: pos tags such as U-place mark spans. " + DECLARE.format("pos"),
    ),
    "a comment that fits": (
        b"# text = Yes .\nYes UH O O O\n",
        *("word a b c d", "a=none"),
        f"x:1: '# text = Yes .' {REMARK}",
    ),
    "a comment of a treebank": (
        b"# sent_id = 1\na b c d\n",
        *("word a b c", "a=none"),
        f"x:1: '# sent_id = 1' {REMARK}",
    ),
    "a new document": (
        b"# newdoc\na b\n",
        *("word a", "a=none"),
        f"x:1: '# newdoc' {REMARK}",
    ),
    "a comment between sentences": (
        b"a b c d\n\n# s_id = 2\na b c d\n",
        *("word a b c", "a=none"),
        f"x:3: '# s_id = 2' {REMARK}",
    ),
    "a treebank, not declared": (
        f"# text = a\n{ROW}".encode(),
        *("word pos", "pos=none"),
        "x:2: expected 2 columns (word pos), found 10. This is CoNLL-U: say columns=conllu.",
    ),
    "a word of a treebank is lost": (
        f"{ROW}{ROW.replace('1', '3', 1)}".encode(),
        *("conllu", "upos=none"),
        "x:2: word number 3 follows number 1. Put back what is lost.",
    ),
    "a treebank begins at 2": (
        f"{ROW}\n{ROW.replace('1', '2', 1)}".encode(),
        *("conllu", "upos=none"),
        "x:3: word number 2 follows number 0. Put back what is lost.",
    ),
    "a treebank without numbers": (
        f"{ROW}{ROW.replace('1', 'b', 1)}".encode(),
        *("conllu", "upos=none"),
        "x:2: word number b follows number 1. Put back what is lost.",
    ),
    "no such tags in a treebank": (
        ROW.replace("Y", "_").encode(),
        *("conllu", "upos=none"),
        "x:1: every xpos tag is _, so this file has no xpos. Take another column, or skip this one "
        "with _.",
    ),
    "nine columns in a treebank": (
        f"{ROW}2{ROW[1:-3]}\n".encode(),
        *("conllu", "upos=none"),
        "x:2: expected 10 columns (_ word _ upos xpos _ _ _ _ _), found 9. This is CoNLL-U: say "
        "columns=conllu.",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_file(here, name):
    content, columns, schemes, message = BAD[name]
    (here / "x").write_bytes(content)
    columns, schemes = columns or "word ner", schemes or "ner=bioes"
    if schemes.endswith("="):
        schemes = ""
    comments = "#" if name == "only comments" else None
    with pytest.raises(FormatError) as e:
        read_conll("x", columns, schemes, comments=comments)
    assert str(e.value) == message


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
