"""What goes with weights that leave: a model card, and the fields of an entry of RobustBench."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from robustjax import installed, methods
from robustjax.config import TrainConfig
from robustjax.reports.markdown import accuracies
from robustjax.runs.folder import RunFolder
from robustjax.text import format_value

_NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
"""The threat models as RobustBench calls them."""

_PLACES = ("--workdir=", "--data_dir=")
"""Flags that say where things lie on the machine of whoever trained, and nothing else."""

_ARCHITECTURES = {
    r"wide_resnet_(\d+)_(\d+)": r"WideResNet-\1-\2",
    r"resnet_(\d+)": r"ResNet-\1",
    r"preact_resnet_(\d+)": r"PreActResNet-\1",
}


@dataclasses.dataclass(frozen=True)
class Exported:
    """A file of weights.

    Attributes:
      file: its name.
      sha256: of its content.
      layout: whose names its arrays have.
      options: of the network, as texts.
      num_classes: how many logits it gives.
      parameters: how many numbers were trained.
      step: of the checkpoint.
      averaged: whether the weights are a moving average.
    """

    file: str
    sha256: str
    layout: str
    options: Mapping[str, str]
    num_classes: int
    parameters: int
    step: int
    averaged: bool


def model_card(config: TrainConfig, run: RunFolder, exported: Exported) -> str:
    """The model card in Markdown: network, data, method, flags, accuracies, citation."""
    options = ", ".join(f"`{name}={value}`" for name, value in exported.options.items())
    evaluation = _evaluation_of(run, exported)
    average = ", moving average of the weights" if exported.averaged else ""
    lines = [
        f"# {_architecture(config.model)}, {config.dataset}, {_trained_by(config)}",
        "",
        f"* File: `{exported.file}`, a PyTorch state dict with the names of `{exported.layout}`; "
        f"SHA-256 `{exported.sha256}`",
        f"* Network: `{config.model}`, {exported.num_classes} classes, {exported.parameters:,} "
        f"parameters{f'; {options}' if options else ''}; images are in [0, 1]",
        f"* Data: {config.dataset}{_extra(config)}",
        f"* Method: {_method(config, run)}",
        f"* Threat model: {_NORMS[config.norm]}, epsilon {format_value(config.test_epsilon)}",
    ]
    if not config.is_imported:
        lines.append(f"* Checkpoint: step {exported.step}{average}; precision {config.precision}")
    lines += ["", "## Measured accuracies", ""]
    if evaluation is None:
        lines += [
            f"None of this checkpoint. `{installed.written('evaluate')} --workdir=DIR "
            "--attacks=clean,autoattack` measures them."
        ]
    else:
        images = evaluation.get("dataset")
        lines += [f"Images: {images}.", ""] if images else []
        lines += accuracies(evaluation)
    lines += [
        "",
        "## To load it",
        "",
        "```python",
        "from robustjax import interop",
        f'state_dict = interop.read_weights("{exported.file}")',
        f'variables = interop.from_torch("{config.model}", state_dict{_given(config)})',
        "```",
        "",
        f"In PyTorch, into the network of `{exported.layout}`: "
        f'`network.load_state_dict(safetensors.torch.load_file("{exported.file}"))`.',
        "",
        "## Flags",
        "",
        "```",
        *(line for line in config.to_flags().splitlines() if not line.startswith(_PLACES)),
        "```",
    ]
    if config.method in methods.names() and methods.cite(config.method):
        lines += ["", "## Citation", "", "```", methods.cite(config.method).strip(), "```"]
    return "\n".join([*lines, ""])


def robustbench_entry(config: TrainConfig, run: RunFolder, exported: Exported) -> dict[str, Any]:
    """The fields of an entry of RobustBench; what only its authors know, or nobody measured: None.

    Accuracies are in per cent, with two digits, and of the whole test set alone: its leaderboard
    accepts no others.
    """
    evaluation = _evaluation_of(run, exported) or {}
    if evaluation.get("dataset") not in (f"{config.dataset} test", config.dataset):
        evaluation = {}
    whole = evaluation.get("examples") == evaluation.get("available_examples")
    attacks = evaluation.get("attacks")
    autoattack = attacks.get("autoattack") if isinstance(attacks, Mapping) else None
    robust = autoattack.get("robust_accuracy") if isinstance(autoattack, Mapping) else None
    partial = isinstance(autoattack, Mapping) and "examples" in autoattack
    return {
        "link": None,
        "name": None,
        "authors": None,
        "additional_data": None if config.is_imported else bool(config.extra_data),
        "number_forward_passes": 1,
        "dataset": config.dataset,
        "venue": None,
        "architecture": _architecture(config.model),
        "threat_model": _NORMS[config.norm],
        "eps": format_value(config.test_epsilon),
        "clean_acc": _percent(evaluation.get("clean_accuracy")) if whole else None,
        "reported": None,
        "autoattack_acc": _percent(robust) if whole and not partial else None,
    }


def _evaluation_of(run: RunFolder, exported: Exported) -> Mapping[str, Any] | None:
    """What was measured, if it was of the checkpoint that is exported."""
    checkpoint = (run.evaluation or {}).get("checkpoint")
    if not isinstance(checkpoint, Mapping) or checkpoint.get("step") != exported.step:
        return None
    same = bool(checkpoint.get("moving_average")) == exported.averaged
    return run.evaluation if same else None


def _percent(fraction: Any) -> str | None:
    return f"{100 * fraction:.2f}" if isinstance(fraction, int | float) else None


def _architecture(model: str) -> str:
    for pattern, name in _ARCHITECTURES.items():
        if re.fullmatch(pattern, model):
            return re.sub(pattern, name, model)
    return model


def _trained_by(config: TrainConfig) -> str:
    return "trained elsewhere" if config.is_imported else config.method


def _method(config: TrainConfig, run: RunFolder) -> str:
    if config.is_imported:
        origin = run.origin if isinstance(run.origin, Mapping) else {}
        return f"trained elsewhere; imported from `{str(origin.get('file')).rpartition('/')[2]}`"
    known = config.method in methods.names()
    about = f", {methods.summary(config.method)}" if known else ""
    given = ", ".join(f"{name} {value}" for name, value in config.hyperparameters().items())
    return f"`{config.method}`{about}{f'; {given}' if given else ''}"


def _extra(config: TrainConfig) -> str:
    return f", with further images of `{config.extra_data}`" if config.extra_data else ""


def _given(config: TrainConfig) -> str:
    return "".join(f", {name}={value!r}" for name, value in config.network_options().items())
