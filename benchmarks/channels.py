"""Which share of a TPU's rate a convolution of few or many channels reaches."""

from collections.abc import Sequence
from typing import Any

from absl import flags

from benchmarks import results, table
from benchmarks.ahead_of_time import apart, convolutions, targets
from benchmarks.ahead_of_time.steps import Row
from robustjax.errors import UserError

DESCRIPTION = """\
Convolutions of 16 to 1024 channels on TPUs that are not there: the share of a chip's rate.

  python -m benchmarks channels --output=channels.json
  python -m benchmarks channels --targets=v5e-4 --batch_size=32

Each 3×3 convolution is compiled alone in bfloat16, forward and both gradients, and nothing is run:
the shares are the compiler's own estimate of its cycles, which chooses the layout by it. The matrix
product in the first row shows what of the specified rate such an estimate grants at best. The extra
"tpu" brings the compiler."""

GROUPS = {"what": ["targets", "batch_size"], "run": ["longest", "output"]}


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_list("targets", ["v4-8", "v5e-4", "v5p-8"], "slices, of which one chip is asked")
    flags.DEFINE_integer("batch_size", 128, "images of each convolution", lower_bound=1)
    flags.DEFINE_float("longest", 900.0, "seconds that one target may take", lower_bound=1)
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


def main() -> None:
    """Compiles for each target; prints the table."""
    values = flags.FLAGS
    wanted = [targets.parse(name) for name in values.targets]
    for target in wanted:
        if not target.chip.hertz:
            known = [name for name, other in targets.TARGETS.items() if other.chip.hertz]
            raise UserError(f"--targets={target.name}: accepted are {', '.join(known)}")
    for target in wanted:
        targets.require_compiler(target)
    apart.leave_devices_alone()
    environment = results.environment()
    print(results.describe(environment), flush=True)
    rows: list[Row] = []
    for target in wanted:
        task = {"target": target.name, "images": values.batch_size}
        found = apart.call(convolutions.__name__, task, values.longest)
        if "rows" not in found:
            raise UserError(f"--targets={target.name}: {apart.reason(found)}")
        rows += [task | row for row in found["rows"]]
        results.write(values.output, environment, rows)
    print(table.markdown(*shares(rows)))


def share(row: Row) -> float:
    """Of a chip's specified rate."""
    chip = targets.parse(row["target"]).chip
    return row["flops"] * chip.hertz / (row["cycles"] * chip.tera_flops * 1e12)


def shares(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """The table's header and rows, a column for each direction on each target."""
    names = list(dict.fromkeys(row["target"] for row in rows))
    columns = [(name, direction) for name in names for direction in convolutions.DIRECTIONS]
    found: dict[Any, str] = {
        (row["channels"], row["target"], row["direction"]): f"{100 * share(row):.0f}"
        for row in rows
    }
    entries = []
    for channels in dict.fromkeys(row["channels"] for row in rows):
        first = str(channels or f"product of {convolutions.PRODUCT} squared")
        entries.append([first, *(found.get((channels, *column), "-") for column in columns)])
    return ["channels", *(f"{name} {direction}, %" for name, direction in columns)], entries
