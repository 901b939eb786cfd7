"A corpus of one's own: which files are which split, and what is said of those that do not fit."

import warnings
from pathlib import Path

import pytest

from sparse_sharing.tagging.declared import (
    Declared,
    by_task,
    column_problems,
    hold_out,
    named_tasks,
    read_columns,
    read_each,
    split_files,
)
from sparse_sharing.tagging.sentences import FormatError, Sentence

ROWS = "Ada\tNNP\tB-PER\nMoss\tNNP\tI-PER\nfell\tVBD\tO\n"
DECLARED = dict(columns="word pos ner", schemes="ner=bioes")


@pytest.fixture
def folder(here) -> Path:
    "Three files and others beside them."
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        (here / name).write_text(ROWS)
    (here / "README.md").write_text("read me")
    (here / ".train.swp").write_text("not read")
    return here


# --- which file is which split


@pytest.mark.parametrize(
    "names",
    [
        ("train.txt", "dev.txt", "test.txt"),
        ("train.txt", "valid.txt", "test.txt"),
        ("eng.train", "eng.testa", "eng.testb"),
        ("en_x-ud-train.conllu", "en_x-ud-dev.conllu", "en_x-ud-test.conllu"),
        ("Train.BIO", "Devel.BIO", "Test.BIO"),
    ],
)
def test_names_tell_the_split(here, names):
    for name in names:
        (here / name).write_text(ROWS)
    got = split_files(".")
    assert [files[0].name for files in got.values()] == list(names)
    assert list(got) == ["train", "dev", "test"]


def test_splits_can_be_said(folder):
    said = "train=train.tsv dev=10% test=[dt]e[vs]*.tsv"
    got = split_files(".", said)
    assert got["dev"] == 0.1
    assert got["test"] == [Path("dev.tsv"), Path("test.tsv")]
    same = split_files(".", {"train": "train.tsv", "dev": "10%", "test": "[dt]e[vs]*.tsv"})
    assert same == got
    files = {"train": "train.tsv", "dev": "dev.tsv", "test": Path("test.tsv")}
    assert split_files(files)["test"] == [Path("test.tsv")]
    (folder / "more").mkdir()
    (folder / "train.tsv").rename(folder / "more/a.tsv")
    (folder / "dev.tsv").rename(folder / "more/b.tsv")
    got = split_files(".", "train=more dev=20% test=test.tsv")
    assert got["train"] == [Path("more/a.tsv"), Path("more/b.tsv")]


@pytest.mark.parametrize(
    "said, kind, message",
    [
        ("train=train.tsv", ValueError, "splits are train: give train, dev and test"),
        ("dev=10%", ValueError, "splits are dev: give train, dev and test"),
        ("train=a dev=b test=c x=d", ValueError, "splits are train, dev, test, x: give train, dev"),
        ("train=train.tsv dev=0% test=10%", ValueError, "splits: 0% is no share: write 10%, say"),
        ("train=train.tsv dev=x% test=10%", ValueError, "splits: x% is no share: write 10%, say"),
        ("train=10% dev=dev.tsv test=test.tsv", ValueError, "splits: train is held out from"),
        (
            "train=train.tsv dev=dev.tsv test=dev.tsv",
            *(FormatError, "dev.tsv: is in dev and in test. Give each its own files."),
        ),
        (
            "train=train.tsv dev=*.tsv test=test.tsv",
            *(FormatError, "train.tsv: is in train and in dev. Give each its own files."),
        ),
        (
            "train=nowhere dev=dev.tsv test=test.tsv",
            *(FileNotFoundError, "nowhere: no such file or folder. Check the path."),
        ),
        (
            "train=*.x dev=dev.tsv test=test.tsv",
            *(FileNotFoundError, ".: no file matches *.x. Check folder and pattern."),
        ),
        ("train", ValueError, "splits 'train': write each name once, as in ner=bioes"),
    ],
)
def test_splits_that_make_no_sense(folder, said, kind, message):
    with pytest.raises(kind) as e:
        split_files(".", said)
    assert str(e.value).startswith(message)


def test_a_split_that_no_name_tells(folder):
    (folder / "dev.tsv").rename(folder / "tuning.tsv")
    with pytest.raises(FormatError, match=r"^\.: no file could be the dev split. Say which is"):
        split_files(".")
    (folder / "dev.txt").write_text(ROWS)
    (folder / "valid.txt").write_text(ROWS)
    with pytest.raises(FormatError, match=r"^\.: dev.txt, valid.txt could be the dev split"):
        split_files(".")
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        split_files("nowhere")


# --- reading


def test_a_corpus_is_read_as_declared(folder):
    corpus = read_columns(".", **DECLARED)
    assert (corpus.name, corpus.layers) == ("columns", ("pos", "ner"))
    assert corpus.dev == [
        Sentence(
            ("Ada", "Moss", "fell"), {"pos": ("NNP", "NNP", "VBD"), "ner": ("B-PER", "E-PER", "O")}
        )
    ]
    assert (corpus.scheme("ner"), corpus.scheme("pos")) == ("bioes", "none")
    corpus.check()
    kept = read_columns(".", "word pos ner", "ner=none", name="mine")
    assert kept.train[0].tags["ner"] == ("B-PER", "I-PER", "O") and kept.name == "mine"
    kept.check()


