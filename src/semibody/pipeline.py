"""The interface of diffusers: load, call, save as its other pipelines do.

    pipeline = SemibodyPipeline.from_pretrained("starter", dtype=torch.bfloat16).to("cuda")
    frames = pipeline(image, "speech.wav", num_inference_steps=6, generator=generator).frames[0]

``from_pretrained`` takes a name, a weights folder, or a folder in diffusers' own layout, which
``save_pretrained`` and ``semibody weights export`` write: ``model_index.json``, a scheduler, and for each
network a folder with its sizes and weights. What a clip is made of is ``Animator``'s work; here are only
diffusers' names for it.

A network is wrapped (``Network``) rather than a ``ModelMixin`` itself: its sizes are one dataclass shared by
all networks of a model, where diffusers wants each constructor's arguments to be plain values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

import diffusers
import numpy as np
import torch
from diffusers import ConfigMixin, DiffusionPipeline, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders.lora_base import LoraBaseMixin
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.utils import BaseOutput, set_weights_and_activate_adapters
from jaxtyping import Float
from torch import Tensor, nn

from semibody import config as settings
from semibody import runtime
from semibody.animator import Animator, cut
from semibody.diffusion.schedule import ScheduleConfig, diffusers_scheduler
from semibody.files import atomic_write, first_line, is_folder, temporary_folder
from semibody.inputs import prepare
from semibody.networks.attention import attention_by
from semibody.networks.loading import WeightsInfo, read_network
from semibody.networks.model import Model, build_network
from semibody.settings import Settings, Source, resolve
from semibody.types import Clip, Gesture, Picture, SemibodyError, Speech
from semibody.weights.state import read_state

OLDEST = (0, 40)
"""The first version of diffusers that calls the precision ``dtype``."""
INDEX = "model_index.json"
LORA_FILE = "pytorch_lora_weights.safetensors"
"""What diffusers calls a LoRA's file."""
_WHILE_DENOISING = ("denoising_unet", "pose_encoder", "audio_encoder")
_WHILE_DECODING = ("vae", "restorer", "pose_encoder", "audio_encoder")
"""Networks that stay on the device with ``enable_model_cpu_offload``."""
OutputType = Literal["pil", "np", "pt", "latent"]
_CUSTOM = '''"""Lets diffusers find the class of this pipeline; needs: pip install semibody"""

from semibody.pipeline import SemibodyPipeline

__all__ = ["SemibodyPipeline"]
'''


class Network(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]
    """One network of a model, as diffusers stores, moves, converts, quantises and adapts it."""

    attention_backend: str | None = None
    """of diffusers' dispatcher; None: the one that is active there"""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, network: str, info: dict[str, Any]) -> None:
        """``network``: its name in ``Model``; ``info``: the plain values of ``WeightsInfo``."""
        super().__init__()
        self.wrapped = build_network(network, settings.build(WeightsInfo, info, network).model)

    @classmethod
    def around(cls, network: nn.Module, name: str, info: dict[str, Any]) -> Network:
        """Wrap a network that is filled already."""
        with torch.device("meta"):
            made = cls(network=name, info=info)
        made.wrapped = network
        return made

    def forward(self, *given: Any, **more: Any) -> Any:
        return self.wrapped(*given, **more)

    def set_attention_backend(self, backend: str) -> None:
        """Choose a backend of diffusers' dispatcher; of the pipeline, the denoiser's counts."""
        from diffusers.models.attention_dispatch import AttentionBackendName

        known = [one.value for one in AttentionBackendName]
        if backend not in known:
            raise SemibodyError(f"attention backend {backend} is unknown; use one of {', '.join(known)}")
        self.attention_backend = backend

    def reset_attention_backend(self) -> None:
        self.attention_backend = None

    def set_adapters(self, adapter_names: list[str] | str, weights: Any = None) -> None:
        """Use these LoRAs, each with its weight (default 1)."""
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        scales = weights if isinstance(weights, list) else [weights] * len(names)
        set_weights_and_activate_adapters(self, names, [1.0 if one is None else one for one in scales])


@dataclasses.dataclass
class SemibodyOutput(BaseOutput):  # type: ignore[misc]
    """What a call gives; the first axis of ``frames`` is a batch of one clip."""

    frames: Any
    """pil: a list of lists of pictures; np: (1, f, h, w, 3) in 0..1; pt: (1, f, 3, h, w) in 0..1; latent:
    latents (1, f, c, h, w)"""
    fps: float
    clip: Clip | None = None
    """frames with their speech, for ``write_clip``; None for latents"""


