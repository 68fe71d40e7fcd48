"""The built site, as files and in Chromium: links that lead somewhere, nothing from elsewhere, a desktop, a phone, and the search."""

from __future__ import annotations

import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import deploykit
from deploykit import plugins

pytestmark = pytest.mark.slow

WIDTHS = (1280, 390)
FRAMES = """<!doctype html><html><body><script>
const found = {};
const frame = document.createElement('iframe');
// Whether it, or what is around it within the text, has a scrollbar of its own: code and tables may be wider than a phone.
const scrolls = each => each && !/^(ARTICLE|BODY)$/.test(each.tagName) &&
  (/auto|scroll/.test(each.ownerDocument.defaultView.getComputedStyle(each).overflowX) || scrolls(each.parentElement));
const look = () => {
  const inner = frame.contentDocument, root = inner.documentElement;
  return {
    title: inner.title,
    wide: Math.max(root.scrollWidth, inner.body.scrollWidth) - frame.clientWidth,
    outside: [...inner.querySelectorAll('article, article *')].filter(each => {
      const box = each.getBoundingClientRect();
      return box.width && box.left < frame.clientWidth && box.right > frame.clientWidth + 1 && !scrolls(each.parentElement);
    }).map(each => `${each.tagName} ${each.className} ${each.textContent.slice(0, 40)}`).slice(0, 3),
    broken: [...inner.images].filter(image => !image.complete || image.naturalWidth === 0).map(image => image.src),
    styled: [...inner.styleSheets].length,
  };
};
const visit = (page, width) => new Promise(done => {
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  frame.onload = () => setTimeout(() => done(look()), 20);
  frame.src = page;
});
const search = word => new Promise(done => {
  frame.onload = () => {
    let tries = 0;
    const wait = setInterval(() => {
      const links = [...frame.contentDocument.querySelectorAll('#search-results li a')];
      if ((links.length > 3 && tries > 20) || ++tries > 150) { clearInterval(wait); done(links.map(a => a.getAttribute('href'))); }
    }, 20);
  };
  frame.src = 'search.html?q=' + word;
});
document.body.append(frame);
(async () => {
  for (const width of WIDTHS) for (const page of PAGES) found[width + ' ' + page] = await visit(page, width);
  for (const word of WORDS) found['search ' + word] = await search(word);
  document.title = 'done';
  const pre = document.createElement('pre');
  pre.id = 'found';
  pre.textContent = JSON.stringify(found);
  document.body.replaceChildren(pre);
})();
</script></body></html>"""


class Links(HTMLParser):
    """The `href` and `src` of a page, what of them is loaded with it, and its `id`s."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.add(given["id"])
        target = given.get("src") or given.get("href")
        if target:
            self.targets.append(target)
            if tag in ("script", "img", "iframe") or (
                tag == "link" and given.get("rel") not in ("canonical", "index", "search", "next", "prev")
            ):
                self.loaded.append(target)


@pytest.fixture(scope="module")
def parsed(site):
    return {page.relative_to(site).as_posix(): Links(page) for page in sorted(site.rglob("*.html"))}


def test_every_link_leads_to_a_page_and_a_place_on_it(site, parsed):
    outside = set()
    for name, links in parsed.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme or target.startswith("//"):
                outside.add(target)
                continue
            path = (site / name).parent / unquote(parts.path) if parts.path else site / name
            assert path.is_file(), f"{name}: {target}"
            if parts.fragment and path.suffix == ".html" and name != "genindex.html":
                place = parsed[path.resolve().relative_to(site.resolve()).as_posix()]
                assert unquote(parts.fragment) in place.ids, f"{name}: {target}"
    print("links to elsewhere, which nobody followed:", *sorted(outside), sep="\n  ")
    assert all(urlsplit(target).scheme == "https" for target in outside), outside


def test_nothing_is_loaded_from_elsewhere(site, parsed):
    for name, links in parsed.items():
        for target in links.loaded:
            assert not urlsplit(target).scheme or target.startswith("data:"), f"{name} loads {target}"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text()
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", text), sheet.name


def test_every_command_and_every_public_name_is_in_the_reference(site):
    commands, python = ((site / "reference" / f"{name}.html").read_text() for name in ("commands", "python"))
    for command in plugins.names("deploykit.cli"):
        assert f'id="deploykit-{command}"' in commands, command
    for name in deploykit.__all__:
        value = getattr(deploykit, name)
        if callable(value):
            assert (
                f'id="deploykit.{name}"' in python
                or f'id="deploykit.runtime.{name}"' in python
                or f'id="deploykit.errors.{name}"' in python
            ), name


def test_in_a_browser_at_two_widths_nothing_scrolls_sideways_and_the_search_finds(site, browser, parsed, tmp_path):
    pages = [name for name in parsed if name not in ("genindex.html", "py-modindex.html")]
    page = (
        FRAMES.replace("WIDTHS", json.dumps(WIDTHS))
        .replace("PAGES", json.dumps(pages))
        .replace("WORDS", '["tolerance", "predictor", "zzzz"]')
    )
    start = site / "_frames.html"
    start.write_text(page)
    try:
        done = subprocess.run(
            [*browser, "--headless", "--allow-file-access-from-files", "--virtual-time-budget=120000", f"--user-data-dir={tmp_path}",
             "--window-size=1400,1000", "--dump-dom", start.as_uri()],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    finally:
        start.unlink()
    assert done.returncode == 0, done.stderr[-500:]
    held = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert held, done.stdout[-500:]
    found = json.loads(held[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    for width in WIDTHS:
        for name in pages:
            seen = found[f"{width} {name}"]
            assert seen["wide"] <= 0, f"{name} is {seen['wide']} pixels wider than {width}"
            assert seen["outside"] == [], f"{name} at {width}: {seen['outside']}"
            assert seen["broken"] == [], name
            assert seen["styled"] >= 3, name
            assert "deploykit" in seen["title"], name
    assert any("explained/tolerance.html" in link for link in found["search tolerance"]), found["search tolerance"]
    assert any("reference/python.html" in link for link in found["search predictor"]), found["search predictor"]
    assert found["search zzzz"] == []


def test_the_search_works_from_the_disk_without_leave(site, browser, tmp_path):
    """As a reader opens it: no flag lets files look into each other."""
    done = subprocess.run(
        [*browser, "--headless", "--virtual-time-budget=10000", f"--user-data-dir={tmp_path}", "--dump-dom", f"{(site / 'search.html').as_uri()}?q=tolerance"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert 'href="explained/tolerance.html' in done.stdout
