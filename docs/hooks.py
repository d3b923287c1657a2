"""Pages of the documentation site that are made from other files: the root's pages, and the API.

README.md, ARCHITECTURE.md, CONTRIBUTING.md, SECURITY.md, CHANGELOG.md and findings/ stay at the
root, where people look for them; the site shows them with links that point into it. The API
reference has one page per package folder with every documented public name, so a new module needs
no entry.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parent.parent
PACKAGES = ("ingest", "pipeline", "models", "training", "deploy", "dashboards")
ROOT_PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "CHANGELOG.md": "changelog.md",
    "findings/README.md": "findings.md",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the API reference to the navigation."""
    names = [name for package in PACKAGES for name, _ in _folders(package)]
    config.nav.append({"API reference": [{name: f"reference/{name}.md"} for name in names]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for name, page in ROOT_PAGES.items():
        if (ROOT / name).is_file():
            files.append(File.generated(config, page, content=_moved((ROOT / name).read_text())))
    for package in PACKAGES:
        for name, folder in _folders(package):
            page = f"reference/{name}.md"
            files.append(File.generated(config, page, content=_reference(name, folder)))
    return files


def _folders(package: str) -> list[tuple[str, Path]]:
    """Dotted name and path of a package and of each of its folders."""
    folders = sorted(path.parent for path in (ROOT / package).rglob("__init__.py"))
    return [(folder.relative_to(ROOT).as_posix().replace("/", "."), folder) for folder in folders]


def _moved(text: str) -> str:
    """Rewrite links of a page at the root to those of the same page inside the site."""
    for name, page in ROOT_PAGES.items():
        text = text.replace(f"]({name}", f"]({page}")
    return re.sub(r"\]\(docs/", "](", text)


def _reference(name: str, folder: Path) -> str:
    guide = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    modules = [
        f"::: {name}.{path.stem}\n"
        for path in sorted(folder.glob("*.py"))
        if not path.stem.startswith("__")
    ]
    return f"# {name}\n\n{guide}\n\n" + "\n".join(modules)
