"""Visual sharpness: the proxy against its slow reference and by hand; ratings against means by hand."""

import doctest
import math

import numpy as np
import pytest
import torch
from reference import maps as reference
from small_models import every_batch_and_order, untouched

from cardgen import explain, measure
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.metrics.minimality import visual_sharpness
from cardgen.ratings import Ratings
from cardgen.study import Study, Subject

KEY = "visual_sharpness"
IDS = tuple("abcdefg")


def found(small, maps):
    return measure(KEY, *small.call, maps=maps)


class TestProxy:
    def test_agrees_with_the_reference(self, tiny):
        for maps in (
            tiny.maps,
            tiny.maps - 0.5,
            1e8 * tiny.maps**3,
            torch.nn.functional.avg_pool2d(tiny.maps, 3, 1, 1),
        ):
            scores = found(tiny, maps)
            assert scores.values == pytest.approx([reference.fine_share(m) for m in maps], abs=1e-9)
            assert scores.valid.all()

    def test_by_hand(self, tiny):
        # Stripes of a period of 2, 12, 4 and 3 rows have all their energy at ½, 1/12, exactly ¼, and ⅓ cycles a pixel. A wave of ⅙ down
        # and 1/5 across lies at √(1/36 + 1/25) = 0.26; a checkerboard at √½. One lit pixel has the same energy at all 119
        # frequencies other than the mean's; those above ¼ are counted.
        i, j = torch.arange(12.0)[:, None].expand(12, 10), torch.arange(10.0).expand(12, 10)
        waves = [2 * math.pi * i / period for period in (2, 12, 4, 3)] + [
            2 * math.pi * (i / 6 + j / 5),
            math.pi * (i + j),
        ]
        pixel = torch.zeros(12, 10)
        pixel[3, 4] = 7
        maps = torch.stack([*(5 + w.cos() for w in waves), pixel])
        above = sum(math.hypot(k / 12, m / 10) > 0.25 + 1e-9 for k in range(-5, 7) for m in range(-4, 6))
        assert found(tiny, maps).values == pytest.approx([1, 0, 0, 1, 1, 1, above / 119], abs=1e-6)

    def test_white_noise(self):
        maps = torch.randn(20, 100, 100, generator=torch.Generator().manual_seed(0))
        assert visual_sharpness.energy_share(maps).mean().item() == pytest.approx(1 - math.pi / 16, abs=2e-3)

    MUTATIONS = {  # noqa: RUF012
        "above a quarter of Nyquist": lambda m: reference.fine_share(m, bar=0.125),
        "above either axis's half": lambda m: reference.fine_share(m, distance=max),
        "amplitudes": lambda m: reference.fine_share(m, power=0.5),
        "with the mean": lambda m: reference.fine_share(m) * (1 - m.mean() ** 2 / (m**2).mean()).item(),
    }

    @pytest.mark.parametrize("name", MUTATIONS)
    def test_a_wrong_reference_would_be_seen(self, tiny, name):
        wrong = [self.MUTATIONS[name](m) for m in tiny.maps]
        assert np.abs(found(tiny, tiny.maps).values - wrong).max() > 0.01

    def test_flat_maps_have_none(self, tiny):
        maps = tiny.maps.clone()
        maps[2], maps[5] = 0.0, -3.5
        scores = found(tiny, maps)
        assert (~scores.valid).nonzero()[0].tolist() == [2, 5]
        kept = scores.values[scores.valid]
        assert scores.reported == {"spectral_share": pytest.approx(kept.mean())}
        assert scores.reason == (
            f"Nobody has rated these maps; of their spectral energy {kept.mean():.0%} lies above half the Nyquist frequency."
        )

    def test_only_flat_maps(self, tiny):
        scores = found(tiny, torch.ones_like(tiny.maps))
        assert scores.reason == "Nobody has rated these maps."
        assert scores.reported == {"spectral_share": None}

    def test_the_docstring(self):
        assert doctest.testmod(visual_sharpness).failed == 0

    def test_any_batch_and_order(self, tiny):
        def score(rows, batch):
            some = tiny.take(rows)
            return measure(KEY, *some.call, maps=some.maps, batch=batch).values

        every_batch_and_order(score)

    def test_nothing_is_touched(self, tiny):
        with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
            found(tiny, tiny.maps)


