"Turns a notebook that nbdev prepared for Quarto into one for MyST-NB."

import ast
import json
import re
from configparser import ConfigParser
from copy import deepcopy
from fnmatch import fnmatch
from pathlib import Path

import nbformat
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parents[1]
ini = ConfigParser(delimiters=["="])
ini.read(ROOT / "settings.ini", encoding="utf-8")
SITE = ini["DEFAULT"]["doc_host"] + ini["DEFAULT"]["doc_baseurl"]
NAV = {
    "The method": ["method/*"],
    "Tagging": ["tagging/*"],
    "The study": ["study/*"],
    "Reports": ["report/*"],
    "Experiments": [
        *("exp1", "exp2", "exp3", "negative_transfer", "relatedness", "sparsity", "warmup"),
        *("budget", "maturity", "combinations", "hidden_settings", "replication"),
    ],
    "Guides": ["running", "your_model", "your_data", "api", "names/index"],
}
TAGS = {
    ("echo", "false"): "remove-input",
    ("output", "false"): "remove-output",
    ("code-fold", "true"): "hide-input",
}


def navigation():
    "The reading order, as one list of pages for each group that has any."
    paths = sorted(p.relative_to(ROOT / "nbs") for p in (ROOT / "nbs").rglob("*.ipynb"))
    names = [p.with_suffix("").as_posix() for p in paths if "_checkpoints" not in str(p)]
    names.append("names/index")  # which `names` writes
    for group, patterns in NAV.items():
        pages = [n for p in patterns for n in names if fnmatch(n, p)]
        if pages:
            lines = ["```{toctree}", ":hidden:", f":caption: {group}", "", *pages, "```"]
            yield new_markdown_cell("\n".join(lines))


def options(cell):
    "The `#|` options at the top of a code cell, which are taken off it."
    opts, lines = {}, cell.source.split("\n")
    while lines and lines[0].startswith("#|"):
        key, _, val = lines.pop(0)[2:].partition(":")
        opts[key.strip()] = val.strip().strip("\"'")
    cell.source = "\n".join(lines)
    return opts


def target(page, name):
    "What a link to a name of the library leads to. Sphinx takes capitals for small letters."
    return f"api-{page.replace('/', '-')}-" + re.sub("[A-Z]", lambda m: "-" + m[0].lower(), name)


def heading_id(title):
    "What JupyterLab and GitHub call a heading of a notebook, so that a link to it leads there in all three."
    return title.replace(" ", "-")


def links(text):
    "nbdev's links to the hosted reference, as links inside this site."
    link = r"\[`([\w.]+)`\]\(" + re.escape(SITE) + r"/([\w/-]+)\.html#[\w.]+\)"
    return re.sub(link, lambda m: f"[`{m[1]}`](#{target(m[2], m[1])})", text)


def depth(markdown):
    "The level of the last heading of a text, or 0."
    text = re.sub(r"^(```|~~~).*?^\1", "", markdown, flags=re.M | re.S)
    return len((re.findall(r"^(#+) ", text, re.M) or [""])[-1])


def section(page, level, title, names):
    "Where links to `names` lead: a heading, or without a title what comes next."
    heading = f"{'#' * level} {title}\n\n" if title else ""
    return "".join(f"({target(page, n)})=\n" for n in names) + heading


def defined(source):
    "What a cell defines: names at the top level, and `Class.method`."
    kinds = (ast.FunctionDef, ast.ClassDef)
    for top in ast.parse(source).body:
        if isinstance(top, kinds):
            yield top.name
            inner = top.body if isinstance(top, ast.ClassDef) else []
            yield from (f"{top.name}.{x.name}" for x in inner if isinstance(x, kinds))


def documented(cell):
    "The name that a `show_doc` cell documents, and the Markdown that it gave."
    for o in cell.get("outputs", []) if "show_doc(" in cell.source else []:
        text = o.get("data", {}).get("text/markdown", "")
        if found := re.search(r"^### (\S+).*?^```python\s*(.*?)\s*^```(.*)", text, re.M | re.S):
            name, signature, rest = found.groups()
            return name, f"```python\n{signature}\n```{rest}"
    return "", ""


def shows(cell, kind):
    "Whether an output of the cell has data of that kind."
    return any(kind in o.get("data", {}) for o in cell.get("outputs", []))


def caption(cell, opts, docs):
    "Words for a figure: its `fig-cap`, the title it is given, or what the function says that draws it."
    if "fig-cap" in opts:
        return opts["fig-cap"]
    tree = ast.parse(cell.source)
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    for call in calls:
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        title = call.args[0] if call.args else None
        if name == "suptitle" and isinstance(title, ast.Constant):
            return title.value
        if name in docs:
            return docs[name]
    raise ValueError(f"a figure without words: give this cell a `#| fig-cap:`\n{cell.source}")


