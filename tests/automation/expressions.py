"""The part of GitHub's expressions that the workflows here use; anything else is an error, so that no typo passes as empty."""

import re

TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<sign>==|!=|&&|\|\||[()!])|(?P<name>[A-Za-z_][\w.-]*(?:\(\))?))")
SIGNS = {"&&": " and ", "||": " or ", "!": " not ", "==": "==", "!=": "!=", "(": "(", ")": ")"}


def evaluate(expression, contexts):
    """The value of an expression; names are looked up in nested dicts, unknown ones of a known context are empty."""
    place, python, values = 0, [], []
    while place < len(expression.rstrip()):
        found = TOKEN.match(expression, place)
        assert found, f"not understood: {expression[place:]!r}"
        place = found.end()
        if found["sign"]:
            python.append(SIGNS[found["sign"]])
            continue
        values.append(found["text"][1:-1].replace("''", "'") if found["text"] else lookup(found["name"], contexts))
        python.append(f" values[{len(values) - 1}] ")
    return eval("".join(python), {"values": values, "__builtins__": {}})


def lookup(name, contexts):
    """`inputs.model`, `always()`, `steps.publish.outputs.outcome`."""
    if name in ("always()", "true"):
        return True
    first, *rest = name.split(".")
    assert first in contexts, f"{name}: no such context; there are {', '.join(contexts)}"
    value = contexts[first]
    for part in rest:
        value = value.get(part, "") if isinstance(value, dict) else ""
    return value


def filled(text, contexts):
    """A string with its `${{ }}` in place."""
    if not isinstance(text, str):
        return str(text).lower() if isinstance(text, bool) else str(text)
    return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(evaluate(found[1].strip(), contexts)), text)
