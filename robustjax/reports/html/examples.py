"""The section of a report on what attacks do to images."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from robustjax.reports.html.values import is_number
from robustjax.reports.recorded_scores import describe_settings, format_setting
from robustjax.runs.folder import is_whole_png, size_of_png

_NARROWEST, _WIDEST = 96, 224
"""Pixels of the page that a picture is wide; small ones are enlarged by a whole number."""


class Picture(NamedTuple):
    """A PNG in the page, and what it is."""

    source: str
    width: int
    height: int
    alt: str
    caption: str


class AttackedImage(NamedTuple):
    """A clean image, what was added, and the adversarial image."""

    title: str
    pictures: Sequence[Picture]


class ImagesOfAttack(NamedTuple):
    """What one attack broke.

    Attributes:
      attack: its name.
      caption: in which ball, at which checkpoint, and how the changes are scaled.
      images: at least one.
    """

    attack: str
    caption: str
    images: Sequence[AttackedImage]


def examples(content: Any, accuracies: Mapping[str, float]) -> list[ImagesOfAttack]:
    """What an adversarial_examples.json shows, the strongest attack first.

    What has not the form of one is left out.

    Args:
      content: of the file.
      accuracies: of the evaluation, attack -> accuracy.
    """
    attacks = content.get("attacks") if isinstance(content, Mapping) else None
    found = []
    for name, entry in attacks.items() if isinstance(attacks, Mapping) else ():
        shown = entry.get("examples") if isinstance(entry, Mapping) else None
        images = [_image(one) for one in shown] if isinstance(shown, list) else []
        known = [image for image in images if image is not None]
        if known:
            found.append(ImagesOfAttack(name, _caption(entry), known))
    return sorted(found, key=lambda of: accuracies.get(of.attack, 1.0))


def _caption(entry: Mapping[str, Any]) -> str:
    factor, checkpoint = entry.get("factor"), entry.get("checkpoint")
    ball = {key: entry[key] for key in ("norm", "epsilon") if _is_plain(entry.get(key))}
    parts = ["The first images that the attack breaks"]
    if ball:
        parts.append(describe_settings(ball))
    if isinstance(checkpoint, Mapping) and _is_plain(checkpoint.get("kind")):
        parts.append(f"{checkpoint['kind']} checkpoint, step {checkpoint.get('step')}")
    scaled = f"; changes × {factor:.3g}, around grey" if is_number(factor) else ""
    return ", ".join(parts) + scaled


def _is_plain(value: Any) -> bool:
    """Whether a value is a text or a number."""
    return isinstance(value, str) or is_number(value)


def _image(one: Any) -> AttackedImage | None:
    if not isinstance(one, Mapping):
        return None
    label, position = one.get("label"), one.get("position")
    before, after = _said(one.get("before")), _said(one.get("after"))
    title = f"image {format_setting(position)}: {format_setting(label)}"
    named = (
        ("clean", f"{title}, as it is", f"clean → {before}"),
        ("change", "what the attack adds to it", "the change"),
        ("adversarial", "the adversarial image", f"attacked → {after}"),
    )
    pictures = [_picture(one.get(key), alt, caption) for key, alt, caption in named]
    known = [picture for picture in pictures if picture is not None]
    return AttackedImage(title, known) if len(known) == len(named) else None


def _said(found: Any) -> str:
    if not isinstance(found, Mapping):
        return "not recorded"
    confidence = found.get("confidence")
    sure = f", {100 * confidence:.0f}\N{NO-BREAK SPACE}%" if is_number(confidence) else ""
    return f"{format_setting(found.get('class'))}{sure}"


def _picture(png: Any, alt: str, caption: str) -> Picture | None:
    try:
        content = base64.b64decode(png, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return None
    if not is_whole_png(content):
        return None
    width, height = size_of_png(content)
    if not width or not height:
        return None
    scale = max(1, _NARROWEST // width) if width < _NARROWEST else min(1.0, _WIDEST / width)
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    return Picture(source, round(scale * width), round(scale * height), alt, caption)
