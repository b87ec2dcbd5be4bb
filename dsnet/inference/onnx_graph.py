"""A folded network as one ONNX graph: routing inside, nothing but standard operators.

Written node by node rather than traced, so that the file says what is meant: a fork sorts the rows
by choice, gives each branch that has any its rows inside an `If`, and puts the results back in
order. A branch that no image takes costs one untaken `If`.

What the widths share is stored once, as wide as the widest branch needs it; a branch cuts its part
out of it and scales it as its BatchNorm wants. All of that is arithmetic on constants, which
ONNX Runtime does when it loads the file: what runs has every branch's weights cut and folded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

from dsnet.inference.fold import End, Folded, Fork, Looks, Onto, Scorer, Trunk
from dsnet.nn.gate import TINY
from dsnet.nn.look import NEVER
from dsnet.nn.plan import (
    Activation,
    Attention,
    Conv,
    GlobalAverage,
    Layer,
    Linear,
    MaxPool,
    PixelShuffle,
    Residual,
    Weight,
    unknown_activation,
    unknown_layer,
)
from dsnet.runtime.session import (
    HEAD,
    IMAGES,
    LOGITS,
    MADDS,
    PICTURES,
    PRICE,
    WIDTHS,
    import_optional,
)

Shape = tuple[int | None, ...]
"""Of one output; None where it is as the images are."""


def build(folded: Folded, opset: int, float16: bool, price: float = 0.0) -> Any:
    """The graph of `folded`, an onnx.ModelProto.

    Inputs: images, uint8 (N, size, size, 3), and where there is a choice, price, one float, and the
    weights of the slimming heads, named as `dsnet.nn.gate.heads_to_tensors` does (`head.0.weight`);
    left out, they are `price` and the network's own. Outputs: logits, float (N, classes), widths,
    int64 (N,), and madds, int64 (N,). Where outputs are pictures: images (N, H, W, 3) of any size,
    and pictures, float (N, 3, H, W), in place of logits. float16: weights are stored in half
    precision, and computed with in single.
    """
    onnx: Any = import_optional("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    graph = _Graph(onnx, float16)
    graph.share(folded.trunk)
    # Moved as bytes and cast then: a quarter of the memory to move.
    pixels = graph.op("Transpose", IMAGES, perm=[0, 3, 1, 2])
    pixels = graph.op("Cast", pixels, to=kinds.FLOAT)
    mean = folded.mean.cpu().numpy().reshape(1, 3, 1, 1)
    pixels = graph.op("Sub", pixels, graph.constant(mean))
    end, onto = folded.trunk.end, folded.onto
    sides: tuple[Any, Any] = ("height", "width") if onto else (folded.size, folded.size)
    shape: Shape = (folded.outputs[0], None, None) if onto else folded.outputs
    graph.blank = _blank(graph, onto, folded.outputs)
    x = _layers(graph, folded.trunk.layers, pixels)
    if isinstance(end, Fork):
        outputs = _fork(graph, end, x, shape, 0)
    else:
        batch = graph.op("Shape", IMAGES, start=0, end=1)
        width = graph.op("Expand", graph.constant(np.array([end.width])), batch)
        outputs = _layers(graph, end.layers, x), width
    answers, widths, *counted = outputs
    if onto:
        answers = _added(graph, onto, answers, pixels)
    answer = PICTURES if onto else LOGITS
    graph.result(answers, answer)
    graph.result(widths, WIDTHS)
    if not counted:  # without looks an image has run one branch, and its width says the count
        counted = [_counted(graph, folded)]
    graph.result(counted[0], MADDS)
    inputs = [helper.make_tensor_value_info(IMAGES, kinds.UINT8, ["batch", *sides, 3])]
    if isinstance(end, Fork):
        inputs.append(helper.make_tensor_value_info(PRICE, kinds.FLOAT, []))
        # An input that has an initializer too is one with a default.
        default = onnx.numpy_helper.from_array(np.array(price, np.float32), PRICE)
        graph.initializers.append(default)
        for name, tensor in graph.heads.items():
            inputs.append(helper.make_tensor_value_info(name, kinds.FLOAT, tensor.shape))
            graph.initializers.append(onnx.numpy_helper.from_array(tensor, name))
    proto = helper.make_graph(
        graph.nodes,
        "dsnet",
        inputs,
        [
            helper.make_tensor_value_info(
                answer, kinds.FLOAT, ["batch", shape[0], *(sides if onto else shape[1:])]
            ),
            helper.make_tensor_value_info(WIDTHS, kinds.INT64, ["batch"]),
            helper.make_tensor_value_info(MADDS, kinds.INT64, ["batch"]),
        ],
        graph.initializers,
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        proto,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="dsnet",
    )


def _blank(graph: "_Graph", onto: Onto | None, outputs: tuple[int, ...]) -> str:
    """No outputs at all, in the shape that a branch's outputs have: what one answers nobody asks.

    outputs: of one image, where images are of one size.
    """
    if onto is None:
        return graph.constant(np.zeros((0, *outputs), np.float32))
    factor = graph.constant(np.array([onto.factor]))
    sides = graph.op("Mul", _squares(graph, onto), factor)
    size = graph.op("Concat", graph.constant(np.array([0, outputs[0]])), sides, axis=0)
    zero = graph.onnx.numpy_helper.from_array(np.zeros(1, np.float32))
    return graph.op("ConstantOfShape", size, value=zero)


def _squares(graph: "_Graph", onto: Onto) -> str:
    """How many squares of factor x factor pixels the images are high and wide, int64 (2,)."""
    sides = graph.op("Shape", IMAGES, start=1, end=3)
    rounded = graph.op("Add", sides, graph.constant(np.array([onto.factor - 1])))
    return graph.op("Div", rounded, graph.constant(np.array([onto.factor])))


def _added(graph: "_Graph", onto: Onto, answers: str, pixels: str) -> str:
    """What is answered, cut to the images' size and added to them."""
    starts, axes = graph.constant(np.array([0, 0])), graph.constant(np.array([2, 3]))
    cut = graph.op("Slice", answers, starts, graph.op("Shape", pixels, start=2, end=4), axes)
    scale = graph.constant(onto.scale.cpu().numpy().reshape(1, 3, 1, 1))
    return graph.op("Add", cut, graph.op("Mul", pixels, scale))


