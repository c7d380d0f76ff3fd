"""The direction of adversarial weight perturbation, tensor by tensor, in float64."""

import jax
import numpy as np

from robustjax.training.step.weight_perturbation import adversarial_direction


def test_each_kernel_moves_along_its_gradient_by_its_own_length_and_no_vector_does():
    rng = np.random.default_rng(0)
    shapes = {"conv": (3, 3, 2, 4), "dense": (8, 3), "bias": (3,), "scale": (1,)}
    params = {name: np.float32(rng.normal(size=shape)) for name, shape in shapes.items()}
    sizes = {"conv": 1e-6, "dense": 1e3, "bias": 1.0, "scale": 1.0}
    slopes = {name: np.float32(sizes[name] * rng.normal(size=shapes[name])) for name in shapes}
    found = jax.jit(adversarial_direction)(params, slopes)
    for name in ("conv", "dense"):
        slope = np.float64(slopes[name])
        expected = slope * np.sqrt((np.float64(params[name]) ** 2).sum() / (slope**2).sum())
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)
    for name in ("bias", "scale"):
        np.testing.assert_array_equal(found[name], 0)


def test_a_kernel_without_a_gradient_stays_where_it_is():
    params = {"used": np.ones((2, 2), np.float32), "unused": np.ones((2, 2), np.float32)}
    slopes = {"used": np.eye(2, dtype=np.float32), "unused": np.zeros((2, 2), np.float32)}
    found = adversarial_direction(params, slopes)
    np.testing.assert_array_equal(found["unused"], 0)
    np.testing.assert_allclose(found["used"], np.sqrt(2) * np.eye(2), rtol=1e-6)
    still = adversarial_direction({"zero": np.zeros((2, 2), np.float32)}, {"zero": slopes["used"]})
    np.testing.assert_array_equal(still["zero"], 0)
