"Fixtures shared by the tests."

import os
from pathlib import Path

import pytest
from helpers import run

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    "One process runs the tests of a file, which share what they made; and one all that look at the site."
    for item in items:
        looks = "site" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("site" if looks else item.nodeid.split("::")[0]))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    "The folder of measuring corpora, which are not part of the project."
    folder = Path(os.environ.get("SPARSE_SHARING_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no measuring corpora at {folder}: set SPARSE_SHARING_DATA")
    return folder


@pytest.fixture(scope="session")
def site() -> Path:
    "The folder of the site, built from the notebooks as they are."
    run("python", ROOT / "docs" / "build.py")
    return ROOT / "docs" / "_build" / "html"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    "An empty working folder, so that messages hold relative names."
    monkeypatch.chdir(tmp_path)
    return tmp_path
