"""Codes of SNOMED CT for the names of objects, from the context groups of the standard (PS3.16) that pydicom holds."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

_CATEGORIES = {  # context group of segmentation property types -> their category, the narrower ones first
    7194: "MorphologicallyAbnormalStructure",
    7191: "Tissue",
    7192: "AnatomicalStructure",
    7197: "BodySubstance",
    7193: "PhysicalObject",
}
_SIDES = {"left": "Left", "right": "Right"}
_SYNONYMS = {  # everyday names of what the standard names otherwise
    "bone": "bonetissue",
    "muscle": "muscletissue",
    "fat": "adiposetissue",
    "smallbowel": "smallintestine",
    "largebowel": "largeintestine",
    "tumor": "neoplasm",
    "tumour": "neoplasm",
    "metastasis": "neoplasmsecondary",
    "urinarybladder": "bladder",
    "adrenal": "adrenalgland",
    "oesophagus": "esophagus",
    "oedema": "edema",
    "haemorrhage": "hemorrhage",
    "ivc": "inferiorvenacava",
}


class Coded(NamedTuple):
    """What a name means: its category, its type, and the side of the body if it says one."""

    category: Code
    type: Code
    side: Code | None


def coded(name: str) -> Coded:
    """The codes for the name of an object, such as "liver", "left kidney", "Kidney_L" or "tumors"; else tissue."""
    from pydicom.sr.codedict import codes

    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    side = next((word for word in words if word in _SIDES), None)
    if side is None and words and words[-1] in ("l", "r"):
        side = "left" if words.pop() == "l" else "right"
    table = _table()
    if "".join(words) in table:  # some have the side in their name, such as the left ventricle
        return Coded(*table["".join(words)], None)
    plain = "".join(word for word in words if word not in _SIDES)
    for key in (plain, plain.removesuffix("s"), plain.removesuffix("es")):
        found = table.get(_SYNONYMS.get(key, key))
        if found is not None:
            return Coded(*found, None if side is None else getattr(codes.SCT, _SIDES[side]))
    return Coded(codes.SCT.Tissue, codes.SCT.Tissue, None)


@lru_cache(maxsize=1)
def _table() -> dict[str, tuple[Code, Code]]:
    from pydicom.sr.codedict import codes

    found: dict[str, tuple[Code, Code]] = {}
    for group, category in _CATEGORIES.items():
        types = getattr(codes, f"CID{group}")
        for keyword in types.dir():
            code = getattr(types, keyword)
            if code.scheme_designator == "SCT":
                found.setdefault(keyword.lower(), (getattr(codes.SCT, category), code))
    return found
