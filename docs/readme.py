"Write the README's result from a recorded run: no number in it is typed."

from pathlib import Path

import pandas as pd

from sparse_sharing.report import load
from sparse_sharing.report.claims import verdict_table
from sparse_sharing.report.replication import run_of, table3_claims
from sparse_sharing.report.results import Results, scores
from sparse_sharing.report.tables import over_seeds, published, shared_seeds
from sparse_sharing.study.schema import Key, label, task_label

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- result: written by docs/readme.py -->\n", "<!-- end of result -->\n"
SHOWN = ["single", "hard", "sparse_table4", "sparse", "alone"]  # systems, in this order


def markdown(table: pd.DataFrame, name: str) -> list[str]:
    "A table of strings as lines of Markdown; `name` stands above its rows."
    rows = [[name, *table.columns], ["---"] * (1 + len(table.columns))]
    rows += [
        [str(index), *row] for index, row in zip(table.index, table.values.tolist(), strict=True)
    ]
    return ["| " + " | ".join(row) + " |" for row in rows]


def means(run: Results, rows: pd.DataFrame) -> pd.DataFrame:
    "Mean test scores of each system, in brackets the paper's, and parameters."
    ours, theirs = over_seeds(rows), published(run)["score"]
    table = {}
    for system in map(label, map(Key, SHOWN)):
        cells = {}
        for task in run.tasks:
            paper = theirs.get((system, task))
            cells[task_label(task)] = f"{ours.score[system, task]:.2f}" + (
                "" if paper is None else f" ({paper:.2f})"
            )
        table[system] = cells | {"parameters": f"{ours.parameters[system].mean():,.0f}"}
    return pd.DataFrame.from_dict(table, orient="index")


def claims(run: Results) -> pd.DataFrame:
    "What the run says of the primary claims: an interval where there are seeds enough for one."
    frame = verdict_table(run, [claim for claim in table3_claims() if claim.primary]).data
    table = {}
    for claim, row in frame[frame["seeds"] > 0].iterrows():
        known = pd.notna(row["low"]) and pd.notna(row["high"])
        interval = f" [{row['low']:+.2f}, {row['high']:+.2f}]" if known else ""
        table[claim] = {
            "paper": f"{row['Δ paper']:+.2f}",
            "here": f"{row['Δ']:+.2f}{interval}",
            "verdict": row["verdict"],
        }
    return pd.DataFrame.from_dict(table, orient="index")


def result() -> str:
    "What Table 3 is here, in a few lines of Markdown."
    run = load(run_of("exp1"))
    every = scores(run)
    rows, _ = shared_seeds(every[every["label"].isin([label(Key(system)) for system in SHOWN])])
    lines = [
        "The paper's main table (Table 3, CoNLL-2003): accuracy of POS, F1 of entities and chunks on the test set in percent, "
        f"means over {rows['seed'].nunique()} seeds, in brackets the paper's. Sparse sharing has the densities of the paper's Table 4, or those chosen on dev.",
        "",
        *markdown(means(run, rows), "system"),
        "",
        "The paper's claims, about sparse sharing with Table 4's densities, in points: a positive number speaks for the claim. Where something is to be as good, a number near 0 does, and the task is shown in which that is hardest to say (within 0.3 points of F1, 0.1 of accuracy). A verdict takes eight seeds, an interval at 95 % six (at 90 %, for as good, five).",
        "",
        *markdown(claims(run), "claim"),
    ]
    return "\n".join([*lines, ""])


def renewed(text: str) -> str:
    "A README with the result of today."
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{result()}{END}{after}"


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
