"Reports from a small results folder whose numbers can be checked by hand."

import json
import re
from dataclasses import replace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from sparse_sharing.report import figures, tables
from sparse_sharing.report.replication import mixed_scoring_table
from sparse_sharing.report.results import describe, load, recorded
from sparse_sharing.study import paper
from sparse_sharing.study.schema import COLUMNS, SYSTEMS, Key, label

matplotlib.use("agg")

SCORES = {  # test score of seed 0; seed 1 has one point more, `sparse` two
    "single": {"pos": 95.0, "ner": 89.0, "chunk": 90.0},
    "hard": {"pos": 95.5, "ner": 88.0, "chunk": 91.0},
    "sparse": {"pos": 95.25, "ner": 90.0, "chunk": 92.0},
}
PARAMETERS = {"single": 1_601_790, "hard": 533_930, "sparse": 396_000}


def what(system):
    "The columns that say what a row is about."
    return [system, "", "", "pos+ner+chunk"]


def rows(seeds, experiment="exp1", data="generated"):
    "The rows of results.csv."
    out = []
    for system, tasks in SCORES.items():
        for seed in seeds:
            for i, (task, score) in enumerate(tasks.items()):
                test = score + seed * (2 if system == "sparse" else 1)
                head = [experiment, data, "quick", *what(system), task, seed]
                seconds = 10.0 + i if system == "single" else 25.0
                work = 0.5 * seconds if seed else ""  # recorded since the second seed
                tail = [3, PARAMETERS[system], 0.5 if system == "sparse" else "", seconds, work, 9]
                out.append([*head, "accuracy" if task == "pos" else "f1", test + 1, test, *tail])
                if task != "pos":
                    out.append([*head, "f1_strict", test, test - 0.5, *tail])
    return out


def write(folder, seeds=(0,), **kwargs):
    "A results folder with the columns of the design."
    candidates = [
        [task, seed, n, 0.1 ** (n / 20), dev]
        for task in ["pos", "ner", "chunk"]
        for seed in seeds
        for n, dev in enumerate([99.0, 94.0, 95.0, 95.0, 93.0, 92.0, 91.0, 90.0])
    ]
    curves = [
        [*what(system), task, seed, epoch, 1.0, 80 + epoch, 5.0]
        for system in SCORES
        for task in ["pos", "ner", "chunk"]
        for seed in seeds
        for epoch in (1, 2, 3)
    ]
    groups = ["pos+ner", "pos+ner+chunk"]
    overlap = [[tasks, "", "", s, 0.5 + s / 10, 0.3, 0.7] for tasks in groups for s in seeds]
    results = rows(seeds, **kwargs)
    genres = [  # news is a point better than the whole, letters are two points worse
        [*row[3:9], genre, words, row[9], row[10] + shift, row[11] + shift]
        for row in results
        if row[9] != "f1_strict"
        for genre, words, shift in [("nw", 900, 1.0), ("letters", 400, -2.0)]
    ]
    written = dict(results=results, genres=genres, curves=curves)
    pair = ["pos+ner", "", ""]
    parts = [[*pair, s, "LSTM 1", "ltr", "ih", "cell", 20, 0.5, 0.4, 0.3] for s in seeds]
    parts += [[*pair, s, "stem.conv", "", "", "", 9, 0.0, "", ""] for s in seeds]
    chains = [["again", "", *row] for row in candidates]
    written |= dict(candidates=candidates, overlap=overlap, parts=parts, chains=chains)
    for name, lines in written.items():
        frame = pd.DataFrame(lines, columns=COLUMNS[name])
        frame.to_csv(folder / f"{name}.csv", index=False)
    (folder / "run.json").write_text(json.dumps({"torch": "2"}))
    return folder


def change(path, edit):
    "Rewrites a CSV through `edit`."
    edit(pd.read_csv(path)).to_csv(path, index=False)


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path)


@pytest.fixture
def two(tmp_path):
    return load(write(tmp_path, seeds=(0, 1)))


def test_load(folder):
    r = load(str(folder))
    assert len(r.results) == 15 and r.run == {"torch": "2"}
    assert r.results.seed.dtype == int and r.results.test.dtype == float


