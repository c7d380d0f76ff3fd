"""The options of one experiment, as a frozen dataclass.

It is the single list of options: its fields carry the help text, `robustjax.flags` makes the flags
from it, `flags.txt` is written from it, and resuming a run compares two of them.
"""

import dataclasses
import functools
import typing
from typing import Any

from robustjax import own_code
from robustjax.arguments import plain
from robustjax.config_checks import check_option, require, require_schedule
from robustjax.errors import UserError
from robustjax.step_size import default_step_size
from robustjax.text import Value, format_value, parse_literal

IMPORTED = "imported"
"""In place of the method, where weights were trained elsewhere."""


def _option(
    default: Value | None,
    help: str,
    group: str,
    *,
    changes_training: bool = True,
    recorded: bool = True,
    choices: tuple = (),
) -> Any:
    """A field of `TrainConfig`.

    Args:
      default: its value where it is not given.
      help: for --help.
      group: the heading that --help lists it under.
      changes_training: whether another value makes another run.
      recorded: whether flags.txt keeps it; not if it describes this machine, not the experiment.
      choices: the accepted values, if they are few.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "help": help,
            "group": group,
            "changes_training": changes_training and recorded,
            "recorded": recorded,
            "choices": choices,
        },
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Every option of `launch/train.py`; the help texts below are the documentation."""

    method: str = _option(
        "standard",
        "training method, see --method=help; or your own, package.module:create",
        "method",
    )
    beta: float | str | None = _option(
        None, "weight of the regulariser, for methods with one; or a schedule, as 1..6@10", "method"
    )
    set: tuple[str, ...] = _option(
        (), "a hyper-parameter of the method, name=value; may be repeated", "method"
    )

    norm: str = _option(
        "linf", "of the perturbation: linf, l2 or l1", "attack", choices=("linf", "l2", "l1")
    )
    epsilon: float = _option(8 / 255, "radius of the ball; 8/255 is a legal value", "attack")
    steps: int = _option(10, "steps of the inner attack, K", "attack")
    step_size: float | None = _option(
        None,
        "size of a step of the inner attack; the larger of epsilon/10 and 2 epsilon/K if not given",
        "attack",
    )
    sparsity: float | None = _option(
        None,
        "with --norm=l1: the share of an image's numbers that a step of the inner attack moves; "
        "0.02 if not given",
        "attack",
    )
    epsilon_warmup_epochs: float = _option(
        0.0, "epochs over which epsilon and the step size rise linearly from 0", "attack"
    )
    epsilon_schedule: str = _option(
        "", "epsilon of the inner attack by epoch, as 0..8/255@10; --epsilon is measured", "attack"
    )
    steps_schedule: str = _option(
        "", "steps of the inner attack by epoch, as 1,5@10,10@20; at most --steps", "attack"
    )
    measure_epsilon: float | None = _option(
        None, "radius at which robustness is measured and evaluated; --epsilon if not given",
        "attack",
    )  # fmt: skip
    allow_whole_box: bool = _option(
        False,
        "accept a radius, or a step, that makes any image of any other; images are in [0, 1]",
        "attack",
        changes_training=False,
    )

    model: str = _option(
        "resnet_18", "network, see --model=help; or your own, package.module:build", "network"
    )
    activation: str = _option(
        "",
        "relu, leaky_relu or silu; the network's own if not given",
        "network",
        choices=("", "relu", "leaky_relu", "silu"),
    )
    mean: tuple[float, ...] = _option(
        (),
        "of each channel, subtracted from the images inside the network, as 0.4914,0.4822,0.4465; "
        "the network's own if not given",
        "network",
    )
    std: tuple[float, ...] = _option(
        (), "of each channel, by which they are divided then; goes with --mean", "network"
    )
    stride_padding: str = _option(
        "",
        "zeros of convolutions with a stride: on every side (torch), or as TensorFlow's and JAX's "
        "SAME has them (same); the network's own if not given",
        "network",
        choices=("", "torch", "same"),
    )
    stem: str = _option(
        "",
        "of the ResNets: cifar (3x3, stride 1), or imagenet for large images (7x7, stride 2, and a "
        "max-pool); cifar if not given",
        "network",
        choices=("", "cifar", "imagenet"),
    )
    batch_norm: str = _option(
        "global",
        "batch statistics over all devices (global) or each device's own (per_device)",
        "network",
        choices=("global", "per_device"),
    )
    attack_batch_norm: str = _option(
        "",
        "what the inner attack normalises with: running statistics (eval) or the batch's (train); "
        "the method's own choice if not given",
        "network",
        choices=("", "eval", "train"),
    )
    precision: str = _option(
        "float32",
        "of the convolutions, float32 or bfloat16; everything else is float32; on NVIDIA GPUs JAX "
        "computes float32 convolutions in TF32, as PyTorch does, unless "
        "JAX_DEFAULT_MATMUL_PRECISION=highest",
        "network",
        choices=("float32", "bfloat16"),
    )

    dataset: str = _option(
        "digits",
        "digits (embedded), mnist, cifar10, cifar100, svhn, npz, folder (of images, a folder for "
        "each class), huggingface (parquet or arrow files), or a tfds name",
        "data",
    )
    data_dir: str = _option(
        "",
        "where tfds keeps prepared data sets, or torchvision its downloads, or the .npz file, or "
        "the folder of images or parquet files; $TFDS_DATA_DIR or ~/tensorflow_datasets if not "
        "given",
        "data",
        changes_training=False,
    )
    image_size: int = _option(
        0,
        "the middle square of each image is resized to so many pixels on a side; 0: images stay as "
        "they are",
        "data",
    )
    stream: bool = _option(
        False,
        "read and decode training images when a batch has them, and not all at the start: for sets "
        "larger than memory; of folders and tfds sets, needs grain",
        "data",
        changes_training=False,
    )
    train_split: str = _option("train", "what to train on; train+extra for all of SVHN", "data")
    holdout: int = _option(
        -1,
        "training examples held out to choose the best checkpoint; -1: 1000, fewer for a small "
        "set; 0: none, as the papers do, and only the latest checkpoint is kept",
        "data",
    )
    train_examples: int = _option(0, "train on the first N images only; 0: all", "data")
    classes: tuple[float, ...] = _option(
        (), "only these classes, as 3,5, renumbered from 0; all if not given", "data"
    )
    extra_data: str = _option(
        "",
        "an .npz of further training images, pseudo-labelled (launch/pseudo_label.py), generated, "
        "or with label -1 where there is none",
        "data",
    )
    extra_fraction: float = _option(0.5, "share of each batch that --extra_data fills", "data")
    extra_weight: float = _option(1.0, "weight of the examples of --extra_data in the loss", "data")
    mixing: str = _option(
        "none",
        "of each image and its label with another's: none, mixup, vh_mixup or cutmix",
        "data",
        choices=("none", "mixup", "vh_mixup", "cutmix"),
    )
    mixing_alpha: float = _option(1.0, "of the Beta(alpha, alpha) of mixup and cutmix", "data")
    label_smoothing: float = _option(
        0.0, "share of each label that is spread evenly over the other classes", "data"
    )
    augmentation: str = _option(
        "",
        "none, flip, crop4, crop4-flip or reflect4-flip; the data set's own if not given",
        "data",
    )

    epochs: int = _option(100, "length of training", "optimisation", changes_training=False)
    batch_size: int = _option(128, "over all devices and processes", "optimisation")
    microbatch: int = _option(
        0,
        "examples that a device works on at a time, gradients accumulated; 0: its whole share",
        "optimisation",
    )
    remat: bool = _option(
        False,
        "recompute the outer loss's activations, block by block: less memory, a little slower",
        "optimisation",
        changes_training=False,
    )
    early_stop: str = _option(
        "",
        "examples whose inner attack has stopped are computed on with the others (scan), or not "
        "any more (compact): the same images up to rounding; if not given, compact on a CPU, where "
        "that was measured to pay, and scan on accelerators, where it was not measured",
        "optimisation",
        changes_training=False,
        choices=("", "scan", "compact"),
    )
    optimizer: str = _option("sgd", "sgd or adam", "optimisation", choices=("sgd", "adam"))
    learning_rate: float = _option(0.1, "its peak", "optimisation")
    schedule: str = _option(
        "piecewise",
        "of the learning rate: constant, piecewise (constant without --decay_epochs), cosine or "
        "cyclic",
        "optimisation",
        choices=("constant", "piecewise", "cosine", "cyclic"),
    )
    decay_epochs: tuple[float, ...] = _option(
        (), "piecewise: epochs after which the learning rate falls, as 75,90", "optimisation"
    )
    decay_factors: tuple[float, ...] = _option(
        (0.1,), "piecewise: its factor at each of them, or one for all", "optimisation"
    )
    warmup_epochs: float = _option(0.0, "linear rise of the learning rate", "optimisation")
    momentum: float = _option(0.9, "of sgd", "optimisation")
    nesterov: bool = _option(False, "Nesterov's momentum", "optimisation")
    weight_decay: float = _option(2e-4, "added to the gradient of every parameter", "optimisation")
    ema_decay: float = _option(
        0.0,
        "of a moving average of the weights, which is then what is measured; 0: none; it starts at "
        "the initial weights, so 1 / (1 - decay) should be far fewer steps than the run has",
        "optimisation",
    )

    awp_gamma: float = _option(
        0.0, "size of the adversarial weight perturbation (AWP), 0.005 with TRADES; 0: none",
        "optimisation",
    )  # fmt: skip
    awp_warmup_epochs: float = _option(0.0, "epochs before AWP begins", "optimisation")

    seed: int = _option(0, "of everything random", "run")
    init_from: str = _option(
        "", "folder of a run whose weights training begins with (best checkpoint)", "run"
    )
    workdir: str = _option(
        "",
        "where the run is kept; one that holds a run is resumed; runs/METHOD-DATASET-MODEL-SEED if "
        "not given",
        "run",
        changes_training=False,
    )
    checkpoint_every: int = _option(
        1,
        "epochs from one checkpoint to the next; the last epoch is always saved, and a run that a "
        "signal stops; only what is saved can be the best checkpoint",
        "run",
        changes_training=False,
    )
    measure_attack: str = _option(
        "",
        "attack that measures robust accuracy after each epoch, as 'pgd-20(step_size=0.8/255)' or "
        "fgsm-random; PGD of --measure_steps if not given",
        "run",
    )
    measure_steps: int = _option(
        10,
        "steps of the PGD that measures robust accuracy after each epoch; of the size that "
        "--step_size has where it is not given",
        "run",
    )
    measure_examples: int = _option(
        1000, "how many training examples are measured after each epoch", "run",
        changes_training=False,
    )  # fmt: skip
    log: tuple[str, ...] = _option(
        (),
        "where each epoch's row goes besides metrics.jsonl: tensorboard, wandb (offline unless "
        "$WANDB_MODE=online), or your own, package.module:create; names between commas",
        "run",
        recorded=False,
    )
    devices: int = _option(0, "devices of each process; 0: all", "run", recorded=False)
    cpu_devices: int = _option(
        0,
        "offer N CPU devices, to try several devices without an accelerator; XLA_FLAGS wins",
        "run",
        recorded=False,
    )
    coordinator_address: str = _option(
        "",
        "host:port of process 0 for a run of several processes; auto on TPU pods and Slurm",
        "run",
        recorded=False,
    )
    num_processes: int = _option(0, "of the run, with --coordinator_address", "run", recorded=False)
    process_id: int = _option(
        0, "this process's number, with --coordinator_address", "run", recorded=False
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            value = tuple(map(plain, value)) if isinstance(value, tuple) else plain(value)
            object.__setattr__(self, field.name, value)
            check_option(field, option_types()[field.name], value)
        if self.sparsity is not None:
            require(self.sparsity <= 1, "sparsity", self.sparsity, "0 to 1")
            if self.norm != "l1":
                raise UserError(
                    f"sparsity={self.sparsity:g} with norm={self.norm}: accepted is norm=l1 alone, "
                    "where a step moves that share of an image's numbers"
                )
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "more than 0")
        for factor in self.decay_factors:
            require(factor > 0, "decay_factors", factor, "more than 0")
        require(self.momentum < 1, "momentum", self.momentum, "0 to less than 1")
        require(self.ema_decay < 1, "ema_decay", self.ema_decay, "0 to less than 1")
        require_schedule("epsilon_schedule", self.epsilon_schedule, whole=False)
        require_schedule("steps_schedule", self.steps_schedule, whole=True)
        for number in self.classes:
            require(float(number).is_integer(), "classes", number, "whole numbers, as 3,5")
        fraction, strength = self.extra_fraction, self.label_smoothing
        require(0 < fraction < 1, "extra_fraction", fraction, "more than 0 and less than 1")
        require(0 <= strength < 1, "label_smoothing", strength, "0 to less than 1")
        require(self.mixing_alpha > 0, "mixing_alpha", self.mixing_alpha, "more than 0")
        assigned = dict(_assignment(text) for text in self.set)
        ordered = tuple(_assigned(name, assigned[name]) for name in sorted(assigned))
        object.__setattr__(self, "set", ordered)

    @property
    def test_epsilon(self) -> float:
        """The radius at which robustness is measured."""
        return self.epsilon if self.measure_epsilon is None else self.measure_epsilon

    def step_size_for(self, epsilon: float, steps: float) -> float:
        """The size of a step in a ball of some radius: as given, or what follows from the radius.

        Args:
          epsilon: the radius.
          steps: how many steps there are.
        """
        given = self.step_size
        return default_step_size(epsilon, int(steps)) if given is None else given

    @property
    def is_imported(self) -> bool:
        """Whether the weights were trained elsewhere, so that nothing of a training is known."""
        return self.method == IMPORTED

    def network_options(self) -> dict[str, Any]:
        """What is set of the network's own options, as `models.create` takes it."""
        names = ("activation", "mean", "std", "stride_padding", "stem")
        return {name: getattr(self, name) for name in names if getattr(self, name)}

    def hyperparameters(self) -> dict[str, Any]:
        """The method's own hyper-parameters that the options set."""
        given: dict[str, Any] = {}
        if self.beta is not None:
            given["beta"] = self.beta
        if self.attack_batch_norm:
            given["attack_batch_norm"] = self.attack_batch_norm
        for name, text in map(_assignment, self.set):
            given[name] = text if own_code.is_own(text) else parse_literal(text)
        return given

    def differences(self, other: "TrainConfig") -> list[str]:
        """The options that make another training run, each as "name=mine (was theirs)"."""
        mine, theirs = self._comparable(), other._comparable()

        def difference(name: str) -> str:
            was = format_value(theirs.get(name)) or "not given"
            return f"{name}={format_value(mine.get(name))} (was {was})"

        names = dict.fromkeys([*mine, *theirs])
        return [difference(name) for name in names if mine.get(name) != theirs.get(name)]

    def options(self) -> dict[str, str]:
        """What decides training, as text: what a checkpoint is known by as this run's."""
        return {name: format_value(value) for name, value in self._comparable().items()}

    def _comparable(self) -> dict[str, Any]:
        """What decides training; hyper-parameters by name, however they were given."""
        options = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata["changes_training"]
        }
        for name in ("beta", "set", "attack_batch_norm"):
            del options[name]
        return {**options, **self.hyperparameters()}

    def to_flags(self) -> str:
        """The text of a flag file that repeats this experiment; of imported weights what is known.

        Nothing is said there of a training that this library has not made.
        """
        lines = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if self.is_imported and field.name not in _OF_IMPORTED:
                continue
            if not field.metadata["recorded"] or (value == field.default and value in (None, ())):
                continue
            if option_types()[field.name] is bool:
                lines.append(f"--{field.name}" if value else f"--no{field.name}")
            elif field.name == "set":
                lines.extend(f"--set={assignment}" for assignment in value)
            else:
                lines.append(f"--{field.name}={format_value(value)}")
        return "\n".join(lines) + "\n"


_OF_IMPORTED = (
    "method", "norm", "epsilon", "allow_whole_box", "model", "activation", "mean", "std",
    "stride_padding", "stem", "dataset", "data_dir", "image_size", "holdout",
)  # fmt: skip
"""What flags.txt says of weights that were trained elsewhere."""


@functools.cache
def option_types() -> dict[str, Any]:
    """The type of every option."""
    return typing.get_type_hints(TrainConfig)


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UserError(f"set={text}: accepted is NAME=VALUE")
    return name, _marked_like(text, value)


def _assigned(name: str, value: str) -> str:
    return _marked_like(value, f"{name}={value}")


def _marked_like(original: str, text: str) -> str:
    """A part of a text, or more of it, as one that was read from a file if the whole was."""
    return own_code.FromFile(text) if isinstance(original, own_code.FromFile) else text
