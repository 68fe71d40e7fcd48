"""Requests that schemathesis makes out of the OpenAPI document, right ones and wrong ones: every answer is one that the document has.

By the program $SCHEMATHESIS, or that of `make schemathesis`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))

from serving_process import Server  # noqa: E402

EXAMPLES = 30  # of each operation, in each of its phases
CONFIGURATION = '[parameters]\n"path.model" = "{model}"\n"path.version" = "1"\n'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "unchecked"),
    [
        # What fits the document need not fit the network.
        ("digits", "positive_data_acceptance"),
        # Behind a header that says 0, every body whose length fits is a tensor, JSON too.
        ("doubling", "positive_data_acceptance,negative_data_rejection"),
    ],
)
def test_every_answer_is_in_the_document(repository, tmp_path, model, unchecked):
    program = Path(os.environ.get("SCHEMATHESIS") or ROOT / ".venv-schemathesis" / "bin" / "schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed: `make schemathesis` makes an environment for it")
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION.format(model=model))
    with Server([repository], "--threads", "1", "--allow-reload") as server:
        # What was unloaded gives 503, as it should: that call is left out.
        done = subprocess.run(
            [
                program, "run", f"http://127.0.0.1:{server.port}/openapi.json", "--seed", "18", "--no-color", "--continue-on-failure",
                "--max-examples", str(EXAMPLES), "--exclude-checks", unchecked,
                "--exclude-operation-id", "modelUnload", "--request-timeout", "60",
            ],
            cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-8000:]
        assert server.ask("GET", "/v2/health/ready")[0] == 200
    statuses = Counter(json.loads(line)["status"] for line in server.lines if line.startswith("{"))
    assert min(statuses[200], statuses[400]) > 0, statuses
    assert max(statuses) < 500, statuses
    assert not [line for line in server.lines if "Traceback" in line]
