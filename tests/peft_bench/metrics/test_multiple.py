from __future__ import annotations

import pytest

from peft_bench.metrics.multiple import PscpConstants, holm, pscp


def test_holm_by_hand() -> None:
    # 0.01 * 4, 0.02 * 3, max(0.06, 0.03 * 2), max(., 0.5): Holm (1979)
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    assert holm([0.04]) == [0.04]


def test_holm_refuses_what_is_no_p() -> None:
    with pytest.raises(ValueError, match="no p-value"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match="no p-value"):
        holm([float("nan")])


def test_pscp_halves_at_each_constant() -> None:
    assert pscp(0.8, trainable_parameters=0, memory_bytes=0) == 0.8
    assert pscp(0.8, trainable_parameters=500_000_000, memory_bytes=0) == pytest.approx(0.4)
    assert pscp(0.8, trainable_parameters=0, memory_bytes=94_000_000_000) == pytest.approx(0.4)
    everything = pscp(
        0.8, trainable_parameters=500_000_000, memory_bytes=94_000_000_000, inference_flops=10e12
    )
    assert everything == pytest.approx(0.1)
    free = PscpConstants(parameters_exponent=0)
    half = pscp(0.8, trainable_parameters=10**12, memory_bytes=0, constants=free)
    assert half == 0.8
