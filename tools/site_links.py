"""A hook of mkdocs: links out of docs/ go on working on the site.

On GitHub a page of docs/ shows and names files of the whole repository. On the site pictures are
copied beside the pages, and what else is named leads to the repository.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(((?:\.\./)+[^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pictures of the repository that pages show, under their own paths."""
    from mkdocs.structure.files import File

    for page in list(files.documentation_pages()):
        for found in _LINK.finditer(page.content_string):
            path = _outside(page.src_uri, found[3])
            if found[1] and path and path not in files.src_uris:
                files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrites the links of a page that leave docs/."""

    def rewritten(found: re.Match[str]) -> str:
        picture, text, target, anchor = found[1], found[2], found[3], found[4] or ""
        path = _outside(page.file.src_uri, target)
        if path is None:
            return found[0]
        if picture:
            target = posixpath.relpath(path, posixpath.dirname(page.file.src_uri) or ".")
        else:
            target = f"{config.repo_url}/blob/main/{path}{anchor}"
        return f"{picture}[{text}]({target})"

    return _LINK.sub(rewritten, markdown)


def _outside(page: str, target: str) -> str | None:
    """The path in the repository of a link's target, if it lies outside of docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    return None if path.startswith("docs/") or not (ROOT / path).exists() else path
