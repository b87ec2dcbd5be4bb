"""Use a registered model, knowing nothing of Ray or FFCV: torch, NumPy, safetensors and Pillow.

    dsnet pull models:/digits@champion ./digits          where the registry is
    python examples/registered_model.py ./digits IMAGE... [--budget 0.3]

The directory holds weights, their description and checksums, and nothing executable.
"""

import argparse

import torch

import dsnet
from dsnet.runtime.pictures import picture_bytes, read_picture
from dsnet.runtime.pixels import prepare


def main(arguments: list[str] | None = None) -> None:
    """Print each picture's class, its confidence, and what it cost to find out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", help="a model directory, as dsnet pull writes it")
    parser.add_argument("images", nargs="+", help="picture files")
    parser.add_argument("--budget", help="average multiply-adds: a fraction (0.3) or a count (2M)")
    given = parser.parse_args(arguments)

    # Checksums are verified and nothing in the directory is executed.
    model = dsnet.load(given.directory, budget=given.budget)
    predictor = dsnet.Predictor(model)
    for path in given.images:
        picture = read_picture(picture_bytes(path), path)  # as `dsnet predict` reads it
        images = prepare(picture[None], model.metadata.resolution, model.metadata.crop)
        logits, widths = predictor(torch.from_numpy(images))
        confidence, label = logits.softmax(1)[0].max(0)
        name = model.metadata.classes[int(label)] if model.metadata.classes else int(label)
        width = int(widths[0])
        print(f"{path}: {name} ({confidence:.1%}), width {width}, {model.madds(width):,} MAdds")


if __name__ == "__main__":
    main()
