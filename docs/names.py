"A page for each public name of the package, made from its source: `write(...)` puts them beside the chapters."

import ast
import json
import re
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

from nb_reader import target

ROOT = Path(__file__).resolve().parents[1]
ini = ConfigParser(delimiters=["="])
ini.read(ROOT / "settings.ini", encoding="utf-8")
CODE = f"{ini['DEFAULT']['git_url']}/blob/{ini['DEFAULT']['branch']}"
PACKAGE = "sparse_sharing"


@dataclass
class Name:
    "A public name, and where it is made."

    name: str
    module: str  # below the package, with dots
    chapter: str  # the notebook that makes it, below `nbs`
    node: ast.stmt
    text: str  # of its module
    page: str = ""  # file of its page, without suffix

    @property
    def kind(self) -> str:
        kinds = {ast.ClassDef: "class", ast.FunctionDef: "function"}
        return kinds.get(type(self.node), "constant")

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.node) or "" if self.kind != "constant" else ""


def public(root: Path = ROOT) -> list[Name]:
    "All names that the modules of the package offer, by module, as they stand there."
    found = []
    for path in sorted((root / PACKAGE).rglob("[!_]*.py")):
        text = path.read_text("utf-8")
        chapter = re.search(r"File to edit: [./]*nbs/(\S+)\.ipynb", text)
        if not chapter:  # `python -m sparse_sharing.bench` and the like
            continue
        tree = ast.parse(text)
        module = ".".join(path.relative_to(root / PACKAGE).with_suffix("").parts)
        offered, made = set(), []
        for node in tree.body:
            names = [getattr(node, "name", "")]
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                parts = [n for t in targets for n in ast.walk(t)]
                names = [n.id for n in parts if isinstance(n, ast.Name)]
            if names == ["__all__"]:
                offered = set(ast.literal_eval(node.value))
            made += [Name(n, module, chapter[1], node, text) for n in names]
        found += [entry for entry in made if entry.name in offered]
    name_pages(found)
    return found


def name_pages(entries: list[Name]) -> None:
    "Give each name a page of its own, also where a file system takes capitals for small letters: `Fit` and `fit`."
    taken: set[str] = set()
    for entry in entries:
        kind = "" if entry.kind == "function" else f"-{entry.kind}"
        entry.page = f"{entry.module}.{entry.name}{kind}"
        while entry.page.lower() in taken:
            entry.page += "-2"
        taken.add(entry.page.lower())


def lines(text: str, first: int, last: int) -> str:
    "Lines of a text, counted from 1, moved to the left edge."
    part = text.split("\n")[first - 1 : last]
    margin = min((len(line) - len(line.lstrip()) for line in part if line.strip()), default=0)
    return "\n".join(line[margin:] for line in part).rstrip()


def source(entry: Name) -> str:
    "The source of a name."
    first = min([entry.node.lineno, *(d.lineno for d in getattr(entry.node, "decorator_list", []))])
    return lines(entry.text, first, entry.node.end_lineno)


def signature(node: ast.FunctionDef, text: str) -> str:
    "The head of a function: arguments and types, with the remarks beside them."
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    return lines(text, first, max(node.body[0].lineno - 1, node.lineno))


def fields(node: ast.ClassDef, text: str) -> str:
    "The head of a class, with the fields that it declares."
    head = lines(
        text, node.decorator_list[0].lineno if node.decorator_list else node.lineno, node.lineno
    )
    own = [part for part in node.body if isinstance(part, ast.AnnAssign)]
    if not own:
        return head
    return (
        head
        + "\n"
        + "\n".join(
            "    " + line
            for part in own
            for line in lines(text, part.lineno, part.end_lineno).split("\n")
        )
    )


def fenced(code: str) -> str:
    return f"```python\n{code}\n```"


def bases(entry: Name, index: dict[str, list[Name]]) -> list[Name]:
    "A class, and those of the package that it comes from, nearest first."
    found = [entry]
    for base in entry.node.bases:
        name = ast.unparse(base).split("[")[0].rpartition(".")[2]
        near = sorted(index.get(name, []), key=lambda other: other.module != entry.module)
        near = [other for other in near if other.kind == "class" and other.name != entry.name]
        if near:
            found += [b for b in bases(near[0], index) if b not in found]
    return found


def methods(entry: Name, index: dict[str, list[Name]]) -> dict[str, tuple[Name, ast.FunctionDef]]:
    "The constructor and the public methods of a class, also inherited ones, and the class that makes each."
    found: dict[str, tuple[Name, ast.FunctionDef]] = {}
    for made in bases(entry, index):
        for node in made.node.body:
            if isinstance(node, ast.FunctionDef) and (
                node.name == "__init__" or node.name[0] != "_"
            ):
                found.setdefault(node.name, (made, node))
    return dict(sorted(found.items(), key=lambda item: item[0] != "__init__"))


def members(entry: Name, index: dict[str, list[Name]]) -> list[str]:
    "What the page of a class says of its constructor and of each public method."
    parts = []
    for name, (made, node) in methods(entry, index).items():
        heading = "Constructor" if name == "__init__" else f"`.{name}`"
        said = ast.get_docstring(node) or ""
        if made is not entry:
            said = f"Inherited from [`{made.name}`]({made.page}.md). {said}"
        parts += [f"## {heading}", fenced(signature(node, made.text)), said]
    return parts