class _InterruptedError(Exception):
    """A callback has set ``_interrupt``."""


class SemibodyPipeline(DiffusionPipeline, LoraBaseMixin):  # type: ignore[misc]
    """``pipeline(image, audio, gesture, num_inference_steps=6)`` gives a SemibodyOutput."""

    _lora_loadable_modules = ["reference_unet", "denoising_unet"]  # noqa: RUF012 - diffusers' way
    unet_name = "denoising_unet"
    _offload_to: torch.device | None = None

    _optional_components = ["plate", "restorer"]  # noqa: RUF012 - diffusers' way
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

    def __init__(
        self,
        reference_unet: Network,
        denoising_unet: Network,
        pose_encoder: Network,
        vae: Network,
        audio_encoder: Network,
        scheduler: Any,
        plate: Network | None = None,
        restorer: Network | None = None,
    ) -> None:
        super().__init__()
        self.register_modules(
            reference_unet=reference_unet,
            denoising_unet=denoising_unet,
            pose_encoder=pose_encoder,
            vae=vae,
            audio_encoder=audio_encoder,
            scheduler=scheduler,
            plate=plate,
            restorer=restorer,
        )
        self._interrupt = False

    # -- loading and saving ------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> SemibodyPipeline:
        """Load a name (``starter``, ``official`` …), a weights folder, or what diffusers loads.

        ``options`` are diffusers': ``dtype`` (or ``torch_dtype``), ``cache_dir`` … Raises SemibodyError for
        weights that are missing or do not fit, and for a diffusers that is too old.
        """
        _require_diffusers()
        place = pretrained_model_name_or_path
        dtype = options.pop("torch_dtype", None) or options.get("dtype")
        if (Path(place) / INDEX).is_file() or _may_be_repository(place):
            loaded = super().from_pretrained(place, **{**options, "dtype": dtype})
            return cast("SemibodyPipeline", loaded)
        try:
            precision = "auto" if dtype is None else runtime.name_of(dtype)
        except KeyError:
            raise SemibodyError(
                f"{place}: dtype {dtype} is unknown; use float32, bfloat16 or float16"
            ) from None
        # Published folders are converted while they are read; diffusers' users move the pipeline themselves.
        precision = "bf16" if dtype == torch.float16 else precision
        device = str(options.get("device", "cpu"))
        animator = Animator.load(place, precision=precision, device=device, memory="full")
        made = cls.from_animator(animator)
        return made.to(dtype=dtype) if dtype == torch.float16 else made

    @classmethod
    def from_animator(cls, animator: Animator) -> SemibodyPipeline:
        """The same networks, schedule and default settings."""
        model = animator.model
        info = {**animator.info(), "model": settings.to_dict(model.config)}
        networks = {name: Network.around(getattr(model, name), name, info) for name in model.config.networks}
        scheduler = diffusers_scheduler(animator.schedule, animator.defaults.solver, animator.defaults.steps)
        return cls(scheduler=scheduler, **networks)

    @property
    def animator(self) -> Animator:
        """The Animator of these networks, in the place and precision that they have now."""
        parts = {name: part for name, part in self.components.items() if isinstance(part, Network)}
        info = settings.build(WeightsInfo, self.denoising_unet.config["info"], INDEX)
        model = Model(info.model, {name: part.wrapped for name, part in parts.items()})
        schedule = settings.build(ScheduleConfig, info.schedule, INDEX)
        defaults = settings.build(Settings, info.defaults, INDEX)
        return Animator(model.requires_grad_(False), schedule=schedule, defaults=defaults, origin=info.origin)

    # -- adapting and placing --------------------------------------------------------------------

    def load_lora_weights(
        self,
        pretrained_model_name_or_path_or_dict: str | Path | dict[str, Tensor],
        adapter_name: str | None = None,
        *,
        weight_name: str = LORA_FILE,
    ) -> None:
        """Add a LoRA in diffusers' form: a dict, a .safetensors file, or a folder or repository that holds
        ``weight_name``. Names are ``denoising_unet.<layer>.lora_A.weight``. ``set_adapters``, ``fuse_lora``,
        ``unload_lora_weights`` and the like are diffusers' own.

        Raises SemibodyError for a file that cannot be read or names no layer of these networks.
        """
        source = pretrained_model_name_or_path_or_dict
        state = source if isinstance(source, dict) else read_state(_lora_file(str(source), weight_name))
        given = "the LoRA" if isinstance(source, dict) else str(source)
        found: dict[str, dict[str, Tensor]] = {}
        for key, tensor in state.items():
            part, _, rest = key.partition(".")
            layer, mark, kind = rest.partition(".lora_")
            wrapped = getattr(self, part, None) if part in self._lora_loadable_modules and mark else None
            if wrapped is None or layer not in dict(wrapped.wrapped.named_modules()):
                raise SemibodyError(
                    f"{given}: {key} fits no layer; name them like denoising_unet.….to_q.lora_A.weight"
                )
            found.setdefault(part, {})[f"wrapped.{layer}.lora_{kind}"] = tensor
        if not found:
            raise SemibodyError(f"{given}: holds no LoRA; give a file of diffusers' or peft's")
        for part, tensors in found.items():
            getattr(self, part).load_lora_adapter(tensors, prefix=None, adapter_name=adapter_name)

    def enable_model_cpu_offload(
        self, gpu_id: int | None = None, device: torch.device | str | None = None
    ) -> None:
        """Keep on the GPU only the networks that a stage needs: all while conditions are computed, the
        denoiser and the encoders of frames while it denoises, the autoencoder and restorer while it decodes.

        Between calls all are on the CPU. Raises SemibodyError without such a device.
        """
        named = str(device) if device is not None else "cuda" if gpu_id is None else f"cuda:{gpu_id}"
        self._offload_to = runtime.choose_device(named)
        self._place()

    def enable_sequential_cpu_offload(self, *_: Any, **__: Any) -> None:
        """Not possible: conditions come from parts of networks, which its hooks do not see."""
        raise SemibodyError("enable_sequential_cpu_offload does not work here; use enable_model_cpu_offload")

    def _place(self, *needed: str) -> None:
        """With offloading, put the ``needed`` networks on the device, and the others on the CPU."""
        if self._offload_to is None:
            return
        networks = {name: part for name, part in self.components.items() if isinstance(part, Network)}
        for name, part in networks.items():
            if name not in needed:
                part.to("cpu")
        if self._offload_to.type == "cuda":
            torch.cuda.empty_cache()
        for name, part in networks.items():
            if name in needed:
                part.to(self._offload_to)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention by diffusers' dispatcher, whose axes are (n, l, heads, d)."""
        given = (x.transpose(1, 2) for x in (q, k, v))
        out: Tensor = dispatch_attention_fn(*given, backend=self.denoising_unet.attention_backend)
        return out.transpose(1, 2)

    # -- calling -----------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(
        self,
        image: Any,
        audio: str | Path | Speech,
        gesture: str | Path | Gesture = "auto",
        *,
        generator: torch.Generator | None = None,
        output_type: OutputType = "pil",
        callback_on_step_end: Callable[..., dict[str, Any] | None] | None = None,
        **changes: Any,
    ) -> SemibodyOutput:
        """Make a clip. Raises SemibodyError as ``Animator.animate``.

        ``image`` is a path, a PIL picture or uint8 (h, w, 3). ``changes`` are fields of Settings, also under
        diffusers' names: ``num_inference_steps``, ``guidance_scale``, ``num_frames``. A ``generator`` draws
        the seed. The scheduler is the pipeline's own unless ``solver`` is given. ``callback_on_step_end`` is
        called with pipeline, step, timestep and ``{"latents": (1, f, c, h, w)}``; latents that it returns
        take their place, and where it sets ``pipeline._interrupt = True`` no further step is made.
        """
        changes = _own_names(changes)
        if generator is not None:
            drawn = torch.randint(2**31, (), generator=generator, device=generator.device)
            changes["seed"] = int(drawn)
        if output_type not in ("pil", "np", "pt", "latent"):
            raise SemibodyError(f"output_type {output_type} is unknown; use pil, np, pt or latent")
        chosen = self.animator.settings(**changes)
        inputs = prepare(_picture(image), audio, gesture, chosen)
        try:
            with attention_by(self._attend):
                self._place(*self.components)
                animator = self.animator
                conditions = animator.conditions(inputs, chosen)
                self._place(*_WHILE_DENOISING)
                latents = self._denoise(
                    animator, conditions, chosen, callback_on_step_end, "solver" in changes
                )
                if output_type == "latent":
                    return SemibodyOutput(frames=latents[None], fps=chosen.fps)
                self._place(*_WHILE_DECODING)
                pixels = np.concatenate(list(animator.decode(latents, conditions)))
        finally:
            self._place()
        speech = cut(inputs.speech, len(pixels) / chosen.fps)
        clip = Clip(pixels, chosen.fps, speech, animator.metadata(chosen))
        return SemibodyOutput(frames=_as(output_type, pixels), fps=chosen.fps, clip=clip)

    def _denoise(
        self, animator: Animator, conditions: Any, chosen: Settings, callback: Any, own_solver: bool
    ) -> Float[Tensor, "f c h w"]:
        self._interrupt = False
        last: list[Tensor] = []
        with self.progress_bar(total=chosen.steps) as bar:

            def after_step(step: int, t: Tensor, latents: Tensor) -> None:
                last[:] = [latents]
                bar.update()
                if callback is None:
                    return
                answer = callback(self, step, t, {"latents": latents[None]}) or {}
                if "latents" in answer:
                    latents.copy_(answer["latents"][0])
                if self._interrupt:
                    raise _InterruptedError

            scheduler = None
            if not own_solver:
                scheduler = type(self.scheduler).from_config(self.scheduler.config)
                scheduler.set_timesteps(chosen.steps)
            try:
                return animator.denoise(conditions, chosen, scheduler=scheduler, after_step=after_step)
            except _InterruptedError:
                return last[0]


