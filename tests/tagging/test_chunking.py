"""Chunks from trees: against the reference converter, rule by rule, and on text that is no tree.

`python tests/test_chunking.py` measures the agreement with the converter again, and writes the
table that the notebook shows.
"""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from helpers import ROOT
from hypothesis import example, given
from hypothesis import strategies as st

from sparse_sharing.tagging.chunking import (
    HEADS,
    TRACE,
    Tree,
    TreeError,
    chunk_tags,
    read_tree,
    read_trees,
)
from sparse_sharing.tagging.schemes import breaks

RECORDED = ROOT / "nbs" / "results" / "chunking" / "agreement.csv"
Sentence = tuple[Tree, list[tuple[str, str, str]]]  # a tree; word, part of speech, chunk


# --- The reference converter -----------------------------------------------------------------


def converted(path: Path) -> list[tuple[str, list[tuple[str, str, str]]]]:
    "The converter's sentences: the file that the line above names, if any, and the rows."
    found = []
    for block in path.read_text(encoding="utf-8").split("\n\n"):
        lines = [line for line in block.split("\n") if line]
        name = lines.pop(0) if lines and re.match(r"# \S+$", lines[0]) else ""
        if lines:
            found.append((name.removeprefix("# "), [tuple(line.split(" ")) for line in lines]))
    return found


def wsj(data: Path, first: int, last: int) -> list[Sentence]:
    "Trees of the sample's files `first` to `last`, and what the converter gives for them."
    rows = iter(converted(data / "chunklink" / "chunklink_0001-0099.txt"))
    pairs = []
    for number in range(1, last + 1):
        text = (data / "ptb_sample" / f"wsj_{number:04}.mrg").read_text(encoding="utf-8")
        here = [(tree, next(rows)[1]) for _, tree in read_trees(text)]
        pairs += here if number >= first else []
    return pairs


def conll2012_trees(text: str) -> Iterator[Tree]:
    "The trees of a file in the layout of CoNLL-2012, whose parse bits have a `*` for each word."
    for block in re.sub(r"^#.*\n", "", text, flags=re.M).split("\n\n"):
        rows = [line.split() for line in block.split("\n") if line]
        if rows:
            yield read_tree("".join(r[5].replace("*", f" ({r[4]} {r[3]})") for r in rows))


def masc(data: Path) -> list[Sentence]:
    "The trees of the MASC test files, and what the converter gives for them."
    pairs, trees = [], {}
    for name, rows in converted(data / "chunklink" / "chunklink_masc_test.txt"):
        if name not in trees:
            (path,) = (data / "masc_conll2012" / "test").rglob(Path(name).name)
            trees[name] = conll2012_trees(path.read_text(encoding="utf-8"))
        pairs.append((next(trees[name]), rows))
    assert trees and not any(list(rest) for rest in trees.values())
    return pairs


def bare(tree: Tree) -> Tree:
    "The tree without traces and function tags."
    done: dict[int, Tree | None] = {}
    for node in reversed(list(tree.walk())):
        if node.word is not None:
            done[id(node)] = None if node.label == TRACE else node
        else:
            parts = tuple(part for c in node.children if (part := done[id(c)]))
            label = re.split("[-=]", node.label)[0]
            done[id(node)] = Tree(label, children=parts) if parts else None
    result = done[id(tree)]
    assert result is not None
    return result


def agreement(data: Path) -> pd.DataFrame:
    "Counts of trees and words, and of words with the converter's tag."
    parts = {
        "WSJ sample, files 0001 to 0049": wsj(data, 1, 49),
        "WSJ sample, files 0050 to 0099": wsj(data, 50, 99),
        "MASC test trees": masc(data),
        "WSJ sample, files 0001 to 0099, traces and function tags removed": [
            (bare(tree), rows) for tree, rows in wsj(data, 1, 99)
        ],
    }
    table = {}
    for name, pairs in parts.items():
        tags = [(chunk_tags(tree), [tag for _, _, tag in rows]) for tree, rows in pairs]
        table[name] = {
            "trees": len(pairs),
            "words": sum(len(rows) for _, rows in pairs),
            "agree": sum(a == b for pair in tags for a, b in zip(*pair, strict=True)),
        }
    return pd.DataFrame(table).T.rename_axis("data")


