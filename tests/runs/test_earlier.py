"""An earlier result is kept where a new one measures something else, and replaced where not."""

import json

import pytest

from robustjax.files import Path
from robustjax.runs.earlier import keep_earlier

SUBJECT = ("attack", "examples")
OLD = {"attack": {"epsilon": 0.1, "steps": [1, 2]}, "examples": 10, "accuracy": 0.5}


@pytest.fixture
def path(tmp_path):
    path = Path(tmp_path) / "result.json"
    path.write_text(json.dumps(OLD))
    for suffix in (".md", ".png"):
        path.with_suffix(suffix).write_text("beside")
    (path.parent / "result.txt").write_text("of somebody else")
    return path


def names(path):
    return sorted(other.name for other in path.parent.iterdir())


@pytest.mark.parametrize(
    "new",
    [{**OLD, "accuracy": 0.25}, {**OLD, "attack": {"steps": (1, 2), "epsilon": 0.1}}],
    ids=["measured anew", "tuples are lists"],
)
def test_the_same_subject_is_replaced(path, new):
    before = names(path)
    assert keep_earlier(path, new, SUBJECT) is None and names(path) == before


@pytest.mark.parametrize(
    "new",
    [{**OLD, "examples": 11}, {**OLD, "attack": {"epsilon": 0.2}}, {"accuracy": 1}],
    ids=str,
)
def test_another_subject_leaves_what_was_there_under_another_name(path, new):
    kept = keep_earlier(path, new, SUBJECT)
    assert json.loads(kept.read_text()) == OLD
    assert names(path) == ["result.1.json", "result.1.md", "result.1.png", "result.txt"]


@pytest.mark.parametrize("content", ["", "{", "[]", "5"])
def test_what_cannot_be_read_is_kept_too(path, content):
    path.write_text(content)
    assert keep_earlier(path, OLD, SUBJECT).read_text() == content


def test_where_nothing_was_nothing_is_kept(tmp_path):
    assert keep_earlier(Path(tmp_path) / "result.json", OLD, SUBJECT) is None
