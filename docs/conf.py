"""How Sphinx builds the site from the folder of pages that ``scorefold_site.build`` writes."""

from pathlib import Path

from scorefold import __version__

project = "Scorefold"
version = release = __version__
copyright = "the Scorefold authors"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "scorefold_site.docstrings",
    "scorefold_site.formulas",
]

smartquotes = False

html_theme = "furo"
html_title = "Scorefold"
templates_path = ["templates"]
html_static_path = ["assets"]
html_css_files = ["site.css"]
html_search_scorer = str(Path(__file__).with_name("search.js"))
html_extra_path = ["downloads"]
html_copy_source = False
html_show_sourcelink = False
pygments_style = "a11y-light"  # of accessible-pygments, which furo brings
pygments_dark_style = "a11y-dark"

html_math_renderer = "svg"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
# A file of the repository may hold what no lexer knows: code is shown as it is.
suppress_warnings = ["misc.highlighting_failure"]

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False
