"The command on pipes: what goes in, what comes out, and what it says of an input that it cannot read."

import io
import subprocess
import sys

import pytest
import torch
from helpers import ROOT

from sparse_sharing.sharing import HardSharing
from sparse_sharing.tagging.batches import Vocabulary
from sparse_sharing.tagging.command import portions, sentences_of, stream
from sparse_sharing.tagging.encoder import Encoder, Sizes, linear_head
from sparse_sharing.tagging.generated import generate
from sparse_sharing.tagging.tagger import Tagger

CORPUS = generate(30, 5, 12)
TASKS = ("pos", "chunk", "ner")
TEXT = [list(s.words) for s in CORPUS.test]


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    "One with random weights."
    vocab, sizes = Vocabulary.build(CORPUS), Sizes(word=6, char=4, filters=5, hidden=5)
    torch.manual_seed(1)
    heads = {task: linear_head(len(vocab.tags[task]), sizes) for task in TASKS}
    return Tagger(HardSharing(Encoder(vocab, sizes), heads), vocab)


@pytest.fixture(scope="module")
def folder(tagger, tmp_path_factory):
    place = tmp_path_factory.mktemp("command") / "tagger"
    tagger.save(place)
    return place


def run(*arguments: object, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "sparse_sharing.tag", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, timeout=100)


def rows(tagger: Tagger, text: list[list[str]], schemes: str = "") -> str:
    "What should come out for plain words."
    blocks = []
    for s in tagger.tag(text, schemes):
        lines = zip(s.words, *(s.tags[task] for task in TASKS), strict=True)
        blocks.append("".join("\t".join(line) + "\n" for line in lines) + "\n")
    return "".join(blocks)


def said(tagger: Tagger, text: str, **how: object) -> str:
    "What comes out for a text."
    out = io.StringIO()
    stream(tagger, sentences_of(io.BytesIO(text.encode()), **how), out)
    return out.getvalue()


# --- lines


def test_sentences_of_lines():
    data = "\ufeffAda\t1\n\n \nsold \r\nmaps\n".encode()
    found = list(sentences_of(io.BytesIO(data)))
    assert found == [[("Ada\t1", "Ada")], [("sold ", "sold"), ("maps", "maps")]]
    whole = list(sentences_of(io.BytesIO(b"a b\n\nc\n"), whole=True))
    assert whole == [[("a", "a"), ("b", "b")], [("c", "c")]]
    assert [len(p) for p in portions([[("a", "a")] * 3] * 5, 6)] == [2, 2, 1]


TREEBANK = "1-2\tdel\t_\t_\t_\t_\t_\t_\t_\t_"
UNSAID = "looks like a comment. Say --comments '#', or none if it is a word."


@pytest.mark.parametrize(
    "data, how, message",
    [
        (b"a\n\tb\n", {}, "line 2 of the input has no word in column 1."),
        (b"a\tb\nc\n", {"column": 2}, "line 2 of the input has no word in column 2."),
        (
            b"1 a NN\n",
            {"column": 2},
            "line 1 of the input has no word in column 2. Only tabs separate",
        ),
        (b"a\n", {"column": 0}, "line 1 of the input has no word in column 0."),
        (b"a\n\xe9\n", {}, "line 2 of the input: byte 0xe9 is not UTF-8. Convert it, for"),
        (b"a\n\n# text = a\na\n", {}, f"line 3 of the input {UNSAID}"),
        (b"# sent_id = 1\na\n", {}, f"line 1 of the input {UNSAID}"),
        (b"1\ta" + b"\t_" * 8, {}, "line 1 of the input is CoNLL-U: say --column 2."),
        (b"a\nAda NNP B-PER\n", {}, "line 2 of the input has spaces and no tab. If it has columns"),
        (b"Ada\rMoss\r", {}, "line 1 of the input: line ends of old Macs."),
        ("Ada\n".encode("utf-16-le"), {}, "line 1 of the input: a NUL character is no text."),
        (b"# x\n", dict(whole=True, comments="#"), "--lines takes lines as they are"),
        (b"a\n", dict(whole=True, column=1), "--lines takes lines as they are"),
    ],
)
def test_an_input_that_cannot_be_read(data, how, message):
    with pytest.raises(ValueError) as e:
        list(sentences_of(io.BytesIO(data), **how))
    assert str(e.value).startswith(message)


def words_of(text: str, **how: object) -> list[list[str]]:
    "The words of each sentence."
    read = sentences_of(io.BytesIO(text.encode()), **how)
    return [[word for _, word in lines if word] for lines in read]


def test_only_spaces_and_tabs_are_empty():
    "White space of another kind is a word, as it is in files that are learnt from."
    assert words_of("Ada\n\u00a0\nMoss\n") == [["Ada", "\u00a0", "Moss"]]
    assert words_of("Ada\u00a0Moss fell\n", whole=True) == [["Ada\u00a0Moss", "fell"]]


def test_lines_between_documents_are_no_words():
    assert words_of("-DOCSTART- -X- O\n\nAda\nfell\n-DOCSTART-\nMoss\n") == [
        [],
        ["Ada", "fell"],
        ["Moss"],
    ]


def test_a_treebank_of_more_columns_and_a_remark_with_a_tab():
    text = "# text = Ada\tMoss\n1-2\tdu" + "\t_" * 9 + "\n1\tde" + "\t_" * 9 + "\n"
    assert words_of(text, column=2, comments="#") == [["de"]]