@pytest.fixture(scope="module")
def sentences(data_dir) -> dict[str, list[Sentence]]:
    return {"wsj": wsj(data_dir, 1, 99), "masc": masc(data_dir)}


@pytest.mark.parametrize("name, trees, words", [("wsj", 1921, 46451), ("masc", 405, 7464)])
def test_every_word_has_the_tag_that_the_converter_gives(sentences, name, trees, words):
    pairs = sentences[name]
    assert len(pairs) == trees and sum(len(rows) for _, rows in pairs) == words
    for tree, rows in pairs:
        assert [pos for _, pos in tree.tokens()] == [pos for _, pos, _ in rows]
        assert chunk_tags(tree) == tuple(tag for _, _, tag in rows), tree


def test_the_words_of_a_penn_tree_are_those_of_the_converter(sentences):
    for tree, rows in sentences["wsj"]:
        assert tree.tokens() == [(word, pos) for word, pos, _ in rows]


def test_the_recorded_agreement_is_what_is_measured(data_dir):
    recorded = pd.read_csv(RECORDED, index_col="data")
    pd.testing.assert_frame_equal(agreement(data_dir), recorded)


def test_real_trees_survive_writing_and_reading(sentences):
    for tree, _ in sentences["wsj"] + sentences["masc"]:
        assert read_tree(str(tree)) == tree


def test_all_trees_of_the_sample_and_of_masc_have_legal_tags(data_dir):
    "Also those for which we have no answer of the converter."
    texts = [p.read_text(encoding="utf-8") for p in sorted((data_dir / "ptb_sample").glob("*.mrg"))]
    trees = [tree for text in texts for _, tree in read_trees(text)]
    assert len(trees) == 3914 and sum(len(t.tokens()) for t in trees) == 94084
    folded = sorted((data_dir / "masc_conll2012").rglob("*_gold_conll"))
    trees += [t for p in folded for t in conll2012_trees(p.read_text(encoding="utf-8"))]
    assert len(trees) == 3914 + 3308 + 379 + 405
    for tree in trees:
        tags = chunk_tags(tree)
        assert len(tags) == len(tree.tokens()) and breaks(tags, "iob2") == []


# --- Rule by rule ----------------------------------------------------------------------------


def chunks(text: str) -> str:
    "The words of a tree, chunks in square brackets."
    tree, parts = read_tree(text), []
    for (word, _), tag in zip(tree.tokens(), chunk_tags(tree), strict=True):
        if tag[0] == "I":
            parts[-1] = f"{parts[-1][:-1]} {word}]"
        else:
            parts.append(word if tag == "O" else f"[{tag[2:]} {word}]")
    return " ".join(parts)


