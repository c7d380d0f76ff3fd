"""Black-box cells: what a pair is known by, which share images, and files that are damaged."""

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import jax
import numpy as np
import pytest

from robustjax.evaluation.transfer import TransferMatrix
from robustjax.files import Path
from robustjax.papers import black_box, catalogue
from robustjax.papers.black_box import Pair
from robustjax.papers.item import Column, trained
from robustjax.papers.planned import Networks, Request

PAIR = Pair(Path("b"), Path("runs/source"), Path("runs/target"), "pgd-10", 0.03, 100, "latest", 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"source": Path("runs/other")},
        {"target": Path("runs/other")},
        {"attack": "pgd-20"},
        {"epsilon": 0.06},
        {"examples": 0},
        {"checkpoint": "best"},
        {"sets": 10},
    ],
)
def test_every_part_of_a_pair_makes_another_file(changes):
    assert PAIR._replace(**changes).path != PAIR.path
    assert PAIR._replace(folder=Path("elsewhere")).path.name == PAIR.path.name


def test_targets_of_the_same_images_are_measured_together_and_once(tmp_path):
    first = PAIR._replace(folder=tmp_path)
    second, third = first._replace(target=Path("other")), first._replace(attack="fgsm")
    assert black_box.groups([first, second, third]) == [[first, second], [third]]
    content = {"accuracy": 0.5, "interval_95": [0.4, 0.6], "examples": 100}
    first.path.write_text(json.dumps(content))
    assert black_box.read(first) == (0.5, (0.4, 0.6), 100)
    assert black_box.groups([first, second, third]) == [[second], [third]]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"accuracy": 2, "interval_95": [0, 1], "examples": 3}', '{"accuracy": 0.5}'],
)
def test_a_damaged_file_is_as_if_it_had_never_been_made(tmp_path, text):
    pair = PAIR._replace(folder=tmp_path)
    pair.path.write_text(text)
    assert black_box.read(pair) is None and black_box.groups([pair]) == [[pair]]


def test_a_table_of_five_networks_has_five_groups_of_five_pairs():
    items = {"lrm/table2": (catalogue.items()["lrm/table2"], catalogue.items()["lrm/table2"].rows)}
    request = Request(Path("reproduced"), scale=0.1)
    pairs = black_box.pairs_of(items, Networks(request), request)
    assert len(pairs) == 25 and len({pair.source for pair in pairs}) == 5
    assert [len(group) for group in black_box.groups(pairs)] == [5] * 5
    assert {(pair.epsilon, pair.examples) for pair in pairs} == {(0.03, 1000)}


def test_the_pair_of_a_cell_is_of_its_column_and_else_of_the_rows_own_radius():
    request = Request(Path("reproduced"))
    networks = Networks(request)
    training = trained("quickstart", epsilon="4/255", measure_epsilon="8/255")
    config = networks.config(training, 1)
    column = Column("shown", "pgd-10", "16/255", "best", 50, training.independent(), sets=3)

    def pair(column):
        return black_box.pair_of(config, column, 1, networks, request)

    assert pair(column) == Pair(
        Path("reproduced/black_box"),
        Path(networks.config(training.independent(), 1).workdir),
        Path(config.workdir),
        "pgd-10",
        16 / 255,
        50,
        "best",
        3,
    )
    assert pair(column).source != pair(column).target
    assert pair(column.but(epsilon="")).epsilon == 8 / 255


class Network(NamedTuple):
    """As much of a trained network as an attack needs."""

    config: SimpleNamespace
    test_set: Sequence[int]
    logits_fn: None = None

    def threat(self, epsilon):
        return epsilon


@pytest.mark.parametrize(("batch_size", "at_once"), [(0, 4), (3, 3)])
def test_what_counts_over_several_sets_is_to_be_right_about_all_of_them(
    tmp_path, monkeypatch, batch_size, at_once
):
    right_of_set = [[True, True, False, True], [True, False, True, True], [True, True, True, True]]
    clean = np.array([False, True, True, True])
    config = SimpleNamespace(dataset="digits", batch_size=64)
    asked = []

    def transfer_matrix(attack, key, sources, targets, dataset, threat, *, batch_size):
        asked.append((attack, threat, batch_size))
        right = np.array(right_of_set[len(asked) - 1])
        assert jax.random.key_data(key).tolist()[-1] == len(asked) - 1
        return TransferMatrix({"target": clean}, {"source": {"target": right}}, {})

    monkeypatch.setattr(black_box, "load_network", lambda *_, **__: Network(config, range(4)))
    monkeypatch.setattr(black_box, "transfer_matrix", transfer_matrix)
    pair = PAIR._replace(folder=tmp_path, sets=3)
    black_box.measure([pair], batch_size)
    accuracy, (low, high), examples = black_box.read(pair)
    assert asked == [("pgd-10", 0.03, at_once)] * 3
    assert (accuracy, examples) == (0.5, 4) and low < 0.5 < high
    assert json.loads(pair.path.read_text())["robust_accuracy"] == 0.25


def test_images_are_shown_to_networks_of_the_same_data_set_alone(tmp_path, monkeypatch):
    def load_network(workdir, *_, **__):
        dataset = "digits" if workdir.name == "source" else "mnist"
        return Network(SimpleNamespace(dataset=dataset, batch_size=64), range(4))

    monkeypatch.setattr(black_box, "load_network", load_network)
    pair = PAIR._replace(folder=tmp_path)
    with pytest.raises(ValueError, match="target was trained on mnist.* source, of digits"):
        black_box.measure([pair])
    assert not list(tmp_path.iterdir())
