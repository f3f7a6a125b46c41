"""The slow references must owe nothing to the code that they check."""

import ast
from pathlib import Path

import pytest

ALLOWED = {"PIL", "copy", "itertools", "math", "numpy", "pathlib", "reference", "skimage", "torch"}
FILES = sorted((Path(__file__).parent / "reference").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_a_reference_imports_nothing_of_cardgen(file):
    text = file.read_text()
    assert "__import__" not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [str(node.module)]
        else:
            continue
        assert {name.split(".")[0] for name in names} <= ALLOWED


def test_there_are_references():
    assert {"curves.py", "maps.py", "methods.py", "randomisation.py", "network.py"} <= {f.name for f in FILES}
