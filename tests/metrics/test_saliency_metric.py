"""The saliency metric against its slow reference, by hand, and under wrong versions of itself."""

import math

import numpy as np
import pytest
import torch
from reference import boxes as reference
from reference import curves
from small_models import every_batch_and_order, untouched

from cardgen import measure
from cardgen.boxes import cropped, moved, share, tightest
from cardgen.draws import content_ids
from cardgen.errors import CardgenError
from cardgen.metrics import METRICS
from cardgen.metrics.input_sensitivity.saliency_metric import SHARES
from cardgen.study import Study, Subject
from cardgen.thresholds import DEFAULTS
from cardgen.verdicts import RULES

KEY = "saliency_metric"
TOLERANCE = 1e-4
ALL = (*SHARES, 1.0)


def found(small, **options):
    return measure(KEY, *small.call, maps=small.maps, **options)


def tables(small):
    """The score of each box, [n, boxes]."""
    return np.array(
        [
            reference.scores(small.model, small.inputs[i], int(small.targets[i]), small.maps[i], ALL)
            for i in range(len(small.inputs))
        ]
    )


def smooth(tiny):
    """One broad hill a map, whose boxes grow slowly: those of random maps soon hold the whole image."""
    draws = torch.Generator().manual_seed(1)
    rows, columns = torch.arange(12.0)[:, None], torch.arange(10.0)
    peaks = torch.rand(7, 2, generator=draws) * torch.tensor([11.0, 9.0])
    maps = torch.stack([-((rows - y) ** 2) - (columns - x) ** 2 for y, x in peaks])
    return tiny._replace(maps=maps)


def test_agrees_with_the_reference(tiny):
    small = smooth(tiny)
    scores, table = found(small), tables(small)
    np.testing.assert_allclose(scores.values, table.min(1), rtol=0, atol=TOLERANCE)
    assert len(set(table.argmin(1))) > 2  # no one share serves all samples best
    single = table.mean(0)
    assert scores.reported["share"] == ALL[single.argmin()]
    assert scores.reported["at_share"] == pytest.approx(single.min(), abs=TOLERANCE)
    at_mean = [
        reference.above_mean(small.model, x, int(t), a)
        for x, t, a in zip(small.inputs, small.targets, small.maps, strict=True)
    ]
    assert scores.reported["at_mean"] == pytest.approx(np.mean(at_mean), abs=TOLERANCE)
    assert scores.valid.all()


