"""DSNet: a supernet whose widths are slices of one set of weights, and the gates that choose."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from dsnet.errors import InputError
from dsnet.models.architecture import Architecture
from dsnet.models.block import Block
from dsnet.models.head import Head
from dsnet.models.metadata import Metadata
from dsnet.models.registry import family
from dsnet.models.second_look import Routed, run_tails
from dsnet.models.width import RoutingSpace, Width
from dsnet.nn.gate import MOMENTS, Gate, is_trained, pick
from dsnet.nn.layers import Shape, area
from dsnet.nn.look import going_on_costs
from dsnet.nn.plan import Layer, count_madds, plain_attention
from dsnet.tasks.base import Task

Branch = tuple[int, Tensor | None]
"""An entry to go on with, and the positions of the images that take it; None: all."""
Split = Callable[[tuple[int, ...], Tensor, Tensor], Iterable[Branch]]
"""What a gate decides in `DSNet.walk`."""


class DSNet(nn.Module):
    """A Dynamic Slimmable Network.

    `model(x, width=i)` is a pure function of its arguments and the weights; `model(x)` lets the
    gates choose for each image. The gates cut the network into segments: segment 0 is everything
    up to the first gate, segment g everything from gate g's choice to the next gate or the head.

    task: what it is for; its family's. looks: heads of the look after each route's tail but the
    widest's, evidence (n, E) -> logits (n, routes); None where an image runs one tail.
    """

    def __init__(self, architecture: Architecture, metadata: Metadata | None = None):
        super().__init__()
        self.architecture = architecture
        self.metadata = metadata or Metadata(resolution=architecture.resolution)
        self.space = RoutingSpace(architecture)
        parts = family(architecture.family)
        self.stem = parts.stem(architecture.stem, architecture.stem_pool)
        self.stages = nn.ModuleList()
        inputs = architecture.stem.channels
        for index, stage in enumerate(architecture.stages):
            blocks = nn.ModuleList()
            for b in range(stage.blocks):
                first = b == 0
                routes = self._routes_of_gate(index) if first and stage.gated else 0
                stride = stage.stride if first else 1
                blocks.append(parts.block(inputs, stage.channels, stage, stride, routes))
                inputs = stage.channels
            self.stages.append(blocks)
        self.looks: nn.ModuleList | None = None
        self._madds: dict[tuple[Width, Shape, int], int] = {}
        self.task: Task = parts.task.configured(self.metadata.task)
        head = parts.head(inputs, architecture)
        self._place = head.place
        self.add_module(head.place, head)

    @property
    def head(self) -> Head:
        """What makes outputs of the last block's features."""
        head = self._modules[self._place]
        assert isinstance(head, Head)
        return head

    def _routes_of_gate(self, stage: int) -> int:
        return len(self.space.choices[self.architecture.gates.index(stage)])

    @property
    def gates(self) -> list[Gate]:
        """The gates with a slimming head, in the order they run."""
        blocks = [self.block(stage, 0) for stage in self.architecture.gates]
        return [block.gate for block in blocks if block.gate is not None]

    @property
    def gates_trained(self) -> bool:
        """Whether its gates tell images apart; where not (a supernet), it routes to the widest."""
        return any(is_trained(gate.slimming) for gate in self.gates if gate.slimming)

    def slimming_parameters(self) -> list[nn.Parameter]:
        """What stage II trains: the slimming heads' weights and nothing else."""
        return [p for gate in self.gates if gate.slimming for p in gate.slimming.parameters()]

    def block(self, stage: int, index: int) -> Block:
        """Block `index` of stage `stage`."""
        blocks = self.stages[stage]
        assert isinstance(blocks, nn.ModuleList)
        block = blocks[index]
        assert isinstance(block, Block)
        return block

    # Running -------------------------------------------------------------------------------------

    def forward(
        self, images: Tensor, width: int | Width | None = None, price: float | None = None
    ) -> Tensor:
        """Outputs (N, …) of normalised images, float (N, 3, H, W): logits (N, num_classes).

        What outputs are is the head's to say. With `width`, those of one sub-network. Without, in
        eval mode, each image runs at the width
        its gates pick, sliced; `price` is the cost of multiply-adds in units of logits (`route`).
        Raises InputError for a width that is not there, a network without gates or a routed forward
        in training mode.
        """
        if width is None:
            return self.dynamic(images, price)[0]
        width = self.space.resolve(width)
        return self.tail(self.segment(0, images, width)[0], images, width)

    def tail(self, x: Tensor, images: Tensor, width: Width) -> Tensor:
        """What segment 0 returned of images -> outputs (N, …) of one sub-network."""
        for segment in range(1, len(self.architecture.gates) + 1):
            x, _ = self.segment(segment, x, width)
        return self.answer(x, images, width)

    def segment(
        self, segment: int, x: Tensor, width: Width, mixture: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Run one segment at one width.

        x: the images for segment 0, else what the segment before returned. Returns the next
        segment's input and the gate's reduced feature (N, r); for the last segment the head's
        input (N, c, H', W') and None. `mixture` (N, options of this segment) masks instead of
        slicing; `width` must then be the widest.
        """
        gates = self.architecture.gates
        if segment == 0:
            x = self.stem(x, width.channels[0])
            start = 0
        else:
            start = gates[segment - 1]
            channels = width.channels[start + 1]
            x = self.block(start, 0).after(x, channels, mixture)
            for index in range(1, self.architecture.stages[start].blocks):
                x = self.block(start, index)(x, channels, mixture)
            start += 1
        stop = gates[segment] if segment < len(gates) else len(self.stages)
        for stage in range(start, stop):
            for index in range(self.architecture.stages[stage].blocks):
                x = self.block(stage, index)(x, width.channels[stage + 1], mixture)
        if segment == len(gates):
            return x, None
        block = self.block(stop, 0)
        assert block.gate is not None
        attended, reduced = block.gate(block.before(x, mixture))
        return attended, reduced

    def plan(self, segment: int, width: Width) -> tuple[list[Layer], int]:
        """What `segment` computes in eval mode up to its gate's input, and how many channels.

        As plain layers: the head and the gate that ends a segment are not among them.
        """
        gates = self.architecture.gates
        layers: list[Layer] = []
        channels = width.channels[0]
        start = 0
        if segment == 0:
            layers += self.stem.plan(channels)
        else:
            start = gates[segment - 1]
            channels = width.channels[start]
        stop = gates[segment] if segment < len(gates) else len(self.stages)
        for stage in range(start, stop):
            outputs = width.channels[stage + 1]
            for index in range(self.architecture.stages[stage].blocks):
                block = self.block(stage, index)
                # Of the block that a gate splits, the segment before has run the first half.
                if segment == 0 or (stage, index) != (start, 0):
                    layers += block.plan_before(channels)
                    if block.gate is not None:
                        layers += plain_attention(block.gate, channels)
                layers += block.plan_after(channels, outputs)
                channels = outputs
        if segment < len(gates):
            layers += self.block(stop, 0).plan_before(channels)
        return layers, channels

    def answer(self, features: Tensor, images: Tensor, width: Width) -> Tensor:
        """What the last segment returned of images (N, 3, H, W) -> outputs (N, …)."""
        outputs: Tensor = self.head(features, images, width == self.space.largest)
        return outputs

    def walk(self, images: Tensor, split: Split) -> Iterator[tuple[Width, Tensor, Tensor]]:
        """Run the tree of segments and choices depth first, what several paths share once.

        images: normalised float (N, 3, H, W). `split(path, reduced, rows)` is asked at each gate:
        the entries that were chosen before it, its reduced feature (n, r), and which of the images
        have come there, int64 (n,). It answers with the entries to go on with, and for each the
        positions among `rows` that take it, int64, or None for all.
        Yields for each end that is reached its sub-network, the head's input (n, c, H', W'), and
        rows.
        """
        yield from self._walk(images, torch.arange(len(images), device=images.device), (), split)

    def _walk(
        self, x: Tensor, rows: Tensor, path: tuple[int, ...], split: Split
    ) -> Iterator[tuple[Width, Tensor, Tensor]]:
        width = self.space.along(path)
        x, reduced = self.segment(len(path), x, width)
        if reduced is None:
            yield width, x, rows
            return
        for entry, picked in split(path, reduced, rows):
            there = (x, rows) if picked is None else (x[picked], rows[picked])
            yield from self._walk(*there, (*path, entry), split)

    def every_entry(self, path: tuple[int, ...], reduced: Tensor, rows: Tensor) -> list[Branch]:
        """A `split` for `walk`: every sub-network, in the order of `space`, for all images."""
        return [(entry, None) for entry in range(self.space.options[len(path)])]

    # Routing -------------------------------------------------------------------------------------

    def route(self, images: Tensor, price: float | None = None) -> Tensor:
        """The width picked for each image: int64 (N,), indices into `space`.

        The choice of a gate is argmax(logits - price * cost), where a route's cost is its
        multiply-adds as a fraction of the widest routable sub-network's; of equals it is the
        widest, so a network whose gates are not trained runs at its widest. Price 0 is the plain
        argmax; None is the price that the model was calibrated to, `metadata.price`. With looks it
        is the width that answers.
        """
        return self._routed(images, price, answer=self.looks is not None).widths

    def routed_madds(self, images: Tensor, price: float | None = None) -> Tensor:
        """Multiply-adds of each image where the gates choose, int64 (N,)."""
        return self._routed(images, price, answer=self.looks is not None).madds

    def dynamic(self, images: Tensor, price: float | None = None) -> tuple[Tensor, Tensor]:
        """(outputs (N, …), widths int64 (N,)): each image run at its own width, sliced."""
        outputs, widths, _ = self.routed(images, price)
        return outputs, widths

    def routed(self, images: Tensor, price: float | None = None) -> Routed:
        """As `dynamic`, with the multiply-adds of all that ran for each image."""
        return self._routed(images, price, answer=True)

    def _routed(self, images: Tensor, price: float | None, answer: bool) -> Routed:
        if not self.architecture.gates:
            raise InputError(f"{self.architecture.name} has no gate: pass width=")
        if self.training:
            raise InputError("routing is for eval mode: call model.eval() or pass width=")
        price = self.metadata.price if price is None else price
        n = len(images) if answer else 0
        size = (images.shape[2], images.shape[3])
        # Of images whose route alone is asked for, nothing is answered: n is 0.
        outputs = images.new_empty(n, *self.head.shape(size))
        if self.looks is not None:
            return self._look_again(images, price, outputs)
        widths = torch.empty(len(images), dtype=torch.int64, device=images.device)
        gates = self.gates
        costs = [cost * price for cost in self.gate_costs(images.device)] if price else None

        def split(path: tuple[int, ...], reduced: Tensor, rows: Tensor) -> Iterator[Branch]:
            """To each route the rows whose gate picks it."""
            scores = gates[len(path)].logits(reduced)
            if costs is not None:
                scores = scores - costs[len(path)]
            entries = self.space.choices[len(path)]
            for entry, picked in zip(entries, _groups(scores), strict=True):
                if not len(picked):
                    continue
                if len(path) + 1 == len(gates):
                    widths[rows[picked]] = self.space.index_of((*path, entry))
                    if not answer:
                        continue
                yield entry, picked

        if len(images):
            for width, features, rows in self.walk(images, split):
                there = images if len(rows) == n else images[rows]
                outputs[rows] = self.answer(features, there, width).to(outputs.dtype)
        counts = [self.madds(i, size) for i in range(len(self.space))]
        madds = torch.tensor(counts, device=widths.device)
        return Routed(outputs, widths, madds[widths])

    def _look_again(self, images: Tensor, price: float, outputs: Tensor) -> Routed:
        evidence, looks, routes = self.task.evidence(), self.looks, self.space.routes
        assert evidence is not None and looks is not None
        x, reduced = self.segment(0, images, self.space[0])
        assert reduced is not None
        size = (images.shape[2], images.shape[3])
        (cost,) = self.gate_costs(images.device)
        answered, madds = run_tails(
            pick(self.gates[0].logits(reduced) - cost * price),
            outputs,
            lambda at, rows: self.tail(x[rows], images[rows], self.space[routes[at]]),
            lambda at, answers: looks[at](evidence(answers)),
            self.look_costs(images.device) * price,
            self.prefix_madds(size),
            [self.tail_madds(route, size) for route in routes],
        )
        return Routed(outputs, torch.tensor(routes, device=images.device)[answered], madds)

    def gate_costs(self, device: torch.device | None = None) -> list[Tensor]:
        """Per gate, the cost of each of its routes: float (routes,).

        Multiply-adds as a fraction of the widest routable sub-network's, averaged over the choices
        of the other gates.
        """
        madds = torch.tensor([float(self.madds(i)) for i in self.space.routes], device=device)
        grid = (madds / madds.max()).reshape([len(c) for c in self.space.choices])
        axes = range(grid.dim())
        # A gate does not know what the others will pick, so a route costs what it does on average.
        return [grid.mean([a for a in axes if a != g]) if grid.dim() > 1 else grid for g in axes]

    def look_costs(self, device: torch.device | None = None) -> Tensor:
        """`going_on_costs` of the routes, in the units of `gate_costs`."""
        tails = [self.tail_madds(route) for route in self.space.routes]
        return going_on_costs(tails, self.madds(self.space.routes[-1]), device)

    # Counting ------------------------------------------------------------------------------------

    def madds(self, width: int | Width, resolution: int | Shape | None = None) -> int:
        """Multiply-adds for one image, in closed form.

        Convolutions, linear layers and, for each global pooling, the size of its input.
        resolution: side of a square image, or height and width, in pixels; by default the model's.
        """
        width = self.space.resolve(width)
        size = self._size(resolution)
        if min(size) < 1:
            raise InputError(f"resolution must be at least 1 pixel, found {min(size)}")
        return self._count(width, size, len(self.architecture.gates) + 1)

    def tail_madds(self, width: int | Width, resolution: int | Shape | None = None) -> int:
        """Those of `madds` that come after the first gate, which every look runs anew."""
        return self.madds(width, resolution) - self.prefix_madds(resolution)

    def prefix_madds(self, resolution: int | Shape | None = None) -> int:
        """Multiply-adds of what all widths share: everything up to the first gate, and itself."""
        return self._count(self.space[0], self._size(resolution), 1)

    def _size(self, resolution: int | Shape | None) -> Shape:
        side = self.metadata.resolution if resolution is None else resolution
        return (side, side) if isinstance(side, int) else side

    def _count(self, width: Width, size: Shape, segments: int) -> int:
        """Of the first segments with the gates behind them; the last has the head behind it."""
        key = width, size, segments
        if key not in self._madds:
            self._madds[key] = self._counted(*key)
        return self._madds[key]

    @torch.no_grad()
    def _counted(self, width: Width, size: Shape, segments: int) -> int:
        total, channels = 0, 3
        for segment in range(segments):
            layers, outputs = self.plan(segment, width)
            gate = self.gates[segment] if segment < len(self.architecture.gates) else None
            layers += plain_attention(gate, outputs) if gate else self.head.plan(outputs)
            count, channels, size = count_madds(layers, channels, size)
            total += count
            # A slimming head counts nothing, as in the published counts; the pooling it reads is
            # the attention's, or, without one, pooling for each moment.
            if gate and gate.reduce is None:
                total += MOMENTS * channels * area(size)
        return total


def _groups(scores: Tensor) -> tuple[Tensor, ...]:
    """scores: (N, routes) -> per route, the rows where it scores highest, in their order.

    One host synchronisation, to learn the sizes, however many routes there are.
    """
    choice = pick(scores)
    sizes = choice.bincount(minlength=scores.shape[1]).tolist()
    return choice.argsort(stable=True).split(sizes)
