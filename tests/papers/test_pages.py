"""docs/papers is what the papers as data say, and every name on it is found."""

import importlib.util
import re
from pathlib import Path

import pytest

from robustjax import attacks, losses
from robustjax.papers import catalogue
from robustjax.papers.item import Item, Row
from robustjax.papers.measured import Cell, Seen
from robustjax.papers.table import to_markdown

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pages():
    spec = importlib.util.spec_from_file_location("paper_pages", ROOT / "tools" / "paper_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()


def test_the_pages_are_made_anew(pages):
    for path, text in pages.items():
        assert path.read_text() == text, f"{path}: run python tools/paper_pages.py"
    assert {path.stem for path in pages} == {paper.name for paper in catalogue.PAPERS}


def test_every_item_has_its_command_and_every_function_is_public(pages):
    for path, text in pages.items():
        for item in next(p for p in catalogue.PAPERS if p.name == path.stem).items:
            command = f"python launch/reproduce.py --item={path.stem}/{item.name}\n"
            assert (command in text) != bool(item.reason)
        for package, name in re.findall(r"`(losses|attacks)\.(\w+)`", text):
            assert hasattr({"losses": losses, "attacks": attacks}[package], name), name


def test_a_table_has_ours_the_papers_and_the_difference():
    item = Item("t", "a table", "1", (Row("a"), Row("b")), ())
    cells = [
        Cell(
            "a", "PGD", 50.0, {1: Seen(48.0, (40.0, 56.0), 100), 2: Seen(52.0, (44.0, 60.0), 100)}
        ),
        Cell("b", "PGD", (40.0, 0.5), {1: Seen(43.0, (35.0, 51.0), 100)}),
    ]
    assert (cells[0].ours, cells[0].difference) == (50.0, 0.0)
    assert cells[0].deviation == pytest.approx(8**0.5)
    low, high = cells[0].interval  # Student's t of one degree of freedom: 12.706 standard errors
    assert (low, high) == pytest.approx((50 - 12.706 * 2, 50 + 12.706 * 2), abs=1e-2)
    assert cells[1].interval == (35.0, 51.0) and cells[1].deviation is None
    text = to_markdown(item, cells)
    assert "| a | PGD | 50 | 50.00 ± 2.83 |" in text and "+0.00 | 100 |" in text
    assert "| b | PGD | 40 ± 0.5 | 43.00 | 35.00 to 51.00 | +3.00 | 100 |" in text
    assert Cell.seen_from_json(cells[0].to_json()) == cells[0].seen
