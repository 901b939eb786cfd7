"Which corpus a folder holds, its splits and its oddities; on the real corpora where they are at hand."

import time
import warnings

import pytest

from sparse_sharing.tagging.columns import read_conll
from sparse_sharing.tagging.corpora import (
    DECLARE,
    joined,
    read_conll2000,
    read_conll2003,
    read_corpora,
    read_corpus,
    shared_sentences,
)
from sparse_sharing.tagging.generated import generate
from sparse_sharing.tagging.schemes import breaks
from sparse_sharing.tagging.sentences import Corpus, FormatError, Sentence

ROW = "a NN I-NP I-PER\n"
GOLD = (
    "#begin document ({0}/{1}); part 000\n{0}/{1} 0 0 a NN (TOP(NP*)) - - - - (GPE) -\n"
    "#end document\n"
)


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def conll2003(folder):
    for name in ("eng.train", "eng.testa", "eng.testb"):
        put(folder / name, ROW)


def conll2000(folder, n=20):
    put(folder / "train.txt", "".join(f"w{i} NN B-NP\nx VB B-VP\n\n" for i in range(n)))
    put(folder / "test.txt", "w0 NN B-NP\n")


def sample(folder):
    for number in range(1, 200):
        put(folder / f"wsj_{number:04d}.mrg", f"(NN w{number})")


def ontonotes(folder, source="wsj"):
    for split in ("train", "development", "test"):
        put(folder / split / f"{split}.v4_gold_conll", GOLD.format(f"nw/{source}", split))


# --- CoNLL-2003


@pytest.mark.parametrize(
    "names",
    [
        ("eng.train", "eng.testa", "eng.testb"),
        ("train.txt", "valid.txt", "test.txt"),
        ("train.txt", "dev.txt", "test.txt"),
    ],
)
def test_conll2003_is_found_by_its_names(here, names):
    for i, name in enumerate(names):
        with pytest.raises(FileNotFoundError) as e:
            read_conll2003(".")
        assert str(e.value) == (
            ".: CoNLL-2003 is three files: eng.train, eng.testa, eng.testb; or train.txt, "
            "valid.txt, test.txt; or train.txt, dev.txt, test.txt. Add what lacks."
        )
        (here / name).write_text(f"-DOCSTART- -X- O O\n\n{ROW}\n" + f"{ROW}\n" * i)
    got = read_corpus(here)
    assert got.name == "conll2003"
    assert [len(s) for s in got.splits.values()] == [1, 2, 3]
    assert got.train[0].tags == {"pos": ("NN",), "chunk": ("B-NP",), "ner": ("S-PER",)}


@pytest.mark.parametrize("read", [read_conll2003, read_corpus])
def test_conll2003_warns_of_unseen_tags(here, read):
    for name, text in [
        ("train", ROW),
        ("testa", ROW),
        ("testb", f"{ROW}\n" + "b NN I-ADJP O\n" * 2),
    ]:
        (here / f"eng.{name}").write_text(text)
    with pytest.warns(UserWarning) as caught:
        got = read(".")
    assert [str(w.message).split(" but")[0] for w in caught] == [
        "chunk tag B-ADJP is in test (words: 1, the first in sentence 2)",
        "chunk tag I-ADJP is in test (words: 1, the first in sentence 2)",
        "ner tag O is in test (words: 2, the first in sentence 2)",
    ]
    assert got.test[1].tags["chunk"] == ("B-ADJP", "I-ADJP")


# --- CoNLL-2000


def test_conll2000_holds_out_a_tenth(here):
    conll2000(here / "c", n=96)
    corpus = read_conll2000("c")
    assert (corpus.name, corpus.layers) == ("conll2000", ("chunk",))
    assert [len(split) for split in corpus.splits.values()] == [86, 10, 1]
    every = read_conll("c/train.txt", ("word", "_", "chunk"))
    for split in (corpus.train, corpus.dev):  # in the order of the file
        assert [s for s in every if s in split] == split
    assert {s.words for s in corpus.train} | {s.words for s in corpus.dev} == {
        s.words for s in every
    }
    assert read_corpus("c").checksum == read_conll2000("c", seed=0).checksum == corpus.checksum


