"""`launch/analyze.py`: the figures that the papers draw from trained networks."""

from __future__ import annotations

import functools
import re
import sys

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from robustjax import data
from robustjax.analysis.embedding import METHODS
from robustjax.analysis.layer_features import PENULTIMATE
from robustjax.analysis.model_statistics import Progress
from robustjax.arguments import did_you_mean, require_choice
from robustjax.cache import enable_compilation_cache
from robustjax.cli import app, checks
from robustjax.cli.analyze.kinds import COUNT, KINDS, SPECIAL_FLAGS, Kind
from robustjax.cli.analyze.subject import Subject
from robustjax.cli.ball import ball_of, define_ball_flags
from robustjax.cli.evaluate import STEP_SIZE_HELP
from robustjax.cli.judged_images import DATA, data_given, define_data_flags
from robustjax.errors import UserError
from robustjax.evaluation.spec import CLEAN, IMAGES, AttackSpec, accepted_attacks, parse_attack
from robustjax.evaluation.trained import TrainedNetwork, load_network
from robustjax.files import Path
from robustjax.flags import NumberParser, define_choice
from robustjax.progress import terminal_bar
from robustjax.runs.folder import require_distinct, short_names

DESCRIPTION = """\
Draws figures of trained networks, and writes their numbers beside them as a .csv or .npz.

  python launch/analyze.py --kind=probabilities --workdirs=runs/nap,runs/standard
  python launch/analyze.py --kind=logits --workdirs=runs/natural,runs/label_smoothing
  python launch/analyze.py --kind=embedding --workdirs=runs/fat --classes=bird,deer --method=tsne
  python launch/analyze.py --kind=examples --workdirs=runs/natural --attack=pgd-20
  python launch/analyze.py --kind=surface --workdirs=runs/natural,runs/standard
  python launch/analyze.py --kind=convergence --workdirs=runs/sense --attack=pgd-100x5

probabilities: of the true class, clean, adversarial, and their difference (NAP, figures 2 and 3).
logits: all, the true class's, the largest other one, their gap (LRM, figures 1 and 2).
embedding: a layer's output in the plane, clean, PGD and friendly PGD (FAT, figures 3, 11 and 12).
examples: clean image, perturbation and adversarial image (SENSE, figure 1).
surface: the loss around images, along the gradient's step and a random one.
convergence: loss and accuracy over the steps and restarts of PGD (SENSE, figures 8 and 9)."""

GROUPS = {
    "what": ["kind", "workdirs", "checkpoint", "model", "output"],
    "examples": [*DATA, "examples", "classes", "indices", "count"],
    "attack": ["attack", "norm", "epsilon", "step_size", "tau", "extent", "allow_whole_box"],
    "layer": ["layer", "method"],
    "run": ["batch_size", "seed"],
}


def main() -> None:
    """Parses the command line and draws."""
    app.run(_main, define_analysis_flags, description=DESCRIPTION, groups=GROUPS)


