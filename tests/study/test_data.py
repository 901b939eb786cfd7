"Corpora as tasks, with one corpus or with three, and the systems that are built for them."

import json
import shutil
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import seqeval.metrics
import seqeval.scheme
import torch
import torch.nn.functional as F
from tiny import WIDTH, write_corpus, write_glove

from sparse_sharing.masks import Mask, union
from sparse_sharing.optim import SubnetSGD
from sparse_sharing.study import data as data_module
from sparse_sharing.study.data import GENERATED, TASKS, Source, read_data
from sparse_sharing.study.models import (
    HEADS,
    LEVEL,
    Predictions,
    build,
    final_predictions,
    final_scores,
    predict,
    tagging_task,
)
from sparse_sharing.tagging import generated
from sparse_sharing.tagging.corpora import Corpus, FormatError, read_corpus
from sparse_sharing.tagging.crf import CRFHead
from sparse_sharing.tagging.encoder import Sizes
from sparse_sharing.tagging.sentences import SPANS, Sentence, legal
from sparse_sharing.training import evaluate, fit

pytestmark = pytest.mark.filterwarnings("ignore:.*not in training")

SPAN_METRICS = ["f1", "f1_strict", "f1_released_single", "f1_released_multi", "f1_legal"]
SMALL = Sizes(word=WIDTH, char=4, filters=5, hidden=6)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    glove = write_glove(folder / "glove.txt")
    return Source(str(write_corpus(folder / "corpus")), str(glove))


@pytest.fixture(scope="module")
def data(source):
    return read_data(source)


@pytest.fixture(scope="module")
def corpus(source):
    return read_corpus(source.data_dir)


@pytest.fixture(scope="module")
def masks(data):
    encoder = build("hard", TASKS, data, SMALL, 0).encoder
    return {
        t: Mask.random(encoder, d, torch.Generator().manual_seed(0))
        for t, d in zip(TASKS, (0.8, 0.5, 0.3), strict=True)
    }


@pytest.fixture(scope="module", params=HEADS)
def trained(request, data):
    "A model after some steps, which predicts more than one tag."
    sizes = replace(SMALL, filters=10, hidden=20, dropout=0.0)
    model = build("hard", TASKS, data, sizes, seed=0, head=request.param)
    tasks = [tagging_task(t, data, 10, "cpu") for t in TASKS]
    fit(model, tasks, 6, optimizer=SubnetSGD(model), log=None)
    return model.eval()


def one_by_one(model, corpus, split, task, data):
    "Gold and predicted tags of a split, from sentences as they were read and without any batch."
    tags = [*data.vocab.tags[task], *data.vocab.unseen[task]]
    gold, found, head = [], [], model.heads[task]
    with torch.no_grad():
        for i, sentence in enumerate(corpus.splits[split]):
            batch = data.splits[task][split].batch(np.array([i]))
            scores = model(batch, task=task)
            crf = isinstance(head, CRFHead)
            best = head.decode(scores, batch.lengths) if crf else scores.argmax(2)
            found.append([tags[t] for t in best[:, 0]])
            gold.append(list(sentence.tags[task]))
    return gold, found


