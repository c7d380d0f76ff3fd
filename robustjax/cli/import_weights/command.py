"""The command line of `launch/import_weights.py`, and the import that evaluation shares."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from absl import flags

from robustjax import data, installed, interop, models
from robustjax.cli import app
from robustjax.cli.ball import define_allow_whole_box
from robustjax.cli.train import describe_models
from robustjax.config import IMPORTED, TrainConfig
from robustjax.errors import UserError
from robustjax.files import Path
from robustjax.flags import define_options, read_flags
from robustjax.interop.recognition import recognize
from robustjax.runs.claim import has_begun
from robustjax.runs.imported import write_imported
from robustjax.runs.names import FLAGS
from robustjax.text import format_value
from robustjax.training.fitting import num_classes_of
from robustjax.training.units import require_units

DESCRIPTION = """\
Makes a folder of weights that were trained elsewhere, in PyTorch: evaluate, diagnose, analyze,
transfer and report take it like a run, and training begins with them by --init_from. Nothing in
the file is run; names and shapes that are not those of the network are listed.

  python launch/import_weights.py --weights=trades.safetensors --model=wide_resnet_34_10 \\
    --workdir=runs/their_trades
  python launch/import_weights.py --weights=gowal.pt --model=wide_resnet_28_10 --activation=silu \\
    --workdir=runs/gowal        the padding and the normalisation are read off the weights
  python launch/evaluate.py --workdir=runs/gowal --attacks=clean,pgd-20,autoattack"""

NETWORK = ("model", "activation", "mean", "std", "stride_padding", "stem")
OF_WEIGHTS = (*NETWORK, "dataset", "norm")
"""Options of an experiment that nothing says of weights but the command line."""

GROUPS = {
    "the weights": ["weights", "entry", *NETWORK],
    "what they are judged on": [
        "dataset", "data_dir", "image_size", "norm", "epsilon", "allow_whole_box",
    ],
    "the folder": ["workdir"],
}  # fmt: skip

_KEPT = ("norm", "epsilon", "dataset", "data_dir", "image_size", "allow_whole_box")
"""Of a folder that is there, unless they are given."""

_DATASETS: dict[str, tuple[tuple[int, int, int], int]] = {
    "mnist": ((28, 28, 1), 10),
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
    "digits": ((8, 8, 1), 10),
    "fashion_mnist": ((28, 28, 1), 10),
    "kmnist": ((28, 28, 1), 10),
    "svhn": ((32, 32, 3), 10),
}
"""Shapes and classes of data sets that are known without being read. Where none is named, weights
are taken to be of the first of these that they fit."""


def main() -> None:
    """Parses the command line and imports."""
    app.run(_main, define_import_flags, description=DESCRIPTION, groups=GROUPS)


def define_import_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of launch/import_weights.py."""
    define_weights_flags(values)
    options = ("epsilon", "data_dir", "image_size")
    define_options(options, values, **dict.fromkeys(options))
    flags.DEFINE_string("workdir", "", "the folder that is made", flag_values=values)
    define_allow_whole_box(values)


def define_weights_flags(values: flags.FlagValues) -> None:
    """Defines the flags that say which file of weights it is, and of which network."""
    text = "a file of weights, NAME.safetensors, or .pt, which PyTorch has to be installed for"
    flags.DEFINE_string("weights", "", text, flag_values=values)
    text = "of a file that holds several state dicts, the one that is meant, as model or ema.module"
    flags.DEFINE_string("entry", "", text, flag_values=values)
    define_options(OF_WEIGHTS, values, **dict.fromkeys(OF_WEIGHTS))


def _main() -> None:
    values = flags.FLAGS
    if values.model == "help":
        print(describe_models())
        return
    if not values.workdir:
        raise UserError("--workdir is not given; name the folder that is to be made")
    folder = import_weights(
        values.weights,
        values.workdir,
        entry=values.entry,
        **given_flags(values, ("epsilon", "data_dir", "image_size", "allow_whole_box")),
    )
    command = (
        f"{installed.written('evaluate')} --workdir={folder} --attacks=clean,pgd-20,autoattack"
    )
    print(f"to evaluate: {command}", file=sys.stderr)


