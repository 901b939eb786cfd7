"""Attack the study engine in every way that the tests know, and write down what came of it.

`python tests/attacks.py` runs all of it, about half an hour on an idle machine with two cores, and writes
nbs/results/attacks/attacks.csv; with names of test files, such as `test_kills.py`, it runs these alone and leaves the other rows.
A row counts the tests of an attack, how many times it was tried in them, and how many tests were passed or skipped.
"""

import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "nbs" / "results" / "attacks" / "attacks.csv"
ATTACKS = {
    "test_kills.py": {
        "full_disk|disk_that_is_full": "a full disk",
        "two_studies|a_third|two_experiments|one_of_two": "several studies on one folder, one of them killed",
        "": "a study that is killed, interrupted or terminated: all of it, its main process, a worker",
    },
    "test_stops.py": {
        "two_commands": "several studies on one folder, one of them killed",
        "": "papermill or a notebook's kernel that is interrupted, terminated, killed or restarted",
    },
    "test_dask.py": {
        "": "a Dask cluster: workers lost, late, or unlike; a scheduler that dies or is not there"
    },
    "test_damage.py": {"": "files of a results folder cut, flipped, gone, edited or exchanged"},
    "test_hostile.py": {
        "flips": "single bits flipped in weights and masks",
        "TestLinks|names_files_elsewhere": "links and names that lead out of the results folder",
        "TestNoFiles": "folders, pipes, links and monsters in place of files",
        "TestSealed": "sealed files that lack something, or say what cannot be",
        "": "folders of other users, other machines, other data",
    },
    "test_parameters.py": {"": "odd values of parameters"},
}
ALONE = ("test_kills.py", "test_stops.py", "test_dask.py")  # watch processes: nothing runs beside


def cases(file: str) -> list[ElementTree.Element]:
    "Run a file's tests, the long ones, too; what came of each."
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        processes = "0" if file in ALONE else "auto"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", "-n", processes]
        command += ["-o", "junit_family=xunit1", f"--junitxml={report}", f"tests/study/{file}"]
        subprocess.run(command, cwd=ROOT, check=False)
        return list(ElementTree.parse(report).iter("testcase"))


def tries(case: ElementTree.Element) -> int:
    "How many times a test tries it: what it has recorded, or once."
    said = [p.get("value") for p in case.iter("property") if p.get("name") == "tries"]
    return int(said[0] or 1) if said else 1


def rows(file: str) -> list[dict[str, object]]:
    "A row for each test of a file."
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = []
    for case in cases(file):
        name = f"{case.get('classname')}.{case.get('name')}"
        attack = next(a for pattern, a in ATTACKS[file].items() if re.search(pattern, name))
        skipped = case.find("skipped") is not None
        failed = case.find("failure") is not None or case.find("error") is not None
        found.append(
            dict(
                attack=attack,
                file=file,
                commit=commit.stdout.strip(),
                tests=1,
                tries=0 if skipped else tries(case),
                passed=int(not skipped and not failed),
                skipped=int(skipped),
            )
        )
    return found


def main() -> None:
    TABLE.parent.mkdir(exist_ok=True)
    for file in sys.argv[1:] or ATTACKS:
        table = pd.DataFrame(rows(file)).groupby(["attack", "file", "commit"], as_index=False).sum()
        if TABLE.exists():
            before = pd.read_csv(TABLE, dtype={"commit": str})
            table = pd.concat([before[before["file"] != file], table])
        table.sort_values(["attack", "file"]).to_csv(TABLE, index=False)


if __name__ == "__main__":
    main()
