"""`dsnet serve` as its users meet it: one server, over HTTP, until it is told to end."""

import base64
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ray
import requests
import torch
from PIL import Image

import dsnet
from dsnet.inference.export import write_onnx
from dsnet.routing.budget import calibrate_prices
from dsnet.training import recalibrate
from pipeline.predict.model import open_runner
from pipeline.predict.serve.requests import MOST_BODY
from pipeline.predict.stream import predict
from tests.pipeline.chain.faults import left_by_the_session

COUNT = 32
KEYS = {"label", "class", "confidence", "width", "madds"}


@dataclass(frozen=True)
class Server:
    """model: its directory. files: pictures. process: the command, on the session's cluster."""

    url: str
    model: Path
    files: list[Path]
    process: "subprocess.Popen[str]"

    def post(self, body: bytes, **query: Any) -> requests.Response:
        return requests.post(f"{self.url}/predict", data=body, params=query, timeout=60)

    def post_json(self, images: list[str], client: str = "") -> requests.Response:
        """client: the address that a proxy before the server says it comes from."""
        headers = {"x-forwarded-for": client} if client else {}
        return requests.post(
            f"{self.url}/predict", json={"images": images}, headers=headers, timeout=120
        )

    def expected(self, budget: str | None = None, top_k: int = 1) -> list[dict[str, Any]]:
        """What `dsnet predict` says of the files."""
        with open_runner(str(self.model), budget) as (runner, spend):
            batches = predict(runner, [str(file) for file in self.files], spend, top_k)
            rows = [row for batch in batches for row in batch]
        return [{key: row[key] for key in row if key != "path"} for row in rows]


@pytest.fixture(scope="module")
def server(ray_cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (COUNT, 8, 8, 3), dtype=torch.uint8)
    files = [folder / f"{index:02}.png" for index in range(COUNT)]
    for file, each in zip(files, pixels, strict=True):
        Image.fromarray(each.numpy()).save(file)
    with _started(_model(folder, pixels), RAY_ADDRESS=ray_cluster) as (process, url):
        yield Server(url, folder / "model", files, process)


@contextmanager
def _started(model: Path, **variables: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`dsnet serve` in a process group of its own, once it answers, and its URL."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jobs.cli", "serve", str(model), "--port", str(port)]
    ours = {name: text for name, text in os.environ.items() if name not in left_by_the_session()}
    process = subprocess.Popen(
        [*command, "--p99", "60000"],  # no machine is that slow
        env=ours | variables,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stderr is not None
        lines = []
        while f"http://127.0.0.1:{port}/docs" not in (line := process.stderr.readline()):
            lines.append(line)
            assert line, "".join(lines)
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _model(folder: Path, pixels: torch.Tensor) -> Path:
    """A network for digits whose gate, of random weights, sends these pictures to all widths."""
    model = dsnet.create_model("ds_mbnet_digits", num_classes=10)
    x = dsnet.normalize(pixels, model.metadata.mean, model.metadata.std)
    recalibrate(model, [x])  # without, every answer is a tie
    model.eval()
    head = model.gates[0].slimming
    assert isinstance(head, torch.nn.Linear)
    torch.nn.init.normal_(head.weight, std=50.0)
    prices, classes = calibrate_prices(model, [x]), tuple(f"digit {i}" for i in range(10))
    model.metadata = replace(model.metadata, prices=prices, classes=classes)
    dsnet.save(model, folder / "model")
    write_onnx(model, folder / "model")
    return folder / "model"


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> bool:
    """Equal but for the last digits of probabilities, which depend on the batch."""

    def equal(key: str, one: Any, other: Any) -> bool:
        return one == (pytest.approx(other, rel=1e-4) if "confidence" in key else other)

    return all(
        row.keys() == wanted.keys() and all(equal(key, row[key], wanted[key]) for key in row)
        for row, wanted in zip(found, expected, strict=True)
    )


def test_an_images_bytes_are_answered_as_dsnet_predict_does(server: Server) -> None:
    response = server.post(server.files[0].read_bytes())
    assert response.status_code == 200
    assert set(response.json()[0]) == KEYS
    assert same(response.json(), server.expected()[:1])


def test_several_in_json_with_a_budget_and_the_likeliest_classes(server: Server) -> None:
    images = [base64.b64encode(file.read_bytes()).decode() for file in server.files]
    document = {"images": images, "budget": 0.5, "top_k": 3}
    response = requests.post(f"{server.url}/predict", json=document, timeout=60)
    expected = server.expected("0.5", 3)
    assert len({row["width"] for row in expected}) > 1
    assert same(response.json(), expected)
    assert response.headers["dsnet-budget"] == "0.5000"


def test_base64_may_have_line_breaks_or_be_a_data_uri(server: Server) -> None:
    data = server.files[0].read_bytes()
    text = base64.b64encode(data).decode()
    broken = base64.encodebytes(data).decode()
    assert "\n" in broken.strip()
    images = [text, broken, broken.replace("\n", "\r\n "), f"data:image/png;base64,{text}"]
    assert same(server.post_json(images).json(), server.expected()[:1] * 4)


def test_many_at_once_share_batches_and_each_gets_its_own_answer(server: Server) -> None:
    def counted(name: str) -> float:
        text = requests.get(f"{server.url}/metrics", timeout=60).text
        return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]

    images, batches = counted("dsnet_batch_images_sum"), counted("dsnet_batch_images_count")
    with ThreadPoolExecutor(COUNT) as pool:
        answers = list(pool.map(server.post, [file.read_bytes() for file in server.files]))
    assert same([answer.json()[0] for answer in answers], server.expected())
    assert counted("dsnet_batch_images_sum") == images + COUNT
    assert counted("dsnet_batch_images_count") < batches + COUNT
    assert counted("dsnet_waiting_images") == 0
    assert counted("dsnet_width_count") >= COUNT