RULES = r"""
# the head is the last word that may be one
(NP (DT the) (NN cat))
    [NP the cat]
(NP (NN cat) (CC and) (NN dog))
    [NP cat and dog]
(NP (NN cat) (, ,) (CC and))
    [NP cat] , and
(NP (MD might))
    might
(NP (NNP May) (CD 3))
    [NP May 3]
(NP (DT a) (NN year) (RBR earlier))
    [NP a year earlier]
(NP (XX cat))
    cat
(NP (`` ``) (NN cat) ('' ''))
    [NP `` cat] ''
(NP (-LRB- -LRB-) (NN cat) (-RRB- -RRB-))
    [NP -LRB- cat] -RRB-
# phrases with a chunk, and without
(WHNP (WP who))
    [NP who]
(WHPP (IN of) (WHNP (WDT which)))
    [PP of] [NP which]
(WHADVP (WRB why))
    [ADVP why]
(WHADJP (WRB how) (JJ old))
    [ADJP how old]
(FRAG (RB not) (NP (NN cat)))
    not [NP cat]
(X (NN cat))
    cat
(NN cat)
    cat
(NP-SBJ=2 (NN cat))
    [NP cat]
(NP=2 (NN cat))
    [NP cat]
(ADVP|PRT (RP up))
    [ADVP up]
( (NP (NN cat)))
    [NP cat]
# noun phrases inside noun phrases
(NP (NP (DT a) (NN cat)) (, ,) (NP (DT a) (NN pet)))
    [NP a cat] , [NP a pet]
(NP (DT both) (NP (NN cat)) (CC and) (NP (NN dog)))
    [NP both] [NP cat] and [NP dog]
(NP (DT an) (QP (RB about) (CD 2)) (NNS cats))
    [NP an about 2 cats]
(NP (DT a) (NN year) (QP (CC or) (CD two)))
    [NP a year or two]
(NP (NAC (NNP Oslo) (, ,)) (NN cat))
    [NP Oslo , cat]
(NP (DT a) (NX (NX (NN cat)) (CC and) (NX (NN dog))))
    [NP a cat and dog]
(NP (PRP$ my) (NX-TTL (NP (NN Cat)) (PP (IN of) (NP (NNS Cats)))))
    [NP my] [NP Cat] [PP of] [NP Cats]
(NP (DT the) (NML (NN tin) (NN can)) (NN lid))
    [NP the] tin can [NP lid]
# adjectives and unlike parts inside noun phrases
(NP (DT a) (ADJP (RB so) (JJ old)) (NN cat))
    [NP a so old cat]
(NP (ADJP (RB so) (JJ much)))
    [NP so much]
(NP (NP (NN cat)) (ADJP (JJ fond)))
    [NP cat] [ADJP fond]
(NP (DT a) (ADJP (ADJP (JJ old)) (CC and) (ADJP (JJ fat))) (NN cat))
    [NP a old and fat cat]
(NP (DT a) (UCP (NN city) (CC or) (JJ rural)) (NN cat))
    [NP a city or rural cat]
(NP (NP (NNP Al) (POS 's)) (UCP (NN city) (CC or) (JJ rural)) (NN cat))
    [NP Al] [NP 's] [UCP city or rural] [NP cat]
(NP (DT a) (ADJP (JJ old)) (NN cat) (NP (-NONE- *T*-1)))
    [NP a old cat]
(NP (ADVP (RB nearly)) (DT all))
    [ADVP nearly] [NP all]
# possessives
(NP (NP (NNP Al) (POS 's)) (NN cat))
    [NP Al] [NP 's cat]
(NP (NNP Al) (POS 's))
    [NP Al] [NP 's]
(NP (NP (NP (NNP Al) (POS 's)) (NN cat) (POS 's)) (NN ear))
    [NP Al] [NP 's cat] [NP 's ear]
(NP (NNP Women) (POS 's) (NNP Day))
    [NP Women 's Day]
(NP (NP (NNP Al) (POS 's)) (JJ big) (NN cat))
    [NP Al] [NP 's big cat]
(S (NP (NNP Al) (POS 's)) (VP (VBD fell)))
    [NP Al] [NP 's] [VP fell]
(S (NP (NNP Al) (POS 's)) (. .) (NP (PRP it)))
    [NP Al] [NP 's] . [NP it]
(S (NP (NN cat)) (POS 's) (NP (NN ear)))
    [NP cat] 's [NP ear]
(VP (POS 's) (ADJP (JJ old)))
    [VP 's] [ADJP old]
# verbs
(VP (MD may) (VP (VB be) (VP (VBN had))))
    [VP may be had]
(VP (VBP do) (RB n't) (VP (VB go)))
    [VP do n't go]
(VP (VBP do) (RB n't))
    [VP do] n't
(VP (VBZ is) (ADVP (RB now)) (VP (VBN had)))
    [VP is now had]
(VP (ADVP (RB now)) (VBZ is))
    [VP now is]
(VP (VBZ is) (ADVP (RB now)))
    [VP is] [ADVP now]
(VP (ADVP (RBR more) (IN than)) (VBD fell))
    [VP more than fell]
(VP (VBZ is) (VP (ADVP (RB now)) (VP (VBN had)) (CC or) (VP (VBN lost))))
    [VP is now had] or [VP lost]
(VP (MD can) (VP (CC either) (VP (VB go)) (CC or) (VP (VB stay))))
    [VP can] either [VP go] or [VP stay]
(VP (VBD came) (CC and) (VBD went))
    [VP came and went]
(VP (VBZ is) (, ,) (VP (VBN had)))
    [VP is] , [VP had]
(VP (VBZ is) (IN about) (VP (VBN had)))
    [VP is] about [VP had]
(VP (VBZ is) (DT all) (VP (VBN had)))
    [VP is] all [VP had]
(VP (VBD had) (PP (IN for) (NP (CD 2))) (VP (VBN had)))
    [VP had] [PP for] [NP 2] [VP had]
(VP (PP (IN for) (NP (CD 2))) (VBZ has) (VP (VBN had)))
    [PP for] [NP 2] [VP has] [VP had]
(VP (VBD did) (VP (-NONE- *?*) (ADVP (RB too))))
    [VP did] [ADVP too]
(VP (VBD did) (ADVP (RB so)) (VP (-NONE- *?*)))
    [VP did] [ADVP so]
(VP (MD may) (VP (VB go)) (NN cat))
    [VP may go] cat
(VP (RB not) (VP (VBG going)))
    [VP not going]
(VP (IN past) (NP (NN noon)))
    past [NP noon]
(SINV (VBZ Is) (NP (PRP it)))
    Is [NP it]
# clauses without a subject
(VP (VBZ has) (S (NP (-NONE- *)) (VP (TO to) (VP (VB go)))))
    [VP has to go]
(VP (VBZ has) (S (VP (TO to) (VP (VB go)))))
    [VP has] [VP to go]
(VP (VBZ has) (S-PRP (NP (-NONE- *)) (VP (TO to) (VP (VB go)))))
    [VP has] [VP to go]
(VP (VBZ has) (S (NP (PRP it)) (VP (TO to) (VP (VB go)))))
    [VP has] [NP it] [VP to go]
(VP (VBZ has) (S (NP (-NONE- *)) (ADVP (RB now)) (VP (TO to))))
    [VP has] [ADVP now] [VP to]
(VP (VBD said) (S (NP (-NONE- *)) (VP (-NONE- *?*)) (NP (NN cat))))
    [VP said] [NP cat]
(VP (VBD said) (ADVP (RB so)) (S (NP (-NONE- *)) (VP (-NONE- *?*)) (NP (NN cat))))
    [VP said] [ADVP so] [NP cat]
(VP (VBZ has) (S (ADVP (-NONE- *T*-1)) (VP (TO to))))
    [VP has] [VP to]
(VP (VBN told) (NP (-NONE- *)) (S (NP (-NONE- *)) (VP (TO to))))
    [VP told] [VP to]
(VP (VBZ has) (ADVP (RB yet)) (S (NP (-NONE- *)) (VP (TO to))))
    [VP has yet to]
(VP (VBP say) (`` ``) (S (NP (-NONE- *)) (VP (VBD had))))
    [VP say] `` [VP had]
(VP (S (NP (-NONE- *)) (VP (TO to))) (VBZ is))
    [VP to] [VP is]
# adjectives and adverbs
(ADJP (NP (CD 3) (NNS years)) (JJ old))
    [NP 3 years] [ADJP old]
(ADJP (ADVP (RB now)) (JJ old))
    [ADJP now old]
(ADJP (QP (CD 2) (NNS times)) (JJR older))
    [ADJP 2 times older]
(ADJP (QP ($ $) (CD 2)))
    [ADJP $] 2
(ADJP (ADJP (JJ old)) (CC but) (RB not) (ADVP (RB yet)) (ADJP (JJ fat)))
    [ADJP old] [ADJP but not] [ADVP yet] [ADJP fat]
(ADJP (JJ far) (RBR older) (PP (IN than) (NP (CD 3))))
    [ADJP far older] [PP than] [NP 3]
(ADVP (NP (DT a) (NN year)) (RB ago))
    [NP a year] [ADVP ago]
(ADVP (ADVP (RBR sooner)) (CC and) (ADVP (RBR more)))
    [ADVP sooner] [ADVP and] [ADVP more]
(WHADVP (WRB how) (JJ far))
    [ADVP how] far
(WHADVP (WRB how) (RB badly))
    [ADVP how badly]
# prepositions, conjunctions and the rest
(PP (IN at) (NP (NN noon)))
    [PP at] [NP noon]
(PP (RB just) (IN at) (NP (NN noon)))
    [PP just at] [NP noon]
(PP (ADVP (RB just)) (IN at) (NP (NN noon)))
    [ADVP just] [PP at] [NP noon]
(PP (VBG according) (PP (TO to) (NP (PRP it))))
    [PP according] [PP to] [NP it]
(PP (NNP On) (NP (NN noon)))
    On [NP noon]
(PP (PP (IN at)) (, ,) (CC or) (PP (IN by)))
    [PP at] [PP , or] [PP by]
(PP (RB not) (PP (IN at)) (CC but) (PP (IN by)))
    not [PP at] [PP but] [PP by]
(SBAR (RB even) (IN if) (S (NP (PRP it)) (VP (VBZ is))))
    [SBAR even if] [NP it] [VP is]
(SBAR (RB once) (S (NP (PRP it)) (VP (VBZ is))))
    once [NP it] [VP is]
(PRT (RP up))
    [PRT up]
(INTJ (UH oh) (, ,) (UH no))
    [INTJ oh , no]
(LST (LS 1) (. .))
    [LST 1] .
(LST (LS a) (: -))
    [LST a -]
(CONJP (RB as) (RB well) (IN as))
    [CONJP as well as]
(CONJP (RB not) (TO to) (VB mention))
    [CONJP not] to mention
(UCP (NN city) (CC or) (JJ rural))
    [UCP city or rural]
# breaks
(NP (DT the) (NAC (NN man) (PP (IN of) (NP (NNP Oz)))) (NN book))
    the man [PP of] [NP Oz] [NP book]
(NP (DT a) (ADJP (ADVP (RB once)) (JJ fat)) (NN cat))
    a [ADVP once] [NP fat cat]
(NP (DT a) (ADJP (JJ fat) (PRN (: --) (CC but) (JJ shy))) (NN cat))
    [NP a fat] -- but shy [NP cat]
(VP (VBD tried) (ADVP (RB late) (NP (DT this) (NN year))) (S (NP (-NONE- *)) (VP (TO to))))
    tried late [NP this year] [VP to]
"""


