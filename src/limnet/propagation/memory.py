"""The memory of propagation: working frames, permanent frames and long-term prototypes, for any key and value sizes.

XMem section 3.3 with three differences: any number of frames may be permanent (every prompted slice), objects that
join late keep their own keys, and pruning keeps exactly as many elements as allowed. The sensory memory is a plain
tensor kept by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from limnet.errors import InputError
from limnet.propagation.tokens import Tokens


@dataclass(frozen=True)
class MemoryConfig:
    """Limits of a `MemoryBank`; the defaults are those of the XMem evaluation.

    Attributes:
        top_k: Elements each query reads.
        long_term: Compress old frames to prototypes; False keeps every frame as it is, without any limit.
        min_frames: Working frames left after a consolidation, the first permanent one included.
        max_frames: Working frames at which consolidation starts, the first permanent one included.
        prototypes: Elements that one consolidation leaves in the long-term memory.
        max_long_elements: Upper limit of the long-term memory; the least used elements are dropped.
        max_permanent: Permanent frames kept; beyond that the oldest but the first becomes ordinary.
    """

    top_k: int = 30
    long_term: bool = True
    min_frames: int = 5
    max_frames: int = 10
    prototypes: int = 128
    max_long_elements: int = 10000
    max_permanent: int = 64

    def __post_init__(self) -> None:
        for name in ("top_k", "min_frames", "prototypes", "max_permanent"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.max_frames <= self.min_frames:
            raise InputError(f"max_frames ({self.max_frames}) must be larger than min_frames ({self.min_frames})")
        if self.max_long_elements < self.prototypes:
            raise InputError(
                f"max_long_elements ({self.max_long_elements}) must be at least prototypes ({self.prototypes})"
            )


@dataclass(frozen=True)
class _Frame:
    size: int
    permanent: bool


@dataclass
class _Group:
    """Objects that entered together: one table, long-term elements first, then the working frames in order."""

    objects: tuple[int, ...]
    tokens: Tokens
    long: int = 0
    frames: list[_Frame] = field(default_factory=list)

    def add(self, tokens: Tokens, permanent: bool, config: MemoryConfig) -> None:
        self.tokens = self.tokens.join(tokens) if self.frames else tokens
        self.frames.append(_Frame(len(tokens), permanent or not self.frames))
        steady = [i for i, frame in enumerate(self.frames) if frame.permanent]
        if len(steady) > config.max_permanent and len(steady) > 1:
            self.frames[steady[1]] = replace(self.frames[steady[1]], permanent=False)
        if config.long_term:
            self._consolidate(config)

    def _consolidate(self, config: MemoryConfig) -> None:
        passing = [i for i, frame in enumerate(self.frames) if not frame.permanent]
        if len(passing) < config.max_frames - 1:
            return
        old = set(passing[: len(passing) - (config.min_frames - 1)])
        rows = torch.arange(self.long, len(self.tokens)).split([frame.size for frame in self.frames])
        device = self.tokens.key.device
        gone = torch.cat([rows[i] for i in sorted(old)]).to(device)
        left = torch.cat([rows[i] for i in range(len(self.frames)) if i not in old]).to(device)
        long = self.tokens.take(slice(0, self.long)).prune(config.max_long_elements - config.prototypes)
        long = long.join(self.tokens.take(gone).prototypes(config.prototypes))
        self.tokens = long.join(self.tokens.take(left))
        self.long = len(long)
        self.frames = [frame for i, frame in enumerate(self.frames) if i not in old]


class MemoryBank:
    """Key-value memory of one sequence (batch of one).

    Works for every network that gives keys and values of fixed sizes Ck and Cv, with or without shrinkage and
    selection. Frames may differ in h and w. Tensors are never changed in place, so `clone` is cheap.

    Args:
        config: Limits; None takes the defaults.
    """

    def __init__(self, config: MemoryConfig | None = None) -> None:
        self.config = config or MemoryConfig()
        self._groups: list[_Group] = []

    @property
    def objects(self) -> tuple[int, ...]:
        """Objects in the memory, in the order they came."""
        return tuple(name for group in self._groups for name in group.objects)

    @property
    def working_size(self) -> int:
        """Elements in permanent and working frames (of the objects that have most)."""
        return max((len(group.tokens) - group.long for group in self._groups), default=0)

    @property
    def long_size(self) -> int:
        """Long-term prototypes (of the objects that have most)."""
        return max((group.long for group in self._groups), default=0)

    def tables(self, name: int) -> tuple[Tokens, Tokens]:
        """Working and long-term elements of an object's group, for inspection.

        Raises:
            InputError: Unknown object.
        """
        for group in self._groups:
            if name in group.objects:
                return group.tokens.take(slice(group.long, None)), group.tokens.take(slice(0, group.long))
        raise InputError(f"object {name} is not in the memory; it holds {self.objects}")

    def add(
        self,
        key: Tensor,
        shrinkage: Tensor | None,
        selection: Tensor | None,
        value: Tensor,
        objects: Sequence[int],
        permanent: bool = False,
    ) -> None:
        """Insert a frame.

        Objects seen for the first time form a group of their own, which reads only frames added from now on. The first
        frame of each group is always permanent.

        Args:
            key: (1, Ck, h, w).
            shrinkage: (1, 1, h, w) or None.
            selection: (1, Ck, h, w) or None.
            value: (1, O, Cv, h, w).
            objects: O names, among them every object already in the memory.
            permanent: Never compress this frame (a prompted slice).

        Raises:
            InputError: Shapes do not fit, or objects are repeated or left out.
        """
        names = [int(name) for name in objects]
        self._check_frame(key, shrinkage, selection, value, names)
        fresh = Tokens.new(
            _rows(key),
            None if shrinkage is None else _rows(shrinkage),
            None if selection is None else _rows(selection),
            value[0].flatten(2).permute(2, 0, 1).contiguous(),
        )
        place = {name: i for i, name in enumerate(names)}
        for group in self._groups:
            group.add(fresh.keep_objects([place.pop(name) for name in group.objects]), permanent, self.config)
        if place:
            group = _Group(tuple(place), fresh)
            group.add(fresh.keep_objects(list(place.values())), permanent, self.config)
            self._groups.append(group)

    def read(self, key: Tensor, selection: Tensor | None, objects: Sequence[int] | None = None) -> Tensor:
        """Ask the memory; advances the usage counters.

        Args:
            key: (1, Ck, h, w) key of the frame to segment.
            selection: (1, Ck, h, w) or None.
            objects: Order of the answer; None means `self.objects`.

        Returns:
            (1, O, Cv, h, w) in the dtype of the values.

        Raises:
            InputError: The memory is empty, or lacks an object.
        """
        if not self._groups:
            raise InputError("the memory is empty; add a frame with its mask before reading")
        if key.ndim != 4 or key.shape[0] != 1:
            raise InputError(f"key has shape {tuple(key.shape)}; expected (1, Ck, h, w)")
        query, select = _rows(key), None if selection is None else _rows(selection)
        parts = []
        for group in self._groups:
            out, group.tokens = group.tokens.read(query, select, self.config.top_k)
            parts.append(out)
        result = torch.cat(parts, 1).permute(1, 2, 0).unflatten(2, key.shape[-2:])[None]
        held = self.objects
        if objects is None or tuple(objects) == held:
            return result
        missing = [name for name in objects if name not in held]
        if missing:
            raise InputError(f"objects {missing} are not in the memory; it holds {held}")
        return result[:, [held.index(name) for name in objects]]

    def remove(self, objects: Sequence[int]) -> None:
        """Forget objects; the others stay as they are.

        Raises:
            InputError: An object is not in the memory.
        """
        missing = [name for name in objects if name not in self.objects]
        if missing:
            raise InputError(f"objects {missing} are not in the memory; it holds {self.objects}")
        groups = []
        for group in self._groups:
            left = [i for i, name in enumerate(group.objects) if name not in objects]
            if len(left) == len(group.objects):
                groups.append(group)
            elif left:
                names = tuple(group.objects[i] for i in left)
                groups.append(_Group(names, group.tokens.keep_objects(left), group.long, list(group.frames)))
        self._groups = groups

    def clear(self) -> None:
        """Forget everything."""
        self._groups = []

    def clone(self) -> MemoryBank:
        """A second memory with the same content; tensors are shared until either changes."""
        other = MemoryBank(self.config)
        other._groups = [_Group(g.objects, g.tokens, g.long, list(g.frames)) for g in self._groups]
        return other

    def _check_frame(
        self, key: Tensor, shrinkage: Tensor | None, selection: Tensor | None, value: Tensor, names: list[int]
    ) -> None:
        if key.ndim != 4 or key.shape[0] != 1:
            raise InputError(f"key has shape {tuple(key.shape)}; expected (1, Ck, h, w)")
        size = tuple(key.shape[-2:])
        if value.ndim != 5 or value.shape[:2] != (1, len(names)) or tuple(value.shape[-2:]) != size:
            raise InputError(
                f"value has shape {tuple(value.shape)}; expected (1, {len(names)}, Cv, {size[0]}, {size[1]}), "
                "one row per object"
            )
        for name, part, channels in (("shrinkage", shrinkage, 1), ("selection", selection, key.shape[1])):
            if part is not None and tuple(part.shape) != (1, channels, *size):
                raise InputError(f"{name} has shape {tuple(part.shape)}; expected {(1, channels, *size)}")
        if not names or len(set(names)) != len(names):
            raise InputError(f"objects are {names}; give at least one, each once")
        left_out = [name for name in self.objects if name not in names]
        if left_out:
            raise InputError(f"objects {left_out} are in the memory but got no value; give all, or remove() them first")
        for group in self._groups[:1]:
            held = (group.tokens.key.shape[1], group.tokens.value.shape[2])
            if (key.shape[1], value.shape[2]) != held:
                raise InputError(
                    f"key and value have {(key.shape[1], value.shape[2])} channels; the memory holds {held}; "
                    "use a new MemoryBank"
                )
            for name, part, kept in (
                ("shrinkage", shrinkage, group.tokens.shrinkage),
                ("selection", selection, group.tokens.selection),
            ):
                if (part is None) != (kept is None):
                    raise InputError(f"{name} must be given with every frame of a memory or with none")


def _rows(x: Tensor) -> Tensor:
    return x[0].flatten(1).T.contiguous()
