"Sphinx settings. The pages are the notebooks of `nbs/`, as nbdev prepares them; `build.py` runs both."

import sys
from configparser import ConfigParser
from importlib.metadata import distribution
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
ini = ConfigParser(delimiters=["="])
ini.read(HERE.parent / "settings.ini", encoding="utf-8")
cfg = ini["DEFAULT"]

project, author, copyright, release = cfg["title"], cfg["author"], cfg["copyright"], cfg["version"]
extensions = ["myst_nb", "sphinx_copybutton"]
source_suffix = {".ipynb": "myst-nb", ".md": "myst-nb"}
nb_custom_formats = {".ipynb": ["nb_reader.read", {}]}
nb_execution_mode = "off"  # pages show the outputs kept in the notebooks
nb_render_markdown_format = "myst"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "attrs_inline"]
# figures are numbered page by page, by `nb_reader`; equations, by the label that it gives each
math_numfig = False
myst_heading_anchors = 3
myst_heading_slug_func = "nb_reader.heading_id"

html_theme = "furo"
html_title = project
html_show_sourcelink = False
html_copy_source = False
# MathJax as a local file, so that pages need no network
mathjax = distribution("sphinx-mathjax-offline").locate_file(
    "sphinx-mathjax-offline/static/mathjax/tex-svg.js"
)
# a page of one name has no list of chapters beside it: there are hundreds of them
html_sidebars = {
    "names/*.*": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/scroll-end.html",
    ]
}
html_static_path = [str(mathjax), "site.css"]
html_css_files = ["site.css"]
mathjax_path = "tex-svg.js"


def setup(app):
    def bare(app, name, template, context, doctree):
        "A page of one name is built without the tree of chapters, which would take longer than all the rest."
        if name.startswith("names/") and name != "names/index":
            context.pop("toctree", None)

    app.connect("html-page-context", bare, priority=100)  # the theme takes the tree at 500
