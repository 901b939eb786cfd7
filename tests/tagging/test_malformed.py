"Files that cannot be read as they stand, and what is said of each: the file, the line, what is wrong, what to do."

import pytest

from sparse_sharing.tagging.columns import read_conll
from sparse_sharing.tagging.sentences import FormatError
from sparse_sharing.tagging.vectors import read_vectors

# --- column files: name -> content, columns (empty: word ner), schemes (empty: ner=bioes), message

LAYOUT = "Mend the line, or give the layout in `columns`, where _ skips one."
RAW = "Text without tags can be tagged, but not learnt from. "
EMPTY = "Nothing stands after its tab: the tag is empty. "
NO_TYPE = "it has no type. Append one to every letter, as in B-TERM."
MISSING = (
    "If it says that a tag is missing, leave these sentences out; if it stands for words outside, "
    "write O."
)
HEADER = "this looks like a header, and not like a word. Take the line out."
COMMENTS = "begin with the word #, as comments do. Say comments=#, or none if it is a word."
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
        f"x:1: expected 2 columns (word ner), found 1. {EMPTY}{LAYOUT}",
    ),
    "empty field in one line": (
        b"a\tO\nb\t\n",
        *("", ""),
        "x:2: the ner field is empty. Fill it in, or mend the tabs.",
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
        "x:1: this is UTF-16. Convert the file with iconv -f utf-16 -t utf-8.",
    ),
    "utf-16 with the large end first": (
        b"\xfe\xff" + "a O\n".encode("utf-16be"),
        *("", ""),
        "x:1: this is UTF-16. Convert the file with iconv -f utf-16 -t utf-8.",
    ),
    "prefix": (b"a O\nb X-NP\n", "", "", f"x:2: X-NP is no ner tag. {TAG}"),
    "letter alone": (b"a O\n\nb O\nc B\n", "", "", f"x:4: B is no ner tag: {NO_TYPE}"),
    "no type": (b"a B-\n", "", "", f"x:1: B- is no ner tag: {NO_TYPE}"),
    "typed O": (b"a O-X\n", "", "", f"x:1: O-X is no ner tag. {TAG}"),
    "lower case": (b"a b-x\n", "", "", "x:1: b-x is no ner tag: its letter is small. Write B-x."),
    "bare types": (b"a PER\nb O\n", "", "", f"x:1: PER is no ner tag. {TAG}"),
    "bare and not": (b"a B-PER\nb LOC\n", "", "", f"x:2: LOC is no ner tag. {TAG}"),
    "BMES": (
        b"a B-X\nb M-X\nc E-X\n",
        *("", ""),
        "x:2: M-X is no ner tag: no scheme has M. Write I-X.",
    ),
    "BMES without types": (
        b"a S\nb B\nc M\nd E\n",
        "",
        "",
        f"x:1: S is no ner tag: {NO_TYPE[:-7]}S-TERM.",
    ),
    "untyped, in IO": (b"a B\nb I\nc O\n", "", "ner=io>bioes", f"x:1: B is no ner tag: {NO_TYPE}"),
    "untyped, kept in IO": (b"a O\nb B\n", "", "ner=io", f"x:2: B is no ner tag: {NO_TYPE}"),
    "a low line, in IO": (
        b"a O\nb B_PER\nc I_PER\n",
        *("", "ner=io>bioes"),
        "x:2: B_PER is no ner tag: '_' is no hyphen. Write B-PER.",
    ),
    "small letters, in IO": (
        b"a o\nb b-per\n",
        *("", "ner=io>bioes"),
        "x:2: b-per is no ner tag: its letter is small. Write B-per.",
    ),
    "the letter behind, in IO": (
        b"a PER-B\nb PER-I\nc O\n",
        *("", "ner=io>bioes"),
        "x:1: PER-B is no ner tag: its letter stands at the end. Write B-PER.",
    ),
    "the letter behind": (
        b"a PER_B\n",
        *("", ""),
        "x:1: PER_B is no ner tag: its letter stands at the end. Write B-PER.",
    ),
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
    "words and sentences of a text": (
        b"Ada fell .\nShe rose .\n",
        *("", ""),
        f"x:1: expected 2 columns (word ner), found 3. {LAYOUT}",
    ),
    "commas": (
        b"Ada,B-X\nfell,O\n",
        *("", ""),
        f"x:1: expected 2 columns (word ner), found 1. {RAW}{LAYOUT}",
    ),
    "json": (
        b'{"words": ["Ada"], "ner": ["O"]}\n',
        *("", ""),
        f"x:1: expected 2 columns (word ner), found 4. {LAYOUT}",
    ),
    "brackets": (
        b"(S (NP Ada)\n(VP fell))\n",
        *("", ""),
        f"x:1: expected 2 columns (word ner), found 3. {LAYOUT}",
    ),
    "a merge that was not finished": (
        b"a O\n<<<<<<< HEAD\nb O\n=======\nb B-X\n>>>>>>> c\n",
        *("", ""),
        f"x:4: expected 2 columns (word ner), found 1. {RAW}{LAYOUT}",
    ),
    "a row of headings": (b"word\ttag\na\tO\n", "", "", f"x:1: {HEADER}"),
    "a row of headings of a treebank": (
        b"FORM\tUPOS\nAda\tX\n",
        "word x",
        "x=none",
        f"x:1: {HEADER}",
    ),
    "a row of headings after a sign": (
        b"# token\tlabel\nAda\tX\n",
        "word x",
        "x=none",
        f"x:1: {HEADER}",
    ),
    "comments that fit": (
        b"# s1\nAda X\n\n# s2\nBo X\n\nCy X\n",
        *("word x", "x=none"),
        f"x:1: 2 of 3 sentences {COMMENTS}",
    ),
    "quotation marks": (b'"Ada"\t"B-X"\n', "", "", f'x:1: "B-X" is no ner tag. {TAG}'),
    "no tag yet": (b"Ada\t_\nfell\tO\n", "", "", f"x:1: _ is no ner tag. {MISSING}"),
    "no tag here": (b"Ada\tS-X\nfell\t-\n", "", "", f"x:2: - is no ner tag. {MISSING}"),
    "dashes alone": (
        b"Ada\t-\n",
        *("word x", "x=none"),
        "x:1: every x tag is -, so this file has no x. Take another column, or skip this one with _.",
    ),
    "nought for O": (b"Ada 0\n", "", "", f"x:1: 0 is no ner tag. {TAG}"),
    "small o": (b"Ada o\n", "", "", f"x:1: o is no ner tag. {TAG}"),
    "another dash": (
        "Ada B–X\n".encode(),
        "",
        "",
        "x:1: B–X is no ner tag: '–' is no hyphen. Write B-X.",
    ),
    "a colon for the hyphen": (
        b"Ada B:X\n",
        "",
        "",
        "x:1: B:X is no ner tag: ':' is no hyphen. Write B-X.",
    ),
    "gzip": (b"\x1f\x8b\x08", "", "", "x:1: this is a gzip archive. Unpack it first."),
    "zip": (b"PK\x03\x04", "", "", "x:1: this is a zip archive. Unpack it first."),
    "UTF-16 without a mark": (
        "a O\n".encode("utf-16le"),
        *("", ""),
        "x:1: a NUL character is no text. Convert the file, for instance with iconv -f utf-16le -t "
        "utf-8.",
    ),
    "two files joined": (
        "\ufeffa N\n\n\ufeffb V\n".encode(),
        *("word pos", "pos=none"),
        "x:3: a byte order mark inside a file, as if two were joined. Take it out.",
    ),
    "a word of a treebank twice": (
        f"{ROW}{ROW}".encode(),
        *("conllu", "upos=none"),
        "x:2: word number 1 follows number 1. Put back what is lost.",
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


# --- word vectors: name -> content, message

PER_LINE = "Text vectors have a word and its numbers per line: "

VECTORS = {
    "a short row": (
        b"the 1 2 3\nriver 1 2\nquay 1 2 3\n",
        f"v:2: 2 numbers, where others have 3. {PER_LINE}is the download complete?",
    ),
    "a long row": (
        b"the 1 2 3\na 1 2 3\nriver 1 2 3 4\n",
        "v:3: 4 numbers, where others have 3. Fetch the file again.",
    ),
    "an empty row": (
        b"the 1 2 3\n\nriver 1 2 3\n",
        f"v:2: 0 numbers, where others have 3. {PER_LINE}is the download complete?",
    ),
    "a header of other vectors": (
        b"400000 100\nthe 1 2 3\n",
        f"v:2: 3 numbers, where others have 100. {PER_LINE}is the download complete?",
    ),
    "fewer rows than said": (
        b"2 3\nthe 1 2 3\n",
        "v:1: the header announces 2 rows, 1 are here. Fetch the file again.",
    ),
    "more rows than said": (
        b"1 3\na 1 2 3\nb 1 2 3\n",
        "v:1: the header announces 1 rows, 2 are here. Fetch the file again.",
    ),
    "words alone": (
        b"the\nriver\n",
        f"v:1: 0 numbers after the word. {PER_LINE}give another file.",
    ),
    "one number": (
        b"the 1\nriver 2\n",
        f"v:1: 1 numbers after the word. {PER_LINE}give another file.",
    ),
    "cut between numbers": (
        b"the 1 2 3\nriver 1 2",
        f"v:2: 2 numbers, where others have 3. {PER_LINE}is the download complete?",
    ),
    "no number": (
        b"the 1 2 3\nriver 1 two 3\n",
        "v:2: could not convert string to float: b'two'. Is it the binary format? Convert it to text.",
    ),
    "not a number": (
        b"the 1 2 3\nriver 1 nan 3\n",
        "v:2: the row of 'river' has nan or inf. Fetch the file again.",
    ),
    "commas": (
        b"the 1,2,3\nriver 1,2,3\n",
        f"v:1: 1 numbers after the word. {PER_LINE}give another file.",
    ),
    "decimal commas": (
        b"the 0,1 0,2\nriver 0,1 0,3\n",
        "v:2: could not convert string to float: b'0,1'. Is it the binary format? Convert it to text.",
    ),
    "Latin-1": (
        b"the 1 2 3\nr\xefver 1 2 3\n",
        "v:2: 'utf-8' codec can't decode byte 0xef in position 1: invalid continuation byte. Is it the binary format? Convert it to text.",
    ),
    "empty": (b"", "v:1: the file is empty. Fetch it again."),
    "a page": (
        b"<html>\n<p>Not found</p>\n",
        f"v:1: 1 numbers after the word. {PER_LINE}give another file.",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_malformed_vectors(here, name):
    content, message = VECTORS[name]
    (here / "v").write_bytes(content)
    with pytest.raises(FormatError) as e:
        read_vectors("v", ["river"])
    assert str(e.value) == message


def test_each_message_names_file_and_line_and_says_what_to_do():
    "Beside these, tests/tagging/test_declared.py has splits, and test_ontonotes.py and test_ptb.py trees."
    messages = [bad[-1] for bad in (*BAD.values(), *VECTORS.values())]
    assert len(messages) >= 80
    for message in messages:
        place, what = message.split(": ", 1)
        assert place.partition(":")[2].isdigit(), message
        assert what.endswith((".", "?")) and len(what.split()) > 5, message
