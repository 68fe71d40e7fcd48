"""What somebody would do on purpose is refused with one line, by every command that takes such a file; nothing is left or run."""

from __future__ import annotations

import os

import pytest
from attacks import ATTACKS, COMMANDS, SENTINEL, prepare

from deploykit.runtime import isolation

CASES = [(name, command) for name, attack in ATTACKS.items() for command in COMMANDS[attack.kind]]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("name", "command"), CASES, ids=[f"{command[0]}: {name}" for name, command in CASES])
def test_an_attack_is_one_line(cli, workdir, monkeypatch, name, command):
    monkeypatch.setattr(isolation, "SECONDS", 2.0)
    attack = ATTACKS[name]
    prepare(workdir)
    path = attack.write(workdir)
    before = sorted(os.listdir())
    result = cli(*(str(path) if part == "{}" else part for part in command))
    assert result.exit_code in (1, 2), result.output
    if result.exit_code == 2:
        lines = [line for line in result.stderr.splitlines() if line]
        assert len(lines) == 1, result.stderr
        assert lines[0].startswith("error: ")
    assert attack.words in result.output, result.output
    assert "Traceback" not in result.output
    assert not os.path.exists(SENTINEL), "the file was believed, and its code run"
    assert sorted(os.listdir()) == before