def _counted(graph: "_Graph", folded: Folded) -> str:
    """Multiply-adds of each image, int64 (N,), by its width."""
    if folded.onto is None:
        return graph.op("Gather", graph.constant(np.array(folded.madds)), WIDTHS)
    each = graph.op("Gather", graph.constant(np.array(folded.onto.per_square)), WIDTHS)
    return graph.op("Mul", each, graph.op("ReduceProd", _squares(graph, folded.onto), keepdims=0))


class _Graph:
    """Nodes and constants of one graph or branch.

    parent: the graph whose node this one runs inside. names: count of names given, over all
    graphs. shared: constants of the outermost graph that branches cut their weights from, by the
    address of the supernet's weight. heads: the slimming heads' weights, over all graphs. blank:
    what a branch without images answers.
    """

    def __init__(self, onnx: Any, float16: bool, parent: "_Graph | None" = None) -> None:
        self.onnx = onnx
        self.float16 = float16
        self.parent = parent
        self.role = "layer"
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.names: list[int] = parent.names if parent else [0]
        self.shared: dict[int, str] = parent.shared if parent else {}
        self.heads: dict[str, np.ndarray] = parent.heads if parent else {}
        self.blank: str = parent.blank if parent else ""

    def branch(self) -> "_Graph":
        """A graph to be run inside a node of this one."""
        return _Graph(self.onnx, self.float16, self)

    def share(self, trunk: Trunk) -> None:
        """Store what the branches of `trunk` cut their weights from, as large as they need it."""
        widest: dict[int, Weight] = {}
        for weight in _weights(trunk.end.branches) if isinstance(trunk.end, Fork) else ():
            key = weight.source.data_ptr()
            shape = widest[key].shape if key in widest else weight.shape
            widest[key] = Weight(weight.source, tuple(map(max, shape, weight.shape)))
        self.shared |= {key: self._stored(weight.tensor()) for key, weight in widest.items()}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; returns its name."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Append a node; returns the names of its outputs."""
        names = [self._name(kind) for _ in range(outputs)]
        node = self.onnx.helper.make_node(kind, list(inputs), names, names[0], **attributes)
        self.nodes.append(node)
        return names

    def result(self, value: str, name: str) -> None:
        """Let a value that no branch reads be an output of the graph, which is called so."""
        # Renamed rather than copied by an Identity, which would be one more node to run.
        for node in self.nodes:
            for names in (node.input, node.output):
                for index, each in enumerate(names):
                    if each == value:
                        names[index] = name

    def constant(self, array: np.ndarray) -> str:
        """A constant; returns its name."""
        name = self._name("constant")
        contiguous = np.ascontiguousarray(array).reshape(array.shape)
        self.initializers.append(self.onnx.numpy_helper.from_array(contiguous, name))
        return name

    def weight(self, weight: Weight) -> str:
        """A layer's weight; see the head of this file for how a branch comes by its own."""
        if self.parent:
            # A Slice, Cast and Mul of constants: ONNX Runtime folds them when it loads the file.
            stored = self.shared[weight.source.data_ptr()]
            ends = self.constant(np.array(weight.shape))
            stored = self.op("Slice", stored, self.constant(np.zeros_like(weight.shape)), ends)
        elif self.float16:
            # Unscaled, as branches store theirs: scaled ones may leave the range of half.
            stored = self._stored(Weight(weight.source, weight.shape).tensor())
        else:
            return self.constant(weight.tensor().cpu().numpy())
        if self.float16:
            stored = self.op("Cast", stored, to=self.onnx.TensorProto.FLOAT)
        if weight.scale is None:
            return stored
        scale = weight.scale.reshape(-1, *[1] * (len(weight.shape) - 1))
        return self.op("Mul", stored, self.constant(scale.cpu().numpy()))

    def _stored(self, tensor: Tensor) -> str:
        return self.constant(
            tensor.cpu().numpy().astype(np.float16 if self.float16 else np.float32)
        )

    def _name(self, kind: str) -> str:
        self.names[0] += 1
        return f"{self.role}_{kind}_{self.names[0]}"


