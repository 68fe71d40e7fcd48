"""The README is true: its links lead somewhere, its commands exist, its options are real, its Python compiles and its names resolve."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import click
import pytest

from deploykit import plugins
from deploykit.cli import cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_every_link_to_a_file_leads_to_one(document):
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_every_command_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    for command in plugins.names("deploykit.cli"):
        assert f"deploykit {command}" in text, command


def test_every_command_line_in_the_documents_names_real_commands_and_options():
    for document in DOCUMENTS:
        for line in re.findall(r"^(?:\$ )?deploykit (.+)$|`deploykit ([^`]+)`", document.read_text(), re.M):
            words = re.sub(r"\s+#.*", "", line[0] or line[1]).split()
            if not words or words[0].startswith("-") or "(" in words[0]:
                continue
            command = cli.get_command(click.Context(cli), words[0])
            assert command is not None, words
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
            for word in words:
                if word.startswith("--"):
                    assert word.split("=")[0] in known, (words, word)


def test_the_python_blocks_compile_and_import_what_exists():
    for document in DOCUMENTS:
        for block in re.findall(r"```python\n(.*?)```", document.read_text(), re.S):
            tree = ast.parse(block)
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("deploykit"):
                    module = importlib.import_module(node.module)
                    for alias in node.names:
                        assert hasattr(module, alias.name), (node.module, alias.name)


def test_the_documents_name_no_machine():
    for document in DOCUMENTS:
        assert not re.search(r"/(home|root|Users|work)/", document.read_text()), document
