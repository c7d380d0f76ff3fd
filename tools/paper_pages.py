"""Writes docs/papers/NAME.md of each paper from robustjax/papers, and from what results/papers has.

python tools/paper_pages.py
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from robustjax.papers import catalogue, page

PAGES, RESULTS = ROOT / "docs" / "papers", ROOT / "results" / "papers"


def pages() -> dict[Path, str]:
    """Path of a page -> its text."""
    return {
        PAGES / f"{paper.name}.md": page.to_markdown(paper, RESULTS, "../../results/papers")
        for paper in catalogue.PAPERS
    }


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text)
        print(path.relative_to(ROOT))
