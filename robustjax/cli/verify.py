"""`launch/verify.py`: looks at saved adversarial images again, apart from the attack."""

from __future__ import annotations

import functools
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from robustjax import data
from robustjax.arguments import is_finite, is_number
from robustjax.attacks.engine.rows import predicted
from robustjax.attacks.threat_model import NORMS
from robustjax.batching import batches_of_one_shape
from robustjax.cache import enable_compilation_cache
from robustjax.cli import app, checks
from robustjax.cli.ball import define_allow_whole_box, require_units
from robustjax.cli.evaluate import ADVERSARIAL
from robustjax.cli.judged_images import DATA, data_given, define_data_flags
from robustjax.digest import digest
from robustjax.errors import UserError
from robustjax.evaluation import adversarial_images
from robustjax.evaluation.trained import TrainedNetwork, load_network
from robustjax.files import Path
from robustjax.flags import NumberParser

DESCRIPTION = """\
Checks the adversarial images that launch/evaluate.py --save_images has written: that they lie in
the ball around the clean images of the data set and in the box, and what the checkpoint says of
them. Trusts nothing but the images and the checkpoint; exit status 1 if anything does not hold. The
ball is the one that the file says its attack had, and is printed; --epsilon asks for another.

  python launch/verify.py --workdir=runs/trades
  python launch/verify.py --workdir=runs/trades --images=pgd-20.npz --epsilon=8/255"""

GROUPS = {"what": ["workdir", "checkpoint", "model", "images", "epsilon", "allow_whole_box",
                    *DATA, "batch_size"]}  # fmt: skip


def main() -> None:
    """Parses the command line and verifies."""
    app.run(_main, define_verify_flags, description=DESCRIPTION, groups=GROUPS)


def define_verify_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags of launch/verify.py."""
    text = functools.partial(flags.DEFINE_string, flag_values=values)
    text("workdir", "", "the folder of the run")
    text("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    checks.define_model_of_run(values)
    files = "files, by path or by name among the run's own; all of those if not given"
    flags.DEFINE_list("images", [], files, flag_values=values)
    flags.DEFINE(
        NumberParser(),
        "epsilon",
        None,
        "radius that the images must keep; that of the attack, which the file says, if not given",
        values,
        flags.ArgumentSerializer(),
    )
    define_allow_whole_box(values)
    define_data_flags(values)
    flags.DEFINE_integer("batch_size", 250, "images looked at at once", flag_values=values)


def _main() -> None:
    values = flags.FLAGS
    if not values.workdir:
        raise UserError("--workdir is not given; name the folder of a run")
    checks.require_counts(batch_size=1)
    checks.require_distances("epsilon")
    folder = Path(values.workdir) / ADVERSARIAL
    files = [_path_of(name, folder) for name in values.images]
    named = bool(files)
    if not named:
        files = sorted(folder.glob("*.npz")) if folder.exists() else []
    if not files:
        raise UserError(
            f"--workdir={values.workdir} has no adversarial images; launch/evaluate.py "
            "--save_images writes them"
        )
    enable_compilation_cache()
    network = load_network(values.workdir, values.checkpoint, **data_given(values))
    require_units(network, network.config.norm)
    weights, held = network.fingerprint, []
    images = digest(network.test_set.images, network.test_set.labels)
    for path in files:
        try:
            found = adversarial_images.load(path)
            if not named and found.weights not in ("", weights):
                print(
                    f"{path.name}: other weights were attacked, of another --checkpoint or before "
                    "training went on, or a network of one's own by other code; not looked at"
                )
                continue
            if not named and found.data not in ("", images):
                print(
                    f"{path.name}: other images were attacked, of another --data_dir or --split; "
                    "not looked at"
                )
                continue
            held.append(_verify(network, path, found))
        except ValueError as error:
            if len(files) == 1:
                raise
            print(f"{path.name}: {error}\n  DOES NOT HOLD")
            held.append(False)
    if not held:
        raise UserError(
            f"--workdir={values.workdir}: none of its files is of this checkpoint and these images"
        )
    if not all(held):
        sys.exit(1)


def _path_of(name: str, folder: Path) -> Path:
    """A file as it was named, or of that name among those of the run."""
    path = Path(name)
    return folder / name if not path.exists() and (folder / name).exists() else path


def _verify(
    network: TrainedNetwork, path: Path, found: adversarial_images.AdversarialImages
) -> bool:
    """Prints what a second look at a file found."""
    values = flags.FLAGS
    test_set = network.first(len(found.images)).test_set
    if len(test_set.labels) < len(found.images):
        raise UserError(
            f"{path} holds {len(found.images)} images, the test set {len(test_set.labels)}"
        )
    clean = np.asarray(data.to_float(jnp.asarray(test_set.images)))
    if found.images.shape != clean.shape:
        raise UserError(
            f"{path}: its images have shape {list(found.images.shape)}, those of the test set "
            f"{list(clean.shape)}"
        )
    predict = functools.partial(_predict, network, values.batch_size)
    norm, epsilon = _ball(found, path)
    if values.epsilon is not None:
        epsilon = values.epsilon
    try:
        verdict = adversarial_images.verify(
            found, clean, test_set.labels, predict(clean), predict(found.images), norm, epsilon
        )
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    own = network.threat()
    other = (
        ""
        if (norm, epsilon) == (own.norm, float(own.epsilon))
        else (f" (the run's own: {own.norm} {float(own.epsilon):.6g})")
    )
    print(
        f"{path.name}: {len(found.images)} images, {norm} ball of {epsilon:.6g}{other}: "
        f"{100 * verdict.robust_accuracy:.2f} % robust"
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


def _ball(found: adversarial_images.AdversarialImages, path: Path) -> tuple[str, float]:
    """The norm and the radius that a file says its attack had."""
    norm: Any = found.settings.get("norm")
    epsilon = found.settings.get("epsilon")
    if norm not in NORMS or not is_number(epsilon) or not is_finite(epsilon) or epsilon < 0:
        raise UserError(f"{path} does not say the norm and the radius of its attack")
    return norm, float(epsilon)


def _predict(network: TrainedNetwork, batch_size: int, images: np.ndarray) -> np.ndarray:
    """Classes by nothing but forward passes."""
    forward = jax.jit(functools.partial(network.model.apply, train=False))
    batch_size, classes = min(batch_size, len(images)), []
    for batch in batches_of_one_shape(len(images), batch_size):
        logits = np.asarray(forward(network.variables, jnp.asarray(images[batch.rows])))
        classes.append(batch.without_filling(predicted(logits)))
    return np.concatenate(classes)
