"""Downloading a published data set and writing it in the tfds layout, without TensorFlow.

Everything is built in a hidden folder and renamed at the end, so what looks prepared is complete.
"""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robustjax.arguments import did_you_mean, shown
from robustjax.data.dataset import DataError
from robustjax.data.prepared import reader as prepared
from robustjax.data.prepared.download import Archive, Progress, fetch, is_complete, why_unreachable
from robustjax.data.prepared.originals import ORIGINALS, Contents, Original


def prepare(
    name: str,
    data_dir: str,
    *,
    base_url: str | None = None,
    archives: Sequence[Archive] | None = None,
    patience: float = 15.0,
    progress: Progress | None = None,
) -> str:
    """Download a data set, check it, and write it in the tfds layout.

    The archives go to DATA_DIR/downloads and stay there; archives that already lie there with the
    right sum are used without any network. The result is DATA_DIR/NAME/VERSION, the same records in
    the same order as tfds itself would write. Processes that prepare the same data set in the same
    folder wait for each other.

    Args:
        name: "mnist", "cifar10", "cifar100" or "svhn".
        data_dir: A local folder; made if it is not there.
        base_url: Folder on the web that holds the archives, instead of the authors' own.
        archives: Names, sizes and sums to expect, instead of the published ones.
        patience: Seconds within which a server has to answer at first.
        progress: Called with a line of text now and then.

    Returns:
        The folder of the prepared data set.

    Raises:
        DataError: If the data set is unknown, cannot be downloaded as published, or cannot be
            written. Nothing that looks prepared is left behind.
    """
    if not isinstance(name, str) or name not in ORIGINALS:
        raise DataError(
            f"dataset={shown(name)}: accepted are, to prepare, {', '.join(ORIGINALS)}"
            f"{did_you_mean(name, ORIGINALS)}"
        )
    if not isinstance(data_dir, str | os.PathLike):
        raise DataError(f"data_dir={shown(data_dir)}: accepted is a local folder")
    data_dir = os.fspath(data_dir)
    if "://" in data_dir:
        raise DataError(
            f"data_dir={data_dir}: accepted is a local folder to prepare {name} in; copy the "
            "finished one to its place afterwards"
        )
    if base_url is not None and not base_url.startswith(("http://", "https://")):
        raise DataError(f"base_url={shown(base_url)}: accepted are http:// and https://")
    prepared.require_packages(name)
    original = ORIGINALS[name]
    archives = original.archives if archives is None else tuple(archives)
    base_urls = original.base_urls if base_url is None else (base_url,)
    root = Path(data_dir).expanduser()
    target = root / original.tfds_name / original.version
    downloads = root / "downloads"
    if found := prepared.find(original.tfds_name, data_dir):
        return found.directory
    try:
        missing = [
            archive
            for archive in archives
            if not is_complete(downloads / archive.filename, archive)
        ]
        if missing:
            _require_server(missing, base_urls, downloads, patience)
        downloads.mkdir(parents=True, exist_ok=True)
        with _exclusive(root / f".{original.tfds_name}.lock"):
            # Another process may have finished while this one waited.
            if found := prepared.find(original.tfds_name, data_dir):
                return found.directory
            if target.exists():
                raise DataError(f"{target} is in the way and is not a complete data set; remove it")
            for archive in missing:
                fetch(archive, downloads, base_urls, progress=progress)
            if progress:
                progress(f"writing {target}")
            _build(original, original.read(downloads), root, target)
    except DataError:
        raise
    except Exception as error:
        # A full disk raises OSError here and errors of tfds's and array_record's own there.
        raise DataError(
            f"data_dir={data_dir}: {name} cannot be written ({type(error).__name__}: {error})"
        ) from error
    return os.fspath(target)


def _require_server(
    missing: Sequence[Archive], base_urls: Sequence[str], downloads: Path, patience: float
) -> None:
    """Say at once, before any folder is made, that there is nowhere to download from."""
    urls = [f"{base_url.rstrip('/')}/{missing[0].filename}" for base_url in base_urls]
    failure = why_unreachable(urls, patience)
    if failure:
        names = ", ".join(archive.filename for archive in missing)
        raise DataError(f"{failure}; {names} may also be put into {downloads} by hand")


def _build(original: Original, contents: Contents, root: Path, target: Path) -> None:
    """Write the records into a hidden folder beside their place, then rename it."""
    hidden = f".{original.tfds_name}.preparing-"
    # The lock is ours, so any such folder was left by a process that was killed.
    for left_over in root.glob(f"{hidden}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=hidden) as work:
        _write_records(original, contents, work)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(Path(work) / original.tfds_name / original.version, target)


def _write_records(original: Original, contents: Contents, directory: str) -> None:
    import tensorflow_datasets as tfds

    def class_label(kind: str, num_classes: int) -> Any:
        names = contents.label_names.get(kind)
        if names:
            return tfds.features.ClassLabel(names=names)
        return tfds.features.ClassLabel(num_classes=num_classes)

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]  # tfds has no types
        """Yields images that are PNG files already, which tfds stores without TensorFlow."""

        name = original.tfds_name
        VERSION = tfds.core.Version(original.version)

        def _info(self) -> tfds.core.DatasetInfo:
            features = {"image": tfds.features.Image(shape=original.image_shape)}
            for kind, num_classes in original.num_classes.items():
                features[kind] = class_label(kind, num_classes)
            if original.id_digits:
                features["id"] = tfds.features.Text()
            return tfds.core.DatasetInfo(
                builder=self,
                description=original.description,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                homepage=original.homepage,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator]:
            return {split: self._generate_examples(split) for split in contents.splits}

        def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
            published = contents.splits[split]()
            for index, image in enumerate(published.images):
                example: dict[str, Any] = {"image": io.BytesIO(_png(image))}
                for kind, labels in published.labels.items():
                    example[kind] = int(labels[index])
                if original.id_digits:
                    example["id"] = f"{split}_{index:0{original.id_digits}d}"
                # tfds orders the records by a hash of this key: the index gives its own order.
                yield index, example

    builder = Builder(data_dir=directory, file_format="array_record")
    # tfds reports its own progress, with the names of the hidden folder, on both streams.
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        builder.download_and_prepare(
            download_dir=os.path.join(directory, "downloads"),
            download_config=tfds.download.DownloadConfig(try_download_gcs=False),
        )


def _png(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, format="PNG")
    return buffer.getvalue()


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold a file lock where the platform has one; a killed process lets go of it by itself."""
    with open(path, "w") as file:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