class TestData:
    def test_it_is_the_corpus(self, data, corpus):
        assert data.name == "conll2003" and set(data.splits) == set(TASKS)
        for splits in data.splits.values():
            assert {k: len(v) for k, v in splits.items()} == {
                k: len(v) for k, v in corpus.splits.items()
            }
        assert all(s is data.splits["pos"] for s in data.splits.values()), "read and encoded once"
        assert data.vocab.unseen["pos"] == ("UH",)
        assert data.rows and set(data.rows) <= set(data.vocab.words)
        about = json.loads(json.dumps(data.about))
        assert about["checksum"] == corpus.checksum and len(about["coverage"]) == 3

    def test_its_checksum_knows_tags_and_vectors(self, data, source, tmp_path):
        folder, glove = (shutil.copytree(source.data_dir, tmp_path / "c"), tmp_path / "g.txt")
        shutil.copy(source.embeddings, glove)
        assert read_data(Source(str(folder), str(glove))).checksum == data.checksum
        assert read_data(Source(str(folder))).checksum != data.checksum
        (tmp_path / "h.txt").write_text(glove.read_text().replace(" 0.", " 1.", 1))
        assert read_data(Source(str(folder), str(tmp_path / "h.txt"))).checksum != data.checksum
        text = (folder / "eng.testb").read_text().replace("VBD", "VBN", 1)
        (shutil.copytree(folder, tmp_path / "d") / "eng.testb").write_text(text)
        assert read_data(Source(str(tmp_path / "d"), str(glove))).checksum != data.checksum

    def test_another_kind_of_corpus_is_refused(self, tmp_path):
        (tmp_path / "notes.txt").write_text("nothing to see")
        with pytest.raises(FormatError, match=r"no corpus we know .* leave `data_dir` empty"):
            read_data(Source(str(tmp_path)))


class TestSystems:
    def test_all_systems_of_a_seed_share_their_first_weights(self, data, masks):
        hard = build("hard", TASKS, data, SMALL, 0).state_dict()
        stem = {k[8:]: v for k, v in hard.items() if k.startswith("encoder.stem.")}
        layer = {k[17:]: v for k, v in hard.items() if k.startswith("encoder.layers.0.")}
        heads = {k: v for k, v in hard.items() if k.startswith("heads.")}
        assert len(stem) == 4 and len(layer) == 8 and len(heads) == 6

        def same(state, part, prefix=""):
            return all(torch.equal(state[prefix + k], v) for k, v in part.items())

        for system in ("soft", "hierarchical", "sparse"):
            state = build(system, TASKS, data, SMALL, 0, masks).state_dict()
            assert same(state, heads), system
            assert same(state, stem, "" if system == "soft" else "encoder."), system
            places = (
                [f"stacks.{t}.0." for t in TASKS] if system == "soft" else ["encoder.layers.0."]
            )
            assert all(same(state, layer, place) for place in places), system
        for task in TASKS:
            for within in (None, {task: masks[task]}):
                state = build("single", (task,), data, SMALL, 0, within).state_dict()
                assert same(state, stem, f"encoders.{task}.")
                assert same(state, layer, f"encoders.{task}.layers.0.")
                assert same(state, {k: v for k, v in heads.items() if f".{task}." in k})

    def test_another_seed_has_other_weights(self, data):
        first, second = (build("hard", TASKS, data, SMALL, s).state_dict() for s in (0, 1))
        differ = {k for k, v in first.items() if not torch.equal(v, second[k])}
        constant = {k for k in first if k.startswith("encoder.layers") and "bias" in k}
        constant |= {k for k in first if k.startswith("heads") and "bias" in k}
        assert differ == set(first) - constant

    def test_words_with_a_vector_start_from_it(self, data):
        table = build("hard", TASKS, data, SMALL, 0).get_parameter("encoder.stem.words.weight")
        for word, row in data.rows.items():
            assert table[data.vocab.words.index(word)].tolist() == row.tolist()

    def test_making_a_model_disturbs_no_random_stream(self, data):
        torch.manual_seed(3)
        before = torch.random.get_rng_state()
        build("soft", TASKS, data, SMALL, 0)
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize(
        "system, layers, size",
        [
            ("single", 1, 1_601_790),
            ("single", 2, 4_491_390),
            ("hard", 1, 533_930),
            ("hard", 2, 1_497_130),
            ("soft", 1, 1_596_330),
            ("soft", 2, 4_485_930),
            ("hierarchical", 1, 1_497_130),
            ("hierarchical", 2, 1_497_130),
        ],
    )
    def test_the_papers_sizes(self, data, system, layers, size):
        paper = replace(data, rows={})
        assert build(system, TASKS, paper, Sizes(layers=layers), 0).count_parameters() == size

    def test_masks_count(self, data, masks):
        biases = 5 + 2 * 2 * 4 * 6
        kept = [m.kept for m in masks.values()]
        subnets = build("single", TASKS, data, SMALL, 0, masks)
        sparse = build("sparse", TASKS, data, SMALL, 0, masks)
        assert subnets.count_parameters() == sum(kept) + 3 * biases
        assert sparse.count_parameters() == union(masks.values()).kept + biases

    @pytest.mark.parametrize("system", ["hierarchial", "sparse", ""])
    def test_an_unknown_system_is_refused(self, data, system):
        with pytest.raises(ValueError, match="system"):
            build(system, TASKS, data, SMALL, 0)


