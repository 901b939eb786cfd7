"A tagger: what it says, that a folder of it says the same, and the command on pipes."

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ROOT

from sparse_sharing.files import Damaged, load_json, save_json
from sparse_sharing.masks import Mask
from sparse_sharing.optim import SubnetSGD
from sparse_sharing.sharing import (
    HardSharing,
    HierarchicalSharing,
    SingleTask,
    SoftSharing,
    SparseSharing,
)
from sparse_sharing.tagging.batches import Vocabulary, encode
from sparse_sharing.tagging.crf import CRFHead, crf_head
from sparse_sharing.tagging.declared import read_columns
from sparse_sharing.tagging.encoder import Encoder, Sizes, linear_head
from sparse_sharing.tagging.generated import generate
from sparse_sharing.tagging.schemes import SCHEMES, breaks, convert, spans
from sparse_sharing.tagging.sentences import Corpus, Sentence
from sparse_sharing.tagging.tagger import Tagger, in_scheme

CORPUS = generate(30, 5, 12)
VOCAB = Vocabulary.build(CORPUS)
SIZES = Sizes(word=6, char=4, filters=5, hidden=5, layers=2)
TASKS = ("pos", "chunk", "ner")
TEXT = [list(s.words) for s in CORPUS.test]
SYSTEMS = ("single", "subnets", "hard", "soft", "hierarchical", "sparse")


def model(system: str, head: str = "linear"):
    "Any system, with random weights."
    torch.manual_seed(1)
    encoder = Encoder(VOCAB, SIZES)
    heads = {}
    for task in TASKS:
        if head == "crf":
            heads[task] = crf_head(VOCAB.tags[task], SIZES, VOCAB.schemes[task])
        else:
            heads[task] = linear_head(len(VOCAB.tags[task]), SIZES)
    masks = {
        task: Mask.random(encoder, 0.5, torch.Generator().manual_seed(i))
        for i, task in enumerate(TASKS)
    }
    return {
        "single": lambda: SingleTask(encoder, heads),
        "subnets": lambda: SingleTask(encoder, heads, masks),
        "hard": lambda: HardSharing(encoder, heads),
        "soft": lambda: SoftSharing(encoder, heads),
        "hierarchical": lambda: HierarchicalSharing(
            encoder, heads, {"pos": 1, "chunk": 2, "ner": 2}
        ),
        "sparse": lambda: SparseSharing(encoder, heads, masks),
    }[system]()


def one_by_one(tagger: Tagger) -> list[dict[str, tuple[str, ...]]]:
    "Each sentence alone, each task alone, from the model's own scores."
    tags = []
    tagger.model.eval()
    for words in TEXT:
        split = encode([Sentence(tuple(words), {})], VOCAB, layers=())
        batch = next(split.in_order())
        row = {}
        for task in TASKS:
            with torch.no_grad():
                scores = tagger.model(batch, task=task)
            head = tagger.model.heads[task]
            best = scores.argmax(2)
            if isinstance(head, CRFHead):
                best = head.decode(scores, [len(words)])
            row[task] = tuple(VOCAB.tags[task][i] for i in best.flatten().tolist())
        tags.append(row)
    return tags


@pytest.mark.parametrize("head", ["linear", "crf"])
@pytest.mark.parametrize("system", SYSTEMS)
def test_all_tasks_at_once_and_a_folder_that_says_the_same(tmp_path, system, head):
    tagger = Tagger(model(system, head), VOCAB, {"data": "generated", "epochs": 3})
    tagged = tagger.tag(TEXT)
    assert [s.tags for s in tagged] == one_by_one(tagger)
    assert [list(s.words) for s in tagged] == TEXT
    tagger.save(tmp_path / "a/b")
    again = Tagger.load(tmp_path / "a/b")
    assert again.tag(TEXT) == tagged
    assert (again.tasks, again.vocab) == (TASKS, VOCAB)
    assert again.about == {"data": "generated", "epochs": 3}
    files = {p.name.partition("-")[0] for p in (tmp_path / "a/b").iterdir()}
    masked = {"mask"} if tagger.model.masks else set()
    assert files == {"model.json", "weights"} | masked
    assert again.model.count_parameters() == tagger.model.count_parameters()


