"""`launch/evaluate.py`: attacks the network of a run and writes what it found beside the run."""

import functools
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

from robustjax import data, evaluation
from robustjax.cli import app, compilation
from robustjax.evaluation.trained import load_network
from robustjax.files import Path
from robustjax.flags import NumberParser
from robustjax.progress import terminal_bar

DESCRIPTION = """\
Attacks the network of a run; writes evaluation.json and evaluation.md into its --workdir.

  python launch/evaluate.py --workdir=runs/trades --attacks=clean,fgsm,pgd-20,cw-30
  python launch/evaluate.py --workdir=runs/trades --attacks=pgd-60x20 --examples=1000"""

GROUPS = {
    "what": ["workdir", "checkpoint", "attacks", "examples", "data_dir"],
    "attack": ["epsilon", "step_size", "start"],
    "run": ["batch_size", "seed"],
}


def main() -> None:
    """Parses the command line and evaluates."""
    app.run(_main, _define_flags, description=DESCRIPTION, groups=GROUPS)


def _define_flags() -> None:
    number = functools.partial(
        flags.DEFINE, NumberParser(), flag_values=flags.FLAGS, serializer=flags.ArgumentSerializer()
    )
    flags.DEFINE_string("workdir", "", "the folder of the run")
    flags.DEFINE_string("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    flags.DEFINE_list("attacks", ["clean", "pgd-20"], f"accepted are {evaluation.ACCEPTED}")
    flags.DEFINE_integer("examples", 0, "the first N of the test set; 0: all")
    flags.DEFINE_string("data_dir", "", "where the data lie; as in training if not given")
    number("epsilon", None, help="radius of the ball; as in training if not given")
    number("step_size", None, help="of PGD and CW; epsilon/10 if not given")
    flags.DEFINE_string("start", "uniform", "of PGD and CW: uniform or clean")
    flags.DEFINE_integer("batch_size", 0, "examples attacked at once; as in training if 0")
    flags.DEFINE_integer("seed", 0, "of the random starts")


def _main() -> None:
    values = flags.FLAGS
    if not values.workdir:
        raise app.CommandError("--workdir is not given; name the folder of a run")
    for name in values.attacks:
        evaluation.parse_attack(name)
    for name in ("examples", "batch_size", "seed"):
        if values[name].value < 0:
            raise app.CommandError(f"--{name}={values[name].value}: accepted are 0 or more")
    for name in ("epsilon", "step_size"):
        value = values[name].value
        if value is not None and not 0 <= value < float("inf"):
            raise app.CommandError(f"--{name}={value}: accepted are finite numbers, 0 or more")
    if values.start not in ("uniform", "clean"):
        raise app.CommandError(f"--start={values.start}: accepted are uniform, clean")
    compilation.enable_cache()
    summary = evaluate_run(
        values.workdir,
        values.attacks,
        checkpoint=values.checkpoint,
        examples=values.examples,
        data_dir=values.data_dir,
        epsilon=values.epsilon,
        step_size=values.step_size,
        start=values.start,
        batch_size=values.batch_size,
        seed=values.seed,
    )
    print(evaluation.to_table(summary))
    paths = evaluation.write_report(summary, Path(values.workdir))
    print(f"report: {paths[1]}   figures for programs: {paths[0]}", file=sys.stderr)


def evaluate_run(
    workdir: str,
    attack_names: list[str],
    *,
    checkpoint: str = "best",
    examples: int = 0,
    data_dir: str = "",
    epsilon: float | None = None,
    step_size: float | None = None,
    start: str = "uniform",
    batch_size: int = 0,
    seed: int = 0,
    quiet: bool = False,
) -> dict:
    """Evaluates the network of a run on its test set; see the flags for the arguments.

    Returns:
      The content of evaluation.json.
    """
    network = load_network(workdir, checkpoint, data_dir=data_dir)
    config, test_set = network.config, network.test_set
    available = len(test_set.labels)
    if examples:
        test_set = data.select(test_set, np.arange(min(examples, available)))
    threat = network.threat(epsilon)
    step_size = threat.epsilon / 10 if step_size is None else step_size
    started = time.monotonic()
    scores = evaluation.evaluate(
        attack_names,
        jax.random.key(seed),
        network.logits_fn,
        test_set,
        threat,
        step_size=step_size,
        start=start,
        batch_size=min(batch_size or config.batch_size, len(test_set.labels)),
        report=_nothing if quiet else _progress(len(test_set.labels)),
    )
    return evaluation.summarize(
        scores,
        checkpoint={"kind": checkpoint, "step": network.step, "moving_average": network.averaged},
        method=config.method,
        model=config.model,
        dataset=f"{config.dataset} test",
        precision=config.precision,
        seed=seed,
        available_examples=available,
        trained_epochs=config.epochs,
        elapsed_seconds=time.monotonic() - started,
    )


def _nothing(name: str, done: int, correct: int) -> None:
    pass


def _progress(total: int) -> Callable[[str, int, int], None]:
    """A bar with ETA and running accuracy on a terminal, one line an attack elsewhere."""
    bars: dict[str, tqdm | None] = {}

    def report(name: str, done: int, correct: int) -> None:
        if name not in bars:
            bars[name] = terminal_bar(sys.stderr, total=total, desc=name, unit="image")
        bar = bars[name]
        if bar is not None:
            bar.set_postfix_str(f"{100 * correct / done:.2f} % correct", refresh=False)
            bar.update(done - bar.n)
            if done == total:
                bar.close()
        elif done == total:
            print(f"{name}: {100 * correct / done:.2f} % of {done}", file=sys.stderr, flush=True)

    return report