def export(source: str | Path, target: Path, dtype: torch.dtype | None = None) -> None:
    """Write weights in diffusers' layout into the new folder ``target``, with the file that lets
    ``DiffusionPipeline.from_pretrained(target, custom_pipeline=target)`` load it; ``dtype`` None: as stored.

    Raises SemibodyError if ``target`` is there already, or ``source`` cannot be loaded.
    """
    if target.exists() and not (is_folder(target) and not any(target.iterdir())):
        raise SemibodyError(f"{target}: is there already; name a new folder")
    if dtype is None:
        found = resolve(Source(weights=str(source)))
        stored = read_network(found.folder, "denoising_unet", found.variant)
        dtype = next(iter(stored.values())).dtype
    pipeline = SemibodyPipeline.from_pretrained(source, dtype=dtype)
    with temporary_folder(target) as unfinished:
        pipeline.save_pretrained(unfinished)
        with atomic_write(unfinished / "pipeline.py") as path:
            path.write_text(_CUSTOM, encoding="utf-8")
        for part in _parts(unfinished):
            part.chmod(0o644)
        unfinished.replace(target)


def _parts(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _lora_file(source: str, name: str) -> Path:
    """The file of a LoRA: the one named, one in the folder named, or one of a repository on the Hub."""
    if is_folder(Path(source)):
        source = str(Path(source) / name)
    if Path(source).is_file():
        return Path(source)
    if not _may_be_repository(source):
        raise SemibodyError(f"{source}: no such LoRA; name a .safetensors file, or a folder with {name}")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source, name))
    except Exception as error:  # the Hub's client fails in many ways
        raise SemibodyError(f"{source}: {name} could not be fetched ({first_line(error)})") from None


