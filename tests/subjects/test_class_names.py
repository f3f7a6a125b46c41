"""Classes of the data to outputs of the model: by every rule, in their order, and refused where none fits."""

import json
from pathlib import Path

import pytest
from torchvision.models import ResNet50_Weights

from cardgen.errors import CardgenError
from cardgen.subjects.class_files import read_class_file
from cardgen.subjects.class_names import match_classes, wordnet_ids

PETS = ("tabby, tabby cat", "Great White_shark", "tench, Tinca tinca")
IMAGENET = tuple(ResNet50_Weights.DEFAULT.meta["categories"])
BY_NAME = "the data's classes were matched to the model's by name"


def match(names, classes=(), outputs=None, file=None):
    return match_classes(names, outputs=outputs or len(classes), classes=tuple(classes), class_file=file)


def refusal(*args, **kwargs):
    with pytest.raises(CardgenError) as caught:
        match(*args, **kwargs)
    return str(caught.value)


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["tabby", "tench"], [0, 2]),
        (["TABBY CAT", "tinca_tinca"], [0, 2]),
        (["tabby, tabby cat", "great_white shark"], [0, 1]),
        (["tench, Tinca tinca, some other fish"], [2]),
    ],
)
def test_by_name_whatever_case_spaces_and_synonym(names, expected):
    found = match(names, PETS)
    assert [found.outputs[name] for name in names] == expected
    assert (found.classes, found.note) == (PETS, BY_NAME)


def test_accents_however_a_file_system_stores_them():
    assert match(["cafe\u0301"], ("tea", "caf\u00e9")).outputs == {"cafe\u0301": 1}


def test_full_names_come_before_synonyms():
    """ImageNet's output 639 is "maillot, tank suit", whose first synonym is the name of 638."""
    found = match(["maillot, tank suit"], IMAGENET)
    assert found.outputs == {"maillot, tank suit": IMAGENET.index("maillot tank suit")}


def test_names_of_several_outputs_are_refused():
    assert refusal(["crane", "tench"], ("crane", "tench", "crane")) == (
        "class 'crane' of the data fits outputs 0, 2 of the model; expected one; say which by --classes FILE with lines `name,output`"
    )


def test_two_names_of_one_output_are_refused():
    assert refusal(["tench", "tinca tinca"], PETS) == (
        "classes 'tench' and 'tinca tinca' of the data both fit output 2 of the model; expected one; say which by --classes FILE with "
        "lines `name,output`"
    )
    assert refusal(["1", "01"], outputs=5).startswith(
        "classes '1' and '01' of the data both fit output 1 of the model; expected one"
    )


def test_wordnet_ids():
    found = match(["n01440764", "n15075141", "n01443537"], IMAGENET)
    assert list(found.outputs.values()) == [0, 999, 1]
    assert (found.classes, found.note) == (IMAGENET, "the data's classes were matched to outputs by WordNet id")
    assert match(["n01440764"], outputs=1000).classes == wordnet_ids()


def test_wordnet_ids_are_the_sorted_thousand():
    ids = wordnet_ids()
    assert len(set(ids)) == 1000
    assert list(ids) == sorted(ids)
    known = {"tench": "n01440764", "goldfish": "n01443537", "zebra": "n02391049", "toilet tissue": "n15075141"}
    assert {name: ids[IMAGENET.index(name)] for name in known} == known


def test_wordnet_ids_of_a_model_that_is_not_imagenet_s_are_refused():
    assert refusal(["n01440764"], outputs=10) == (
        "1 of the data's 1 classes fit no output of the model: 'n01440764'; expected 10 classes or numbers 0 to 9; rename them, or say "
        "which is which by --classes FILE with lines `name,output`"
    )


def test_a_model_that_names_its_outputs_by_wordnet_id_is_believed():
    names = (wordnet_ids()[1], wordnet_ids()[0], *wordnet_ids()[2:])
    assert match([wordnet_ids()[0]], names).outputs == {wordnet_ids()[0]: 1}


def test_by_number():
    found = match(["3", "07"], outputs=10)
    assert (found.outputs, found.classes) == ({"3": 3, "07": 7}, ())
    assert found.note == "the data's classes were taken as numbers of outputs"
    assert match(["3"], classes=("a", "b", "c", "d")).outputs == {"3": 3}


