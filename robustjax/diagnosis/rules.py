"""Whether gradient attacks can be trusted on a network: checks for masked gradients.

Each check compares attacks example by example. Some say that a stronger attack must not be the
weaker one: there any imbalance beyond chance is suspicious. Others bound how much a stronger attack
may find beyond a usual one, because a little more is found on every network.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from robustjax.arguments import shown
from robustjax.diagnosis.findings import PASS, SIGN_TEST, Check, Comparison, Diagnosis, diagnosed
from robustjax.diagnosis.records import FGSM_SCALES, Evidence
from robustjax.errors import UserError

LARGEST_OVERSTATEMENT = 0.2
"""Of what withstands a usual attack, the share that more steps, restarts or another loss may break.

Published adversarially trained networks lose up to 4 % of it from PGD-20 to PGD-100 or PGD-1000
(TRADES 2 %, MART 4 %, LRM none), and up to 14 % from the cross-entropy to a margin (standard
training 3 %, TRADES 6 %, MART 10 %, NAP 14 %, the last from APGD-CE to APGD-DLR). Natural
training with label smoothing loses 79 %, from PGD-20 to PGD-1000.
"""

LARGEST_OVERSTATEMENT_OF_ALL = 0.3
"""Of what withstands a usual attack, the share that everything together may break.

Re-evaluations of published networks with AutoAttack divide there: adversarially trained ones lose
up to 20 % of the examples that were reported as robust (TRADES 6 %, Madry et al. 6 %, MMA 12 %,
MART with extra data 14 %, NAP 20 %), those known for masked gradients 40 % (SENSE) and more.
"""

LARGEST_SINGLE_STEP_OVERSTATEMENT = 0.5
"""Of what withstands FGSM, the share that PGD may break.

