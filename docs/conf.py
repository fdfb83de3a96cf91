"""Sphinx: `make docs`."""

project = "Self-Healing MLOps Bot"
author = "the maintainers"
project_copyright = "the maintainers, Apache-2.0"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = project
html_show_sphinx = False
