"""Plug-ins: found by importing a package, third parties' by entry points, refused where keys clash or imports fail."""

import itertools
import textwrap

import pytest

from cardgen import registry
from cardgen.errors import CardgenError
from cardgen.registry import Registry, unknown

COUNTER = itertools.count()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Writes a package of plug-ins; its registry."""
    name = f"plugins_{next(COUNTER)}s"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text(f"from cardgen.registry import Registry\nITEMS = Registry({name!r})\n")
    monkeypatch.syspath_prepend(tmp_path)

    def write(**modules):
        for module, text in modules.items():
            path = folder.joinpath(*module.split("__")).with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            (path.parent / "__init__.py").touch()
            path.write_text(f"from {name} import ITEMS\n{textwrap.dedent(text)}")
        return __import__(name).ITEMS

    return write


def test_every_module_is_imported_once_also_in_folders_and_keys_come_sorted(package):
    items = package(b="ITEMS.add('zebra', 1)", inner__a="ITEMS.add('ant', 2)")
    assert list(items) == ["ant", "zebra"]
    assert dict(items) == {"ant": 2, "zebra": 1}
    assert (len(items), "ant" in items, "bee" in items) == (2, True, False)


def test_nothing_is_imported_before_it_is_asked_for(package):
    items = package(broken="raise RuntimeError('imported')")
    with pytest.raises(RuntimeError, match="imported"):
        list(items)


def test_a_module_that_fails_to_import_stops_everything(package):
    items = package(a="ITEMS.add('ant', 1)", broken="import no_such_package_at_all")
    for ask in (len, list, lambda found: "ant" in found, lambda found: found["ant"]):
        with pytest.raises(ModuleNotFoundError, match="no_such_package_at_all"):
            ask(items)


def test_two_plug_ins_of_one_key_are_refused(package):
    items = package(a="ITEMS.add('ant', 1)", b="ITEMS.add('ant', 2)")
    with pytest.raises(CardgenError, match=r"two plug-ins are called 'ant'; expected unique keys"):
        list(items)


def test_it_is_read_only(package):
    items = package(a="ITEMS.add('ant', 1)")
    with pytest.raises(TypeError):
        items["bee"] = 2
    assert not hasattr(items, "pop")


def test_an_unknown_key_is_refused_with_the_nearest(package):
    items = package(a="ITEMS.add('grad_cam', 1)", b="ITEMS.add('rise', 2)")
    with pytest.raises(CardgenError, match=r"no plugins_\d+ is called 'gradcam'; did you mean grad_cam\?"):
        items["gradcam"]
    with pytest.raises(CardgenError, match=r"known: grad_cam, rise"):
        items["zzz"]


def test_third_parties_add_theirs_by_entry_points(package, monkeypatch):
    items = package(a="ITEMS.add('ant', 1)")

    class Entry:
        def load(self):
            items.add("theirs", 3)

    asked = []
    monkeypatch.setattr(registry, "entry_points", lambda group: asked.append(group) or [Entry()])
    assert dict(items) == {"ant": 1, "theirs": 3}
    assert asked == [items._package]


def test_a_third_party_s_key_may_not_take_one_of_ours(package, monkeypatch):
    items = package(a="ITEMS.add('ant', 1)")

    class Entry:
        def load(self):
            items.add("ant", 3)

    monkeypatch.setattr(registry, "entry_points", lambda group: [Entry()])
    with pytest.raises(CardgenError, match="two plug-ins are called 'ant'"):
        list(items)


def test_the_real_registries_ask_the_documented_entry_points():
    from cardgen.methods import METHODS
    from cardgen.metrics import METRICS

    assert (METHODS._package, METRICS._package) == ("cardgen.methods", "cardgen.metrics")
    assert isinstance(METHODS, Registry)


def test_the_nearest_come_first():
    assert unknown("metric", "insertoin", ["deletion", "insertion"]).startswith(
        "no metric is called 'insertoin'; did you mean insertion"
    )
