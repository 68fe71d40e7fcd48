"""How the site is built: `make docs` -> build/docs/index.html, which works from the disk, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent / "_ext")]

from deploykit._version import __version__  # noqa: E402

project = "deploykit"
release = version = __version__
project_copyright = "the authors of deploykit, MIT"
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click", "plain_docstrings", "public_names", "schema_tables"]
exclude_patterns = ["_ext", "schemas"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False  # they make a dash of the `--` before an option
default_role = "code"  # single backticks in docstrings are code, as in the Markdown of these pages

# Deep enough to be useful, and no longer than a line of code: `str | Path`, not `str | pathlib.Path`.
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": True}
maximum_signature_line_length = 88

html_theme = "furo"
html_title = "deploykit"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
# A browser does not fetch one file for another from the disk, so results have titles and no excerpts, there and on a server alike.
html_show_search_summary = False
