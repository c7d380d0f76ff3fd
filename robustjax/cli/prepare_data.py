"""`launch/prepare_data.py`: downloads a data set and prepares it for --data_dir."""

import sys

from absl import flags

from robustjax import data
from robustjax.arguments import require_choice
from robustjax.cli import app
from robustjax.data.prepared.originals import ORIGINALS
from robustjax.errors import UserError
from robustjax.files import require_writable

DESCRIPTION = """\
Downloads a data set and prepares it, so that training finds it in --data_dir. What is downloaded is
kept, and what is prepared is not made again.

  python launch/prepare_data.py --dataset=cifar10 --data_dir=data"""

GROUPS = {"data set": ["dataset", "data_dir", "base_url"]}


def main() -> None:
    """Parses the command line and prepares."""
    app.run(_main, define_flags, description=DESCRIPTION, groups=GROUPS)


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of launch/prepare_data.py."""
    accepted = f"data set to prepare: {', '.join(ORIGINALS)}"
    flags.DEFINE_string("dataset", "", accepted, flag_values=values)
    flags.DEFINE_string(
        "data_dir",
        "",
        "local folder for all prepared data sets; $TFDS_DATA_DIR or ~/tensorflow_datasets if not "
        "given",
        flag_values=values,
    )
    flags.DEFINE_string(
        "base_url",
        None,
        "folder on the web that holds the original archives, if not the authors' own",
        flag_values=values,
    )


def _main() -> None:
    values = flags.FLAGS
    if not values.dataset:
        raise UserError(f"--dataset is missing; it may be {', '.join(ORIGINALS)}")
    require_choice("--dataset", values.dataset, list(ORIGINALS))
    data_dir = values.data_dir or str(data.default_data_dir())
    require_writable(data_dir, f"--data_dir={data_dir}")
    directory = data.prepare(
        values.dataset,
        data_dir,
        base_url=values.base_url,
        progress=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(f"{values.dataset} is prepared in {directory}; use it with --data_dir={data_dir}")
