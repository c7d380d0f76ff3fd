"""The command line of `launch/export_weights.py`: which run, which layout, which files."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from typing import Any, NamedTuple

from absl import flags

import robustjax
from robustjax import interop, training
from robustjax.arguments import require_choice
from robustjax.cli import app
from robustjax.config import TrainConfig
from robustjax.errors import UserError
from robustjax.files import Path, require_writable, write_whole
from robustjax.reports.model_card import Exported, model_card, robustbench_entry
from robustjax.runs.folder import RunFolder, read_run
from robustjax.text import format_value

DESCRIPTION = """\
Writes the weights of a run as a PyTorch state dict, NAME.safetensors, with a model card (NAME.md:
data, method, flags, measured accuracies, citation) and the fields of an entry of RobustBench
(NAME.json; what only its authors know is null there).

  python launch/export_weights.py --workdir=runs/trades
  python launch/export_weights.py --workdir=runs/trades --layout=robustbench \\
    --output=mine.safetensors"""

GROUPS = {"the run": ["workdir", "checkpoint"], "the files": ["output", "layout"]}

_SUFFIX = ".safetensors"


def main() -> None:
    """Parses the command line and exports."""
    app.run(_main, define_export_flags, description=DESCRIPTION, groups=GROUPS)


def define_export_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of launch/export_weights.py."""
    flags.DEFINE_string("workdir", "", "the folder of the run", flag_values=values)
    text = "best (by hold-out robust accuracy) or latest"
    flags.DEFINE_string("checkpoint", "best", text, flag_values=values)
    text = "the file, NAME.safetensors; weights.safetensors in the folder of the run if not given"
    flags.DEFINE_string("output", "", text, flag_values=values)
    text = "whose names the layers get, as trades; the usual ones of the network if not given"
    flags.DEFINE_string("layout", "", text, flag_values=values)


def _main() -> None:
    values = flags.FLAGS
    if not values.workdir:
        raise UserError("--workdir is not given; name the folder of a run")
    require_choice("--checkpoint", values.checkpoint, ("best", "latest"))
    files = export_weights(
        values.workdir, values.output, checkpoint=values.checkpoint, layout=values.layout
    )
    names = zip(("weights", "model card", "RobustBench"), files, strict=True)
    print("   ".join(f"{name}: {path}" for name, path in names), file=sys.stderr)


class Files(NamedTuple):
    """What an export writes."""

    weights: Path
    card: Path
    entry: Path


def export_weights(
    workdir: str, output: str | os.PathLike = "", *, checkpoint: str = "best", layout: str = ""
) -> Files:
    """Writes the weights of a run, their model card, and the fields of an entry of RobustBench.

    Args:
      workdir: the run's folder.
      output: NAME.safetensors; in the run's folder if it is empty.
      checkpoint: "best" or "latest".
      layout: one of `interop.layouts` of the network; its usual one if it is empty.

    Raises:
      ValueError: there is no run, or no layout for its network, or the files cannot be written.
    """
    path = Path(output or Path(workdir) / f"weights{_SUFFIX}")
    if path.suffix != _SUFFIX:
        raise UserError(f"--output={output}: accepted is NAME{_SUFFIX}")
    run = training.load_run(workdir, checkpoint)
    config, found = run.config, read_run(workdir, Path(workdir).name)
    options = config.network_options()
    layout = layout or _usual_layout(config, found)
    state_dict = interop.to_torch(config.model, run.variables, layout=layout, **options)
    files = Files(path, path.with_suffix(".md"), path.with_suffix(".json"))
    require_writable(path.parent, f"--output={path}", files=[file.name for file in files])
    told = {name: format_value(value) for name, value in options.items()}
    num_classes = interop.told_options(config.model, state_dict)["num_classes"]
    metadata = {
        "format": "pt",
        "model": config.model,
        "num_classes": str(num_classes),
        "layout": layout,
        **told,
        "dataset": config.dataset,
        "method": config.method,
        "made_by": f"robustjax {robustjax.__version__}",
    }
    interop.write_safetensors(path, state_dict, metadata)
    exported = Exported(
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        layout=layout,
        options=told,
        num_classes=num_classes,
        parameters=_count(run.variables["params"]),
        step=run.step,
        averaged=run.averaged,
    )
    write_whole(files.card, model_card(config, found, exported))
    entry = json.dumps(robustbench_entry(config, found, exported), indent=2)
    write_whole(files.entry, f"{entry}\n")
    return files


def _usual_layout(config: TrainConfig, found: RunFolder) -> str:
    """The layout that weights came in, or the first whose networks pad as this one."""
    known = interop.layouts(config.model)
    origin = found.origin if isinstance(found.origin, dict) else {}
    if origin.get("layout") in known:
        return str(origin["layout"])
    if config.stem == "imagenet" and "torchvision" in known:
        return "torchvision"
    padded = "deepmind" if config.stride_padding == "same" else known[0]
    return padded if padded in known else known[0]


def _count(params: Any) -> int:
    if hasattr(params, "shape"):
        return math.prod(params.shape)
    return sum(map(_count, params.values()))
