"""k8s/terraform/ as it is written: read by a parser, as no provider can be had for it."""

import re
from collections.abc import Iterator
from math import ceil, floor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hcl2

ROOT = Path(__file__).parent.parent / "k8s" / "terraform"
MODULES = (ROOT, *sorted((ROOT / "modules").iterdir()))

Block = dict[str, Any]


def name_of(module: Path) -> str:
    return "root" if module == ROOT else module.name


def blocks(module: Path, kind: str) -> Iterator[Block]:
    """Give the blocks of a kind from all files of a module, with their labels as keys."""
    for path in sorted(module.glob("*.tf")):
        with path.open() as file:
            yield from hcl2.load(file).get(kind, ())


def labelled(module: Path, kind: str) -> dict[str, Block]:
    """Give blocks that have one label by it: variables, outputs, modules."""
    return {
        plain(label): body
        for block in blocks(module, kind)
        for label, body in block.items()
        if not label.startswith("__")
    }


def plain(text: str) -> str:
    return text.strip('"')


def text_of(module: Path) -> str:
    """All of a module's code without its comments, templates included."""
    found = [path.read_text() for path in sorted(module.glob("*.tf"))]
    return "\n".join(re.sub(r"(?m)(^|\s)#.*$", "", text) for text in found)


def sizing(values: dict[str, float]) -> dict[str, float]:
    """Reckon the sizing module's locals in Python: its arithmetic is Python's, but for names."""
    module = ROOT / "modules" / "sizing"
    variables = {
        name: float(body["default"])
        for name, body in labelled(module, "variable").items()
        if "default" in body
    }
    var = SimpleNamespace(**variables | values)
    local = SimpleNamespace()
    names = {"var": var, "local": local, "ceil": ceil, "floor": floor, "max": max, "min": min}
    (expressions,) = blocks(module, "locals")
    for name, expression in expressions.items():
        if not name.startswith("__"):
            code = expression.removeprefix("${").removesuffix("}")
            setattr(local, name, eval(code, {"__builtins__": {}}, names))
    return vars(local)
