"""The convolution of CPUs is XLA's, in value and in gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from robustjax import models
from robustjax.attacks.engine import cpu
from robustjax.models import convolution, image_parts, winograd
from robustjax.models.convolution import conv_general_dilated

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="it is that of CPUs")

LAYOUT = jax.lax.ConvDimensionNumbers((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))


def convolve(inputs, kernel, stride, padding):
    return conv_general_dilated(
        inputs, kernel, (stride, stride), padding, (1, 1), (1, 1), LAYOUT, 1, None
    )


def expected(inputs, kernel, stride, padding):
    """The sum written out, in float64."""
    inputs = np.pad(inputs.astype(np.float64), ((0, 0), *padding, (0, 0)))
    size = kernel.shape[0]
    tall, wide = ((length - size) // stride + 1 for length in inputs.shape[1:3])
    return sum(
        inputs[:, row : row + stride * tall : stride, column : column + stride * wide : stride]
        @ kernel[row, column].astype(np.float64)
        for row in range(size)
        for column in range(size)
    )


CASES = {
    "winograd": ((6, 8), 3, 1, ((1, 1), (1, 1)), 128, 128),
    "winograd, odd": ((5, 7), 3, 1, ((1, 1), (1, 1)), 32, 36),
    "winograd, no zeros": ((9, 6), 3, 1, ((0, 0), (0, 0)), 32, 32),
    "winograd, uneven zeros": ((5, 5), 3, 1, ((2, 0), (0, 1)), 32, 32),
    "few channels": ((6, 6), 3, 1, ((1, 1), (1, 1)), 5, 6),
    "an image": ((6, 7), 3, 1, ((1, 1), (1, 1)), 3, 5),
    "an image, no zeros": ((8, 6), 3, 1, ((0, 0), (0, 0)), 1, 4),
    "an image, uneven zeros": ((5, 6), 3, 1, ((2, 0), (0, 1)), 3, 4),
    "5×5": ((9, 8), 5, 1, ((2, 2), (2, 2)), 1, 4),
    "stride 2": ((8, 6), 3, 2, ((1, 1), (1, 1)), 5, 6),
    "stride 2, odd": ((7, 9), 3, 2, ((1, 1), (1, 1)), 5, 6),
    "stride 2, SAME": ((8, 8), 3, 2, ((0, 1), (0, 1)), 4, 3),
    "stride 2, 1×1": ((8, 7), 1, 2, ((0, 0), (0, 0)), 4, 3),
    "stride 2, one product": ((8, 7), 3, 2, ((1, 1), (1, 1)), 32, 6),
    "stride 2, SAME, one product": ((8, 8), 3, 2, ((0, 1), (0, 1)), 33, 4),
    "stride 3 beyond the kernel": ((8, 8), 2, 3, ((0, 0), (0, 0)), 4, 3),
}


@pytest.mark.parametrize("fewest_taps", [0, 2**20])
@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients(case, fewest_taps, monkeypatch):
    monkeypatch.setattr(convolution, "_FEWEST_TAPS", fewest_taps)
    check_value_and_gradients(*CASES[case], images=2)


@pytest.mark.parametrize("images", [6, 7])
@pytest.mark.parametrize("case", ["winograd, odd", "few channels", "stride 2, one product"])
def test_a_few_images_at_a_time(case, images, monkeypatch):
    parts = []
    monkeypatch.setattr(convolution, "_FEWEST_TAPS", 0)
    monkeypatch.setattr(image_parts, "_ENTRIES", 3 * numbers_of_an_image(case))
    loop = jax.lax.fori_loop
    monkeypatch.setattr(jax.lax, "fori_loop", lambda *a: parts.append(a) or loop(*a))
    check_value_and_gradients(*CASES[case], images)
    assert parts, "the whole batch was one part"


def numbers_of_an_image(case):
    shape, size, stride, padding, channels, features = CASES[case]
    if case.startswith("winograd"):
        # Tiles of the larger of the inputs' and the outputs' channels.
        tall, wide = (-(-n // 2) for n in shape)
        return 16 * tall * wide * max(channels, features)
    tall, wide = (
        (n + sum(zeros) - size) // stride + 1 for n, zeros in zip(shape, padding, strict=True)
    )
    return tall * wide * max(size**2 * channels, features)


def test_tiles_of_a_large_batch_are_never_in_memory_at_once():
    inputs, kernel = jnp.ones((64, 32, 32, 64)), jnp.ones((3, 3, 64, 64))
    program = jax.jit(lambda x, w: convolve(x, w, 1, ((1, 1), (1, 1)))).lower(inputs, kernel)
    tiles = 4 * inputs.nbytes
    assert program.compile().memory_analysis().temp_size_in_bytes < tiles / 2


def test_results_of_layers_of_one_shape_are_not_in_memory_at_once():
    inputs, kernel = jnp.ones((64, 32, 32, 32)), jnp.ones((3, 3, 32, 32))

    def layers(inputs, kernel):
        for _ in range(8):
            inputs = jax.nn.relu(convolve(inputs, kernel, 1, ((1, 1), (1, 1))))
        return inputs

    program = jax.jit(layers).lower(inputs, kernel).compile()
    assert program.memory_analysis().temp_size_in_bytes < 5 * inputs.nbytes


def check_value_and_gradients(shape, size, stride, padding, channels, features, images):
    tall, wide = shape
    random = np.random.default_rng(0)
    inputs = random.normal(size=(images, tall, wide, channels)).astype(np.float32)
    kernel = random.normal(size=(size, size, channels, features)).astype(np.float32)
    outputs, transpose = jax.vjp(lambda x, w: convolve(x, w, stride, padding), inputs, kernel)
    reference = expected(inputs, kernel, stride, padding)
    scale = np.abs(reference).max()
    np.testing.assert_allclose(outputs, reference, atol=5e-6 * scale)

    # A bilinear map: <g, f(dx, w)> is <f'(g), dx>, and likewise for the kernel.
    cotangent = random.normal(size=reference.shape).astype(np.float32)
    by_inputs, by_kernel = transpose(cotangent)
    for _ in range(3):
        moved = random.normal(size=inputs.shape).astype(np.float32)
        turned = random.normal(size=kernel.shape).astype(np.float32)
        for found, direction, change in (
            (by_inputs, moved, expected(moved, kernel, stride, padding)),
            (by_kernel, turned, expected(inputs, turned, stride, padding)),
        ):
            size_of_terms = np.linalg.norm(cotangent) * np.linalg.norm(change)
            np.testing.assert_allclose(
                np.vdot(found.astype(np.float64), direction),
                np.vdot(cotangent, change),
                atol=2e-6 * size_of_terms,
            )


@pytest.mark.parametrize("stride", [1, 2])
def test_a_kernel_that_does_not_fit_has_no_outputs_and_no_gradient(stride):
    inputs, kernel = jnp.ones((2, 2, 5, 32)), jnp.ones((3, 3, 32, 32))
    outputs, transpose = jax.vjp(
        lambda x, w: convolve(x, w, stride, ((0, 0), (0, 0))), inputs, kernel
    )
    assert outputs.shape == (2, 0, 3 // stride + stride - 1, 32)
    assert not any(gradient.any() for gradient in transpose(outputs))


@pytest.mark.parametrize("stride", [1, 2])
def test_negative_padding_cuts_off(stride):
    inputs = jax.random.normal(jax.random.key(0), (2, 6, 7, 32))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 32, 32))
    found = convolve(inputs, kernel, stride, ((-1, 0), (1, -2)))
    whole = expected(np.asarray(inputs)[:, 1:, :-2], np.asarray(kernel), stride, ((0, 0), (1, 0)))
    np.testing.assert_allclose(found, whole, atol=5e-6 * np.abs(whole).max())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shared", ["kernel", "inputs"])
def test_the_gradient_of_what_devices_share_is_summed_over_them(shared, stride, monkeypatch):
    monkeypatch.setattr(convolution, "_FEWEST_TAPS", 0)
    monkeypatch.setattr(image_parts, "_ENTRIES", 2**14)
    random = np.random.default_rng(0)
    inputs = random.normal(size=(4, 5, 5, 32)).astype(np.float32)
    kernels = random.normal(size=(2, 3, 3, 32, 32)).astype(np.float32)
    mesh = jax.make_mesh((2,), ("x",), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    whole, split = jax.sharding.PartitionSpec(), jax.sharding.PartitionSpec("x")

    def gradients(inputs, kernel):
        def total(inputs, kernel):
            outputs = convolve(inputs, kernel, stride, ((1, 1), (1, 1)))
            return jnp.sum(outputs**2)

        return jax.grad(total, (0, 1))(inputs, kernel)

    def plain(inputs, kernel):
        outputs, transpose = jax.vjp(
            lambda x, w: jax.lax.conv_general_dilated(
                x, w, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=LAYOUT
            ),
            inputs,
            kernel,
        )
        return transpose(2 * outputs)

    if shared == "kernel":
        specs, given = (split, whole), (inputs, kernels[0])
        of_all = plain(*given)
    else:
        specs, given = (whole, split), (inputs, kernels.reshape(6, 3, 32, 32))
        each = [plain(inputs, kernel) for kernel in kernels]
        of_all = each[0][0] + each[1][0], jnp.concatenate([each[0][1], each[1][1]])
    on_devices = jax.jit(jax.shard_map(gradients, mesh=mesh, in_specs=specs, out_specs=specs))
    for found, expected_sum in zip(on_devices(*given), of_all, strict=True):
        np.testing.assert_allclose(found, expected_sum, atol=1e-5 * np.abs(expected_sum).max())


def test_where_a_step_is_mapped_nothing_is_added():
    inputs, kernel = jnp.ones((2, 1, 5, 5, 32)), jnp.ones((3, 3, 32, 32))
    mapped = jax.pmap(
        lambda inputs, kernel: convolve(inputs, kernel, 1, ((1, 1), (1, 1))),
        in_axes=(0, None),
        devices=jax.devices()[:2],
    )
    program = str(jax.make_jaxpr(mapped)(inputs, kernel))
    assert "shard_map" in program
    assert "reduce_sum" not in program and "pvary" not in program


def test_one_gradient_alone_does_not_compute_the_other():
    inputs, kernel = jnp.ones((1, 8, 8, 5)), jnp.ones((3, 3, 5, 4))

    def total(inputs, kernel):
        return convolve(inputs, kernel, 1, ((1, 1), (1, 1))).sum()

    def convolutions(wanted):
        program = str(jax.make_jaxpr(jax.grad(total, wanted))(inputs, kernel))
        return program.count("conv_general_dilated[")

    assert max(convolutions(0), convolutions(1)) < convolutions((0, 1))


@pytest.mark.parametrize(
    ("wanted", "images", "size", "stride", "channels", "is_xla"),
    [
        ("outputs", 2, 3, 2, 32, False),
        ("outputs", 2, 3, 2, 31, True),
        ("kernel", 8, 3, 1, 16, False),  # 8 · 32² · 9 · 16 taps, more than 2²⁰
        ("kernel", 4, 3, 1, 16, True),
        ("kernel", 1, 1, 1, 16, False),
        ("kernel", 8, 5, 1, 16, True),
    ],
)
def test_xla_s_convolutions_are_left_where_they_are_slower(
    wanted, images, size, stride, channels, is_xla
):
    side = size // 2
    inputs, kernel = jnp.ones((images, 32, 32, channels)), jnp.ones((size, size, channels, 16))

    def outputs(kernel):
        return convolve(inputs, kernel, stride, ((side, side), (side, side)))

    def gradient(cotangent):
        return jax.vjp(outputs, kernel)[1](cotangent)

    # The outputs are not computed for the gradient: it is linear in the kernel.
    program = jax.jit(outputs).lower(kernel) if wanted == "outputs" else None
    program = program or jax.jit(gradient).lower(outputs(kernel))
    assert ("convolution(" in program.compile().as_text()) == is_xla


def test_no_gradient_of_no_outputs():
    inputs, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((3, 3, 4, 4))
    gradients = jax.grad(
        lambda x, w: (
            jax.lax.stop_gradient(convolve(x, w, 1, ((1, 1), (1, 1)))).sum() + x[0, 0, 0, 0]
        ),
        (0, 1),
    )(inputs, kernel)
    assert float(gradients[0].sum()) == 1.0 and not gradients[1].any()


def test_a_second_derivative():
    inputs = jax.random.normal(jax.random.key(0), (1, 6, 6, 32))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 32, 32)) / 20

    def energy(convolution, inputs):
        return jnp.sum(jax.grad(lambda x: jnp.sum(convolution(x) ** 3))(inputs) ** 2)

    ours = jax.grad(lambda x: energy(lambda x: convolve(x, kernel, 1, ((1, 1), (1, 1))), x))(inputs)
    plain = jax.grad(
        lambda x: energy(
            lambda x: jax.lax.conv_general_dilated(
                x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=LAYOUT
            ),
            x,
        )
    )(inputs)
    np.testing.assert_allclose(ours, plain, atol=1e-4 * float(jnp.abs(plain).max()))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_winograd_is_for_float32_alone(dtype, monkeypatch):
    calls = []
    monkeypatch.setattr(
        winograd, "convolve", lambda *arguments, **_: calls.append(1) or jnp.zeros((2, 8, 8, 32))
    )
    inputs, kernel = jnp.zeros((2, 8, 8, 32), dtype), jnp.zeros((3, 3, 32, 32), dtype)
    convolve(inputs, kernel, 1, ((1, 1), (1, 1)))
    assert len(calls) == (dtype == jnp.float32)


@pytest.mark.parametrize("name", ["resnet_18", "wide_resnet_16_4", "small_cnn", "cifar_resnet_8"])
def test_no_network_is_slow_in_a_loop(name):
    model = models.create(name)
    images = jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)

    def ascend(images):
        return jax.grad(lambda x: model.apply(variables, x, train=False).sum())(images)

    assert not cpu.is_slow_in_a_loop(ascend, images)
    assert cpu.is_slow_in_a_loop(
        jax.grad(
            lambda x: jax.lax.conv_general_dilated(
                x, jnp.ones((3, 3, 3, 3)), (1, 1), "SAME", dimension_numbers=LAYOUT
            ).sum()
        ),
        images,
    )


def two_convolutions(images, kernel):
    return convolve(jax.nn.relu(convolve(images, kernel, 1, "SAME")), kernel, 1, "SAME")


@pytest.mark.parametrize(
    ("platform", "dtype", "apart"),
    [
        ("tpu", jnp.bfloat16, True),
        ("tpu", jnp.float32, True),
        ("cuda", jnp.bfloat16, False),
        ("cuda", jnp.float32, False),
        ("cpu", jnp.bfloat16, False),
    ],
)
def test_on_a_tpu_alone_gradients_are_kept_apart(platform, dtype, apart):
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((2, 8, 8, 32), (3, 3, 32, 32))]

    def has_barriers(function):
        traced = jax.jit(function).trace(*shapes)
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        return "stablehlo.optimization_barrier" in text

    # In the forward pass what follows a convolution may still be joined to it.
    assert not has_barriers(two_convolutions)
    assert has_barriers(jax.grad(lambda *args: two_convolutions(*args).sum())) == apart


def test_in_bfloat16_a_network_is_differentiated_forwards_too():
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3), jnp.bfloat16)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 3), jnp.bfloat16)
    tangent = jnp.ones_like(images)
    _, found = jax.jvp(lambda images: two_convolutions(images, kernel), (images,), (tangent,))
    _, pulled = jax.vjp(lambda images: two_convolutions(images, kernel), images)
    seen = jnp.ones_like(found)
    forwards = jnp.sum(found.astype(jnp.float32))
    backwards = jnp.sum(pulled(seen)[0].astype(jnp.float32))
    np.testing.assert_allclose(forwards, backwards, rtol=0.05)
