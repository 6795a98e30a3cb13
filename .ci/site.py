"""Adds to the MkDocs site: the pages outside docs/, the API reference, the public address.

This file is a hook of MkDocs and an extension of griffe; mkdocs.yml names both. The package is read, not imported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Any

import griffe
import tomllib
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files

LOG = get_plugin_logger("site")
ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "mmdistill"
WINGS = {"toolkit": "Toolkit", "reference": "Reference trackers", "cli": "Command line"}
"""Subpackages with a section of their own in the navigation; all others are the library."""

SETTINGS_PAGE = "api/settings.md"
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CODE_OF_CONDUCT.md",
    "examples/README.md",
    "benchmarks/README.md",
    "tests/golden/README.md",
)
SOURCES = ("examples/*.py", "benchmarks/*.py")  # each becomes a page
OTHER_FILES = ("benchmarks/results/*.png", "CITATION.cff")


class Documented(griffe.Extension):
    """Converts plain-text docstrings to Markdown and adds what griffe omits."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Mark examples as code and escape angle brackets."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            text = re.sub(r"^>>> .*?(?=\n\n|\Z)", r"```pycon\n\g<0>\n```", text, flags=re.DOTALL | re.MULTILINE)
            # <sequence>.txt is not an HTML tag.
            obj.docstring.value = re.sub(r"(`+[^`]*`+)|<(\w+)>", lambda m: m[1] or f"&lt;{m[2]}&gt;", text)

    def on_module_members(self, *, node: ast.AST | griffe.ObjectNode, mod: griffe.Module, **_: Any) -> None:
        """Add the constants of ``A, B = 1, 2``, which griffe does not read."""
        for line in node.body if isinstance(node, ast.Module) else []:
            match line:
                case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
                    for name, value in zip(names, values, strict=True):
                        constant = griffe.Attribute(ast.unparse(name), value=ast.unparse(value), lineno=line.lineno)
                        constant.labels.add("module-attribute")
                        mod.set_member(constant.name, constant)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Replace the list of a settings dataclass's fields by a table with ranges and defaults."""
        if is_settings(cls) and cls.docstring:
            fields = re.compile(r"^(?:Args|Attributes):\n(?:[ ]+.*\n?|\n)*", re.MULTILINE)
            rows = settings_table(cls, cls.docstring.parse("google", warnings=False))
            cls.docstring.value = fields.sub(lambda _: f"{rows}\n", cls.docstring.value)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Read the public address, and add the API reference to the navigation."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"].get("urls", {})
    config.site_url = urls.get("Documentation", "")
    config.repo_url = urls.get("Repository")
    config.edit_uri = "edit/main/" if config.repo_url else None
    extensions = griffe.Extensions(Documented())
    package = griffe.load(PACKAGE, search_paths=[str(ROOT)], allow_inspection=False, extensions=extensions)
    assert isinstance(package, griffe.Module)
    config.extra["api"] = {module.path: module for module in public_modules(package)}
    config.nav = [*(config.nav or []), {"API": api_navigation(package)}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Give the site the repository's layout, so that relative links work in both."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
        files.append(repository_file(f"docs/{file.src_uri}", config))
    for path in repository_paths(*PAGES, *OTHER_FILES):
        if path.parts[0] != "docs":
            files.append(repository_file(path.as_posix(), config))
    for source in repository_paths(*SOURCES):
        text = f"# {source.name}\n\n````python\n{(ROOT / source).read_text('utf-8')}````\n"
        files.append(File.generated(config, source.with_suffix(".md").as_posix(), content=text))
    for module in config.extra["api"].values():
        files.append(File.generated(config, page_of(module), content=api_page(module)))
    files.append(File.generated(config, SETTINGS_PAGE, content=settings_page(config.extra["api"].values())))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Convert formulas to MathML, links to scripts to links to pages, and ``python raises`` to ``python``."""
    markdown = re.sub(r"^```math\n(.*?)^```$", formula, markdown, flags=re.DOTALL | re.MULTILINE)
    markdown = re.sub(r"^(```\w+) \w+$", r"\1", markdown, flags=re.MULTILINE)
    return re.sub(r"(\]\((?!\w+:)[^)\s#]+)\.py\)", r"\1.md)", markdown)


def formula(block: re.Match[str]) -> str:
    """Convert a block of LaTeX to MathML, which browsers show without a script."""
    latex = " ".join(block[1].split()).replace("{aligned}", "{align*}")
    mathml = convert(latex, display="block")
    if re.search(r"\\|>&<", mathml):
        LOG.warning("latex2mathml cannot convert this formula: %s", latex)
    return f'<div class="formula">{mathml}</div>'


def repository_paths(*patterns: str) -> list[Path]:
    """Return the files of the repository that match, relative to its root."""
    return [path.relative_to(ROOT) for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def repository_file(path: str, config: MkDocsConfig) -> File:
    """Return a file of the repository, with the same path in the site."""
    return File(Path(path).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls)


def public_modules(module: griffe.Module) -> list[griffe.Module]:
    """Return a module and its submodules, without private ones."""
    below = [each for name, each in sorted(module.modules.items()) if not name.startswith("_") and not each.is_alias]
    return [module, *(public for each in below for public in public_modules(each))]


def page_of(module: griffe.Module) -> str:
    """Return the path of a module's page in the site."""
    path = module.path.replace(".", "/")
    return f"api/{path}/index.md" if module.is_init_module else f"api/{path}.md"


def api_navigation(package: griffe.Module) -> list[Any]:
    """Return the API reference, one section per wing, and the page of all settings."""
    wings = [{title: navigation(package.modules[name])} for name, title in WINGS.items()]
    _, *library = navigation(package, without=WINGS)
    return [page_of(package), {"Library": library}, *wings, {"All settings": SETTINGS_PAGE}]


def navigation(package: griffe.Module, without: Container[str] = ()) -> list[Any]:
    """Return a package's own page, its modules and then its packages."""
    below = [each for each in public_modules(package) if each.parent is package and each.name not in without]
    modules = [{module.name: page_of(module)} for module in below if not module.is_init_module]
    return [page_of(package), *modules, *({each.name: navigation(each)} for each in below if each.is_init_module)]


def api_page(module: griffe.Module) -> str:
    """Return a module's page: its own names in full, re-exported names and submodules as tables of links."""
    exported = [module.members[str(name)] for name in module.exports or []]
    elsewhere = [each for each in exported if each.is_alias and not hidden(each.canonical_path)]
    defined = [each for name, each in module.members.items() if not (each.is_alias or each.is_module or hidden(name))]
    inside = [each.name for each in exported or defined if each not in elsewhere]
    below = [each for each in public_modules(module)[1:] if each.parent is module]
    text = "---\nsearch:\n  boost: 0.5\n---\n\n"  # search lists the documents first
    text += f"# `{module.path}` {{ #{module.path} }}\n\n"
    text += f"::: {module.path}\n    options:\n      members: {inside or False}\n"
    text += table("Name", {each.name: (each.canonical_path, each) for each in elsewhere})
    return text + table("Module", {each.name: (each.path, each) for each in below})


def hidden(path: str) -> bool:
    """Return whether a name is in a module without a page."""
    return any(part.startswith("_") for part in path.split("."))


def table(title: str, rows: dict[str, tuple[str, griffe.Object | griffe.Alias]]) -> str:
    """Return names as links to their descriptions, each with the first paragraph of its docstring."""
    if not rows:
        return ""
    text = f"\n| {title} | Description |\n|---|---|\n"
    for name, (path, described) in rows.items():
        summary = described.docstring.value.split("\n\n")[0] if described.docstring else ""
        text += f"| [`{name}`][{path}] | {cell(summary)} |\n"
    return text


def cell(text: str) -> str:
    """Return text as one cell of a table."""
    return " ".join(text.split()).replace("|", "&#124;")


def code(text: str) -> str:
    """Return text as code in a cell of a table."""
    return f"<code>{cell(text.replace('<', '&lt;').replace('*', '&#42;').replace('_', '&#95;'))}</code>"


def is_settings(cls: griffe.Class) -> bool:
    """Return whether a class is a dataclass that checks the ranges of its fields."""
    return "__post_init__" in cls.members and "check_fields(self)" in "".join(cls.lines)


def settings_page(modules: Iterable[griffe.Module]) -> str:
    """Return the page that lists all settings dataclasses."""
    classes = [cls for module in modules for cls in module.classes.values() if not cls.is_alias and is_settings(cls)]
    text = "# All settings\n\nEach page has the fields of the dataclass with values, defaults and meaning.\n"
    return text + table("Settings", {cls.name: (cls.path, cls) for cls in sorted(classes, key=lambda cls: cls.name)})


def settings_table(cls: griffe.Class, sections: Iterable[griffe.DocstringSection]) -> str:
    """Return a table of the fields of a settings dataclass."""
    kinds = (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes)
    listed = [each for section in sections if section.kind in kinds for each in section.value]
    meanings = {each.name: each.description for each in listed}
    text = "| Field | Values | Default | Meaning |\n|---|---|---|---|\n"
    for name, field in cls.attributes.items():
        if field.annotation is not None and "property" not in field.labels:
            if name not in meanings:
                LOG.warning("%s.%s: expected a line in the docstring", cls.path, name)
            values = Annotations(cls.module).words(expression(field.annotation))
            text += f"| `{name}` | {values} | {default(field.value)} | {cell(meanings.get(name, ''))} |\n"
    return text


def default(value: object) -> str:
    """Return the default of a field as a cell of a table."""
    text = "" if value is None else str(value)
    factory = re.fullmatch(r"field\(default_factory=(?:lambda: )?(.*)\)", text, re.DOTALL)
    return "its defaults" if factory and factory[1].isidentifier() else code(factory[1] if factory else text)


class Annotations:
    """Describes the annotations of settings in words.

    Args:
        module: the module whose names the annotations use.
    """

    def __init__(self, module: griffe.Module) -> None:
        self.module = module

    def words(self, node: ast.expr) -> str:
        """Return an annotation in words, as a cell of a table."""
        if isinstance(node, ast.BinOp):  # X | Y
            return f"{self.words(node.left)} or {self.words(node.right)}"
        if isinstance(node, ast.Subscript):
            inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            return self._subscript(ast.unparse(node.value), inner)
        if isinstance(node, ast.Name):
            return self._name(node.id)
        return code(ast.unparse(node))

    def _subscript(self, kind: str, inner: list[ast.expr]) -> str:
        if kind == "Annotated":
            ranges = [limits(each) for each in inner[1:] if isinstance(each, ast.Call)]
            text = ", ".join(ranges) if ranges else self.words(inner[0])
            return f"{text}, low to high" if "LOW_TO_HIGH" in map(ast.unparse, inner) else text
        if kind == "Literal":
            return ", ".join(code(ast.unparse(each)) for each in inner)
        if kind == "tuple" and ast.unparse(inner[-1]) == "...":
            return f"several: {self.words(inner[0])}"
        if kind == "tuple":
            words = [self.words(each) for each in inner]
            return f"{len(words)} values: {words[0] if len(set(words)) == 1 else '; '.join(words)}"
        return code(kind)

    def _name(self, name: str) -> str:
        try:
            target = self.module.modules_collection[self.module.resolve(name)]
            target = target.final_target if target.is_alias else target
        except (griffe.NameResolutionError, griffe.AliasResolutionError, KeyError):
            return {"bool": "`True`, `False`", "str": "text"}.get(name, code(name))
        if target.is_class:
            return f"[`{name}`][{target.path}]"
        return Annotations(target.module).words(expression(target.value))


def expression(source: object) -> ast.expr:
    """Return the syntax tree of an expression of griffe."""
    return ast.parse(str(source), mode="eval").body


def limits(call: ast.Call) -> str:
    """Return ``Range(low, high, above=..., step=...)`` in words."""
    low, high = (number(each) for each in call.args)
    options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    text = f"above {low}, up to {high}" if options.get("above") == "True" else f"{low} to {high}"
    return f"{text}, multiples of {options['step']}" if "step" in options else text


def number(node: ast.expr) -> str:
    """Return a constant such as ``10**6`` with all digits, or as it is written if it is very large."""
    value = eval(compile(ast.Expression(node), "<constant>", "eval"), {"__builtins__": {}})
    return f"{value:,}" if abs(value) < 10**12 else code(ast.unparse(node))