def _layers(graph: _Graph, layers: Sequence[Layer], x: str) -> str:
    for layer in layers:
        match layer:
            case Conv():
                x = _conv(graph, layer, x)
            case Attention():
                x = _attend(graph, layer, x)[0]
            case MaxPool():
                x = graph.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
            case PixelShuffle():
                x = graph.op("DepthToSpace", x, blocksize=layer.factor, mode="CRD")
            case Residual():
                body = _layers(graph, layer.body, x)
                x = graph.op("Add", body, _layers(graph, layer.shortcut, x))
                x = _activation(graph, layer.activation, x)
            case GlobalAverage():
                x = graph.op("Flatten", graph.op("GlobalAveragePool", x), axis=1)
            case Linear():
                x = _linear(graph, layer, x)
            case _:
                unknown_layer(layer)
    return x


def _conv(graph: _Graph, conv: Conv, x: str) -> str:
    x = graph.op(
        "Conv",
        x,
        graph.weight(conv.weight),
        graph.constant(conv.bias.cpu().numpy()),
        kernel_shape=[conv.kernel] * 2,
        strides=[conv.stride] * 2,
        pads=[conv.padding] * 4,
        group=conv.groups,
    )
    return _activation(graph, conv.activation, x)


def _activation(graph: _Graph, activation: Activation, x: str) -> str:
    match activation:
        case "relu":
            return graph.op("Relu", x)
        case "silu":
            return graph.op("Mul", x, graph.op("Sigmoid", x))
        case "none":
            return x
        case _:
            unknown_activation(activation)


