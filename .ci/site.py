"""What MkDocs can't do by its settings alone: pages outside docs/, the API reference, the public address.

A hook of MkDocs and an extension of griffe, both named in mkdocs.yml. Nothing of the package is imported.
"""

from __future__ import annotations

import re
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
PAGES = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CODE_OF_CONDUCT.md",
    "examples/README.md",
    "benchmarks/README.md",
)
SOURCES = ("examples/*.py", "benchmarks/*.py")  # shown as pages of their own
PICTURES = ("benchmarks/results/*.png",)


class PlainDocstrings(griffe.Extension):
    """Write as Markdown what docstrings hold as plain text."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite a docstring before it is parsed."""
        if obj.docstring:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            text = re.sub(r"^>>> .*?(?=\n\n|\Z)", r"```pycon\n\g<0>\n```", text, flags=re.DOTALL | re.MULTILINE)
            # <sequence>.txt is no tag.
            obj.docstring.value = re.sub(r"(`+[^`]*`+)|<(\w+)>", lambda m: m[1] or f"&lt;{m[2]}&gt;", text)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Read the public address, and add the API reference to the navigation."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"].get("urls", {})
    config.site_url = urls.get("Documentation", "")
    config.repo_url = urls.get("Repository")
    config.edit_uri = "edit/main/" if config.repo_url else None
    package = griffe.load(PACKAGE, search_paths=[str(ROOT)], allow_inspection=False)
    assert isinstance(package, griffe.Module)
    config.extra["api"] = {module.path: module for module in public_modules(package)}
    config.nav = [*(config.nav or []), {"API": [{PACKAGE: navigation(package)}]}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Lay the site out as the repository is, so that the pages' relative links hold in both."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
        files.append(repository_file(f"docs/{file.src_uri}", config))
    for path in found(*PAGES, *PICTURES):
        if path.parts[0] != "docs":
            files.append(repository_file(path.as_posix(), config))
    for source in found(*SOURCES):
        text = f"# {source.name}\n\n````python\n{(ROOT / source).read_text('utf-8')}````\n"
        files.append(File.generated(config, source.with_suffix(".md").as_posix(), content=text))
    for module in config.extra["api"].values():
        files.append(File.generated(config, page_of(module), content=api_page(module)))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Write formulas as MathML, let links to scripts lead to their pages, drop what tests add to languages of code."""
    markdown = re.sub(r"^```math\n(.*?)^```$", formula, markdown, flags=re.DOTALL | re.MULTILINE)
    markdown = re.sub(r"^(```\w+) \w+$", r"\1", markdown, flags=re.MULTILINE)
    return re.sub(r"(\]\((?!\w+:)[^)\s#]+)\.py\)", r"\1.md)", markdown)


def formula(block: re.Match[str]) -> str:
    """Return a block of LaTeX as MathML, which browsers show without a script."""
    latex = " ".join(block[1].split()).replace("{aligned}", "{align*}")
    mathml = convert(latex, display="block")
    if re.search(r"\\|>&<", mathml):
        LOG.warning("A formula has what latex2mathml does not know: %s", latex)
    return f'<div class="formula">{mathml}</div>'


def found(*patterns: str) -> list[Path]:
    """Return the files of the repository that these patterns name, relative to it."""
    return [path.relative_to(ROOT) for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def repository_file(path: str, config: MkDocsConfig) -> File:
    """Return a file of the repository, at the same place in the site."""
    return File(Path(path).as_posix(), str(ROOT), config.site_dir, config.use_directory_urls)


def public_modules(module: griffe.Module) -> list[griffe.Module]:
    """Return a module and all below it, without those whose name begins with an underscore."""
    below = [each for name, each in sorted(module.modules.items()) if not name.startswith("_") and not each.is_alias]
    return [module, *(found for each in below for found in public_modules(each))]


def page_of(module: griffe.Module) -> str:
    """Return where a module's page lies in the site."""
    path = module.path.replace(".", "/")
    return f"api/{path}/index.md" if module.is_init_module else f"api/{path}.md"


def navigation(package: griffe.Module) -> list[Any]:
    """Return a package's own page, its modules and then its packages."""
    below = [module for module in public_modules(package) if module.parent is package]
    modules = [{module.name: page_of(module)} for module in below if not module.is_init_module]
    return [page_of(package), *modules, *({each.name: navigation(each)} for each in below if each.is_init_module)]


def api_page(module: griffe.Module) -> str:
    """Return a module's page: what it re-exports and holds as tables of links, what it defines in full."""
    exported = [module.members[str(name)] for name in module.exports or []]
    elsewhere = [each for each in exported if each.is_alias and not hidden(each.canonical_path)]
    defined = [each for name, each in module.members.items() if not (each.is_alias or each.is_module or hidden(name))]
    inside = [each.name for each in exported or defined if each not in elsewhere]
    below = [each for each in public_modules(module)[1:] if each.parent is module]
    text = "---\nsearch:\n  boost: 0.5\n---\n\n"  # the documents are found first
    text += f"# `{module.path}` {{ #{module.path} }}\n\n"
    text += f"::: {module.path}\n    options:\n      members: {inside or False}\n"
    text += table("Name", {each.name: (each.canonical_path, each) for each in elsewhere})
    return text + table("Module", {each.name: (each.path, each) for each in below})


def hidden(path: str) -> bool:
    """Return whether a name lies in a module that has no page."""
    return any(part.startswith("_") for part in path.split("."))


def table(title: str, rows: dict[str, tuple[str, griffe.Object | griffe.Alias]]) -> str:
    """Return names as links to where they are described, each with the first paragraph of its docstring."""
    if not rows:
        return ""
    text = f"\n| {title} | Description |\n|---|---|\n"
    for name, (path, described) in rows.items():
        summary = described.docstring.value.split("\n\n")[0] if described.docstring else ""
        text += f"| [`{name}`][{path}] | {' '.join(summary.split()).replace('|', '&#124;')} |\n"
    return text
