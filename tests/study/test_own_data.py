"Experiments on column files of one's own: what is declared, in text, and what is refused at once."

import pytest
from studies import TINY

from sparse_sharing import report
from sparse_sharing.study import rerun, run
from sparse_sharing.study.config import Experiment
from sparse_sharing.study.models import build
from sparse_sharing.study.plan import plan
from sparse_sharing.tagging.declared import of_task
from sparse_sharing.tagging.encoder import Sizes
from sparse_sharing.tagging.generated import generate
from sparse_sharing.tagging.schemes import convert

pytestmark = pytest.mark.filterwarnings("ignore:.* but not in training")
SMALL = Sizes(word=6, char=4, filters=4, hidden=4)


def write(folder, columns=("pos", "ner"), n=12):
    "Three files; the layer of names in IOE2, which has to be declared or recognised."
    folder.mkdir(parents=True, exist_ok=True)
    for split, sentences in generate(n, 5, 5).splits.items():
        text = []
        for s in sentences:
            layers = {**s.tags, "ner": convert(s.tags["ner"], "bioes", "ioe2")}
            rows = zip(s.words, *(layers[c] for c in columns), strict=True)
            text.append("# x = y\n" + "\n".join("\t".join(row) for row in rows))
        (folder / f"{split}.tsv").write_text("\n\n".join(text) + "\n", encoding="utf-8")
    return str(folder)


def declared(folder, **more):
    given = dict(columns="word kind who", schemes="who=ioe2>bilou", comments="#")
    return Experiment("exp1", data_dir=folder, **{**given, **more})


def test_a_corpus_of_one_s_own_is_read_with_its_schemes(here):
    experiment = declared(write(here / "d"))
    data = experiment.read()
    assert experiment.design.tasks == ("kind", "who")
    assert data.name == "columns" and set(data.splits) == {"kind", "who"}
    assert data.vocab.schemes == {"kind": "none", "who": "bilou"}
    assert any(tag.startswith("U-") for tag in data.vocab.tags["who"])
    assert "sparse_table4" not in experiment.known_systems
    one = declared(write(here / "d"), tasks="who").read()
    assert set(one.splits) == {"who"} and one.checksum != data.checksum


def test_hierarchical_sharing_takes_any_tasks_and_levels(here):
    experiment = declared(write(here / "d"))
    data = experiment.read()
    model = build("hierarchical", ("kind", "who"), data, SMALL, 0)
    assert model.level == {"kind": 2, "who": 2}
    levels = declared(write(here / "d"), levels="kind=1").settings.training.levels
    model = build("hierarchical", ("kind", "who"), data, SMALL, 0, levels=levels)
    assert model.level == {"kind": 1, "who": 2}
    default = Experiment("exp1").settings.training
    assert default.levels == ()


def test_a_folder_for_each_task(here):
    write(here / "all/pos", ("pos",))
    write(here / "all/who", ("chunk", "ner"))
    experiment = Experiment(
        "exp3", data_dir="all", columns="pos: word pos; who: word _ who", schemes="who=bioes",
        tasks="pos who", comments="#", splits="pos: train=train.tsv dev=10% test=test.tsv",
    )  # fmt: skip
    data = experiment.read()
    assert data.vocab.schemes == {"pos": "none", "who": "bioes"} and data.name == "columns"
    assert len(data.splits["pos"]["train"]) == 11 and len(data.splits["who"]["train"]) == 12
    assert of_task("word x", "a") == "word x" and of_task("a: word x", "b") == ""


def test_the_units_of_other_tasks_can_be_planned(here):
    experiment = declared(write(here / "d"))
    data = experiment.read()
    planned = plan(experiment, data.checksum, here / "units")
    assert planned


def test_fewer_tasks_of_a_known_corpus():
    data = Experiment("exp1", tasks="pos ner").read()
    assert data.checksum == Experiment("exp1").read().checksum
    assert Experiment("exp1", tasks="pos ner").design.tasks == ("pos", "ner")