def test_evaluation_mode_is_set_and_put_back():
    tagger = Tagger(model("hard"), VOCAB)
    tagger.model.train()
    assert tagger.tag(TEXT) == tagger.tag(TEXT)  # dropout would differ
    assert tagger.model.training
    tagger.model.eval()
    tagger.tag(TEXT)
    assert not tagger.model.training


def test_schemes_and_spans():
    tagger = Tagger(model("sparse", "crf"), VOCAB)
    plain = tagger.tag(TEXT)
    for scheme in ("iob1", "iob2", "ioe1", "ioe2", "bioes", "bilou"):
        for s in tagger.tag(TEXT, {"chunk": scheme}):
            assert breaks(s.tags["chunk"], scheme) == []
    other = tagger.tag(TEXT, {"ner": "BIO2"})
    assert [s.tags["chunk"] for s in other] == [s.tags["chunk"] for s in plain]
    for s, found in zip(plain, tagger.spans(TEXT), strict=True):
        assert set(found) == {"chunk", "ner"}
        words = [i for first, stop, _ in found["ner"] for i in range(first, stop)]
        assert words == [i for i, tag in enumerate(s.tags["ner"]) if tag != "O"]


@pytest.mark.parametrize(
    "text, schemes, message",
    [
        (["a b"], {}, "sentence 1 is a text: split it into words, as in text.split()"),
        ([["a"], []], {}, "sentence 2 needs words, none of them empty"),
        ([["a", ""]], {}, "sentence 1 needs words, none of them empty"),
        ([["a", 3]], {}, "sentence 1 needs words, none of them empty"),
        ([["a"]], {"x": "io"}, "no task 'x': this tagger knows pos, chunk, ner"),
        ([["a"]], {"ner": "bio3"}, "no scheme is called 'bio3'"),
        ([["a"]], {"pos": "bioes"}, "tags of pos are in none, which bioes cannot say"),
        ([["a"]], {"ner": "none"}, "tags of ner are in bioes, which none cannot say"),
    ],
)
def test_what_cannot_be_tagged(text, schemes, message):
    with pytest.raises(ValueError) as e:
        Tagger(model("hard"), VOCAB).tag(text, schemes)
    assert str(e.value).startswith(message)


def test_nothing_gives_nothing_and_anything_is_read():
    tagger = Tagger(model("hard"), VOCAB)
    assert tagger.tag([]) == []
    sentence = Sentence(("Ada",), {"pos": ("?",)}, genre="nw")
    assert tagger.tag([sentence])[0].genre == "nw"
    with pytest.warns(UserWarning, match="more than 256 characters"):
        (odd,) = tagger.tag([["\u200b", "a b", "x" * 9999, "#", "日本"]])
    assert len(odd.tags["ner"]) == 5


def test_progress_is_told():
    told = []
    lengths = [["w"] * 3000, ["w"] * 3000, ["w"]]
    Tagger(model("hard"), VOCAB).tag(lengths, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 6001), (3001, 6001), (6001, 6001)]


# --- a folder


def kept(folder):
    Tagger(model("sparse"), VOCAB).save(folder)
    return folder


def weights_of(folder):
    (path,) = folder.glob("weights-*.safetensors")
    return path


def say(folder, change):
    "Change what a folder says of its tagger, with checksums that are right."
    path = folder / "model.json"
    about = load_json(path)
    about["notes"]["tagger"] |= change
    save_json(path, about)


def test_a_folder_that_is_no_tagger(tmp_path):
    with pytest.raises(ValueError, match="nowhere holds no model: there is no model.json in it"):
        Tagger.load(tmp_path / "nowhere")
    weights_of(kept(tmp_path / "a")).unlink()
    with pytest.raises(Damaged, match="weights-[0-9a-f]{16}.safetensors is missing"):
        Tagger.load(tmp_path / "a")
    model("sparse").save(tmp_path / "b")
    with pytest.raises(ValueError, match="b holds a model, but no tagger: load it with `Sharing.l"):
        Tagger.load(tmp_path / "b")


