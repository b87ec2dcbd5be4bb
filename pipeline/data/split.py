"""Setting samples aside, with every class in its share."""

import math

import numpy as np

from dsnet.errors import InputError
from pipeline.data.manifest import Manifest
from pipeline.data.random_bits import permutation

_TEST_SEED = 0  # what is held out to test on depends on the labels and the share alone


def stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split range(len(labels)) into the rest and a class-stratified `fraction` of it.

    The part has ceil(fraction * len(labels)) samples. Each class gives its share to within one
    sample (largest remainders). Returns (rest, part): int64, sorted, disjoint.
    """
    classes, members = np.unique(labels, return_inverse=True)
    counts = np.bincount(members, minlength=len(classes))
    # Rounded before ceil: 0.2 * 1435 is a hair above 287.
    total = min(len(labels), math.ceil(round(fraction * len(labels), 9)))
    shares = counts * (total / max(len(labels), 1))
    quotas = np.floor(shares + 1e-9).astype(np.int64)
    order = np.argsort(quotas - shares, kind="stable")  # largest remainder first
    quotas[order[: total - quotas.sum()]] += 1
    chosen = np.zeros(len(labels), bool)
    for index, quota in enumerate(quotas):
        of_class = np.flatnonzero(members == index)
        chosen[of_class[permutation(len(of_class), seed, index)[:quota]]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def held_out(labels: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split range(len(labels)) into what is trained on and a class-stratified `share` to test on.

    Each class gives its share to within one sample, and keeps at least one to train on. Returns
    (train, test): int64, sorted, disjoint, together every sample; `test` is empty where no class
    has two samples. The same labels and share give the same split everywhere.
    """
    train, test = stratified(labels, share, _TEST_SEED)
    # A class that would give all of its samples keeps the first of them.
    given, first = np.unique(labels[test], return_index=True)
    kept = test[first[~np.isin(given, labels[train])]]
    return np.union1d(train, kept), np.setdiff1d(test, kept)


def holdout(manifest: Manifest, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Set a class-stratified `fraction` of a beton's samples aside.

    Returns (train_indices, holdout_indices), int64, sorted, disjoint, together every sample. The
    same manifest, fraction and seed give the same split everywhere.

    Raises InputError if the fraction is not in (0, 1) or leaves one side empty.
    """
    if not 0 < fraction < 1:
        raise InputError(
            f"holdout fraction: expected a number between 0 and 1, found {fraction}; "
            "0.1 holds a tenth out"
        )
    train, held_out = stratified(manifest.labels(), fraction, seed)
    if not len(train) or not len(held_out):
        raise InputError(
            f"holdout fraction {fraction} of {manifest.samples} samples leaves {len(train)} to "
            f"train on and {len(held_out)} held out; expected at least one of each"
        )
    return train, held_out