class TestPrediction:
    @pytest.mark.parametrize("task", TASKS)
    def test_tags_come_in_the_order_of_the_corpus(self, trained, data, corpus, task):
        tags = np.array([*data.vocab.tags[task], *data.vocab.unseen[task]])
        with torch.no_grad():
            (predicted,) = predict(trained, data.splits[task]["dev"], task, "cpu")
            found = tags[predicted].tolist()
        expected = [t for s in one_by_one(trained, corpus, "dev", task, data)[1] for t in s]
        assert found == expected and len(set(found)) > 1
        assert not set(found) & set(data.vocab.unseen[task])

    def test_the_loss_is_the_mean_over_words(self, trained, data):
        task = tagging_task("chunk", data, 10, "cpu")
        batch = next(iter(task.batches(np.random.default_rng(0))))
        if isinstance(trained.heads["chunk"], CRFHead):
            one = [data.splits["chunk"]["train"].batch(np.array([i])) for i in batch.sentences]
            losses = torch.stack([task.loss(trained, b) * len(b.tags["chunk"]) for b in one])
            expected = losses.sum() / int(batch.lengths.sum())
            assert torch.allclose(task.loss(trained, batch), expected, atol=1e-5)
            return
        scores = [
            F.log_softmax(
                trained(data.splits["chunk"]["train"].batch(np.array([i])), task="chunk")[:, 0], 1
            )
            for i in batch.sentences
        ]
        starts = data.splits["chunk"]["train"].starts
        gold = [
            data.splits["chunk"]["train"].tags["chunk"][starts[i] : starts[i + 1]]
            for i in batch.sentences
        ]
        words = [-s[range(len(g)), g] for s, g in zip(scores, gold, strict=True)]
        assert torch.allclose(task.loss(trained, batch), torch.cat(words).mean(), atol=1e-5)
        assert task.size == len(data.splits["chunk"]["train"]) and len(batch.sentences) == 10

    def test_scores_are_those_of_seqeval(self, trained, data, corpus):
        modes = {
            "f1": {},
            "f1_strict:chunk": dict(mode="strict", scheme=seqeval.scheme.IOB2),
            "f1_strict:ner": dict(mode="strict", scheme=seqeval.scheme.IOBES),
        }
        with torch.no_grad():
            rows = {
                t: {
                    r["metric"]: r
                    for r in final_scores(final_predictions(trained, data, t, "cpu"), data, t)
                }
                for t in TASKS
            }
        assert [list(r) for r in rows.values()] == [["accuracy"], SPAN_METRICS, SPAN_METRICS]
        dev = evaluate(trained, [tagging_task(t, data, 10, "cpu") for t in TASKS])
        for split in ("dev", "test"):
            for task in TASKS:
                gold, found = one_by_one(trained, corpus, split, task, data)
                for metric, row in rows[task].items():
                    if metric in ("f1_legal", "f1_released_single", "f1_released_multi"):
                        continue
                    if metric == "accuracy":
                        score = seqeval.metrics.accuracy_score(gold, found)
                    else:
                        options = modes.get(f"{metric}:{task}", modes["f1"])
                        score = seqeval.metrics.f1_score(gold, found, **options)
                    assert row[split] == pytest.approx(100 * score, abs=1e-9), (split, task, metric)
        for task in TASKS:
            assert dev[task] == pytest.approx(next(iter(rows[task].values()))["dev"], abs=1e-9)

    @pytest.mark.parametrize("task", ["ner", "chunk"])
    def test_the_legal_path_is_the_best_of_all_that_the_scheme_allows(self, trained, data, task):
        "Found by looking at every path of each sentence that is short enough."
        tags, scheme = data.vocab.tags[task], SPANS[task]
        split, looked_at = data.splits[task]["dev"], 0
        with torch.no_grad():
            predictions = final_predictions(trained, data, task, "cpu")
            for batch in split.in_order():
                scores = trained(batch, task=task)
                for i, sentence in enumerate(batch.sentences):
                    start, n = split.starts[sentence], int(batch.lengths[i])
                    ids = predictions.legal["dev"][start : start + n].tolist()
                    path = ["", *(tags[k] for k in ids), ""]
                    assert all(legal(a, b, scheme) for a, b in pairwise(path))
                    if len(tags) ** n > 20_000:
                        continue
                    looked_at += 1
                    best = max(
                        sum(float(scores[j, i, k]) for j, k in enumerate(other))
                        for other in product(range(len(tags)), repeat=n)
                        if all(
                            legal(a, b, scheme)
                            for a, b in pairwise(["", *(tags[k] for k in other), ""])
                        )
                    )
                    own = sum(float(scores[j, i, k]) for j, k in enumerate(ids))
                    if not isinstance(trained.heads[task], CRFHead):
                        assert own == pytest.approx(best, abs=1e-5)
        assert looked_at, "no sentence was short enough"


