import time
from types import SimpleNamespace

import jax
import pytest

from rsvl_jax.training.flops import Chrono, peak_flops


@pytest.mark.parametrize(
    ("kind", "tflops"),
    [
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H200", 989),
    ],
)
def test_peaks_by_device_kind(kind, tflops):
    device = SimpleNamespace(platform="x", device_kind=kind)
    assert peak_flops([device] * 4) == 4 * tflops * 1e12


def test_unknown_kind_has_no_peak_and_no_mfu():
    assert peak_flops([SimpleNamespace(platform="gpu", device_kind="Voodoo 2")]) is None
    assert Chrono(8, 1e6, None).lap()["perf/mfu"] is None


def test_cpu_peak_is_measured_for_the_machine():
    peak = peak_flops(jax.devices())
    assert 1e8 < peak < 1e14


def test_chrono_leaves_out_pauses_and_counts_waiting(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    chrono = Chrono(samples=8, flops_per_sample=1e6, peak=1e8)
    for _ in range(5):
        with chrono.waiting():
            now[0] += 0.5
        now[0] += 1.5
        chrono.finished_step()
    with chrono.pause():
        now[0] += 1000
    assert chrono.productive_seconds == 5 * 1.5
    lap = chrono.lap()
    assert lap == {"perf/samples_per_second": 4.0, "perf/mfu": 0.04, "perf/input_wait": 0.25}
    now[0] += 2
    chrono.finished_step()
    assert chrono.samples_per_second == 6 * 8 / 12
    assert chrono.productive_seconds == 5 * 1.5 + 2
    assert chrono.lap() == {
        "perf/samples_per_second": 4.0,
        "perf/mfu": 0.04,
        "perf/input_wait": 0.0,
    }