NUMBERED = {
    "a sentence": "1\tLast\tO\n2\tspring\tO\n",
    "several, one of them of one word": "1\tYes\n\n1\tIn\n2\tLast\n3\tspring\n\n1\tfell\n",
    "from nought": "0\tLast\n1\tspring\n",
    "through the file": "7\tLast\n8\tspring\n\n9\tit\n10\tfell\n",
    "a treebank of three columns": "1-2\tdel\tx\n1\tLast\tx\n2\tspring\tx\n",
    "with comments": "# a\n1\tLast\n2\tspring\n\n# b\n",
}
NOT_NUMBERED = {
    "a column alone": "1\n2\n3\n",
    "years": "2019\tCD\n2021\tCD\n",
    "a number among words": "1\tCD\nmap\tNN\n",
    "a sentence that does not count": "1\tCD\n2\tCD\n\nAda\tNNP\nfell\tVBD\n",
    "a word without other columns": "1\tCD\n2\n",
    "decimals": "1.5\tCD\n2.5\tCD\n",
    "one number": "1\tCD\n",
}


@pytest.mark.parametrize("name", NUMBERED)
def test_running_numbers_are_no_words(name):
    text = NUMBERED[name]
    with pytest.raises(ValueError, match="the first column of the input counts .* say --column 2"):
        words_of(text, comments="#")
    named = [word for words in words_of(text, column=2, comments="#") for word in words]
    assert " Last spring" in " ".join(["", *named])
    assert words_of(text, column=1, comments="#")


@pytest.mark.parametrize("name", NOT_NUMBERED)
def test_numbers_may_be_words(name):
    assert words_of(NOT_NUMBERED[name]) == words_of(NOT_NUMBERED[name], column=1)


def test_running_numbers_are_found_at_the_head_of_an_endless_text():
    "After some sentences, of which none was given out."
    endless = (line for _ in iter(int, 1) for line in (b"1\tLast\n", b"2\tspring\n", b"\n"))
    with pytest.raises(ValueError, match="counts 1, 2 through each sentence"):
        next(sentences_of(endless))


# --- what comes out


def test_a_stream_is_what_tag_says(tagger):
    source = "\n\n".join("\n".join(f"{w}\tx" for w in words) for words in TEXT)
    out, note = io.StringIO(), io.StringIO()
    count = stream(tagger, sentences_of(io.BytesIO(source.encode())), out, note=note)
    assert count == sum(map(len, TEXT)) and f"{count:,} words" in note.getvalue()
    assert out.getvalue().replace("\tx\t", "\t") == rows(tagger, TEXT)


def test_comments_pass_and_hashes_are_words(tagger):
    text = "# text = Ada #maps\nAda\n#maps\n#\n\n# alone\n\n# next\nsold\n"
    got = said(tagger, text, comments="#").split("\n\n")
    first, last = rows(tagger, [["Ada", "#maps", "#"], ["sold"]]).split("\n\n")[:2]
    assert got == [f"# text = Ada #maps\n{first}", "# alone", f"# next\n{last}", ""]
    assert said(tagger, "# a\n", comments="none", column=1) == rows(tagger, [["# a"]])


def test_a_treebank_keeps_its_lines(tagger):
    words = ["1\tde", "2\tel"]
    text = ["# text = del", TREEBANK, *(w + "\t_" * 8 for w in words), "2.1\tx" + "\t_" * 8]
    got = said(tagger, "\n".join(text) + "\n", column=2, comments="#").split("\n")
    tags = [line.partition("\t")[2] for line in rows(tagger, [["de", "el"]]).split("\n")]
    assert got[:2] == text[:2] and got[4] == text[4]
    assert got[2:4] == [f"{line}\t{its}" for line, its in zip(text[2:4], tags, strict=False)]


def test_ends_of_lines_of_windows(tagger):
    assert said(tagger, "Ada\r\nsold\r\n\r\nmaps\r\n") == said(tagger, "Ada\nsold\n\nmaps\n")


# --- the command


@pytest.mark.e2e
def test_the_command_on_pipes(tagger, folder):
    done = run(folder, "--schemes", "ner=iob2", text=b"Ada\nsold\n\nmaps\n")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == rows(tagger, [["Ada", "sold"], ["maps"]], "ner=iob2")


@pytest.mark.e2e
def test_nothing_comes_of_nothing(folder):
    done = run(folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.e2e
def test_a_reader_may_stop(folder, tmp_path):
    "As `head` does: no traceback."
    (tmp_path / "words").write_bytes(b"Ada\nsold\n\n" * 30_000)  # three portions
    command = [sys.executable, "-m", "sparse_sharing.tag", str(folder)]
    with (tmp_path / "words").open("rb") as words, (tmp_path / "errors").open("wb") as errors:
        pipes = dict(stdin=words, stdout=subprocess.PIPE, stderr=errors)
        with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
            assert process.stdout.readline().startswith(b"Ada\t")
            process.stdout.close()
            assert process.wait(timeout=100) == 0
    assert (tmp_path / "errors").read_bytes() == b""


@pytest.mark.e2e
def test_its_messages(tagger, folder, tmp_path):
    assert run(folder, "--tasks").stdout.decode() == "pos\tnone\nchunk\tiob2\nner\tbioes\n"
    wrong = run(tmp_path / "b")
    assert wrong.returncode == 1 and b"Trace" not in wrong.stderr
    assert wrong.stderr.startswith(b"python -m sparse_sharing.tag: ")
    assert b"holds no model: there is no model.json in it" in wrong.stderr
    wrong = run(folder, text=b"Ada\n\xe9\n")
    assert wrong.returncode == 1 and b"line 2 of the input: byte 0xe9 is not UTF-8" in wrong.stderr
    wrong = run(folder, "--schemes", "nre=iob2", text=b"Ada\n")
    assert wrong.returncode == 1 and b"no task 'nre': this tagger knows pos, chunk" in wrong.stderr