One step is a weak attack on every curved loss: published adversarially trained networks lose 10 to
30 % of it from FGSM to PGD-20 (LRM's table of CIFAR-10 10 %, TRADES 20 %, standard 23 %, FAT 30 %).
Where it is most of it, the loss beyond the first step has nothing to do with the gradient before
it: natural training with label smoothing 87 % (to PGD-1000), natural training and the catastrophic
overfitting of single-step training nearly all.
"""

NEARLY_NONE = 0.01
"""The share of examples at which what should never happen is put down to rounding."""

RESOLUTION = 2.0**-24
"""Nearer than this to 1, a probability is 1 in float32."""


def judge(evidence: Evidence) -> Diagnosis:
    """Applies every rule.

    Two attacks are compared on the examples that exactly one of them breaks (the sign test, which
    is McNemar's exact one, one-sided); a share is compared with the largest that is allowed, by the
    binomial test. `findings.diagnosed` says which p-value is too small.

    Args:
      evidence: of `diagnosis.evidence.gather`.

    Raises:
      ValueError: it is something else, or of no example.

    Source: Obfuscated Gradients Give a False Sense of Security (Athalye et al., 2018), section 3.1;
      On Evaluating Adversarial Robustness (Carlini et al., 2019), sections 4 and 5.
    """
    if not isinstance(evidence, Evidence) or not len(evidence.clean):
        raise UserError(
            f"evidence={shown(evidence)}: accepted is what diagnosis.evidence.gather found, of at "
            "least one example"
        )
    checks = [
        _zero_gradients(evidence),
        _noise_single_step_iterative(evidence),
        _single_step_holds(evidence),
        _longer_single_step(evidence),
        _more_steps(evidence),
        _converged(evidence),
        _restarts(evidence),
        _larger_balls(evidence),
        _unbounded(evidence),
        _other_losses(evidence),
        _black_boxes(evidence),
        _together(evidence),
    ]
    return diagnosed(checks)


def _weaker(stronger: np.ndarray, weaker: np.ndarray, statement: str) -> Comparison:
    """The examples that only the attack breaks that should be the weaker one.

    Args:
      stronger: bool [N], what withstands the attack that should be stronger.
      weaker: bool [N], what withstands the other one.
      statement: of the comparison.
    """
    against = int(np.sum(stronger & ~weaker))
    of = against + int(np.sum(weaker & ~stronger))
    return Comparison(statement, against, of, 0.5, SIGN_TEST)


def _overstated(
    usual: np.ndarray,
    better: np.ndarray,
    statement: str,
    allowed: float = LARGEST_OVERSTATEMENT,
) -> Comparison:
    """The examples that withstand a usual attack and not a better one."""
    broken = int(np.sum(usual & ~better))
    return Comparison(statement, broken, int(usual.sum()), allowed)


def _check(name: str, rule: str, comparisons: Sequence[Comparison], **evidence: Any) -> Check:
    return Check(name, rule, tuple(comparisons), PASS, evidence)


def _accuracy(withstands: np.ndarray) -> float:
    return float(withstands.mean())


def _zero_gradients(evidence: Evidence) -> Check:
    clean = evidence.clean
    # A subnormal gradient is rounded to zero by some devices.
    useless = ~(evidence.gradient >= np.finfo(np.float32).tiny) | ~np.isfinite(evidence.gradient)
    gradients = evidence.gradient[clean & ~useless]
    alignment = evidence.alignment[clean & np.isfinite(evidence.alignment)]
    return _check(
        "zero gradients",
        "The gradient of the cross-entropy vanishes (no entry is a normal float32 number) or is "
        f"not finite at more than {100 * NEARLY_NONE:g} % of the correctly classified images.",
        [
            Comparison(
                "gradient zero or not finite",
                int(np.sum(clean & useless)),
                int(clean.sum()),
                NEARLY_NONE,
            )
        ],
        median_of_largest_entry=float(np.median(gradients)) if len(gradients) else None,
        share_with_a_probability_that_rounds_to_one=(
            _accuracy(evidence.clean_loss[clean] < RESOLUTION) if clean.any() else None
        ),
        mean_alignment_of_gradients_in_the_ball=(
            float(alignment.mean()) if len(alignment) else None
        ),
    )


def _noise_single_step_iterative(evidence: Evidence) -> Check:
    fgsm, steps = evidence.fgsm[:, -1], evidence.longest
    pgd = evidence.after(steps)
    return _check(
        "noise, FGSM, PGD in order",
        "Noise breaks more than FGSM, or FGSM more than the longest PGD.",
        [
            _weaker(fgsm, evidence.random_point, "broken by noise, not by FGSM"),
            _weaker(pgd, fgsm, f"broken by FGSM, not by PGD-{steps}"),
        ],
        noise=_accuracy(evidence.random_point),
        fgsm=_accuracy(fgsm),
        **{f"pgd-{steps}": _accuracy(pgd)},
    )


def _single_step_holds(evidence: Evidence) -> Check:
    allowed = LARGEST_SINGLE_STEP_OVERSTATEMENT
    return _check(
        "FGSM against PGD",
        f"PGD-{evidence.longest} breaks more than {100 * allowed:g} % of what withstands FGSM.",
        [
            _overstated(
                evidence.fgsm[:, -1],
                evidence.after(evidence.longest),
                f"withstands FGSM, not PGD-{evidence.longest}",
                allowed,
            )
        ],
    )


def _longer_single_step(evidence: Evidence) -> Check:
    scales = [f"{scale:g} epsilon" for scale in FGSM_SCALES]
    return _check(
        "a longer single step",
        "FGSM breaks more with a shorter step along the same direction.",
        [
            _weaker(
                evidence.fgsm[:, -1],
                evidence.fgsm[:, place],
                f"broken by FGSM with {scales[place]}, not with {scales[-1]}",
            )
            for place in range(len(scales) - 1)
        ],
        **{scale: _accuracy(evidence.fgsm[:, place]) for place, scale in enumerate(scales)},
    )


def _more_steps(evidence: Evidence) -> Check:
    steps = evidence.compared_steps
    return _check(
        "more steps",
        "PGD breaks more after fewer steps.",
        [
            _weaker(
                evidence.after(more),
                evidence.after(fewer),
                f"broken after {fewer} steps, not after {more}",
            )
            for fewer, more in itertools.pairwise(steps)
        ],
        **{f"pgd-{step}": _accuracy(evidence.after(step)) for step in steps},
    )


def _converged(evidence: Evidence) -> Check:
    usual, longest = _usual_steps(evidence), evidence.longest
    return _check(
        "convergence",
        f"PGD-{longest} breaks more than {100 * LARGEST_OVERSTATEMENT:g} % of what withstands "
        f"PGD-{usual}.",
        [
            _overstated(
                evidence.after(usual),
                evidence.after(longest),
                f"withstands PGD-{usual}, not PGD-{longest}",
            )
        ],
        **{f"pgd-{step}": _accuracy(evidence.after(step)) for step in (usual, longest)},
    )


def _restarts(evidence: Evidence) -> Check:
    count = evidence.restarts.shape[1]
    return _check(
        "restarts",
        f"{count} restarts of PGD break more than {100 * LARGEST_OVERSTATEMENT:g} % of what "
        "withstands the first.",
        [
            _overstated(
                evidence.restarts[:, 0],
                evidence.restarts[:, -1],
                f"withstands the first of {count} restarts, not all",
            )
        ],
        **{f"{r + 1} restarts": _accuracy(evidence.restarts[:, r]) for r in range(count)},
    )


def _larger_balls(evidence: Evidence) -> Check:
    radii = [f"{epsilon:.4g}" for epsilon in evidence.epsilons]
    return _check(
        "larger epsilon",
        "PGD breaks more in a smaller ball.",
        [
            _weaker(
                evidence.at_epsilon[:, place + 1],
                evidence.at_epsilon[:, place],
                f"broken at epsilon {radii[place]}, not at {radii[place + 1]}",
            )
            for place in range(len(radii) - 1)
        ],
        **{f"epsilon {e}": _accuracy(evidence.at_epsilon[:, p]) for p, e in enumerate(radii)},
    )


def _unbounded(evidence: Evidence) -> Check:
    withstands = evidence.at_epsilon[:, -1]
    return _check(
        "unbounded epsilon",
        f"More than {100 * NEARLY_NONE:g} % of the images withstand PGD in a ball that holds every "
        "image.",
        [
            Comparison(
                f"withstands PGD at epsilon {evidence.epsilons[-1]:.4g}",
                int(withstands.sum()),
                len(withstands),
                NEARLY_NONE,
            )
        ],
    )


def _other_losses(evidence: Evidence) -> Check:
    usual = evidence.restarts[:, 0]
    others = _looked_at(
        {"PGD on the margin": evidence.margin, "APGD on the DLR loss": evidence.dlr}
    )
    return _check(
        "a loss that does not saturate",
        "An attack on the margin of the logits, or on their difference of logits ratio, breaks "
        f"more than {100 * LARGEST_OVERSTATEMENT:g} % of what withstands the same number of steps "
        "on the cross-entropy.",
        [
            _overstated(usual, found, f"withstands the cross-entropy, not {name}")
            for name, found in others.items()
        ],
        cross_entropy=_accuracy(usual),
        **{name: _accuracy(found) for name, found in others.items()},
    )


def _black_boxes(evidence: Evidence) -> Check:
    white_box = evidence.restarts[:, -1] & evidence.after(evidence.longest)
    others = _looked_at(
        {
            "random search": evidence.random_search,
            "Square": evidence.square,
            "transfer": evidence.transfer,
        }
    )
    return _check(
        "black boxes",
        "An attack that sees no gradient of the network breaks more than PGD with restarts.",
        [
            _weaker(white_box, found, f"broken by {name}, not by PGD")
            for name, found in others.items()
        ],
        white_box=_accuracy(white_box),
        **{name: _accuracy(found) for name, found in others.items()},
    )


def _looked_at(attacks: dict[str, np.ndarray | None]) -> dict[str, np.ndarray]:
    return {name: found for name, found in attacks.items() if found is not None}


def _together(evidence: Evidence) -> Check:
    usual, allowed = _usual_steps(evidence), LARGEST_OVERSTATEMENT_OF_ALL
    return _check(
        "all attacks together",
        f"All attacks inside the ball break more than {100 * allowed:g} % of what "
        f"withstands PGD-{usual}.",
        [
            _overstated(
                evidence.after(usual),
                evidence.worst_case,
                f"withstands PGD-{usual}, not every attack",
                allowed,
            )
        ],
        worst_case=_accuracy(evidence.worst_case),
    )


def _usual_steps(evidence: Evidence) -> int:
    """The steps of a usual evaluation: 20, or the most below it that were compared."""
    steps = evidence.compared_steps
    return max((step for step in steps if step <= 20), default=steps[0])
