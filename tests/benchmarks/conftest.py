"""The helpers lie in benchmarks/, behind everything else: tests/hostile has a module `mutations` of its own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
