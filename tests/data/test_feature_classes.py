"""A prepared data set of somebody else's runs no code: only tfds's own classes are let through."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from robustjax import data
from robustjax.data import DataError
from robustjax.data.prepared.feature_classes import require_own_classes

tfds = pytest.importorskip("tensorflow_datasets")

OWN = "tensorflow_datasets.core.features."
TEXT = {"pythonClassName": f"{OWN}text_feature.Text", "text": {}}


def dictionary(**features):
    return {
        "pythonClassName": f"{OWN}features_dict.FeaturesDict",
        "featuresDict": {"features": features},
    }


def sequence(feature):
    return {
        "pythonClassName": f"{OWN}sequence_feature.Sequence",
        "sequence": {"feature": feature, "length": "-1"},
    }


def legacy(name, content, **parts):
    return {"type": name, "content": content, **parts}


def legacy_dictionary(**features):
    return legacy(f"{OWN}features_dict.FeaturesDict", features)


def at_top(name):
    return {**dictionary(text=TEXT), "pythonClassName": name}


def in_snake_case(name):
    return {"python_class_name": name, "json_feature": {"json": "{}"}}


def in_a_dictionary(name):
    return dictionary(text=TEXT, image={"pythonClassName": name, "jsonFeature": {"json": "{}"}})


def in_a_sequence(name):
    return dictionary(many=sequence({"pythonClassName": name, "text": {}}))


def ten_deep(name):
    features = {"pythonClassName": name, "text": {}}
    for _ in range(10):
        features = dictionary(inner=features)
    return features


def in_the_earlier_form(name):
    return legacy(name, {})


def in_a_dictionary_of_the_earlier_form(name):
    return legacy_dictionary(
        text=legacy(f"{OWN}text_feature.Text", {}), image=legacy(name, {"shape": [1]})
    )


def in_a_text_of_the_earlier_form(name):
    inner = {"features": {"image": {"pythonClassName": name, "text": {}}}}
    return legacy(
        f"{OWN}features_dict.FeaturesDict",
        "\n " + json.dumps(inner),
        proto_cls="tensorflow_datasets.FeaturesDict",
    )


def in_a_text(name):
    inner = {"image": legacy(name, {})}
    return {
        "pythonClassName": f"{OWN}features_dict.FeaturesDict",
        "jsonFeature": {"json": json.dumps(inner)},
    }


def in_a_text_in_a_text(name):
    inner = {
        "inner": legacy(
            f"{OWN}features_dict.FeaturesDict",
            json.dumps({"features": {"image": {"pythonClassName": name, "text": {}}}}),
            proto_cls="tensorflow_datasets.FeaturesDict",
        )
    }
    return dictionary(
        outer={
            "pythonClassName": f"{OWN}features_dict.FeaturesDict",
            "jsonFeature": {"json": json.dumps(inner)},
        }
    )


PLACES = [
    at_top,
    in_snake_case,
    in_a_dictionary,
    in_a_sequence,
    ten_deep,
    in_the_earlier_form,
    in_a_dictionary_of_the_earlier_form,
    in_a_text_of_the_earlier_form,
    in_a_text,
    in_a_text_in_a_text,
]
by_place = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)


@pytest.fixture
def harmful_module(tmp_path, monkeypatch):
    """A module in the working directory; importing it makes a file called "harm" beside it."""
    name = "module_of_somebody_else"
    folder = tmp_path / "working"
    folder.mkdir()
    (folder / f"{name}.py").write_text(f"open({str(folder / 'harm')!r}, 'w').close()\n")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend("")
    importlib.invalidate_caches()
    yield name
    sys.modules.pop(name, None)


def features_path(folder):
    return next(folder.glob("mnist/*/features.json"))


def load(folder):
    return data.load("mnist", "test", data_dir=str(folder), allow_prepare=False)


@by_place
def test_a_class_of_somebody_else_is_neither_accepted_nor_imported(folder, harmful_module, place):
    path = features_path(folder)
    path.write_text(json.dumps(place(f"{harmful_module}.Image")))
    refusal = rf"features\.json names the class {harmful_module}\.Image, which is none of tfds's"
    with pytest.raises(DataError, match=refusal):
        load(folder)
    assert harmful_module not in sys.modules and not Path("harm").exists()
    # Such a file does harm where nobody looks at it: tfds imports the module.
    with pytest.raises(Exception, match=harmful_module):
        tfds.builder_from_directory(path.parent)
    assert Path("harm").exists()


def test_a_name_of_their_own_in_a_set_that_could_be_read_is_refused(folder, harmful_module):
    path = features_path(folder)
    features = json.loads(path.read_text())
    features["featuresDict"]["features"]["image"]["pythonClassName"] = f"{harmful_module}.Image"
    path.write_text(json.dumps(features))
    with pytest.raises(DataError, match=harmful_module):
        load(folder)
    assert not Path("harm").exists()


def test_a_set_that_was_read_before_is_looked_at_again_when_it_changes(folder, harmful_module):
    assert len(load(folder)) == 9
    path = features_path(folder)
    path.write_text(json.dumps(in_a_dictionary(f"{harmful_module}.Image")))
    with pytest.raises(DataError, match=harmful_module):
        load(folder)
    assert not Path("harm").exists()


def test_a_set_of_tfdss_own_classes_is_read(folder, published):
    # tfds has shuffled them.
    found = sorted(image.tobytes() for image in load(folder).images)
    assert found == sorted(image.tobytes() for image in published["mnist"].splits["test"][0])


NOT_OWN = [
    "os.path",
    "os",
    "Image",
    "",
    "tensorflow_datasets",
    f"{OWN}image_feature",
    f"{OWN}image_feature.Picture",
    f"{OWN}image_feature.Image.",
    f"{OWN}image_feature.Image.of_mine",
    f" {OWN}image_feature.Image",
    f"{OWN}image_feature.image",
    f"{OWN}of_mine.Image",
    f"{OWN}feature.FeatureConnector2",
    "tensorflow_datasets.core.dataset_builder.DatasetBuilder",
    "tensorflow_datasets.scripts.cli.main.Image",
    "tensorflow_datasets.core.featuresX.Image",
]


@pytest.mark.parametrize("name", NOT_OWN)
def test_only_the_exact_names_of_tfdss_features_are_its_own(name):
    for place in PLACES:
        with pytest.raises(DataError, match=r"^here/features\.json names the class "):
            require_own_classes(json.dumps(place(name)), "here/features.json")


def test_a_class_that_registers_itself_is_still_of_somebody_else():
    class Mine(tfds.features.Text):
        pass

    name = f"{Mine.__module__}.{Mine.__name__}"
    registered = tfds.features.FeatureConnector._registered_features
    try:
        assert name in registered
        with pytest.raises(DataError, match=f"names the class {name}"):
            require_own_classes(json.dumps(in_a_dictionary(name)), "features.json")
    finally:
        del registered[name]


@by_place
def test_the_same_file_with_a_class_of_tfds_is_accepted(place):
    content = json.dumps(place(f"{OWN}text_feature.Text"))
    require_own_classes(content, "features.json")
    require_own_classes(content.encode(), "features.json")


OF_TFDS = {
    "image": tfds.features.Image(shape=(28, 28, 1), encoding_format="png"),
    "label": tfds.features.ClassLabel(num_classes=10),
    "text": tfds.features.Text(doc="type: a text {"),
    "tensor": tfds.features.Tensor(shape=(2,), dtype=np.float32),
    "scalar": tfds.features.Scalar(np.int64),
    "box": tfds.features.BBoxFeature(),
    "mask": tfds.features.LabeledImage(labels=3, shape=(None, None, 1)),
    "many": tfds.features.Sequence({"a": tfds.features.Text(), "b": np.int32}),
    "translation": tfds.features.Translation(["de", "en"]),
    "inner": {"type": tfds.features.Text(), "pythonClassName": np.uint8},
}


@pytest.mark.parametrize("name", [*OF_TFDS, "all of them"])
def test_what_tfds_writes_of_its_own_classes_is_accepted(tmp_path, name):
    features = OF_TFDS if name == "all of them" else {name: OF_TFDS[name]}
    tfds.features.FeaturesDict(features).save_config(tmp_path)
    content = (tmp_path / "features.json").read_bytes()
    assert OWN.encode() in content
    require_own_classes(content, "features.json")


def test_names_of_earlier_versions_are_accepted():
    content = legacy_dictionary(a=legacy(f"{OWN}feature.Tensor", {"shape": [], "dtype": "uint8"}))
    require_own_classes(json.dumps(content), "features.json")


def test_the_real_sets_are_accepted(data_dir):
    paths = list(data_dir.glob("*/*/features.json"))
    assert paths
    for path in paths:
        require_own_classes(path.read_bytes(), str(path))


DAMAGED = {
    "nothing": b"",
    "cut off": json.dumps(in_a_dictionary("a.B")).encode()[:-10],
    "no text": b"\xff\xfe{",
    "nested too deeply": b'{"a":' * 100_000,
    "lists nested too deeply": b"[" * 100_000 + b"]" * 100_000,
    "nested too deeply in a text": json.dumps({"json": "[" * 100_000}).encode(),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_what_cannot_be_read_to_its_end_is_damaged(content):
    with pytest.raises(
        DataError, match=r"^here/features\.json is damaged \(.*prepare the data set"
    ):
        require_own_classes(content, "here/features.json")


def test_a_damaged_file_of_a_set_is_damaged(folder):
    features_path(folder).write_text('{"featuresDict": ')
    with pytest.raises(DataError, match=r"features\.json is damaged"):
        load(folder)
