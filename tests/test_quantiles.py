"""tfaug.quantiles: SciPy's values, and bits that no release of NumPy and no processor changes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import scipy.special

from tfaug import quantiles

P = (np.arange(2**15) + 0.5) / 2**16  # the cells of tfaug.rng's tables, lower half
ALPHAS = (1e-10, 0.01, 0.1, 0.2, 0.3, 0.5, 0.99, 1.0, 1.5, 2.0, 8.0, 100.0, 1.1e5, 1e7)


def _float32_steps(ours: np.ndarray, theirs: np.ndarray) -> int:
    """The largest distance in float32 numbers; both are of one sign."""
    a, b = (values.astype(np.float32).view(np.int32).astype(np.int64) for values in (ours, theirs))
    return int(np.max(np.abs(a - b)))


def test_normal_is_scipys() -> None:
    assert _float32_steps(quantiles.normal(P), scipy.special.ndtri(P)) <= 1
    np.testing.assert_allclose(quantiles.normal(P), scipy.special.ndtri(P), rtol=0, atol=1e-11)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_symmetric_beta_is_scipys(alpha: float) -> None:
    ours, theirs = quantiles.symmetric_beta(P, alpha), scipy.special.betaincinv(alpha, alpha, P)
    assert _float32_steps(ours, theirs) <= 1
    assert _float32_steps(1 - ours, 1 - theirs) <= 1


def test_exp_and_log_are_numpys() -> None:
    x = np.linspace(-700, 700, 10_001)
    np.testing.assert_allclose(quantiles.exp(x), np.exp(x), rtol=1e-15)
    np.testing.assert_allclose(quantiles.log(np.exp(x)), x, rtol=1e-15, atol=1e-15)
    assert quantiles.exp(np.array([-1e300, -701.0])).tolist() == [0.0, 0.0]


def test_bits_stay_what_they_are() -> None:
    tables: dict[object, np.ndarray] = {a: quantiles.symmetric_beta(P, a) for a in (0.2, 1.0, 8.0)}
    tables["normal"] = quantiles.normal(P)
    digests = {name: hashlib.sha256(table.tobytes()).hexdigest()[:16] for name, table in tables.items()}
    assert digests == {
        "normal": "6526dbcd23176374",
        0.2: "7c87e6f145eae843",
        1.0: "a3861120658c5bc0",
        8.0: "eedd8987ce542768",
    }


def test_nothing_is_used_that_rounds_differently_between_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> None:
        raise AssertionError("differs between releases and processors")

    for name in ("exp", "log", "power", "expm1", "log1p", "sum", "dot", "einsum"):
        monkeypatch.setattr(quantiles.np, name, refused)
    quantiles.normal(P)
    quantiles.symmetric_beta(P, 0.3)
