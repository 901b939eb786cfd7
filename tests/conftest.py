"Fixtures shared by the tests."

import os
from pathlib import Path

import pytest
from filelock import FileLock
from helpers import run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    "The folder of measuring corpora, which are not part of the project."
    folder = Path(os.environ.get("SPARSE_SHARING_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no measuring corpora at {folder}: set SPARSE_SHARING_DATA")
    return folder


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    "The folder of the site, built from the notebooks as they are: once, whichever process asks first."
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    with FileLock(shared / "site.lock"):
        if not (shared / "site").exists():
            run("python", ROOT / "docs" / "build.py")
            (shared / "site").touch()
    return ROOT / "docs" / "_build" / "html"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    "An empty working folder, so that messages hold relative names."
    monkeypatch.chdir(tmp_path)
    return tmp_path
