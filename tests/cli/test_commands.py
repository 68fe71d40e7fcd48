"""The command line as a user meets it: exit statuses, one line per failure, clean stdout, JSON that parses."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from deploykit import plugins

COMMANDS = plugins.names("deploykit.cli")
ESCAPE = re.compile(r"\x1b|\r")


def one_line(result, *words):
    """stderr is one line that holds the words; stdout is empty."""
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], lines[0]
    assert "Traceback" not in result.output


def test_every_command_of_the_design_is_there():
    assert {"train", "export", "simplify", "validate", "profile", "predict", "list", "doctor", "demo"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_the_three_common_options(cli, command):
    result = cli(command, "--help")
    assert result.exit_code == 0
    for option in ("--format", "--debug", "--quiet"):
        assert option in result.output
    first = result.output.split("\n\n")[1].strip()
    assert len(first) > 20


def test_unknown_commands_options_and_values_are_one_line_and_exit_2(cli):
    for args, words in [
        (("exprot", "x"), ["did you mean 'export'"]),
        (("export",), ["Missing argument 'TARGET'"]),
        (("export", "lenet5", "--nope"), ["--nope", "deploykit export --help"]),
        (("export", "lenet5", "--opset", "many"), ["--opset", "many"]),
        (("export", "lenet5", "--dynamic", "depth", "--untrained"), ["unknown dynamic axis 'depth'"]),
        (("export", "lenet5", "--input-shape", "3x-1"), ["3x-1"]),
        (("export", "lenet5", "--arg", "width"), ["key=value"]),
        (("train", "lenet5", "--epochs", "-3"), ["--epochs"]),
        (("train", "lenet6"), ["did you mean", "'lenet5'"]),
        (("list", "clouds"), ["clouds"]),
        (("list", "--format", "xml"), ["xml"]),
        (("validate", "x.onnx", "--batches", "0"), ["--batches"]),
    ]:
        result = cli(*args)
        assert result.exit_code == 2, args
        one_line(result, *words)
    assert os.listdir() == [], "a refused command left something"


def test_exporting_without_a_checkpoint_names_both_ways_out(cli):
    result = cli("export", "resnet18")
    assert result.exit_code == 2
    one_line(result, "deploykit train resnet18", "--untrained")
    assert os.listdir() == []
    one_line(cli("export", "resnet81"), "resnet18")


def test_train_export_validate_simplify_and_predict_by_their_default_places(cli, digit_files, workdir):
    trained = cli("train", "lenet5", "--epochs", "3", "--limit", "600", "--format", "json")
    assert trained.exit_code == 0, trained.output
    document = json.loads(trained.stdout)
    assert set(document) >= {"name", "checkpoint", "epochs", "seconds", "metrics", "history"}
    assert set(document["metrics"]) == {"train", "validation", "test"}
    assert document["checkpoint"] == "trained/lenet5/model.safetensors"

    exported = json.loads(cli("export", "lenet5", "--format", "json").stdout)
    assert set(exported) >= {"target", "file", "opset", "bytes", "nodes", "seconds", "simplify", "verdict"}
    assert set(exported["seconds"]) == {"export", "simplify", "validate"}
    assert exported["file"] == "trained/lenet5/model.onnx"
    assert exported["verdict"]["verdict"] == "same"

    validated = cli("validate", "trained/lenet5/model.onnx", "--format", "json")
    assert validated.exit_code == 0
    verdict = json.loads(validated.stdout)
    assert set(verdict) >= {
        "file",
        "against",
        "verdict",
        "checks",
        "errors",
        "top1_agreement",
        "blamed_step",
        "first_divergent_layer",
    }
    assert set(verdict["errors"]) >= {"torch32_vs_64", "onnx_vs_64", "onnx_vs_torch32"}

    assert cli("simplify", "trained/lenet5/model.onnx").exit_code == 0
    paths, labels = digit_files
    predicted = cli("predict", "trained/lenet5/model.onnx", *paths, "--format", "json")
    assert predicted.exit_code == 0
    answers = json.loads(predicted.stdout)
    assert [answer["path"] for answer in answers] == [str(p) for p in paths]
    assert sum(answer["label"] == label for answer, label in zip(answers, labels, strict=True)) >= 0.7 * len(labels)


def test_a_broken_or_missing_image_spoils_only_itself(cli, exported, digit_files, workdir):
    paths, _ = digit_files
    (workdir / "broken.png").write_bytes(paths[0].read_bytes()[:40])
    result = cli("predict", exported, paths[0], "broken.png", "missing.png", paths[1], "--format", "json")
    assert result.exit_code == 2
    answers = json.loads(result.stdout)
    assert [a["path"] for a in answers] == [str(paths[0]), "broken.png", "missing.png", str(paths[1])]
    assert [a["error"] is None for a in answers] == [True, False, False, True]
    one_line(result, "2 of 4")
    people = cli("predict", exported, paths[0], "missing.png")
    assert "missing.png" in people.stdout
    assert re.search(r"0\.\d+", people.stdout)


def test_the_verdict_is_the_exit_status(cli, exported, trained, workdir):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(exported)
    tensor = next(t for t in model.graph.initializer if t.name == "conv3.weight")
    values = numpy_helper.to_array(tensor).copy()
    values[3, 2, 1, 1] += 0.5 * values.std()
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(model, workdir / "wrong.onnx")
    result = cli("validate", "wrong.onnx", "--against", trained / "model.safetensors", "--format", "json")
    assert result.exit_code == 1
    verdict = json.loads(result.stdout)
    assert (verdict["verdict"], verdict["first_divergent_layer"], verdict["blamed_step"]) == ("different", "conv3", "export")


@pytest.mark.parametrize("command", ["validate", "predict", "simplify", "profile"])
@pytest.mark.parametrize("content", ["truncated", "empty", "text", "missing"])
def test_what_is_no_onnx_file_is_exit_2_in_every_command(cli, exported, digit_files, workdir, command, content):
    data = {"truncated": exported.read_bytes()[:5000], "empty": b"", "text": b"hello"}.get(content)
    if data is not None:
        (workdir / "m.onnx").write_bytes(data)
    args = {
        "validate": ["m.onnx", "--against", "lenet5", "--untrained"],
        "predict": ["m.onnx", digit_files[0][0]],
        "simplify": ["m.onnx"],
        "profile": ["m.onnx"],
    }[command]
    before = sorted(os.listdir())
    result = cli(command, *args)
    assert result.exit_code == 2, result.output
    one_line(result, "m.onnx")
    assert sorted(os.listdir()) == before


def test_a_folder_that_cannot_be_written_is_exit_2_and_leaves_nothing(cli, exported, workdir):
    (workdir / "file").write_text("x")
    for args in (
        ("export", "lenet5", "--untrained", "--out", "file/m.onnx"),
        ("train", "lenet5", "--epochs", "0", "--out", "file/x"),
        ("simplify", exported, "--out", "file/m.onnx"),
        ("demo", "file/demo"),
    ):
        result = cli(*args)
        assert result.exit_code == 2, args
        one_line(result, "cannot write")
    assert os.listdir() == ["file"]


def test_piped_output_has_no_escape_codes_and_no_bars(run_command, exported, digit_files, tmp_path):
    for args in (
        ("list",),
        ("train", "lenet5", "--epochs", "1", "--limit", "64"),
        ("predict", exported, *digit_files[0]),
        ("--help",),
    ):
        result = run_command(*args, cwd=tmp_path, env={"COLUMNS": "80", "FORCE_COLOR": ""})
        assert result.returncode == 0, result.stderr
        assert not ESCAPE.search(result.stdout), args
        assert result.stderr == "", args


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    command = f"{sys.executable} -m deploykit list architectures | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""


def test_ctrl_c_is_quiet_and_exit_130(tmp_path):
    command = [sys.executable, "-m", "deploykit", "train", "lenet5", "--epochs", "500"]
    # A shell that starts the tests in the background lets them, and so their children, ignore Ctrl-C.
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, heard)
    deadline = time.monotonic() + 120
    while not (tmp_path / "trained" / "lenet5" / "resume.pt").exists():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "")
    assert (tmp_path / "trained" / "lenet5" / "resume.pt").exists()


def test_debug_shows_the_traceback(run_command, tmp_path):
    result = run_command("export", "resnet81", "--debug", cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert "resnet18" in result.stderr.splitlines()[-1]


def test_quiet_says_nothing_on_stderr(run_command, exported, digit_files, tmp_path):
    result = run_command("predict", exported, digit_files[0][0], "--device", "auto", "--quiet", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr == ""


def test_predict_never_loads_torch(exported, digit_files, tmp_path):
    code = (
        "import sys, deploykit.cli as c\n"
        "try: c.cli(sys.argv[1:])\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "assert not {'torch', 'onnx', 'sklearn'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run(
        [sys.executable, "-c", code, "predict", exported, digit_files[0][0]], check=True, cwd=tmp_path, capture_output=True
    )


def test_list_architectures_as_json(cli):
    rows = json.loads(cli("list", "architectures", "--format", "json").stdout)
    lenet5 = next(row for row in rows if row["name"] == "lenet5")
    assert {k: lenet5[k] for k in ("input_shape", "params", "macs", "dataset", "trained")} == {
        "input_shape": [1, 32, 32], "params": 61706, "macs": 416520, "dataset": "digits", "trained": False,
    }  # fmt: skip
    resnet18 = next(row for row in rows if row["name"] == "resnet18")
    assert (resnet18["params"], resnet18["macs"]) == (11175434, 35410944)


@pytest.mark.parametrize("kind", ["architectures", "datasets", "backends", "formats"])
def test_every_list_has_names_and_summaries(cli, kind):
    rows = json.loads(cli("list", kind, "--format", "json").stdout)
    assert rows
    for row in rows:
        assert row["name"]
        assert len(row["summary"]) > 10


def test_validate_wants_again_what_the_file_was_exported_with(cli):
    assert cli("export", "lenet5", "--untrained", "--arg", "classes=7", "--out", "seven.onnx").exit_code == 0
    refused = cli("validate", "seven.onnx")
    assert refused.exit_code == 2
    one_line(refused, "exported with arguments", "--arg classes=...")
    assert cli("validate", "seven.onnx", "--arg", "classes=7").exit_code == 0
    assert cli("validate", "seven.onnx", "--against", "lenet5", "--untrained", "--arg", "classes=7").exit_code == 0
    assert cli("export", "edge-kernel", "--untrained", "--input-shape", "1x9x11", "--out", "edges.onnx").exit_code == 0
    refused = cli("validate", "edges.onnx")
    assert refused.exit_code == 2
    one_line(refused, "exported for other inputs", "--input-shape 1x9x11")
    assert cli("validate", "edges.onnx", "--input-shape", "1x9x11").exit_code == 0
    refused = cli("validate", "edges.onnx", "--against", "edge-kernel", "--untrained")
    assert refused.exit_code == 2
    one_line(refused, "exported for other inputs", "--input-shape 1x9x11")
    refused = cli("validate", "edges.onnx", "--against", "seven.onnx", "--input-shape", "1x9x11")
    assert refused.exit_code == 2
    one_line(refused, "seven.onnx cannot take")
    refused = cli("validate", "edges.onnx", "--against", "seven.onnx", "--checkpoint", "x.pt")
    assert refused.exit_code == 2
    one_line(refused, "--checkpoint does not go with it")


def test_a_network_that_ends_the_process_is_one_line(capsys):
    from deploykit.cli import _run

    assert _run(lambda: sys.exit(0)) == 2
    assert capsys.readouterr().err == "error: the network's own code called sys.exit(0); let it raise an error instead\n"


def test_what_torch_announces_of_its_future_is_not_on_stderr():
    import warnings

    from deploykit.cli import _without_remarks

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with _without_remarks():
            warnings.warn_explicit(
                "`torch.jit.script` is deprecated", FutureWarning, "_script.py", 1491, module="torch.jit._script"
            )
            warnings.warn_explicit("the user's own", FutureWarning, "mynets.py", 1, module="mynets")
    assert [str(each.message) for each in heard] == ["the user's own"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name):
    command = plugins.load("deploykit.cli", name, "command").command
    for option in command.params:
        assert option.param_type_name == "argument" or option.hidden or len(option.help or "") > 10, option.name


def test_what_pillow_logs_about_a_damaged_file_is_not_printed():
    from deploykit.cli import _without_remarks

    logger = logging.getLogger("PIL")
    before, logger.handlers = logger.handlers, []
    try:
        with _without_remarks():
            assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
    finally:
        logger.handlers = before


def test_what_a_users_own_code_prints_is_not_on_stdout(cli, workdir):
    import click
    from click.testing import CliRunner

    from deploykit.cli._common import Common, common_options
    from deploykit.reports import Report

    (workdir / "talks.py").write_text("print('registered')\n")
    listed = cli("list", "datasets", "--module", "talks.py")  # it registers nothing, which is an error
    assert (listed.exit_code, listed.stdout, listed.stderr.splitlines()[0]) == (2, "", "registered")

    @click.command()
    @common_options
    def command(common: Common) -> None:
        print("built")
        common.emit(Report(title="", document={"done": True}, headline=""))

    done = CliRunner().invoke(command, ["--format", "json"])
    assert (json.loads(done.stdout), done.stderr) == ({"done": True}, "built\n")