def _seen(graph: _Graph, fork: Fork, x: str) -> tuple[str, str]:
    """What a fork's branches see of x, and its gate, (N, features)."""
    if fork.attention is not None:
        x, feature = _attend(graph, fork.attention, x)
        return x, graph.op("Flatten", feature, axis=1)
    return x, _moments(graph, fork.features, x)


def _moments(graph: _Graph, features: int, x: str) -> str:
    """As `dsnet.nn.gate.moments`."""
    squares = graph.op("GlobalAveragePool", graph.op("Mul", x, x))
    tiny = graph.constant(np.array(TINY, np.float32))
    root = graph.op("Sqrt", graph.op("Add", squares, tiny))
    both = graph.op("Concat", graph.op("GlobalAveragePool", x), root, axis=2)
    flat = graph.op("Flatten", both, axis=1)
    there = graph.op("Shape", flat, start=1, end=2)
    lacking = graph.op("Sub", graph.constant(np.array([features])), there)
    pads = graph.op("Concat", graph.constant(np.zeros(3, np.int64)), lacking, axis=0)
    return graph.op("Pad", flat, pads)


def _attend(graph: _Graph, attention: Attention, x: str) -> tuple[str, str]:
    """The weighed x, and the reduced feature (N, r, 1, 1)."""
    reduced = graph.op(
        "Relu", _pointwise(graph, attention.reduce, graph.op("GlobalAveragePool", x))
    )
    weights = graph.op("Sigmoid", _pointwise(graph, attention.expand, reduced))
    return graph.op("Mul", x, weights), reduced


def _pointwise(graph: _Graph, linear: Linear, x: str) -> str:
    """A linear layer on (N, i, 1, 1): as a convolution it stays in the layout around it."""
    axes = graph.constant(np.array([2, 3]))
    weight = graph.op("Unsqueeze", graph.weight(linear.weight), axes)
    bias = [] if linear.bias is None else [linear.bias.cpu().numpy()]
    return graph.op("Conv", x, weight, *map(graph.constant, bias), kernel_shape=[1, 1])


def _linear(graph: _Graph, linear: Linear, x: str) -> str:
    """A linear layer on (N, i)."""
    weight = graph.weight(linear.weight)
    bias = [] if linear.bias is None else [linear.bias.cpu().numpy()]
    return graph.op("Gemm", x, weight, *map(graph.constant, bias), transB=1)


def _fork(graph: _Graph, fork: Fork, x: str, shape: Shape, gate: int) -> tuple[str, ...]:
    """Outputs and widths of every row of x, and with looks madds; shape: of one output.

    gate: its number.
    """
    x, feature = _seen(graph, fork, x)
    graph.role = "gate"
    choice = _choose(graph, feature, fork.head, fork.cost, gate)
    if fork.looks is not None:
        return _look_again(graph, fork, fork.looks, x, choice, shape)
    # Rows by rising choice, and how many there are of each. A sort and one Split cost the same
    # whatever the number of routes; operators for each branch would not.
    graph.role = "group"
    count = graph.op("Shape", choice)
    order = _argsort(graph, choice, count)
    routes = graph.constant(np.arange(len(fork.branches))[:, None])
    taken = graph.op("Cast", graph.op("Equal", routes, choice), to=graph.onnx.TensorProto.INT64)
    axis = graph.constant(np.array([1]))
    sizes = graph.op("ReduceSum", taken, axis, keepdims=0)
    groups = graph.ops("Split", [order, sizes], len(fork.branches), axis=0)
    present = graph.op("Cast", sizes, to=graph.onnx.TensorProto.BOOL)
    # An If takes a single value: the flags of the branches, one by one.
    each = graph.constant(np.ones(len(fork.branches), np.int64))
    conditions = graph.ops("Split", [present, each], len(fork.branches), axis=0)
    results = [
        _branch(graph, branch, x, condition, rows, shape, gate)
        for branch, condition, rows in zip(fork.branches, conditions, groups, strict=True)
    ]
    # The inverse of a permutation is its argsort.
    back = _argsort(graph, order, count)
    logits, *widths = (
        graph.op("Gather", graph.op("Concat", *parts, axis=0), back, axis=0)
        for parts in zip(*results, strict=True)
    )
    if widths:
        return logits, widths[0]
    ends = [branch.end.width for branch in fork.branches if isinstance(branch.end, End)]
    return logits, graph.op("Gather", graph.constant(np.array(ends)), choice, axis=0)


