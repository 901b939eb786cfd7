"Write the README's result from a recorded run: no number in it is typed."

from pathlib import Path

from sparse_sharing.report import load, recorded
from sparse_sharing.report.claims import verdict_table
from sparse_sharing.report.replication import TABLE6

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- result: written by docs/readme.py -->\n", "<!-- end of result -->\n"


def result() -> str:
    "What Table 6 is here, in a few lines of Markdown."
    run = load(recorded("negative_transfer-conll2003"))
    table = verdict_table(run, [claim for claim in TABLE6 if claim.primary]).data
    lines = [
        "Entities of CoNLL-2003 beside a task that has nothing to do with them (Table 6 of the paper), "
        f"in points of F1, with 95 % intervals over {run.results['seed'].nunique()} seeds. The budget is short, and a verdict takes eight seeds.",
        "",
        "| claim | paper | here | verdict |",
        "|---|---|---|---|",
    ]
    for claim, row in table.iterrows():
        here = f"{row['Δ']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]"
        lines.append(f"| {claim} | {row['Δ paper']:+.1f} | {here} | {row['verdict']} |")
    return "\n".join([*lines, ""])


def renewed(text: str) -> str:
    "A README with the result of today."
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}{result()}{END}{after}"


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
