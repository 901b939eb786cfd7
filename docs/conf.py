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
source_suffix = {".ipynb": "myst-nb"}
nb_custom_formats = {".ipynb": ["nb_reader.read", {}]}
nb_execution_mode = "off"  # pages show the outputs kept in the notebooks
nb_render_markdown_format = "myst"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "attrs_inline"]
numfig = True
myst_heading_anchors = 3

html_theme = "furo"
html_title = project
html_show_sourcelink = False
html_copy_source = False
# MathJax as a local file, so that pages need no network
mathjax = distribution("sphinx-mathjax-offline").locate_file(
    "sphinx-mathjax-offline/static/mathjax/tex-svg.js"
)
html_static_path = [str(mathjax), "site.css"]
html_css_files = ["site.css"]
mathjax_path = "tex-svg.js"
