"The site: it is built without a warning, every link in it leads somewhere, and no page needs the network."

import importlib
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from helpers import NOTEBOOKS, ROOT, modules, page
from nbformat.v4 import new_code_cell, new_output

import sparse_sharing

sys.path.insert(0, str(ROOT / "docs"))
import names
import nb_reader

HTML = ROOT / "docs" / "_build" / "html"


class Page(HTMLParser):
    "The targets (`id`), links, loaded files and words for pictures of one page."

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.loads, self.alts = set(), [], [], []
        self.rel = {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag == "a" and a.get("href"):
            self.links.append(a["href"])
        if tag == "link" and a.get("rel") in ("next", "prev"):
            self.rel[a["rel"]] = a["href"]
        elif tag == "link" and a.get("href"):
            self.loads.append(a["href"])
        if tag == "img":
            self.alts.append(a.get("alt") or "")
        if a.get("src"):
            self.loads.append(a["src"])


def broken(pages: dict[Path, Page]) -> list[str]:
    "The links and files of the pages that lead nowhere, or to the network where a file is loaded."
    found = []
    for path, parsed in pages.items():
        for url in parsed.links + parsed.loads:
            parts = urlsplit(url)
            if parts.scheme == "data" or (parts.scheme and url in parsed.links):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            lost = parts.scheme or parts.netloc or not target.exists()
            if target in pages and parts.fragment:
                lost = lost or unquote(parts.fragment) not in pages[target].ids
            if lost:
                found.append(f"{path.name}: {url}")
    return found


@pytest.fixture(scope="module")
def pages(site):
    return {p: Page(p) for p in sorted(site.rglob("*.html"))}


@pytest.mark.e2e
def test_every_notebook_has_a_page_and_the_pages_follow_each_other(pages):
    order, path = [], HTML / "index.html"
    while path.suffix:
        order.append(path.relative_to(HTML).with_suffix("").as_posix())
        path = (path.parent / pages[path].rel.get("next", ".")).resolve()
    notebooks = [page(p) for p in NOTEBOOKS]
    assert sorted(order) == sorted([*notebooks, "names/index"])
    chapters = [name for name in notebooks if "/" in name]
    assert order[1 : len(chapters) + 1] == chapters


def test_every_notebook_names_its_language():
    "Without it, the site cannot colour the code."
    known = [json.loads(p.read_text("utf-8"))["metadata"].get("kernelspec", {}) for p in NOTEBOOKS]
    assert {kernel.get("language") for kernel in known} == {"python"}


@pytest.mark.e2e
def test_links_and_images_lead_somewhere(pages):
    assert not broken(pages)


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top"><a href="#top">1</a><a href="b.html">2</a><a href="b.html#no">3</a>'
        '<a href="gone.html">4</a><a href="https://example.org/x">5</a></h1>'
    )
    (tmp_path / "b.html").write_text('<img src="x.png"><script src="https://example.org/x.js">')
    pages = {p: Page(p) for p in sorted(tmp_path.glob("*.html"))}
    assert broken(pages) == [
        *("a.html: b.html#no", "a.html: gone.html"),
        *("b.html: x.png", "b.html: https://example.org/x.js"),
    ]


@pytest.mark.e2e
def test_every_public_name_has_a_page_with_its_source(pages):
    wanted = set()
    for file in modules():
        module = file.removesuffix(".py").replace("/", ".")
        if not module.rpartition(".")[2].startswith("_"):
            offered = getattr(importlib.import_module(f"sparse_sharing.{module}"), "__all__", [])
            wanted |= {(module, name) for name in offered}
    entries = names.public()
    assert {(e.module, e.name) for e in entries} >= wanted and len(wanted) > 500
    listed = pages[HTML / "names" / "index.html"].links
    for entry in entries:
        path = HTML / "names" / f"{entry.page}.html"
        assert f"{entry.page}.html" in listed and path in pages
        assert any(link.startswith(names.CODE) for link in pages[path].links)
    assert len({e.page.lower() for e in entries}) == len(entries)
    together = pages[HTML / "api.html"].links
    given = names.of_face(entries)
    assert {e.name for e in given} == set(sparse_sharing.__all__)
    assert all(f"names/{e.page}.html" in together for e in given)


