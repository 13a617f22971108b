"""Normal matrices of Gauss-Newton steps: products of derivatives; and their kernel compiles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from spilegate.kernels import gauss_newton, shifts


def test_normal_matrices_are_the_products_of_derivatives() -> None:
    rng = np.random.default_rng(3)
    points, gradient = rng.standard_normal((3, 2, 50)), rng.standard_normal((3, 2, 50))
    intensity, root, residual = rng.random((3, 2, 50))
    factor = np.array([0.5, 2.0])
    spectra = np.stack([intensity + 1j * gradient[0], gradient[1] + 1j * gradient[2]])
    turns = np.cross(points, gradient, axis=0)
    jacobian = -np.concatenate([turns, -(intensity / factor[:, None])[None]]) * root
    hessian, right = gauss_newton.normal_matrices(points, spectra, factor, root, residual)
    np.testing.assert_allclose(hessian, np.einsum("anp,bnp->nab", jacobian, jacobian), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(right, np.einsum("anp,np->na", jacobian, residual), rtol=1e-9, atol=1e-9)


def test_sizes_and_shifts_are_unknowns_like_turns() -> None:
    rng = np.random.default_rng(4)
    points, gradient = rng.standard_normal((3, 2, 50)), rng.standard_normal((3, 2, 50))
    intensity, root, residual = rng.random((3, 2, 50))
    factor, lateral = np.array([0.5, 2.0]), rng.standard_normal((2, 2, 3))
    spectra = np.stack([intensity + 1j * gradient[0], gradient[1] + 1j * gradient[2]])
    few = gauss_newton.normal_matrices(points, spectra, factor, root, residual)
    hessian, right = gauss_newton.normal_matrices(points, spectra, factor, root, residual, lateral)
    outwards = (points * gradient).sum(0) * root
    sideways = np.einsum("nka,anp->knp", lateral, gradient) * root
    jacobian = np.concatenate([outwards[None], sideways])
    np.testing.assert_allclose(hessian[:, :4, :4], few[0])
    np.testing.assert_allclose(right[:, :4], few[1])
    np.testing.assert_allclose(hessian[:, 4:, 4:], np.einsum("anp,bnp->nab", jacobian, jacobian), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(right[:, 4:], np.einsum("anp,np->na", jacobian, residual), rtol=1e-9, atol=1e-9)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="there is no compiler for GPUs here")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_its_kernel_compiles(architecture: str, tmp_path: Path) -> None:
    (tmp_path / "kernel.cu").write_text(gauss_newton.SOURCE)
    command = ["nvcc", "-cubin", f"-arch={architecture}", "-o", "kernel.cubin", "kernel.cu"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("source", [shifts.SOURCE, gauss_newton.SOURCE], ids=["shifts", "gauss_newton"])
def test_kernels_use_no_names_of_headers(source: str) -> None:
    """Compiled while a program runs there are none, unlike for nvcc."""
    assert not {"INFINITY", "NAN", "FLT_MAX", "M_PI"} & set(source.replace("(", " ").replace(",", " ").split())