def bomb() -> bytes:
    """A PNG of 70 bytes that declares ten thousand million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 10**5, 10**5, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def large(side: int = 6000) -> bytes:
    """A picture of more pixels than are decoded, below what Pillow itself refuses."""
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "query", "said"),
    [
        (b"hello", {}, "image 0: expected a picture that decodes"),
        (b"", {}, "image 0: .*the file is empty"),
        (bomb(), {}, "image 0: "),
        (large(), {}, "image 0: expected a picture of up to 33,554,432 pixels, found 6000 x 6000"),
        (b"", {"budget": "2"}, "budget: expected a fraction above 0 and up to 1"),
        (b"", {"budget": "9" * 4000}, "budget: expected a fraction above 0 and up to 1"),
        (b"", {"budget": "9" * 4000 + "M"}, "budget: expected a fraction above 0 and up to 1"),
        (b"", {"budget": "0.01"}, r"budget: target 0\.01: expected 63,776 to 298,064"),
        (b"", {"top_k": "11"}, "top_k: expected 1 to 10, the number of classes, found 11"),
        (b"", {"top_k": "x"}, "top_k: .* found 'x'"),
    ],
)
def test_wrong_input_is_answered_with_a_sentence(
    body: bytes, query: dict[str, str], said: str, server: Server
) -> None:
    response = server.post(body, **query)
    assert response.status_code == 400
    assert re.match(said, response.json()["error"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "body: expected JSON"),
        ("[" * 100_000, "body: expected JSON"),
        ("[1]", 'body: expected {"images"'),
        ('{"images": []}', "images: expected 1 to 64, found 0"),
        ('{"images": ["?"]}', r"images\[0\]: expected base64 text, found '\?'"),
        ('{"images": ["data:image/png,AAAA"]}', r"images\[0\]: expected base64 text"),
        ('{"images": [' + "[], " * 1000 + "[]]}", "body: expected JSON with up to 64 images"),
        ('{"images": ["AAAA"], "budget": ' + "9" * 4000 + "}", "budget: expected a fraction"),
        ('{"images": ["AAAA"], "budgets": 1}', "body: expected images, budget and top_k"),
        ('{"images": ["AAAA"], "budget": true}', "budget: expected a fraction"),
        ('{"images": ["AAAA"], "top_k": true}', "top_k: expected 1 to 10"),
    ],
)
def test_wrong_json_is_answered_with_a_sentence(body: str, said: str, server: Server) -> None:
    headers = {"content-type": "application/json"}
    response = requests.post(f"{server.url}/predict", data=body, headers=headers, timeout=60)
    assert response.status_code == 400
    assert re.match(said, response.json()["error"])


def test_a_body_that_is_too_large_or_of_no_known_size_is_not_read(server: Server) -> None:
    with connect(server, f"Content-Length: {MOST_BODY + 1}") as connection:  # and nothing of it
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
    response = requests.post(f"{server.url}/predict", data=iter([b"x"]), timeout=60)
    assert response.status_code == 411
    assert "Content-Length" in response.json()["error"]
    form = requests.post(f"{server.url}/predict", files={"image": b"x"}, timeout=60)
    assert form.status_code == 415


def connect(server: Server, headers: str) -> socket.socket:
    """A connection on which the head of a request has been sent."""
    connection = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    connection.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n".encode())
    return connection


def test_what_is_declared_and_does_not_arrive_takes_nothing_from_others(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(40):
            connection = connect(server, f"Content-Length: {MOST_BODY}")
            stack.enter_context(connection).sendall(b"0123456789")
        while active(server) < 40:
            time.sleep(0.05)
        assert server.post(server.files[0].read_bytes()).status_code == 200
    while active(server):
        time.sleep(0.05)


def active(server: Server) -> float:
    text = requests.get(f"{server.url}/metrics", timeout=60).text
    return float(re.search(r"^dsnet_active_requests (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]


def test_the_pixels_of_a_request_are_bounded_before_one_is_decoded(server: Server) -> None:
    response = server.post_json([base64.b64encode(large(5000)).decode()] * 3)
    assert response.status_code == 413
    assert re.match(
        "images: expected up to 67,108,864 pixels of all together, found 75,000,000",
        response.json()["error"],
    )


def test_who_sends_large_pictures_does_not_make_others_wait(server: Server) -> None:
    """Large ones of one client wait for each other, small ones and other clients go before."""
    heavy, less = (base64.b64encode(large(side)).decode() for side in (4000, 2100))
    small = base64.b64encode(server.files[0].read_bytes()).decode()
    with ThreadPoolExecutor(5) as pool:
        stranger = [pool.submit(server.post_json, [heavy], "10.0.0.1") for _ in range(5)]
        while active(server) + sum(each.done() for each in stranger) < 5:
            time.sleep(0.02)
        for image in (small, less):
            before = sum(each.done() for each in stranger)
            assert server.post_json([image], "10.0.0.2").status_code == 200
            assert sum(each.done() for each in stranger) <= before + 2
        assert {each.result().status_code for each in stranger} == {200}


def test_it_says_what_it_answers_and_how_it_is(server: Server) -> None:
    document = requests.get(f"{server.url}/openapi.json", timeout=60).json()
    assert set(document["paths"]) == {"/predict", "/health", "/metrics"}
    post = document["paths"]["/predict"]["post"]
    assert {each["name"] for each in post["parameters"]} == {"budget", "top_k"}
    assert set(post["requestBody"]["content"]) == {"image/*", "application/json"}
    row = post["responses"]["200"]["content"]["application/json"]["schema"]["items"]
    assert set(row["required"]) == KEYS
    health = requests.get(f"{server.url}/health", timeout=60)
    assert (health.status_code, health.json()) == (200, {"status": "ok", "waiting": 0})
    metrics = requests.get(f"{server.url}/metrics", timeout=60)
    assert metrics.headers["content-type"].startswith("text/plain")
    assert 'dsnet_requests_total{status="200"}' in metrics.text
    page = requests.get(f"{server.url}/", timeout=60)
    assert page.headers["content-type"].startswith("text/html") and "POST /predict" in page.text
    assert not re.search(r'(src|href)="https?:', page.text)
    assert "openapi.json" in requests.get(f"{server.url}/docs", timeout=60).text
    missing = requests.get(f"{server.url}/nothing", timeout=60)
    assert (missing.status_code, missing.json()) == (404, {"error": "Not Found"})


def test_another_server_at_the_same_address_is_refused_in_a_line(server: Server) -> None:
    from jobs import cli

    port = server.url.rpartition(":")[2]
    assert cli.run(["serve", str(server.model), "--port", port]) == 2


def test_at_sigterm_what_has_come_is_answered_and_nothing_is_left(server: Server) -> None:
    images = [base64.b64encode(file.read_bytes()).decode() for file in server.files] * 2
    with ThreadPoolExecutor(16) as pool:
        answers = [
            pool.submit(requests.post, f"{server.url}/predict", json={"images": images}, timeout=60)
            for _ in range(16)
        ]
        while requests.get(f"{server.url}/health", timeout=60).json()["waiting"] == 0:
            assert not all(answer.done() for answer in answers)
        server.process.send_signal(signal.SIGTERM)
        statuses = [answer.result().status_code for answer in answers]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) > 0
    assert server.process.wait(timeout=60) == 143
    assert server.process.stderr is not None
    said = server.process.stderr.read()
    assert said.splitlines()[-1] == "dsnet: terminated"
    assert "Traceback" not in said  # whoever has come, and gone
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{server.url}/health", timeout=60)
    deadline = time.monotonic() + 30
    while left := [
        actor
        for actor in ray.util.list_named_actors(all_namespaces=True)
        if actor["namespace"] == "serve"
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


@pytest.mark.slow
def test_one_that_is_stopped_together_with_its_cluster_says_that_it_was_stopped(
    server: Server, request: pytest.FixtureRequest
) -> None:
    """As `timeout` and systemd do: Ray's processes get the signal too."""
    if not request.config.getoption("long"):
        pytest.skip("starts a cluster of its own: --long runs it")
    with _started(server.model) as (process, _):
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
        assert process.stderr is not None
        assert process.stderr.read().splitlines()[-1] == "dsnet: terminated"
