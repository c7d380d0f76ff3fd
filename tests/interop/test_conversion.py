"""Weights of other projects' networks, against what PyTorch makes of them, and there and back."""

import importlib.util
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from robustjax import interop, models
from robustjax.errors import UserError
from robustjax.interop.layouts import family_of


def load(name):
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden = load("golden_arrays")
QUICK = (
    "wide_resnet_trades", "wide_resnet_deepmind", "small_cnn", "tutorial_cnn",
)  # fmt: skip
EACH = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in golden.CASES
]


def imported(name):
    """The network of a case, its variables, and the state dict that they come from."""
    case = golden.CASES[name]
    state_dict = golden.draw(golden.read(name)[0])
    variables = interop.from_torch(case.model, state_dict, **case.options)
    return models.create(case.model, **case.options), variables, state_dict


@pytest.mark.parametrize("name", EACH)
def test_the_logits_are_those_that_pytorch_gave(name):
    model, variables, _ = imported(name)
    logits = jax.jit(model.apply)(variables, golden.images(golden.CASES[name]))
    expected = golden.read(name)[1]
    assert np.abs(expected).max() > 0.2
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", golden.CASES)
def test_pytorch_gives_them_still(name):
    pytest.importorskip("torch")
    networks, (shapes, expected) = load("torch_networks"), golden.read(name)
    network = networks.MAKERS[name]()
    found = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert found == shapes
    logits = networks.logits_of(network, golden.draw(shapes), golden.images(golden.CASES[name]))
    np.testing.assert_allclose(logits, expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", golden.CASES)
def test_pytorch_loads_strictly_what_is_written_and_says_the_same(name):
    pytest.importorskip("torch")
    networks, case = load("torch_networks"), golden.CASES[name]
    model, variables, _ = imported(name)
    moved = jax.tree.map(lambda leaf: leaf + 0.01, variables)
    written = interop.to_torch(case.model, moved, layout=case.layout, **case.options)
    logits = networks.logits_of(networks.MAKERS[name](), written, golden.images(case))
    ours = np.asarray(jax.jit(model.apply)(moved, golden.images(case)))
    np.testing.assert_allclose(logits, ours, atol=1e-5 * np.abs(ours).max(), rtol=1e-4)


@pytest.mark.parametrize("name", EACH)
def test_there_and_back_is_bit_for_bit(name):
    case = golden.CASES[name]
    _, variables, state_dict = imported(name)
    written = interop.to_torch(case.model, variables, layout=case.layout, **case.options)
    assert set(written) == set(state_dict)
    for key, array in state_dict.items():
        if "num_batches_tracked" not in key and not key.startswith("sub_block1."):
            assert written[key].dtype == np.float32 and written[key].shape == array.shape
            np.testing.assert_array_equal(written[key], array, err_msg=key)
    again = interop.from_torch(case.model, written, **case.options)
    assert jax.tree.structure(again) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "1."])
def test_what_stands_before_all_names_does_not_matter(prefix):
    _, variables, state_dict = imported("wide_resnet_trades")
    state_dict = {prefix + name: array for name, array in state_dict.items()}
    state_dict["0.mean"], state_dict["0.std"] = np.zeros((3, 1, 1)), np.ones((3, 1, 1))
    again = interop.from_torch("wide_resnet_10_2", state_dict)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_a_layer_further_in_that_is_called_like_the_last_one_is_extra():
    _, _, state_dict = imported("wide_resnet_trades")
    state_dict = {f"module.{name}": array for name, array in state_dict.items()}
    state_dict["module.projection.fc.weight"] = np.ones((2, 2), np.float32)
    with pytest.raises(UserError, match=r"layout 'trades': extra: projection\.fc\.weight$"):
        interop.from_torch("wide_resnet_10_2", state_dict)


def test_the_group_that_trades_does_not_use_is_left_out_and_written_as_a_copy():
    _, variables, state_dict = imported("wide_resnet_trades")
    used = {key: value for key, value in state_dict.items() if not key.startswith("sub_block1.")}
    assert len(used) < len(state_dict)
    without = interop.from_torch("wide_resnet_10_2", used)
    jax.tree.map(np.testing.assert_array_equal, without, variables)
    written = interop.to_torch("wide_resnet_10_2", variables, layout="robustbench")
    assert set(written) == set(used)


