"""A few adversarial images of an evaluation as adversarial_examples.json, for the report."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robustjax.evaluation.broken import BrokenExamples
from robustjax.evaluation.one_attack import AttackScore
from robustjax.files import Path, read_json, write_whole
from robustjax.runs.names import EXAMPLES

VERSION = 1


def add_examples(
    folder: Path,
    scores: Mapping[str, AttackScore],
    class_names: Sequence[str],
    **about: Any,
) -> Path | None:
    """Writes the broken examples of attacks into a run's folder; those of other attacks stay.

    Without Pillow, which makes the pictures, nothing is written.

    Args:
      folder: of the run.
      scores: by the attacks' names.
      class_names: the name of each class; empty: its number.
      **about: what is to be said of all of them, JSON, as the checkpoint.

    Returns:
      The file; None if no attack broke anything.
    """
    if importlib.util.find_spec("PIL") is None:
        return None
    path = folder / EXAMPLES
    found = {
        name: {
            **{key: score.settings[key] for key in ("norm", "epsilon") if key in score.settings},
            **about,
            **_shown(score.broken, class_names),
        }
        for name, score in scores.items()
        if score.broken is not None
    }
    if not found:
        return None
    content = {"version": VERSION, "attacks": {**_earlier(path), **found}}
    return write_whole(path, json.dumps(content, indent=1) + "\n")


def _earlier(path: Path) -> dict[str, Any]:
    """The attacks of the file as it is; none if it is not there, damaged, or of another version."""
    if not path.exists():
        return {}
    try:
        content = read_json(path)
    except ValueError:
        return {}
    attacks = content.get("attacks") if content.get("version") == VERSION else None
    return attacks if isinstance(attacks, dict) else {}


def _shown(broken: BrokenExamples, class_names: Sequence[str]) -> dict[str, Any]:
    """The examples of one attack, the changes of all scaled by one factor."""
    changes = broken.adversarial - broken.clean
    largest = float(np.abs(changes).max())
    factor = 0.5 / largest if largest > 0 else 1.0

    from scipy.special import softmax  # Takes some tenths of a second to import.

    def said(logits: np.ndarray) -> dict[str, Any]:
        if not np.isfinite(logits).all():
            return {"class": "not finite", "confidence": None}
        best = int(logits.argmax())
        return {
            "class": _named(best, class_names),
            "confidence": float(softmax(logits.astype(np.float64))[best]),
        }

    return {
        "factor": factor,
        "examples": [
            {
                "position": int(broken.positions[row]),
                "label": _named(int(broken.labels[row]), class_names),
                "before": said(broken.clean_logits[row]),
                "after": said(broken.adversarial_logits[row]),
                "clean": as_png(broken.clean[row]),
                "change": as_png(0.5 + factor * changes[row]),
                "adversarial": as_png(broken.adversarial[row]),
            }
            for row in range(len(broken.positions))
        ],
    }


def _named(label: int, class_names: Sequence[str]) -> str:
    return class_names[label] if label < len(class_names) else str(label)


def as_png(image: np.ndarray) -> str:
    """An image as a PNG in base64, in 8 bits a channel.

    Args:
      image: float [H, W, C] in [0, 1]; of other than 1 or 3 channels the mean is shown.
    """
    if image.shape[-1] not in (1, 3):
        image = image.mean(axis=-1, keepdims=True)
    levels = np.round(255 * np.clip(np.nan_to_num(image), 0, 1)).astype(np.uint8)
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()
