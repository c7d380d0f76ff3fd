"""`launch/pseudo_label.py`: labels images with a run's network, for semi-supervised training."""

import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from robustjax import data, training
from robustjax.attacks.engine.rows import predicted
from robustjax.batching import batches_of_one_shape
from robustjax.cache import enable_compilation_cache
from robustjax.cli import app, checks
from robustjax.errors import UserError
from robustjax.files import Path, write_whole
from robustjax.models.forward import forward
from robustjax.progress import terminal_bar

DESCRIPTION = """\
Labels images with the network of a run: the pseudo-labels of semi-supervised training (RST, UAT++,
semi-supervised MART). Labels that the images come with are never read.

  python launch/pseudo_label.py --workdir=runs/natural --images=unlabelled.npz --output=pseudo.npz
  python launch/pseudo_label.py --workdir=runs/natural --dataset=cifar10 --data_dir=DIR \\
    --skip_first=10000 --output=pseudo.npz      the usual simulation: the rest of a labelled set
  python launch/train.py --flagfile=launch/rst.flags --extra_data=pseudo.npz"""

GROUPS = {
    "the network": ["workdir", "checkpoint", "model"],
    "the images": ["images", "dataset", "split", "data_dir", "image_size", "skip_first"],
    "the result": ["output", "batch_size"],
}


def main() -> None:
    """Parses the command line and labels."""
    app.run(_main, _define_flags, description=DESCRIPTION, groups=GROUPS)


def _define_flags() -> None:
    flags.DEFINE_string("workdir", "", "folder of the run whose network labels")
    flags.DEFINE_string("checkpoint", "best", "best (by hold-out robust accuracy) or latest")
    checks.define_model_of_run(flags.FLAGS)
    flags.DEFINE_string("images", "", "an .npz with the array image or images, uint8 [M, H, W, C]")
    flags.DEFINE_string("dataset", "", "or a data set by name; its labels are not used")
    flags.DEFINE_string("split", "train", "of --dataset")
    flags.DEFINE_string("data_dir", "", "of --dataset; as in the run if not given")
    flags.DEFINE_integer("image_size", 0, "of --dataset; as in the run if not given")
    flags.DEFINE_integer("skip_first", 0, "leave out the first N images: those used with labels")
    flags.DEFINE_string("output", "", "the .npz to write")
    flags.DEFINE_integer("batch_size", 500, "images at once")


def _main() -> None:
    values = flags.FLAGS
    if not values.workdir:
        raise UserError("--workdir is not given; name the folder of the run that labels")
    if not values.output.endswith(".npz"):
        raise UserError(f"--output={values.output}: accepted is the name of an .npz file")
    if bool(values.images) == bool(values.dataset):
        raise UserError("give either --images=FILE.npz or --dataset=NAME")
    checks.require_counts(skip_first=0, batch_size=1, image_size=0)
    for name in ("images", "data_dir"):
        read = values[name].value
        if read and os.path.realpath(values.output) == os.path.realpath(read):
            raise UserError(f"--output={values.output}: --{name} is read from that file")
    checks.require_output(values.output, f"--output={values.output}")
    enable_compilation_cache()
    labels = label_images(
        values.workdir,
        _images(values),
        Path(values.output),
        checkpoint=values.checkpoint,
        batch_size=values.batch_size,
        source=values.images or f"{values.dataset} {values.split} from {values.skip_first}",
    )
    shares = " ".join(f"{100 * share:.1f}" for share in np.bincount(labels) / len(labels))
    print(f"{values.output}: {len(labels)} images; classes in per cent: {shares}")


def label_images(
    workdir: str,
    images: np.ndarray,
    output: Path,
    *,
    checkpoint: str = "best",
    batch_size: int = 500,
    source: str = "",
) -> np.ndarray:
    """Writes images with the classes that a run's network predicts for them.

    The file has `images` uint8 [M, H, W, C], `labels` int32 [M], `confidence` float32 [M] (the
    probability of the label), and `made_by`, a JSON text that says which network labelled what.

    Args:
      workdir: of the run.
      images: uint8 [M, H, W, C].
      output: the file, written whole or not at all.
      checkpoint: "best" or "latest".
      batch_size: images at once.
      source: where the images are from, for the record.

    Returns:
      The labels, int32 [M].

    Raises:
      ValueError: the images have another shape than the network's.
    """
    run = training.load_run(workdir, checkpoint)
    try:
        num_classes = run.num_classes(images.shape[1:])
    except ValueError as error:
        raise UserError(f"--workdir={workdir}: {error}") from error
    model = training.create_model(run.config, num_classes)
    variables = jax.tree.map(jnp.asarray, run.variables)

    @jax.jit
    def predict(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = forward(model, variables, data.to_float(images))
        return predicted(logits), jnp.max(jax.nn.softmax(logits), -1)

    labels, confidence = _in_batches(predict, images, batch_size)
    if np.any(labels < 0):
        raise UserError(
            f"--workdir={workdir}: the network predicts nothing for {np.sum(labels < 0)} of "
            f"{len(labels)} images (its logits are not finite)"
        )
    about = {
        "workdir": str(workdir),
        "checkpoint": checkpoint,
        "step": run.step,
        "method": run.config.method,
        "model": run.config.model,
        "images": source,
    }
    _write(output, images=images, labels=labels, confidence=confidence, made_by=json.dumps(about))
    return labels


def _in_batches(
    predict: Callable[[np.ndarray], tuple[jax.Array, jax.Array]],
    images: np.ndarray,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    bar = terminal_bar(sys.stderr, total=len(images), unit="image", desc="labelling")
    batch_size = min(batch_size, len(images))
    labels, confidence = np.zeros(len(images), np.int32), np.zeros(len(images), np.float32)
    for batch in batches_of_one_shape(len(images), batch_size):
        found, sure = predict(images[batch.rows])
        labels[batch.kept] = batch.without_filling(found)
        confidence[batch.kept] = batch.without_filling(sure)
        if bar is not None:
            bar.update(batch.done - bar.n)
    if bar is not None:
        bar.close()
    return labels, confidence


def _images(values: flags.FlagValues) -> np.ndarray:
    if values.images:
        images = data.load_images(values.images)
    else:
        config = training.load_run(values.workdir, values.checkpoint).config
        folder = values.data_dir or config.data_dir or None
        size = values.image_size or config.image_size
        images = data.load(values.dataset, values.split, data_dir=folder, image_size=size).images
    if values.skip_first >= len(images):
        raise UserError(f"--skip_first={values.skip_first}: there are only {len(images)} images")
    return images[values.skip_first :]


def _write(output: Path, **arrays: Any) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_whole(output, content.getbuffer())
