import numpy as np
import pytest
import torch

from feat2img.evaluation.distributions import (
    FeatureFile,
    Reference,
    frechet_distance,
    kernel_distance,
    matrix_root,
    mean_and_covariance,
    squared_mmd,
)

DIM = 12


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(shift, 1, (count, DIM)) @ rng.normal(0, 0.5, (DIM, DIM)) + shift).astype(np.float32)


def stored(path, values: np.ndarray) -> FeatureFile:
    file = FeatureFile(path, values.shape[1])
    for start in range(0, len(values), 7):
        file.append(torch.from_numpy(values[start : start + 7]))
    return file


def test_mean_and_covariance_are_numpy_s(tmp_path):
    values = features(600, 0, shift=5.0)
    rows = np.arange(40, 580)
    mean, covariance = mean_and_covariance(stored(tmp_path / "a", values), rows)
    np.testing.assert_allclose(mean, values[rows].astype(np.float64).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(values[rows].astype(np.float64), rowvar=False), rtol=1e-10)


def test_frechet_distance_is_that_of_the_definition(tmp_path):
    linalg = pytest.importorskip("scipy.linalg")
    a, b = features(400, 0).astype(np.float64), features(300, 1, shift=0.3).astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(cov_a @ cov_b).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * root)
    found = frechet_distance(a.mean(0), matrix_root(cov_a), b.mean(0), cov_b)
    assert found == pytest.approx(expected, rel=1e-8)


def test_frechet_distance_of_known_gaussians():
    # for covariances s^2 I and t^2 I it is |mean|^2 + D (s - t)^2
    eye = np.eye(DIM)
    found = frechet_distance(np.zeros(DIM), matrix_root(4 * eye), np.full(DIM, 0.5), 9 * eye)
    assert found == pytest.approx(DIM * 0.25 + DIM * 1.0)


def test_frechet_distance_with_fewer_images_than_dimensions(tmp_path):
    file = stored(tmp_path / "a", features(5, 0))
    mean, covariance = mean_and_covariance(file, np.arange(5))
    assert frechet_distance(mean, matrix_root(covariance), mean, covariance) == pytest.approx(0, abs=1e-6)


def test_mmd_is_the_double_sum_of_the_definition():
    a, b = features(9, 0).astype(np.float64), features(9, 1, 0.3).astype(np.float64)

    def kernel(x, y):
        return (float(x @ y) / DIM + 1) ** 3

    within = [np.mean([kernel(x[i], x[j]) for i in range(9) for j in range(9) if i != j]) for x in (a, b)]
    between = np.mean([kernel(x, y) for x in a for y in b])
    assert squared_mmd(a, b) == pytest.approx(sum(within) - 2 * between, rel=1e-10)


def test_mmd_agrees_with_torchmetrics():
    from torchmetrics.image.kid import maximum_mean_discrepancy, poly_kernel

    a, b = features(40, 0), features(40, 1, 0.3)
    x, y = torch.from_numpy(a).double(), torch.from_numpy(b).double()
    value = maximum_mean_discrepancy(poly_kernel(x, x), poly_kernel(x, y), poly_kernel(y, y))
    assert squared_mmd(a.astype(np.float64), b.astype(np.float64)) == pytest.approx(value.item(), rel=1e-8)


def test_kid_of_one_distribution_is_near_0_and_of_two_is_not(tmp_path):
    rng = np.random.default_rng(0)
    same = [stored(tmp_path / f"s{i}", rng.normal(size=(300, DIM)).astype(np.float32)) for i in range(2)]
    other = stored(tmp_path / "o", rng.normal(0.5, 1, size=(300, DIM)).astype(np.float32))
    rows = np.arange(300)
    near, spread = kernel_distance(same[0], rows, same[1], rows)
    far, _ = kernel_distance(same[0], rows, other, rows)
    assert abs(near) < 0.05 < far and 0 < spread < 0.1
    assert kernel_distance(same[0], rows, other, rows) == kernel_distance(same[0], rows, other, rows)


def test_floor_is_the_distance_of_two_halves_and_a_set_from_itself_is_below_it(tmp_path):
    rng = np.random.default_rng(0)
    originals = stored(tmp_path / "a", rng.normal(size=(200, DIM)).astype(np.float32))
    reference = Reference(originals)
    floors, own = reference.floors(), reference.distances(originals)
    assert own["frechet"] == pytest.approx(0, abs=1e-9) and floors["frechet"] > 0.1
    assert abs(floors["kid"]) < 0.1 and set(own) == {"kid", "kid_std", "frechet"}


def test_a_file_goes_on_from_whole_rows(tmp_path):
    values = features(10, 0)
    file = stored(tmp_path / "a", values)
    with open(file.path, "ab") as handle:
        handle.write(b"torn")
    file.truncate(6)
    file.append(torch.from_numpy(values[6:]))
    np.testing.assert_array_equal(file.rows(np.arange(10)), values)
    with pytest.raises(ValueError, match="holds 10 rows, expected 11"):
        file.truncate(11)
