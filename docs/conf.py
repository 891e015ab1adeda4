# ruff: noqa: INP001 -- Sphinx's configuration, not a package
"""How Sphinx builds the documentation: ``sphinx-build -W -b html docs docs/_build/html``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sphinx.pycode import ModuleAnalyzer

from stratatrace import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "stratatrace"
copyright = "the stratatrace authors"  # noqa: A001 -- the name that Sphinx reads
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# Docstrings put code in single backticks.
default_role = "code"

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"

html_theme = "furo"
html_title = "stratatrace"


def setup(app: Sphinx) -> None:
    """Correct what autodoc and napoleon make of some docstrings and signatures."""
    # Overloads are for type checkers: with them, the signatures that api.md gives are not used.
    analyzer = ModuleAnalyzer.for_module("stratatrace.profile")
    analyzer.analyze()
    analyzer.overloads.clear()

    # Napoleon takes what stands before a colon in an attribute's comment for the type of it.
    kept: list[str] = []

    def keep(_app: Sphinx, what: str, *rest: list[str]) -> None:
        if what == "attribute":
            kept[:] = rest[-1]

    def put_back(_app: Sphinx, what: str, *rest: list[str]) -> None:
        if what == "attribute":
            rest[-1][:] = kept

    event, napoleon = "autodoc-process-docstring", 500
    app.connect(event, keep, priority=napoleon - 1)
    app.connect(event, put_back, priority=napoleon + 1)