def rules() -> dict[str, str]:
    "Trees and their chunks, from the text above."
    lines = [line.strip() for line in RULES.strip().splitlines() if line[0] != "#"]
    return dict(zip(lines[::2], lines[1::2], strict=True))


@pytest.mark.parametrize("text, expected", rules().items())
def test_a_rule(text, expected):
    assert chunks(text) == expected


NO_HEADS = {
    "NP": "CC MD",
    "WHNP": "CC MD",
    "VP": "CC DT PDT IN RB RBR RBS",
    "PP": "NN NNS NNP NNPS",
    "WHPP": "NN NNS NNP NNPS",
    "ADJP": "CC CD TO",
    "WHADJP": "CC CD TO",
    "WHADVP": "JJ JJR JJS",
    "CONJP": "TO VB",
    "UCP": "CC",
}
SPEECH = (
    "CC CD DT EX FW IN JJ JJR JJS LS MD NN NNS NNP NNPS PDT POS PRP PRP$ RB RBR RBS RP SYM TO UH "
    "VB VBD VBG VBN VBP VBZ WDT WP WP$ WRB # $"
).split()


@pytest.mark.parametrize("phrase", HEADS)
def test_a_single_word_is_a_chunk_if_it_may_be_a_head(phrase):
    kind = phrase.removeprefix("WH")
    alone = {pos: chunks(f"({phrase} ({pos} w))") for pos in SPEECH}
    if phrase == "SBAR":
        outside = set(SPEECH) - {"IN"}
    else:
        outside = set(NO_HEADS.get(phrase, "").split())
    assert {pos for pos, found in alone.items() if found == "w"} == outside
    assert set(alone.values()) <= {"w", f"[{kind} w]"}
    marks = {chunks(f"({phrase} ({pos} w))") for pos in "`` '' , . -LRB- -RRB- XX HYPH NFP".split()}
    assert marks == {"w"}
    assert chunks(f"({phrase} (: w))") == ("[LST w]" if phrase == "LST" else "w")


