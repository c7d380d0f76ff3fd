"""The corruptions of the benchmark: their names, in its order, and their severities."""

from collections.abc import Collection

CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise",
    "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "snow", "frost", "fog", "brightness",
    "contrast", "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
"""The benchmark, in its order: noise, blur, weather, digital."""

FURTHER_CORRUPTIONS = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""For validation, not for the benchmark's mean."""

SEVERITIES = 5


def in_order(found: Collection[str]) -> tuple[str, ...]:
    """Corruptions as they are listed: the benchmark's, the further ones, others by the alphabet."""
    known = [name for name in (*CORRUPTIONS, *FURTHER_CORRUPTIONS) if name in found]
    return (*known, *sorted(set(found).difference(known)))
