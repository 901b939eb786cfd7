"A headless Chromium for the tests, and what it finds wrong with a page."

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

QUIET = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
WIDTHS = (1366, 390)  # a laptop, a telephone

LOOK = """() => ({
    wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    lost: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 80)),
    silent: [...document.images].filter(i => !i.alt.trim()).map(i => i.src.slice(0, 80)),
    anchors: [...document.querySelectorAll('a[href^="#"]')].map(a => decodeURIComponent(a.hash.slice(1)))
        .filter(id => id && !document.getElementById(id) && !document.getElementsByName(id).length),
})"""


# Text whose colour is too near to the colour behind it: less than 4.5 to 1, or 3 to 1 for large letters (WCAG 2.1, AA).
PALE = """() => {
    const parts = colour => { const n = colour.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
    const over = (top, under) => under.map((v, i) => top[i] * top[3] + v * (1 - top[3]));
    const light = rgb => {
        const [r, g, b] = rgb.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const parents = node => { const all = []; for (; node; node = node.parentElement) all.push(node); return all; };
    const pale = new Set();
    for (const node of document.querySelectorAll('body *')) {
        const text = [...node.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('');
        const hidden = !node.checkVisibility({opacityProperty: true, visibilityProperty: true});
        if (!text || hidden || node.closest('svg, script, style, noscript')) continue;
        const style = getComputedStyle(node), layers = parents(node);
        const ground = layers.map(n => parts(getComputedStyle(n).backgroundColor)).reverse()
            .reduce((under, top) => over(top, under), [255, 255, 255]);
        const ink = parts(style.color);
        ink[3] *= layers.reduce((all, n) => all * getComputedStyle(n).opacity, 1);
        const [a, b] = [light(over(ink, ground)), light(ground)].sort((x, y) => x - y);
        const ratio = (b + 0.05) / (a + 0.05);
        if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5))
            pale.add(`${style.color} on ${ground.map(Math.round)}: ${text.slice(0, 20)}`);
    }
    return [...pale].slice(0, 5);
}"""
SCHEMES = ("light", "dark")


@contextmanager
def chromium() -> Iterator:
    "A browser. Skips the test, with the reason, where there is none."
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no chromium on this machine: `apt-get install chromium`")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()


class _Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    "The address of a server of the files of a folder."
    handler = functools.partial(_Silent, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def faults(browser, address: str, page: str, widths: tuple[int, ...] = WIDTHS) -> list[str]:
    "What is wrong with a page: errors in the console, images, requests to elsewhere, anchors, width, pale text."
    found: list[str] = []
    tab = browser.new_page()

    def guard(route) -> None:
        if urlsplit(route.request.url).netloc in ("", urlsplit(address).netloc):
            route.continue_()
        else:
            found.append(f"asks for {route.request.url}")
            route.abort()

    tab.route("**/*", guard)
    tab.on("console", lambda m: found.append(f"console: {m.text}") if m.type == "error" else None)
    tab.on("pageerror", lambda error: found.append(f"error: {error}"))
    for width in widths:
        tab.set_viewport_size({"width": width, "height": 900})
        if width == widths[0]:
            tab.goto(f"{address}/{page}", wait_until="load")
        tab.wait_for_function(
            "() => !window.MathJax || !MathJax.startup || !MathJax.startup.promise"
            " || MathJax.startup.promise.then(() => true)"
        )
        seen = tab.evaluate(LOOK)
        if seen["wide"] > 0:
            found.append(f"{seen['wide']} pixels too wide at {width}")
    for scheme in SCHEMES:
        tab.emulate_media(color_scheme=scheme)
        found += [f"hard to read in {scheme}: {text}" for text in tab.evaluate(PALE)]
    found += [f"no image: {source}" for source in seen["lost"]]
    found += [f"no words for an image: {source}" for source in seen["silent"]]
    found += [f"leads nowhere: #{anchor}" for anchor in seen["anchors"]]
    tab.close()
    return [f"{page}: {fault}" for fault in dict.fromkeys(found)]