def opening(entry: Name, home: str, anchors: set[str]) -> list[str]:
    "What stands at the top of each page: where the name is made, and how to import it."
    module = f"{PACKAGE}.{entry.module}"
    goal = anchor(entry)
    cell = f"#{goal}" if goal in anchors else f"../{entry.chapter}.ipynb"
    path = f"{PACKAGE}/{entry.module.replace('.', '/')}.py"
    places = [
        f"[the cell that makes it]({cell})",
        f"[the source code]({CODE}/{path}#L{entry.node.lineno}-L{entry.node.end_lineno})",
        f"[all names](#{label(entry.module)})",
    ]
    return [
        "---\norphan: true\n---",
        f"# `{entry.name}`",
        f"A {entry.kind} of `{module}`: " + ", ".join(places) + ".",
        fenced(f"from {home} import {entry.name}"),
    ]


def written(entry: Name, index: dict[str, list[Name]], home: str, anchors: set[str]) -> str:
    "The page of a name, imported from `home`."
    parts, code = opening(entry, home, anchors), fenced(source(entry))
    if entry.kind == "constant":
        return "\n\n".join([*parts, code, ""])
    if entry.kind == "class":
        parts += [fenced(fields(entry.node, entry.text)), entry.doc, *members(entry, index)]
    else:
        parts += [fenced(signature(entry.node, entry.text)), entry.doc]
    return "\n\n".join([*parts, "<details>\n<summary>Source</summary>", code, "</details>", ""])


def anchor(entry: Name) -> str:
    "The place in its chapter that makes a function or a class. Pages of chapters have no numbers."
    return target(re.sub(r"/\d+_", "/", entry.chapter), entry.name)


def label(module: str) -> str:
    "What a link to a module's part of the list leads to."
    return f"names-{module.replace('.', '-')}"


def overview(names: list[Name], face: list[Name]) -> str:
    "The page that lists them all, module by module."
    parts = [
        "# All names",
        "*Every public name of every module, with a page for each.*",
        "Names in bold are imported from `sparse_sharing` itself; they stand together on [one page](../api.ipynb).",
    ]
    for module in dict.fromkeys(entry.module for entry in names):
        mine = [entry for entry in names if entry.module == module]
        parts += [
            f"({label(module)})=\n## `{PACKAGE}.{module}`",
            f"Made by the chapter {{doc}}`/{mine[0].chapter}`.",
            "\n".join(line(entry, entry in face) for entry in mine),
        ]
    return "\n\n".join([*parts, ""])


def line(entry: Name, bold: bool) -> str:
    "One name of the list, with the first sentence of its documentation."
    link = f"[`{entry.name}`]({entry.page}.md)"
    first = entry.doc.split("\n\n")[0].replace("\n", " ")
    return f"- {f'**{link}**' if bold else link}" + (f": {first}" if first else "")


def of_face(names: list[Name]) -> list[Name]:
    "Those that `sparse_sharing` itself gives."
    made = {(entry.module, entry.name): entry for entry in names}
    texts = {entry.module: entry.text for entry in names}
    found = []
    for name, module in imports((ROOT / PACKAGE / "__init__.py").read_text("utf-8")).items():
        while (module, name) not in made:  # the module has it from another one
            module = imports(texts[module])[name]
        found.append(made[module, name])
    return found


def imports(text: str) -> dict[str, str]:
    "What a module imports, and from which module of the package."
    nodes = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
    return {
        alias.name: (node.module or "").removeprefix(f"{PACKAGE}.")
        for node in nodes
        for alias in node.names
    }


def write(pages: Path) -> None:
    "Add a page for each name, and one that lists them, to the pages that nbdev prepared."
    names = public()
    face = of_face(names)
    index: dict[str, list[Name]] = {}
    for entry in names:
        index.setdefault(entry.name, []).append(entry)
    made = [entry for entry in names if entry.kind != "constant"]
    anchors = {anchor(entry) for entry in made}
    (pages / "names").mkdir()
    for entry in names:
        home = PACKAGE if entry in face else f"{PACKAGE}.{entry.module}"
        text = written(entry, index, home, anchors)
        (pages / "names" / f"{entry.page}.md").write_text(text, "utf-8")
    (pages / "names" / "index.md").write_text(overview(names, face), "utf-8")
    link_names(pages / "api.ipynb", face)


def link_names(page: Path, entries: list[Name]) -> None:
    "Make the headings that a notebook's cells have shown into links to the pages of names."
    nb = json.loads(page.read_text("utf-8"))
    shown = [o["data"] for cell in nb["cells"] for o in cell.get("outputs", []) if "data" in o]
    for data in shown:
        text = "".join(data.get("text/markdown", ""))
        for entry in entries:
            link = f"### [`{entry.name}`](names/{entry.page}.md)"
            bare = rf"^### (\[`{entry.name}`\]\(\S+\)|`{entry.name}`)$"  # nbdev links what is installed
            text = re.sub(bare, link, text, flags=re.M)
        if text:
            data["text/markdown"] = text
    page.write_text(json.dumps(nb), "utf-8")
