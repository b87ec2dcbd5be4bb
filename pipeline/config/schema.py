"""The configuration of a chain: what each field means, its type, its bounds and its default.

The text under a field is its documentation: `dsnet run --help` prints it. Defaults are the
paper's where the paper has a figure.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from dsnet.routing.target import Target, parse_target
from pipeline.config import dialect
from pipeline.config.recipe import OwnRecipe, RecipeField
from pipeline.config.section import FROM_LIST, NotNegative, Positive, Rate, Section, Span
from pipeline.config.uri import checked

NATIVE_RESOLUTION = {
    "digits": 8,
    "light": 32,
    "cifar": 32,
    "imagenet": 224,
    "paper": 224,
    "evaluation": 224,
    "patches": 96,
}
DIGITS = "digits"
LARGEST_TILE = 1672  # pixels a side: stored as they are, FFCV has room for no more of one sample

TargetField = Annotated[
    Target,
    BeforeValidator(parse_target),
    PlainSerializer(lambda target: target.scalar),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]},
        mode="validation",
    ),
]
Settings = dict[str, Any]
T = TypeVar("T")
Choices = Annotated[
    tuple[T, ...],
    FROM_LIST,
    Field(min_length=1),
]
Indices = Choices[Annotated[int, Field(ge=0)]]
Modules = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")], ...],
    FROM_LIST,
]
Names = Annotated[
    tuple[Annotated[str, Field(pattern=r"^\w+(\.\w+)*$")], ...],
    FROM_LIST,
]


def base_of(recipe: str | OwnRecipe) -> str:
    """The name that a recipe has, or begins with."""
    return recipe if isinstance(recipe, str) else recipe.base


def _unless_fine_tuned(default: float, fine_tuning: float) -> Any:
    """A field of `Supernet` with another default where the training starts from trained weights."""
    return Field(
        default_factory=lambda data: default if data.get("from_") is None else fine_tuning,
        json_schema_extra={"default": default},
    )


class Data(Section):
    """Where the pictures come from and what becomes of them."""

    source: Annotated[str, Field(min_length=1)] = DIGITS
    """`digits` (scikit-learn's handwritten digits), `fashion-mnist` (Debian's package
    dataset-fashion-mnist), `photographs` (some that come with Python packages, without labels), a
    folder with one folder per class, a folder of pictures for networks that learn no labels, a list
    of paths and labels (CSV or Parquet), Parquet files as Hugging Face publishes them, tar shards
    in WebDataset's layout, or a folder of IDX files or of CIFAR as torchvision has it; or the URI
    of one (s3://, gs://, hf://); docs/data.md has the layouts. Any but the digits asks for
    data.recipe and model.arch."""
    train_split: Annotated[str, Field(min_length=1)] = "train"
    """Name of the split to train on."""
    test_split: Annotated[str, Field(min_length=1)] | None = None
    """Name of the split to evaluate on; nothing is tuned on it. null: test, or else val, valid or
    validation, or where the source has none of these a share of the training pictures."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of the training pictures, the same of every class, held out for evaluation where
    data.test_split is null and the source has none of those splits."""
    dir: str | None = None
    """Folder for the .beton files, where every node sees it, or its URI (s3://bucket/betons), from
    which each node copies them to its own disk; null: `data` in $DSNET_HOME."""
    recipe: RecipeField = "digits"
    """What happens to a picture on its way in: augmentation in training, cropping in evaluation.
    light only flips, for few epochs; cifar is for small pictures, imagenet for photographs, and
    paper is imagenet with colour jitter, RandAugment and erasing; evaluation has nothing random;
    patches are cut out of the picture's own pixels, for what must not be resized.
    Or a mapping of a base and what differs from it: {base: imagenet, color_jitter: 0.4, mixup: 0.2}
    (docs/data.md)."""
    resolution: Annotated[int, Field(ge=8, le=4096)] = Field(
        default_factory=lambda data: NATIVE_RESOLUTION[base_of(data["recipe"])]
    )
    """Side in pixels of what the network sees; left out: the recipe's or its base's (digits 8,
    light and cifar 32, patches 96, all others 224)."""
    max_resolution: Annotated[int, Field(ge=8)] | None = None
    """Longer side in pixels to which larger pictures are reduced in the .beton; null: kept."""
    tile: Annotated[int, Field(ge=8, le=LARGEST_TILE)] | None = None
    """Side in pixels of the tiles that pictures are cut into and stored as, without loss; the last
    of a row or column overlaps the one before, so that an evaluation sees every pixel. Held out to
    test on are whole pictures. null: pictures as they are."""
    max_bad: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """Share of the pictures that may be left out because they do not decode or are too large. A
    handful always may: up to five, or a tenth of a small set; 0: none. The manifest beside the
    .beton lists them."""
    sampling: Literal["natural", "balanced"] = "natural"
    """What an epoch of training reads. natural: every image once. balanced: as many images, but of
    every class as often, for folders with rare classes: an epoch then has images of those several
    times and leaves some of the frequent ones out, others each time."""
    holdout: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """Share of the training images kept from training, for calibrating and checking the gate."""

    @field_validator("source", "dir")
    @classmethod
    def _has_no_secrets(cls, value: str | None) -> str | None:
        return value if value is None else checked(value)

    @field_validator("tile")
    @classmethod
    def _is_as_large_as_what_is_seen(cls, value: int | None, info: ValidationInfo) -> int | None:
        resolution = info.data.get("resolution")
        if value is not None and resolution is not None and value < resolution:
            raise ValueError(f"expected at least data.resolution ({resolution}), found {value}")
        if value is not None and (shrunk := info.data.get("max_resolution")) is not None:
            raise ValueError(
                "expected without data.max_resolution, for tiles are cut out of a picture's own "
                f"pixels, found {value} with {shrunk}"
            )
        return value

    @field_validator("max_resolution")
    @classmethod
    def _holds_what_is_seen(cls, value: int | None, info: ValidationInfo) -> int | None:
        resolution = info.data.get("resolution")
        if value is not None and resolution is not None and value < resolution:
            raise ValueError(f"expected at least data.resolution ({resolution}), found {value}")
        return value


class Model(Section):
    """Which network."""

    arch: Annotated[str, Field(min_length=1)] = "ds_mbnet_digits"
    """Name for dsnet.create_model: ds_mbnet_digits, ds_mbnet_cifar for small pictures, ds_mbnet
    for photographs, or another."""
    num_classes: Annotated[int, Field(ge=2)] | None = None
    """Number of classes; null: as many as the data has."""
    gates: Indices | None = None
    """Stages whose first block gets a gate, counted from 0, such as [2]; the stages before the
    first of them run at their slimmest. null: the architecture's own, or where it has none
    (ds_resnet50) the stage in the middle."""
    routes: Indices | None = None
    """Sub-networks that the gate may choose from, by index from the slimmest (0); null: all."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout before the classifier, on the largest width only."""

    @field_validator("gates", "routes")
    @classmethod
    def _rise(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and list(value) != sorted(set(value)):
            raise ValueError(f"expected rising indices without repeats, found {list(value)}")
        return value


class Cluster(Section):
    """What each training asks of Ray."""

    workers: Positive | Span = 2
    """Ray Train workers per stage; or two numbers, [2, 8]: as many as the cluster has room for, no
    fewer than 2 and no more than 8, also where nodes come and go while a stage runs."""
    gpus_per_worker: NotNegative = 0.0
    """GPUs for each worker; 0 trains on CPUs."""
    cpus_per_worker: Rate = 1.0
    """CPUs for each worker."""
    threads: Positive = 1
    """Threads of torch, and of the loader, in each worker."""
    max_failures: Annotated[int, Field(ge=-1)] = 1
    """How often a stage that failed starts again from its last checkpoint; -1: always."""
    storage: str | None = None
    """Folder that every node can write to, for checkpoints; null: `train` in $DSNET_HOME."""

    @property
    def min_workers(self) -> int:
        """With how many a stage starts, or resumes."""
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def max_workers(self) -> int:
        """What a step is divided by: a training's batches are those of so many workers."""
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def elastic(self) -> bool:
        """Whether a stage takes more or fewer workers as nodes come and go."""
        return self.min_workers < self.max_workers

    @field_validator("workers")
    @classmethod
    def _do_not_fall(cls, value: int | tuple[int, int]) -> int | tuple[int, int]:
        if not isinstance(value, int) and value[0] > value[1]:
            raise ValueError(f"expected the fewest first, then the most, found {list(value)}")
        return value


class Supernet(Section):
    """Stage I: all widths at once, by in-place bootstrapping."""

    from_: Annotated[str, Field(min_length=1)] | None = Field(default=None, alias="from")
    """What to start from, for fine-tuning: a registered model (models:/NAME/3, models:/NAME@alias)
    or a model directory, such as dsnet import-official makes. The head starts anew for other
    classes; of other widths what fits is copied. null: from random weights."""
    epochs: Positive = 150
    """Passes over the training images."""
    batch_size: Positive = 64
    """Images per worker and step."""
    lr: Rate = _unless_fine_tuned(0.08, 0.01)
    """Learning rate after the warm-up, the greatest of all; left out, with supernet.from: 0.01, for
    at more what was learned is lost. A head that starts anew wants 0.1, with trunk_lr 0.1."""
    schedule: Literal["cosine", "one_cycle"] = "cosine"
    """How the learning rate rises and falls: linearly over the warm-up, then by half a cosine to 0
    (cosine); by half a cosine from lr / 25 over 30% of the steps, then by another to lr / 250,000,
    as torch's OneCycleLR, without a warm-up of its own (one_cycle)."""
    warmup_epochs: Annotated[int, Field(ge=0)] = _unless_fine_tuned(5, 0)
    """Epochs in which the learning rate rises linearly from warmup_lr to lr, for cosine; left out,
    with supernet.from: 0."""
    warmup_lr: NotNegative = 1e-5
    """Learning rate of the first step where there is a warm-up."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd; beta 1 of adamw."""
    weight_decay: NotNegative = 1e-4
    """Decay of the weights, in the sense of the optimizer."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """What takes the steps."""
    nesterov: bool = True
    """Nesterov's momentum, for sgd."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Label smoothing, for what learns from the labels."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.997
    """Decay per step of the teacher, the moving average of parameters and buffers; in the first
    thousands of steps at most (1 + step) / (10 + step)."""
    random_widths: Annotated[int, Field(ge=0)] = 2
    """Random widths trained in each step, beside the largest and the smallest."""
    bootstrap: Literal["ensemble", "plain", "distill", "labels"] = "ensemble"
    """What slim widths learn from: the teacher's largest width, and for the smallest the mean over
    this step's widths (ensemble); the teacher's largest alone (plain); the network's own largest
    (distill); the labels."""
    clip_grad: Rate | None = None
    """Largest gradient norm; null: not clipped."""
    amp: bool | Literal["auto"] = False
    """Mixed precision (bfloat16) on the device that trains; auto: where that device multiplies
    bfloat16 and the family gains by it (docs/training.md)."""
    compile: bool = False
    """Compile the passes of each width with torch.compile, at its first use: minutes at the start
    of a training for faster steps after it (docs/training.md). It wants a C++ compiler on CPUs."""
    resolution_from: Annotated[int, Field(ge=8)] | None = None
    """Side in pixels of the first epoch's images, for progressive resolution: it rises to
    data.resolution by a line, in steps of 8 pixels; null: data.resolution from the beginning."""
    resolution_until: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of the epochs over which it rises; those after it, and always the last, have
    data.resolution."""
    accumulate: Positive = 1
    """Batches whose gradients are averaged before each step."""
    checkpoint_every: Positive = 1
    """Epochs from one checkpoint to the next."""
    checkpoint_steps: Positive | None = None
    """Steps from one checkpoint to the next within an epoch; null: not by steps."""
    checkpoint_minutes: Rate | None = 10.0
    """Minutes from one checkpoint to the next within an epoch, about what is lost at most when a
    machine is; null: not by time."""
    evaluate_every: Positive | None = None
    """Epochs from one evaluation on the held-out images to the next; null: with each checkpoint
    that ends an epoch."""
    patience: Positive | None = None
    """Evaluations without improvement, in the mean over all widths, after which training ends; what
    is handed on is then the best that was evaluated. null: train every epoch, hand on the last."""
    freeze: Names = ()
    """Parts that keep the weights of supernet.from: trunk (all but the head), or beginnings of
    parameter names such as [stem, stages.0]. Their BatchNorm statistics still follow the images."""
    trunk_lr: Rate = 1.0
    """Factor of the learning rate for all but the head: 0.1 to change little of what is there."""

    @field_validator("resolution_from")
    @classmethod
    def _is_not_compiled(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and info.data.get("compile"):
            raise ValueError(
                f"expected without supernet.compile, whose graphs are of one size, found {value}"
            )
        return value

    @field_validator("freeze")
    @classmethod
    def _keeps_what_was_learned(
        cls, value: tuple[str, ...], info: ValidationInfo
    ) -> tuple[str, ...]:
        if value and info.data.get("from_") is None:
            raise ValueError(
                f"expected with supernet.from, whose weights it keeps, found {list(value)} alone"
            )
        return value

    @field_validator("warmup_epochs")
    @classmethod
    def _ends_before_the_training(cls, value: int, info: ValidationInfo) -> int:
        epochs, schedule = info.data.get("epochs"), info.data.get("schedule")
        if schedule == "cosine" and epochs is not None and value >= epochs:
            raise ValueError(f"expected fewer than supernet.epochs ({epochs}), found {value}")
        return value


class Calibrate(Section):
    """BatchNorm statistics of every width, recomputed after stage I."""

    images: Positive | None = None
    """How many training images to read; null: all."""
    batch_size: Positive = 64
    """Images per worker and step."""


class Gate(Section):
    """Stage II: slimming heads alone learn to route each image."""

    supernet: Annotated[str, Field(pattern=r"^models:/")] | None = None
    """A registered supernet (models:/NAME-supernet/3) to train the gate of, in place of a new one;
    null: the chain trains its own."""
    epochs: Positive = 30
    """Passes over the training images."""
    batch_size: Positive = 64
    """Images per worker and step."""
    lr: Rate = 0.08
    """Learning rate of the first step; it falls by a cosine."""
    weight_decay: NotNegative = 1e-2
    """Decay of the weights, in the sense of the optimizer."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd; beta 1 of adamw."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """What takes the steps."""
    target: TargetField | None = None
    """Average multiply-adds wanted: a fraction of the widest routable sub-network's (0.5) or a
    count (200M); null: no target, the complexity term alone holds the average down."""
    method: Literal["table", "straight_through"] = "table"
    """table: exact sums over a routing table, by the fields of the section table;
    straight_through: Gumbel-softmax through the network, by the fields of this section, which is
    also what is used where several gates have more than 64 joint paths."""
    lambda_classification: NotNegative = 1.0
    """Weight of the classification term."""
    lambda_complexity: NotNegative = 0.5
    """Weight of the complexity term."""
    lambda_sgs: NotNegative = 1.0
    """Weight of the sandwich gate sparsification term."""
    sgs: Literal["try_best", "give_up", "off"] = "try_best"
    """Where images go that the smallest width gets wrong: all to the widest (try_best); those that
    the widest gets wrong too to the smallest (give_up); off: no such term."""
    temperature: Rate = 1.0
    """Temperature of the Gumbel-softmax."""
    look: Literal["first", "second", "both"] = "first"
    """first: the gate in the middle picks a width. second: every image runs one and the same slim
    tail first, and what that concludes says whether to stop there or which wider one to run. both:
    the gate picks the tail that runs first. By table alone, with one gate of up to 8 routes."""
    checkpoint_steps: Positive | None = None
    """Steps from one checkpoint to the next within an epoch; null: not by steps."""
    checkpoint_minutes: Rate | None = 10.0
    """Minutes from one checkpoint to the next within an epoch, about what is lost at most when a
    machine is; null: not by time."""


class Table(Section):
    """The routing table: what every path makes of every training image, written down once."""

    views: Positive = 4
    """Augmented versions of each training image; held-out images have the one that evaluation
    shows."""
    batch_size: Positive = 256
    """Images per worker and step."""
    steps: Positive = 300
    """Most steps of training a gate on the table."""
    lr: Rate = 0.05
    """Learning rate of Adam at the first step; it falls by a cosine."""
    lambda_sgs: NotNegative = 0.0
    """Weight of the SGS term; a table gives each path's loss, so that the term is seldom needed."""
    hidden: Annotated[int, Field(ge=0)] = 0
    """Units of a hidden layer in the slimming heads; 0: the paper's linear heads."""


class Sweep(Section):
    """A sweep over targets: what is tried for each of them, on one routing table."""

    lr: Choices[Rate] = (0.05,)
    """Learning rates to try; optuna tries any from the least of them to the greatest."""
    lambda_sgs: Choices[NotNegative] = (0.0,)
    """Weights of the SGS term to try."""
    sgs: Choices[Literal["try_best", "give_up", "off"]] = ("try_best",)
    """Strategies of SGS to try; they differ where lambda_sgs is above 0."""
    hidden: Choices[Annotated[int, Field(ge=0)]] = (0,)
    """Units of the slimming heads' hidden layer to try; 0: the paper's linear heads."""
    look: Choices[Literal["first", "second", "both"]] = ("first",)
    """Looks to try, as gate.look has them; the targets of one sweep get gates of one kind."""
    search: Literal["grid", "random", "optuna"] = "grid"
    """Every combination of these lists (grid); `samples` different ones for each target, drawn at
    random (random), or as the target's earlier trials suggest (optuna)."""
    samples: Positive = 8
    """How many trials random and optuna give each target."""
    scheduler: Literal["none", "asha"] = "none"
    """asha: stop trials early that are behind others of their target; none: train each to its
    end."""
    cpus_per_trial: Rate = 1.0
    """CPUs that a trial asks for. It computes on one thread; a fraction lets more run at once than
    there are CPUs, and each is a process more to start."""


class Evaluate(Section):
    """Accuracy and average MAdds on the test split."""

    batch_size: Positive = 64
    """Images per worker and step."""


class Promotion(Section):
    """When a new version takes the champion's place; no stage reads this."""

    tolerance: NotNegative | None = None
    """How much worse than the champion it may be, in the headline's own units (0.005 is half a
    point of top-1); null: two standard errors of the difference over the test images."""
    cost: NotNegative = 0.01
    """Share by which its average multiply-adds may exceed the champion's."""


class Config(Section):
    """A whole chain: data in, registered models out."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)] = "dsnet"
    """Name of the registered model; its supernet is registered as NAME-supernet."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything that is random."""
    plugins: Modules = ()
    """Python modules to import before anything else, on the driver and on every worker, that
    register tasks and families of one's own. They must be installed, or on PYTHONPATH, there."""
    task: Settings = {}  # noqa: RUF012  pydantic gives each its own
    """Settings of what the network is for, where it has any. denoise: noise, the level that is
    added, of 255, or two for a level between them that is drawn for each picture ([5, 50]), and
    shot, the variance that light adds at full intensity: {noise: 25}."""
    data: Data = Data()
    model: Model = Model()
    cluster: Cluster = Cluster()
    supernet: Supernet = Supernet()
    calibrate: Calibrate = Calibrate()
    gate: Gate = Gate()
    table: Table = Table()
    sweep: Sweep = Sweep()
    evaluate: Evaluate = Evaluate()
    promotion: Promotion = Promotion()

    @field_validator("name")
    @classmethod
    def _is_not_a_supernet(cls, value: str) -> str:
        if value.endswith("-supernet"):
            raise ValueError(f"expected a name that does not end in -supernet, found {value!r}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, values: Any) -> Any:
        # A section whose every field is commented out reads as null in YAML.
        if not isinstance(values, dict):
            return values
        return {key: {} if value is None else value for key, value in values.items()}

    @model_validator(mode="after")
    def _resolution_rises(self) -> "Config":
        first, full = self.supernet.resolution_from, self.data.resolution
        if first is not None and first > full:
            raise ValueError(
                f"supernet.resolution_from: expected at most data.resolution ({full}), "
                f"found {first}"
            )
        return self

    @model_validator(mode="after")
    def _digits_alone_have_defaults(self) -> "Config":
        # The defaults of these two are the digits': on photographs they train, and badly.
        asked = {
            "data.recipe": ("recipe" in self.data.model_fields_set, "cifar", "imagenet"),
            "model.arch": ("arch" in self.model.model_fields_set, "ds_mbnet_cifar", "ds_mbnet"),
        }
        missing = {name: advice for name, (given, *advice) in asked.items() if not given}
        if self.data.source == DIGITS or not missing:
            return self
        small, large = (
            " and ".join(f"{name} {advice[which]}" for name, advice in missing.items())
            for which in (0, 1)
        )
        raise ValueError(
            f"{' and '.join(missing)}: expected with data.source {self.data.source}, found none; "
            f"for small pictures ({NATIVE_RESOLUTION['cifar']} pixels) write {small}, for "
            f"photographs ({NATIVE_RESOLUTION['imagenet']} pixels) {large}; dsnet init FOLDER "
            "writes a configuration for the pictures there"
        )

    def as_dict(self) -> dict[str, Any]:
        """Every field, defaults included, as plain JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    def yaml(self) -> str:
        """Every field as a configuration file that `load_config` reads back to an equal Config."""
        return dialect.dump(self.as_dict())
