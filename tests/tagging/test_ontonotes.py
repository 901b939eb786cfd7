"OntoNotes in the layout of CoNLL-2012: what is read, what is refused, and the real files of MASC."

import shutil
import time
import warnings
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_sharing.tagging.chunking import chunk_tags, read_tree
from sparse_sharing.tagging.ontonotes import ontonotes_corpus, read_ontonotes
from sparse_sharing.tagging.schemes import breaks
from sparse_sharing.tagging.sentences import FormatError

BEGIN, END = "#begin document (nw/x/00/x_0001); part 000\n", "#end document\n"
AGAIN = "Mend the line, or make the file again from the release."


def row(number=0, word="Lima", pos="NNP", bit="(TOP(NP*))", name="(GPE)", predicates=(), id="d"):
    "A line of the layout."
    cells = (id, 0, number, word, pos, bit, "-", "-", "-", "-", name, *predicates, "-")
    return "  ".join(map(str, cells)) + "\n"


def document(*lines: str, id="nw/x/00/x_0001", part="000") -> str:
    return f"#begin document ({id}); part {part}\n" + "".join(lines) + END


TWO = (row(0, "Ada", "NNP", "(TOP(NP*", "(PERSON*"), row(1, "Moss", "NNP", "*))", "*)"))


def read(text: str | bytes, **options):
    "What is read from a file `x` with this content."
    with open("x", "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    return read_ontonotes("x", **options)


# --- what is read


def test_every_layer(here):
    (s,) = read(document(*TWO))
    assert s.words == ("Ada", "Moss")
    assert s.tags == {
        "pos": ("NNP",) * 2,
        "chunk": ("B-NP", "I-NP"),
        "ner": ("B-PERSON", "E-PERSON"),
    }
    assert list(s.tags) == ["pos", "chunk", "ner"]
    assert s.genre == "nw"


LEAVES = st.tuples(
    st.sampled_from(["NN", "VBD", "DT", "IN", "RB", "TO", "VB", ",", "-LRB-", "POS"]),
    st.sampled_from(["-", "*", "(", ")", "a", "b*c", "O", "#begin", "\u00a0", "[", "(TOP*"]),
)
PHRASES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(
        st.sampled_from(["NP", "VP", "PP", "S", "SBAR", "ADVP", "X", ""]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)
TREES = st.lists(PHRASES, min_size=1, max_size=3).map(lambda parts: ("TOP", [("S", parts)]))


def written(node) -> tuple[list[tuple[str, str, str]], str]:
    "Word, tag and parse bit of each leaf, and the tree in brackets with words that may stand there."
    label, inside = node
    if isinstance(inside, str):
        return [(inside, label, "*")], f"({label} w)"
    parts = [written(part) for part in inside]
    leaves = [leaf for rows, _ in parts for leaf in rows]
    word, pos, bit = leaves[0]
    leaves[0] = (word, pos, f"({label}{bit}")
    word, pos, bit = leaves[-1]
    leaves[-1] = (word, pos, f"{bit})")
    return leaves, f"({label} {''.join(text for _, text in parts)})"


@given(
    st.lists(st.tuples(TREES, st.lists(st.integers(0, 3), max_size=8)), min_size=1, max_size=4),
    st.sampled_from([" ", "\t", "   "]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_what_is_written_is_read(tmp_path_factory, sentences, space, newline, mark):
    "Trees and names at random; a name is a length, in tokens, with one token of nothing after it."
    file = tmp_path_factory.mktemp("gold") / "a.v4_gold_conll"
    blocks, want = [], []
    for tree, lengths in sentences:
        leaves, text = written(tree)
        cells, tags = [], []
        for n in lengths:
            span = {0: [], 1: ["S"], 2: ["B", "E"], 3: ["B", "I", "E"]}[n]
            if len(tags) + n < len(leaves):
                marks = {0: [], 1: ["(ORG)"], 2: ["(ORG*", "*)"], 3: ["(ORG*", "*", "*)"]}[n]
                cells += [*marks, "*"]
                tags += [*(f"{prefix}-ORG" for prefix in span), "O"]
        cells += ["*"] * (len(leaves) - len(cells))
        tags += ["O"] * (len(leaves) - len(tags))
        lines = [
            space.join(["d", "0", str(i), w, p, bit, "-", "-", "-", "-", cells[i], "-"])
            for i, (w, p, bit) in enumerate(leaves)
        ]
        blocks.append(newline.join(lines))
        words, pos = ([leaf[i] for leaf in leaves] for i in (0, 1))
        want.append((tuple(words), tuple(pos), chunk_tags(read_tree(text)), tuple(tags)))
    body = (newline * 2).join(blocks)
    text = "\ufeff" * mark + BEGIN + body + newline * 2 + END
    file.write_bytes(text.encode())
    got = read_ontonotes(file, entities=False)
    assert [(s.words, *s.tags.values()) for s in got] == want


def test_odd_but_sound_files(here):
    (s,) = read(document(row(word="-", pos=":", name="(ORG)")))
    assert s.words == ("-",)
    (s,) = read(document(row(name="(GPE*)")))
    assert s.tags["ner"] == ("S-GPE",)
    assert len(read(document(row(), "\n\n", *TWO, "\n") + "\n\n")) == 2
    assert len(read(document(row()) + document(row(), id="bc/y"))) == 2  # all in one file
    (s,) = read(BEGIN.replace(" part 000", "") + row() + END)
    assert s.genre == "nw"
    (s,) = read(document(row(), id="x_0001"))
    assert s.genre == ""
    (s, t) = read(document(row(predicates=("(V*)", "*")), "\n", row(name="-")))
    assert (s.tags["ner"], t.tags["ner"]) == (("S-GPE",), ("O",))
    (s,) = read(document(row(bit="((S(NP*)))")))  # real files have such a root, too
    assert s.tags["chunk"] == ("B-NP",)


def test_an_inner_name_gives_way(here):
    cells = ["(ORG(GPE)", "*", "(GPE*)", "(DATE*)", "*)", "*", "(LAW(ORG*", "*)", "*)"]
    bits = ["(TOP(NP*", *["*"] * 7, "*))"]
    lines = [row(i, bit=b, name=n) for i, (b, n) in enumerate(zip(bits, cells, strict=True))]
    (s,) = read(document(*lines))
    assert s.tags["ner"] == (
        *("B-ORG", "I-ORG", "I-ORG", "I-ORG", "E-ORG"),
        *("O", "B-LAW", "I-LAW", "E-LAW"),
    )


@pytest.mark.parametrize("bits", [("(TOP*", "*)"), ("(NOPARSE*", "*)"), ("(TOP(NOPARSE*", "*))")])
def test_without_a_parse_there_are_no_chunks(here, bits):
    text = document(row(0, bit=bits[0]), row(1, bit=bits[1]), "\n", row())
    whole = read(text, entities=False)
    assert [sorted(s.tags) for s in whole] == [["ner", "pos"], ["chunk", "ner", "pos"]]
    with pytest.warns(UserWarning, match="^x: 1 sentences without a parse are left out$"):
        assert read(text) == whole[1:]


def test_a_single_word_without_a_phrase_is_a_tree(here):
    (s,) = read(document(row(bit="(TOP*)")))
    assert s.tags["chunk"] == ("O",)
    (s,) = read(document(row(bit="(NOPARSE*)")), entities=False)
    assert "chunk" not in s.tags


# --- folders


def put(path, *sentences: str, id=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    id = id or "/".join((*path.parent.parts[-3:], path.name.split(".")[0]))
    path.write_text(document(*(line for s in sentences for line in (s, "\n")), id=id))


def test_a_folder_is_read_at_any_depth_in_order(here):
    tree = here / "data/english/annotations"
    for name, word in [
        ("nw/wsj/01/wsj_0100.v9_gold_conll", "c"),
        ("bc/cctv/00/cctv_0001.v4_gold_conll", "a"),
        ("nw/wsj/00/wsj_0002.gold_conll", "b"),
    ]:
        put(tree / name, row(word=word))
        for other in ("v4_auto_conll", "v4_gold_skel", "parse"):
            (tree / name).with_suffix(f".{other}").write_text("not read")
    put(here / "data/chinese/annotations/nw/x/00/x_0001.v4_gold_conll", row(word="no"))
    put(here / ".cache/x_0002.v4_gold_conll", row(word="no"))
    for folder in (here, tree):
        got = read_ontonotes(folder)
        assert [(s.words[0], s.genre) for s in got] == [("a", "bc"), ("b", "nw"), ("c", "nw")]
    assert [s.words for s in read_ontonotes(here / "data/chinese")] == [("no",)]


def test_genres_without_names_are_left_out(here):
    for genre, name in [("nw", "(GPE)"), ("pt", "*"), ("tc", "*"), ("mz", "(ORG)")]:
        put(here / f"d/{genre}/x/00/x_0001.v4_gold_conll", row(name=name), row(name="*"))
    put(here / "d/tc/x/00/x_0002.v4_gold_conll", row(name="*"))
    with pytest.warns(UserWarning) as caught:
        got = read_ontonotes("d")
    assert [str(w.message) for w in caught] == [
        "d: genre pt is left out (2 sentences): as in the paper",
        "d: genre tc is left out (3 sentences): it has no named entity",
    ]
    assert all(w.filename == __file__ for w in caught)
    assert [s.genre for s in got] == ["mz", "mz", "nw", "nw"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_ontonotes("d", entities=False)) == 9


def test_pt_is_left_out_even_with_a_name(here):
    put(here / "d/pt/x/00/x_0001.v4_gold_conll", row())
    put(here / "d/nw/x/00/x_0001.v4_gold_conll", row())
    with pytest.warns(UserWarning, match="genre pt is left out"):
        assert [s.genre for s in read_ontonotes("d")] == ["nw"]


def test_splits_are_found_at_any_depth(here):
    for split in (
        "v4/data/train/data/english",
        "v4/data/development",
        "v9/test",
        "conll-2012-test",
    ):
        put(here / split / "nw/x" / split[:2] / f"x_{len(split)}.v4_gold_conll", row(word=split))
    corpus = ontonotes_corpus(here)
    assert corpus.name == "ontonotes"
    assert [[s.words[0] for s in split] for split in corpus.splits.values()] == [
        *(["v4/data/train/data/english"], ["v4/data/development"], ["v9/test"])
    ]


def test_one_file_per_split(here):
    for name in ("train", "dev", "test"):
        put(here / f"{name}.english.v4_gold_conll", row(word=name), id=f"nw/{name}")
    corpus = ontonotes_corpus(".")
    assert [s.words for split in corpus.splits.values() for s in split] == [
        *(("train",), ("dev",), ("test",))
    ]
    (here / "dev.english.v4_gold_conll").unlink()
    with pytest.raises(FormatError) as e:
        ontonotes_corpus(".")
    assert str(e.value) == (
        ".: *gold_conll files are here, but none for dev. "
        "Give the folder that train, development and test lie in."
    )


def test_a_genre_has_names_if_any_split_does(here):
    for split, name in [("train", "(GPE)"), ("development", "*"), ("test", "*")]:
        put(here / split / f"nw/x/00/{split}.v4_gold_conll", row(name=name))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [len(s) for s in ontonotes_corpus(".").splits.values()] == [1, 1, 1]


def test_the_name_masc_takes_every_document(here):
    for i, split in enumerate(("train", "development", "test")):
        put(here / split / f"{i}.gold_conll", row(), id=f"nw/masc/{i}")
    assert ontonotes_corpus(".").name == "masc"
    put(here / "test/a.gold_conll", row(), id="nw/wsj/1")
    assert ontonotes_corpus(".").name == "ontonotes"


def test_the_genre_of_document_and_folder_agree(here):
    file = here / "bc/x/00/x_0001.v4_gold_conll"
    put(file, row(), id="nw/x/00/x_0001")
    with pytest.raises(FormatError) as e:
        read_ontonotes("bc")
    assert str(e.value) == (
        "bc/x/00/x_0001.v4_gold_conll:1: document nw/x/00/x_0001 is of genre nw, but the file lies "
        "in folder bc. Move the file, or correct the name."
    )
    put(here / "elsewhere/a.gold_conll", row(), id="nw/x/00/x_0001")  # says nothing of genres
    assert read_ontonotes("elsewhere")[0].genre == "nw"


# --- what is refused


COLUMNS = (
    "The columns are document, part, number, word, tag, parse bit, lemma, frameset, sense, speaker, "
    f"name, one for each predicate, coreference. {AGAIN}"
)
NUMBER = "Put an empty line between two sentences, or put back the line that is lost."
ONE = "the sentence goes on. Mend the brackets, or put an empty line between two sentences."
BIT = "Write what opens, one * for the word, and what closes, as in (NP*)."
NAMED = "The eleventh column holds *, (PERSON*, *) or (PERSON): see whether a column is missing."
OPEN = "closes what is not open, or opens nothing at the start of a sentence."
SKELETON = (
    "[WORD] stands where a word should: this is a skeleton, whose words come from the LDC release. "
    "Fill it in with skeleton2conll.sh -D ontonotes-release-5.0/data/files/data and read the result."
)
BAD = {
    "empty": (b"", "x:1: no sentence in this file. Give a *_gold_conll file."),
    "no word": (document(), "x:1: no sentence in this file. Give a *_gold_conll file."),
    "latin1": (
        document(*TWO).replace("Moss", "M\u00f6ss").encode("latin1"),
        "x:3: byte 0xf6 is not UTF-8. Convert the file, for instance with iconv -f latin1 -t utf-8, or name its encoding.",
    ),
    "utf-16": (
        document(row()).encode("utf-16"),
        "x:1: this is UTF-16. Convert the file with iconv -f utf-16 -t utf-8.",
    ),
    "skeleton": (
        document(row(word="[WORD]")),
        f"x:2: {SKELETON}",
    ),
    "half a skeleton": (
        document(*TWO).replace("Moss", "[WORD]"),
        f"x:3: {SKELETON}",
    ),
    "no begin": (
        row() + END,
        "x:1: a word outside every document. "
        "Put #begin document (nw/wsj/02/wsj_0201); part 000 where it begins.",
    ),
    "after the end": (
        document(row()) + row(),
        "x:4: a word outside every document. "
        "Put #begin document (nw/wsj/02/wsj_0201); part 000 where it begins.",
    ),
    "bad begin": (
        "#begin document nw/x; part 000\n" + row() + END,
        "x:1: cannot read this line. Write, for instance, "
        "#begin document (nw/wsj/02/wsj_0201); part 000",
    ),
    "begin twice": (
        BEGIN + row() + BEGIN,
        "x:3: a document begins, but nw/x/00/x_0001 of line 1 has not ended. "
        "Put #end document before this line, and see whether text was lost.",
    ),
    "end twice": (
        document(row()) + END,
        "x:4: a document ends, but none is open. Put #begin document where it begins.",
    ),
    "cut off": (
        BEGIN + row() + "\n" + row(),
        "x:5: the file ends within document nw/x/00/x_0001: it was cut off. Copy or make it again.",
    ),
    "same document": (
        document(row()) + "\n" + document(row()),
        "x:5: document nw/x/00/x_0001, part 000, was read before, from x:1. Keep one of the two.",
    ),
    "few columns": (
        document(row().replace("  -\n", "\n")),
        f"x:2: expected 12 columns or more, found 11. {COLUMNS}",
    ),
    "comment": (
        document("# a comment\n", row()),
        f"x:2: expected 12 columns or more, found 3. {COLUMNS}",
    ),
    "no-break space": (
        document(row().replace("NNP  ", "NNP\u00a0")),
        f"x:2: expected 12 columns or more, found 11. U+00A0 does not separate, only space and tab "
        f"do. {COLUMNS}",
    ),
    "a cell too many": (
        document(TWO[0], TWO[1].replace("NNP", "N NP")),
        f"x:3: expected 12 columns as in the line above, found 13. {COLUMNS}",
    ),
    "lost line": (
        document(TWO[0], row(2, bit="*))", name="*)")),
        f"x:3: this word has number 2 in its sentence, but is number 1, from 0. {NUMBER}",
    ),
    "lost empty line": (
        document(*TWO, row()),
        f"x:4: this word has number 0 in its sentence, but is number 2, from 0. {NUMBER}",
    ),
    "number": (
        document(row("one")),
        f"x:2: this word has number one in its sentence, but is number 0, from 0. {NUMBER}",
    ),
    "trace": (
        document(row(word="*T*-1", pos="-NONE-")),
        "x:2: *T*-1 is a trace, no word. Take traces out.",
    ),
    "no star": (document(row(bit="(TOP(NP))")), f"x:2: (TOP(NP)) is no parse bit. {BIT}"),
    "leaf in bit": (document(row(bit="(TOP(NN")), f"x:2: (TOP(NN is no parse bit. {BIT}"),
    "two stars": (document(row(bit="(TOP**)")), f"x:2: (TOP**) is no parse bit. {BIT}"),
    "no bit": (document(row(bit="-")), f"x:2: - is no parse bit. {BIT}"),
    "bracket too many": (
        document(row(), "\n", TWO[0], row(1, bit="*)))", name="*)")),
        f"x:5: parse bit *))) {OPEN} {AGAIN}",
    ),
    "no root": (document(row(bit="*")), f"x:2: parse bit * {OPEN} {AGAIN}"),
    "bracket too few": (
        document(TWO[0], row(1, bit="*)", name="*)")),
        f"x:3: the sentence ends, but brackets of its tree are open (TOP). {AGAIN}",
    ),
    "brackets too few": (
        document(TWO[0], row(1, bit="*", name="*)"), "\n", row()),
        f"x:3: the sentence ends, but brackets of its tree are open (TOP NP). {AGAIN}",
    ),
    "two trees": (
        document(row(0), row(1)),
        f"x:2: the tree ends with parse bit (TOP(NP*)), but {ONE}",
    ),
    "name not closed": (
        document(row(), "\n", TWO[0], row(1, bit="*))", name="*")),
        "x:4: the name that opens here, (PERSON*, is not closed before its sentence ends in line 5. "
        f"{AGAIN}",
    ),
    "name not open": (
        document(row(name="*)")),
        f"x:2: *) closes a name that is not open. {AGAIN}",
    ),
    "name closed twice": (
        document(TWO[0], row(1, bit="*))", name="*))")),
        f"x:3: *)) closes a name that is not open. {AGAIN}",
    ),
    "half a name": (document(row(name="(GPE")), f"x:2: (GPE is no named entity. {NAMED}"),
    "tag": (document(row(name="B-GPE")), f"x:2: B-GPE is no named entity. {NAMED}"),
    "name without type": (document(row(name="(*)")), f"x:2: (*) is no named entity. {NAMED}"),
    "no names": (
        document(row(name="*")),
        "x: no named entity in any genre that could be used, only nw. "
        "Read it with entities=False if names are not needed.",
    ),
    "only pt": (
        document(row(), id="pt/x"),
        "x: no named entity in any genre that could be used, only pt. "
        "Read it with entities=False if names are not needed.",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_file(here, name):
    content, message = BAD[name]
    with pytest.raises(FormatError) as e:
        read(content)
    assert str(e.value) == message


def test_malformed_folder(here):
    for kind, path, message in [
        (FileNotFoundError, "y", "y: no such file or folder. Check the path."),
        (FileNotFoundError, "d", "d: no file matches *gold_conll. Check folder and pattern."),
        (FormatError, "s", f"s/train/x.v4_gold_skel:1: {SKELETON}"),
        (FormatError, "c", "c: no English file is here. Give the folder english."),
        (
            FormatError,
            "v",
            "v/x.v9_gold_conll:1: document nw/v/x, part 000, was read before, from ",
        ),
    ]:
        (here / "d").mkdir(exist_ok=True)
        (here / "s/train").mkdir(parents=True, exist_ok=True)
        (here / "s/train/x.v4_gold_skel").touch()
        put(here / "c/arabic/annotations/nw/x/00/x.v4_gold_conll", row())
        put(here / "v/x.v4_gold_conll", row(), id="nw/v/x")
        put(here / "v/x.v9_gold_conll", row(), id="nw/v/x")
        with pytest.raises(kind) as e:
            read_ontonotes(path)
        assert str(e.value).startswith(message)


def test_reading_is_fast(here):
    "Far faster than a minute per million words, also where columns are padded with spaces."
    lines = [row(i, bit="(NP*)", name="*") for i in range(20)]
    lines[0], lines[-1] = row(0, bit="(TOP(S(NP*)", name="(GPE)"), row(19, bit="*))", name="*")
    sentence = "".join(line.replace("  ", " " * 12) for line in lines)
    (here / "x").write_text(document(*[sentence + "\n"] * 5_000))
    start = time.process_time()
    assert sum(len(s.words) for s in read_ontonotes("x")) == 100_000
    assert time.process_time() - start < 6


# --- the real thing: MASC in this layout


@pytest.fixture(scope="module")
def masc(data_dir):
    return data_dir / "masc_conll2012"


COUNTS = {"train": (3_308, 65_225), "development": (379, 7_352), "test": (405, 7_464)}


@pytest.mark.parametrize("split", COUNTS)
def test_masc_has_its_published_counts(masc, split):
    "Sentences, tokens, and the brackets of names as the lines of the files have them."
    whole = read_ontonotes(masc / split, entities=False)
    assert (len(whole), sum(len(s.words) for s in whole)) == COUNTS[split]
    lines = [
        line.split()
        for file in (masc / split).rglob("*gold_conll")
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    names = sum(fields[10].count("(") for fields in lines if len(fields) > 10)
    tags = [tag for s in whole for tag in s.tags["ner"]]
    assert sum(tag[0] in "BS" for tag in tags) == sum(tag[0] in "ES" for tag in tags) == names
    for s in whole:
        assert not breaks(s.tags["ner"], "bioes") and not breaks(s.tags["chunk"], "iob2")


def test_pt_is_left_out_of_masc(masc):
    with pytest.warns(UserWarning) as caught:
        corpus = ontonotes_corpus(masc)
    assert [str(w.message) for w in caught] == [
        f"{masc}: genre pt is left out (46 sentences): as in the paper"
    ]
    table = corpus.describe()
    assert (corpus.name, corpus.layers) == ("masc", ("pos", "chunk", "ner"))
    assert table.sentences.tolist() == [3_262, 379, 405]
    assert table.tokens.tolist() == [64_667, 7_352, 7_464]
    assert table["ner spans"].tolist() == [2_268, 262, 272]
    assert {s.genre for split in corpus.splits.values() for s in split} == {"nw", "mz"}
    kinds = {tag[2:] for s in corpus.train for tag in s.tags["ner"]} - {""}
    assert kinds == {"PERSON", "ORG", "LOC", "DATE"}


def test_document_and_folder_agree_in_masc(masc, tmp_path):
    "And a file that is put into the folder of another genre is found."
    for s in read_ontonotes(masc / "test"):
        assert s.genre in ("nw", "mz")
    file = next((masc / "test").rglob("mz/masc/00/*gold_conll"))
    wrong = tmp_path / "nw" / "masc" / "00"
    wrong.mkdir(parents=True)
    shutil.copyfile(file, wrong / file.name)
    with pytest.raises(FormatError, match="is of genre mz, but the file lies in folder nw"):
        read_ontonotes(tmp_path)


def test_chunks_of_masc_are_those_of_the_reference(masc, data_dir):
    "The reference converter's answer for the same files: the same words, and nearly the same tags."
    text = (data_dir / "chunklink" / "chunklink_masc_test.txt").read_text(encoding="utf-8")
    lines = [line.split() for line in text.splitlines() if not line.startswith("# ")]
    theirs = [
        (tuple(f[0] for f in block), [f[-1] for f in block])
        for filled, group in groupby(lines, key=bool)
        if filled and (block := list(group))
    ]
    ours = {s.words: s.tags["chunk"] for s in read_ontonotes(masc / "test", entities=False)}
    assert {words for words, _ in theirs} == set(ours)
    pairs = [p for words, tags in theirs for p in zip(ours[words], tags, strict=True)]
    assert sum(a == b for a, b in pairs) >= 0.999 * len(pairs) > 7_000