def given_flags(values: flags.FlagValues, others: Sequence[str] = ()) -> dict[str, Any]:
    """Of the flags of `define_weights_flags`, and of others, those that are given."""
    names = (*OF_WEIGHTS, *others)
    nothing: tuple[Any, ...] = (None, "", (), False)
    return {name: values[name].value for name in names if values[name].value not in nothing}


def import_weights(weights: str, workdir: str, *, entry: str = "", **options: Any) -> Path:
    """Makes the folder of a run from a file of weights, and says what was understood.

    Args:
      weights: the file.
      workdir: the folder. One that holds the same weights already is left as it is, and says itself
        what is not given.
      entry: see `interop.read_weights`.
      **options: of `TrainConfig`, those that are given: "model", and others.

    Raises:
      ValueError: the file cannot be read, or is no such network's weights, or the folder holds
        something else.
    """
    if not weights:
        raise UserError("--weights is not given; name a file, NAME.safetensors or NAME.pt")
    if not options.get("model"):
        raise UserError("--model is not given; name the network that the weights are of")
    name = options["model"]
    models.describe(name)
    try:
        state_dict = interop.read_weights(weights, entry)
    except OSError as error:
        raise UserError(
            f"--weights={weights} cannot be read: {error.strerror or error}; name a file, "
            "NAME.safetensors or NAME.pt"
        ) from None
    told = interop.told_options(name, state_dict)
    num_classes = told.pop("num_classes", None)
    options = {**told, **options}
    config = TrainConfig(method=IMPORTED, holdout=0, workdir=workdir, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of options that are not given: they have been read off.
        variables = interop.from_torch(name, state_dict, **config.network_options())
    if has_begun(workdir):
        there = read_flags(Path(workdir) / FLAGS, alone=True)
        kept = {part: getattr(there, part) for part in _KEPT if part not in options}
        config = dataclasses.replace(config, **kept)
    elif "dataset" not in options:
        config = dataclasses.replace(config, dataset=_fitting_data(config, variables, num_classes))
    else:
        _require_fitting(config, variables, num_classes)
    require_units(config)
    layout = recognize(name, state_dict).layout.name
    folder = write_imported(
        config,
        variables,
        num_classes=num_classes,
        origin={
            "file": str(weights),
            "sha256": _sha256(weights),
            "entry": entry,
            "layout": layout,
            "command": app.command_line(),
        },
    )
    read_off = ", ".join(f"{key}={format_value(value)}" for key, value in told.items())
    print(
        f"{folder}: {name} of {num_classes} classes in the layout {layout}"
        f"{f', {read_off}' if read_off else ''}; judged on {config.dataset}, {config.norm} "
        f"epsilon={config.epsilon:.6g}",
        file=sys.stderr,
    )
    return folder


def _require_fitting(config: TrainConfig, variables: Any, num_classes: int) -> None:
    """Refuses what is no data set, or one that is known unread and that the weights do not fit."""
    data.require_known(config.dataset, config.data_dir)
    if config.dataset not in _DATASETS:
        return
    (*size, channels), classes = _DATASETS[config.dataset]
    size = [config.image_size] * 2 if config.image_size else size
    if not _fits(config, variables, (*size, channels), num_classes):
        raise UserError(
            f"--dataset={config.dataset}: its images of {'x'.join(map(str, (*size, channels)))} do "
            "not fit the weights; name the data set that they are of"
        )
    if classes > num_classes:
        raise UserError(
            f"--dataset={config.dataset}: its {classes} classes do not fit the weights, of "
            f"{num_classes}; name the data set that they are of"
        )


def _fits(
    config: TrainConfig, variables: Any, image_shape: Sequence[int], num_classes: int
) -> bool:
    try:
        num_classes_of(config, variables, image_shape, recorded=num_classes)
    except ValueError:
        return False
    return True


def _fitting_data(config: TrainConfig, variables: Any, num_classes: int) -> str:
    """The data set that weights fit, where none is named."""
    for name, (shape, classes) in _DATASETS.items():
        if classes == num_classes and _fits(config, variables, shape, num_classes):
            print(
                f"--dataset={name}: the first that {num_classes} classes and images of "
                f"{'x'.join(map(str, shape))} fit",
                file=sys.stderr,
            )
            return name
    raise UserError(
        f"--dataset is not given, and the weights, of {num_classes} classes, fit none of "
        f"{', '.join(_DATASETS)}; name theirs"
    )


def _sha256(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