def _choose(
    graph: _Graph, feature: str, scorer: Scorer, cost: Tensor, head: int, first: int = 0
) -> str:
    """What a slimming head picks for each row. head: its number. first: what may be picked."""
    scores = feature
    for index in range(len(scorer)):
        if index:
            scores = graph.op("Relu", scores)
        # Small, and what it decides hangs on small differences: stored whole, always.
        scores = graph.op("Gemm", scores, *_head(graph, scorer, index, head), transB=1)
    paid = graph.op("Mul", graph.constant(cost.cpu().numpy()[None]), PRICE)
    scores = graph.op("Sub", scores, paid)
    if first:
        # A look may stop here or go on to what is wider, never back: see `dsnet.nn.look.forbid`.
        blocked = np.where(np.arange(len(cost)) < first, NEVER, 0).astype(np.float32)
        scores = graph.op("Add", scores, graph.constant(blocked[None]))
    # Of equals the widest, as `dsnet.nn.gate.pick`.
    return graph.op("ArgMax", scores, axis=1, keepdims=0, select_last_index=1)


def _head(graph: _Graph, scorer: Scorer, index: int, head: int) -> Iterator[str]:
    """Inputs of the graph that hold one layer of a slimming head."""
    linear = scorer[index]
    layer = f"{2 * index}." if len(scorer) > 1 else ""  # between them is a ReLU
    for name, tensor in (("weight", linear.weight.tensor()), ("bias", linear.bias)):
        if tensor is not None:
            key = f"{HEAD}{head}.{layer}{name}"
            graph.heads[key] = tensor.cpu().numpy()
            yield key


def _look_again(
    graph: _Graph, fork: Fork, looks: Looks, x: str, following: str, shape: Shape
) -> tuple[str, ...]:
    """Outputs, widths and madds of every row of x; following: the branch that each runs first.

    Branch after branch, each on the rows that have come to it, inside an `If` on their being any.
    """
    graph.role = "look"
    count = graph.op("Shape", following)
    size = graph.op("Concat", count, graph.constant(np.array(shape)), axis=0)
    zero = graph.onnx.numpy_helper.from_array(np.zeros(1, np.float32))
    # What a branch hands on to the next: ONNX has no variables, so each If takes these three and
    # gives them back with the rows of its own images replaced.
    state = [
        graph.op("ConstantOfShape", size, value=zero),
        graph.op("Expand", graph.constant(np.array([looks.prefix])), count),
        following,
    ]
    for position in range(len(fork.branches)):
        here = graph.op("Equal", state[2], graph.constant(np.array(position)))
        rows = graph.op("Reshape", graph.op("NonZero", here), graph.constant(np.array([-1])))
        some = graph.op("Cast", graph.op("Size", rows), to=graph.onnx.TensorProto.BOOL)
        state = _look(graph, fork, looks, position, x, rows, some, state, shape)
    ends = [branch.end.width for branch in fork.branches if isinstance(branch.end, End)]
    widths = graph.op("Gather", graph.constant(np.array(ends)), state[2], axis=0)
    return state[0], widths, state[1]


