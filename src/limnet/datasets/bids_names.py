"""Names of the Brain Imaging Data Structure: entities and suffix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# Entities that a derivative adds to the name of what it was made from.
DERIVED = frozenset(("desc", "label", "res", "den", "atlas", "seg"))
_MODALITIES = {"ct": "ct", "us": "us"}
_MR = (
    *("t1w", "t2w", "t2star", "t2starw", "flair", "pd", "pdw", "pdt2", "inplanet1", "inplanet2", "t1map", "t2map"),
    *("r1map", "m0map", "swi", "adc", "angio", "bold", "sbref", "dwi", "mp2rage", "unit1", "mese", "megre", "dixon"),
    *("vibe", "t1rho", "mtw", "trace"),
)
_MODALITIES |= dict.fromkeys(_MR, "mr")


@dataclass(frozen=True)
class BidsName:
    """A parsed file name: sub-01_ses-a_label-lesion_mask.nii.gz.

    Attributes:
        entities: key -> value in the order of the name.
        suffix: the part after the last underscore, "mask".
    """

    entities: tuple[tuple[str, str], ...]
    suffix: str

    @classmethod
    def parse(cls, path: Path) -> BidsName | None:
        """Parts of a .nii or .nii.gz file, or None if its name is not of this form."""
        match = re.fullmatch(r"(.+)\.nii(?:\.gz)?", path.name)
        *pairs, suffix = match[1].split("_") if match else [""]
        found = [re.fullmatch(r"([A-Za-z]+)-([A-Za-z0-9.+]+(?:-[A-Za-z0-9.+]+)*)", pair) for pair in pairs]
        if not suffix.isalnum() or not pairs or any(m is None for m in found):
            return None
        entities = tuple((m[1], m[2]) for m in found if m is not None)
        return cls(entities, suffix) if entities[0][0] == "sub" else None

    def get(self, key: str, default: str = "") -> str:
        """Value of an entity."""
        return dict(self.entities).get(key, default)

    @property
    def source(self) -> frozenset[tuple[str, str]]:
        """Entities without what a derivative adds; space "orig" is no space."""
        own = (e for e in self.entities if e[0] not in DERIVED and e != ("space", "orig"))
        return frozenset(own)

    @property
    def modality(self) -> str:
        """ "ct", "mr", "us", or "" for a suffix that is no image."""
        return _MODALITIES.get(self.suffix.lower(), "")