@pytest.mark.parametrize("kind", ["float16", "float64", "bfloat16"])
def test_other_floating_points_become_float32(kind):
    import jax.numpy as jnp

    case, state_dict = golden.CASES["tutorial_cnn"], golden.draw(golden.read("tutorial_cnn")[0])
    state_dict = {name: jnp.asarray(array, kind) if kind != "float64" else array.astype(kind)
                  for name, array in state_dict.items()}  # fmt: skip
    variables = interop.from_torch(case.model, state_dict)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype("float32")}


def test_one_error_lists_what_is_missing_extra_and_of_another_shape():
    _, _, state_dict = imported("wide_resnet_trades")
    del state_dict["block2.layer.0.bn1.weight"]
    state_dict["block4.layer.0.bn1.weight"] = np.ones(3, np.float32)
    state_dict["fc.weight"] = state_dict["fc.weight"][:, :7]
    with pytest.raises(UserError) as error:
        interop.from_torch("wide_resnet_10_2", state_dict)
    assert str(error.value) == (
        "the weights are not those of model=wide_resnet_10_2 in the layout 'trades': missing: "
        "block2.layer.0.bn1.weight; extra: block4.layer.0.bn1.weight; of another shape: fc.weight "
        "[10, 7] in place of [10, 128]"
    )
    with pytest.raises(UserError, match=r"missing: .*; extra: .* and \d+ more"):
        interop.from_torch("small_cnn", state_dict)
    with pytest.raises(UserError, match=r"of another shape: .*in place of \[64\], "):
        interop.from_torch("wide_resnet_10_4", state_dict)
    with pytest.raises(UserError, match="missing: "):
        interop.from_torch("resnet_18", {})


def test_the_variables_of_another_network_are_refused():
    _, variables, _ = imported("wide_resnet_trades")
    with pytest.raises(UserError, match=r"of another shape: .*in place of \[16\], "):
        interop.to_torch("wide_resnet_10_1", variables, layout="trades")
    with pytest.raises(UserError, match="model=small_cnn in the layout 'trades': missing: "):
        interop.to_torch("small_cnn", variables, layout="trades")
    with pytest.raises(UserError, match="variables=3: accepted is"):
        interop.to_torch("small_cnn", 3, layout="trades")


def test_the_number_of_classes_is_read_off():
    _, _, state_dict = imported("wide_resnet_trades")
    state_dict["fc.weight"] = np.zeros((100, 128), np.float32)
    state_dict["fc.bias"] = np.zeros(100, np.float32)
    variables = interop.from_torch("wide_resnet_10_2", state_dict)
    assert variables["params"]["fc"]["kernel"].shape == (128, 100)
    with pytest.raises(UserError, match=r"fc.weight \[100, 128\] in place of \[10, 128\]"):
        interop.from_torch("wide_resnet_10_2", state_dict, num_classes=10)
    assert interop.told_options("wide_resnet_10_2", state_dict) == {"num_classes": 100}


def test_a_state_dict_says_how_its_network_pads_and_normalises():
    case, (_, _, state_dict) = (
        golden.CASES["wide_resnet_deepmind"],
        imported("wide_resnet_deepmind"),
    )
    told = interop.told_options(case.model, state_dict)
    assert told == {
        "num_classes": 10, "stride_padding": "same", "mean": golden.MEAN, "std": golden.STD,
    }  # fmt: skip
    with pytest.warns(UserWarning) as said:
        interop.from_torch(case.model, state_dict)
    assert [str(warning.message).partition(":")[0] for warning in said] == [
        "the state dict is of a network with stride_padding=same",
        "the state dict is of a network with mean=0.4914,0.4822,0.4465",
        "the state dict is of a network with std=0.2471,0.2435,0.2616",
    ]
    for option, value in {"stride_padding": "torch", "mean": (0.5,) * 3}.items():
        with pytest.raises(UserError, match=f"{option}=.*: the state dict is of a network with"):
            interop.from_torch(case.model, state_dict, **{**case.options, option: value})


def test_a_normalisation_without_a_shift_is_told_and_one_that_changes_nothing_is_not():
    _, _, state_dict = imported("wide_resnet_trades")
    for deviation, told in ((1.0, {}), (0.5, {"mean": (0.0,) * 3, "std": (0.5,) * 3})):
        state_dict["0.mean"], state_dict["0.std"] = np.zeros(3), np.full(3, deviation)
        found = interop.told_options("wide_resnet_10_2", state_dict)
        assert found == {"num_classes": 10, **told}


def test_a_network_that_pads_otherwise_is_not_written_for_one_that_does_not():
    case = golden.CASES["wide_resnet_deepmind"]
    _, variables, _ = imported("wide_resnet_deepmind")
    with pytest.raises(UserError, match="layout=deepmind: its networks have stride_padding='same'"):
        interop.to_torch(case.model, variables, layout="deepmind")
    with pytest.raises(UserError, match="layout=trades: its networks have stride_padding='torch'"):
        interop.to_torch(case.model, variables, layout="trades", **case.options)


