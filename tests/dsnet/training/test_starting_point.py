"""A network that starts from another has what fits, names what does not, and learns in part."""

import pytest
import torch

from dsnet import DSNet, InputError, Metadata, create_model
from dsnet.models.architecture import Architecture, Stage
from dsnet.nn.layers import SlimBatchNorm2d
from dsnet.training import bootstrap_step, freeze, make_teacher, parameters_of, start_from
from tests.toy import toys_known

HEAD = ["classifier.weight", "classifier.bias"]


def network(*widths: tuple[int, ...], classes: int = 3, names: tuple[str, ...] = ()) -> DSNet:
    """A small DS-MBNet with statistics of its own; widths: of the stem, then of each stage."""
    stem, *stages = widths or ((4, 8), (4, 8, 12), (6, 9, 12))
    architecture = Architecture(
        "small",
        "mbnet",
        Stage(stem),
        tuple(Stage(row, gated=index == 0) for index, row in enumerate(stages)),
        num_classes=classes,
        resolution=8,
    )
    torch.manual_seed(classes)
    model = DSNet(architecture, Metadata(resolution=8, classes=names))
    for layer in model.modules():
        if isinstance(layer, SlimBatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return model


def trunk(model: DSNet) -> dict[str, torch.Tensor]:
    return {name: value for name, value in model.state_dict().items() if name not in HEAD}


def test_an_equal_network_is_copied_whole() -> None:
    source, model = network(), network()
    torch.nn.init.normal_(model.stem.conv.weight)  # type: ignore[arg-type,union-attr]
    report = start_from(model, source)
    assert not report.part and not report.anew
    for name, value in source.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("classes", "names"), [(5, ()), (3, ("a", "b", "d"))], ids=["more", "others of the same number"]
)
def test_with_other_classes_the_head_alone_is_anew(classes: int, names: tuple[str, ...]) -> None:
    source = network(names=("a", "b", "c"))
    model = network(classes=classes, names=names)
    before = model.head.state_dict()["weight"].clone()
    report = start_from(model, source)
    assert sorted(report.anew) == sorted(HEAD) and not report.part
    assert torch.equal(model.head.state_dict()["weight"], before)
    for name, value in trunk(source).items():
        assert torch.equal(model.state_dict()[name], value), name
    assert str(report).endswith("2 anew (classifier.weight, classifier.bias)")


def test_of_wider_stages_the_leading_slices_are_the_sources_and_are_named() -> None:
    source = network()
    model = network((4, 8), (4, 8, 12), (6, 9, 16))
    fresh = model.state_dict()["stages.1.0.pointwise.weight"].clone()
    report = start_from(model, source)
    found = model.state_dict()["stages.1.0.pointwise.weight"]
    assert torch.equal(found[:12], source.state_dict()["stages.1.0.pointwise.weight"])
    assert torch.equal(found[12:], fresh[12:])
    assert "stages.1.0.pointwise.weight 12x12x1x1 into 16x12x1x1" in report.part
    assert "classifier.weight 3x12 into 3x16" in report.part
    assert {name.split()[0] for name in report.part} == {
        "stages.1.0.pointwise.weight",
        *(f"stages.1.0.bn2.{kind}" for kind in ("weight", "bias", "running_mean", "running_var")),
        "classifier.weight",
    }
    assert all(name in str(report) for name in report.part)


def test_statistics_are_copied_width_by_width_from_the_nearest() -> None:
    source, model = network(), network((4, 8), (4, 8, 12), (6, 10, 12))
    start_from(model, source)
    ours, theirs = (n.get_submodule("stages.1.0.bn2") for n in (model, source))
    assert isinstance(ours, SlimBatchNorm2d) and isinstance(theirs, SlimBatchNorm2d)
    for width, nearest in ((6, 6), (10, 9), (12, 12)):
        for mine, other in zip(ours.statistics(width), theirs.statistics(nearest), strict=True):
            assert torch.equal(mine[: len(other)], other)
    # What no width of the source has stays as it was made.
    fresh = network((4, 8), (4, 8, 12), (6, 10, 12)).get_submodule("stages.1.0.bn2")
    assert isinstance(fresh, SlimBatchNorm2d)
    assert torch.equal(ours.statistics(10)[0][9:], fresh.statistics(10)[0][9:])


def test_a_narrower_network_computes_what_the_source_does_at_that_width() -> None:
    source = network().eval()
    model = network((4, 8), (4, 8), (6, 9)).eval()
    # The head's input, as it is the head that differs with the widest.
    start_from(model, source)
    images = torch.randn(2, 3, 8, 8)
    for index in range(2):
        assert torch.allclose(model(images, width=index), source(images, width=index), atol=1e-6), (
            index
        )


def test_slimming_heads_start_untrained() -> None:
    source, model = network(), network()
    for parameter in source.slimming_parameters():
        torch.nn.init.normal_(parameter)
    report = start_from(model, source)
    assert not model.gates_trained
    assert not any("slimming" in name for name in (*report.whole, *report.part, *report.anew))


def test_a_network_of_other_blocks_is_refused() -> None:
    with pytest.raises(InputError, match=r"ds_mbnet_digits.*ds_resnet_cifar.*nothing in common"):
        start_from(create_model("ds_mbnet_digits"), create_model("ds_resnet_cifar"))


def test_a_network_of_another_task_gives_all_but_its_head() -> None:
    with toys_known():
        classifier, smoother = create_model("ds_toy", 5), create_model("ds_toy_smoothing")
        report = start_from(classifier, smoother)
    assert {name for name in report.anew if name.startswith("classifier")} == set(HEAD)
    assert "stem.conv.weight 16x3x3x3 into 12x3x3x3" in report.part


def step(model: DSNet) -> None:
    torch.manual_seed(0)
    teacher = make_teacher(model)
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.1)
    bootstrap_step(model, teacher, torch.randn(8, 3, 8, 8), torch.arange(8) % 3, [1])
    optimizer.step()


@pytest.mark.parametrize(
    ("parts", "learns"),
    [
        (["trunk"], "classifier"),
        (["stem", "stages.0"], "stages.1"),
        (["classifier"], "stem"),
    ],
    ids=["trunk", "first stages", "head"],
)
def test_a_frozen_part_keeps_its_weights_and_the_rest_learns(parts: list[str], learns: str) -> None:
    model = network().train()
    for parameter in model.slimming_parameters():
        parameter.requires_grad_(False)
    freeze(model, parts)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step(model)
    frozen = {id(p) for part in parts for p in parameters_of(model, part)}
    for name, parameter in model.named_parameters():
        if id(parameter) in frozen or "slimming" in name:
            assert torch.equal(parameter, before[name]), name
        elif name.startswith(learns) and parameter.ndim > 1:
            assert not torch.equal(parameter, before[name]), name


def test_statistics_of_a_frozen_part_follow_the_images() -> None:
    model = network().train()
    freeze(model, ["trunk"])
    before = model.get_buffer("stem.bn.running_mean").clone()
    step(model)
    assert not torch.equal(model.get_buffer("stem.bn.running_mean"), before)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (["stage.0"], r"found 'stage\.0'; the nearest are stages\.0"),
        (["stages.7"], r"found 'stages\.7'; the nearest are stages\.[01]"),
        (["trunk", "classifier"], "expected to leave a part that learns"),
    ],
)
def test_a_part_that_is_not_there_or_leaves_nothing_is_refused(
    parts: list[str], message: str
) -> None:
    model = network()
    for parameter in model.slimming_parameters():
        parameter.requires_grad_(False)
    with pytest.raises(InputError, match=message):
        freeze(model, parts)
