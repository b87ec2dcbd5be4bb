"""What a denoiser is worth: PSNR on whole pictures, compared with scikit-image's denoisers.

The chain of the configuration is run first, or found. Each of its test pictures, whole, gets noise
of each level from the same counters, and everything is given the same noisy pictures: every width,
the dynamic network as it was tuned, and scikit-image's non-local means and wavelets, which get
the level, with the settings that its gallery shows for that. Values are means over the pictures,
their spread is from picture to picture.
"""

import importlib.util
from collections.abc import Callable, Iterator
from statistics import mean

import numpy as np
import torch

import dsnet
from dsnet import DSNet, Predictor
from dsnet.errors import InputError
from dsnet.inference.reach import surroundings
from dsnet.runtime.session import Outputs
from dsnet.runtime.tiles import restore
from dsnet.tasks.noise import Noise
from jobs.bench.options import Options
from jobs.bench.record import Record
from pipeline import chain
from pipeline.cluster.progress import Progress
from pipeline.data.sources.train_and_test import evaluated_on
from pipeline.predict.pictures import psnr
from pipeline.runner.job import local

LEVELS = (15, 25, 50)
UNIT = "dB"

Denoiser = Callable[[np.ndarray, int], np.ndarray]
"""A noisy picture, uint8 (H, W, 3), and the level of its noise, of 255, to a clean one."""


def bench(options: Options) -> list[Record]:
    """PSNR of each denoiser at each level, and multiply-adds per pixel of each width."""
    if importlib.util.find_spec("pywt") is None:
        raise InputError(
            "bench denoise: expected PyWavelets, which scikit-image's wavelets need, found it not "
            "installed: pip install 'dsnet[dev]'"
        )
    result = chain.run(options.config)
    model = dsnet.load(local(options.config, result.version))
    if not model.task.pictures:
        raise InputError(
            f"bench denoise: expected a configuration whose answers are pictures, found one for "
            f"{model.task.name}"
        )
    pictures = list(_pictures(options))
    side = 64 if options.quick else None
    pictures = [picture[:side, :side] for picture in pictures]
    levels = LEVELS[1:2] if options.quick else LEVELS
    denoisers = {**_networks(model), **_classical()}
    title = f"{options.config.name} on {len(pictures)} whole pictures"
    records = _costs(title, model, pictures)
    with Progress("bench denoise", len(levels) * len(pictures), "pictures") as progress:
        for number, level in enumerate(levels):
            reached: dict[str, list[float]] = {name: [] for name in ("noisy", *denoisers)}
            for index, picture in enumerate(pictures):
                noisy = _noisy(picture, level, index)
                reached["noisy"].append(_psnr(noisy, picture))
                for name, denoise in denoisers.items():
                    reached[name].append(_psnr(denoise(noisy, level), picture))
                progress.update(number * len(pictures) + index + 1)
            records += [
                _record(f"{title}: level {level}: {name}", UNIT, values)
                for name, values in reached.items()
            ]
    return records


def _pictures(options: Options) -> Iterator[np.ndarray]:
    whole = options.config.data.model_copy(update={"tile": None})
    source = evaluated_on(whole, labelled=False)
    for index in range(len(source)):
        yield source[index].pixels()


def _noisy(picture: np.ndarray, level: int, index: int) -> np.ndarray:
    """The same for everything that is compared."""
    clean = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    noisy = Noise(level, level).on(clean, torch.tensor([index]))
    return (noisy[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def _networks(model: DSNet) -> dict[str, Denoiser]:
    found = {f"width {index}": _network(model, index) for index in range(len(model.space))}
    return {**found, "dynamic": _network(model, None)}


def _network(model: DSNet, width: int | None) -> Denoiser:
    around = surroundings(model)
    assert around is not None
    predictor = Predictor(model, width=width)

    def run(images: np.ndarray) -> Outputs:
        outputs, widths, madds = predictor.routed(images)
        return outputs.numpy(), widths.numpy(), madds.numpy()

    return lambda noisy, level: restore(run, noisy, around).picture


def _classical() -> dict[str, Denoiser]:
    """As scikit-image's gallery sets them where the level is known."""
    from skimage.restoration import denoise_nl_means, denoise_wavelet

    def unit(noisy: np.ndarray) -> np.ndarray:
        return noisy.astype(np.float64) / 255

    def pixels(clean: np.ndarray) -> np.ndarray:
        return np.rint(clean.clip(0, 1) * 255).astype(np.uint8)

    def means(noisy: np.ndarray, level: int, strength: float, fast: bool) -> np.ndarray:
        sigma = level / 255
        how = {"patch_size": 5, "patch_distance": 6, "channel_axis": -1, "fast_mode": fast}
        return pixels(denoise_nl_means(unit(noisy), h=strength * sigma, sigma=sigma, **how))

    def wavelets(noisy: np.ndarray, level: int, method: str) -> np.ndarray:
        how = {"channel_axis": -1, "convert2ycbcr": True, "rescale_sigma": True, "mode": "soft"}
        return pixels(denoise_wavelet(unit(noisy), sigma=level / 255, method=method, **how))

    return {
        "non-local means": lambda noisy, level: means(noisy, level, 0.8, fast=False),
        "non-local means, fast": lambda noisy, level: means(noisy, level, 0.6, fast=True),
        "wavelets, BayesShrink": lambda noisy, level: wavelets(noisy, level, "BayesShrink"),
        "wavelets, VisuShrink": lambda noisy, level: wavelets(noisy, level, "VisuShrink"),
    }


def _costs(title: str, model: DSNet, pictures: list[np.ndarray]) -> list[Record]:
    return [
        _record(
            f"{title}: width {index} multiply-adds per pixel",
            "MAdds",
            [
                model.madds(index, (picture.shape[0], picture.shape[1])) / picture[..., 0].size
                for picture in pictures
            ],
        )
        for index in range(len(model.space))
    ]


def _psnr(picture: np.ndarray, clean: np.ndarray) -> float:
    value = psnr(picture, clean)
    assert value is not None  # nothing takes noise away without a trace
    return value


def _record(name: str, unit: str, values: list[float]) -> Record:
    return Record(name, unit, mean(values), (min(values), max(values)), len(values))