@pytest.mark.parametrize("name", [*(f"{n}.csv" for n in COLUMNS), "run.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load(folder)


@pytest.mark.parametrize(
    "name,column",
    [(n, c) for n, cs in COLUMNS.items() for c in cs if c != "processor_seconds"],
)
def test_a_missing_column_is_named(folder, name, column):
    change(folder / f"{name}.csv", lambda t: t.rename(columns={column: "other"}))
    with pytest.raises(ValueError, match=rf"{name}\.csv has no column {column}; it has .*other"):
        load(folder)


def test_a_table_from_before_processor_time_was_recorded_is_read(folder):
    change(folder / "results.csv", lambda t: t.drop(columns="processor_seconds"))
    r = load(folder)
    assert r.results["processor_seconds"].isna().all()
    assert list(tables.cost_table(r).data)[-1] == "minutes by the clock"


@pytest.mark.parametrize(
    "name,column,value",
    [
        ("results", "test", "much"),
        ("results", "test", 101),
        ("results", "test", ""),
        ("results", "dev", -1),
        ("results", "system", ""),
        ("results", "seed", ""),
        ("candidates", "density", 50.12),
        ("overlap", "overlap", 1.5),
        ("curves", "dev", "nan%"),
    ],
)
def test_an_impossible_value_is_found_with_its_line(folder, name, column, value):
    def edit(t):
        t = t.astype(object)
        t.loc[1, column] = value
        return t

    change(folder / f"{name}.csv", edit)
    with pytest.raises(ValueError, match=rf"{name}\.csv, line 3: {column}"):
        load(folder)


def test_a_loss_may_be_no_number(folder):
    change(folder / "curves.csv", lambda t: t.assign(loss=np.nan))
    assert load(folder).curves.loss.isna().all()


@pytest.mark.parametrize("column,other", [("data", "masc"), ("experiment", "x"), ("preset", "p")])
def test_mixed_runs_are_refused(folder, column, other):
    def edit(t):
        t.loc[0, column] = other
        return t

    change(folder / "results.csv", edit)
    with pytest.raises(ValueError, match=f"mixes {column}"):
        load(folder)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_repeated_row_is_refused(folder, name):
    path = folder / f"{name}.csv"
    n = len(pd.read_csv(path))
    change(path, lambda t: pd.concat([t, t.iloc[:1]]))
    with pytest.raises(ValueError, match=rf"{name}\.csv, line {n + 2}: a second row"):
        load(folder)


def test_two_headline_metrics_are_refused(folder):
    change(
        folder / "results.csv",
        lambda t: pd.concat([t, t.query("metric == 'accuracy'").assign(metric="f1")]),
    )
    with pytest.raises(
        ValueError, match="a second row for system single, tasks pos.ner.chunk, task pos"
    ):
        load(folder)


def test_parameters_count_the_whole_system(folder):
    def edit(t):
        t.loc[0, "parameters"] = 533_930
        return t

    change(folder / "results.csv", edit)
    with pytest.raises(ValueError, match="whole system"):
        load(folder)


def test_no_results_and_damaged_files(folder):
    change(folder / "results.csv", lambda t: t[:0])
    with pytest.raises(ValueError, match="has no rows"):
        load(folder)
    (folder / "results.csv").write_bytes(b"")
    with pytest.raises(ValueError, match=r"results\.csv is no table"):
        load(folder)
    write(folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json is no JSON"):
        load(folder)


@pytest.mark.parametrize(
    "experiment,data,text",
    [
        ("exp1", "generated", "generated, not comparable with the paper"),
        ("exp1", "conll2003", "conll2003, as in the paper"),
        ("exp2", "masc", "masc, which stands in for ontonotes, not comparable with the paper"),
        ("exp2", "conll2003", "conll2003, not comparable with the paper"),
        ("mine", "conll2003", "conll2003, not comparable with the paper"),
    ],
)
def test_where_numbers_come_from(tmp_path, experiment, data, text):
    line = describe(load(write(tmp_path, experiment=experiment, data=data)))
    assert text in line and "preset quick" in line and "1 seed (0)" in line


def test_every_table_and_figure_says_where_its_numbers_come_from(two):
    r, line = two, describe(two)
    assert "generated, not comparable" in line and "2 seeds (0, 1)" in line
    made = [
        tables.score_table,
        tables.f1_table,
        tables.density_table,
        tables.overlap_table,
        tables.cost_table,
    ]
    for table in made:
        assert line in table(r).caption
        assert line in table(r).to_html()
    for figure in [figures.density_figure, figures.curve_figure, figures.frontier_figure]:
        fig = figure(r)
        assert line in fig.get_suptitle()
        fig.canvas.draw()


def test_means_and_deltas_of_two_seeds(two):
    means = tables.mean_scores(two)
    assert means.score["Hard sharing", "ner"] == 88.5
    assert means.delta["Hard sharing", "ner"] == -1
    assert means.score["Sparse sharing", "ner"] == 91
    assert means.delta["Sparse sharing", "ner"] == 1.5
    assert (means.seeds == 2).all()
    assert means.delta["Single task"].isna().all()


def test_deltas_use_the_seeds_that_both_systems_have(two):
    late = replace(two, results=two.results.query("system != 'single' or seed == 0"))
    means = tables.mean_scores(late)
    assert means.score["Sparse sharing", "ner"] == 91
    assert means.delta["Sparse sharing", "ner"] == 1
    gone = replace(two, results=two.results.query("system != 'single'"))
    assert tables.mean_scores(gone).delta.isna().all()
    tables.score_table(gone).to_html()


def bold_columns(style):
    "Columns of a table in which something is bold."
    style._compute()
    table = style.data
    return {
        table.columns[column]
        for (_, column), css in style.ctx.items()
        if ("font-weight", "bold") in css
    }


def test_means_over_unlike_seeds_are_no_race(two):
    "The best of a column is bold only where all of it is over the same seeds."
    ours = ("NER", "ours")
    like, late = tables.score_table(two), two.results.query("system != 'single' or seed == 0")
    assert ours in bold_columns(like) and "unlike" not in like.caption
    unlike = tables.score_table(replace(two, results=late))
    assert ours not in bold_columns(unlike) and ("parameters", "counted") in bold_columns(unlike)
    assert "none of our scores is bold" in unlike.caption


def test_means_over_unlike_seeds_are_said_to_be_so(two):
    part = "system != 'single' or seed == 0"
    late = replace(two, results=two.results.query(part), genres=two.genres.query(part))
    remark = "Systems have unlike seeds"
    for table in (tables.f1_table, tables.genre_table):
        assert remark in table(late).caption and remark not in table(two).caption
    assert bold_columns(tables.genre_table(two)) and not bold_columns(tables.genre_table(late))
    titles = [figures.frontier_figure(r).get_suptitle() for r in (late, two)]
    assert [remark in title for title in titles] == [True, False]


def with_released_scores(r):
    "The entities of a run, each system counted by both released scorers, a point and two apart from the lenient one."
    spans = r.results[r.results["metric"] == "f1"]
    single = spans.assign(metric="f1_released_single", test=spans["test"] + 1)
    multi = spans.assign(metric="f1_released_multi", test=spans["test"] - 2)
    return replace(r, results=pd.concat([r.results, single, multi], ignore_index=True))


def test_mixed_scoring_takes_the_scorer_of_each_system_and_pairs_by_seed(two):
    rows = with_released_scores(two)
    late = rows.results.query("system != 'single' or seed == 0")
    for r, gain in ((rows, 1.5), (replace(rows, results=late), 1.0)):
        table = mixed_scoring_table(r).data["NER"]
        assert table.loc["Sparse sharing", "lenient"] == 91
        assert table.loc["Sparse sharing", "as released"] == 91 - 2
        assert table.loc["Sparse sharing", "Δ lenient"] == gain
        assert table.loc["Sparse sharing", "Δ as released"] == gain - 2 - 1
        lenient, released = table.loc["Single task", ["lenient", "as released"]]
        assert released == lenient + 1


def test_score_table(folder):
    style = tables.score_table(load(folder))
    table = style.data
    of_table3 = [name for system, name in paper.SYSTEMS.items() if system != "meta"]
    assert list(table.index) == [*of_table3, "Sparse sharing (Table 4)"]
    assert list(table.columns.unique(0)) == ["POS", "NER", "Chunking", "parameters", ""]
    ner = table["NER"]
    assert list(ner.loc["Hard sharing"]) == [88.0, -1.0, 88.68, -0.68]
    assert ner.loc["Sparse sharing", "Δ"] == 1
    assert ner.loc["Soft sharing"].isna().tolist() == [True, True, False, False]
    assert ner.loc["Sparse sharing (Table 4)", "paper"] == 90.35
    assert list(table.loc["Hard sharing", "parameters"]) == [533_930, 534_000]
    html = style.to_html()
    for text in ["+1.00", "-0.68", "533,930", "534k", "95.25", "–", "With one seed"]:
        assert text in html


def test_best_is_bold_and_losses_are_grey(two):
    style = tables.score_table(two)
    assert "With one seed" not in style.caption
    style._compute()
    place = {name: i for i, name in enumerate(style.data.index)}
    column = {name: i for i, name in enumerate(style.data.columns)}

    def css(row, *name):
        return {k for k, _ in style.ctx[place[row], column[name]]}

    assert css("Sparse sharing", "NER", "ours") == {"font-weight"}
    assert css("Hard sharing", "NER", "ours") == {"opacity"}
    assert css("Hard sharing", "NER", "Δ") == {"opacity"}
    assert css("Hard sharing", "NER", "Δ paper") == {"opacity"}
    assert css("Hard sharing", "POS", "ours") == set()
    assert css("Sparse sharing", "POS", "ours") == {"font-weight"}
    assert css("Sparse sharing", "parameters", "counted") == {"font-weight"}
    assert css("Single task", "NER", "ours") == set()


def test_a_control_of_unknown_name_comes_last(folder):
    change(
        folder / "results.csv",
        lambda t: pd.concat([t, t.query("system == 'sparse'").assign(system="guess")]),
    )
    r = load(folder)
    assert tables.score_table(r).data.index[-1] == "guess"
    figures.frontier_figure(r)


def test_tables_5_and_6_stand_beside_their_experiments(tmp_path):
    three = tables.score_table(load(write(tmp_path, experiment="exp3"))).data
    assert three.loc["Hard sharing", ("Chunking", "paper")] == 94.32
    assert np.isnan(three.loc["Hard sharing", ("parameters", "printed")])
    ours, quoted = list(three.index)[:5], three.loc[three.index.str.endswith(", published")]
    both = ["Sparse sharing", "Sparse sharing (Table 4)"]
    assert ours == ["Single task", "Hard sharing", "Meta-MTL-LSTM", *both]
    assert len(quoted) == len(three) - 5 == 3 and quoted.xs("ours", axis=1, level=1).isna().all(
        axis=None
    )
    assert quoted.loc["Huang, Xu, and Yu (2015), published", ("NER", "paper")] == 89.91

    write(tmp_path, experiment="negative_transfer")
    change(
        tmp_path / "results.csv",
        lambda t: t[t.task != "chunk"].replace({"task": {"pos": "pp"}}).assign(tasks="pp+ner"),
    )
    six = tables.score_table(load(tmp_path)).data
    assert list(six.loc["Hard sharing", "NER"]) == [88.0, -1.0, 61.62, -9.43]
    assert list(six.columns.unique(0))[:2] == ["NER", "Position"]


def test_genres_have_a_row_each_and_the_best_is_bold(two):
    style = tables.genre_table(two)
    table = style.data
    assert list(table.index)[:2] == [("POS", "letters"), ("POS", "nw")]
    assert list(table.columns) == ["words", "Single task", "Hard sharing", "Sparse sharing"]
    assert list(table.loc["POS", "nw"]) == [900, 96.5, 97.0, 97.25]  # means of two seeds, plus 1
    assert table.loc[("NER", "letters"), "Hard sharing"] == 86.5
    bold = re.findall(
        r"#T_\w+ (td|_row\d+_col\d+)|(row\d+_col\d+)", style.to_html().split("<table")[0]
    )
    assert ("", "row0_col3") in bold and ("", "row0_col1") not in bold
    assert tables.genre_table(replace(two, genres=two.genres[:0])).data.empty


def test_a_genre_that_a_split_lacks_has_no_score_there(folder):
    change(folder / "genres.csv", lambda t: t.assign(dev=None))
    assert load(folder).genres["dev"].isna().all()
    change(folder / "results.csv", lambda t: t.assign(dev=None))
    with pytest.raises(ValueError, match="results.csv, line 2: dev"):
        load(folder)


def test_ways_to_count_spans_have_a_table_of_their_own(two):
    table = tables.f1_table(two).data
    assert list(table.columns.unique(0)) == ["NER", "Chunking"]
    ways = table.loc["Sparse sharing", "NER"]
    assert list(ways[["lenient", "strict"]]) == [91, 90.5]
    assert ways.drop(["lenient", "strict"]).isna().all() and len(ways) == 5  # not recorded here
    headline = replace(two, results=two.results.query("metric != 'f1_strict'"))
    assert tables.f1_table(headline).data.loc["Sparse sharing", ("NER", "lenient")] == 91
    assert tables.score_table(headline).data.equals(tables.score_table(two).data)


def test_density_table(folder):
    table = tables.density_table(load(folder)).data
    assert list(table.index) == [("POS", 0), ("NER", 0), ("Chunking", 0)]
    assert (table["best on dev", "round"] == 3).all()  # 2 and 3 are equal: the sparser one
    assert list(table["nearest to the paper", "round"]) == [6, 5, 7]
    assert list(table["Table 4", "density"]) == [0.5012, 0.5623, 0.4467]
    assert (table["dense", "dev"] == 99).all()


def test_overlap_table(two):
    table = tables.overlap_table(two).data
    assert list(table.index) == ["POS & NER", "POS & NER & Chunking"]
    assert np.allclose(table.loc["POS & NER"], [0.55, 0.3, 0.25, 0.18, 0.7, 2])
    assert np.isnan(table.paper.iloc[1])


def test_cost_table(two):
    table = tables.cost_table(two).data
    assert list(table.columns) == [
        "models", "task-epochs", "times single", "processor minutes", "seeds timed"
    ]  # fmt: skip
    minutes, timed = 16.5 / 60, timed_seeds(two)
    assert np.allclose(table.loc["Single task"], [3, 27, 1, minutes, timed])
    assert np.allclose(table.loc["Hard sharing"], [1, 9, 9 / 27, 12.5 / 60, timed])


def timed_seeds(r):
    "Seeds with processor time."
    return r.results.dropna(subset="processor_seconds")["seed"].nunique()


def test_processor_time_is_over_the_seeds_that_have_it(two):
    "Another seed may have been trained before it was recorded."
    lacks = two.results.assign(
        processor_seconds=two.results["processor_seconds"].mask(two.results["task"] == "ner")
    )
    found = tables.cost_table(replace(two, results=lacks)).data
    assert np.isnan(found.loc["Single task", "processor minutes"]), "not the sum of two of three"
    assert found.loc["Single task", "seeds timed"] == 0
    only = two.results.assign(
        processor_seconds=two.results["processor_seconds"].mask(
            (two.results["system"] == "single") & (two.results["seed"] == 0)
        )
    )
    one = replace(two, results=two.results.query("seed == 1"))
    some, alone = tables.cost_table(replace(two, results=only)), tables.cost_table(one)
    same = "Single task", "processor minutes"
    assert some.data.loc[same] == alone.data.loc[same]
    assert some.data.loc["Single task", "seeds timed"] == 1


def test_a_caption_warns_of_unlike_seeds(two):
    remark = "Unlike seeds may be timed on unlike machines"
    new = two.results.assign(processor_seconds=1.0)
    late = new[(new["system"] == "single") | (new["seed"] == 0)]
    assert remark in tables.cost_table(replace(two, results=late)).caption
    assert remark not in tables.cost_table(replace(two, results=new)).caption


def test_figures_show_each_task_with_one_colour_per_system(two):
    fig = figures.curve_figure(two)
    assert [ax.get_title() for ax in fig.axes] == ["POS", "NER", "Chunking"]
    (legend,) = fig.legends
    got = {
        t.get_text(): h.get_color()
        for t, h in zip(legend.texts, legend.legend_handles, strict=True)
    }
    assert got == {SYSTEMS[s].label: SYSTEMS[s].colour for s in SCORES}


def test_curves_show_where_the_warmup_ends_if_it_is_one(two):
    def ends(r):
        lines = [line for ax in figures.curve_figure(r).axes for line in ax.get_lines()]
        return [x.get_xdata()[0] for x in lines if x.get_label() == "end of the warmup"]

    one = replace(two, run={**two.run, "settings": {"warmup": 2}})
    assert ends(one) == [2, 2, 2] and ends(two) == []
    assert ends(replace(one, run={**one.run, "settings": {"warmup": 0}})) == []
    assert ends(replace(one, curves=one.curves.assign(level=1))) == []


def test_rounds_of_a_system_have_its_mark_and_lines_of_their_own(two):
    rounds = pd.concat(
        [two.results.query("system == 'hard'").assign(system="sparse", level=z) for z in (1, 2)]
    )
    r = replace(two, results=pd.concat([two.results.query("system != 'sparse'"), rounds]))
    (legend,) = figures.frontier_figure(r).legends
    marks = {
        t.get_text(): h.get_marker()
        for t, h in zip(legend.texts, legend.legend_handles, strict=True)
    }
    numbered = {label(Key("sparse", level=z)) for z in (1, 2)}
    assert {marks[name] for name in numbered} == {SYSTEMS["sparse"].marker}
    curves = pd.concat(
        [two.curves.query("system == 'hard'").assign(system="sparse", level=z) for z in (1, 2)]
    )
    (legend,) = figures.curve_figure(replace(two, curves=curves)).legends
    styles = {
        t.get_text(): h.get_linestyle()
        for t, h in zip(legend.texts, legend.legend_handles, strict=True)
    }
    assert len({styles[name] for name in numbered}) == 2


def test_systems_have_the_same_mark_in_every_frontier(two):
    def marks(r):
        handles = figures.frontier_figure(r).legends[0]
        return {
            text.get_text(): handle.get_marker()
            for text, handle in zip(handles.texts, handles.legend_handles, strict=True)
        }

    some = replace(two, results=two.results[two.results["system"] != "single"])
    assert marks(some).items() <= marks(two).items()
    assert marks(two) == {
        name: s.marker for s in SYSTEMS.values() if (name := s.label) in marks(two)
    }


def test_numbered_systems_get_darker_around_the_full_colour():
    keys = [Key("sparse", level=z) for z in (0, 10, 5)]
    palette = figures.look([*keys, Key("hard")])["palette"]
    light, full, dark = (palette[label(Key("sparse", level=z))] for z in (0, 5, 10))
    brightness = [sum(to_rgb(c)) for c in (light, full, dark)]
    assert brightness == sorted(brightness, reverse=True)
    assert brightness[0] - brightness[2] > 1, "easily told apart"
    assert full.upper() == SYSTEMS["sparse"].colour
    assert palette["Hard sharing"] == SYSTEMS["hard"].colour


def test_density_figure_marks_the_chosen_and_the_dense(folder):
    ax = figures.density_figure(load(folder)).axes[0]
    marks = {line.get_label(): line for line in ax.get_lines()}
    assert list(marks["dense, cannot be chosen"].get_xdata()) == [1]
    assert np.allclose(marks["chosen"].get_xdata(), 0.1 ** (3 / 20))
    left, right = ax.get_xlim()
    assert left > 1 > right


def test_frontier_leaves_out_a_system_without_all_tasks(two):
    some = replace(two, results=two.results.query("system != 'hard' or task == 'pos'"))
    ours = figures.frontier_figure(some).axes[0]
    assert len(ours.collections[0].get_offsets()) == 2


def test_half_a_run_shows_what_there_is(folder):
    for name in ["candidates", "curves", "overlap"]:
        change(folder / f"{name}.csv", lambda t: t[:0])
    change(folder / "results.csv", lambda t: t.query("system == 'hard' and task == 'ner'"))
    r = load(folder)
    assert tables.score_table(r).data.loc["Hard sharing", ("NER", "ours")] == 88
    assert tables.density_table(r).data.empty and tables.overlap_table(r).data.empty
    for style in [tables.density_table(r), tables.overlap_table(r), tables.cost_table(r)]:
        assert "not comparable" in style.to_html()
    for figure in [figures.density_figure, figures.curve_figure, figures.frontier_figure]:
        figure(r).canvas.draw()


def test_the_same_numbers_give_the_same_html(two):
    assert tables.score_table(two).to_html() == tables.score_table(two).to_html()
    assert tables.score_table(two).uuid != tables.f1_table(two).uuid


def test_a_mask_of_a_fixed_density_is_charged_with_the_rounds_before_its_own():
    r = load(recorded("exp1-annealed-conll2003"))
    settings = r.run["settings"]
    passes = 3 * (settings["warmup"] + settings["epochs"])
    rounds = tables.nearest_to_paper(r)["round"].groupby("seed").sum()
    every = r.candidates.groupby("seed").size()
    spent = r.results.groupby(["system", "seed"])["task_epochs"].first()
    assert len(spent["sparse_table4"]) > 3
    for seed, task_epochs in spent["sparse_table4"].items():
        assert task_epochs == passes + settings["round_epochs"] * rounds[seed]
        assert spent["sparse", seed] == passes + settings["round_epochs"] * every[seed]
