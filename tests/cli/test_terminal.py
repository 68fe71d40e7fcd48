"""What a person sees: commands on a real pseudo-terminal of 80, 100 and 160 columns."""

from __future__ import annotations

import pytest
from terminal import BAR

from deploykit.cli import HELP
from deploykit.errors import InputError

WIDTHS = [80, 100, 160]


def test_no_report_shares_a_line_with_a_bar(on_terminal, exported, trained, digit_files):
    for args, first in [
        (("train", "lenet5", "--epochs", "1", "--limit", "64", "--out", "t"), "trained lenet5"),
        (("predict", exported, *digit_files[0]), ""),
        (("export", trained / "model.safetensors", "--no-simplify", "--out", "m.onnx"), "exported "),
    ]:
        shown = on_terminal(80, *args)
        assert shown.status == 0, shown.text
        assert BAR in shown.raw, "no bar was shown: this test sees nothing"
        assert BAR not in shown.text, shown.text
        assert shown.lines[0].startswith(first), shown.text


@pytest.mark.parametrize("ending", [KeyboardInterrupt, ValueError, InputError])
def test_the_bar_is_erased_before_an_error_and_at_ctrl_c(on_terminal, monkeypatch, exported, ending):
    import deploykit.runtime

    def predict(model, paths, top, batch_size, progress):
        progress.start("asking", 10)
        progress.advance(3)
        raise ending("nothing works")

    monkeypatch.setattr(deploykit.runtime, "predict", predict)
    shown = on_terminal(80, "predict", exported, "x.png")
    assert BAR in shown.raw
    assert BAR not in shown.text
    assert "\x1b[?25h" in shown.raw.rpartition("\x1b[?25l")[2], "the cursor stays hidden"
    assert shown.status == {KeyboardInterrupt: 130, ValueError: 70}.get(ending, 2)
    assert shown.lines[0].startswith("" if ending is KeyboardInterrupt else "error: ")


@pytest.mark.parametrize("columns", WIDTHS)
def test_the_first_screen_shows_its_commands_line_by_line(on_terminal, columns):
    first = on_terminal(columns, "--help")
    assert on_terminal(columns).lines == on_terminal(columns, "help").lines == first.lines
    assert "\\b" not in first.text
    examples = [line for line in HELP.splitlines() if line.startswith("deploykit ")]
    assert len(examples) == 5
    for example in examples:
        assert f"  {example}" in first.lines
    assert not [line for line in first.lines[1:] if line.endswith("...")], "a description was cut"


def test_help_takes_a_command_and_common_options_stand_on_either_side(on_terminal, cli):
    assert on_terminal(80, "help", "list").lines == on_terminal(80, "list", "--help").lines
    assert cli("--format", "json", "list", "formats").stdout == cli("list", "formats", "--format", "json").stdout
    assert cli("--format", "json", "list", "formats", "--format", "csv").stdout.startswith("name,summary")
    assert cli("--quiet", "list", "formats").exit_code == 0


def test_debug_before_the_command_shows_the_traceback(on_terminal, monkeypatch):
    monkeypatch.setattr("sys.argv", ["deploykit", "--debug", "predict", "x.onnx", "y.png"])
    shown = on_terminal(160, "--debug", "predict", "x.onnx", "y.png")
    assert shown.status == 2
    assert "Traceback" in shown.text
    assert "x.onnx" in [line for line in shown.lines if line][-1]


def test_a_word_that_is_no_command_names_all_of_them_and_what_shows_more(cli):
    result = cli("hlp")
    assert result.exit_code == 2
    assert "validate; `deploykit --help` shows all" in result.stderr
