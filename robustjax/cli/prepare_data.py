"""Download a data set and prepare it for `--data_dir`: `python launch/prepare_data.py --help`."""

import os
import sys
from collections.abc import Sequence

from absl import flags

from robustjax.arguments import nearest, require_choice
from robustjax.cli import app
from robustjax.data import default_data_dir, prepare
from robustjax.data.prepared.originals import ORIGINALS
from robustjax.files import require_writable


def define_flags(values: flags.FlagValues) -> None:
    """Define the flags of this command.

    Args:
        values: Where to; nothing is registered globally.
    """
    accepted = f"Data set to prepare: {', '.join(ORIGINALS)}."
    flags.DEFINE_string("dataset", None, accepted, flag_values=values)
    flags.DEFINE_string(
        "data_dir",
        None,
        "Local folder for all prepared data sets; $TFDS_DATA_DIR or ~/tensorflow_datasets if not "
        "given.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "base_url",
        None,
        "Folder on the web that holds the original archives, if not the authors' own.",
        flag_values=values,
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command.

    Args:
        argv: Program name and flags; `sys.argv` if not given.

    Raises:
        SystemExit: With status 1 after one line on stderr, if the data set cannot be prepared.
    """
    values = flags.FlagValues()
    define_flags(values)
    arguments = list(sys.argv if argv is None else argv)
    if any(argument in app.HELP for argument in arguments):
        print(f"{__doc__}\n{values.get_help()}")
        return
    try:
        unknown = values(arguments)[1:]
    except flags.UnrecognizedFlagError as error:
        near = nearest(error.flagname, values)
        hint = "see --help" if near is None else f"did you mean --{near}?"
        sys.exit(f"error: unknown flag --{error.flagname}; {hint}")
    except flags.Error as error:
        sys.exit(f"error: {error}")
    if unknown:
        sys.exit(f"error: unexpected argument {unknown[0]!r}; see --help")
    if values.dataset is None:
        sys.exit(f"error: --dataset is missing; it may be {', '.join(ORIGINALS)}")
    data_dir = os.path.expanduser(values.data_dir or default_data_dir())
    try:
        require_choice("--dataset", values.dataset, list(ORIGINALS))
        require_writable(data_dir, f"--data_dir={data_dir}")
        directory = prepare(
            values.dataset,
            data_dir,
            base_url=values.base_url,
            progress=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"{values.dataset} is prepared in {directory}; use it with --data_dir={data_dir}")