@pytest.mark.parametrize(
    "name, damage",
    [
        ("model.json", lambda data: data.replace(b"SparseSharing", b"HardSharing")),
        ("model.json", lambda data: data[:-100]),
        ("model.json", lambda data: b""),
        ("model.json", lambda data: b"[]"),
        ("model.json", lambda data: b"\x80\x04."),
        ("weights", lambda data: data[:-3]),
        ("weights", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        ("weights", lambda data: b""),
        ("weights", lambda data: b"\x80\x04." + data),
    ],
)
def test_damage_is_named(tmp_path, name, damage):
    (path,) = kept(tmp_path / "a").glob(f"{name}*")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(Damaged, match=name):
        Tagger.load(tmp_path / "a")


def test_files_of_two_taggers_are_not_mixed(tmp_path):
    kept(tmp_path / "a")
    other = model("hard")
    torch.nn.init.ones_(other.encoder.layers[0].ltr.bias_hh_l0)
    Tagger(other, VOCAB).save(tmp_path / "b")
    weights_of(tmp_path / "a").replace(weights_of(tmp_path / "b"))
    with pytest.raises(Damaged, match="it is not the file that model.json speaks of"):
        Tagger.load(tmp_path / "b")


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": {"hidden": 7}},
        {"sizes": {"colour": 7}},
        {"heads": {"pos": "linear"}},
        {"heads": dict.fromkeys(TASKS, "magic")},
        {"heads": dict.fromkeys(TASKS, "crf=magic")},
        {"heads": dict.fromkeys(TASKS, 3)},
        {"vocabulary": {}},
        {"sizes": 3},
    ],
)
def test_a_folder_that_was_made_up(tmp_path, change):
    "With checksums that are right: what it says does not fit together."
    say(kept(tmp_path / "a"), change)
    with pytest.raises(Damaged, match="model.json"):
        Tagger.load(tmp_path / "a")


def test_a_kind_of_sharing_that_was_made_up(tmp_path):
    path = kept(tmp_path / "a") / "model.json"
    save_json(path, load_json(path) | {"kind": "magic"})
    with pytest.raises(Damaged, match="holds a magic, not a Sharing"):
        Tagger.load(tmp_path / "a")


def test_a_later_format_is_refused(tmp_path):
    say(kept(tmp_path / "a"), {"format": 3})
    with pytest.raises(ValueError, match="of format 3, this version reads 2: install the version"):
        Tagger.load(tmp_path / "a")


class Own(Encoder):
    "The weights of an `Encoder`, and another computation."

    def forward(self, batch):
        return -super().forward(batch)


class Deeper(Encoder):
    "With weights of its own."

    def __init__(self, *args):
        super().__init__(*args)
        self.last = torch.nn.Linear(10, 10)

    def forward(self, batch):
        return self.last(super().forward(batch))


class Tilted(HardSharing):
    "A way of sharing of one's own."

    def run_encoder(self, task, *args, **kwargs):
        return -super().run_encoder(task, *args, **kwargs)


def tagging(head: torch.nn.Module | None = None, encoder=Encoder, way=HardSharing, task="pos"):
    "A model of one task."
    head = head or linear_head(len(VOCAB.tags[task]), SIZES)
    return way(encoder(VOCAB, SIZES), {task: head})


def changed(change):
    "A model of names to which something was done."
    its = tagging(crf_head(VOCAB.tags["ner"], SIZES, "bioes"), task="ner")
    change(its)
    return its


def masked(encoder=Own):
    "Subnets that have been used, so that modules have classes of their own."
    encoder = encoder(VOCAB, SIZES)
    masks = {"pos": Mask.random(encoder, 0.5, torch.Generator().manual_seed(0))}
    its = SparseSharing(encoder, {"pos": linear_head(len(VOCAB.tags["pos"]), SIZES)}, masks)
    Tagger(its, VOCAB).tag(TEXT)
    assert type(its.encoder.layers[0].ltr) is not torch.nn.LSTM
    return its


def tied():
    "Two heads with one weight."
    heads = {task: linear_head(len(VOCAB.tags["pos"]), SIZES) for task in ("pos", "too")}
    heads["too"][1].weight = heads["pos"][1].weight
    return HardSharing(Encoder(VOCAB, SIZES), heads)