class TestHeads:
    def test_a_crf_obeys_the_scheme_of_its_task(self, data):
        model = build("hard", TASKS, data, SMALL, 0, head="crf")
        schemes = {t: h.scheme for t, h in model.heads.items()}
        assert schemes == {"pos": "none", "ner": "bioes", "chunk": "iob2"}
        assert all(isinstance(h, CRFHead) for h in model.heads.values())
        assert all(h.tags == data.vocab.tags[t] for t, h in model.heads.items())

    def test_a_crf_costs_no_weight_of_a_system(self, data):
        "`parameters` is about what is shared."
        sizes = {h: build("hard", TASKS, data, SMALL, 0, head=h).count_parameters() for h in HEADS}
        assert sizes["crf"] == sizes["linear"]

    def test_a_crf_starts_from_the_scores_of_the_linear_head(self, data):
        linear, crf = (build("hard", TASKS, data, SMALL, 0, head=h).state_dict() for h in HEADS)
        for name in [k for k in linear if not k.startswith("heads.")]:
            assert torch.equal(linear[name], crf[name]), name
        for task in TASKS:
            scorer = {k for k in crf if k.startswith(f"heads.{task}.scorer.")}
            assert len(scorer) == 2
            for name in scorer:
                assert torch.equal(crf[name], linear[name.replace(".scorer", "")])

    @pytest.mark.parametrize("head", ["", "CRF", "softmax"])
    def test_an_unknown_head_is_refused(self, data, head):
        with pytest.raises(ValueError, match=f"no head {head!r}: take one of linear, crf"):
            build("hard", TASKS, data, SMALL, 0, head=head)