def test_by_number_says_where_text_order_may_be_meant():
    assert match([str(i) for i in range(11)], outputs=11).note == (
        "the data's classes were taken as numbers of outputs; if the model was trained by torchvision's ImageFolder, its outputs are in "
        "text order (0, 1, 10, 2, 3 and 6 more): then say so by --classes FILE"
    )


@pytest.mark.parametrize("names", [["1", "10"], ["-1", "0"], ["1", "two"], ["1", "²"], ["1" * 5000, "2"], ["1.0", "2"]])
def test_other_numbers_are_refused(names):
    assert "fit no output of the model" in refusal(names, outputs=10)


@pytest.mark.parametrize("classes", [(), ("LABEL_0", "LABEL_1", "LABEL_2")])
def test_by_order_where_the_model_names_no_classes(classes):
    found = match(["cat", "dog", "owl"], classes, outputs=3)
    assert (found.outputs, found.classes) == ({"cat": 0, "dog": 1, "owl": 2}, ("cat", "dog", "owl"))
    assert found.note == (
        "the model names no classes, so the data's (cat, dog, owl) were taken as outputs 0 to 2 in this order"
    )


def test_never_by_order_where_the_model_names_classes_or_the_numbers_differ():
    assert refusal(["cta", "dgo", "xyz"], ("cat", "dog", "owl")) == (
        "3 of the data's 3 classes fit no output of the model: 'cta' (nearest: cat), 'dgo' (nearest: dog), 'xyz'; expected names of the "
        "model's classes or numbers 0 to 2; rename them, or say which is which by --classes FILE with lines `name,output`"
    )
    assert refusal(["cat", "dog"], outputs=3).startswith(
        "2 of the data's 2 classes fit no output of the model: 'cat', 'dog'; expected 3 classes or numbers 0 to 2;"
    )


def test_numbers_from_one_are_not_taken_for_an_order():
    """Sorted as text, 1 to 10 would put 10 second."""
    assert refusal([str(i) for i in range(1, 11)], outputs=10).startswith(
        "1 of the data's 10 classes fit no output of the model: '10'; expected 10 classes or numbers 0 to 9;"
    )


def test_one_odd_name_among_many_is_the_one_named():
    assert refusal([*IMAGENET[:500], "tennch"], IMAGENET) == (
        "1 of the data's 501 classes fit no output of the model: 'tennch' (nearest: tench); expected names of the model's classes, "
        "ImageNet's WordNet ids or numbers 0 to 999; rename them, or say which is which by --classes FILE with lines `name,output`"
    )


def test_no_classes_nothing_to_match():
    found = match([], PETS)
    assert (found.outputs, found.classes, found.note) == ({}, PETS, "")


PAIRS = 'owl,2\ncat, 0\n\n"dog, the small one",1\nkitten,0\n'


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", PAIRS),
        ("c.txt", "owl\t2\ncat\t0\ndog, the small one\t1\r\nkitten\t0"),
        ("c.json", '{"owl": 2, "cat": 0, "dog, the small one": 1, "kitten": 0}'),
        ("c.yaml", "owl: 2\ncat: 0\ndog, the small one: 1\nkitten: 0\n"),
    ],
)
def test_a_file_of_pairs(tmp_path, name, text):
    found = match(["cat", "dog, the small one", "kitten", "owl"], outputs=4, file=written(tmp_path, name, text))
    assert list(found.outputs.values()) == [0, 1, 0, 2]
    assert found.classes == ("cat", "dog, the small one", "owl", "class 3")
    assert found.note == f"the data's classes were matched to outputs by {name}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.txt", "\ufefftabby, tabby cat\ndog\nowl\n\n"),
        ("c.json", '["tabby, tabby cat", "dog", "owl"]'),
        ("c.json", '{"0": "tabby, tabby cat", "2": "owl", "1": "dog"}'),
        ("c.yml", "0: tabby, tabby cat\n1: dog\n2: owl\n"),
    ],
)
def test_a_file_of_names_in_output_order(tmp_path, name, text):
    found = match(["OWL", "tabby_cat"], outputs=3, file=written(tmp_path, name, text))
    assert found.outputs == {"OWL": 2, "tabby_cat": 0}
    assert found.classes == ("tabby, tabby cat", "dog", "owl")


