"""`launch/verify.py`: looks at saved adversarial images again, apart from the attack."""

from __future__ import annotations

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from robustjax import data
from robustjax.attacks.rows import predicted
from robustjax.cli import app, compilation
from robustjax.cli.evaluate import ADVERSARIAL
from robustjax.evaluation import adversarial_images
from robustjax.evaluation.trained import TrainedNetwork, load_network
from robustjax.files import Path
from robustjax.flags import NumberParser

DESCRIPTION = """\
Checks the adversarial images that launch/evaluate.py --save_images has written: that they lie in
the ball around the clean images of the data set and in the box, and what the checkpoint says of
them. Trusts nothing but the images and the checkpoint; exit status 1 if anything does not hold.

  python launch/verify.py --workdir=runs/trades
  python launch/verify.py --workdir=runs/trades --images=pgd-20.npz --epsilon=8/255"""

GROUPS = {"what": ["workdir", "checkpoint", "images", "epsilon", "data_dir", "batch_size"]}


def main() -> None:
    """Parses the command line and verifies."""
    app.run(_main, _define_flags, description=DESCRIPTION, groups=GROUPS)


def _define_flags() -> None:
    flags.DEFINE_string("workdir", "", "the folder of the run")
    flags.DEFINE_string("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    flags.DEFINE_list("images", [], "files; all of the run's folder if not given")
    flags.DEFINE(
        NumberParser(),
        "epsilon",
        None,
        "radius that the images must keep; as in training if not given",
        flags.FLAGS,
        flags.ArgumentSerializer(),
    )
    flags.DEFINE_string("data_dir", "", "where the data lie; as in training if not given")
    flags.DEFINE_integer("batch_size", 250, "images looked at at once")


def _main() -> None:
    values = flags.FLAGS
    if not values.workdir:
        raise app.CommandError("--workdir is not given; name the folder of a run")
    if values.batch_size < 1:
        raise app.CommandError(f"--batch_size={values.batch_size}: accepted are 1 or more")
    folder = Path(values.workdir) / ADVERSARIAL
    files = [Path(name) for name in values.images]
    if not files:
        files = sorted(folder.glob("*.npz")) if folder.exists() else []
    if not files:
        raise app.CommandError(
            f"--workdir={values.workdir} has no adversarial images; launch/evaluate.py "
            "--save_images writes them"
        )
    compilation.enable_cache()
    network = load_network(values.workdir, values.checkpoint, data_dir=values.data_dir)
    held = [_verify(network, path) for path in files]
    if not all(held):
        sys.exit(1)


def _verify(network: TrainedNetwork, path: Path) -> bool:
    """Prints what a second look at a file found."""
    values = flags.FLAGS
    found = adversarial_images.load(path)
    test_set = network.first(len(found.images)).test_set
    if len(test_set.labels) < len(found.images):
        raise app.CommandError(
            f"{path} holds {len(found.images)} images, the test set {len(test_set.labels)}"
        )
    clean = np.asarray(data.to_float(jnp.asarray(test_set.images)))
    predict = functools.partial(_predict, network, values.batch_size)
    threat = network.threat(values.epsilon)
    verdict = adversarial_images.verify(
        found,
        clean,
        test_set.labels,
        predict(clean),
        predict(found.images),
        threat.norm,
        float(threat.epsilon),
    )
    print(
        f"{path.name}: {len(found.images)} images, {threat.norm} ball of "
        f"{float(threat.epsilon):.6g}: {100 * verdict.robust_accuracy:.2f} % robust"
    )
    for positions, complaint in (
        (verdict.outside, "outside of the ball or the box"),
        (verdict.not_broken, "said to be broken, and classified correctly"),
        (verdict.wrongly_robust, "said to be robust, and misclassified"),
    ):
        if len(positions):
            shown = ", ".join(map(str, positions[:10]))
            more = ", ..." if len(positions) > 10 else ""
            print(f"  {len(positions)} {complaint}: {shown}{more}")
    print("  holds" if verdict.holds else "  DOES NOT HOLD")
    return verdict.holds


def _predict(network: TrainedNetwork, batch_size: int, images: np.ndarray) -> np.ndarray:
    """Classes by nothing but forward passes."""
    forward = jax.jit(functools.partial(network.model.apply, train=False))
    classes = []
    for first in range(0, len(images), batch_size):
        rows = np.minimum(np.arange(first, first + batch_size), len(images) - 1)
        logits = np.asarray(forward(network.variables, jnp.asarray(images[rows])))
        classes.append(predicted(logits)[: len(images) - first])
    return np.concatenate(classes)
