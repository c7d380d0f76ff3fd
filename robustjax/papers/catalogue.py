"""All papers, and their tables and figures by name: "mart/table4"."""

from collections.abc import Iterable

from robustjax.arguments import did_you_mean
from robustjax.errors import UserError
from robustjax.papers import fat, lrm, mart, nap, sense
from robustjax.papers.item import Item, Paper

PAPERS: tuple[Paper, ...] = (nap.PAPER, sense.PAPER, mart.PAPER, fat.PAPER, lrm.PAPER)


def items() -> dict[str, Item]:
    """Name -> item, of all papers."""
    return {f"{paper.name}/{item.name}": item for paper in PAPERS for item in paper.items}


def chosen(names: Iterable[str]) -> dict[str, Item]:
    """Some items by their names; the name of a paper stands for all of its items.

    Raises:
      UserError: there is no such item; the message names the nearest.
    """
    known = items()
    found: dict[str, Item] = {}
    papers = {paper.name: [f"{paper.name}/{item.name}" for item in paper.items] for paper in PAPERS}
    for name in names:
        if name not in known and name not in papers:
            raise UserError(
                f"item={name}: there is no such table or figure; --list names all"
                f"{did_you_mean(name, (*known, *papers))}"
            )
        found |= {each: known[each] for each in papers.get(name, [name])}
    return found