@pytest.mark.parametrize(
    "name, given, message",
    [
        ("sparsity", dict(tasks="pos"), "tasks is a parameter of exp1, exp2, exp3: leave it out"),
        ("exp1", dict(schemes="x=bioes"), "schemes speaks of columns: say what they hold"),
        ("exp1", dict(splits="train=a"), "splits speaks of columns: say what they hold"),
        ("exp1", dict(levels="pos"), "levels 'pos': write each name once"),
        ("exp1", dict(levels="pos=0"), "levels gives pos the layer 0: write 1 to 8"),
        ("exp1", dict(data_dir=".", columns="x y"), "columns x y: call one of them word"),
        (
            "exp1",
            dict(data_dir=".", columns="a: word a; b: word b"),
            "columns is 'a: word a; b: word b': tasks have files of their own in exp3 alone",
        ),
        ("exp3", dict(data_dir=".", columns="word x"), "tasks says which sub-folders of data_dir"),
        (
            "exp1",
            dict(data_dir=".", columns="word x", splits="train=a"),
            "splits is 'train=a': name train, dev and test",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(name, given, message):
    with pytest.raises(ValueError) as e:
        Experiment(name, **given)
    assert str(e.value).startswith(message)


def test_a_task_that_the_corpus_has_not(here):
    with pytest.raises(ValueError, match="has no layer nre"):
        declared(write(here / "d"), tasks="nre").read()
    with pytest.raises(ValueError, match="tasks has nre, which the corpus has not: it has pos"):
        Experiment("exp1", tasks="nre").read()


def test_columns_need_a_folder():
    with pytest.raises(ValueError, match="columns speak of files: give their folder in data_dir"):
        Experiment("exp1", columns="word x").read()


def test_one_task_alone_has_scores_and_no_overlap(here):
    "Its mask has nothing to be held against."
    given = dict(columns="word kind _", comments="#", workers=1, results_dir=str(here / "r"))
    experiment = Experiment("exp1", data_dir=write(here / "d"), **TINY, **given)
    results = report.load(run(experiment, log=None))
    assert set(results.results["task"]) == {"kind"} and results.overlap.empty
    assert {"single", "subnet", "sparse"} <= set(results.results["system"])
    assert report.overlap_table(results).data.empty


def test_a_run_on_one_s_own_files_can_be_compared_with_the_code_at_hand(here, monkeypatch, capsys):
    "The command knows from the run what was declared, and is told where the files are."
    folder = here / "d"
    experiment = declared(write(folder), systems="single", results_dir=str(here / "r"), **TINY)
    home = run(experiment, log=None)
    monkeypatch.setattr("sys.argv", ["rerun", str(home)])
    with pytest.raises(SystemExit, match="is of column files: say where they are, with --data"):
        rerun.main()
    folder.rename(here / "moved")
    monkeypatch.setattr("sys.argv", ["rerun", str(home), "--data", str(here / "moved")])
    rerun.main()
    told = capsys.readouterr().out
    assert "True" in told and "False" not in told


@pytest.mark.parametrize(
    "more, message",
    [
        (dict(tasks="pos pos"), "tasks has pos more than once"),
        (dict(tasks="pos ner", columns="pos: word pos; nre: word ner"), "columns speaks of nre"),
        (dict(tasks="pos ner", columns="pos: word pos"), "columns says nothing of ner"),
        (dict(tasks="pos ner", schemes="nre=io>bioes"), "schemes speak of nre: the layers are ner"),
        (
            dict(tasks="pos ner", splits="psp: train=a dev=10% test=10%"),
            "splits speaks of psp: the tasks are pos, ner",
        ),
    ],
)
def test_what_is_said_of_a_task_that_there_is_not(here, more, message):
    given = dict(columns="pos: word pos; ner: word ner") | more
    with pytest.raises(ValueError, match=message):
        Experiment("exp3", data_dir=str(here), **given)


def test_tasks_with_files_of_their_own_are_named_by_the_columns(here):
    given = dict(columns="pos: word pos; ner: word _ ner", schemes="ner=bioes", comments="#")
    for task, layers in (("pos", ("pos",)), ("ner", ("chunk", "ner"))):
        write(here / task, layers)
    named = Experiment("exp3", data_dir=str(here), **given)
    said = Experiment("exp3", data_dir=str(here), tasks="pos,ner", **given)
    assert named.design.tasks == said.design.tasks == ("pos", "ner")
    assert named.source == said.source and set(named.read().splits) == {"pos", "ner"}


def test_schemes_of_a_layer_that_another_task_s_files_have(here):
    "All layers of a file are read, so those beside the task need a scheme, too."
    for task in ("pos", "ner"):
        write(here / "d" / task)
    experiment = Experiment(
        "exp3", data_dir=str(here / "d"), tasks="pos ner", columns="word pos ner",
        schemes="ner=bioes", comments="#",
    )  # fmt: skip
    assert experiment.read().vocab.schemes == {"pos": "none", "ner": "bioes"}


def test_a_level_that_the_encoder_has_not(here):
    with pytest.raises(ValueError, match="levels gives who the layer 3, and the encoder has 2"):
        declared(write(here / "d"), levels="who=3")


def test_a_single_task_has_no_other(here):
    assert "other_task" in declared(write(here / "d")).known_systems
    assert "other_task" not in declared(write(here / "d"), tasks="who").known_systems