def test_the_file_comes_before_the_model_s_names(tmp_path):
    found = match(["a", "b"], ("a", "b"), file=written(tmp_path, "c.csv", "a,1\nb,0"))
    assert (found.outputs, found.classes) == ({"a": 1, "b": 0}, ("a", "b"))


def test_a_file_names_the_outputs_of_unlabelled_data(tmp_path):
    assert match([], outputs=2, file=written(tmp_path, "c.txt", "cat\ndog")).classes == ("cat", "dog")


def test_names_that_the_file_lacks(tmp_path):
    file = written(tmp_path, "c.csv", "a,1\n")
    assert refusal(["a", "b"], outputs=2, file=file) == (
        f"{file} does not say which output 'b' is; expected every class of the data in it; add it"
    )
    file = written(tmp_path, "c.txt", "a\nb\n")
    assert refusal(["c", "d"], outputs=2, file=file) == (
        f"{file} does not say which output 'c', 'd' are; expected every class of the data in it; add them"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "a,1\nb,x\n", "line 2: 'b,x' is no `name,output`; expected that on every line, or on none (then one name a line in "
         "output order); mend that line"),
        ("c.csv", "a,1\nb,3\n", "line 2: output 3; expected 0 to 2, the model's outputs; mend it"),
        ("c.csv", "a,1\nb,-1\n", "line 2: 'b,-1' is no `name,output`; expected that on every line, or on none (then one name a line "
         "in output order); mend that line"),
        ("c.csv", "a,1\nb,0\na,2\n", "line 3: 'a' is output 2, and 1 before; expected one; remove one of them"),
        ("c.txt", "a\nb\n", "2 names in output order; expected 3, one for each output of the model; add what is missing, or write lines "
         "`name,output`"),
        ("c.txt", "a\n\nb\n", "3 names in output order, of them 1 empty; expected 3, one for each output of the model; add what is "
         "missing, or write lines `name,output`"),
        ("c.txt", "", "1 names in output order, of them 1 empty; expected 3, one for each output of the model; add what is missing, or "
         "write lines `name,output`"),
        ("c.json", '{"a": 1.5}', "got {\"a\": 1.5}; expected {name: output}, {output: name} or a list of names, with names in quotes; "
         "mend the file"),
        ("c.json", '{"a": true}', "got {\"a\": true}; expected {name: output}, {output: name} or a list of names, with names in quotes; "
         "mend the file"),
        ("c.yaml", "no: 1\n", "got {\"false\": 1}; expected {name: output}, {output: name} or a list of names, with names in quotes; "
         "mend the file"),
        ("c.json", '{"a": 7}', "'a': output 7; expected 0 to 2, the model's outputs; mend it"),
        ("c.json", '{"7": "a"}', "'a': output 7; expected 0 to 2, the model's outputs; mend it"),
        ("c.json", "[]", "got []; expected {name: output}, {output: name} or a list of names, with names in quotes; mend the file"),
    ],
)  # fmt: skip
def test_unfit_files(tmp_path, name, text, message):
    file = written(tmp_path, name, text)
    assert refusal(["a", "b"], outputs=3, file=file) == f"{file}: {message}"


@pytest.mark.parametrize("text", ['{"a": ', "[" * 100_000])
def test_damaged_json(tmp_path, text):
    file = written(tmp_path, "c.json", text)
    assert refusal(["a"], outputs=3, file=file).endswith("; expected {name: output}; mend the place named")


def test_no_such_file_and_no_text(tmp_path):
    expected = "expected lines `name,output`, one for each class of the data; mend the path or the file"
    assert (
        refusal(["a"], outputs=3, file=tmp_path / "c.csv")
        == f"{tmp_path / 'c.csv'}: No such file or directory; {expected}"
    )
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\x00")
    assert refusal(["a"], outputs=3, file=tmp_path / "c.csv") == f"{tmp_path / 'c.csv'}: not text in UTF-8; {expected}"


def test_all_of_imagenet_s_names_in_a_file(tmp_path):
    """Real names with commas are no pairs."""
    names = [f"{name}, also {name}ish" for name in IMAGENET]
    said = read_class_file(written(tmp_path, "synsets.txt", "\n".join(names)), 1000)
    assert list(said.names.values()) == names
    assert read_class_file(written(tmp_path, "s.json", json.dumps(names)), 1000) == said
