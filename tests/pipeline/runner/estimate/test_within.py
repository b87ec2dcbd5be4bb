"""How many epochs fit into a time, and what a suggestion says of it."""

from pathlib import Path

import pytest

from dsnet import create_model
from pipeline.config import config_from_dict
from pipeline.data.suggest.choices import choices
from pipeline.data.suggest.suggestion import Suggestion
from pipeline.data.suggest.survey import Survey
from pipeline.runner.estimate.sizes import sizes_of
from pipeline.runner.estimate.speed import chain_seconds, epochs_within, stated, with_epochs
from pipeline.runner.estimate.work import of_bootstrap
from pipeline.runner.first_config import FirstConfig

FOUND = Survey({"cats": 1000, "dogs": 1000}, 200, 32, (32,), 0.0, ())
SUGGESTION = Suggestion("/photos", FOUND, 500, choices("/photos", FOUND), [])


def first(images_per_second: float) -> FirstConfig:
    """With a speed that is stated, where a machine's would be measured."""
    made = FirstConfig(SUGGESTION)
    model = create_model(made.config.model.arch, 2)
    made.__dict__["speed"] = stated(images_per_second, of_bootstrap(made.config, model))
    return made


@pytest.mark.parametrize("limit", [60.0, 100.0, 200.0, 1e9])
def test_the_most_epochs_that_fit_are_taken(limit: float) -> None:
    config = config_from_dict(SUGGESTION.values())
    model = create_model(config.model.arch, 2)
    sizes = sizes_of(config, None, 2000, 500, 2)
    speed = stated(500, of_bootstrap(config, model))
    epochs, seconds = epochs_within(limit, config, model, sizes, speed)
    assert seconds == chain_seconds(with_epochs(config, epochs), model, sizes, speed)
    assert seconds <= limit
    if epochs < config.supernet.epochs:
        more = with_epochs(config, epochs + 1)
        assert chain_seconds(more, model, sizes, speed) > limit


def test_a_suggestion_is_cut_to_the_minutes_and_says_so() -> None:
    whole = first(500).within(60)
    assert whole.value("supernet.epochs") == SUGGESTION.value("supernet.epochs")
    assert any("about" in note and "minutes" in note for note in whole.notes)
    cut = first(100).within(5)
    assert cut.value("supernet.epochs") < SUGGESTION.value("supernet.epochs")
    (choice,) = (c for c in cut.choices if c.field == "supernet.epochs")
    assert "fits into 5 minutes" in choice.why and "--minutes" in choice.why
    # Checkpoints and evaluations follow the number of epochs.
    assert cut.value("supernet.checkpoint_every") == -(-cut.value("supernet.epochs") // 10)
    assert first(0.001).within(1).value("supernet.epochs") == 1


def test_photographs_for_gpus_are_not_cut_unless_asked(tmp_path: Path) -> None:
    many = Survey({"cats": 50_000, "dogs": 50_000}, 200, 400, (500,), 0.0, ())
    suggestion = Suggestion("/photos", many, 500, choices("/photos", many), [])
    made = FirstConfig(suggestion)
    model = create_model(made.config.model.arch, 2)
    made.__dict__["speed"] = stated(20, of_bootstrap(made.config, model))
    whole = made.within(None)
    assert whole.value("supernet.epochs") == suggestion.value("supernet.epochs")
    assert "hours" in whole.notes[0]
    assert made.within(10).value("supernet.epochs") == 1
