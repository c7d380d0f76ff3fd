"""Draws the loss around images: the plane from above, and its two cuts through the image."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from robustjax.analysis.loss_surface import LossSurface
from robustjax.files import Path, write_whole
from robustjax.reports.figures.canvas import save


def surface_panels(
    runs: Mapping[str, LossSurface],
    headings: Mapping[str, Sequence[str]],
    path: Path,
    title: str = "",
) -> Path:
    """Draws for each run a row of planes, one an image, and a row of their cuts below it.

    In a plane the white line is where the prediction changes between right and wrong.

    Args:
      runs: name of a run -> the loss around its images, of as many images each.
      headings: name of a run -> what is written above each image.
      path: of the PNG; offsets, losses and misclassified points are written beside it, as a .npz
        with RUN/loss and RUN/wrong [N, P, P], RUN/offsets [P] and RUN/zero_gradient [N].
      title: of the figure.
    """
    count = max(len(surface.loss) for surface in runs.values())
    size = (2.7 * count + 0.9, 0.4 + 4.6 * len(runs))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(2 * len(runs), count, squeeze=False)
    stored: dict[str, Any] = {}
    for number, (run, surface) in enumerate(runs.items()):
        planes, cuts = grid[2 * number : 2 * number + 2]
        stored |= {f"{run}/{name}": value for name, value in surface._asdict().items()}
        for axes in (*planes[len(surface.loss) :], *cuts[len(surface.loss) :]):
            axes.set_axis_off()
        offsets = surface.offsets
        for position, loss in enumerate(surface.loss):
            axes = planes[position]
            # Every plane has its own colours: losses of examples differ by orders of magnitude.
            drawn = axes.pcolormesh(offsets, offsets, loss, shading="nearest", rasterized=True)
            figure.colorbar(drawn, ax=axes, pad=0.02).ax.tick_params(labelsize="x-small")
            wrong = surface.wrong[position]
            if wrong.any() and not wrong.all():
                axes.contour(offsets, offsets, wrong, levels=[0.5], colors="white", linewidths=1.2)
            axes.plot(0, 0, "+", color="white")
            axes.set_title(headings[run][position], fontsize="small")
            axes.set_aspect("equal")
            cut = cuts[position]
            cut.plot(offsets, surface.along_gradient[position], label="gradient's step")
            cut.plot(offsets, surface.along_random[position], "--", label="random step")
            cut.set_xlabel("step (ε)", fontsize="small")
            cut.grid(alpha=0.3)
        planes[0].set_ylabel(f"{run}\nrandom step (ε)", fontsize="small")
        planes[0].set_xlabel("gradient's step (ε)", fontsize="small")
        cuts[0].set_ylabel("loss", fontsize="small")
        cuts[0].legend(fontsize="x-small")
    for axes in grid.flat:
        axes.tick_params(labelsize="x-small")
    figure.suptitle(title, fontsize="medium", wrap=True)
    content = io.BytesIO()
    np.savez_compressed(content, **stored)
    write_whole(path.with_suffix(".npz"), content.getvalue())
    return save(figure, path)
