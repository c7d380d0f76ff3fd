"""Which networks items need: shared, in order, named by what decides training, shorter to try."""

import dataclasses

import pytest

from robustjax.files import Path
from robustjax.papers import catalogue
from robustjax.papers.item import Column, Item, Row, trained
from robustjax.papers.planned import Networks, Request, networks_of, require_accepted
from robustjax.papers.scale import FEWEST_EXAMPLES, scaled, scaled_examples, train_images
from robustjax.training import check_experiment

QUICK = trained("quickstart", epochs=4)
ATTACKED = Column("PGD", "pgd-20(step_size=2/255)", "8/255")


def item(rows, columns=(ATTACKED,), seeds=(1,)):
    return Item("table1", "a table", "section 1", tuple(rows), tuple(columns), seeds)


def needed(*items, **how):
    request = Request(Path("reproduced"), **how)
    return networks_of({f"p/{n}": (one, one.rows) for n, one in enumerate(items)}, request)


def test_items_that_say_the_same_share_a_network_and_its_attacks_are_those_of_both():
    clean = Column("Natural", "clean", "8/255")
    first = item([Row("a", QUICK)], [ATTACKED])
    second = item([Row("other", QUICK), Row("b", QUICK.but(beta=3))], [ATTACKED, clean])
    shared, other = needed(first, second)
    assert shared.items == ("p/0", "p/1") and other.items == ("p/1",)
    (evaluation,) = shared.evaluations
    assert evaluation.attacks == ("pgd-20(step_size=2/255)", "clean")
    assert evaluation.epsilon == 8 / 255 and evaluation.checkpoint == "latest"
    assert shared.config.beta == 6 and other.config.beta == 3


def test_radius_checkpoint_and_examples_are_evaluations_of_their_own():
    columns = [
        ATTACKED,
        ATTACKED.but(name="wide", epsilon="16/255"),
        ATTACKED.but(name="best", checkpoint="best"),
        ATTACKED.but(name="some", examples=100),
    ]
    (network,) = needed(item([Row("a", QUICK)], columns))
    assert len(network.evaluations) == 4
    assert {one.examples for one in network.evaluations} == {0, 100}


def test_clean_images_are_measured_with_whatever_else_is():
    columns = [Column("Natural", "clean"), ATTACKED, ATTACKED.but(name="wide", epsilon="16/255")]
    (network,) = needed(item([Row("a", QUICK)], columns))
    assert [one.attacks for one in network.evaluations] == [
        ("clean", "pgd-20(step_size=2/255)"), ("pgd-20(step_size=2/255)",),
    ]  # fmt: skip
    (network,) = needed(item([Row("a", QUICK)], [Column("Natural", "clean")]))
    assert [one.attacks for one in network.evaluations] == [("clean",)]


def test_what_a_network_begins_with_comes_first_and_a_twin_has_another_seed():
    start = trained("natural", model="digits_cnn", dataset="digits")
    rows = [Row("a", trained("quickstart", pretrained=start))]
    first, second = needed(item(rows, [ATTACKED.but(source=start.independent())]))[:2]
    assert second.config.init_from == first.config.workdir == second.start
    assert first.start == "" and first.config.method == "natural"
    twins = needed(item(rows, [ATTACKED.but(source=start.independent())]))
    assert [one.config.seed for one in twins] == [1, 1, 1001]


def test_every_seed_is_a_network_and_the_request_may_say_which():
    one = item([Row("a", QUICK)], seeds=(1, 2, 3))
    assert [network.config.seed for network in needed(one)] == [1, 2, 3]
    assert [network.config.seed for network in needed(one, seeds=(7,))] == [7]


def test_a_name_tells_networks_apart_by_all_that_decides_training_and_by_nothing_else():
    names = [network.name for network in needed(item([Row("a", QUICK)]))]
    elsewhere = needed(item([Row("a", QUICK)]), options=("--data_dir=elsewhere",))
    assert [network.name for network in elsewhere] == names
    for options in (("--epsilon=0.1",), ("--epochs=5",), ("--batch_size=32",), ("--beta=1",)):
        other = needed(item([Row("a", QUICK)]), options=options)
        assert other[0].name not in names, options