def rows(method, *ratings):
    """Ratings of one method's maps of a, b, …: one string of digits an image, one digit a rater, a dot where there is none."""
    return {
        (method, image): {rater: float(digit) for rater, digit in zip("xyz", digits, strict=False) if digit != "."}
        for image, digits in zip(IDS, ratings, strict=False)
    }


def rated(small, ratings, method="vanilla_gradients", ids=IDS):
    subject = Subject(*small.call, ids, ratings=Ratings(ratings))
    study = Study(subject, len(ids), METHODS[method], METHODS[method].parameters({}))
    return METRICS[KEY].measure(study, {})


RATINGS = {
    **rows("vanilla_gradients", "543", "5..", "42.", "4.2", "555", "11"),
    **rows("noise", "212", "111", "12.", "111", "1..", "22"),
    **rows("noise_7", "332", "111", "23.", ".11", "111", "33"),
    **rows("grad_cam", "5555", "111"),
}


class TestRatings:
    def test_by_hand(self, tiny):
        # a: all three rated everything; b: x alone the method's map; c and f: x and y; d: z alone all maps; e: x alone the noise; g: none
        scores = rated(tiny, RATINGS)
        assert scores.valid.tolist() == [True, False, True, False, False, True, False]
        assert scores.values[scores.valid] == pytest.approx([4, 3, 1])
        assert set(scores.parts) == {"rated/noise", "rated/noise_7"}
        assert scores.parts["rated/noise"][:, scores.valid] == pytest.approx(np.array([[5 / 3, 1.5, 2]]))
        assert scores.parts["rated/noise_7"][:, scores.valid] == pytest.approx(np.array([[8 / 3, 2.5, 3]]))
        assert scores.reported["raters"] == 3
        assert scores.reported["alpha"] == Ratings(RATINGS).alpha
        maps = explain("vanilla_gradients", *tiny.call)
        assert scores.reported["spectral_share"] == pytest.approx(np.mean([reference.fine_share(m) for m in maps]))

    def test_other_methods_ratings_have_no_part_in_the_scores(self, tiny):
        fewer = {place: row for place, row in RATINGS.items() if place[0] != "grad_cam"}
        one, other = rated(tiny, RATINGS), rated(tiny, fewer)
        np.testing.assert_array_equal(one.values, other.values)
        assert one.parts.keys() == other.parts.keys()

    def test_without_noise(self, tiny):
        scores = rated(tiny, rows("vanilla_gradients", "543", "5.5"))
        assert scores.valid.tolist() == [True, True] + [False] * 5
        assert scores.values[:2] == pytest.approx([4, 5])
        assert scores.parts == {}
        assert scores.reason == "Rated, but no noise beside it: described, not judged."

    def test_a_method_that_nobody_rated_has_the_proxy(self, tiny):
        scores = rated(tiny, RATINGS, "rise")
        np.testing.assert_array_equal(scores.values, measure(KEY, *tiny.call, method="rise").values)
        assert "alpha" not in scores.reported

    def test_noise_is_not_its_own_control(self, tiny):
        assert set(rated(tiny, RATINGS, "noise").parts) == {"rated/noise_7"}

    def test_any_batch_and_order(self, tiny):
        ratings = {**RATINGS, **rows("vanilla_gradients", *["543", "52", "42", "44", "55", "11", "33"])}
        ratings |= {("noise", image): {"x": 1.0, "y": 1.0} for image in IDS} | {
            ("noise_7", image): {"x": 2.0, "y": 1.0} for image in IDS
        }

        def score(chosen, batch):
            return rated(tiny.take(chosen), ratings, ids=tuple(IDS[i] for i in chosen)).values

        every_batch_and_order(score)