def define_analysis_flags(values: flags.FlagValues | None = None) -> None:
    """Defines the flags of a figure; those that not every kind uses are None if not given."""
    values = flags.FLAGS if values is None else values
    string = functools.partial(flags.DEFINE_string, flag_values=values)
    names = functools.partial(flags.DEFINE_list, flag_values=values)
    whole = functools.partial(flags.DEFINE_integer, flag_values=values)
    number = functools.partial(
        flags.DEFINE, NumberParser(), flag_values=values, serializer=flags.ArgumentSerializer()
    )
    kinds = f"of figure: {', '.join(KINDS)}"
    define_choice("kind", "probabilities", tuple(KINDS), kinds, values)
    names("workdirs", [], "folders of runs; one for --kind=examples")
    string("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    checks.define_model_of_run(values)
    define_data_flags(values)
    string("output", "", "the PNG; in the run's figures/, or beside several runs, if not given")
    defaults = ", ".join(f"{kind} {own.examples or 'all'}" for kind, own in KINDS.items())
    whole("examples", None, f"the first N of the test set, 0: all [{defaults}]")
    names("classes", [], "names or numbers of classes, which the examples are of; all if not given")
    names(
        "indices", [], "positions in the test set of the images to draw, for examples and surface"
    )
    whole("count", None, f"images to draw if no positions are given; see there [{COUNT}]")
    string("attack", None, f"accepted are {accepted_attacks()} [pgd-20]")
    define_ball_flags(values)
    number("step_size", None, help=STEP_SIZE_HELP)
    whole("tau", None, "steps after the first misclassification of friendly PGD, for embedding [0]")
    number("extent", None, help="how far surface reaches, in units of epsilon [1]")
    string("layer", None, f"whose output is embedded; a wrong name lists them [{PENULTIMATE}]")
    string("method", None, f"of the embedding: {' or '.join(METHODS)} [pca]")
    whole("batch_size", 0, "examples at once; as in training if 0")
    whole("seed", 0, "of random starts, directions and the embedding")


def _main() -> None:
    values = flags.FLAGS
    kind = KINDS[values.kind]
    _check_flags(kind)
    spec = _attack(kind)
    output = _output(kind)
    enable_compilation_cache()
    report = _bars()
    subjects = {
        name: _subject(workdir, spec, kind, functools.partial(_tell, report, name))
        for name, workdir in zip(short_names(values.workdirs), values.workdirs, strict=True)
    }
    path = kind.draw(subjects, values, output)
    numbers = [path.with_suffix(end) for end in (".csv", ".npz") if end in kind.numbers]
    print(f"figure: {path}   numbers: {', '.join(map(str, numbers))}", file=sys.stderr)


def _check_flags(kind: Kind) -> None:
    values = flags.FLAGS
    if not values.workdirs:
        raise UserError("--workdirs is not given; name the folders of runs")
    require_distinct("--workdirs", values.workdirs)
    if not kind.several and len(values.workdirs) > 1:
        raise UserError(f"--workdirs: --kind={values.kind} is drawn from one run")
    for name in SPECIAL_FLAGS:
        if values[name].value not in (None, []) and name not in kind.uses:
            users = ", ".join(other for other, own in KINDS.items() if name in own.uses)
            raise UserError(f"--{name}: --kind={values.kind} has no use for it; {users} do")
    checks.require_counts(examples=0, batch_size=0, seed=0, count=1, tau=0)
    checks.require_distances("epsilon", "step_size")
    checks.require_distances("extent", above_zero=True)
    if values.method is not None:
        require_choice("--method", values.method, tuple(METHODS))
    if values.indices and (values.classes or values.examples is not None):
        raise UserError("--indices names the images; --classes and --examples choose others")


def _attack(kind: Kind) -> AttackSpec:
    name = flags.FLAGS.attack or "pgd-20"
    spec = parse_attack(name)
    if kind.attack and spec.kind != kind.attack:
        accepted = f"{kind.attack}-K, {kind.attack}-KxR"
        raise UserError(f"--attack={name}: --kind={flags.FLAGS.kind} accepts {accepted}")
    if kind.attack and spec.given - kind.settings:
        others = ", ".join(sorted(spec.given - kind.settings))
        raise UserError(
            f"--attack={name}: --kind={flags.FLAGS.kind} draws steps from a uniform start on the "
            f"cross-entropy, and accepts no {others}"
        )
    if spec.kind in (CLEAN, IMAGES):
        raise UserError(f"--attack={name}: accepted are attacks, such as pgd-20")
    return spec


def _output(kind: Kind) -> Path:
    values = flags.FLAGS
    if not values.output:
        first = Path(values.workdirs[0])
        if not first.is_dir():
            raise UserError(f"--workdirs: {first} holds no run: there is no such folder")
        folder = first / "figures" if len(values.workdirs) == 1 else first.parent
        path = folder / f"{values.kind}.png"
        return checks.require_output(path, "--output is not given, and", kind.numbers)
    if not values.output.endswith(".png"):
        raise UserError(f"--output={values.output}: accepted is the name of a .png file")
    return checks.require_output(values.output, f"--output={values.output}", kind.numbers)


def _subject(workdir: str, spec: AttackSpec, kind: Kind, report: Progress) -> Subject:
    values = flags.FLAGS
    network = load_network(workdir, values.checkpoint, **data_given(values))
    positions = _chosen(network, kind.examples if values.examples is None else values.examples)
    network = network._replace(test_set=data.select(network.test_set, positions))
    threat = ball_of(network)
    num_classes = network.test_set.num_classes
    completed = spec.completed(threat, num_classes, step_size=values.step_size)
    batch_size = values.batch_size or network.config.batch_size
    key = jax.random.key(values.seed)
    return Subject(network, positions, completed, threat.norm, key, batch_size, report)


def _chosen(network: TrainedNetwork, examples: int) -> np.ndarray:
    """The positions in the test set that the flags choose."""
    values, test_set = flags.FLAGS, network.test_set
    if values.indices:
        return np.array([_index(text, len(test_set)) for text in values.indices])
    positions = np.arange(len(test_set))
    if values.classes:
        chosen = [_label(text, network) for text in values.classes]
        positions = np.flatnonzero(np.isin(test_set.labels, chosen))
    if not len(positions):
        raise UserError(f"--classes={','.join(values.classes)}: no example is of them")
    return positions[:examples] if examples else positions


def _index(text: str, total: int) -> int:
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) >= total:
        raise UserError(f"--indices: {text!r} is none of the positions 0 to {total - 1}")
    return int(text)


def _label(text: str, network: TrainedNetwork) -> int:
    """The network's number of a class that is given by its name, or its number in the data set."""
    names = network.test_set.class_names
    trained_on = network.config.classes or range(network.test_set.num_classes)
    numbers = [str(int(number)) for number in trained_on]
    for accepted in (numbers, names):
        if text in accepted:
            return accepted.index(text)
    named = f", or their names {', '.join(names)}" if names and list(names) != numbers else ""
    hint = did_you_mean(text, names)
    raise UserError(f"--classes: {text!r}; accepted are {', '.join(numbers)}{named}{hint}")


def _tell(report: Progress, run: str, name: str, done: int, of: int) -> None:
    report(f"{run}: {name}", done, of)


def _bars() -> Progress:
    """A bar with ETA on a terminal, one line when something is done elsewhere."""
    bars: dict[str, tqdm | None] = {}

    def report(name: str, done: int, of: int) -> None:
        if name not in bars:
            bars[name] = terminal_bar(sys.stderr, total=of, desc=name)
        bar = bars[name]
        if bar is not None:
            bar.update(done - bar.n)
            if done == of:
                bar.close()
        elif done == of:
            print(f"{name}: done", file=sys.stderr, flush=True)

    return report
