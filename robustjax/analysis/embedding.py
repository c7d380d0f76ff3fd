"""Features of clean and adversarial examples in the plane, and how many have crossed over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors

from robustjax.errors import UserError

METHODS = ("pca", "tsne")

NEIGHBOURS = 5
"""How many neighbours `crossed_over` looks at."""

# t-SNE's authors reduce to this many dimensions by PCA first.
_BEFORE_TSNE = 50

# Up to here all pairs of points cost less than the approximation.
_FEW = 300


class Embedding(NamedTuple):
    """Sets of features in the plane.

    Attributes:
      points: name of a set -> float64 [N, 2].
      explained: the shares of the variance along the two axes of a PCA, else None.
      crossed: name of a set -> what `crossed_over` gives for it.
    """

    points: Mapping[str, np.ndarray]
    explained: tuple[float, float] | None
    crossed: Mapping[str, float]


def embed(
    features: Mapping[str, np.ndarray], labels: np.ndarray, method: str = "pca", seed: int = 0
) -> Embedding:
    """Brings sets of features into one plane, which is found from all of them together.

    Args:
      features: name of a set -> float [N, D], of the same N examples each; the clean ones first.
      labels: int [N].
      method: "pca" or "tsne". The perplexity of t-SNE is 30, or a third of the points if they are
        fewer.
      seed: of the random numbers of either.

    Raises:
      ValueError: another method, fewer than three points, or features that are not finite.

    Source: FAT (Zhang et al., 2020), figures 3, 11 and 12, which do not say whether a panel has a
      plane of its own. t-SNE: van der Maaten & Hinton (2008).
    """
    if method not in METHODS:
        raise UserError(f"method={method}: accepted are {', '.join(METHODS)}")
    together = np.concatenate([np.asarray(part, np.float32) for part in features.values()])
    if len(together) < 3:
        raise UserError(f"{len(together)} points in all: an embedding needs 3 or more")
    if not np.isfinite(together).all():
        raise UserError("the features hold numbers that are not finite")
    clean = next(iter(features.values()))
    crossed = {name: crossed_over(part, clean, labels) for name, part in features.items()}
    explained = None
    if method == "pca":
        pca = PCA(2, random_state=seed, copy=False)
        plane = pca.fit_transform(together)
        first, second = map(float, pca.explained_variance_ratio_)
        explained = first, second
    else:
        plane = _tsne(together, seed)
    ends = np.cumsum([len(part) for part in features.values()])[:-1]
    return Embedding(
        points=dict(zip(features, np.split(plane, ends), strict=True)),
        explained=explained,
        crossed=crossed,
    )


def crossed_over(features: np.ndarray, clean: np.ndarray, labels: np.ndarray) -> float:
    """How far examples have moved into the area of other classes' clean examples.

    The mean share of an example's nearest clean examples that are of another class; the clean
    image that it was made of is not among them. 0: all are in the area of their own class.

    Args:
      features: float [N, D], not those in the plane.
      clean: float [N, D], of the clean images of the same examples.
      labels: int [N].

    Returns:
      A share, of at most 5 neighbours each in the Euclidean distance; 0 if there is one example.
    """
    count = min(NEIGHBOURS, len(clean) - 1)
    if count < 1:
        return 0.0
    search = NearestNeighbors(n_neighbors=count + 1).fit(clean)
    neighbours = search.kneighbors(features, return_distance=False)
    own = neighbours == np.arange(len(clean))[:, None]
    # Without itself, or without the farthest where it is not among them.
    own[~own.any(axis=1), -1] = True
    others = neighbours[~own].reshape(-1, count)
    return float((labels[others] != labels[:, None]).mean())


def _tsne(features: np.ndarray, seed: int) -> np.ndarray:
    dimensions = min(_BEFORE_TSNE, *features.shape)
    reduced = PCA(dimensions, random_state=seed, copy=False).fit_transform(features)
    perplexity = min(30.0, (len(features) - 1) / 3)
    algorithm = "exact" if len(features) <= _FEW else "barnes_hut"
    tsne = TSNE(2, perplexity=perplexity, init="pca", method=algorithm, random_state=seed)
    return tsne.fit_transform(reduced)
