"The guide for data of one's own runs on column files as declared, and leaves a tagger."

import nbformat
import papermill
import pytest
from helpers import ROOT

from sparse_sharing.tagging.generated import generate
from sparse_sharing.tagging.schemes import convert
from sparse_sharing.tagging.tagger import Tagger

PATH = ROOT / "nbs" / "your_data.ipynb"
SMALL = dict(hidden=8, warmup=1, epochs=1, round_epochs=1, alpha=0.6)


def write(folder, n_train=30, n_test=10):
    "Files with names of one's own, a layer of names in BILOU, tabs, comments, and a word with a space."
    corpus = generate(n_train, 10, n_test)
    for split, sentences in corpus.splits.items():
        blocks = []
        for s in sentences:
            who = convert(s.tags["ner"], "bioes", "bilou")
            rows = zip(("New York", *s.words[1:]), s.tags["pos"], who, strict=True)
            blocks.append("# a comment\n" + "".join("\t".join(row) + "\n" for row in rows))
        (folder / f"{split}.part.tsv").write_text("\n".join(blocks), encoding="utf-8")


def test_it_takes_typed_parameters_with_a_comment_each():
    found = papermill.inspect_notebook(str(PATH))
    assert {"data_dir", "embeddings", "columns", "schemes", "tasks", "splits"} <= found.keys()
    assert all(p["help"] and p["inferred_type_name"] != "None" for p in found.values())


@pytest.mark.slow
def test_it_runs_on_declared_columns_and_leaves_a_tagger(tmp_path):
    write(tmp_path)
    papermill.execute_notebook(
        str(PATH),
        str(tmp_path / "out.ipynb"),
        SMALL
        | dict(
            data_dir=str(tmp_path),
            columns="word kind who",
            schemes="who=bioes",
            comments="#",
            tasks="who,kind",
            head="crf",
            results_dir=str(tmp_path / "results"),
        ),  # fmt: skip
        cwd=str(tmp_path),
        progress_bar=False,
    )
    tagger = Tagger.load(tmp_path / "results/tagger")
    assert set(tagger.tasks) == {"who", "kind"} and tagger.scheme("who") == "bioes"
    assert tagger.file_scheme("who") == "bilou"
    (tagged,) = tagger.tag([["New York", "fell"]], "as_read")
    assert set(tagged.tags) == {"who", "kind"}


@pytest.mark.slow
def test_it_runs_without_parameters(tmp_path):
    out = tmp_path / "out.ipynb"
    small = SMALL | dict(results_dir=str(tmp_path / "results"))
    papermill.execute_notebook(str(PATH), str(out), small, cwd=str(tmp_path), progress_bar=False)
    text = "".join(str(c.get("outputs")) for c in nbformat.read(out, 4).cells)
    assert "overlap" in text and (tmp_path / "results/tagger/model.json").exists()


@pytest.mark.slow
def test_a_mistake_stops_it_at_once(tmp_path):
    write(tmp_path)
    given = dict(data_dir=str(tmp_path), columns="word kind who", schemes="whom=bioes")
    with pytest.raises(papermill.PapermillExecutionError, match="schemes speak of whom"):
        papermill.execute_notebook(
            str(PATH), str(tmp_path / "out.ipynb"), given, cwd=str(tmp_path), progress_bar=False
        )


@pytest.mark.slow
def test_one_task_and_a_test_of_one_sentence(tmp_path):
    write(tmp_path, n_test=1)
    given = dict(data_dir=str(tmp_path), columns="word kind _", comments="#")
    papermill.execute_notebook(
        str(PATH),
        str(tmp_path / "out.ipynb"),
        SMALL | given | dict(results_dir=str(tmp_path / "results")),
        cwd=str(tmp_path),
        progress_bar=False,
    )
    assert Tagger.load(tmp_path / "results/tagger").tasks == ("kind",)


@pytest.mark.slow
@pytest.mark.parametrize(
    "given, message",
    [
        (dict(columns="word pos"), "columns speak of files: give their folder in data_dir"),
        (dict(head="CRF"), "head is 'CRF': it is linear or crf"),
        (dict(n_seeds=8), "unknown parameter n_seeds: this notebook knows alpha"),
        (dict(alpha=1.5), "alpha is 1.5: give a number from 0.01 to 0.99"),
    ],
)
def test_what_is_not_meant_is_not_trained(tmp_path, given, message):
    with pytest.raises(papermill.PapermillExecutionError, match=message):
        papermill.execute_notebook(
            str(PATH), str(tmp_path / "out.ipynb"), given, cwd=str(tmp_path), progress_bar=False
        )