def test_what_is_held_out_depends_on_seed_and_words_alone(here):
    conll2000(here / "c", n=40)
    held = [frozenset(s.words[0] for s in read_conll2000("c", seed=i).dev) for i in range(5)]
    assert len(set(held)) == 5 and {len(words) for words in held} == {4}
    assert held[0] == {"w5", "w8", "w15", "w18"}  # on every machine, with every version
    blocks = (here / "c/train.txt").read_text().strip().split("\n\n")
    (here / "c/train.txt").write_text("\n\n".join(reversed(blocks)))
    assert {s.words[0] for s in read_conll2000("c").dev} == held[0]


def test_repeated_sentences_stay_together(here):
    conll2000(here / "c", n=40)
    text = (here / "c/train.txt").read_text()
    (here / "c/train.txt").write_text(text * 7 + text.split("\n\n")[0])
    corpus = read_conll2000("c")
    assert not {s.words for s in corpus.train} & {s.words for s in corpus.dev}
    assert [len(s) for s in corpus.splits.values()] == [253, 28, 1]  # rather than 28.1
    (here / "c/train.txt").write_text(text * 4 + 3 * (text.split("\n\n")[5] + "\n\n"))
    corpus = read_conll2000("c")
    assert not {s.words for s in corpus.train} & {s.words for s in corpus.dev}
    assert [len(s) for s in corpus.splits.values()] == [144, 19, 1]  # rather than 16.3


@pytest.mark.parametrize("name", ["train.txt", "test.txt"])
def test_conll2000_errors(here, name):
    conll2000(here / "c")
    (here / "c" / name).write_text("a NN B-NP\nb NN\n")
    with pytest.raises(FormatError) as e:
        read_conll2000("c")
    assert str(e.value) == (
        f"c/{name}:2: expected 3 columns (word _ chunk), found 2. Mend the line, or give "
        f"the layout in `columns`, where _ skips one. {DECLARE}."
    )
    (here / "c" / name).unlink()
    with pytest.raises(FileNotFoundError) as e:
        read_conll2000("c")
    assert str(e.value) == f"c: CoNLL-2000 is train.txt and test.txt. Add {name}."


# --- which corpus is it?


@pytest.mark.parametrize(
    "write, name, layers",
    [
        (conll2003, "conll2003", ("pos", "chunk", "ner")),
        (conll2000, "conll2000", ("chunk",)),
        (sample, "ptb_sample", ("pos", "chunk")),
        (ontonotes, "ontonotes", ("pos", "chunk", "ner")),
        (lambda folder: ontonotes(folder, "masc"), "masc", ("pos", "chunk", "ner")),
    ],
)
def test_a_corpus_is_known_by_its_files(here, write, name, layers):
    write(here / "some/folder")
    put(here / "some/folder/README.md", "read me")
    put(here / "some/folder/.git/train.txt", "not read")
    corpus = read_corpus("some/folder")
    assert (corpus.name, corpus.layers) == (name, layers)


def test_four_columns_or_two(here):
    for name in ("train.txt", "dev.txt", "test.txt"):
        put(here / "two" / name, "\na NN\n")
        put(here / "three" / name, "a NN B-NP\n")
    two = read_corpus("two")
    assert (two.name, two.layers) == ("ptb", ("pos",))
    with pytest.raises(FormatError, match=r"^three/train.txt:1: expected 4 columns"):
        read_corpus("three")


