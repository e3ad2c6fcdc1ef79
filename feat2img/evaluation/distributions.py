"""Distances between the sets of originals and reconstructions, from pooled features of a named network.

Features lie on disk and are read in pieces, so that memory does not grow with the number of images.
"""

from os import PathLike
from pathlib import Path

import numpy as np
from torch import Tensor

KID_SUBSETS = 50
KID_SUBSET_SIZE = 500
READ_ROWS = 256
MIN_IMAGES = 8  # a quarter of them make the smallest subset with a pair


class FeatureFile:
    """Pooled features of images as float32 rows in a file that only grows.

    Args:
        path: file; what is in it is kept.
        dim: numbers per image.
    """

    def __init__(self, path: str | PathLike, dim: int):
        self.path, self.dim = Path(path), dim
        self.path.touch()

    def __len__(self) -> int:
        return self.path.stat().st_size // (4 * self.dim)

    def append(self, features: Tensor) -> None:
        """Add features (B, dim)."""
        with open(self.path, "ab") as file:
            file.write(np.ascontiguousarray(features.cpu().numpy(), dtype=np.float32).tobytes())

    def truncate(self, rows: int) -> None:
        """Keep the first rows. Raises ValueError when there are fewer."""
        if len(self) < rows:
            raise ValueError(f"{self.path} holds {len(self)} rows, expected {rows}: delete its folder and start again")
        with open(self.path, "r+b") as file:
            file.truncate(rows * self.dim * 4)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """The chosen rows: float64 (len(indices), dim)."""
        result = np.empty((len(indices), self.dim))
        with open(self.path, "rb") as file:
            for place, index in enumerate(indices):
                file.seek(int(index) * self.dim * 4)
                result[place] = np.frombuffer(file.read(self.dim * 4), dtype=np.float32)
        return result


def mean_and_covariance(features: FeatureFile, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and unbiased covariance (D, D) of the chosen rows, in float64, in two passes."""
    pieces = [indices[start : start + READ_ROWS] for start in range(0, len(indices), READ_ROWS)]
    mean = sum(features.rows(piece).sum(axis=0) for piece in pieces) / len(indices)
    covariance = np.zeros((features.dim, features.dim))
    for piece in pieces:
        centred = features.rows(piece) - mean
        covariance += centred.T @ centred
    return mean, covariance / (len(indices) - 1)


def matrix_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a positive semi-definite matrix; eigenvalues below 0 by rounding count as 0."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def frechet_distance(mean_a: np.ndarray, root_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray) -> float:
    """Squared Frechet distance of two Gaussians (Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500, eq. 6).

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), from 0; with A's root the last trace is that of
    (A^(1/2) B A^(1/2))^(1/2), a symmetric matrix.

    Args:
        root_a: `matrix_root` of the first covariance.
    """
    cross = np.linalg.eigvalsh(root_a @ covariance_b @ root_a).clip(min=0)
    traces = np.square(root_a).sum() + np.trace(covariance_b) - 2 * np.sqrt(cross).sum()
    return max(0.0, float(np.square(mean_a - mean_b).sum() + traces))


def polynomial_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(a . b / D + 1)^3 for all pairs of rows: (M, D), (N, D) => (M, N)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012, eq. 3) with KID's kernel; may be below 0."""
    within = []
    for rows in (a, b):
        kernel = polynomial_kernel(rows, rows)
        within.append((kernel.sum() - np.trace(kernel)) / (len(rows) * (len(rows) - 1)))
    return float(within[0] + within[1] - 2 * polynomial_kernel(a, b).mean())


def kernel_distance(
    a: FeatureFile, rows_a: np.ndarray, b: FeatureFile, rows_b: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """KID (Binkowski et al. 2018, arXiv:1801.01401): mean and standard deviation of the MMD over random subsets.

    50 subsets of 500 rows, or of half the rows where there are fewer, so that the subsets differ.
    """
    generator = np.random.default_rng(seed)
    size = min(KID_SUBSET_SIZE, len(rows_a) // 2, len(rows_b) // 2)
    values = []
    for _ in range(KID_SUBSETS):
        chosen = (rows[generator.choice(len(rows), size, replace=False)] for rows in (rows_a, rows_b))
        values.append(squared_mmd(*(file.rows(part) for file, part in zip((a, b), chosen, strict=True))))
    return float(np.mean(values)), float(np.std(values))


class Reference:
    """The originals' features, to which sets of reconstructions are compared."""

    def __init__(self, originals: FeatureFile, seed: int = 0):
        self.originals, self.seed = originals, seed
        self.all_rows = np.arange(len(originals))
        self.mean, covariance = mean_and_covariance(originals, self.all_rows)
        self.root = matrix_root(covariance)

    def distances(self, features: FeatureFile) -> dict[str, float]:
        """kid, kid_std and frechet of reconstructions of the same photos."""
        rows = np.arange(len(features))
        kid, kid_std = kernel_distance(self.originals, self.all_rows, features, rows, self.seed)
        return {
            "kid": kid,
            "kid_std": kid_std,
            "frechet": frechet_distance(self.mean, self.root, *mean_and_covariance(features, rows)),
        }

    def floors(self) -> dict[str, float]:
        """Real against real: the distances of two random halves of the originals."""
        order = np.random.default_rng(self.seed).permutation(len(self.originals))
        first, second = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        mean, covariance = mean_and_covariance(self.originals, first)
        other = mean_and_covariance(self.originals, second)
        kid, _ = kernel_distance(self.originals, first, self.originals, second, self.seed)
        return {"kid": kid, "frechet": frechet_distance(mean, matrix_root(covariance), *other)}