MUTATIONS = {
    "least salient first": lambda monkey: monkey.setattr(
        reference, "descending", lambda saliency, right=curves.descending: right(-saliency)
    ),
    "one row too few": lambda monkey: monkey.setattr(
        reference,
        "tightest",
        lambda pixels, right=reference.tightest: (lambda t, b, le, r: (t, max(t, b - 1), le, r))(*right(pixels)),
    ),
    "another class": lambda monkey: monkey.setattr(
        reference, "score", lambda m, x, t, box, right=reference.score: right(m, x, (t + 1) % 4, box)
    ),
    "small areas count in full": lambda monkey: monkey.setattr(
        reference, "score", lambda m, x, t, box, right=reference.score: right(m, x, t, box, smallest=0.0)
    ),
    "cut out but not resized": lambda monkey: monkey.setattr(
        reference,
        "crop",
        lambda image, box: torch.nn.functional.pad(
            image[:, box[0] : box[1] + 1, box[2] : box[3] + 1], (box[2], 9 - box[3], box[0], 11 - box[1])
        ).double(),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_wrong_reference_would_be_seen(tiny, name, monkeypatch):
    small = smooth(tiny)
    MUTATIONS[name](monkeypatch)
    assert np.abs(found(small).values - tables(small).min(1)).max() > 100 * TOLERANCE


class Light(torch.nn.Module):
    """f_0 is the mean light of the image, cut to 0.001 … 0.999."""

    def __init__(self):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        p = x.mean((1, 2, 3)).clamp(1e-3, 1 - 1e-3) + self.nothing
        return torch.stack([p.log(), (1 - p).log()], 1)


def test_by_hand():
    # A dark image of 10 × 10 with a white corner of 4 × 5. A map that finds it: boxes of up to 5 pixels' area have
    # log 0.05 − log 0.999, the least there can be. A map that finds the opposite corner first, and the white one's outermost pixel
    # next: boxes of up to 20 pixels are dark, at best log 0.05 − log 0.001 = 3.91; all others are the whole image, log 1 − log 0.2.
    images, maps = torch.zeros(2, 1, 10, 10), torch.zeros(2, 10, 10)
    images[:, :, :4, :5] = 1.0
    maps[0, :4, :5] = 1.0
    maps[1, 6:, 5:] = 1.0
    maps[1, 0, 0] = 0.5
    scores = measure(KEY, Light(), images, torch.tensor([0, 0]), maps=maps)
    bright, dark = math.log(0.05) - math.log(0.999), math.log(0.05) - math.log(0.001)
    assert scores.values == pytest.approx([bright, math.log(5)], abs=1e-5)
    assert scores.reported["share"] == 0.0  # one for both: a single pixel, white or dark
    assert scores.reported["at_share"] == pytest.approx((bright + dark) / 2, abs=1e-5)
    # above the mean lie the 20 white pixels, and with the opposite corner's the outermost white one: log 0.2 − log 0.999, log 5
    at_mean = (math.log(0.2) - math.log(0.999) + math.log(5)) / 2
    assert scores.reported["at_mean"] == pytest.approx(at_mean, abs=1e-5)
    assert scores.reported["area"] <= (0.05 + 1) / 2


def test_the_whole_image_is_one_of_the_boxes(tiny):
    scores = found(tiny)
    clean = tiny.model(tiny.inputs).log_softmax(1).gather(1, tiny.targets[:, None])[:, 0]
    assert (scores.values <= -clean.detach().numpy() + 1e-6).all()


def test_probabilities_that_round_to_zero(tiny):
    class Sure(torch.nn.Module):
        def forward(self, x):
            return torch.stack([x.mean((1, 2, 3)) * 0, x.mean((1, 2, 3)) + 400], 1)

    scores = measure(KEY, Sure(), tiny.inputs, torch.zeros(7, dtype=torch.int64), maps=tiny.maps)
    assert (scores.values > 380).all()  # finite, though exp(−400) is 0 in float32


@pytest.mark.parametrize(
    "box", [(0, 11, 0, 9), (3, 3, 4, 4), (0, 0, 0, 9), (2, 7, 5, 9), (11, 11, 9, 9), (1, 10, 0, 0)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_crops_are_those_of_interpolate(box, dtype):
    image = torch.rand(3, 12, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    top, bottom, left, right = box
    crop = image[None, :, top : bottom + 1, left : right + 1].to(torch.promote_types(dtype, torch.float32))
    expected = torch.nn.functional.interpolate(crop, size=(12, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(cropped(image, torch.tensor([box, box]))[1], expected[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(reference.crop(image, box).to(expected), expected[0], rtol=0, atol=1e-5)


def test_nothing_outside_a_box_comes_in():
    image = torch.zeros(1, 12, 10)
    image[:, 4:8, 3:6] = 1.0
    assert cropped(image, torch.tensor([[4, 7, 3, 5]])).eq(1).all()


def test_boxes_by_hand():
    # pixels (0, 1), (2, 0), (1, 3) of an image of 3 × 4
    order = torch.tensor([[1, 8, 7, *[p for p in range(12) if p not in (1, 8, 7)]]])
    boxes = tightest(order, torch.tensor([[1, 2, 3, 12]]), 4)
    assert boxes.tolist() == [[[0, 0, 1, 1], [0, 2, 0, 1], [0, 2, 0, 3], [0, 2, 0, 3]]]
    assert share(boxes, 12).tolist() == [[1 / 12, 0.5, 1.0, 1.0]]


def test_values_do_not_count_but_their_order(tiny):
    small = smooth(tiny)
    one, other = found(small), found(small._replace(maps=(small.maps / 4).exp()))
    np.testing.assert_array_equal(one.values, other.values)
    assert one.reported["at_mean"] != other.reported["at_mean"]


def places(side=12):
    """Rows and columns of an image."""
    return torch.arange(side)[:, None], torch.arange(side)


def test_shapes_do_not_beat_their_own_boxes_elsewhere_and_the_truth_does():
    # Two classes, so that small boxes score well by themselves, wherever they lie; one white square an image.
    draws, n = torch.Generator().manual_seed(0), 80
    rows, columns = places()
    images, spike, blob, corner = (
        torch.zeros(n, 12, 12),
        torch.zeros(n, 12, 12),
        torch.zeros(n, 12, 12),
        torch.ones(n, 12, 12),
    )
    corner[:, 0, 0] = 0
    for i in range(n):
        top, left, y, x = torch.randint(9, (4,), generator=draws).tolist()
        images[i, top : top + 4, left : left + 4] = 1.0
        spike[i, y + 1, x + 1] = 1.0
        blob[i] = torch.exp(-((rows - y - 1.5) ** 2 + (columns - x - 1.5) ** 2) / 8)
    call = (Light(), images[:, None], torch.zeros(n, dtype=torch.int64))

    def lead(maps):
        """The interval of the difference to the map's own boxes elsewhere."""
        scores = measure(KEY, *call, maps=maps)
        decision = RULES["matched_noise"](scores, {}, METRICS[KEY].entry, DEFAULTS, 0)
        assert decision.verdict == "descriptive"
        return decision.controls["own_boxes_elsewhere"].interval, decision.reason

    for maps in (spike, blob, corner, torch.rand(n, 12, 12, generator=draws)):
        assert lead(maps)[0][0] <= 0
    interval, reason = lead(images)
    assert interval[0] > 0.5
    assert reason.startswith("Beats its own boxes elsewhere by ")
    assert reason.endswith(" standard deviations: described, not judged.")


def test_boxes_elsewhere_are_of_the_same_sizes_and_anywhere():
    draws = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[[2, 4, 1, 1], [0, 11, 0, 9], [3, 3, 9, 9]]]).expand(4000, -1, -1)
    found = moved(boxes, torch.rand(4000, 3, 2, generator=draws), 12, 10)
    for k, (tall, wide) in enumerate(((3, 1), (12, 10), (1, 1))):
        top, bottom, left, right = found[:, k].T
        assert (bottom - top + 1).unique().tolist() == [tall]
        assert (right - left + 1).unique().tolist() == [wide]
        assert torch.bincount(top).tolist() == pytest.approx([4000 / (13 - tall)] * (13 - tall), rel=0.25)
        assert torch.bincount(left).tolist() == pytest.approx([4000 / (11 - wide)] * (11 - wide), rel=0.25)


def test_draws_of_boxes_elsewhere(tiny):
    few, more = (found(smooth(tiny), noise_draws=k).parts["matched/own_boxes_elsewhere"] for k in (2, 4))
    assert more.shape == (4, 7)
    np.testing.assert_array_equal(more[:2], few)
    assert (more[0] != more[1]).any()
    every_batch_and_order(
        lambda rows, batch: found(smooth(tiny).take(rows), batch=batch, noise_draws=1).parts[
            "matched/own_boxes_elsewhere"
        ][0]
    )
    with pytest.raises(CardgenError) as caught:
        found(tiny, noise_draws=0)
    assert str(caught.value) == "0 draws of boxes elsewhere; expected at least 1; raise the parameter noise_draws"


def test_segments_that_end_elsewhere_than_the_samples_asked_for(tiny):
    small, metric = smooth(tiny), METRICS[KEY]
    subject = Subject(*small.call, content_ids(small.inputs), cuts=(5,))
    some = metric.measure(Study(subject, 3, given=small.maps), metric.parameters({})).values
    np.testing.assert_allclose(some, found(small).values[:3], rtol=0, atol=1e-6)


def test_any_batch_and_order(tiny):
    small = smooth(tiny)
    every_batch_and_order(lambda rows, batch: found(small.take(rows), batch=batch).values)


def test_flat_maps_are_uniform_noise(tiny):
    flat = found(tiny._replace(maps=torch.ones(7, 12, 10)))
    assert flat.flat.all()
    whole = -tiny.model(tiny.inputs).log_softmax(1).gather(1, tiny.targets[:, None]).mean()
    assert flat.reported["at_mean"] == pytest.approx(float(whole.detach()), abs=1e-5)  # no pixel lies above the mean


def test_nothing_is_touched(tiny):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets, tiny.maps):
        found(tiny)
