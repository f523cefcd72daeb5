"""Learning-rate factors against numbers worked out by hand."""

import math

import pytest

from vln_clip.schedules import Constant, EpochSteps, Linear, Noam, Steps

PYTHIA = Steps((15_000, 18_000, 20_000, 21_000), 0.1, 1_000, 0.2)
MOVIE_MCAN = Steps((180_000, 216_000), 0.2, 54_000, 0.25)


@pytest.mark.parametrize(
    ("schedule", "iteration", "factor"),
    [
        (Constant(), 0, 1.0),
        (Constant(), 10**9, 1.0),
        (PYTHIA, 0, 0.2),
        (PYTHIA, 500, 0.6),  # half of the way from 0.2 to 1
        (PYTHIA, 1_000, 1.0),
        (PYTHIA, 14_999, 1.0),
        (PYTHIA, 15_000, 0.1),
        (PYTHIA, 18_000, 0.01),
        (PYTHIA, 20_000, 0.001),
        (PYTHIA, 21_999, 0.0001),
        (MOVIE_MCAN, 0, 0.25),
        (MOVIE_MCAN, 18_000, 0.5),  # a third of the way: 0.25 · 2/3 + 1/3
        (MOVIE_MCAN, 54_000, 1.0),
        (MOVIE_MCAN, 179_999, 1.0),
        (MOVIE_MCAN, 180_000, 0.2),
        (MOVIE_MCAN, 235_999, 0.04),
        (Linear(20, 4), 0, 0.0),
        (Linear(20, 4), 1, 0.25),
        (Linear(20, 4), 4, 1.0),
        (Linear(20, 4), 16, 0.25),  # 4 of 16 steps are left
        (Linear(20, 4), 30, 0.0),
        (Linear(10), 0, 1.0),
        (Steps((3,), 0.5), 0, 1.0),
        (Steps((3,), 0.5), 3, 0.5),
    ],
)
def test_steps_after_a_warm_up(schedule, iteration, factor):
    assert schedule(iteration) == pytest.approx(factor, rel=1e-12)


# Epoch e from 1 on ends with step 10 e. Factors 1/4, 2/4, 3/4 in epochs 1, 2, 3, then 1; 0.2 in epochs 11 and 12
# (ten are complete), 0.04 in epoch 13.
@pytest.mark.parametrize(
    ("iteration", "factor"),
    [(0, 0.25), (9, 0.25), (10, 0.5), (20, 0.75), (29, 0.75), (30, 1), (99, 1), (100, 0.2), (119, 0.2), (120, 0.04)],
)
def test_epoch_steps_are_those_of_openvqa(iteration, factor):
    assert EpochSteps(10)(iteration) == pytest.approx(factor, rel=1e-12)


def test_epochs_may_end_within_a_batch():
    schedule = EpochSteps(2.5)
    # Steps 0, 1, 2 begin before the first epoch's end at 2.5; 3 and 4 before the second's at 5.
    assert [schedule(iteration) for iteration in range(6)] == [0.25, 0.25, 0.25, 0.5, 0.5, 0.75]


def test_noam_peaks_at_the_warm_up_step():
    schedule = Noam(512, 20_000)
    assert schedule(19_999) == pytest.approx(3.125e-4, rel=1e-12)  # (512 · 20 000) ** -0.5 = 1 / 3200
    assert schedule(9_999) == pytest.approx(3.125e-4 / 2, rel=1e-12)  # linear before
    assert schedule(79_999) == pytest.approx(3.125e-4 / 2, rel=1e-12)  # a square root after: 4 times the steps
    assert schedule(0) == pytest.approx(3.125e-4 / 20_000, rel=1e-12)
    assert max(range(19_000, 21_000), key=schedule) == 19_999


def test_no_warm_up_means_the_full_rate_at_once():
    assert EpochSteps(10, warmup_epochs=0)(0) == 1.0
    assert Steps((), 0.1)(0) == 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Steps((2, 1), 0.1), r"milestones must be ascending, got \(2, 1\)"),
        (lambda: Steps((), 0.0), "ratio must be positive, got 0.0"),
        (lambda: Steps((), 0.1, -1), "warmup_iterations must be at least 0, got -1"),
        (lambda: Steps((), 0.1, 1, math.nan), r"warmup_factor must be in \[0, 1\], got nan"),
        (lambda: EpochSteps(0), "iterations_per_epoch must be positive, got 0"),
        (lambda: EpochSteps(1, -1), "warmup_epochs must be at least 0, got -1"),
        (lambda: Noam(0, 1), "width must be positive, got 0"),
        (lambda: Noam(1, 0), "warmup_steps must be positive, got 0"),
    ],
)
def test_impossible_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
