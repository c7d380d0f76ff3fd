"""What a network is said to cost, beside counts made by hand."""

import pytest

from robustjax.files import Path
from robustjax.papers import cost
from robustjax.papers.black_box import Pair
from robustjax.papers.item import Column, Item, Row, trained
from robustjax.papers.planned import Request, networks_of

FORWARD = 1.11e9  # of ResNet-18 on one image of 32 x 32


def network(column, **options):
    training = trained("standard", model="resnet_18", **options)
    item = Item("table1", "a table", "section 1", (Row("a", training),), (column,))
    (found,) = networks_of({"p/table1": (item, item.rows)}, Request(Path("reproduced")))
    return found


def test_training_is_k_gradients_of_images_and_one_of_weights():
    found = network(Column("clean", "clean"), epochs=3)
    by_hand = 50_000 * 3 * (10 * 2 + 3) * FORWARD
    assert cost.training_flops(found.config) == pytest.approx(by_hand, rel=0.01)
    natural = network(Column("clean", "clean"), epochs=3, method="natural")
    by_hand = 50_000 * 3 * 3 * FORWARD
    assert cost.training_flops(natural.config) == pytest.approx(by_hand, rel=0.01)


@pytest.mark.parametrize(
    ("attack", "passes"),
    [
        ("clean", 1),
        ("fgsm", 2),
        ("pgd-20", 40),
        ("pgd-60x20(success=any)", 2400),
        ("cw-30", 60),
        ("apgd-ce", 200),
        ("apgd-t", 1800),
        ("square", 5000),
        ("spsa", 819_200),
        ("random-7", 7),
    ],
)
def test_an_attack_is_its_steps_times_restarts_times_targets(attack, passes):
    assert cost.attack_passes(attack) == passes
    found = network(Column("a", attack, examples=100))
    assert cost.evaluation_flops(found) == pytest.approx(100 * passes * FORWARD, rel=0.01)


def test_black_box_images_are_paid_for_once_and_judged_by_every_target():
    networks = [network(Column("clean", "clean"), epochs=epochs) for epochs in (1, 2, 3)]
    source, *targets = (one.workdir for one in networks)
    pairs = [
        Pair(Path("b"), source, target, "pgd-10", 0.03, 100, "latest", 5) for target in targets
    ]
    by_hand = 5 * 100 * (20 + 2) * FORWARD
    assert cost.black_box_flops(pairs, networks) == pytest.approx(by_hand, rel=0.01)
    alone = cost.total_flops(networks)
    assert cost.total_flops(networks, pairs) - alone == pytest.approx(by_hand, rel=0.01)


def test_durations_are_said_in_a_unit_that_can_be_read():
    rate = 1.0
    for seconds, said in ((3, "3 s"), (600, "10 min"), (7200, "2.0 h"), (1e7, "116 days")):
        assert cost.hours(seconds, rate) == said