@pytest.mark.e2e
def test_figures_and_equations_are_numbered_and_told_in_words(pages):
    figures = 0
    for path, parsed in pages.items():
        text = path.read_text("utf-8")
        numbers = [int(n) for n in re.findall(r"<strong>Figure (\d+)\.</strong>", text)]
        assert numbers == list(range(1, len(numbers) + 1)), path
        assert len(numbers) == len(parsed.alts), f"{path}: a picture without a number"
        assert all(len(alt) > 12 and ".png" not in alt for alt in parsed.alts), path
        equations = [int(n) for n in re.findall(r'class="eqno">\((\d+)\)', text)]
        assert equations == list(range(1, len(equations) + 1)), path
        assert len(equations) == text.count('<div class="math notranslate nohighlight"'), path
        figures += len(numbers)
    cells = (c for p in NOTEBOOKS for c in json.loads(p.read_text("utf-8"))["cells"])
    outputs = [o for c in cells for o in c.get("outputs", [])]
    assert figures == len([o for o in outputs if "image/png" in o.get("data", {})]) > 60


@pytest.mark.e2e
def test_the_front_page_leads_to_the_replication_and_to_the_names(pages):
    front = pages[HTML / "index.html"].links
    assert {"replication.html", "api.html", "names/index.html"} <= set(front)


def picture(source: str, *more):
    shown = new_output("display_data", {"image/png": "iVBORw0KGgo="})
    return new_code_cell(source, outputs=[shown, *more])


def test_words_for_a_figure_are_found():
    docs = {"score_figure": "Scores by epoch."}
    assert nb_reader.caption(picture("x"), {"fig-cap": "A mask"}, docs) == "A mask"
    titled = picture("fig, ax = plt.subplots()\nfig.suptitle('One mask', x=0.01)")
    assert nb_reader.caption(titled, {}, docs) == "One mask"
    assert nb_reader.caption(picture("figures.score_figure(r)"), {}, docs) == "Scores by epoch."
    with pytest.raises(ValueError, match="fig-cap"):
        nb_reader.caption(picture("plt.plot(x)"), {}, docs)


def test_a_figure_stands_apart_from_a_table():
    table = new_output("execute_result", {"text/plain": "1"})
    cell = picture("draw()", table)
    alone = picture("draw()")
    assert nb_reader.parted(alone) == [alone]
    source, drawn, rest = nb_reader.parted(cell)
    assert source.source == "draw()" and source.outputs == []
    assert "image/png" in drawn.outputs[0].data and rest.outputs == [table]
    assert drawn.metadata["tags"] == rest.metadata["tags"] == ["remove-input"]


def test_equations_get_labels():
    text = "$$a$$\n\nso\n\n$$\nb\n$$ (eq-b)\n\n```\n$$c$$\n```\n\n$$d$$"
    wanted = text.replace("$$a$$", "$$a$$ (eq-m-x-3)").replace("$$d$$", "$$d$$ (eq-m-x-5)")
    assert nb_reader.numbered_equations(text, "m/x", 2) == (wanted, 5)


def test_the_page_of_a_class_shows_what_it_inherits(tmp_path):
    folder = tmp_path / "sparse_sharing"
    folder.mkdir()
    (folder / "a.py").write_text(
        "# AUTOGENERATED! DO NOT EDIT! File to edit: ../nbs/method/00_a.ipynb.\n"
        "__all__ = ['Base', 'Mine', 'mine', 'LIMIT']\n\nLIMIT = 3\n\n"
        'class Base:\n    def both(self, x: int) -> int:  # doubled\n        "Two."\n        return 2 * x\n\n'
        'class Mine(Base):\n    "My own."\n\n    def __init__(self, y: int):\n        self.y = y\n\n'
        "    def both(self, x):\n        return x\n\n    def _hidden(self): ...\n\n"
        'def mine() -> Mine:\n    "Make one."\n    return Mine(1)\n'
    )
    found = names.public(tmp_path)
    assert [e.page for e in found] == ["a.LIMIT-constant", "a.Base-class", "a.Mine-class", "a.mine"]
    index = {e.name: [e] for e in found}
    shown = {name: made.name for name, (made, _) in names.methods(found[2], index).items()}
    assert shown == {"__init__": "Mine", "both": "Mine"}
    text = names.written(found[2], index, "sparse_sharing.a", {names.anchor(found[2])})
    for words in (
        "import Mine",
        "My own.",
        "def __init__(self, y: int):",
        "#L11-L",
        "(#api-method-a--mine)",
    ):
        assert words in text
    assert "_hidden" not in text.split("<details>")[0]
    assert "def both(self, x: int) -> int:  # doubled" in names.written(found[1], index, "x", set())
