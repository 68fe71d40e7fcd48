"""Says why the tests beside this one are not there."""

from __future__ import annotations

import importlib.util

import pytest


def test_the_extra_serve_is_installed():
    for name in ("starlette", "uvicorn", "python_multipart"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"the extra serve is not installed ({name}): no test of the server was run")
