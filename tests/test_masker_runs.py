"""Methods of masking networks through a whole run."""

from dataclasses import replace

import homes
from small_runs import loaded, only, run

from cardgen.kin import Family, Kin
from cardgen.methods import METHODS

KEYS = ("phang_masker", "real_time_saliency")


def test_their_maps_are_measured_and_what_explains_other_networks_is_skipped(tmp_path, monkeypatch):
    only(monkeypatch, [*KEYS, "noise"], ["deletion", "model_weight_randomization", "repeatability", "input_invariance"])
    of = loaded()
    kin = {
        sibling: Kin(homes.masking(key, of.subject), key, None, "made here")
        for key in KEYS
        for sibling in METHODS[key].siblings
    }
    family = Family(kin)
    of = replace(of, family=family, subject=replace(of.subject, siblings=family.modules))
    outcome = run(of, tmp_path, methods=KEYS)
    assert not outcome.errors, [record.reason for record in outcome.errors]
    found = {(record.method, record.metric): record for record in outcome.written}
    for key in KEYS:
        assert found[key, "repeatability"].verdict == "skipped"
        assert found[key, "deletion"].verdict != "skipped"
        # the shifted twin holds the network under another name, and has the same feature maps
        assert max(found[key, "input_invariance"].reported.values()) < 1e-3
        assert found[key, "deletion"].key_parts["siblings"] == family.part(METHODS[key].siblings)


def test_without_the_network_they_are_skipped(tmp_path, monkeypatch):
    only(monkeypatch, ["phang_masker", "noise"], ["deletion"])
    outcome = run(loaded(), tmp_path, methods=("phang_masker",))
    assert [record.reason for record in outcome.skipped] == [
        "needs the sibling model masker-phang_masker, which was not looked for"
    ]
