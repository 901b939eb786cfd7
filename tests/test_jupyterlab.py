"A reader's first minutes: `exp1.ipynb` in JupyterLab, Run All, progress, tables and figures."

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from browser import chromium
from helpers import ROOT

pytestmark = pytest.mark.e2e
SMALL = {
    "epochs": 1,
    "warmup": 1,
    "min_density": 0.9,
    "systems": '"single hard sparse sparse_table4"',
}


@pytest.fixture
def folder(tmp_path) -> Path:
    "A copy of the notebook, with a budget of a minute."
    notebook = json.loads((ROOT / "nbs" / "exp1.ipynb").read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if "parameters" in cell["metadata"].get("tags", []):
            for name, value in SMALL.items():
                source, count = re.subn(rf"(?m)^({name}: \w+ = )\S+", rf"\g<1>{value}", source)
                assert count == 1
            source = source.replace('"results"', repr(str(tmp_path / "results")))
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
        cell["source"] = source.splitlines(True)
    notebook["cells"] = notebook["cells"][: last_of_the_run(notebook["cells"])]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook["metadata"]["kernelspec"] = kernel  # as JupyterLab writes it once a reader has chosen
    (tmp_path / "exp1.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    return tmp_path


def last_of_the_run(cells: list[dict]) -> int:
    "Where the recorded run begins, which is shown after one's own."
    texts = ["".join(cell["source"]) for cell in cells]
    return next(i for i, text in enumerate(texts) if text.startswith("## A recorded run"))


@pytest.fixture
def lab(folder):
    "The address of a JupyterLab in that folder."
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = folder / "lab" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    whole_page = json.dumps({"windowingMode": "none"})  # also cells that are out of sight
    (settings / "tracker.jupyterlab-settings").write_text(whole_page)
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}",
        "--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}",
        f"--LabApp.user_settings_dir={folder / 'lab'}", f"--LabApp.workspaces_dir={folder / 'spaces'}",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    address = f"http://127.0.0.1:{port}"
    with (folder / "lab.log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment)
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"{address}/api", timeout=1).read()
                    break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            server.terminate()
            server.wait(30)


def wait_for_kernel(page) -> None:
    "The kernel is shown as idle before it is asked for, too: so wait until it has stayed so."
    light, calm = page.locator(".jp-Notebook-ExecutionIndicator").first, 0
    for _ in range(120):
        calm = calm + 1 if light.get_attribute("data-status") == "idle" else 0
        if calm == 10:
            return
        time.sleep(1)
    raise AssertionError("no kernel in two minutes")


def test_run_all(folder, lab):
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1366, "height": 900})
        page.goto(f"{lab}/lab/tree/exp1.ipynb", wait_until="load")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=120_000)
        wait_for_kernel(page)
        page.click(".lm-MenuBar-itemLabel:text-is('Run')")
        page.click("li[data-command='runmenu:run-all']")
        output = ".jp-OutputArea-output"
        page.wait_for_selector(f"{output}:has-text('dev')", timeout=400_000)  # progress
        page.wait_for_function(
            "() => [...document.querySelectorAll('.jp-InputPrompt')]"
            ".every(p => !p.textContent.includes('*'))"
            " && [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].slice(-1)[0]"
            ".textContent.match(/[0-9]/)",
            timeout=900_000,
        )
        failed = "[data-mime-type='application/vnd.jupyter.error'], [data-mime-type*='stderr']:has-text('Error')"
        assert page.locator(failed).count() == 0
        text = page.locator(".jp-Notebook").inner_text()
        assert "Sparse sharing (Table 4)" in text and "Test scores in percent" in text
        assert page.locator(f"{output} img").count() >= 3  # figures 3, curves, sizes
        assert (folder / "results" / "results.csv").is_file()
