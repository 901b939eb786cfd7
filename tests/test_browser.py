"The site in a real browser: no error, no missing image, no request to elsewhere, no page that is too wide."

import pytest
from browser import chromium, faults, served


@pytest.mark.e2e
def test_every_page_is_sound_on_a_laptop_and_on_a_telephone(site):
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
    assert len(pages) > 60
    with chromium() as browser, served(site) as address:
        assert [fault for page in pages for fault in faults(browser, address, page)] == []


@pytest.mark.e2e
def test_what_is_wrong_is_found(tmp_path):
    (tmp_path / "bad.html").write_text(
        "<div style='width: 2000px'>wide</div><a href='#gone'>to nowhere</a>"
        "<img src='gone.png' alt='a picture'><img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>"
        "<script src='https://example.org/x.js'></script><script>console.error('oh')</script>"
        "<script>undefined.x</script>"
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
    ):
        assert words in found, (words, found)