@pytest.fixture
def separate(monkeypatch):
    "Three small generated corpora of their own, and how they were asked for."
    made = {}

    def generate(n_train, n_dev=20, n_test=30, seed=0):
        made[seed] = toy_generate(n_train // 20, n_dev, n_test, seed)
        return made[seed]

    toy_generate = generated.generate
    monkeypatch.setattr(generated, "generate", generate)
    data_module._read_once.cache_clear()
    data = read_data(Source(separate=True))
    data_module._read_once.cache_clear()
    return data, dict(zip(GENERATED, made.values(), strict=True))


class TestSeparateCorpora:
    def test_each_task_has_its_corpus_alone(self, separate):
        data, corpora = separate
        assert set(data.splits) == set(data.genres) == set(TASKS)
        for task, corpus in corpora.items():
            sizes = {k: len(v) for k, v in data.splits[task].items()}
            assert sizes == dict(train=GENERATED[task] // 20, dev=20, test=30)
            for name, split in data.splits[task].items():
                assert list(split.tags) == [task], "another task's gold tags are not at hand"
                tags = [*data.vocab.tags[task], *data.vocab.unseen[task]]
                gold = [t for s in corpus.splits[name] for t in s.tags[task]]
                assert [tags[t] for t in split.tags[task]] == gold
                words = [w.lower() for s in corpus.splits[name] for w in s.words]
                assert len(split.tokens) == len(words)

    def test_no_two_corpora_are_the_same(self, separate):
        data, corpora = separate
        checksums = {c.checksum for c in corpora.values()}
        assert len(checksums) == 3
        text = "".join(corpora[t].with_layers([t]).checksum for t in corpora)
        assert data.about["checksum"] == text and len(text) == 3 * 64

    def test_the_vocabulary_is_that_of_all_training_splits(self, separate):
        data, corpora = separate
        known = {w.lower() for c in corpora.values() for s in c.train for w in s.words}
        assert known <= set(data.vocab.words)
        assert set(data.vocab.tags) == set(TASKS) == set(data.vocab.unseen)
        for task, corpus in corpora.items():
            assert set(data.vocab.tags[task]) == {t for s in corpus.train for t in s.tags[task]}

    def test_a_word_has_one_row_in_all_of_them(self, separate):
        data, corpora = separate
        rows = {}
        for task, corpus in corpora.items():
            for name, split in data.splits[task].items():
                words = [w.lower() for s in corpus.splits[name] for w in s.words]
                for word, row in zip(words, split.form_words[split.tokens], strict=True):
                    rows.setdefault(word, {})[task] = int(row)
        assert all(len(set(r.values())) == 1 for r in rows.values())
        assert sum(len(r) == 3 for r in rows.values()) > 50, "they have words in common"
        assert all(data.vocab.words[r] == w for w, rs in rows.items() for r in rs.values() if r > 1)

    def test_run_json_tells_of_each(self, separate):
        data, corpora = separate
        about = json.loads(json.dumps(data.about))
        sizes = {(r["tasks"], r["split"]): r["sentences"] for r in about["corpus"]}
        assert sizes == {(t, k): len(v) for t, c in corpora.items() for k, v in c.splits.items()}
        assert about["name"] == data.name == "generated" and about["identity"] == data.checksum

    def test_one_corpus_of_the_three_changes_the_checksum(self, separate, monkeypatch):
        before, corpora = separate
        other = corpora | {"chunk": generated.generate(200, 5, 5, seed=9)}
        monkeypatch.setattr(generated, "generate", lambda n, seed: list(other.values())[seed])
        data_module._read_once.cache_clear()
        after = read_data(Source(separate=True))
        data_module._read_once.cache_clear()
        assert after.checksum != before.checksum
        assert after.about["checksum"][:128] == before.about["checksum"][:128]

    def test_models_can_be_trained_on_them_together(self, separate):
        "A step of a task has batches of its corpus; an epoch draws tasks by their sizes."
        data, _ = separate
        model = build("hard", TASKS, data, SMALL, 0, head="crf")
        tasks = [tagging_task(t, data, 10, "cpu") for t in TASKS]
        assert {t.name: t.size for t in tasks} == {t: n // 20 for t, n in GENERATED.items()}
        result = fit(model, tasks, 1, optimizer=SubnetSGD(model), log=None)
        assert [r["task"] for r in result.curve] == list(TASKS)
        model.eval()
        with torch.no_grad():
            for task in TASKS:
                for row in final_scores(final_predictions(model, data, task, "cpu"), data, task):
                    assert 0 <= row["dev"] <= 100 and 0 <= row["test"] <= 100

    def test_a_folder_with_three_is_read(self, monkeypatch, tmp_path):
        made = {t: generated.generate(30, 5, 5, seed=i) for i, t in enumerate(TASKS)}
        made = {t: replace(c, name=f"corpus-{t}") for t, c in made.items()}
        asked = []
        monkeypatch.setattr(
            data_module, "read_corpora", lambda folder: asked.append(folder) or made
        )
        data = read_data(Source(str(tmp_path), separate=True))
        assert asked == [str(tmp_path)] and data.name == "corpus-pos+corpus-ner+corpus-chunk"


def genre_sentence(words, genre):
    "Every word is a name, unless it is in small letters."
    ner = tuple("S-PER" if w[0].isupper() else "O" for w in words)
    chunk = tuple("B-NP" if w[0].isupper() else "O" for w in words)
    pos = tuple("NNP" if w[0].isupper() else "VB" for w in words)
    return Sentence(tuple(words), dict(pos=pos, ner=ner, chunk=chunk), genre)


@pytest.fixture
def genres(monkeypatch, tmp_path):
    "A corpus in which `bn` has names, `nw` has some, `mz` is not in test and `wb` not in dev."
    train = [genre_sentence(["Ann", "sees", "Bob"], "bn"), genre_sentence(["go"], "nw")] * 10
    dev = [
        genre_sentence(["Ann", "sees", "Bob"], "bn"),
        genre_sentence(["go", "on"], "nw"),
        genre_sentence(["Bob"], "mz"),
        genre_sentence(["Ann", "Bob"], ""),
    ]
    test = [
        genre_sentence(["go", "Bob", "go"], "nw"),
        genre_sentence(["Ann", "sees"], "bn"),
        genre_sentence(["Bob", "sees", "Ann", "go"], "bn"),
        genre_sentence(["Ann"], "wb"),
        genre_sentence(["go"], ""),
    ]
    corpus = Corpus("ontonotes", train, dev, test)
    monkeypatch.setattr(data_module, "read_corpus", lambda _: corpus)
    data = read_data(Source(str(tmp_path)))
    return data, corpus


class TestGenres:
    def test_each_sentence_of_dev_and_test_has_its_genre(self, genres):
        data, corpus = genres
        for task in TASKS:
            assert {k: v.tolist() for k, v in data.genres[task].items()} == {
                k: [s.genre for s in corpus.splits[k]] for k in ("dev", "test")
            }

    @pytest.mark.parametrize("task", TASKS)
    def test_scores_of_a_genre_are_those_of_its_sentences(self, genres, task):
        "By a tagger that takes `Ann` alone for a name."
        data, corpus = genres
        tags = [*data.vocab.tags[task], *data.vocab.unseen[task]]
        yes, no = {"pos": ("NNP", "VB"), "ner": ("S-PER", "O"), "chunk": ("B-NP", "O")}[task]

        def guess(sentence):
            return [yes if w == "Ann" else no for w in sentence.words]

        said = {
            name: np.array([tags.index(t) for s in corpus.splits[name] for t in guess(s)])
            for name in ("dev", "test")
        }
        rows = final_scores(Predictions(said, {}), data, task)
        whole = [r for r in rows if "genre" not in r]
        assert [r["metric"] for r in whole] == (
            ["accuracy"] if task == "pos" else SPAN_METRICS[:-1]
        )
        parts = {r["genre"]: r for r in rows[len(whole) :]}
        assert list(parts) == ["bn", "mz", "nw", "wb"], "the empty genre is none"
        metric = whole[0]["metric"]
        for genre, row in parts.items():
            assert row["metric"] == metric
            for split in ("dev", "test"):
                its = [s for s in corpus.splits[split] if s.genre == genre]
                if not its:
                    assert row[split] is None
                    continue
                gold, found = [list(s.tags[task]) for s in its], [guess(s) for s in its]
                if metric == "accuracy":
                    score = seqeval.metrics.accuracy_score(gold, found)
                else:
                    score = seqeval.metrics.f1_score(gold, found, zero_division=0)
                assert row[split] == pytest.approx(100 * score)
            words = sum(len(s.words) for s in corpus.test if s.genre == genre)
            assert row["words"] == words
        assert parts["bn"]["words"] == 6 and parts["mz"]["words"] == 0

    def test_a_corpus_without_genres_has_no_such_rows(self, data, masks):
        model = build("hard", TASKS, data, SMALL, 0).eval()
        with torch.no_grad():
            rows = [
                r
                for t in TASKS
                for r in final_scores(final_predictions(model, data, t, "cpu"), data, t)
            ]
        assert len(rows) == 1 + 2 * len(SPAN_METRICS) and all(
            list(r) == ["metric", "dev", "test"] for r in rows
        )

    def test_a_genre_counts_for_the_checksum(self, genres, monkeypatch, tmp_path):
        data, corpus = genres
        other = replace(corpus, test=[replace(s, genre="bn") for s in corpus.test])
        monkeypatch.setattr(data_module, "read_corpus", lambda _: other)
        assert read_data(Source(str(tmp_path / "other"))).checksum != data.checksum


class TestAuxiliary:
    def test_positions_stand_in_place_of_all_but_the_entities(self, source, corpus):
        "Of the same sentences; another checksum, so that no unit is taken for one of the corpus."
        data = read_data(replace(source, auxiliary="pp"))
        assert set(data.splits) == set(data.vocab.tags) == {"ner", "pp"}
        plain = read_data(source)
        assert data.checksum != plain.checksum and data.name == plain.name
        for name, split in data.splits["ner"].items():
            assert len(split) == len(corpus.splits[name])
            tags = np.array([*data.vocab.tags["ner"], *data.vocab.unseen["ner"]])
            gold = [t for s in corpus.splits[name] for t in s.tags["ner"]]
            assert tags[split.tags["ner"]].tolist() == gold

    def test_a_system_of_entities_and_positions_can_be_trained(self, source):
        data = read_data(replace(source, auxiliary="pp"))
        sizes = replace(SMALL, filters=0)
        tasks = [tagging_task(t, data, 10, "cpu") for t in ("ner", "pp")]
        model = build("hard", ("ner", "pp"), data, sizes, 0)
        found = fit(model, tasks, 1, optimizer=SubnetSGD(model, 0.1), seed=0, log=lambda rows: None)
        assert {row["task"] for row in found.curve} == {"ner", "pp"}
        metrics = {
            t: [
                r["metric"] for r in final_scores(final_predictions(model, data, t, "cpu"), data, t)
            ]
            for t in found.dev
        }
        assert metrics == {"ner": SPAN_METRICS, "pp": ["accuracy"]}


def test_a_process_reads_its_data_once(source):
    data_module._read_once.cache_clear()
    first = read_data(source)
    assert read_data(Source(source.data_dir, source.embeddings)) is first


def test_a_file_that_was_mended_is_read_again(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"{split}.tsv").write_text("Ada\tNNP\nfell\tVBD\n\n" * 3)
    asked = Source(str(tmp_path), columns="word pos")
    before = read_data(asked)
    (tmp_path / "test.tsv").write_text("fell\tNNP\nAda\tVBD\n\n" * 3)
    assert read_data(asked).checksum != before.checksum


def test_the_generated_corpus_needs_no_file():
    data = read_data(Source())
    assert data.name == "generated" and not data.rows and data.about["coverage"] is None
    assert set(data.splits) == set(TASKS) and set(LEVEL) == set(TASKS)
