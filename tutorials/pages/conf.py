"""How Sphinx renders the pages: `python -m tutorials.pages` calls it, and writes what it reads: build/pages/sources."""

project = "minigrad and minitransformer"
html_title = "minigrad and minitransformer"
html_theme = "furo"
pygments_dark_style = "github-dark"
# The last one brings MathJax along, so that formulas need no network.
extensions = ["myst_nb", "sphinx-mathjax-offline"]
nb_execution_mode = "off"  # the notebooks have been run
nb_merge_streams = True
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_js_files = ["cards.js", "zoom.js"]
html_copy_source = False
html_use_index = False
html_show_search_summary = False  # it would have to be fetched, which browsers refuse to pages that are files
html_show_copyright = False


def setup(app):
    """Called by Sphinx. Formulas stand in titles, and so beside every page, also where there is none in its text."""
    app.set_html_assets_policy("always")
