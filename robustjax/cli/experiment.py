"""`launch/experiment.py`: runs one of the papers' small experiments into a folder."""

import functools
import sys

from absl import flags

from robustjax.cli import app
from robustjax.errors import UserError
from robustjax.files import require_writable
from robustjax.papers.experiments import registry

DESCRIPTION = """\
Runs one of the papers' small experiments; writes its figures, NAME.json and NAME.md into --output.

  python launch/experiment.py --name=help        the experiments and their settings
  python launch/experiment.py --name=sense_three_clusters --output=DIR
  python launch/experiment.py --name=sense_examples --output=DIR --set p=0.6 --set seed=1"""

GROUPS = {"experiment": ["name", "output", "set"]}


def main() -> None:
    """Parses the command line and runs the experiment."""
    app.run(_main, _define_flags, description=DESCRIPTION, groups=GROUPS)


def _define_flags() -> None:
    flags.DEFINE_string("name", "help", "the experiment; help lists them")
    flags.DEFINE_string("output", "", "the folder to write to, which is made")
    flags.DEFINE_multi_string("set", [], "NAME=VALUE, a setting of the experiment; may be repeated")


def _main() -> None:
    values = flags.FLAGS
    if values.name == "help":
        print(registry.describe())
        return
    chosen = registry.settings(values.name, values.set)
    if not values.output:
        raise UserError("--output is not given; name the folder to write to")
    output = require_writable(values.output, f"--output={values.output}")
    report = functools.partial(print, file=sys.stderr, flush=True)
    registry.run(values.name, chosen, output, report)
    print((output / f"{values.name}.md").read_text(), end="")
    print(f"written to {output}", file=sys.stderr)
