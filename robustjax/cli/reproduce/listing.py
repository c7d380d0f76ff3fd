"""What `--list` shows: the tables and figures there are, what they cost, what of them is there."""

from collections.abc import Iterator, Mapping, Sequence

from robustjax.cli.start import CHECKOUT
from robustjax.files import Path
from robustjax.papers import black_box, catalogue, cost
from robustjax.papers.item import Experiment, Item
from robustjax.papers.measured import cells_of, is_trained
from robustjax.papers.planned import Networks, Request, networks_of
from robustjax.papers.table import ours_text, published_text

PUBLISHED_RESULTS = Path(CHECKOUT) / "results" / "papers"
"""What of the tables and figures lies in the repository."""

_RATES = (
    f"hours at {cost.H100_FLOPS_PER_SECOND / 1e12:g} TFLOP/s (one H100, bfloat16, as standard "
    f"training of ResNet-18 ran there) and {cost.CPU_FLOPS_PER_SECOND / 1e9:g} GFLOP/s (two CPU "
    "cores in float32, likewise; small networks reach a fraction), all steps of every attack "
    "taken: estimates, not measurements"
)


def lines(items: Mapping[str, Item], request: Request, *, whole: bool) -> Iterator[str]:
    """The lines of the list, as they are found; all papers take some seconds.

    Args:
      items: those to list; of none all are listed.
      request: how they would be made, and where what is there lies.
      whole: whether all papers are listed, one line an item; else each item with its rows.
    """
    listed = dict(items) if items else catalogue.items()
    networks = Networks(request)
    papers = {paper.name: paper for paper in catalogue.PAPERS}
    for name, item in listed.items():
        paper = papers.pop(name.partition("/")[0], None)
        if paper is not None:
            yield f"{paper.authors}: {paper.title}"
        yield f"  {name:<22} {item.title}"
        yield f"  {'':<22}   {_state(name, item, request, networks)}"
        if (PUBLISHED_RESULTS / name.replace("/", "_")).is_dir():
            yield f"  {'':<22}   measured by us: results/papers/{name.replace('/', '_')}"
        if not whole:
            yield from _rows(item, request, networks)
    yield ""
    yield _RATES


def _state(name: str, item: Item, request: Request, networks: Networks) -> str:
    if item.reason:
        return f"cannot be had here: {item.reason}"
    if isinstance(item.figure, Experiment):
        done = (request.folder / name.replace("/", "_") / f"{item.figure.name}.json").exists()
        return f"an experiment of minutes on a CPU, {'made' if done else 'not made'}"
    needed = networks_of({name: (item, item.rows)}, request, networks)
    if not needed:
        return f"none of its {len(item.rows)} rows can be trained here"
    pairs = black_box.pairs_of({name: (item, item.rows)}, networks, request)
    flops = cost.total_flops(needed, pairs)
    cells = cells_of(item, item.rows, request, networks)
    measured = sum(bool(cell.seen) for cell in cells)
    parts = [
        f"{len(item.rows)} rows",
        f"{len(needed)} networks, {sum(is_trained(one.config) for one in needed)} trained",
        *([f"{measured} of {len(cells)} cells measured"] if cells else []),
        f"{flops:.1e} FLOP: {cost.hours(flops, cost.H100_FLOPS_PER_SECOND)} on an H100, "
        f"{cost.hours(flops, cost.CPU_FLOPS_PER_SECOND)} on a CPU",
    ]
    return ", ".join(parts)


def _rows(item: Item, request: Request, networks: Networks) -> Sequence[str]:
    found: dict[str, list[str]] = {row.name: [] for row in item.rows}
    for cell in cells_of(item, item.rows, request, networks):
        published, ours = published_text(cell.published), ours_text(cell)
        if published or ours:
            found[cell.row].append(f"{cell.column} {published or '–'} (ours {ours or '–'})")
    listed = []
    for row in item.rows:
        listed.append(f"  {'':<22}   {row.name}: {', '.join(found[row.name]) or 'no number'}")
        if row.training is None:
            listed.append(f"  {'':<22}     cannot be trained: {row.reason}")
        else:
            options = " ".join(f"--{name}={value}" for name, value in row.training.options)
            listed.append(f"  {'':<22}     launch/{row.training.flag_file}.flags {options}")
    return listed
