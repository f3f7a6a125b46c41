"""CSV files that list pictures, and what is wrong with those that do not, by line."""

import os

import pytest

from cardgen.errors import CardgenError
from cardgen.subjects.manifests import list_manifest


def listed(folder, text, name="birds.csv"):
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list_manifest(file)


def refusal(folder, text):
    with pytest.raises(CardgenError) as caught:
        listed(folder, text)
    return str(caught.value).removeprefix(f"{folder / 'birds.csv'}: ")


def test_paths_labels_and_masks(tmp_path):
    found = listed(tmp_path, "path,label,mask\nb/1.png,owl,m/1.png\na.png,Crow,\n\n./c.png,owl,m/3.png\n")
    assert found.ids == ("b/1.png", "a.png", "c.png")
    assert (found.labels, found.classes, found.name) == (["owl", "Crow", "owl"], ("Crow", "owl"), "birds")
    assert [found.picture(i) for i in range(3)] == [tmp_path / name for name in found.ids]
    assert [found.mask(i) for i in range(3)] == [tmp_path / "m/1.png", None, tmp_path / "m/3.png"]


def test_paths_alone(tmp_path):
    found = listed(tmp_path, "path\na.png\nb.png")
    assert (found.ids, found.labels, found.mask, found.classes) == (("a.png", "b.png"), None, None, ())


@pytest.mark.parametrize("text", ["path,label,mask\na.png,,\nb.png,,\n", "label,path\n,a.png\n,b.png\n"])
def test_empty_columns_count_as_none(tmp_path, text):
    found = listed(tmp_path, text)
    assert (found.labels, found.mask) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        '\ufeffPath , LABEL,score\r\n"a, b.png",owl,0.5\r\nc.png,crow,\r\n',
        "label;path\nowl;a, b.png\ncrow;c.png\n",
        "path\tlabel\ta\ta\na, b.png\towl\t1\t2\nc.png\tcrow\t1\t2\n",
        "score,label,path\n1,owl,'\n".replace("'", '"a, b.png"') + ",crow,c.png\n",
        "path,label\n'a, b.png',owl,,,\nc.png,crow\n".replace("'", '"'),
    ],
)
def test_as_spreadsheets_write_them(tmp_path, text):
    found = listed(tmp_path, text)
    assert (found.ids, found.labels) == (("a, b.png", "c.png"), ["owl", "crow"])


def test_ids_do_not_say_where_the_data_lies(tmp_path):
    (tmp_path / "x").mkdir()
    found = listed(tmp_path, f"path\n{tmp_path}/a.png\nx\\b.png\n../c.png\nx/../d.png", "x/manifest.csv")
    assert found.ids == ("../a.png", "x/b.png", "../c.png", "d.png")
    assert found.name == "x-manifest"
    assert os.path.samefile(found.picture(0).parent, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.png,owl\n", "line 1: columns file, label; expected path once, and if wanted label and mask; name the "
         "columns in the first line"),
        ("path,label,Label\na.png,owl,x\n", "line 1: columns path, label, Label; expected path once, and if wanted label and mask; name "
         "the columns in the first line"),
        ("", "line 1: columns none; expected path once, and if wanted label and mask; name the columns in the first line"),
        ("path,label\n", "no rows; expected one for each picture below the columns' names; add them"),
        ("path,label\n\"a\nb.png\",owl\n\n ,crow\n", "line 5: no path; expected one in every row; add it or remove the row"),
        ("path,label\na.png,owl\nb.png,\n", "line 3: no label; expected one in every row or in none; add it or remove the row"),
        ("path,label\na.png,\nb.png,owl\n", "line 2: no label; expected one in every row or in none; add it or remove the row"),
        ("path,label\na.png,owl\na, b.png,owl\n", "line 3: 3 cells; expected 2; put quotes around cells that hold the separator"),
        ("path\na.png\nb.png\n./a.png\n", "line 4: a.png is on line 2 already; expected each picture once; remove one of them"),
        ("path\n\"a.png\n", "line 2: unexpected end of data; expected cells as spreadsheets write them; mend that line"),
        (b"path\n\xff\xfe.png\n", "not text in UTF-8; expected a CSV file with a column path; mend or restore it"),
    ],
)  # fmt: skip
def test_unfit_files(tmp_path, text, message):
    assert refusal(tmp_path, text) == message


def test_cells_of_megabytes(tmp_path):
    assert refusal(tmp_path, "path\n" + "a" * 200_000 + "\n") == (
        "line 2: field larger than field limit (131072); expected cells as spreadsheets write them; mend that line"
    )


def test_names_that_cannot_be_printed(tmp_path):
    assert listed(tmp_path, "path\nb\x1b.png\n").ids == ("b\\x1b.png",)
