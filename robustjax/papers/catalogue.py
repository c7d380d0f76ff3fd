"""All papers, and their tables and figures by name: "mart/table4"."""

import re
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
    """Some items by their names.

    The name of a paper stands for all of its items, and that of a table or figure which has parts
    for these: "mart/fig2" for fig2a to fig2d, "fat/table3" for table3_wrn_34_10 and the other.

    Raises:
      UserError: there is no such item; the message names the nearest.
    """
    known = items()
    found: dict[str, Item] = {}
    papers = [paper.name for paper in PAPERS]
    for name in names:
        parts = [name] if name in known else [each for each in known if _is_part(each, name)]
        if not parts:
            raise UserError(
                f"item={name}: there is no such table or figure; --list names all"
                f"{did_you_mean(name, (*known, *papers))}"
            )
        found |= {each: known[each] for each in parts}
    return found


def _is_part(name: str, whole: str) -> bool:
    """Whether an item is of a paper, or is a part of a table or figure."""
    return bool(re.fullmatch(rf"{re.escape(whole)}(/.*|_.*|[a-z](_.*)?)", name))