@pytest.mark.parametrize(
    "row, message",
    [
        ("wrote O\nGhent B-place\n", "2: pos tags such as B-place mark spans."),
        ("wrote VERB\n", "1: VERB is no pos tag of a treebank."),
        ("wrote O\nGhent LOC\n", "1: O is no pos tag of a treebank."),
        ("wrote VBD O\nGhent NNP B-LOC\n", "1: expected 4 columns (word pos chunk ner), found 3."),
        ("Ghent VERB B-NP B-LOC\n", "1: VERB is no pos tag of CoNLL-2003."),
        ("Ghent NNP B-LOC B-LOC\n", "1: B-LOC is no chunk tag of CoNLL-2003."),
        ("a DT B-NP O\nGhent NNP I-NP B-place\n", "2: B-place is no ner tag of CoNLL-2003."),
    ],
)
def test_what_does_not_look_like_the_corpus_is_refused(here, row, message):
    "A file of any kind may be called train.txt: it has to show the tags of the corpus."
    for name in ("train.txt", "dev.txt", "test.txt"):
        put(here / name, row)
    with pytest.raises(FormatError) as e:
        read_corpus(".")
    assert str(e.value).startswith(f"train.txt:{message}") and str(e.value).endswith(f"{DECLARE}.")


@pytest.mark.parametrize(
    "row, message",
    [
        ("a DT O\nGhent NNP B-place\n", "2: B-place is no chunk tag of CoNLL-2000."),
        ("a DT O\nGhent NNP I-LOC\n", "2: I-LOC is no chunk tag of CoNLL-2000."),
        ("a DT O\nGhent NNP LOC\n", "2: LOC is no chunk tag."),
        ("a O\nGhent B-LOC\n", "1: expected 3 columns (word _ chunk), found 2."),
    ],
)
def test_two_files_of_another_kind_are_not_conll2000(here, row, message):
    for name in ("train.txt", "test.txt"):
        put(here / name, row)
    with pytest.raises(FormatError) as e:
        read_corpus(".")
    assert str(e.value).startswith(f"train.txt:{message}") and str(e.value).endswith(f"{DECLARE}.")


def test_unseen_tags_of_every_kind_are_reported(here):
    ontonotes(here)
    put(here / "test/x.v4_gold_conll", GOLD.format("nw", "x").replace("NN", "FW"))
    with pytest.warns(UserWarning, match="^pos tag FW is in test .* no model can predict it"):
        read_corpus(here)


KNOWN = (
    "Give a folder with eng.train, eng.testa, eng.testb (CoNLL-2003); train.txt and test.txt "
    "(CoNLL-2000); wsj_0001.mrg and so on (Penn Treebank); *gold_conll files below train, "
    "development and test (OntoNotes 5.0); or leave `data_dir` empty for the generated corpus. "
    f"{DECLARE}."
)


def test_read_corpus_says_what_to_do(here):
    for i in range(7):
        put(here / f"seven/{i}.mrg", "")
    (here / "x").mkdir()
    conll2003(here / "above/reuters")
    for folder in ("conll", "bank", "more"):
        (conll2003 if folder == "conll" else sample)(here / f"several/{folder}")
    conll2003(here / "mixed")
    sample(here / "mixed/wsj")
    put(here / "part/train/a.gold_conll", GOLD.format("nw", "a"))
    put(here / "bones/train/a.gold_skel", "")
    for kind, path, message in [
        (FileNotFoundError, "y", "y: no such folder. Check `data_dir`."),
        (FileNotFoundError, "mixed/eng.train", "mixed/eng.train: no such folder."),
        (FormatError, "x", f"x: no corpus we know is here, only nothing. {KNOWN}"),
        (
            FormatError,
            "seven",
            "seven: no corpus we know is here, only 0.mrg, 1.mrg, 2.mrg, 3.mrg, 4.mrg and 2 more. "
            + KNOWN,
        ),
        (
            FormatError,
            "above",
            "above: no corpus we know is here, only reuters (below it, conll2003 in reuters). "
            + KNOWN,
        ),
        (
            FormatError,
            "several",
            "several: several corpora are here: ptb in ., ptb in bank, conll2003 in conll, ptb in "
            "more. Give the folder of one.",
        ),
        (
            FormatError,
            "mixed",
            "mixed: several corpora are here: conll2003 in ., ptb in wsj. Give the folder of one.",
        ),
        (FormatError, "part", "part: *gold_conll files are here, but none for dev, test. Give the"),
        (FormatError, "bones", "bones/train/a.gold_skel:1: [WORD] stands where a word should"),
    ]:
        with pytest.raises(kind) as e:
            read_corpus(path)
        assert str(e.value).startswith(message)