def test_an_option_that_is_no_text_has_a_name_too():
    odd, other = (
        needed(item([Row("a", QUICK)]), options=(f"--extra_data={byte}.npz",))[0].name
        for byte in ("\udcfe", "\udcff")
    )
    assert odd != other and odd.isascii()


def test_an_option_that_is_as_by_default_is_no_part_of_a_name():
    (name,) = (network.name for network in needed(item([Row("a", QUICK)])))
    said = needed(item([Row("a", QUICK)]), options=("--label_smoothing=0", "--steps_schedule="))
    assert said[0].name == name


def test_options_override_what_a_paper_says_also_after_it_was_shortened():
    (network,) = needed(
        catalogue.items()["mart/table1"], scale=0.1, options=("--epochs=7", "--model=digits_cnn")
    )[:1]
    assert (network.config.epochs, network.config.model) == (7, "digits_cnn")


def test_an_option_that_is_not_accepted_names_the_network_and_the_item():
    with pytest.raises(ValueError, match="launch/quickstart.flags.*unknown_option"):
        needed(item([Row("a", QUICK.but(unknown_option=1))]))
    wrong = needed(item([Row("a", QUICK.but(model="resnet_19"))]))
    with pytest.raises(ValueError, match=r"p/0.*resnet_19"):
        require_accepted(wrong, check_experiment)


def whole():
    return Networks(Request(Path("reproduced"))).config(trained("fat"), 1)


@pytest.mark.parametrize("scale", [0.5, 0.1, 0.02])
def test_a_try_keeps_the_shape_of_every_schedule(scale):
    config = whole()
    shorter = scaled(config, scale)
    assert shorter.epochs == round(120 * scale)
    ratio = shorter.epochs / config.epochs
    for ours, theirs in zip(shorter.decay_epochs, config.decay_epochs, strict=True):
        assert ours == pytest.approx(theirs * ratio, abs=1e-3)
    tau = dict(text.split("=") for text in shorter.set)["tau"]
    starts = [float(part.partition("@")[2]) for part in tau.split(",")[1:]]
    assert starts == pytest.approx([50 * ratio, 90 * ratio], abs=1e-3)
    for name in ("learning_rate", "batch_size", "epsilon", "steps", "train_examples"):
        assert getattr(shorter, name) == getattr(config, name)


def test_less_than_an_epoch_is_one_of_fewer_images():
    shorter = scaled(whole(), 0.004)
    assert shorter.epochs == 1
    assert shorter.train_examples == 50_000 * 120 * 0.004
    assert scaled(whole(), 1e-5).train_examples == 4 * whole().batch_size
    assert scaled(whole(), 1) == whole()


def test_images_are_counted_by_the_names_of_data_set_and_split():
    digits = dataclasses.replace(whole(), dataset="digits")
    svhn = dataclasses.replace(whole(), dataset="svhn")
    extra = dataclasses.replace(svhn, train_split="train+extra")
    few = dataclasses.replace(extra, train_examples=500)
    assert list(map(train_images, (whole(), digits, svhn))) == [50_000, 1_437, 73_257]
    assert list(map(train_images, (extra, few))) == [604_388, 500]


def test_a_warm_up_of_a_method_is_shortened_too():
    config = Networks(Request(Path("reproduced"))).config(trained("sense"), 1)
    shorter = scaled(config, 0.1)
    assert shorter.hyperparameters()["full_attack_epochs"] == pytest.approx(1)


def test_fewer_images_are_attacked_never_fewer_than_some():
    config = whole()
    assert scaled_examples(0, config, 1) == 0 and scaled_examples(1000, config, 1) == 1000
    assert scaled_examples(0, config, 0.05) == 500
    assert scaled_examples(1000, config, 0.05) == 50
    assert scaled_examples(0, config, 1e-6) == FEWEST_EXAMPLES
    assert scaled_examples(5, config, 0.5) == 5
    digits = dataclasses.replace(config, dataset="digits")
    assert scaled_examples(0, digits, 0.5) == 180
