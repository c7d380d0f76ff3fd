"""The evaluations of the papers: which attacks, with their own radius, step, start and restarts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from robustjax.arguments import did_you_mean
from robustjax.errors import UserError
from robustjax.evaluation.spec import STEPPED, AttackSpec, parse_attack


@dataclasses.dataclass(frozen=True)
class Protocol:
    """An evaluation as a paper describes it.

    Attributes:
      source: where it is described, and where the authors' code differs.
      attacks: data set -> its attacks.
    """

    source: str
    attacks: Mapping[str, Sequence[AttackSpec]]


def _attacks(
    names: str,
    epsilon: float,
    step_size: float | None = None,
    start: str = "uniform",
    success: str = "last",
    examples: int | None = None,
) -> tuple[AttackSpec, ...]:
    own = {"step_size": step_size, "start": start, "success": success}
    specs = [parse_attack(name) for name in names.split(",")]
    return tuple(
        (spec.with_settings(**own) if spec.kind in STEPPED else spec)._replace(
            epsilon=epsilon, examples=examples
        )
        for spec in specs
    )


_MART = _attacks("clean,fgsm,fgsm-random,pgd-20,pgd-100,cw-30", 8 / 255, 0.8 / 255)
_LRM = _attacks("clean,fgsm,pgd-5,pgd-10,pgd-20,pgd-1000", 0.03, 0.0078)

PROTOCOLS: dict[str, Protocol] = {
    "trades": Protocol(
        "TRADES (2019), section 5: PGD from the clean image; the authors' script, --protocol="
        "trades_code, from a random start",
        {
            "cifar10": _attacks("clean,pgd-20", 0.031, 0.003, "clean"),
            "mnist": _attacks("clean,pgd-40", 0.3, 0.01, "clean"),
        },
    ),
    "trades_code": Protocol(
        "TRADES (2019), the authors' script: PGD from a random start",
        {
            "cifar10": _attacks("clean,pgd-20", 0.031, 0.003),
            "mnist": _attacks("clean,pgd-40", 0.3, 0.01),
        },
    ),
    "mart": Protocol(
        "MART (2020), section 4.2 and table 2, with table 4's PGD-100: steps of epsilon / 10, the "
        "random start of the authors' code, whose radius is 0.031 and whose step for ResNet-18 is "
        "0.003; neither paper nor code says where FGSM starts, so both are here",
        {
            "cifar10": _MART,
            "mnist": _attacks("clean,fgsm,fgsm-random,pgd-20,cw-30", 0.3, 0.03),
        },
    ),
    "mart_wrn": Protocol(
        "MART (2020), section 4.3 and table 4 (WideResNet-34-10), settings of section 4.1; FGSM "
        "from a random start, as its figures tell: 67.51 there, 67.38 in FAT's table 4, whose code "
        "starts at random, 61.61 in SENSE's table 3, whose FGSM starts at the image",
        {"cifar10": _attacks("clean,fgsm-random,pgd-20,pgd-100,cw-30", 8 / 255, 0.8 / 255)},
    ),
    "nap": Protocol(
        "NAP (2021), section 4.1 and table 3: PGD-20 from the clean image as in the authors' code "
        "(the paper does not say), PGD-60 with 20 restarts and success at any step",
        {
            "cifar10": (
                *_attacks("clean,pgd-20", 8 / 255, 0.8 / 255, "clean"),
                *_attacks("pgd-60x20", 8 / 255, 0.01, success="any"),
                *_attacks("apgd-ce,apgd-t,fab-t,square", 8 / 255),
            ),
        },
    ),
    "fat": Protocol(
        "FAT (2020), table 1 and appendix H.1: steps of epsilon / 4 from a random start, FGSM's "
        "too in the authors' code",
        {"cifar10": _attacks("clean,fgsm-random,pgd-20,cw-30,pgd-100", 0.031, 0.031 / 4)},
    ),
    "fat_trades": Protocol(
        "FAT (2020), table 2 and appendix H.2: no random start; --protocol=fat_trades_random has "
        "one",
        {"cifar10": _attacks("clean,fgsm,pgd-20,cw-30,pgd-100", 0.031, 0.003, "clean")},
    ),
    "fat_trades_random": Protocol(
        "FAT (2020), table 3 (evaluated with random start) and appendix H.2; the authors' code, "
        "FGSM included",
        {"cifar10": _attacks("clean,fgsm-random,pgd-20,cw-30", 0.031, 0.003)},
    ),
    "fat_mart": Protocol(
        "FAT (2020), table 4 and appendix H.3: MART's settings; the authors' code, from which "
        "FGSM's random start is, has 0.031 and 0.003",
        {"cifar10": _attacks("clean,fgsm-random,pgd-20,cw-30", 8 / 255, 0.8 / 255)},
    ),
    "sense": Protocol(
        "SENSE, section 5.3 and table 2 (CIFAR-10), section 5.2.1 (MNIST)",
        {
            "cifar10": _attacks("clean,fgsm,deepfool,pgd-100x5", 8 / 255, 2 / 255),
            "mnist": _attacks("clean,pgd-500x20", 0.3, 0.01),
        },
    ),
    "lrm": Protocol(
        "LRM (2019), section 5.1 and table 1; SPSA on the first 1,000 images",
        {
            "cifar10": (*_LRM, *_attacks("spsa", 0.03, examples=1000)),
            "cifar100": _attacks("clean,fgsm,pgd-5,pgd-10,pgd-20", 0.03, 0.0078),
            "svhn": _attacks("clean,fgsm,pgd-5,pgd-10,pgd-20", 12 / 255, 3 / 255),
        },
    ),
}


def protocol_attacks(name: str, dataset: str) -> Sequence[AttackSpec]:
    """The attacks of a paper's evaluation on a data set.

    Raises:
      ValueError: there is no such protocol, or the paper does not evaluate on that data set.
    """
    if name not in PROTOCOLS:
        raise UserError(
            f"protocol={name}: accepted are {', '.join(PROTOCOLS)}{did_you_mean(name, PROTOCOLS)}"
        )
    by_dataset = PROTOCOLS[name].attacks
    if dataset not in by_dataset:
        raise UserError(
            f"protocol={name} is for {', '.join(by_dataset)}, and the run was trained on "
            f"{dataset}; give attacks with epsilon and step_size"
        )
    return by_dataset[dataset]


def describe() -> str:
    """All protocols, for --protocol=help."""
    lines = []
    for name, protocol in PROTOCOLS.items():
        lines.append(f"{name:<17} {protocol.source}")
        for dataset, specs in protocol.attacks.items():
            lines.append(f"{'':<17}   {dataset}: {', '.join(spec.name for spec in specs)}")
    return "\n".join(lines)
