"The site in a real browser: no error, no missing image, no request to elsewhere, no page that is too wide."

import pytest
from browser import chromium, faults, served

import sparse_sharing


@pytest.mark.e2e
def test_every_page_is_sound_on_a_laptop_and_on_a_telephone(site):
    "Of the pages of single names, which are all made alike: every fourth of those that the package itself gives."
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    names = [page for page in pages if page.startswith("names/") and page != "names/index.html"]
    some = sorted(sparse_sharing.__all__)[::4]
    given = {f".{name}{kind}.html" for name in some for kind in ("", "-class")}
    left_out = [page for page in names if not page.endswith(tuple(given))]
    pages = [page for page in pages if page not in set(left_out)]
    assert len(pages) > 90 and len(names) > 500
    with chromium() as browser, served(site) as address:
        assert [fault for page in pages for fault in faults(browser, address, page)] == []


@pytest.mark.e2e
def test_what_is_wrong_is_found(tmp_path):
    (tmp_path / "bad.html").write_text(
        "<div style='width: 2000px'>wide</div><a href='#gone'>to nowhere</a>"
        "<img src='gone.png' alt='a picture'><img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>"
        "<script src='https://example.org/x.js'></script><script>console.error('oh')</script>"
        "<script>undefined.x</script><p style='color: #999'>pale</p><p style='opacity: .4'>thin</p>"
        "<style>@media (prefers-color-scheme: dark) { b { background: #222; } }</style><b>black</b>"
    )
    (tmp_path / "good.html").write_text("<h1 id='here'>fine</h1><a href='#here'>up</a>")
    with chromium() as browser, served(tmp_path) as address:
        assert faults(browser, address, "good.html") == []
        found = " ".join(faults(browser, address, "bad.html"))
    for words in (
        "pixels too wide at 1366",
        "pixels too wide at 390",
        "leads nowhere: #gone",
        "no image: ",
        "no words for an image: data:image/gif",
        "asks for https://example.org/x.js",
        "console: oh",
        "error: Cannot read properties of undefined",
        "hard to read in light: rgb(153, 153, 153) on 255,255,255: pale",
        "hard to read in light: rgb(0, 0, 0) on 255,255,255: thin",
        "hard to read in dark: rgb(0, 0, 0) on 34,34,34: black",
    ):
        assert words in found, (words, found)