# --- three corpora, one task each


def three(folder):
    conll2003(folder / "a")
    conll2000(folder / "b")
    sample(folder / "c/raw")
    ontonotes(folder / "d")
    put(folder / "e/notes.txt", "notes")
    put(folder / ".f/eng.train", ROW)


def test_three_corpora(here):
    three(here)
    got = read_corpora(".")
    assert {task: c.name for task, c in got.items()} == {
        **{"pos": "ptb_sample", "chunk": "conll2000", "ner": "conll2003"}
    }
    assert list(got) == ["pos", "chunk", "ner"]
    assert all(task in corpus.layers for task, corpus in got.items())
    assert got["ner"].checksum == read_corpus("a").checksum


def test_three_corpora_errors(here):
    three(here / "x")
    conll2000(here / "x/bb")
    with pytest.raises(FormatError) as e:
        read_corpora("x")
    assert str(e.value) == (
        "x: b, bb for chunk, but it takes one with conll2000; there is conll2003 in a, conll2000 "
        "in b, conll2000 in bb, ptb in c, ontonotes in d. Keep one of them here."
    )
    (here / "y/a").mkdir(parents=True)
    with pytest.raises(FormatError) as e:
        read_corpora("y")
    assert str(e.value) == (
        "y: no sub-folder for pos, but it takes one with ptb; there is nothing we know. "
        "Add a folder with wsj_0001.mrg and so on (Penn Treebank)."
    )
    with pytest.raises(FileNotFoundError) as e:
        read_corpora("z")
    assert str(e.value) == "z: no such folder. Check `data_dir`."


def test_shared_sentences_by_hand():
    a, bc, d = (Sentence(tuple(words), {}) for words in ("a", "bc", "d"))
    table = shared_sentences(
        {"x": Corpus("x", [a, bc], [a], [d]), "y": Corpus("y", [d], [bc], [bc, bc])}
    )
    assert table.values.tolist() == [
        ["x", "x", "dev", 1, 1, 1],
        ["x", "x", "test", 1, 0, 0],
        ["x", "y", "dev", 1, 1, 2],
        ["x", "y", "test", 2, 2, 2],
        ["y", "x", "dev", 1, 0, 0],
        ["y", "x", "test", 1, 1, 1],
        ["y", "y", "dev", 1, 0, 0],
        ["y", "y", "test", 2, 0, 0],
    ]
    assert list(table) == ["train of", "task", "split", "sentences", "shared", "longest"]


# --- the real thing


@pytest.fixture(scope="module")
def real(data_dir):
    "The three corpora, and what was warned of."
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return read_corpora(data_dir), [str(w.message).split(" but")[0] for w in caught]


def test_conll2003_has_its_published_counts(real, data_dir):
    corpus = real[0]["ner"]
    table = corpus.describe().set_index("split")
    assert corpus.layers == ("pos", "chunk", "ner")
    assert table.sentences.tolist() == [14_041, 3_250, 3_453]
    assert table.tokens.tolist() == [203_621, 51_362, 46_435]
    assert table["ner spans"].tolist() == [23_499, 5_942, 5_648]
    documents = [
        (data_dir / "conll2003" / f"eng.{f}").read_bytes().count(b"-DOCSTART-")
        for f in ("train", "testa", "testb")
    ]
    assert documents == [946, 216, 231]
    assert [sum(x) for x in zip(table.tokens, documents, strict=True)] == [204_567, 51_578, 46_666]


def test_conll2003_is_in_our_schemes(real):
    corpus, messages = real[0]["ner"], real[1]
    for split in corpus.splits.values():
        for s in split:
            assert not breaks(s.tags["chunk"], "iob2") and not breaks(s.tags["ner"], "bioes")
    assert messages == [
        "chunk tag I-LST is in test (words: 2, the first in sentence 1504)",
        "chunk tag I-PRT is in dev (words: 2, the first in sentence 356)",
    ]


