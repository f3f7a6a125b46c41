"""Methods that mask the image, against slow references and on models of which the pixels that count are known."""

import pytest
import torch
from reference import masking as reference
from reference.network import exact, probability
from sklearn.metrics import average_precision_score
from small_models import Linear, every_batch_and_order, told_apart, untouched
from torch import nn

from cardgen import explain
from cardgen.backselect import log_odds, shuffled, smallest
from cardgen.draws import content_ids, generator
from cardgen.errors import CardgenError
from cardgen.mask_slopes import enlarged
from cardgen.methods.complete_sound_mask import PHOTOGRAPHS, photographs, random_images
from cardgen.space import gaussian_blur
from cardgen.subjects.embedded import embedded_data, embedded_model

KEYS = ("sis", "batched_gradient_sis", "meaningful_perturbation", "complete_sound_mask", "igos_plus_plus")
CHEAP = {
    "sis": {"cells": 3},
    "batched_gradient_sis": {"removals": 8},
    "meaningful_perturbation": {"iterations": 4, "side": 6},
    "complete_sound_mask": {"iterations": 3, "backgrounds": 2},
    "igos_plus_plus": {"updates": 4, "points": 2, "side": 6},
}
CELL = (slice(4, 8), slice(8, 12))
"""The planted pixels of `planted`."""


def run(key, small, **options):
    return explain(key, *small.call, **CHEAP[key] | options)


