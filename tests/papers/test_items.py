"""The papers as data: every row can be trained, every column attacked, numbers are as printed."""

import dataclasses
import math

import pytest
from absl import flags

from robustjax import training
from robustjax.cli.analyze import command as analyze
from robustjax.evaluation.protocols import protocol_attacks
from robustjax.evaluation.spec import parse_attack
from robustjax.evaluation.transfer import parse_transfer_attack
from robustjax.files import Path
from robustjax.papers import catalogue
from robustjax.papers.experiments import registry
from robustjax.papers.item import BEST, LATEST, Analysis, Curves, Experiment, Points
from robustjax.papers.planned import Networks, Request
from robustjax.runs.log import KEYS
from robustjax.text import parse_number

ITEMS = catalogue.items()
NETWORKS = Networks(Request(Path("nowhere")))


def of(paper, figures):
    return {name: ITEMS[f"{paper}/{name}"] for name in figures}


def config(row, seed=1):
    return NETWORKS.config(row.training, seed)


def row(item, name):
    (found,) = (row for row in ITEMS[item].rows if row.name == name)
    return found


def columns(item):
    return {column.name: column for column in ITEMS[item].columns}


def test_every_paper_is_there_and_nothing_has_one_name():
    assert [paper.name for paper in catalogue.PAPERS] == ["nap", "sense", "mart", "fat", "lrm"]
    assert len(ITEMS) == sum(len(paper.items) for paper in catalogue.PAPERS) >= 95
    assert sum(len(item.rows) for item in ITEMS.values()) > 700
    for paper in catalogue.PAPERS:
        assert paper.algorithm and paper.equations and paper.differences


@pytest.mark.parametrize("name", ITEMS)
def test_an_item_is_whole(name):
    item = ITEMS[name]
    heads = [column.name for column in item.columns]
    assert item.title and item.where and item.seeds
    assert len(set(heads)) == len(heads)
    names = [row.name for row in item.rows]
    assert len(set(names)) == len(names)
    assert bool(item.rows or isinstance(item.figure, Experiment)) != bool(item.reason)
    assert item.columns or item.figure or item.reason
    for row in item.rows:
        assert (row.training is None) == bool(row.reason)
        assert set(row.published) <= set(heads), row.name
        assert set(row.changes) <= {*heads, ""}
        if isinstance(item.figure, Points):
            assert row.x is not None and math.isfinite(row.x)
    if isinstance(item.figure, Curves):
        assert set(item.figure.keys) <= set(KEYS)
    if isinstance(item.figure, Experiment):
        registry.settings(item.figure.name, item.figure.settings)
    if isinstance(item.figure, Analysis):
        values = flags.FlagValues()
        analyze.define_analysis_flags(values)
        assert values(["analyze", *item.figure.arguments])[1:] == []
        assert values.kind in analyze.KINDS


@pytest.mark.parametrize("name", ITEMS)
def test_every_row_can_be_trained_and_every_column_attacked(name):
    item = ITEMS[name]
    for row, column in item.cells():
        assert column.checkpoint in (LATEST, BEST)
        assert column.quantity in ("accuracy", *KEYS)
        if column.epsilon:
            assert 0 < parse_number(column.epsilon) < 1
        if column.attack:
            parse_attack(column.attack)
        if column.source is not None:
            parse_transfer_attack(column.attack)
            source = NETWORKS.config(column.source, 1)
            training.check_experiment(source)
            if row.training is not None:
                own = config(row)
                assert source.dataset == own.dataset and source.workdir != own.workdir
    checked = set()
    for row in item.rows:
        if row.training is None or row.training in checked:
            continue
        checked.add(row.training)
        if row.training.pretrained is None:
            training.check_experiment(config(row))
        if any(column.checkpoint == BEST for column in map(row.column, item.columns)):
            assert config(row).holdout != 0, "without images held out no checkpoint is the best"


# Each pair is read in the papers by eye, not taken from the data under test.
PRINTED = {
    ("nap/table1", "NAP", "PGD-20"): 62.6,
    ("nap/table2", "NAP", "PGD-60"): 61.5,
    ("nap/table6", "BCE", "Natural Accuracy"): 73.1,
    ("sense/table3", "SENSE-AT", "Natural"): 90.96,
    ("sense/table3", "SENSE-AT", "FGSM"): 65.52,
    ("sense/table3", "SENSE-AT", "PGD100(5)"): 49.14,
    ("sense/table6", "Res56", "PGD100(5)"): 34.3,
    ("mart/table2_cifar10", "MART", "PGD-20"): 55.57,
    ("mart/table2_cifar10", "MART", "CW∞"): 54.87,
    ("mart/table4", "MART", "PGD-20 best"): 58.56,
    ("mart/table4", "TRADES", "PGD-100 last"): 51.27,
    ("fat/table1", "FAT (ε 16/255)", "PGD-20"): (49.86, 0.328),
    ("fat/table2", "TRADES (β = 6)", "FGSM"): 61.06,
    ("fat/table3_wrn_34_10", "TRADES (β = 6)", "FGSM"): 67.0,
    ("lrm/table1", "LRM", "PGD (10 steps)"): 51.4,
    ("lrm/table2", "PGD", "LRM"): 55.7,
    ("lrm/table5", "LRM", "PGD (20 steps)"): 39.4,
    ("lrm/table6", "ALP", "PGD (1,000 steps)"): 48.3,
    ("lrm/section4_mixup", "with mixup", "FGSM"): 30.8,
    ("lrm/section5_3", "Label Smoothing", "PGD (1,000 steps)"): 60.8,
}