def test_results_keep_their_data(real):
    "Recorded results name the data by this checksum; a reader that changes it orphans them."
    corpus = Corpus("conll2003", *real[0]["ner"].splits.values())
    start = time.process_time()
    assert corpus.checksum == "c92306d2fe3b437cea01d9bb8be4e80fc5622a0e650bc54b9dff75c8c3b9c13c"
    assert time.process_time() - start < 2


def test_conll2000_has_its_published_counts(real):
    table = real[0]["chunk"].describe().set_index("split")
    assert real[0]["chunk"].layers == ("chunk",)
    assert table.sentences.tolist() == [8_042, 894, 2_012]
    assert table.tokens.tolist() == [190_623, 21_104, 47_377]
    assert (table.sentences[:2].sum(), table.tokens[:2].sum()) == (8_936, 211_727)
    assert table["chunk spans"].tolist() == [96_279, 10_699, 23_852]
    for split in real[0]["chunk"].splits.values():
        assert not any(breaks(s.tags["chunk"], "iob2") for s in split)
        assert any("#" in s.words for s in split)  # no comments


def test_three_real_corpora_are_almost_disjoint(real):
    "What two of them share are short formulas; the longest is printed once a day."
    table = shared_sentences(real[0])
    assert [c.name for c in real[0].values()] == ["ptb_sample", "conll2000", "conll2003"]
    shared = {
        (r["train of"], r.task, r.split): (r.shared, r.longest)
        for _, r in table.iterrows()
        if r.shared
    }
    assert shared == {
        ("pos", "pos", "test"): (3, 6),
        ("pos", "chunk", "dev"): (4, 32),
        ("pos", "chunk", "test"): (10, 13),
        ("pos", "ner", "test"): (1, 1),
        ("chunk", "pos", "dev"): (1, 2),
        ("chunk", "pos", "test"): (8, 24),
        ("chunk", "chunk", "test"): (13, 16),
        ("chunk", "ner", "test"): (1, 1),
        ("ner", "ner", "dev"): (193, 18),
        ("ner", "ner", "test"): (126, 13),
    }


@pytest.mark.parametrize(
    "folder, name",
    [("ptb_sample", "ptb_sample"), ("masc_conll2012", "masc"), ("conll2000", "conll2000")],
)
@pytest.mark.filterwarnings("ignore")
def test_real_folders_are_known(data_dir, folder, name):
    assert read_corpus(data_dir / folder).name == name


def test_the_folder_of_all_is_no_corpus(data_dir):
    with pytest.raises(FormatError, match="several corpora are here: .* Give the folder of one"):
        read_corpus(data_dir)


def broken(path, columns, layer):
    "How often the tags of a file, as they are written, break IOB1 and BIO2."
    tags = [s.tags[layer] for s in read_conll(path, columns, {layer: "none"})]
    return [[i for t in tags for i in breaks(t, scheme)] for scheme in ("iob1", "iob2")]


def test_slips_of_the_official_files(data_dir):
    iob1, iob2 = broken(data_dir / "conll2003" / "eng.train", ("word", "_", "_", "ner"), "ner")
    assert (len(iob1), len(iob1) + len(iob2)) == (2, 23_429)
    iob1, iob2 = broken(data_dir / "conll2000" / "test.txt", ("word", "_", "chunk"), "chunk")
    assert len(iob1) > 0 and not iob2


def test_corpora_are_joined_with_the_layers_that_all_of_them_have():
    one, other = generate(6, 3, 3, seed=1), generate(4, 2, 2, seed=2)
    every = joined([one.with_layers(["pos", "ner"]), other.with_layers(["pos", "chunk"])])
    assert every.layers == ("pos",) and every.name == "generated"
    assert [len(s) for s in every.splits.values()] == [10, 5, 5]
    assert every.scheme("ner") == "bioes" and every.scheme("chunk") == "iob2"
