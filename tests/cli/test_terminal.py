"""What a person sees: commands on a real pseudo-terminal of 80, 100 and 160 columns."""

from __future__ import annotations

from functools import partial

import pytest
from terminal import BAR, call_inside

from deploykit.cli import HELP
from deploykit.cli._common import Common
from deploykit.errors import InputError
from deploykit.reports import show
from deploykit.reports._values import RIGHT

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
        assert shown.lines[0].startswith(first.rstrip()), shown.text  # a long path goes below


@pytest.mark.parametrize("ending", [KeyboardInterrupt, ValueError, InputError])
def test_the_bar_is_erased_before_an_error_and_at_ctrl_c(on_terminal, monkeypatch, exported, ending):
    import deploykit.runtime

    def predict(model, paths, progress, **options):
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
    assert len(examples) == 6
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


NUMBERS = RIGHT | {"shape"}
OWN = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 3), nn.Linear(3, 3))
"""


@pytest.fixture(scope="module")
def made(trained, exported, digit_files, tmp_path_factory):
    """The reports of the commands with tables, each command run once."""
    from click.testing import CliRunner

    from deploykit.cli import cli

    reports = {}
    file, paths, folder = exported, digit_files[0][:3], tmp_path_factory.mktemp("made")
    checkpoint = trained / "model.safetensors"
    (folder / "own.py").write_text(OWN)
    commands = {
        "list": ["list"],
        "profile": ["profile", checkpoint, "--against", "lenet5-handwritten", "--untrained", "--backends", "onnxruntime"],
        "predict": ["predict", file, *paths, folder / "missing.png", "--top", "3"],
        "simplify": ["simplify", file, "--out", folder / "m.onnx"],
        "export": ["export", "own:Net", "--input-shape", "4", "--out", folder / "own.onnx"],
        "doctor": ["doctor"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, args in commands.items():
            patch.setattr(Common, "emit", lambda self, report, output=None, name=name: reports.setdefault(name, report))
            result = CliRunner().invoke(cli, [str(a) for a in args])
            assert name in reports, result.output
    return reports


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", ["list", "profile", "predict", "simplify", "export", "doctor"])
def test_every_number_of_a_report_is_on_the_screen_and_whole(made, monkeypatch, name, columns):
    report = made[name]
    shown = call_inside(monkeypatch, columns, partial(Common("table", debug=False, quiet=False).emit, report))
    assert max(map(len, shown.lines)) <= columns
    assert len(shown.lines) <= 8 + 3 * sum(len(table.rows) + 5 for table in report.tables) + 2 * len(report.facts), "a tower"
    words = shown.text.split()
    for table in report.tables:
        for column in table.columns:
            hidden = column.minor and "not shown" in shown.text
            if column.kind in NUMBERS and not hidden:
                for row in table.rows:
                    assert set(show(row.get(column.key), column.kind).split()) <= set(words), (table.title, column, row)


def test_an_own_network_is_told_that_its_weights_and_its_numbers_are_its_own(made, monkeypatch):
    shown = call_inside(monkeypatch, 80, partial(Common("table", debug=False, quiet=False).emit, made["export"]))
    text = " ".join(shown.text.split())
    assert "weights: the callable's own, as no --checkpoint was given" in text
    assert "contract it has neither preprocessing nor labels" in text
    assert "1 layer compared" in text
    assert "1 layers" not in text


def test_a_file_of_an_own_network_says_what_to_type(made, on_terminal):
    file = next(value for label, value in made["export"].facts if label == "file")
    shown = on_terminal(160, "validate", file)
    assert shown.status == 2
    text = "".join(shown.lines)  # as it was before the terminal broke the line
    assert "says that it was made from 'Net', a network of your own" in text
    assert f"deploykit validate {file} --against package.module:Net" in text


def test_a_verdict_that_is_no_names_its_details_once(trained, exported, on_terminal, workdir):
    import onnx

    model = onnx.load(exported)
    tensor = next(t for t in model.graph.initializer if t.name == "linear7.bias")
    tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) + 1, tensor.name))
    onnx.save(model, workdir / "wrong.onnx")
    shown = on_terminal(160, "validate", "wrong.onnx", "--against", trained / "model.safetensors")
    assert shown.status == 1
    assert shown.text.count("of a tolerated") == sum("NO " in line and "of a tolerated" in line for line in shown.lines)
    last = [line for line in shown.lines if line][-1]
    assert last.startswith("verdict: not the same network (")
    assert "failed: outputs, " in last