def _require_diffusers() -> None:
    numbers = tuple(int(part) for part in diffusers.__version__.split(".")[:2])
    if numbers < OLDEST:
        raise SemibodyError(
            f"diffusers {diffusers.__version__} is too old for SemibodyPipeline; "
            "run: pip install -U 'diffusers>=0.40'"
        )


def _may_be_repository(place: str | Path) -> bool:
    """Whether it is a name on the Hub rather than one of ours or a folder."""
    return str(place).count("/") == 1 and not Path(place).exists()


def _own_names(changes: dict[str, Any]) -> dict[str, Any]:
    """Settings under our names; lists of tensors for callbacks are diffusers' own business."""
    tensors = changes.pop("callback_on_step_end_tensor_inputs", ["latents"])
    if list(tensors) != ["latents"]:
        raise SemibodyError('callback_on_step_end_tensor_inputs: only ["latents"] is given to callbacks')
    names = {"num_inference_steps": "steps", "guidance_scale": "guidance", "num_frames": "length"}
    return {names.get(key, key): value for key, value in changes.items()}


def _picture(image: Any) -> str | Path | Picture:
    return np.asarray(image.convert("RGB")) if hasattr(image, "convert") else image


def _as(output_type: OutputType, pixels: np.ndarray[Any, Any]) -> Any:
    if output_type == "pt":
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)[None].float() / 255
    scaled = pixels.astype(np.float32) / 255
    return [VaeImageProcessor.numpy_to_pil(scaled)] if output_type == "pil" else scaled[None]