@pytest.mark.parametrize(("item", "label", "column"), PRINTED)
def test_published_numbers_are_those_of_the_papers(item, label, column):
    assert row(item, label).published[column] == PRINTED[item, label, column]


# What an audit of earlier commands had found wrong, or there in part.


def test_senses_tables_5_to_7_attack_by_steps_of_2_255_and_have_every_row():
    for name in ("table5", "table6", "table7"):
        (attack,) = (c for c in ITEMS[f"sense/{name}"].columns if c.attack != "clean")
        spec = parse_attack(attack.attack)
        assert spec.stepped.step_size == pytest.approx(2 / 255)
        assert (spec.stepped.steps, spec.stepped.restarts) == (100, 5)
        assert attack.examples == 1000 and parse_number(attack.epsilon) == 8 / 255
    assert [config(row).epochs for row in ITEMS["sense/table5"].rows] == [200, 200, 300, 254]
    methods = {config(row).method for row in ITEMS["sense/table7"].rows}
    assert methods == {"standard", "sense", "natural"}


def test_sense_has_the_collapse_on_mnist_and_its_transfer_over_ten_sets():
    collapse = ITEMS["sense/section5_2_1_collapse"]
    assert {config(row).method for row in collapse.rows} == {"natural", "standard"}
    assert {config(row).dataset for row in collapse.rows} == {"mnist"}
    table = ITEMS["sense/table4"]
    for row, column in table.cells():
        own = column.name == f"PGD_{row.name.removesuffix('-AT')}"
        assert (column.source is None) == own
        assert parse_attack(column.attack).stepped.restarts == (10 if own else 1)
        assert own or column.sets == 10


def test_naps_baselines_have_lambda_8_and_the_best_checkpoint_under_pgd_20():
    for name in ("TRADES", "MART"):
        assert config(row("nap/table1", name)).beta == 8
    for name in ("table1", "table2"):
        assert {column.checkpoint for column in ITEMS[f"nap/{name}"].columns} == {BEST}
        for found in ITEMS[f"nap/{name}"].rows:
            spec = parse_attack(config(found).measure_attack)
            assert spec.stepped.steps == 20
            assert spec.stepped.step_size == pytest.approx(0.8 / 255)
            assert config(found).hyperparameters().get("attack_batch_norm", "train") == "train"
    assert ITEMS["nap/table6"].seeds == (1, 2, 3, 4)


def test_marts_table_1_pairs_probabilities_its_clp_beside_the_clean_loss():
    for name, alpha in (("ALP", 0), ("CLP", 1)):
        found = config(row("mart/table1", name))
        assert found.method == "alp"
        assert found.hyperparameters()["pairs"] == "probabilities"
        assert found.hyperparameters()["alpha"] == alpha


def test_mart_has_its_baselines_its_transfer_and_both_epochs():
    for name in ("table2_mnist", "table2_cifar10", "table3_mnist", "table3_cifar10"):
        found = {row.name: config(row) for row in ITEMS[f"mart/{name}"].rows}
        assert list(found) == ["Standard", "MMA", "Dynamic", "TRADES", "MART"]
        assert found["TRADES"].beta == 4 and found["MART"].beta == 5
    for column in ITEMS["mart/table3_cifar10"].columns:
        assert NETWORKS.config(column.source, 1).model == "resnet_50"
        assert NETWORKS.config(column.source, 1).method == "natural"
    table = columns("mart/table4")
    assert table["FGSM last"].attack == "fgsm-random"
    assert table["PGD-20 best"].checkpoint == BEST and table["PGD-20 last"].checkpoint == LATEST
    for found in ITEMS["mart/table2_cifar10"].rows:
        assert config(found).decay_epochs == (75, 90) and config(found).model == "resnet_18"


def test_marts_figure_1_is_an_8_layer_network_on_cifar_10():
    figure = ITEMS["mart/fig1"].figure
    chosen = registry.settings(figure.name, figure.settings)
    assert (chosen.dataset, chosen.model) == ("cifar10", "fat_small_cnn")
    assert chosen.epsilon == 8 / 255 and chosen.step_size == pytest.approx(2 / 255)