def cells_of(side, h=12, w=10):
    """The number of each pixel's cell in a grid."""
    return torch.tensor([[(i * side // h) * side + j * side // w for j in range(w)] for i in range(h)])


def drawn(key, small, i, draw=0):
    return generator(0, key, draw, content_ids(small.inputs)[i])


class Needs(nn.Module):
    """Log-odds of class 0 are 8 times the mean of the planted pixels, less 4; all other pixels count nothing."""

    def __init__(self):
        super().__init__()
        weights = torch.zeros(1, 16, 16)
        weights[0][CELL] = 8 / 16
        self.weights = nn.Parameter(weights)

    def forward(self, x):
        score = (self.weights * x).sum((1, 2, 3)) - 4
        return torch.stack([score, torch.zeros_like(score)], 1)


def planted():
    """The model and two images, white in the planted cell, random elsewhere."""
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    images[:, 0, CELL[0], CELL[1]] = 1
    return Needs(), images, torch.tensor([0, 0])


def inside(maps):
    """The mean of each map in the planted cell, and outside."""
    hit = torch.zeros(16, 16, dtype=torch.bool)
    hit[CELL] = True
    return maps[:, hit].mean(1), maps[:, ~hit].mean(1)


SIS = {
    "another class": lambda test, s, i: test.expected(s, i, (int(s.targets[i]) + 1) % 4),
    "over black": lambda test, s, i: test.expected(s, i, colour=0.0),
    "a threshold of a half": lambda test, s, i: test.expected(s, i, share=0.01),
    "the worst first": lambda test, s, i: test.reversed(s, i),
}


class TestSIS:
    def expected(self, small, i, target=None, colour=0.5, share=0.9, side=3):
        target = int(small.targets[i]) if target is None else target
        image, regions = small.inputs[i], cells_of(side)
        bare = torch.full_like(image, colour)
        model, turn = exact(small.model), shuffled(side**2).argsort().tolist()
        order = reference.back_select(model, image, target, bare, regions, turn=turn)
        subset = reference.find_sis(model, image, target, bare, regions, order, share)
        return reference.worth(regions, order, subset)

    @pytest.mark.parametrize(("side", "share", "background", "colour"), [(3, 0.9, "mean", 0.5), (4, 0.7, "white", 1.0)])
    def test_agrees_with_the_reference(self, tiny, side, share, background, colour):
        small = told_apart(tiny, torch.full_like(tiny.inputs, colour))
        found = explain("sis", *small.call, cells=side, confidence=share, background=background)
        subsets = 0
        for i in (0, 3, 5):
            wanted = self.expected(small, i, side=side, share=share, colour=colour)
            torch.testing.assert_close(found[i].double(), wanted, rtol=0, atol=1e-6)
            subsets += int((wanted > 1).any())
        assert subsets, "no image needs any cell: the subsets could not differ"

    def test_by_hand(self):
        # s = 3a + 2b − c − 6d on 2 × 2 ones over black, log-odds s = −2. The best to go: d (s = 4 without), c (5), b (3), a (0).
        # f_c(x) = σ(−2) = 0.119; the bare image has σ(0) = ½, enough by itself: an empty subset.
        model, ones = Linear([3.0, 2.0, -1.0, -6.0]), torch.ones(1, 1, 2, 2)
        found = explain("sis", model, ones, torch.tensor([0]), cells=2, background="black")
        assert found[0].flatten().tolist() == [1.0, 0.75, 0.5, 0.25]
        # for the other class they go in the opposite order, a (3), b (5), c (6 − 1 …): −s = −3a − 2b + c + 6d = 2, f = 0.881;
        # d alone has σ(6) ≥ 0.9 · 0.881, the bare image has not
        found = explain("sis", model, ones, torch.tensor([1]), cells=2, background="black")
        assert found[0].flatten().tolist() == [0.25, 0.5, 0.75, 2.0]

    def reversed(self, small, i):
        bare = torch.full_like(small.inputs[i], 0.5)
        worse = lambda *a: -reference.log_odds(*a)  # noqa: E731
        order = reference.back_select(
            exact(small.model), small.inputs[i], int(small.targets[i]), bare, cells_of(3), worse
        )
        return reference.worth(cells_of(3), order, [])

    @pytest.mark.parametrize("name", SIS)
    def test_a_wrong_reference_would_be_seen(self, tiny, name):
        small = told_apart(tiny, torch.full_like(tiny.inputs, 0.5))
        found = run("sis", small)
        differ = [(found[i] - SIS[name](self, small, i)).abs().max() > 0.1 for i in range(7)]
        assert any(differ)

    def test_it_returns_the_one_cell_that_is_needed(self):
        found = explain("sis", *planted(), cells=4, background="black")
        assert (found > 1).sum((1, 2)).tolist() == [16, 16]
        assert (found[:, CELL[0], CELL[1]] == 2).all()

    def test_without_it_the_model_is_not_confident_and_with_it_alone_it_is(self, tiny):
        small = told_apart(tiny, torch.full_like(tiny.inputs, 0.5))
        for i, found in enumerate(run("sis", small)):
            target, image = int(small.targets[i]), small.inputs[i]
            kept = reference.composed(image, torch.full_like(image, 0.5), found > 1)
            assert probability(small.model, kept, target) >= 0.9 * probability(small.model, image, target)

    def test_ties_go_in_no_direction_of_the_image(self):
        found = explain("sis", Linear(torch.zeros(64)), torch.rand(1, 1, 8, 8), torch.tensor([0]), cells=8)[0]
        assert (found.flatten().argsort() == shuffled(64)).float().mean() < 1
        assert abs(found[:4].mean() - found[4:].mean()) < 0.2
        assert found.flatten().sort().values.tolist() == pytest.approx([(k + 1) / 64 for k in range(64)])

    def test_log_odds_where_the_probability_is_1(self):
        scores, targets = torch.tensor([[40.0, 0.0, 0.0], [45.0, 0.0, 0.0]]), torch.tensor([0, 0])
        assert log_odds(scores, targets).diff().item() == pytest.approx(5)
        assert log_odds(torch.tensor([[3.0]]), torch.tensor([0])).item() == 3

    def test_parameters(self, tiny):
        with pytest.raises(CardgenError, match="11 × 11 cells on images of 12 × 10 pixels; expected 2 to 10"):
            explain("sis", *tiny.call, cells=11)
        with pytest.raises(CardgenError, match=r"keeps 1\.5 of the confidence; expected a share"):
            run("sis", tiny, confidence=1.5)


GRADIENT_SIS = {
    "another class": lambda test, s, i: test.expected(s, i, (int(s.targets[i]) + 1) % 4),
    "over black": lambda test, s, i: test.expected(s, i, colour=0.0),
    "a step more": lambda test, s, i: test.expected(s, i, removals=9),
}


class TestBatchedGradientSIS:
    def expected(self, small, i, target=None, removals=8, colour=0.5, share=0.9):
        target = int(small.targets[i]) if target is None else target
        image = small.inputs[i]
        bare = torch.full_like(image, colour)
        groups = reference.gradient_back_select(exact(small.model), image, target, bare, removals)
        regions, order = torch.arange(120).view(12, 10), [p for group in groups for p in group]
        steps = torch.zeros(12, 10, dtype=torch.long)
        for step, group in enumerate(groups):
            steps.view(-1)[group] = step
        subset = reference.find_sis(exact(small.model), image, target, bare, steps, list(range(removals)), share)
        return reference.worth(regions, order, [p for step in subset for p in groups[step]])

    @pytest.mark.parametrize("removals", [7, 8])
    def test_agrees_with_the_reference(self, tiny, removals):
        small = told_apart(tiny, torch.full_like(tiny.inputs, 0.5))
        found = run("batched_gradient_sis", small, removals=removals)
        for i in (0, 3):
            wanted = self.expected(small, i, removals=removals)
            torch.testing.assert_close(found[i].double(), wanted, rtol=0, atol=1e-6)

    def test_by_hand(self):
        # on ones over black ∂s/∂z = (3, 2, −1, −6): at each of two steps two pixels go, d and c, then b and a
        model, ones = Linear([3.0, 2.0, -1.0, -6.0]), torch.ones(1, 1, 2, 2)
        options = {"removals": 2, "background": "black"}
        found = explain("batched_gradient_sis", model, ones, torch.tensor([0]), **options)
        assert found[0].flatten().tolist() == [1.0, 0.75, 0.5, 0.25]
        # for the other class c and d stay: f = σ(7) ≥ 0.9 σ(2)
        found = explain("batched_gradient_sis", model, ones, torch.tensor([1]), **options)
        assert found[0].flatten().tolist() == [0.25, 0.5, 1.75, 2.0]

    @pytest.mark.parametrize("name", GRADIENT_SIS)
    def test_a_wrong_reference_would_be_seen(self, tiny, name):
        found = run("batched_gradient_sis", tiny)
        assert any((found[i] - GRADIENT_SIS[name](self, tiny, i)).abs().max() > 0.05 for i in (0, 3))

    def test_it_finds_the_pixels_that_are_needed(self):
        found = explain("batched_gradient_sis", *planted(), removals=16, background="black")
        assert ((found > 1)[:, CELL[0], CELL[1]]).all()
        assert (found > 1).sum((1, 2)).tolist() == [16, 16]

    def test_parameters(self, tiny):
        with pytest.raises(CardgenError, match="removals is 0; expected at least 1"):
            run("batched_gradient_sis", tiny, removals=0)


PERTURBATION = {
    "another class": lambda test, s: test.expected(s, 3, target=(int(s.targets[3]) + 1) % 4),
    "no area": lambda test, s: test.expected(s, 3, area=0.0),
    "no variation": lambda test, s: test.expected(s, 3, tv=0.0),
    "no shifts": lambda test, s: test.expected(s, 3, shifts=[(0, 0)] * 4),
    "one iteration fewer": lambda test, s: test.expected(s, 3, count=3),
    "from an open mask": lambda test, s: test.expected(s, 3, start=torch.ones(6, 6, dtype=torch.float64)),
    "the mask itself": lambda test, s: 1 - test.expected(s, 3),
}


class TestMeaningfulPerturbation:
    KEY = "meaningful_perturbation"

    def shifts(self, small, i, count):
        """(down, across) of each iteration: whole pixels from −⌊J/2⌋ on, J + 1 of them; J is 1 on 12 × 10 pixels."""
        source = drawn(self.KEY, small, i)
        return [tuple(int(2 * u) for u in torch.rand(2, generator=source)) for _ in range(count)]

    def expected(self, small, i, count=4, **options):
        image, shifts = small.inputs[i], self.shifts(small, i, count)
        options = {
            "target": int(small.targets[i]),
            "background": gaussian_blur(image[None].double())[0],
            "side": 6,
        } | options
        return reference.meaningful_perturbation(small.model, image, shifts=options.pop("shifts", shifts), **options)

    def test_agrees_with_the_reference(self, tiny):
        found = run(self.KEY, tiny)
        for i in (0, 3, 4):
            torch.testing.assert_close(found[i].double(), self.expected(tiny, i), rtol=1e-3, atol=1e-4)

    def test_weights_and_background(self, tiny):
        small = told_apart(tiny, torch.ones_like(tiny.inputs))
        found = run(self.KEY, small, area_weight=0.05, tv_weight=0.2, background="white", side=3)
        wanted = self.expected(small, 1, area=0.05, tv=0.2, side=3, background=torch.ones(3, 12, 10))
        torch.testing.assert_close(found[1].double(), wanted, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("name", PERTURBATION)
    def test_a_wrong_reference_would_be_seen(self, tiny, name):
        found = run(self.KEY, tiny)[3]
        assert (found - PERTURBATION[name](self, tiny)).abs().max() > 1e-3

    def test_it_deletes_the_planted_cell(self):
        found = explain(self.KEY, *planted(), iterations=60, side=8, area_weight=0.01, background="black")
        hit, rest = inside(found)
        assert (hit > 0.8).all()
        assert (rest < 0.4).all()

    def test_without_evidence_nothing_is_deleted(self):
        found = explain(self.KEY, Linear(torch.zeros(144)), torch.rand(1, 1, 12, 12), torch.tensor([0]), iterations=40)
        assert found.max() < 1e-3


SOUND = {
    "another class": lambda test, s: test.expected(s, 3, target=(int(s.targets[3]) + 1) % 4),
    "over grey": lambda test, s: test.expected(s, 3, backgrounds=[[torch.full((3, 12, 10), 0.5)]] * 3),
    "fewer backgrounds": lambda test, s: test.expected(s, 3, count=1),
    "no area": lambda test, s: test.expected(s, 3, area=0.0),
    "no variation": lambda test, s: test.expected(s, 3, tv=0.0),
    "one iteration fewer": lambda test, s: test.expected(s, 3, iterations=2),
}


class TestCompleteSoundMask:
    KEY = "complete_sound_mask"

    def backgrounds(self, small, i, iterations, count):
        """The sets of backgrounds of a sample in [0, 1], each by its own generator."""
        sources = [drawn(self.KEY, small, i, k) for k in range(count)]
        return [
            [
                reference.background(PHOTOGRAPHS, 3, 12, 10, *torch.rand(4, generator=source).tolist())
                for source in sources
            ]
            for _ in range(iterations)
        ]

    def expected(self, small, i, iterations=3, count=2, **options):
        options = {"target": int(small.targets[i]), "area": 0.01, "tv": 0.5} | options
        behind = options.pop("backgrounds", self.backgrounds(small, i, iterations, count))
        return reference.complete_sound_mask(small.model, small.inputs[i], backgrounds=behind, **options)

    def test_agrees_with_the_reference(self, tiny):
        found = run(self.KEY, tiny, area_weight=0.01, tv_weight=0.5)
        for i in (0, 3, 4):
            torch.testing.assert_close(found[i].double(), self.expected(tiny, i), rtol=1e-3, atol=1e-4)

    def test_weights_and_scale(self, tiny):
        found = run(self.KEY, tiny, area_weight=0.05, tv_weight=0.3, scale=3, backgrounds=3, iterations=8)
        wanted = self.expected(tiny, 2, area=0.05, tv=0.3, scale=3, count=3, iterations=8)
        torch.testing.assert_close(found[2].double(), wanted, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("name", SOUND)
    def test_a_wrong_reference_would_be_seen(self, tiny, name):
        assert (run(self.KEY, tiny, area_weight=0.01, tv_weight=0.5)[3] - SOUND[name](self, tiny)).abs().max() > 1e-3

    def test_it_keeps_the_planted_cell(self):
        found = explain(self.KEY, *planted(), iterations=150, backgrounds=2, area_weight=0.01)
        hit, rest = inside(found)
        assert (hit > 0.4).all()
        assert (rest < 0.1).all()

    def test_it_finds_digits_on_scenes(self):
        model = embedded_model("digit-cnn")
        data = embedded_data("digits-on-scenes", model, 10)
        images = model.preprocess.normalised(torch.as_tensor(data.images[:4]))
        call = model.module, images, torch.as_tensor(data.labels[:4])
        found = explain(self.KEY, *call, space=model.preprocess.space, iterations=40, backgrounds=2)
        scores = [average_precision_score(m.flatten(), f.flatten()) for m, f in zip(data.masks, found, strict=False)]
        assert sum(scores) / 4 > 0.4, scores

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_backgrounds_are_crops_of_photographs(self, channels):
        found = photographs(channels, 6, 9)
        assert found.shape == (len(PHOTOGRAPHS), channels, 12, 18)
        assert (found.float().std((1, 2, 3)) > 1).all()
        if channels == 4:
            assert torch.equal(found[:, 3], found[:, 0])
        draws = [[generator(0, sample, k) for k in range(2)] for sample in range(40)]
        crops = random_images(draws, torch.cat([found, found.flip(3)]).float(), (6, 9))
        windows = found.unfold(2, 6, 1).unfold(3, 9, 1).flatten(2, 3).permute(0, 2, 1, 3, 4)
        for one in crops:
            assert any((windows == way).all((2, 3, 4)).any() for way in (one, one.flip(2)))

    def test_for_a_label_that_is_not_there_the_cell_goes(self):
        model, images, _ = planted()
        options = {"iterations": 60, "backgrounds": 2, "area_weight": 0.0, "tv_weight": 0.0}
        hit, rest = inside(explain(self.KEY, model, images, torch.tensor([1, 1]), **options))
        assert (hit < 0.2).all()
        assert (rest > 0.25).all()

    def test_more_backgrounds_begin_with_the_same(self, tiny):
        few, many = (self.backgrounds(tiny, 0, 2, count) for count in (2, 3))
        assert all(
            torch.equal(a, b) for one, two in zip(few, many, strict=True) for a, b in zip(one, two, strict=False)
        )


IGOS = {
    "another class": lambda test, s: test.expected(s, 3, target=(int(s.targets[3]) + 1) % 4),
    "over black": lambda test, s: test.expected(s, 3, baseline=torch.zeros(3, 12, 10)),
    "no noise": lambda test, s: test.expected(s, 3, noise=0.0),
    "no area": lambda test, s: test.expected(s, 3, area=0.0),
    "another variation": lambda test, s: test.expected(s, 3, tv=19.0),
    "one iteration fewer": lambda test, s: test.expected(s, 3, count=3),
    "another path": lambda test, s: test.expected(s, 3, steps=3),
}


class TestIGOSPlusPlus:
    KEY = "igos_plus_plus"

    def expected(self, small, i, count=4, noise=0.045, **options):
        image, source = small.inputs[i], drawn(self.KEY, small, i)
        shifts = [noise * torch.randn(3, 12, 10, generator=source).double() for _ in range(count)]
        options = {"target": int(small.targets[i]), "baseline": gaussian_blur(image[None].double())[0]} | options
        return reference.igos_plus_plus(small.model, image, noise=shifts, **{"steps": 2, "side": 6} | options)

    def test_agrees_with_the_reference(self, tiny):
        found = run(self.KEY, tiny)
        for i in (0, 3):
            torch.testing.assert_close(found[i].double(), self.expected(tiny, i), rtol=1e-3, atol=1e-6)

    def test_weights_and_baseline(self, tiny):
        # neighbours that hardly differ, so that the weights of the bilateral variation are neither 0 nor 1
        small = tiny._replace(inputs=0.5 + 0.03 * tiny.inputs)
        found = run(self.KEY, small, area_weight=1.0, tv_weight=5.0, side=4, points=3, baseline="black")
        wanted = self.expected(small, 2, area=1.0, tv=5.0, side=4, steps=3, baseline=torch.zeros(3, 12, 10))
        torch.testing.assert_close(found[2].double(), wanted, rtol=1e-3, atol=1e-6)

    @pytest.mark.parametrize("name", IGOS)
    def test_a_wrong_reference_would_be_seen(self, tiny, name):
        found = run(self.KEY, tiny)[3]
        assert (found - IGOS[name](self, tiny)).abs().max() > 0.02 * found.max()

    def test_the_planted_cell(self):
        found = explain(self.KEY, *planted(), updates=20, points=4, side=8, baseline="black")
        hit, rest = inside(found)
        assert (hit > 0.6).all()
        assert (rest < 0.25).all()

    def test_a_mask_of_one_cell(self, tiny):
        assert run(self.KEY, tiny, side=1).flatten(1).diff(dim=1).abs().max() < 1e-6

    def test_without_evidence_nothing_is_marked(self):
        images = torch.rand(1, 1, 12, 12)
        found = explain(self.KEY, Linear(torch.zeros(144)), images, torch.tensor([0]), updates=4, points=2)
        assert torch.equal(found, torch.zeros(1, 12, 12))


def test_masks_are_enlarged_as_the_reference_does():
    mask = torch.rand(1, 1, 3, 5)
    torch.testing.assert_close(enlarged(mask, (12, 10))[0, 0].double(), reference.enlarged(mask[0, 0].double(), 12, 10))


@pytest.mark.parametrize(
    ("key", "name", "value", "words"),
    [
        ("meaningful_perturbation", "iterations", 0, "expected at least 1"),
        ("meaningful_perturbation", "tv_weight", -1.0, "expected a weight of at least 0"),
        ("complete_sound_mask", "backgrounds", 0, "expected at least 1"),
        ("complete_sound_mask", "area_weight", -0.5, "expected a weight of at least 0"),
        ("igos_plus_plus", "points", 0, "expected at least 1"),
        ("igos_plus_plus", "side", -3, "expected at least 1"),
    ],
)
def test_refusals(tiny, key, name, value, words):
    with pytest.raises(CardgenError, match=f"^{key}: {name} is {value:g}; {words}"):
        run(key, tiny, **{name: value})


@pytest.mark.parametrize("key", KEYS)
def test_any_batch_and_order(tiny, key):
    every_batch_and_order(lambda rows, batch: run(key, tiny.take(rows), batch=batch).numpy(), tolerance=1e-5)


@pytest.mark.parametrize("key", KEYS)
def test_nothing_is_touched(tiny, key):
    tiny.model.train()
    with untouched(tiny.model, tiny.inputs, tiny.targets):
        run(key, tiny)


@pytest.mark.parametrize("key", KEYS[:2])
def test_a_model_that_gives_no_number_where_the_image_is_hidden_is_told(key, tiny):
    class Odd(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            hidden = ((x - 0.5).abs() < 1e-6).all(1).any(2).any(1)
            return torch.where(hidden[:, None], torch.nan, self.inner(x))

    with pytest.raises(CardgenError, match=r"^the model returned NaN or infinities; expected finite logits"):
        run(key, tiny._replace(model=Odd(tiny.model)))


@pytest.mark.parametrize("count", [1, 7, 40])
def test_the_smallest_are_those_of_a_stable_sort(count):
    values = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).mul(2).round()
    values[0, 3:9], values[1, ::2], values[2] = torch.inf, -torch.inf, 0.0
    values[3, 5], values[3, 9] = 0.0, -0.0
    assert torch.equal(smallest(values, count), values.argsort(dim=1, stable=True)[:, :count])