N_POS = len(VOCAB.tags["pos"])
TANH = torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(10, N_POS))
OTHERS = {
    "another network": (
        lambda: HardSharing(torch.nn.Linear(3, 4), {"pos": torch.nn.Linear(4, 2)}),
        "the model has no Stem",
    ),
    "own encoder": (lambda: tagging(encoder=Own), "encoder: test_tagger.Own, where a loaded"),
    "own encoder, masked": (masked, "encoder: test_tagger.Own, where a loaded tagger has"),
    "own encoder with masked weights of its own": (
        lambda: masked(Deeper),
        "an Encoder does not fit the model .*last",
    ),
    "own sharing": (lambda: tagging(way=Tilted), "Tilted is a way of sharing of your own"),
    "own head": (lambda: tagging(TANH), "heads.pos.0: torch.nn.modules.activation.Tanh, where"),
    "deep head": (
        lambda: tagging(torch.nn.Sequential(torch.nn.Linear(10, N_POS))),
        "heads.pos.0: torch.nn.modules.linear.Linear, where",
    ),
    "own scorer": (
        lambda: tagging(CRFHead(TANH, VOCAB.tags["pos"])),
        "heads.pos.scorer.0: torch.nn.modules.activation.Tanh, where",
    ),
    "plain scorer": (
        lambda: tagging(CRFHead(torch.nn.Linear(10, N_POS), VOCAB.tags["pos"])),
        "heads.pos.scorer: torch.nn.modules.linear.Linear, where",
    ),
    "other dropout": (
        lambda: tagging(linear_head(N_POS, Sizes(hidden=5, dropout=0.25))),
        "heads.pos.0.below: 64, where a loaded tagger has 128",
    ),
    "other tags": (
        lambda: tagging(crf_head(VOCAB.tags["pos"][::-1], SIZES)),
        "the CRF of pos has other tags than the vocabulary",
    ),
    "other rules": (
        lambda: changed(lambda its: its.heads["ner"].forbidden.zero_()),
        r"heads.ner.forbidden: \[\[False",
    ),
    "another forward": (
        lambda: changed(lambda its: setattr(its.encoder, "forward", lambda batch: 0)),
        "encoder.forward: <function",
    ),
    "numbers of another type": (
        lambda: changed(lambda its: its.double()),
        r"heads.ner.start: \(torch.float64, ",
    ),
    "largest norm": (
        lambda: changed(lambda its: setattr(its.encoder.stem.words, "max_norm", 0.1)),
        "encoder.stem.words.max_norm: 0.1, where a loaded tagger has None",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_that_would_be_loaded_as_another_is_not_kept(tmp_path, name):
    made, message = OTHERS[name]
    with pytest.raises(TypeError, match=message) as e:
        Tagger(made(), VOCAB).save(tmp_path)
    assert not list(tmp_path.iterdir())
    if name != "other tags":  # which are cured in another way
        assert "Keep another model with `model.save(folder)`, and read it with `" in str(e.value)
        assert "Sharing.load(folder, encoder, heads)`" in str(e.value) or name == "own sharing"


def test_weights_that_two_heads_share_are_not_kept(tmp_path):
    vocab = replace(
        VOCAB,
        tags={**VOCAB.tags, "too": VOCAB.tags["pos"]},
        schemes={**VOCAB.schemes, "too": "none"},
    )
    with pytest.raises(
        TypeError, match="what is tied: .*too.1.weight.*, where a loaded tagger has"
    ):
        Tagger(tied(), vocab).save(tmp_path)


def test_what_matters_in_training_alone_is_no_difference(tmp_path):
    model = masked(Encoder)
    model.encoder.stem.words.sparse = False  # as Adam wants it
    model.train()
    tagger = Tagger(model, VOCAB)
    tagger.save(tmp_path)
    assert Tagger.load(tmp_path).tag(TEXT) == tagger.tag(TEXT)


@pytest.mark.parametrize(
    "task, scheme, kind",
    [("ner", "none", "crf=none"), ("ner", "bioes", "crf"), ("pos", "io", "crf=io")],
)
def test_a_crf_comes_back_in_its_own_scheme(tmp_path, task, scheme, kind):
    "A folder says it only where the scheme is not that of the tags: other folders are as they were."
    torch.manual_seed(0)
    tagger = Tagger(tagging(crf_head(VOCAB.tags[task], SIZES, scheme), task=task), VOCAB)
    torch.nn.init.normal_(tagger.model.heads[task].transitions)
    tagger.save(tmp_path)
    assert load_json(tmp_path / "model.json")["notes"]["tagger"]["heads"] == {task: kind}
    again = Tagger.load(tmp_path)
    assert again.model.heads[task].scheme == scheme
    assert again.tag(TEXT) == tagger.tag(TEXT)


def test_saving_goes_on_from_whatever_was_there(tmp_path):
    "A folder that is written over holds one tagger; what is no model is left alone."
    folder = kept(tmp_path / "a")
    other = Tagger(model("hard"), VOCAB)
    other.save(folder)
    assert Tagger.load(folder).tag(TEXT) == other.tag(TEXT)
    assert len(list(folder.iterdir())) == 2
    (tmp_path / "b").mkdir()
    (tmp_path / "b/model.json").write_text("mine")
    with pytest.raises(ValueError, match="model.json is damaged"):
        other.save(tmp_path / "b")
    assert (tmp_path / "b/model.json").read_text() == "mine"


def test_words_that_were_given_a_vector_before_training_are_known_when_it_is_loaded(tmp_path):
    "Rows behind the others. Training meets none of these words, and their vectors come back as they were."
    assert not {"lake", "pond"} & set(VOCAB.words)
    vocab = replace(VOCAB, words=(*VOCAB.words, "lake", "pond"))
    vectors = vocab.vectors({"lake": np.full(6, 2.0), "pond": np.full(6, 3.0)}, 6, seed=0)
    model = HardSharing(
        Encoder(vocab, SIZES, vectors), {"pos": linear_head(len(vocab.tags["pos"]), SIZES)}
    )
    train = encode(CORPUS.train, vocab, ["pos"])
    optimizer = SubnetSGD(model, lr=0.1, momentum=0.9)
    for batch in train.in_order(10):
        scores, gold = model(batch, task="pos").flatten(0, 1), batch.tags["pos"].flatten()
        torch.nn.functional.cross_entropy(scores, gold, ignore_index=-100).backward()
        optimizer.step("pos")
        optimizer.zero_grad()
    Tagger(model, vocab).save(tmp_path)
    again = Tagger.load(tmp_path)
    table = again.model.encoder.stem.words.weight
    assert table[-2:].mean(1).tolist() == [2, 3]
    assert not torch.equal(table[2:-2], vectors[2:-2])
    assert encode([Sentence(("Pond",), {})], again.vocab, ()).form_words.tolist() == [
        len(table) - 1
    ]


# --- the scheme that files were in


def learnt_from(folder, ner: dict[str, str]) -> Tagger:
    "A tagger of files: train in some schemes, a file each, kept in BIOES. IO and IOE1 are declared."
    for i, (name, scheme) in enumerate(ner.items()):
        blocks = []
        for s in CORPUS.train[i::2]:
            tags = convert(s.tags["ner"], "bioes", scheme)
            blocks.append("".join(f"{w}\t{t}\n" for w, t in zip(s.words, tags, strict=True)))
        (folder / name).write_text("\n".join(blocks), encoding="utf-8")
    (declared,) = {f"{scheme}>" if scheme in ("io", "ioe1") else "" for scheme in ner.values()}
    splits = dict(train="train*", dev="10%", test="10%")
    corpus = read_columns(folder, "word ner", f"ner={declared}bioes", splits=splits)
    vocab = Vocabulary.build(corpus)
    heads = {"ner": crf_head(vocab.tags["ner"], SIZES, "bioes")}
    torch.manual_seed(3)
    return Tagger(HardSharing(Encoder(vocab, SIZES), heads), vocab)


@pytest.mark.parametrize("scheme", list(SCHEMES))
def test_tags_come_out_in_the_scheme_they_came_in(tmp_path, scheme):
    "Recognised or declared, and also once the tagger was kept in a folder."
    tagger = learnt_from(tmp_path, {"train.txt": scheme})
    tagger.save(tmp_path / "kept")
    again = Tagger.load(tmp_path / "kept")
    assert (again.scheme("ner"), again.file_scheme("ner")) == ("bioes", scheme)
    plain, asked = again.tag(TEXT), again.tag(TEXT, "as_read")
    assert asked == again.tag(TEXT, {"ner": "as_read"}) == again.tag(TEXT, f"ner={scheme}")
    for ours, said in zip(asked, plain, strict=True):
        assert breaks(ours.tags["ner"], scheme) == []
        if scheme != "io":
            assert spans(ours.tags["ner"], scheme) == spans(said.tags["ner"], "bioes")
    assert any(set(s.tags["ner"]) != {"O"} for s in asked)


def test_files_in_several_schemes_have_none_in_common(tmp_path):
    tagger = learnt_from(tmp_path, {"train1.txt": "iob2", "train2.txt": "bilou"})
    with pytest.raises(ValueError, match="the files of ner were in several schemes: name one, as"):
        tagger.tag(TEXT, "as_read")
    assert tagger.tag(TEXT, "ner=iob2")


def test_a_corpus_of_no_file_comes_out_as_it_is_kept():
    tagger = Tagger(model("hard"), VOCAB)
    assert tagger.tag(TEXT, "as_read") == tagger.tag(TEXT)


def test_io_cannot_keep_neighbours_apart():
    said = ("B-X", "E-X", "S-X", "S-Y", "O")
    assert in_scheme(said, "bioes", "io") == ("X", "X", "X", "Y", "O")


def test_the_folder_says_what_it_was_made_with(tmp_path):
    about = json.loads((kept(tmp_path / "a") / "model.json").read_text())
    its = about["notes"]["tagger"]
    assert its["made_with"]["torch"] == torch.__version__
    assert about["kind"] == "SparseSharing" and its["sizes"]["layers"] == 2


@pytest.mark.e2e
def test_reading_and_tagging_need_neither_pandas_nor_seqeval(tmp_path):
    "Tables do, and then the extra that brings pandas is named."
    folder = kept(tmp_path / "a")
    code = f"""
import sys
for name in ("pandas", "seqeval", "matplotlib", "seaborn", "scipy"):
    sys.modules[name] = None
from sparse_sharing.tagging.columns import read_conll
from sparse_sharing.tagging.declared import read_columns
from sparse_sharing.tagging.corpora import read_corpus
from sparse_sharing.tagging.vectors import read_vectors
from sparse_sharing.tagging.tagger import Tagger
print(Tagger.load({str(folder)!r}).tag([["Ada"]])[0].words)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "('Ada',)\n"), done.stderr


@pytest.mark.parametrize("system", ["single", "hard", "soft", "hierarchical", "sparse"])
def test_tasks_may_have_any_names(tmp_path, system):
    names = ("type", "train", "ner.en", "named entities/1")
    layers = dict(zip(names, ("pos", "chunk", "ner", "pos"), strict=True))
    sentences = [
        Sentence(s.words, {name: s.tags[layer] for name, layer in layers.items()})
        for s in CORPUS.train
    ]
    schemes = {"train": "iob2", "ner.en": "bioes"}
    vocab = Vocabulary.build(Corpus("any", sentences, sentences, sentences, schemes=schemes))
    torch.manual_seed(0)
    encoder = Encoder(vocab, SIZES)
    heads = {name: linear_head(len(vocab.tags[name]), SIZES) for name in names}
    masks = {name: Mask.random(encoder, 0.5, torch.Generator()) for name in names}
    made = {
        "single": lambda: SingleTask(encoder, heads),
        "hard": lambda: HardSharing(encoder, heads),
        "soft": lambda: SoftSharing(encoder, heads),
        "hierarchical": lambda: HierarchicalSharing(encoder, heads, dict.fromkeys(names, 2)),
        "sparse": lambda: SparseSharing(encoder, heads, masks),
    }[system]()
    tagger = Tagger(made, vocab)
    tagger.save(tmp_path / "a")
    assert Tagger.load(tmp_path / "a").tag(TEXT) == tagger.tag(TEXT)
    assert set(tagger.tag(TEXT)[0].tags) == set(names)
