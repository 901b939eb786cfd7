"The site: it is built without a warning, every link in it leads somewhere, and no page needs the network."

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from helpers import NOTEBOOKS, ROOT, page

HTML = ROOT / "docs" / "_build" / "html"


class Page(HTMLParser):
    "The targets (`id`), links and loaded files of one page."

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
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
    assert sorted(order) == sorted(notebooks)
    chapters = [name for name in notebooks if "/" in name]
    assert order[1 : len(chapters) + 1] == chapters


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
