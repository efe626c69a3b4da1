"""What the engines on this machine lack, for `gateway check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gateway.engines.onnx import has_cuda
from gateway.engines.types import ModelError
from gateway.engines.whisper import cannot_compute, installed
from gateway.providers.local.chat import can_chat
from gateway.providers.local.kokoro import Speaker
from gateway.providers.local.settings import LocalSettings
from gateway.providers.local.stt import WHISPER_BASE
from gateway.providers.local.tts import missing
from gateway.settings.extras import how_to_install
from gateway.upstreams.provider import ProviderSettings
from gateway.weights import fetch


def lacks(settings: ProviderSettings) -> Sequence[tuple[str, str]]:
    """Pairs of an option that names what is not there ("" where nothing was asked for), and what
    is to be done."""
    assert isinstance(settings, LocalSettings)
    return tuple(_lacks(settings))


def _lacks(settings: LocalSettings) -> Iterator[tuple[str, str]]:
    if not installed():
        option = "whisper" if settings.whisper else ""
        yield option, f"local/whisper needs faster-whisper ({how_to_install('local')})"
    elif fetch.present(WHISPER_BASE) is None:
        yield "", "local/whisper is not fetched: gateway models fetch silero-vad whisper-base"
    if installed() and (settings.whisper or fetch.present(WHISPER_BASE) is not None):
        device = settings.whisper_device or settings.device
        if wrong := cannot_compute(device, settings.whisper_compute_type):
            yield "whisper_device", wrong
    if settings.whisper and fetch.present("silero-vad") is None:
        yield "whisper", "finding speech needs a model: gateway models fetch silero-vad"
    for name, path in settings.whisper.items():
        # a folder, or a hub's name for a model
        if path.startswith(("/", ".", "~")) and not (Path(path) / "model.bin").is_file():
            yield f"whisper.{name}", f"there is no model.bin in {path}"
    if (lack := missing(settings.voice_folder)) is not None:
        yield ("voice_folder" if settings.voice_folder else ""), f"local/kokoro: {lack}"
    elif settings.voice_folder and (wrong := _wrong_voice(settings.voice_folder)):
        yield "voice_folder", wrong
    elif settings.device == "cuda" and not has_cuda():
        yield "device", "local/kokoro on a GPU needs onnxruntime-gpu in place of onnxruntime"
    if settings.llm and not can_chat():
        yield "llm", f"needs xllamacpp ({how_to_install('local-llm')})"
    for name, file in settings.llm.items():
        if wrong := _wrong_llm(file):
            yield f"llm.{name}", wrong


def _wrong_voice(folder: Path) -> str:
    try:
        Speaker(folder, 1)
    except (ModelError, OSError) as error:
        return str(error)
    return ""


def _wrong_llm(file: Path) -> str:
    if not file.is_file():
        return f"there is no file {file}"
    try:
        with file.open("rb") as model:
            return "" if model.read(4) == b"GGUF" else f"{file} is no GGUF file"
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
