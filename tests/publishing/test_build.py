"""Cards on disk: the same bytes for the same records, and nothing of anybody's lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from publishing_fixtures import PICTURE, catalogue, record, write_method, write_record, write_subject, write_world

from cardgen.build import Report, build
from cardgen.errors import CardgenError

CARD = "grad_cam/README.md"
CARDS = ("README.md", CARD, "rise/README.md", "vanilla_gradients/README.md")
PICTURES = (
    "grad_cam/example-resnet-photos.png",
    "grad_cam/example.png",
    "rise/example.png",
    "vanilla_gradients/example-resnet-photos.png",
    "vanilla_gradients/example.png",
)
NOTES = "<!-- cardgen:keep notes -->\n"


class World:
    """An evaluations folder with its cards."""

    def __init__(self, folder: Path) -> None:
        self.evaluations = write_world(folder / "evaluations")
        self.cards = folder / "cards"

    def build(self, check: bool = False, force: bool = False) -> Report:
        return build(self.evaluations, self.cards, catalogue=catalogue(), check=check, force=force)

    def files(self) -> dict[str, bytes]:
        paths = sorted(path for path in self.cards.rglob("*") if path.is_file())
        return {path.relative_to(self.cards).as_posix(): path.read_bytes() for path in paths}

    def change(self, name: str, old: str, new: str) -> str:
        path = self.cards / name
        text = path.read_text().replace(old, new, 1)
        assert text != path.read_text()
        path.write_text(text)
        return text


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_first_build_writes_every_card_the_overview_and_the_pictures(world: World) -> None:
    report = world.build()
    assert report.changed == tuple(sorted((*CARDS, *PICTURES)))
    assert (report.unchanged, report.edited, report.obsolete, report.unfinished) == ((), (), (), ())
    assert set(world.files()) == {*CARDS, *PICTURES}
    assert world.files()["grad_cam/example.png"] == PICTURE


def test_a_second_build_touches_nothing(world: World) -> None:
    world.build()
    before = {path: path.stat().st_mtime_ns for path in world.cards.rglob("*")}
    report = world.build()
    assert (report.changed, report.clean) == ((), True)
    assert {path: path.stat().st_mtime_ns for path in world.cards.rglob("*")} == before


def test_cards_are_the_same_bytes_wherever_they_are_built(tmp_path: Path) -> None:
    worlds = [World(tmp_path / name) for name in ("here", "far/away/from/there")]
    for each in worlds:
        each.build()
    assert worlds[0].files() == worlds[1].files()
    assert str(tmp_path).encode() not in b"".join(worlds[0].files().values())


def test_check_writes_nothing_and_names_what_would_change(world: World) -> None:
    report = world.build(check=True)
    assert report.changed == tuple(sorted((*CARDS, *PICTURES)))
    assert (report.clean, world.cards.exists()) == (False, False)
    world.build()
    assert world.build(check=True).clean
    write_record(world.evaluations, record("insertion", "rise"))
    before = world.files()
    assert world.build(check=True).changed == ("README.md", "rise/README.md")
    assert world.files() == before


def test_a_changed_record_changes_its_card_and_the_overview_only(world: World) -> None:
    world.build()
    before = world.files()
    write_record(world.evaluations, record("insertion", "rise", verdict="fail", p=0.9))
    assert world.build().changed == ("README.md", "rise/README.md")
    changed = [name for name, data in world.files().items() if data != before[name]]
    assert changed == ["README.md", "rise/README.md"]


def test_every_card_has_a_region_for_notes_and_keeps_them(world: World) -> None:
    world.build()
    words = "## Our notes\n\n* in  our | words `and` <b>marks</b>  \n\n\n\n"
    for name in CARDS:
        world.change(name, NOTES, NOTES + words)
    assert world.build().clean
    write_record(world.evaluations, record("insertion", "rise"))
    assert world.build().changed == ("README.md", "rise/README.md")
    assert all(f"{NOTES}{words}<!-- /cardgen:keep -->" in (world.cards / name).read_text() for name in CARDS)


def test_a_region_that_the_template_does_not_have_is_carried_to_the_end(world: World) -> None:
    world.build()
    added = "<!-- cardgen:keep old -->\nwords\n<!-- /cardgen:keep -->\n"
    world.change(CARD, "## Methodology\n", f"{added}## Methodology\n")
    assert world.build().changed == (CARD,)
    text = (world.cards / CARD).read_text()
    assert text.count(added) == 1
    assert text.index(added) > text.index(NOTES)
    assert world.build().clean


def test_a_card_edited_by_hand_is_reported_and_left_alone_until_forced(world: World) -> None:
    world.build()
    text = world.change(CARD, "Grad-CAM shows", "Grad-CAM never shows")
    write_record(world.evaluations, record("insertion", "grad_cam"))
    report = world.build()
    assert (report.edited, report.clean) == ((CARD,), False)
    assert CARD not in report.changed
    assert (world.cards / CARD).read_text() == text
    assert world.build(check=True).edited == (CARD,)
    assert world.build(force=True).changed == (CARD,)
    assert "never shows" not in (world.cards / CARD).read_text()
    assert world.build().clean


def test_force_keeps_kept_regions(world: World) -> None:
    world.build()
    world.change(CARD, NOTES, f"{NOTES}ours\n")
    world.change(CARD, "Grad-CAM shows", "Grad-CAM never shows")
    world.build(force=True)
    assert f"{NOTES}ours\n" in (world.cards / CARD).read_text()


def test_a_readme_that_cardgen_did_not_write_is_left_alone(world: World) -> None:
    (world.cards / "grad_cam").mkdir(parents=True)
    (world.cards / CARD).write_text("# By hand\n")
    assert world.build().edited == (CARD,)
    assert (world.cards / CARD).read_text() == "# By hand\n"


def test_marks_that_do_not_match_up_stop_everything_before_any_write(world: World) -> None:
    world.build()
    world.change(CARD, "<!-- /cardgen:keep -->", "")
    write_record(world.evaluations, record("insertion", "rise"))
    before = world.files()
    with pytest.raises(
        CardgenError, match=r"README\.md: line \d+: kept regions do not match up; .* for region 'notes'"
    ):
        world.build()
    assert world.files() == before


def test_a_checkout_with_windows_line_ends_is_no_edit(world: World) -> None:
    world.build()
    for name in CARDS:
        (world.cards / name).write_bytes((world.cards / name).read_bytes().replace(b"\n", b"\r\n"))
    assert world.build(check=True).clean


@pytest.mark.parametrize("gone", [True, False])
def test_a_picture_that_is_not_the_one_recorded_stops_everything(world: World, gone: bool) -> None:
    path = world.evaluations / "digits-cnn" / "rise" / "example.png"
    path.unlink() if gone else path.write_bytes(b"another")
    with pytest.raises(CardgenError) as caught:
        world.build()
    got = "no file" if gone else "ae448ac86c4e8e4dec645729708ef41873ae79c6dff84eff73360989487f08e5"
    assert str(caught.value).startswith(f"{path}: not the picture that method.json names; expected sha256 ")
    assert f"got {got}; run `cardgen run` again, or restore the file from git" in str(caught.value)
    assert not world.cards.exists()


def test_a_picture_changed_in_the_cards_is_put_right(world: World) -> None:
    world.build()
    (world.cards / "rise" / "example.png").write_bytes(b"another")
    assert world.build(check=True).changed == ("rise/example.png",)
    world.build()
    assert (world.cards / "rise" / "example.png").read_bytes() == PICTURE


def test_controls_get_no_card(world: World) -> None:
    world.build()
    assert sorted(path.name for path in world.cards.iterdir()) == ["README.md", "grad_cam", "rise", "vanilla_gradients"]


def test_a_card_whose_method_is_gone_is_named_not_deleted(world: World) -> None:
    world.build()
    for path in sorted((world.evaluations / "digits-cnn" / "rise").iterdir()):
        path.unlink()
    report = world.build()
    assert (report.obsolete, report.clean) == (("rise",), False)
    assert (world.cards / "rise" / "README.md").exists()


def test_a_method_that_is_not_done_gets_no_card_and_is_named(world: World) -> None:
    (world.evaluations / "digits-cnn" / "rise" / "method.json").unlink()
    report = world.build()
    assert report.unfinished == ("digits-cnn/rise",)
    assert "rise/README.md" not in report.changed


def test_a_method_without_facts_or_literature_has_a_card_too(tmp_path: Path) -> None:
    write_subject(tmp_path / "e")
    write_method(tmp_path / "e", "my_method", picture=None)
    build(tmp_path / "e", tmp_path / "cards", catalogue={"metrics": {}, "methods": {}})
    text = (tmp_path / "cards" / "my_method" / "README.md").read_text()
    assert "Nothing has been written about this method yet" in text
    assert "**Measured verdicts:** nothing measured yet." in text
    assert "example.png" not in text


def test_ones_own_templates(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "card.md.j2").write_text("# {{ card.title }}\n")
    (folder / "overview.md.j2").write_text("all\n")
    build(world.evaluations, world.cards, templates=folder, catalogue=catalogue())
    assert (world.cards / CARD).read_text().startswith("# Grad-CAM\n\n<!-- cardgen:digest ")


def test_the_publishing_half_never_imports_torch(world: World) -> None:
    script = (
        "import sys; sys.modules['torch'] = None; sys.modules['captum'] = None\n"
        "from pathlib import Path; from cardgen.build import build\n"
        f"print(len(build(Path({str(world.evaluations)!r}), Path({str(world.cards)!r})).changed))"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "9"), done.stderr


def test_an_overview_before_any_method_is_measured(tmp_path: Path) -> None:
    write_subject(tmp_path / "e")
    write_record(tmp_path / "e", record("deletion", "noise", verdict="fail", p=0.9), control=True)
    assert build(tmp_path / "e", tmp_path / "cards", catalogue=catalogue()).changed == ("README.md",)
    text = (tmp_path / "cards" / "README.md").read_text()
    assert "- digits-cnn: none of 1 noise control over 1 evaluation passed anything, as it must be.\n" in text
    assert "No method has been measured yet." in text
    assert "|" not in text
