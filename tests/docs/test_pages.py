"""Every page is followed as a reader would: each command typed, each snippet run, each shown line compared with what is printed."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from urllib.parse import unquote

import click
import have
import pages
import pytest
import schemas

from deploykit.cli import cli

PAGES = {str(page.relative_to(pages.DOCS)): page for page in pages.pages()}
FOLLOWED = [name for name, page in PAGES.items() if any(block.word in ("console", "python") for block in pages.blocks(page))]


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLLOWED)
def test_a_page_does_what_it_says(name, workdir, monkeypatch):
    monkeypatch.setattr("deploykit.reports.table.UNLIMITED", pages.WIDTH)
    monkeypatch.syspath_prepend(str(workdir))
    before = set(sys.modules)
    session = pages.Session(have.makers(), schemas.validate_command)
    try:
        for block in pages.blocks(PAGES[name]):
            try:
                session.run(block)
            except AssertionError as error:
                raise AssertionError(f"{name}, block at line {block.line}: {error}") from error
        session.end()
    finally:
        for module in set(sys.modules) - before:
            if str(workdir) in str(getattr(sys.modules[module], "__file__", "")):
                del sys.modules[module]


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_of_a_kind_that_is_run_or_known_not_to_be(name):
    known = {"console", "python", "output", "text", "have", "bash"}
    for block in pages.blocks(PAGES[name]):
        assert block.word in known or block.word.startswith("{"), f"line {block.line}: {block.info!r}"
        assert block.word != "bash" or block.info == "bash norun", (
            f"line {block.line}: a block of bash is a console block, or norun"
        )
        if block.info == "bash norun":
            pages.Session({}).run(block)
        for line in block.text.splitlines() if block.word != "have" else ():
            assert len(line) <= 92, f"a page has no room for {line!r}"


OF_TORCHRUN = {"--nnodes", "--nproc-per-node", "--rdzv-id", "--rdzv-endpoint"}


@pytest.mark.parametrize("name", PAGES)
def test_every_option_that_a_page_names_is_one(name):
    known = {"--help", "--version", "--no-deps", "--prefix"}
    for command in cli.list_commands(click.Context(cli)):
        parameters = cli.get_command(click.Context(cli), command).params
        known |= {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    text = re.sub(r"(?ms)^```bash norun\n.*?^```", "", PAGES[name].read_text())
    for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", text):
        assert option in known | {"--data-binary", "--port"} | OF_TORCHRUN, option


@pytest.mark.parametrize("name", PAGES)
def test_every_link_of_a_page_leads_to_a_file(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[name].read_text()):
        if "://" not in target:
            path = PAGES[name].parent / unquote(target.partition("#")[0])
            assert path.is_file(), target


def test_the_pages_name_no_machine():
    for name, page in PAGES.items():
        assert not re.search(r"/(home|root|Users|work|tmp)/", page.read_text()), name


def test_every_page_is_in_the_contents():
    index = (pages.DOCS / "index.md").read_text()
    for name in PAGES:
        assert name == "index.md" or f"\n{Path(name).with_suffix('').as_posix()}\n" in index, name


def test_a_wrong_page_is_seen(tmp_path, monkeypatch):
    """What the tests above rest on: other output, another exit status and a failing snippet are noticed."""
    monkeypatch.chdir(tmp_path)
    compared = [("3 networks\n...\nend", "3 networks\nmany\nlines\nend", True), ("3 networks", "4 networks", False),
                ("13 layers", "3 layers", False), ("error 1.0e-07 of ...", "error 2.5e-06 of something", True)]  # fmt: skip
    for shown, printed, same in compared:
        if same:
            pages.compare(shown, printed)
        else:
            with pytest.raises(AssertionError, match="the page shows"):
                pages.compare(shown, printed)
    session = pages.Session({})
    with pytest.raises(AssertionError, match="exit status 7"):
        session.run(pages.Block("console", "$ exit 7\n$ ls\n", 1))
    session.run(pages.Block("console", "$ echo $?\n7\n$ ls\n", 1))
    with pytest.raises(ZeroDivisionError):
        session.run(pages.Block("python", "1 / 0\n", 1))
    with pytest.raises(AssertionError, match="is not run"):
        session.run(pages.Block("bash", "ls\n", 1))
    assert os.listdir() == []
