"""A cheaper attack beside standard AutoAttack on the same images: its verdicts and its time."""

from collections.abc import Sequence
from typing import Any

from absl import flags

from benchmarks import results, table
from robustjax.errors import UserError
from robustjax.evaluation.verdicts import Paired, paired
from robustjax.runs.evaluations import Record
from robustjax.runs.folder import RunFolder, read_runs

DESCRIPTION = """\
A cheaper attack beside standard AutoAttack: verdicts and time.

  python launch/evaluate.py --workdir=runs/a --attacks=malt,autoattack --examples=500
  python -m benchmarks beside_autoattack --workdirs=runs/a,runs/b --output=malt.json

Nothing is attacked here: the table is read from the records of evaluations, which have the verdict
of every image and the seconds of each attack, compiling included. Evaluate both attacks by one
command, so that the machine is the same; seconds of different runs do not compare."""

GROUPS = {"what": ["workdirs", "attack"], "run": ["output"]}

HEADER = (
    "run",
    "network",
    "images",
    "AutoAttack %",
    "the other %",
    "same verdicts %",
    "broken by it alone",
    "by AutoAttack alone",
    "AutoAttack s",
    "the other s",
    "of AutoAttack's time",
)

Row = dict[str, Any]


def define_flags() -> None:
    """Defines the flags of this benchmark."""
    flags.DEFINE_list("workdirs", [], "folders of runs that were evaluated by both")
    flags.DEFINE_string("attack", "malt", "the attack that is compared")
    flags.DEFINE_string("output", "", "a JSON file for the results; none if not given")


def main() -> None:
    """Compares the records of every run; prints a table, and writes it as JSON."""
    values = flags.FLAGS
    environment = results.environment()
    rows = [row_of(run, values.attack) for run in read_runs(values.workdirs)]
    results.write(values.output, environment, rows)
    print(table.markdown(HEADER, [entries(row) for row in rows]))


def row_of(run: RunFolder, attack: str) -> Row:
    """Both attacks on a run, on the most images that both had.

    Args:
      run: its folder.
      attack: name of the other attack.

    Raises:
      ValueError: there are no two records of one subject and one ball.
    """
    standard, other, withstood = _compared(run, attack)
    seconds = [float(record.about["attack_seconds"]) for record in (standard, other)]
    return {
        "run": run.name,
        "model": run.flags.get("model", "-"),
        "attack": attack,
        "examples": standard.examples,
        "autoattack": standard.accuracy,
        "other": other.accuracy,
        "broken_by_the_other_alone": withstood.first_alone,
        "broken_by_autoattack_alone": withstood.second_alone,
        "seconds": {"autoattack": seconds[0], attack: seconds[1]},
        "versions": standard.about.get("versions", {}),
        "command": standard.about.get("command"),
    }


def _compared(run: RunFolder, attack: str) -> tuple[Record, Record, Paired]:
    for standard in sorted(run.records, key=lambda record: -record.examples):
        if standard.attack != "autoattack" or standard.correct is None:
            continue
        ball = {key: standard.settings.get(key) for key in ("norm", "epsilon")}
        for other in reversed(run.records):
            if (
                other.attack == attack
                and other.correct is not None
                and other.examples == standard.examples
                and other.subject == standard.subject
                and {key: other.settings.get(key) for key in ball} == ball
            ):
                return standard, other, paired(standard.correct, other.correct)
    raise UserError(
        f"workdirs={run.workdir}: there is no evaluation by autoattack and by {attack} of the same "
        f"images in the same ball; make one (launch/evaluate.py --workdir={run.workdir} "
        f"--attacks={attack},autoattack)"
    )


def entries(row: Row) -> Sequence[str]:
    """A row of the table."""
    alone = row["broken_by_the_other_alone"], row["broken_by_autoattack_alone"]
    seconds = row["seconds"]["autoattack"], row["seconds"][row["attack"]]
    return (
        row["run"],
        row["model"],
        str(row["examples"]),
        f"{100 * row['autoattack']:.1f}",
        f"{100 * row['other']:.1f}",
        f"{100 * (1 - sum(alone) / row['examples']):.1f}",
        str(alone[0]),
        str(alone[1]),
        f"{seconds[0]:.3g}",
        f"{seconds[1]:.3g}",
        f"{seconds[1] / seconds[0]:.2f}",
    )
