"""The table of calibrations, from hand-made records."""

from cardgen.calibration_table import lines
from cardgen.records import Calibration, Share, save


def record(metric, **fields):
    given = {"subject": "tiny", "metric": metric, "n": 64, "images": 400, "repetitions": 250, "key": "k"} | fields
    return Calibration(**given)


def test_a_row_a_metric_with_the_worst_of_each_kind(tmp_path):
    shares = {"noise": Share(passes=1, of=250), "noise_4": Share(passes=10, of=250)}
    one = record(
        "deletion",
        noise=shares,
        held_out={"random_blob": Share(passes=20, of=250), "heavy_noise": Share(passes=0, of=250)},
        priors={"edges": Share(passes=125, of=250), "centred_gaussian": Share(passes=0, of=250)},
        truth=Share(passes=245, of=250),
        truth_should="pass",
        agreement={"50": Share(passes=9, of=10), "200": Share(passes=10, of=10)},
        met=False,
    )
    for found in (one, record("minimality"), record("sufficiency", images=200, met=True)):
        save(found, tmp_path / "tiny" / "calibration" / f"{found.metric}.json")
    found = list(lines(tmp_path))
    assert found[0] == (
        "tiny: 250 repetitions of 64 images out of 400; goals: nothing without information passes more than 5 % of the time, "
        "the truth at least 90 %."
    )
    noise, others, priors = "4 % [2.2, 7.2] (noise_4)", "8 % [5.2, 12] (random_blob)", "edges 50 % [43.8, 56.2]"
    assert found[4] == f"| deletion | {noise} | {others} | {priors} | 98 % [95.4, 99.1] | 0.9 · – · 1 | missed |"
    assert found[5] == "| minimality | – | – | – | – | – · – · – | not judged |"
    assert found[7].startswith("tiny: 250 repetitions of 64 images out of 200; goals:")
    assert found[11:] == ["| sufficiency | – | – | – | – | – · – · – | met (no positive control) |", ""]
    assert list(lines(tmp_path, "other")) == []