def drawings():
    "What each function of the package and of the notebooks that draws a figure says of it."
    cells = (
        c
        for p in (ROOT / "nbs").rglob("*.ipynb")
        for c in json.loads(p.read_text("utf-8"))["cells"]
    )
    for source in ("".join(c["source"]) for c in cells if c["cell_type"] == "code"):
        if "_figure(" in source and "def " in source:
            for node in ast.parse(source).body:
                if isinstance(node, ast.FunctionDef) and node.name.endswith("_figure"):
                    yield node.name, ast.get_docstring(node)


def figure(words, number, name):
    "Settings of MyST-NB for a picture: its text for those who do not see it, caption and target."
    caption = f"**Figure {number}.** {words}"
    return {"image": {"alt": words}, "figure": {"caption": caption, "name": name}}


def parted(cell):
    "The cell, with every picture that is not its only output in a cell of its own, whose source is not shown again."
    pictures = [o for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    if not pictures or len(cell.outputs) == 1:
        return [cell]
    parts = [deepcopy(cell)]
    parts[0].outputs = []
    for output in cell.outputs:
        if output in pictures or (parts[-1].outputs and parts[-1].outputs[-1] in pictures):
            parts.append(new_code_cell(cell.source, metadata={"tags": ["remove-input"]}))
        parts[-1].outputs.append(output)
    return parts


def numbered_equations(text, page, count):
    "Displayed equations with a label each, so that all are numbered; `count` stood before them on the page."
    parts = re.split(r"(^```.*?^```|\$\$.+?\$\$(?: \([\w-]+\))?)", text, flags=re.M | re.S)
    for i, part in enumerate(parts):
        if part.startswith("$$"):
            count += 1
            if not part.endswith(")"):
                parts[i] += f" (eq-{page.replace('/', '-')}-{count})"
    return "".join(parts), count


def joined(cell):
    "The cell, with its text as one string each (nbdev leaves lists of lines)."
    if not isinstance(cell.source, str):
        cell.source = "".join(cell.source)
    for o in cell.get("outputs", []):
        if "text/html" in o.get("data", {}):  # pale numbers, so that they can be read on black, too
            html = "".join(o.data["text/html"])
            o.data["text/html"] = html.replace("opacity: .55", "opacity: .65")
        if "text" in o and not isinstance(o.text, str):
            o.text = "".join(o.text)
        for k, v in o.get("data", {}).items():
            if isinstance(v, list):
                o.data[k] = "".join(v)
    return cell


def read(text):
    "The entry point that MyST-NB calls with a notebook's text."
    raw = json.loads(text)
    # sources are shown, so that the `show_doc` which nbdev adds for each says nothing new
    raw["cells"] = [c for c in raw["cells"] if not c.pop("has_sd", False)]
    nb = nbformat.from_dict(raw)
    nb.cells = [joined(c) for c in nb.cells]
    seen = {documented(c)[0] for c in nb.cells}
    docs = dict(drawings())
    cells, level, page, figures, equations = [], 1, "", 0, 0
    for c in nb.cells:
        if c.cell_type == "raw":  # front matter, that nbdev made of the first cell
            meta = yaml.safe_load(c.source.strip().strip("-"))
            page = meta["output-file"].removesuffix(".html")
            cells.append(new_markdown_cell(f"# {meta['title']}\n\n*{meta['description']}*"))
            if page == "index":
                cells += navigation()
            continue
        if c.cell_type == "markdown":
            c.source, equations = numbered_equations(links(c.source), page, equations)
            level = depth(c.source) or level
        else:
            name, doc = documented(c)
            if name:
                head = section(page, level + 1, f"`{name}`", [name])
                cells.append(new_markdown_cell(head + links(doc)))
                continue
            opts = options(c)
            if opts.get("code-summary") == "Exported source":
                new = [n for n in defined(c.source) if n not in seen]
                title = ", ".join(f"`{n}`" for n in new if n[0] != "_" and "." not in n)
                if new:
                    cells.append(new_markdown_cell(section(page, level + 1, title, new)))
            c.metadata["tags"] = [t for (k, v), t in TAGS.items() if opts.get(k) == v]
            for part in parted(c):
                if shows(part, "image/png"):
                    figures += 1
                    name = f"fig-{page.replace('/', '-')}-{figures}"
                    part.metadata["mystnb"] = figure(caption(c, opts, docs), figures, name)
                cells.append(part)
            continue
        cells.append(c)
    nb.cells = cells
    return nb
