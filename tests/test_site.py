"""The documents as a site: pages are reached, links lead somewhere, public names are there."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import robustjax

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIG = (ROOT / "mkdocs.yml").read_text()
PACKAGES = sorted(set(robustjax.__all__) - {"UserError", "__version__", "cite"})


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_navigation_has_every_page_once_and_no_other():
    (navigation,) = re.findall(r"(?ms)^nav:\n(.*?)\n\n", CONFIG)
    named = re.findall(r"[\w/]+\.md", navigation)
    assert sorted(named) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def test_every_public_package_has_a_page_of_the_api():
    table = (DOCS / "api" / "index.md").read_text()
    for package in PACKAGES:
        page = (DOCS / "api" / f"{package}.md").read_text()
        assert f"\n::: robustjax.{package}\n" in page and f"({package}.md)" in table, package


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: path.name)
def test_what_a_page_links_to_is_there(path):
    for target in re.findall(r"\]\((?!\w+:|#)([^)\s#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_links_out_of_the_documents_lead_to_the_repository_and_pictures_are_copied():
    page = SimpleNamespace(file=SimpleNamespace(src_uri="papers/fat.md"))
    config = SimpleNamespace(repo_url="https://example.org/repository")
    text = (
        "![a](../../results/mnist_methods/sweep.png) [b](../../results/README.md#top) "
        "[c](../extending.md) [d](../../absent.md)"
    )
    assert tool("site_links").on_page_markdown(text, page, config, None) == (
        "![a](../results/mnist_methods/sweep.png) "
        "[b](https://example.org/repository/blob/main/results/README.md#top) "
        "[c](../extending.md) [d](../../absent.md)"
    )


def test_the_sections_of_docstrings_are_shown():
    pytest.importorskip("griffe")
    text = (
        "One line.\n\nExample:\n    >>> 1\n    1\n\nSource: Someone (2020), eq. 1,\n    and eq. 2."
    )
    assert tool("docstring_sections").as_known(text) == (
        "One line.\n\nExamples:\n    >>> 1\n    1\n\n**Source:** Someone (2020), eq. 1, and 2."
    )


@pytest.mark.slow
def test_the_figures_of_the_concepts_are_drawn_anew(tmp_path):
    program = [sys.executable, ROOT / "tools" / "concept_figures.py", tmp_path]
    subprocess.run(program, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    drawn = {path.name for path in tmp_path.iterdir()}
    shown = set(re.findall(r"\(figures/([\w.]+)\)", (DOCS / "concepts.md").read_text()))
    assert drawn == shown


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_holds_every_public_name(tmp_path):
    pytest.importorskip("mkdocs_autorefs")
    pytest.importorskip("mkdocstrings_handlers.python")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", tmp_path / "site"]
    found = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-3000:]
    for package in PACKAGES:
        html = (tmp_path / "site" / "api" / package / "index.html").read_text()
        anchors = {name.rpartition(".")[2] for name in re.findall(r'id="([\w.]+)"', html)}
        public = getattr(importlib.import_module(f"robustjax.{package}"), "__all__", [])
        assert set(public) <= anchors, (package, set(public) - anchors)
    pictures = re.findall(r'<img[^>]* src="([^"]+)"', (tmp_path / "site/index.html").read_text())
    assert pictures and all((tmp_path / "site" / picture).exists() for picture in pictures)
