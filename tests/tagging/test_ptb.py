"Penn trees and columns, the standard sections, and the real sample."

import pytest

from sparse_sharing.tagging.columns import read_conll
from sparse_sharing.tagging.ptb import ptb_corpus, read_ptb
from sparse_sharing.tagging.schemes import breaks
from sparse_sharing.tagging.sentences import FormatError

TREE = "( (S (NP-SBJ (NNP Ada) ) (VP (VBD sold) (NP (NNS maps) )) (. .) ))\n"


def put(path, text="( (NP (NNP Lima) ))\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# --- what is read


def test_trees(here):
    put(here / "x.mrg", f"\n{TREE}{TREE}")
    first, second = read_ptb("x.mrg")
    assert first == second
    assert first.words == ("Ada", "sold", "maps", ".")
    assert first.tags == {
        "pos": ("NNP", "VBD", "NNS", "."),
        "chunk": ("B-NP", "B-VP", "B-NP", "O"),
    }


def test_traces_shape_chunks_but_are_no_words(here):
    "With its subject as a trace the infinitive is part of the verb chunk; without, it is not."
    text = "(S (NP (PRP We) ) (VP (VBP want) (S {}(VP (TO to) (VP (VB go) )))))"
    put(here / "with.MRG", text.format("(NP (-NONE- *-1) )") + "\n((S (-NONE- 0) ))")
    put(here / "without.mrg", text.format(""))
    (s,), (t,) = read_ptb("with.MRG"), read_ptb("without.mrg")
    assert s.words == t.words == ("We", "want", "to", "go")
    assert s.tags["pos"] == ("PRP", "VBP", "TO", "VB")
    assert s.tags["chunk"] == ("B-NP", "B-VP", "I-VP", "I-VP") != t.tags["chunk"]


def test_columns(here):
    put(here / "x.txt", "( (\nAda\tNNP\r\n\n1\\/2 CD\n")
    assert [(s.words, s.tags) for s in read_ptb("x.txt")] == [
        (("(", "Ada"), {"pos": ("(", "NNP")}),
        (("1\\/2",), {"pos": ("CD",)}),
    ]


def test_a_folder_of_trees_is_read_without_its_other_files(here):
    put(here / "d/01/b.mrg", "(NN b)")
    put(here / "d/00/a.mrg", "(NN a)")
    put(here / "d/00/a.pos", "[ a/NN ]")
    put(here / "d/README", "read me")
    assert [s.words for s in read_ptb("d")] == [("a",), ("b",)]
    put(here / "e/a.txt", "a NN\n")
    put(here / "e/b.txt", "b NN\n")
    assert [s.words for s in read_ptb("e")] == [("a",), ("b",)]


# --- splits


@pytest.mark.parametrize(
    "name", ["wsj_{:02d}07.mrg", "{:02d}/x.mrg", "wsj/{:02d}/WSJ_{:02d}07.MRG"]
)
def test_sections(here, name):
    for section in range(25):
        put(here / name.format(section, section), f"(NP (NNP s{section}))")
    put(here / "brown/cf/cf01.mrg", "(NN no)")
    put(here / "99/x.mrg", "(NN no)")
    put(here / "wsj_2500.mrg", "(NN no)")
    corpus = ptb_corpus(here)
    assert (corpus.name, corpus.layers) == ("ptb", ("pos", "chunk"))
    got = [[s.words[0] for s in split] for split in corpus.splits.values()]
    want = [range(19), range(19, 22), range(22, 25)]
    assert got == [[f"s{n}" for n in sections] for sections in want]


def test_sections_in_columns(here):
    for section in range(25):
        put(here / f"wsj_{section:02d}.tsv", f"s{section} NN\n")
    put(here / "README.txt", "not a column file")
    put(here / "2012.txt", "notes of a year, in no section")
    corpus = ptb_corpus(here)
    assert (corpus.name, corpus.layers) == ("ptb", ("pos",))
    assert [len(split) for split in corpus.splits.values()] == [19, 3, 3]


def test_the_sample(here):
    for number in range(1, 200):
        put(here / f"{number // 100:02d}/wsj_{number:04d}.mrg", f"(NN {number})")
    corpus = ptb_corpus(here)
    assert corpus.name == "ptb_sample"
    got = [[int(s.words[0]) for s in split] for split in corpus.splits.values()]
    assert got == [list(range(1, 160)), list(range(160, 180)), list(range(180, 200))]
    put(here / "02/wsj_0200.mrg")
    with pytest.raises(FormatError, match="missing sections: 03, 04, 05, 06, 07 and 17 more"):
        ptb_corpus(here)


# --- what is refused


CLOSE = "Close them."
BAD = {
    "empty": ("", "no tree with words in this file. Take it out.", 1),
    "only a trace": ("\n(S (-NONE- *))", "no tree with words in this file. Take it out.", 1),
    "never ends": (
        "(NN a)\n(S\n(NP (NN b))\n",
        "the tree that starts here never ends: 1 bracket is not closed.",
        2,
    ),
    "two never end": ("((NP\n(NN b)\n", "the tree that starts here never ends: 2 brackets", 1),
    "never opened": ("(NN a)\n)\n", "a bracket closes that was never opened: take it out.", 2),
    "outside": ("(NN a)\n\nb\n", "b stands outside all brackets: take it out.", 3),
    "no word": ("(NP\n(NN ))", "(NN) holds no word: write (POS word), or take it out.", 2),
    "two words": (
        "(NP\n(NN a b))",
        "b follows the word a: give each word its own (POS word).",
        2,
    ),
    "bare word": ("(NP (NN a)\nb)", "b stands beside phrases: write it as (POS b).", 2),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_tree(here, name):
    text, message, line = BAD[name]
    put(here / "x.mrg", text)
    with pytest.raises(FormatError) as e:
        read_ptb("x.mrg")
    assert str(e.value).startswith(f"x.mrg:{line}: {message}")


def test_malformed_column_file(here):
    put(here / "x.pos", "Ada NNP\n[ Moss/NNP ]\n")
    with pytest.raises(FormatError, match=r"^x.pos:2: expected 2 columns \(word pos\), found 3\."):
        read_ptb("x.pos")


def test_latin1_tree(here):
    (here / "x.mrg").write_bytes(b"(NP\n(NN caf\xe9))")
    with pytest.raises(FormatError, match="^x.mrg:2: byte 0xe9 is not UTF-8. Convert the file"):
        read_ptb("x.mrg")


def test_malformed_folder(here):
    with pytest.raises(FileNotFoundError, match="^nowhere: no such file or folder. Check the path"):
        read_ptb("nowhere")
    cure = (
        "Give all of the Wall Street Journal (sections 00 to 24), or all of the sample "
        "(wsj_0001.mrg to wsj_0199.mrg)."
    )
    put(here / "some/wsj_0002.mrg")
    put(here / "half/wsj_2401.mrg")
    put(here / "none/x.mrg")
    for number in range(1, 200):
        put(here / f"twice/a/wsj_{number:04d}.mrg")
        put(here / f"lack/wsj_{number:04d}.mrg")
    (here / "lack/wsj_0017.mrg").unlink()
    put(here / "twice/b/WSJ_0042.mrg")
    for folder, message in [
        ("some", f"some: missing files: 0001, 0003, 0004, 0005, 0006 and 193 more. {cure}"),
        ("lack", f"lack: missing files: 0017. {cure}"),
        ("half", f"half: missing sections: 00, 01, 02, 03, 04 and 19 more. {cure}"),
        ("none", f"none: missing files: 0001, 0002, 0003, 0004, 0005 and 194 more. {cure}"),
        (
            "twice",
            "twice/b/WSJ_0042.mrg:1: the same file as twice/a/wsj_0042.mrg. Keep one of the two.",
        ),
    ]:
        with pytest.raises(FormatError) as e:
            ptb_corpus(folder)
        assert str(e.value) == message


# --- the real sample


def test_the_sample_has_its_published_counts(data_dir):
    corpus = ptb_corpus(data_dir / "ptb_sample")
    table = corpus.describe()
    assert corpus.name == "ptb_sample"
    assert table.sentences.tolist() == [3_396, 273, 245]
    assert table.tokens.tolist() == [81_793, 6_327, 5_964]
    assert (table.sentences.sum(), table.tokens.sum()) == (3_914, 94_084)
    tags = {tag for split in corpus.splits.values() for s in split for tag in s.tags["pos"]}
    assert len(tags) == 45 and "-NONE-" not in tags
    for split in corpus.splits.values():
        assert not any(breaks(s.tags["chunk"], "iob2") for s in split)


def test_the_sample_reads_as_the_reference_converter_does(data_dir):
    "Words and parts of speech of the first 99 files to the letter, chunks nearly so."
    file = data_dir / "chunklink" / "chunklink_0001-0099.txt"
    theirs = read_conll(file, ("word", "pos", "chunk"))
    files = sorted((data_dir / "ptb_sample").glob("wsj_00*.mrg"))
    ours = [s for file in files for s in read_ptb(file)]
    assert len(files) == 99 and len(ours) == len(theirs) == 1_921
    assert [s.words for s in ours] == [s.words for s in theirs]
    assert [s.tags["pos"] for s in ours] == [s.tags["pos"] for s in theirs]
    pairs = [
        p
        for a, b in zip(ours, theirs, strict=True)
        for p in zip(a.tags["chunk"], b.tags["chunk"], strict=True)
    ]
    assert sum(a == b for a, b in pairs) >= 0.999 * len(pairs)