def _look(
    graph: _Graph,
    fork: Fork,
    looks: Looks,
    position: int,
    x: str,
    rows: str,
    condition: str,
    state: Sequence[str],
    shape: Shape,
) -> list[str]:
    """One branch on the rows of x that have come to it, (n,): outputs, madds and what follows."""
    branch = fork.branches[position]
    assert isinstance(branch.end, End)
    taken, passed = graph.branch(), graph.branch()
    taken.role = "look"
    inputs = taken.op("Gather", x, rows, axis=0)
    taken.role = "layer"
    answers = _layers(taken, branch.end.layers, _layers(taken, branch.layers, inputs))
    taken.role = "look"
    outputs, madds, following = state
    tail = taken.constant(np.array([looks.tails[position]]))
    paid = taken.op("Add", taken.op("Gather", madds, rows, axis=0), tail)
    places = taken.op("Unsqueeze", rows, taken.constant(np.array([1])))
    after = [
        taken.op("ScatterND", outputs, places, answers),
        taken.op("ScatterND", madds, places, paid),
    ]
    if position < len(looks.heads):
        logs = taken.op("LogSoftmax", answers, axis=1)
        assert shape[0] is not None  # what looks again classifies
        best = taken.constant(np.array([looks.evidence.size(shape[0])]))
        evidence = taken.ops("TopK", [logs, best], 2, axis=1)[0]
        scorer, cost = looks.heads[position], looks.cost[position]
        # The gate's head is number 0.
        chosen = _choose(taken, evidence, scorer, cost, 1 + position, first=position)
        after.append(taken.op("ScatterND", following, places, chosen))
    else:
        after.append(taken.op("Identity", following))
    return graph.ops(
        "If",
        [condition],
        3,
        then_branch=_subgraph(taken, after, shape),
        else_branch=_subgraph(passed, [passed.op("Identity", each) for each in state], shape),
    )


def _branch(
    graph: _Graph,
    trunk: Trunk,
    x: str,
    condition: str,
    rows: str,
    shape: Shape,
    gate: int,
) -> list[str]:
    """`trunk` on the rows of x that go there, if any; else nothing, in the same shape.

    gate: the number of the one that sends them.

    Returns outputs and, where gates follow, widths.
    """
    taken = graph.branch()
    taken.role = "group"
    inputs = taken.op("Gather", x, rows, axis=0)
    taken.role = "layer"
    inputs = _layers(taken, trunk.layers, inputs)
    # Both sides of an If have outputs of one kind, so a branch without images answers zero rows.
    empty = graph.branch()
    nothing = [graph.blank]
    if isinstance(trunk.end, End):
        outputs = [_layers(taken, trunk.end.layers, inputs)]
    else:
        # Behind another gate the widths are not known from this choice alone.
        outputs = [*_fork(taken, trunk.end, inputs, shape, gate + 1)]
        nothing.append(empty.constant(np.zeros(0, np.int64)))
    return graph.ops(
        "If",
        [condition],
        len(outputs),
        then_branch=_subgraph(taken, outputs, shape),
        else_branch=_subgraph(empty, [empty.op("Identity", x) for x in nothing], shape),
    )


def _subgraph(graph: _Graph, outputs: Sequence[str], shape: Shape) -> Any:
    """Outputs: floats of `shape`, then whole numbers."""
    helper, kinds = graph.onnx.helper, graph.onnx.TensorProto
    types = ((kinds.FLOAT, [None, *shape]), (kinds.INT64, [None]), (kinds.INT64, [None]))
    return helper.make_graph(
        graph.nodes,
        f"branch_{graph.names[0]}",
        [],
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, (kind, shape) in zip(outputs, types, strict=False)
        ],
        graph.initializers,
    )


def _argsort(graph: _Graph, values: str, count: str) -> str:
    """Positions (N,) of int64 `values` (N,) in rising order, equal ones in the order they had."""
    return graph.ops("TopK", [values, count], 2, axis=0, largest=0, sorted=1)[1]


def _weights(value: Any) -> Iterator[Weight]:
    """Every weight within a tree of layers but those of the slimming heads."""
    if isinstance(value, Weight):
        yield value
    elif isinstance(value, Fork):
        yield from _weights((value.attention, value.branches))
    elif isinstance(value, tuple):
        for item in value:
            yield from _weights(item)
    elif is_dataclass(value):
        yield from _weights(tuple(getattr(value, field.name) for field in fields(value)))
