"""InteractiveSegmenter: three networks and settings, from which cases are opened."""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import ArrayLike
from torch import nn

from limnet.case.case import Case, restore
from limnet.case.session import read_session
from limnet.case.state import Engine
from limnet.errors import InputError, InputTypeError, ModelFormatError
from limnet.image.volume import Gaps, Selection, Volume, checked_modality, checked_spacing
from limnet.settings import Settings

if TYPE_CHECKING:
    from limnet.case.case_object import CaseObject
    from limnet.learning.adapter import Adapter

PRECISIONS: tuple[str, ...] = ("auto", "fp32", "bf16")


class InteractiveSegmenter:
    """Segments structures in volumes from a few clicks. Get one by `from_pretrained`, then `open` a volume.

    Args:
        interaction: Interaction network (prompts on one slice to its mask).
        propagation: Propagation network (masks to neighbouring slices).
        quality: Quality network (which of two masks is better), or None: every round's masks replace those before.
        settings: `Settings`, or a dictionary of them.
        device: Where to compute, such as "cpu" or "cuda:0".
        precision: "fp32"; "bf16" (faster where the processor has instructions for it, results differ a little); "auto"
            (bf16 where the processor has them).
        name: What sessions call this model; the classes of the networks by default.

    Raises:
        InputError: for an unknown device, precision or setting.
        InputTypeError: if a network is not a torch module.
    """

    def __init__(
        self,
        interaction: nn.Module,
        propagation: nn.Module,
        quality: nn.Module | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
        device: str | torch.device = "cpu",
        precision: str = "auto",
        *,
        name: str | None = None,
    ) -> None:
        for role, network in (("interaction", interaction), ("propagation", propagation), ("quality", quality)):
            if not isinstance(network, nn.Module) and not (role == "quality" and network is None):
                raise InputTypeError(f"{role} must be a network (torch.nn.Module), got {type(network).__name__}")
        if precision not in PRECISIONS:
            raise InputError(f"precision is {precision!r}; allowed are {', '.join(map(repr, PRECISIONS))}")
        self.settings = _settings(settings)
        self.device = _device(device)
        self.precision = precision
        self.interaction = _for_convolutions(interaction.eval().to(self.device))
        self.propagation = _for_convolutions(propagation.eval().to(self.device))
        self.quality = None if quality is None else quality.eval().to(self.device)
        self.name = name or "+".join(type(n).__name__ for n in (interaction, propagation, quality) if n is not None)

    def __repr__(self) -> str:
        return f"<InteractiveSegmenter {self.name!r} on {self.device}, {self.precision}>"

    # models

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        device: str | torch.device = "cpu",
        precision: str = "auto",
        settings: Settings | Mapping[str, Any] | None = None,
    ) -> InteractiveSegmenter:
        """Load a model: a bundled one by name, a local folder, or a Hugging Face repository "org/name".

        Args:
            name: Such as "limnet-tiny" (bundled, needs no network), "./my-model" or "org/name".
            revision: Branch, tag or commit of a repository.
            token: Hub token; True for the stored one.
            cache_dir: Where downloads go.
            local_files_only: Use what was downloaded before, never the network.
            device: Where to compute.
            precision: "auto", "fp32" or "bf16".
            settings: Instead of the model's own.

        Raises:
            ModelNotFoundError: if there is no such model.
            ModelFormatError: if its files are damaged, unsafe or newer than this limnet.
        """
        from limnet.hub.model import load_model, locate

        folder = locate(name, revision=revision, token=token, cache_dir=cache_dir, local_files_only=local_files_only)
        model = load_model(folder)
        if settings is None:
            try:
                settings = Settings.from_stored(model.settings)
            except InputError as error:
                raise ModelFormatError(
                    f"{folder} has settings this limnet does not know ({error}): update limnet, or pass settings="
                ) from error
        return cls(
            model.interaction,
            model.propagation,
            model.quality,
            settings,
            device,
            precision,
            name=Path(name).resolve().name if Path(name).is_dir() else os.fspath(name),  # nobody needs to know where
        )

    def save_pretrained(self, folder: str | os.PathLike[str], *, card: str | None = None, half: bool = False) -> Path:
        """Write the model to a folder that `from_pretrained` reads.

        Args:
            folder: New, empty, or holding an earlier model, which is replaced.
            card: Text of its README.md; an existing one stays by default.
            half: Store weights as float16, half the size.

        Raises:
            InputError: if a network is of a class that model folders cannot hold.
            SaveError: if the folder cannot be written.
        """
        from limnet.hub.model import save_model

        return save_model(
            Path(folder),
            interaction=self.interaction,
            propagation=self.propagation,
            quality=self.quality,
            settings=self.settings.to_json(),
            card=card,
            half=half,
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | bool | None = None,
        private: bool = False,
        revision: str | None = None,
        commit_message: str = "Upload limnet model",
        card: str | None = None,
        half: bool = False,
    ) -> str:
        """Upload the model to a Hugging Face repository, made if needed; returns the address of the commit.

        Args:
            repo_id: "org/name".
            token: Hub token; the stored one by default.
            private: Whether a new repository is private.
            revision: Branch; the main one by default.
            commit_message: Title of the commit.
            card: Text of the model card; one is generated by default.
            half: Upload weights as float16.

        Raises:
            SaveError: if the Hub cannot be reached or refuses.
        """
        from limnet.hub.model import push_model

        with tempfile.TemporaryDirectory() as folder:
            target = self.save_pretrained(Path(folder) / str(repo_id).split("/")[-1], card=card, half=half)
            return push_model(target, repo_id, token, private, revision, commit_message)

    # tasks

    def learn(
        self,
        cases: Sequence[CaseObject],
        name: str,
        *,
        folder: str | os.PathLike[str] | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> Adapter:
        """Learn a task from finished cases, so that `case.propose(name)` gives the first mask of the next one.

        Takes 15 seconds on two cores for one case, one to three minutes for several (`limnet.learning.training`). The
        model itself stays as it is; what is learned is one file of a few megabytes, which may be shared.

        Args:
            cases: 1 to 20 cases, or objects of cases (`case.object("liver")`), whose masks are right.
            name: Of the task, such as "hippocampus"; what was learned under this name before is replaced.
            folder: Where to keep it; the user's own adapters by default.
            progress: Told (done, total) steps; returning False cancels.

        Raises:
            InputError: if there are no or too many cases, a case without a mask, or modalities differ.
            Cancelled: if `progress` returned False.
            SaveError: if the file cannot be written.

        Warns:
            UserWarning: if the cases seem to contradict each other, or differ too much.
        """
        from limnet.image.io.atomic import check_target, made_folder
        from limnet.learning.adapter import path_of
        from limnet.learning.training import learn

        target = path_of(name, folder)  # looked at before minutes of learning
        made_folder(target.parent)
        check_target(target)
        adapter = learn(
            self.interaction,
            [one._example() for one in cases],
            name,
            device=self.device,
            precision=self.precision,
            progress=progress,
        )
        adapter.save(folder)
        return adapter

    # cases

    def open(
        self,
        volume: Volume | ArrayLike | str | os.PathLike[str],
        spacing: Sequence[float] | None = None,
        axis: int = 0,
        window: Sequence[float] | None = None,
        index: int | None = None,
        series: str | int | None = None,
        session: str | os.PathLike[str] | None = None,
        *,
        gaps: Gaps = "refuse",
        modality: str | None = None,
        settings: Settings | Mapping[str, Any] | None = None,
    ) -> Case:
        """Open a volume for annotation.

        Args:
            volume: (D, H, W) array in raw units (HU, MR counts), (T, H, W, 3) colours, a `Volume`, or a path: NIfTI,
                NRRD, MHA, npy, npz, a DICOM folder, a folder of frames.
            spacing: mm between voxels along the three axes; default the file's, or 1 mm for an array.
            axis: Axis the slices lie along: 0, 1 or 2.
            window: (lo, hi) in raw units shown as 0..1; chosen by the first click of each object by default.
            index: Which volume of a 4-D file.
            series: Which series of a DICOM folder: its UID, number or description.
            session: File that is kept up to date after every step; must not exist yet (`resume` continues one).
            gaps: What to do with DICOM slices that make no regular grid: "refuse" or "resample" (see `Volume.read`).
            modality: "CT", "MR", ... where the volume does not say it or is wrong: decides the intensity windows.
            settings: Instead of the segmenter's own.

        Raises:
            InputError: if an argument cannot be used.
            MissingFileError: if the path does not exist.
            FileFormatError: if the file is damaged or of an unknown format.
            SaveError: if the session file cannot be written.

        Warns:
            UserWarning: if the values are those of a label map, or all the same.

        Example:
            >>> case = segmenter.open(np.random.rand(7, 64, 64), spacing=(5.0, 1.0, 1.0))
            >>> case.volume.shape, case.volume.spacing
            ((7, 64, 64), (5.0, 1.0, 1.0))
        """
        if session is not None and Path(session).exists() and not Path(session).is_dir():
            raise InputError(
                f"the session file {session} exists already: go on with it by resume({str(session)!r}), "
                "delete it, or give another name"
            )
        chosen = self.settings if settings is None else _settings(settings)
        return Case(
            self.engine(chosen),
            _volume(volume, spacing, Selection(index, series, gaps), modality),
            axis=axis,
            window=window,
            settings=chosen,
            autosave=session,
        )

    def resume(self, path: str | os.PathLike[str], volume: Any = None) -> Case:
        """Go on with a saved session, undo history included; a session that was kept up to date goes on to be.

        Args:
            path: Session file.
            volume: The volume (array, `Volume` or path) if it is not where it was.

        Raises:
            MissingFileError: if there is no such file.
            SessionError: if it is damaged, foreign, or its volume cannot be found or has changed.

        Warns:
            UserWarning: if the session was made with another model.
        """
        session = read_session(Path(path), volume)
        return restore(session, self.engine(session.settings))

    def engine(self, settings: Settings | None = None) -> Engine:
        """The networks ready for one case, with a feature cache of its own.

        Args:
            settings: Settings of the case; the segmenter's own by default.
        """
        from limnet.interaction.predictor import SlicePredictor
        from limnet.interaction.window import FeatureCache, WindowEncoder
        from limnet.propagation.propagator import Propagator
        from limnet.quality.assessor import Assessor

        settings = self.settings if settings is None else settings
        cache = FeatureCache(settings.cache_bytes)

        def encoder(network: nn.Module) -> WindowEncoder:
            return WindowEncoder(network, self.device, self.precision, cache)

        return Engine(
            SlicePredictor(encoder(self.interaction)),
            Propagator(encoder(self.propagation), settings),
            Assessor(None if self.quality is None else encoder(self.quality)),
            self.identity,
            cache,
        )

    @property
    def identity(self) -> dict[str, Any]:
        """Name, classes and hash of the weights, as sessions record them."""
        from limnet.interaction.window import fingerprint

        networks = [n for n in (self.interaction, self.propagation, self.quality) if n is not None]
        weights = "".join(fingerprint(network) for network in networks)
        return {
            "name": self.name,
            "classes": [type(network).__name__ for network in networks],
            "sha256": hashlib.sha256(weights.encode()).hexdigest(),
        }


def _settings(settings: Settings | Mapping[str, Any] | None) -> Settings:
    if settings is None or isinstance(settings, Settings):
        return settings or Settings()
    return Settings.from_json(dict(settings) if isinstance(settings, Mapping) else settings)


def _device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f'device {device!r} cannot be used here ({reason}): "cpu" always works') from error
    return found