def test_each_phrase_that_has_chunks_is_in_a_rule():
    labels = {re.split("[-=|]", n.label)[0] for text in rules() for n in read_tree(text).walk()}
    assert set(HEADS) <= labels


def test_traces_hold_a_verb_group_together_that_bare_trees_do_not():
    tree = read_tree("(VP-X (VBZ has) (S (NP-SBJ (-NONE- *-1)) (VP (TO to) (VP (VB go)))))")
    assert chunk_tags(tree) == ("B-VP", "I-VP", "I-VP")
    assert str(bare(tree)) == "(VP (VBZ has) (S (VP (TO to) (VP (VB go)))))"
    assert chunk_tags(bare(tree)) == ("B-VP", "B-VP", "I-VP")


# --- Trees -----------------------------------------------------------------------------------


def test_a_tree_is_what_its_brackets_say():
    tree = read_tree(" (S\n\t(NP (DT the)\r\n (NN cat)) (-NONE- *T*-1) (. .))\n")
    noun = Tree("NP", children=(Tree("DT", "the"), Tree("NN", "cat")))
    assert tree == Tree("S", children=(noun, Tree(TRACE, "*T*-1"), Tree(".", ".")))
    assert tree.tokens() == [("the", "DT"), ("cat", "NN"), (".", ".")]
    assert [n.label for n in tree.walk()] == ["S", "NP", "DT", "NN", TRACE, "."]
    assert str(tree) == "(S (NP (DT the) (NN cat)) (-NONE- *T*-1) (. .))"
    assert represented(repr(tree)) == tree and hash(read_tree(str(tree))) == hash(tree)