@pytest.mark.parametrize(
    "name",
    [
        "wide_resnet_10_1", "resnet_18", "preact_resnet_18", "cifar_resnet_8", "small_cnn",
        "fat_small_cnn", "tutorial_cnn", "tutorial_cnn_small", "digits_cnn",
    ],
)  # fmt: skip
def test_a_family_is_strided_if_its_network_has_a_stride(name):
    model = models.create(name, convolution="xla")
    images = jax.ShapeDtypeStruct((1, 28, 28, 1), np.float32)
    program = str(jax.make_jaxpr(lambda x: model.init_with_output(jax.random.key(0), x))(images))
    convolution = r"conv_general_dilated\[[^]]*?window_strides=\((\d+), (\d+)\)"
    strides = set(re.findall(convolution, program))
    assert ("1", "1") in strides
    assert family_of(name).strided == (len(strides) > 1)


def test_where_it_pads_does_not_matter_to_a_network_without_a_stride():
    case, (_, variables, _) = golden.CASES["small_cnn"], imported("small_cnn")
    written = interop.to_torch(case.model, variables, layout="trades", stride_padding="same")
    assert set(written) == set(interop.to_torch(case.model, variables, layout="trades"))


def test_a_layout_is_known_by_the_layers_inside_too():
    case, (_, _, state_dict) = (
        golden.CASES["wide_resnet_deepmind"],
        imported("wide_resnet_deepmind"),
    )
    inside = {name: array for name, array in state_dict.items() if name.startswith("layer.")}
    with pytest.raises(UserError, match=r"in the layout 'deepmind': missing: .*init_conv\.weight"):
        interop.from_torch(case.model, inside, stride_padding="same")


def test_a_normalisation_is_written_as_the_buffers_of_robustbench():
    _, variables, state_dict = imported("wide_resnet_robustbench")
    options = {"mean": golden.MEAN, "std": golden.STD}
    written = interop.to_torch("wide_resnet_16_1", variables, layout="robustbench", **options)
    assert set(written) - set(state_dict) == {"mu", "sigma"}
    assert written["mu"].shape == written["sigma"].shape == (1, 3, 1, 1)
    assert interop.told_options("wide_resnet_16_1", written) == {"num_classes": 10, **options}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interop.from_torch("wide_resnet", {}), "model=wide_resnet: .*; did you mean"),
        (lambda: interop.from_torch("madry_w32_10", {}), "model=madry_w32_10: how other projects"),
        (lambda: interop.from_torch("small_cnn", [1]), "state_dict=list: accepted are names"),
        (lambda: interop.from_torch("small_cnn", {1: 2}), "state_dict=dict: accepted are names"),
        (lambda: interop.from_torch("resnet_19", {}), "depth"),
        (
            lambda: interop.from_torch("resnet_18", {"linear.weight": np.zeros((10, 512), int)}),
            "the weights 'linear.weight' are int64; accepted is floating point",
        ),
        (
            lambda: interop.to_torch("resnet_18", {}, layout="Trades"),
            "layout=Trades: of resnet_18 accepted are trades, robustbench, torchvision; did you "
            "mean 'trades'",
        ),
    ],
)
def test_mistakes_are_one_sentence(call, message):
    with pytest.raises(UserError, match=message):
        call()


def test_every_layout_of_every_network_is_written_and_read_again():
    draws = np.random.default_rng(0)
    for name, shape in (("digits_cnn", (8, 8, 1)), ("cifar_resnet_8", (8, 8, 3))):
        model = models.create(name, num_classes=3)
        images = jax.ShapeDtypeStruct((1, *shape), np.float32)
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)
        variables = jax.tree.map(lambda leaf: draws.random(leaf.shape, np.float32), shapes)
        for layout in interop.layouts(name):
            written = interop.to_torch(name, variables, layout=layout)
            again = interop.from_torch(name, written)
            jax.tree.map(np.testing.assert_array_equal, again, dict(variables))
    names = interop.to_torch("cifar_resnet_8", variables, layout="sense")
    assert {"layer3.0.conv2.weight", "layer1.0.bn1.running_var", "linear.bias"} <= set(names)


def test_what_they_say_of_themselves(documented):
    documented(interop.from_torch, "from_torch", ("Args", "Returns", "Raises", "Example", "Source"))