def _for_convolutions(network: nn.Module) -> nn.Module:
    """Lay out the weights of 2-D convolutions with channels last: an eighth faster; values and names stay.

    The small quality network is faster without it. Folding batch normalisation would bring 3 % of a round more.
    """
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _volume(volume: Any, spacing: Sequence[float] | None, selection: Selection, modality: str | None) -> Volume:
    index, series, gaps = selection.index, selection.series, selection.gaps
    if isinstance(volume, (str, os.PathLike)):
        found = Volume.read(volume, index, series, gaps, modality=modality)
    elif isinstance(volume, Volume):
        if selection != Selection():
            raise InputError("index, series and gaps are for a file or folder; pass the volume you want instead")
        found = volume if modality is None else replace(volume, modality=checked_modality(modality))
    else:
        if selection != Selection(index):
            raise InputError("series and gaps are for a file or folder; pass the array you want instead")
        found = Volume.from_array(volume, spacing, modality=modality, index=index)
        spacing = None
    if found.modality == "SEG":
        raise InputError(
            f"{found.source or 'the volume'} is a segmentation, no image: open the image it belongs to, and give it as "
            "start: case.set_mask(path), on the command line --start"
        )
    if spacing is not None:
        found = replace(found, spacing=checked_spacing(spacing))
    if not found.is_color and (doubt := found.intensity.doubt):
        advice = "if it is no image, open the image and give this as start (case.set_mask, --start)"
        warnings.warn(f"{found.source or 'the volume'} has {doubt}: {advice}", stacklevel=3)
    return found
