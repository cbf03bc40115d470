"""Pickles of numbers: some data sets ship annotations as pickled numpy arrays, and a pickle can run any code.

Nothing but numpy arrays, dtypes and scalars inside plain containers is built; anything else is refused.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any

from limnet.errors import FileFormatError

_CORES = ("numpy.core", "numpy._core")
_ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),  # bytes in pickles of protocol 2 and below
    *((f"{core}.multiarray", name) for core in _CORES for name in ("_reconstruct", "scalar")),
    *((f"{core}.numeric", "_frombuffer") for core in _CORES),
}


def load_arrays(file: IO[bytes], path: Path) -> Any:
    """Unpickle arrays, numbers, texts and containers of them.

    Args:
        file: opened for reading bytes, at the start of the pickle.
        path: where it comes from, for messages.

    Raises:
        FileFormatError: damaged, or it asks for anything else to be built.
    """
    try:
        return _ArrayUnpickler(file).load()
    except FileFormatError as error:
        raise FileFormatError(f"{path} {error}") from None
    except Exception as error:  # a damaged pickle raises almost anything
        detail = f"{type(error).__name__}: {error}"
        raise FileFormatError(f"{path} is cut short or damaged ({detail}). Copy or download it again") from error


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise FileFormatError(
                f"wants to load {module}.{name}: allowed are numpy arrays in plain containers. It is not the file it "
                "should be, and opening it otherwise could run code: download it again from its owner"
            )
        import numpy

        if module.startswith("numpy."):  # the old name of the package is an alias that will go away
            core = "numpy._core" if hasattr(numpy, "_core") else "numpy.core"
            module = core + module[module.rindex(".") :]
        return super().find_class(module, name)