def represented(text: str) -> Tree:
    "What the `repr` of a tree says, without running it."
    match = re.fullmatch(r"read_tree\('(.*)'\)", text)
    assert match
    return read_tree(match[1])


def test_a_no_break_space_is_part_of_a_word():
    assert read_tree("(NP (CD 1\u00a0000))").tokens() == [("1\u00a0000", "CD")]


@pytest.mark.parametrize(
    "other", ["(S (NP (NN a) (NN b)))", "(S (NP (NN a)) (NP (NN c)))", "(S (NP (NN a)))", "(NN a)"]
)
def test_trees_differ(other):
    tree = read_tree("(S (NP (NN a)) (NP (NN b)))")
    assert tree != read_tree(other) and read_tree(other) != tree and tree != str(tree)


def test_a_tree_does_not_change():
    tree = read_tree("(NP (NN cat))")
    with pytest.raises(AttributeError):
        tree.label = "VP"
    with pytest.raises((AttributeError, TypeError)):
        tree.colour = "red"


@pytest.mark.parametrize("label, word, children", [("NP", None, ()), ("", None, ())])
def test_a_node_holds_something(label, word, children):
    with pytest.raises(ValueError, match="needs either a word or children"):
        Tree(label, word, children)


def test_a_node_is_not_both():
    with pytest.raises(ValueError, match="NN needs either a word or children"):
        Tree("NN", "cat", (Tree("NN", "cat"),))