TWICE = {"fig6": 8, "fig7": 4, **{f"fig{number}": 8 for number in (13, 15, 16, 17, 18, 19, 20)}}


@pytest.mark.parametrize(("name", "radius"), {**TWICE, "fig14": 4}.items())
def test_fats_figures_have_a_panel_of_twice_the_radius(name, radius):
    radii = {column.epsilon for column in ITEMS[f"fat/{name}"].columns if column.epsilon}
    assert radii == {f"{radius}/255", f"{2 * radius}/255"}
    trained = {config(row).epsilon for row in ITEMS[f"fat/{name}"].rows}
    assert len(trained) >= 6
    assert {config(row).steps for row in ITEMS[f"fat/{name}"].rows} == {
        20 if name in ("fig17", "fig18", "fig19", "fig20") else 10
    }


def test_fats_tables_are_of_the_last_epoch_over_seeds_and_of_radii_8_and_16_of_255():
    seeds = {"table1": 5, "table2": 3, "table3_wrn_34_10": 3, "table4_wrn_34_10": 3}
    for name, number in seeds.items():
        item = ITEMS[f"fat/{name}"]
        assert len(item.seeds) == number
        assert {column.checkpoint for column in item.columns} == {LATEST}
        assert item.centre == "median"
        ours = [config(row).epsilon for row in item.rows if row.name.startswith("FAT")]
        assert set(ours) == {8 / 255, 16 / 255}


def test_fats_table_3_starts_at_random_where_table_2_does_not():
    random, clean = columns("fat/table3_wrn_34_10"), columns("fat/table2")
    assert random["FGSM"].attack == "fgsm-random" and clean["FGSM"].attack == "fgsm"
    assert parse_attack(random["PGD-20"].attack).attack.start == "uniform"
    assert parse_attack(clean["PGD-20"].attack).attack.start == "clean"


def test_fat_for_mart_lowers_the_learning_rate_twice():
    for found in ITEMS["fat/table4_wrn_34_10"].rows:
        if found.name.startswith("FAT"):
            assert config(found).decay_epochs == (59, 89)


def test_lrms_tables_have_every_row_and_independent_sources():
    labels = ["Regular Training", "Label Smoothing", "PGD", "ALP", "LRM"]
    for number in range(1, 7):
        assert [row.name for row in ITEMS[f"lrm/table{number}"].rows] == labels
    for number, dataset in ((2, "cifar10"), (4, "cifar100")):
        item = ITEMS[f"lrm/table{number}"]
        own = {config(row).workdir for row in item.rows}
        for column in item.columns:
            source = NETWORKS.config(column.source, 1)
            assert source.dataset == dataset and source.workdir not in own
            same = dataclasses.replace(source, seed=1, workdir="")
            target = config(row(f"lrm/table{number}", column.name))
            assert same == dataclasses.replace(target, workdir="")


def test_lrms_first_figure_mixes_clean_and_adversarial_loss():
    for name in ("fig1_left", "fig1_right", "section4_1"):
        for found in ITEMS[f"lrm/{name}"].rows:
            assert config(found).hyperparameters()["alpha"] == 0.5
    for found in ITEMS["lrm/table1"].rows[3:]:
        assert config(found).hyperparameters().get("alpha", 0) == 0
    assert config(row("lrm/section4_mixup", "with mixup")).mixing == "mixup"
    assert config(row("lrm/table1", "LRM")).mixing == "vh_mixup"


def test_every_attack_of_the_tables_protocols_is_a_column():
    known = {column.attack for item in ITEMS.values() for column in item.columns}
    attacks = [parse_attack(name).attack for name in known if name]
    for protocol in ("mart_wrn", "fat", "fat_trades", "fat_trades_random", "fat_mart", "sense"):
        for spec in protocol_attacks(protocol, "cifar10"):
            assert spec.attack in attacks, (protocol, spec.name)


def test_a_name_that_is_not_there_is_told_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'mart/table4'"):
        catalogue.chosen(["mart/tabel4"])
    assert list(catalogue.chosen(["mart/fig2"])) == [f"mart/fig2{part}" for part in "abcd"]
    assert list(catalogue.chosen(["lrm/fig1"])) == ["lrm/fig1_left", "lrm/fig1_right"]
    assert len(catalogue.chosen(["fat/table3", "fat/fig11", "fat/fig1"])) == 2 + 6 + 1
    assert list(catalogue.chosen(["fat/fig9"])) == ["fat/fig9"]  # fig9_distance is another
    assert list(catalogue.chosen(["lrm"])) == [name for name in ITEMS if name.startswith("lrm/")]