def test_one_file_can_be_all(here):
    (here / "all.tsv").write_text("".join(f"w{i}\tX\n\n" for i in range(50)))
    corpus = read_columns("all.tsv", "word x", splits="dev=10% test=20%")
    assert [len(s) for s in corpus.splits.values()] == [36, 5, 9]
    words = [{s.words for s in split} for split in corpus.splits.values()]
    assert len(set.union(*words)) == 50
    again = read_columns("all.tsv", "word x", splits="dev=10% test=20%")
    assert again.checksum == corpus.checksum


def test_nothing_may_be_left_to_train_on(here):
    (here / "all.tsv").write_text("w\tX\n")
    with pytest.raises(FormatError, match="nothing is left to train on. Hold out less."):
        read_columns("all.tsv", "word x", splits="dev=10% test=20%")


def test_sentences_with_the_same_words_stay_together():
    sentences = [Sentence((f"w{i % 20}",), {"n": (str(i),)}) for i in range(100)]
    kept, held = hold_out(sentences, 0.1)
    assert not {s.words for s in kept} & {s.words for s in held}
    assert [s for s in sentences if s in held] == held and len(held) == 10
    assert hold_out(sentences, 0.1, seed=1)[1] != held


def test_a_warning_for_tags_that_training_lacks(folder):
    (folder / "test.tsv").write_text("Ada\tFW\tO\n")
    with pytest.warns(UserWarning, match="^pos tag FW is in test .words: 1, the first in sentence"):
        read_columns(".", **DECLARED)


@pytest.mark.parametrize(
    "split, content, message",
    [
        ("dev", "", "dev.tsv:1: no sentence in this file. Give one with a word per line."),
        ("test", "\n\n", "test.tsv:1: no sentence in this file. Give one with a word per line."),
        (
            "dev",
            "Ada\nfell\n",
            "dev.tsv:1: expected 3 columns (word pos ner), found 1. Text without",
        ),
        ("test", "Ada\tNNP\n", "test.tsv:1: expected 3 columns (word pos ner), found 2. Mend"),
        ("dev", "Ada\tNNP\t\n", "dev.tsv:1: the ner field is empty. Fill it in, or mend the"),
        ("dev", "Ada\t\tO\n", "dev.tsv:1: the pos field is empty. Fill it in, or mend the tabs."),
        ("train", "Ada\tNNP\t?\n", "train.tsv:1: ? is no ner tag. Write O, or one of B- I-"),
        ("train", "Ada\tB-X\tO\n", "train.tsv:1: pos tags such as B-X mark spans. Declare the"),
    ],
)
def test_the_split_and_the_file_are_named(folder, split, content, message):
    (folder / f"{split}.tsv").write_text(content)
    with pytest.raises(FormatError) as e:
        read_columns(".", **DECLARED)
    assert str(e.value).startswith(message)
    assert str(e.value).endswith(f"(This is the {split} split.)")
    assert len(column_problems(".", **DECLARED)) >= 1


def test_all_problems_of_all_splits_are_listed(folder):
    (folder / "train.tsv").write_text("Ada\tNNP\nfell\tVBD\n")
    (folder / "test.tsv").write_text("Ada\tNNP\tS-X\nfell\tVBD\tB-X\n")
    got = column_problems(".", **DECLARED)
    assert [line.split(" ")[0] for line in got] == ["train.tsv:1:", "train.tsv:2:", "test.tsv:2:"]


# --- what would be read, and be wrong


def write(folder, text):
    for split in ("train", "dev", "test"):
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "text, columns",
    [
        ("word\tpos\nAda\tNNP\n", "word pos"),
        ("1 Token NER\n2 Ada B-PER\n", "_ word ner"),
        ("token\tlabel\nAda\tX\n", "word kind"),
        ("FORM\tUPOS\nAda\tX\n", "word kind"),
        ("id word tag lemma\n1 Ada X ada\n", "_ word kind stem"),
    ],
)
def test_a_header_is_no_word(here, text, columns):
    with pytest.raises(FormatError, match=r"train\.txt:1: this looks like a header"):
        read_columns(write(here, text), columns)


def test_a_word_of_a_header_may_be_a_word(here):
    corpus = read_columns(write(here, "text\tNN\nword\tNN\n"), "word pos")
    assert corpus.train[0].words == ("text", "word")
    for line in ("text\tNN\ttag\n", "tag\tlabel\tpos\n"):  # one name, or none of the words
        corpus = read_columns(write(here, line), "word a b")
        assert len(corpus.train[0].words) == 1
    assert read_columns(write(here, "Text\nhere\n"), "word").train[0].words == ("Text", "here")


def test_words_of_a_treebank_that_has_other_columns(here):
    text = "1-2\tdu\t_\n1\tde\tADP\n2\tle\tDET\n3\tpain\tNOUN\n"
    corpus = read_columns(write(here, text), "_ word upos")
    assert corpus.train[0].words == ("de", "le", "pain")
    plain = read_columns(write(here, "7 a X\n7 b X\n"), "_ word upos")  # some other number
    assert plain.train[0].words == ("a", "b")


