"""People's ratings: the file, its errors, the rule, and the records that rest on them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import loaded, only, run, store

from cardgen.config import RunConfig
from cardgen.errors import CardgenError
from cardgen.methods import METHODS
from cardgen.metrics import METRICS
from cardgen.ratings import Ratings, read_ratings
from cardgen.scores import Scores
from cardgen.subjects.loading import load_subject
from cardgen.thresholds import Thresholds
from cardgen.verdicts import RULES

PAGE = Path(__file__).parent.parent / "docs" / "ratings.md"
HEAD = "method,image,rater,rating\n"
FAST = Thresholds(resamples=1000)
FAMILY = ("noise", "noise_1", "noise_14", "noise_4", "noise_7")


def read(tmp_path, text, images=("a", "b")):
    file = tmp_path / "ratings.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_ratings(file, METHODS, images)


def test_the_example_of_the_page(tmp_path):
    (text,) = re.findall(r"```csv\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    image = "test-0000-digit0421"
    found = read(tmp_path, text, [image])
    assert found.means(["grad_cam", "noise", "noise_7"], image) == [4.5, 1, 2.5]
    assert found.methods == {"grad_cam", "noise", "noise_7"}
    # Pairs differ by 1, 0, 1: D_o = (2 + 0 + 2)/6 = 2/3. Sum of squares of 4 1 2 5 1 3 about 8/3: 56 − 128/3 = 40/3, so
    # D_e = 2·6·(40/3)/30 = 16/3, and α = 1 − 1/8.
    assert found.alpha == pytest.approx(7 / 8)


def test_the_page_says_what_is_allowed(tmp_path):
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"`{key}`" in page for key in FAMILY)
    assert {key for key in METHODS if METHODS[key].entry.control == "noise"} == set(FAMILY)
    assert f"Below {Thresholds().reliability}" in page


@pytest.mark.parametrize(
    "text",
    [
        HEAD + "rise,a,ann,1\nrise,a,ben,4.5\n",
        "\ufeff" + HEAD + "rise,a,ann,1\nrise,a,ben,4.5\n",
        "Rating; rater ;image;method\r\n 4.5;ben;a;rise\r\n\r\n1.0;ann;a;rise\r\n",
        HEAD.replace(",", "\t") + 'rise\ta\t"ben"\t4.5\nrise\ta\tann\t1',
    ],
)
def test_order_of_rows_and_columns_and_separators_do_not_matter(tmp_path, text):
    found = read(tmp_path, text)
    assert found.by_map == {("rise", "a"): {"ann": 1, "ben": 4.5}}
    assert found.digest == read(tmp_path, HEAD + "rise,a,ann,1\nrise,a,ben,4.5\n").digest


@pytest.mark.parametrize("row", ["rise,a,ann,2", "rise,b,ann,1", "rise,a,eve,1", "noise,a,ann,1"])
def test_every_cell_is_in_the_digest(tmp_path, row):
    rest = "rise,a,ben,4.5\n"
    assert read(tmp_path, HEAD + row + "\n" + rest).digest != read(tmp_path, HEAD + "rise,a,ann,1\n" + rest).digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: columns none; expected method, image, rater, rating; name them in the first line"),
        (
            "method,image,rating\n",
            "line 1: columns method, image, rating; expected method, image, rater, rating; name them in the first line",
        ),
        (
            "method,image,rater,rating,rating\n",
            "line 1: columns method, image, rater, rating, rating; expected method, image, rater, rating; name them in the first line",
        ),
        (HEAD, "no rows; expected one for each rating below the columns' names; add them"),
        (HEAD + "rize,a,ann,3\n", "line 2: no method is called 'rize'; did you mean rise or xrai or lime?"),
        (
            HEAD + "rise,a,ann,3\n\nrise,c,ann,3\n",
            "line 4: no sample is called 'c'; expected one of the 2 samples of this run, such as 'a'; mend the id, or take more samples",
        ),
        (
            HEAD + "rise,a,ann,3\nrise,b,ann,3\nrise,a,ann,4\n",
            "line 4: ann rated rise on a on line 2 already; expected one rating of each map by each rater; remove one",
        ),
        (HEAD + "rise,a,ann,0.5\n", "line 2: rating '0.5'; expected a number from 1 to 5; mend or remove the line"),
        (HEAD + "rise,a,ann,6\n", "line 2: rating '6'; expected a number from 1 to 5; mend or remove the line"),
        (HEAD + "rise,a,ann,nan\n", "line 2: rating 'nan'; expected a number from 1 to 5; mend or remove the line"),
        (HEAD + "rise,a,ann,good\n", "line 2: rating 'good'; expected a number from 1 to 5; mend or remove the line"),
        (
            HEAD + "rise,a,,3\n",
            "line 2: 3 filled cells of 4; expected method, image, rater, rating; mend or remove the line",
        ),
        (
            HEAD + "rise,a,ann,3,4\n",
            "line 2: 5 filled cells of 5; expected method, image, rater, rating; mend or remove the line",
        ),
        (
            HEAD + 'rise,a,"ann,3\n',
            "line 2: unexpected end of data; expected cells as spreadsheets write them; mend that line",
        ),
        (b"\xff\xfe\x00", "not text in UTF-8; expected a CSV file of ratings; mend or restore it"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, text, message):
    with pytest.raises(CardgenError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'ratings.csv'}: {message}"


def test_no_such_file(tmp_path):
    with pytest.raises(CardgenError) as caught:
        read_ratings(tmp_path / "no.csv", METHODS, ("a",))
    assert str(caught.value) == (
        f"{tmp_path / 'no.csv'}: No such file or directory; expected a CSV file of ratings; mend or restore it"
    )


class TestMeans:
    RATINGS = Ratings(
        {
            ("rise", "a"): {"ann": 5.0, "ben": 4.0, "eve": 3.0},
            ("noise", "a"): {"ann": 2.0, "ben": 1.0},
            ("rise", "b"): {"ann": 5.0, "ben": 4.0},
            ("noise", "b"): {"ann": 2.0, "eve": 1.0},
        }
    )

    def test_over_the_raters_of_all_maps_of_the_image(self):
        assert self.RATINGS.means(["rise", "noise"], "a") == [4.5, 1.5]
        assert self.RATINGS.means(["rise"], "a") == [4]

    def test_none_where_fewer_than_two_rated_all_of_them(self):
        assert self.RATINGS.means(["rise", "noise"], "b") is None
        assert self.RATINGS.means(["rise", "noise"], "c") is None
        assert self.RATINGS.means(["rise", "noise_4"], "a") is None

    def test_raters_of_a_method(self):
        assert (self.RATINGS.raters("rise"), self.RATINGS.raters("noise"), self.RATINGS.raters("grad_cam")) == (3, 3, 0)


def test_raters_who_agree_and_raters_who_do_not():
    images = [str(i) for i in range(40)]
    agree = Ratings({("rise", i): {"ann": 1.0 + int(i) % 5, "ben": 1.0 + int(i) % 5} for i in images})
    against = Ratings({("rise", i): {"ann": 1.0 + int(i) % 5, "ben": 5.0 - int(i) % 5} for i in images})
    assert agree.alpha == 1
    assert against.alpha < -0.9


def rated(lead, alpha=0.9, n=60, family=FAMILY):
    """Scores that lead the noise by `lead` standard deviations; without a family nobody rated noise."""
    draws = np.random.default_rng(0)
    own = np.clip(3 + 0.5 * draws.normal(size=n), 1, 5)
    spread = draws.normal(size=n)
    spread = 0.5 * (spread - spread.mean()) / spread.std(ddof=1)
    parts = {f"rated/{key}": (own - 0.5 * lead - spread)[None] for key in family}
    scores = Scores(own, np.ones(n, bool), np.zeros(n, bool), parts, {"alpha": alpha})
    return RULES["ratings"](scores, {}, METRICS["visual_sharpness"].entry, FAST, 3)


class TestRule:
    def test_pass_and_fail(self):
        found = rated(1.0)
        assert found.verdict == "pass"
        assert found.effect == pytest.approx(1.0, abs=1e-6)
        assert set(found.controls) == set(FAMILY)
        assert found.thresholds["reliability"] == 0.667
        assert rated(0.0, n=200).verdict == rated(-1.0).verdict == "fail"

    @pytest.mark.parametrize("lead", [1.0, -1.0])
    def test_unreliable_raters_judge_nothing(self, lead):
        found = rated(lead, alpha=0.66)
        assert found.verdict == "inconclusive"
        assert found.reason == "Raters agree too little to judge: Krippendorff's α is 0.66, at least 0.667 is needed."

    def test_a_pass_takes_the_whole_family(self):
        found = rated(1.0, family=FAMILY[:3])
        assert found.verdict == "inconclusive"
        assert found.reason == (
            "Beats every noise control that was rated, but nobody rated Smooth noise 4×4, Smooth noise 7×7."
        )
        assert rated(-1.0, family=FAMILY[:3]).verdict == "fail"

    def test_few_images(self):
        found = rated(1.0, n=19)
        assert (found.verdict, found.reason) == (
            "inconclusive",
            "Too few samples to judge: 19, at least 20 are needed.",
        )

    def test_without_noise_ratings_are_described(self):
        found = rated(1.0, family=())
        assert found.verdict == "descriptive"
        assert 2.5 < found.estimate < 3.5

    def test_what_is_no_rating_is_no_estimate(self):
        scores = Scores(np.full(40, 0.3), np.ones(40, bool), np.zeros(40, bool), reason="Nobody has rated these maps.")
        found = RULES["ratings"](scores, {}, METRICS["visual_sharpness"].entry, FAST, 3)
        assert (found.verdict, found.estimate, found.interval) == ("descriptive", None, None)
        assert found.reason == "Nobody has rated these maps."


def opinions(ids, own, noise, methods=("vanilla_gradients",)):
    """Two raters who agree, on all maps of all images."""
    rows = {}
    for i, image in enumerate(ids):
        for method in (*methods, *FAMILY):
            rating = (noise if method in FAMILY else own) + 0.5 * (i % 2)
            rows[method, image] = {"ann": rating, "ben": rating}
    return Ratings(rows)


def with_ratings(ratings, **options):
    of = loaded(**options)
    return replace(of, subject=replace(of.subject, ratings=ratings(of.subject.ids) if ratings else None))


class TestRuns:
    @pytest.fixture(autouse=True)
    def _few(self, monkeypatch):
        only(monkeypatch, ["vanilla_gradients", "grad_cam", *FAMILY], ["visual_sharpness", "sparsity"])

    def record(self, out, method="vanilla_gradients", metric="visual_sharpness"):
        return store(out).record(store(out).path(METHODS[method].entry, metric))

    def test_good_ratings_pass_bad_ones_fail_and_none_are_described(self, tmp_path):
        for name, ratings, verdict in (
            ("good", lambda ids: opinions(ids, 4, 1), "pass"),
            ("bad", lambda ids: opinions(ids, 1, 4), "fail"),
            ("none", None, "descriptive"),
        ):
            run(with_ratings(ratings), tmp_path / name)
            found = self.record(tmp_path / name)
            assert found.verdict == verdict
            assert ("ratings" in found.key_parts) == bool(ratings)
        assert found.estimate is None
        assert re.fullmatch(
            r"Nobody has rated these maps; of their spectral energy \d+% lies above half the Nyquist frequency",
            found.reason[:-1],
        )

    def test_a_method_that_nobody_rated_is_described(self, tmp_path):
        run(with_ratings(lambda ids: opinions(ids, 4, 1)), tmp_path, methods=("all",))
        assert self.record(tmp_path).verdict == "pass"
        assert self.record(tmp_path, "grad_cam").verdict == "descriptive"

    def test_new_ratings_measure_this_metric_again_and_no_other(self, tmp_path):
        first = run(with_ratings(None), tmp_path)
        assert {record.metric for record in first.written} == {"visual_sharpness", "sparsity"}
        picture = (tmp_path / "evaluations/tiny-images/vanilla_gradients/method.json").read_text()
        again = run(with_ratings(lambda ids: opinions(ids, 4, 1)), tmp_path)
        assert [(record.metric, record.verdict) for record in again.written] == [("visual_sharpness", "pass")]
        assert run(with_ratings(lambda ids: opinions(ids, 4, 1)), tmp_path).written == []
        changed = run(with_ratings(lambda ids: opinions(ids, 1, 4)), tmp_path)
        assert [(record.metric, record.verdict) for record in changed.written] == [("visual_sharpness", "fail")]
        assert (tmp_path / "evaluations/tiny-images/vanilla_gradients/method.json").read_text() == picture

    def test_new_ratings_count_although_the_record_rests_on_a_larger_budget(self, tmp_path):
        run(with_ratings(lambda ids: opinions(ids, 4, 1)), tmp_path, budget="standard")
        again = run(with_ratings(lambda ids: opinions(ids, 1, 4)), tmp_path, budget="quick")
        assert [record.verdict for record in again.written] == ["fail"]

    def test_another_bar_decides_again_without_the_model(self, tmp_path):
        of = with_ratings(lambda ids: opinions(ids, 4, 1))
        run(of, tmp_path)
        outcome = run(of, tmp_path, thresholds=Thresholds(reliability=1))
        assert [record.verdict for record in outcome.written] == ["pass"]
        assert outcome.written[0].rule.thresholds["reliability"] == 1


def test_ratings_that_a_configuration_names_are_read_against_the_samples_there_are(tmp_path):
    file = tmp_path / "ratings.csv"
    file.write_text(HEAD + "rise,nowhere,ann,3\n")
    with pytest.raises(CardgenError, match=r"line 2: no sample is called 'nowhere'; expected one of the \d+ samples"):
        load_subject(RunConfig(ratings=file, batch=8, device="cpu"))
    image = load_subject(RunConfig(batch=8, device="cpu")).subject.ids[0]
    file.write_text(HEAD + f"rise,{image},ann,3\n")
    assert load_subject(RunConfig(ratings=file, batch=8, device="cpu")).subject.ratings.by_map == {
        ("rise", image): {"ann": 3}
    }