def test_lines_are_those_where_trees_start():
    text = "\n\n( (S\n (NN a)))\n(S (NN b)) (S (NN c))\n\n(S\n(NN d))"
    assert [(n, t.tokens()[0][0]) for n, t in read_trees(text)] == [
        *((3, "a"), (5, "b"), (5, "c"), (7, "d"))
    ]


def test_no_trees_in_no_text():
    assert list(read_trees("")) == list(read_trees(" \n\n")) == []


BAD = {
    "(S (NP (NN a))": (1, "the tree that starts here never ends: 1 bracket is not closed"),
    "(NN a)\n(S\n(NP\n(NN a)": (2, "the tree that starts here never ends: 2 brackets are not"),
    "(": (1, "the tree that starts here never ends"),
    "(NN a))": (1, "a bracket closes that was never opened: take it out"),
    "(NN a)\n\n)": (3, "a bracket closes that was never opened"),
    ")": (1, "a bracket closes that was never opened"),
    "()": (1, r"\(\) holds no word: write \(POS word\), or take it out"),
    "(NP (DT a)\n(NN))": (2, r"\(NN\) holds no word"),
    "(NP ())": (1, r"\(\) holds no word"),
    "(NP (DT a) cat)": (1, r"cat stands beside phrases: write it as \(POS cat\)"),
    "((DT a) cat)": (1, "cat stands beside phrases"),
    "(NP\n(NN ice cream))": (2, r"cream follows the word ice: give each word its own \(POS word\)"),
    "(NP the (NN cat))": (1, "a bracket opens after the word the: close its leaf first"),
    "(NN a\n(NN b))": (2, "a bracket opens after the word a"),
    "cat": (1, "cat stands outside all brackets: take it out"),
    "(NN a)\n# note": (2, "# stands outside all brackets"),
    "*)": (1, r"\* stands outside all brackets"),
}


@pytest.mark.parametrize("text, line, message", [(t, *rest) for t, rest in BAD.items()])
def test_what_is_no_tree_is_said_to_be_none(text, line, message):
    with pytest.raises(TreeError, match=message) as caught:
        list(read_trees(text))
    assert caught.value.line == line
    with pytest.raises(ValueError):
        read_tree(text)


@pytest.mark.parametrize(
    "text, line, message",
    [("\n", 1, "no tree here"), ("(NN a)\n\n(NN b)", 3, "a second tree starts here")],
)
def test_one_tree_is_one(text, line, message):
    with pytest.raises(TreeError, match=message) as caught:
        read_tree(text)
    assert caught.value.line == line


def test_trees_before_a_mistake_are_given():
    trees = read_trees("(NN a)\n(NN b\n")
    assert next(trees)[0] == 1
    with pytest.raises(TreeError):
        next(trees)


# --- Any tree at all -------------------------------------------------------------------------

OTHERS = "S S-PRP SINV NP-SBJ NP-TTL VP QP NX NAC NML X PRN".split()
PHRASES = st.sampled_from([*HEADS, *OTHERS, ""])
TAGS = "NN NNS JJ DT POS POS CC RB VB VBD MD TO IN CD $ , . : `` WP WRB LS UH XX".split()
WORDS = st.text(st.characters(exclude_characters=" \t\n\r\f\v()", codec="utf-8"), min_size=1)
LEAVES = st.builds(Tree, st.sampled_from(TAGS), WORDS) | st.just(Tree(TRACE, "*"))


def node(label: str, children: list[Tree]) -> Tree:
    return Tree(label, children=tuple(children))


TREES = st.recursive(
    LEAVES,
    lambda parts: st.builds(node, PHRASES, st.lists(parts, min_size=1, max_size=5)),
    max_leaves=25,
)


@given(TREES)
@example(read_tree("(S (NP (NP (NN a) (POS 's)) (POS 's)) (POS 's))"))
@example(read_tree("(VP (VP (-NONE- *)) (VP (VB a)))"))
def test_every_word_has_a_tag_and_the_tags_are_bio2(tree):
    tags = chunk_tags(tree)
    assert len(tags) == len(tree.tokens()) and breaks(tags, "iob2") == []
    assert {tag[2:] for tag in tags} <= {""} | {phrase.removeprefix("WH") for phrase in HEADS}