def test_a_tag_that_may_be_none_is_told(here):
    folder = write(here, "a\tX\nb\t_\n")
    with pytest.warns(UserWarning, match=r"train\.txt:2: 1 of 2 pos tags are _"):
        read_columns(folder, "word pos")
    with pytest.raises(FormatError, match="tags such as B-PER mark spans"):
        read_columns(write(here, "a\tB-PER\nb\t_\n"), "word ner")
    assert read_columns(write(here, "a\tX\nb\t_\n"), "word pos", "pos=none").train


def test_splits_are_said_once(folder):
    with pytest.raises(ValueError, match="splits names a file for train"):
        split_files("train.tsv", "train=dev.tsv dev=40% test=40%")
    with pytest.raises(ValueError, match="give one of the two"):
        split_files(dict(train="train.tsv", dev="10%", test="10%"), "train=dev.tsv")
    with pytest.raises(ValueError, match="is a pattern, and those are counted from"):
        split_files(".", f"train={folder.resolve()}/tr*.tsv dev=10% test=10%")


def test_a_name_with_signs_of_a_pattern_is_a_name(here):
    (here / "a[1].tsv").write_text(ROWS)
    got = split_files(".", "train=a[1].tsv dev=40% test=40%")
    assert got["train"] == [Path("a[1].tsv")]


def put_apart(here, train="Ada N\n\nBo N\n", test="Ada N\n"):
    "Two tasks with files of their own."
    for task, tag in (("pos", "N"), ("who", "B-person")):
        (here / task).mkdir()
        for split, text in (("train", train), ("dev", test), ("test", test)):
            (here / task / f"{split}.txt").write_text(text.replace("N", tag))


def test_each_task_has_files_of_its_own(here):
    put_apart(here)
    said = by_task(["pos", "who"], "pos: word pos; who: word who", "who=iob2>bilou")
    assert said["pos"] == Declared("word pos", {}, "")
    assert said["who"].columns == "word who" and set(said["who"].schemes) == {"who"}
    corpora = read_each(here, said)
    assert corpora["pos"].layers == ("pos",) and corpora["who"].scheme("who") == "bilou"
    assert corpora["who"].train[0].tags == {"who": ("U-person",)}


def test_one_declaration_for_the_files_of_all_tasks(here):
    said = by_task(["a", "b"], "word a b", "", "a: train=x dev=y test=z")
    assert said["a"] == Declared("word a b", {}, "train=x dev=y test=z")
    assert said["b"] == Declared("word a b", {}, "")
    assert named_tasks("a: word a; b: word b") == ("a", "b") and named_tasks("word a") == ()


def test_a_task_that_its_files_lack_is_named(here):
    put_apart(here)
    with pytest.raises(ValueError, match="columns has no layer who: it has pos"):
        read_each(here, {"who": Declared("word pos", {"pos": "iob2"}, "")})


def test_a_split_that_training_has_is_told(here):
    lines = "\n\n".join(f"word{i} N" for i in range(20)) + "\n"
    for split in ("train", "dev"):
        (here / f"{split}.txt").write_text(lines)
    (here / "test.txt").write_text("\n\n".join(f"other{i} N" for i in range(20)) + "\n")
    with pytest.warns(UserWarning, match="20 of the 20 sentences of dev are in training too"):
        read_columns(here, "word pos")


@pytest.mark.parametrize(
    "split, what",
    [
        ("train", "no model can learn one"),
        ("dev", "F1 is 0 at every epoch, and nothing tells the best"),
        ("test", "F1 is 0 there, whatever a model does"),
    ],
)
def test_a_split_without_a_span_is_told(here, split, what):
    for name in ("train", "dev", "test"):
        (here / f"{name}.txt").write_text(
            "Ada O X\n" if name == split else "Ada B-PER X\nfell O X\n"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_columns(here, "word ner pos", "ner=bioes")
    told = [str(w.message) for w in caught if "has no span" in str(w.message)]
    assert told == [f"{split} has no span of the layer ner: {what}. Give it sentences with some"]


def held_out(often):
    "What is warned of a share, if one sentence is there so many times among a hundred others."
    words = [f"w{i}" for i in range(100)]
    (first,) = hold_out([Sentence((word,), {}) for word in words], 0.01)[1]
    words += first.words * often
    Path("all.txt").write_text("\n\n".join(f"{word} X" for word in words))
    Path("test.txt").write_text("other X\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        corpus = read_columns("all.txt", "word x", splits="dev=10% test=test.txt")
    told = [str(w.message) for w in caught if "was to be" in str(w.message)]
    return corpus, told


def test_a_share_that_comes_out_much_larger_is_told(here):
    assert held_out(0)[1] == []
    corpus, (warning,) = held_out(60)
    held = len(corpus.dev)
    assert held > 60 and warning.startswith(
        f"dev was to be 10% of the sentences, and is {held / 160:.0%} of them"
    )
    assert "one is there 61 times" in warning
    assert corpus.dev == hold_out(corpus.train + corpus.dev, 0.1)[1]  # the split is as it was