def spaced(tree: Tree) -> bool:
    "Whether every word is what the reader would take for one."
    return all(n.word is None or re.fullmatch(r"[^()\s]+", n.word, re.ASCII) for n in tree.walk())


@given(TREES.filter(spaced))
def test_writing_and_reading_give_the_tree_back(tree):
    again = read_tree(str(tree))
    assert again == tree and chunk_tags(again) == chunk_tags(tree)
    assert again.tokens() == tree.tokens() == bare_tokens(tree)


def bare_tokens(tree: Tree) -> list[tuple[str, str]]:
    "Word and part of speech, by calling itself."
    if tree.word is not None:
        return [(tree.word, tree.label)] * (tree.label != TRACE)
    return [token for child in tree.children for token in bare_tokens(child)]


@given(TREES, TREES)
def test_what_follows_in_a_clause_changes_no_tag_but_after_a_possessive(first, second):
    "A clause has no chunk, so that each part is chunked by itself."
    both = chunk_tags(Tree("S", children=(first, second)))
    apart = [*chunk_tags(Tree("S", children=(first,))), *chunk_tags(Tree("S", children=(second,)))]
    here = len(first.tokens())
    if not (here and first.tokens()[-1][1] == "POS"):
        assert list(both) == apart


@given(st.text("() \nab*", max_size=40))
def test_any_text_is_trees_or_an_error_with_its_line(text):
    try:
        trees = list(read_trees(text))
    except TreeError as error:
        assert 1 <= error.line <= text.count("\n") + 1 and str(error)
    else:
        assert [n for n, _ in trees] == sorted(n for n, _ in trees)
        assert all(text.split("\n")[n - 1].count("(") for n, _ in trees)


# --- Depth and time --------------------------------------------------------------------------


@pytest.mark.parametrize("phrase", ["VP", "NP", "NX", "ADJP", "S", "X"])
def test_a_tree_may_be_deep(phrase):
    depth = 10_000
    text = f"({phrase} (MD may) " * depth + "(VB go)" + ")" * depth
    tree = read_tree(text)
    assert tree == read_tree(text) and read_tree(str(tree)) == tree
    assert len(tree.tokens()) == depth + 1 and len(repr(tree)) > depth
    tags = chunk_tags(tree)
    assert len(tags) == depth + 1 and breaks(tags, "iob2") == []
    if phrase == "VP":
        assert tags == ("B-VP", *["I-VP"] * depth)


LINEAR = {
    "many sentences": lambda n: "(S (NP (DT the) (NN cat)) (VP (VBD sat)) (. .))\n" * n,
    "one wide phrase": lambda n: "(NP " + "(JJ big) (, ,) (PP (IN of)) " * n + "(NN cat))",
    "one wide verb phrase": lambda n: "(VP " + "(VB go) (ADVP (RB now)) " * n + ")",
    "a deep verb phrase": lambda n: "(VP (MD may) " * n + "(VB go)" + ")" * n,
    "many possessives": lambda n: "(NP " * n + "(NN cat)" + " (POS 's))" * n,
    "many lines": lambda n: "(NP (NN cat)\n\n\n\n)" * n,
}


@pytest.mark.parametrize("shape", LINEAR)
def test_twice_the_text_takes_about_twice_the_time(shape):
    def seconds(n: int) -> float:
        text, best = LINEAR[shape](n), float("inf")
        for _ in range(3):
            start = time.process_time()
            for _, tree in read_trees(text):
                chunk_tags(tree)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(16_000) < 4 * 3 * seconds(4_000)  # quadratic time would be 16 times


if __name__ == "__main__":
    import os

    folder = Path(os.environ.get("SPARSE_SHARING_DATA", ROOT.parent / "shared" / "data"))
    RECORDED.parent.mkdir(exist_ok=True)
    agreement(folder).to_csv(RECORDED)
