"""Ctrl-C and SIGTERM are exceptions, also after what Ray leaves behind."""

import os
import signal
import socket
import subprocess
import threading

import pytest
import ray

from dsnet.errors import InputError, OutageError
from pipeline.cluster import ray_cluster
from pipeline.cluster.interrupts import Terminated, end_by, handlers_kept, interruptible


def test_sigterm_leaves_as_terminated_and_ctrl_c_as_keyboard_interrupt() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated), interruptible():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt) as caught, interruptible():
        signal.raise_signal(signal.SIGINT)
    assert not isinstance(caught.value, Terminated)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_what_came_first_counts_whatever_a_cluster_that_ends_too_raises() -> None:
    """A signal to the process group ends Ray as well, and then nothing of it answers."""
    with pytest.raises(Terminated), interruptible():  # noqa: PT012
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            end_by(OutageError("the cluster is gone"))
            threading.Event().wait(60)
    with pytest.raises(Terminated), interruptible():  # noqa: PT012
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            raise RuntimeError("of an actor that is gone")
    with pytest.raises(OutageError), interruptible():  # noqa: PT012
        try:
            end_by(OutageError("the cluster is gone"))
            threading.Event().wait(60)
        finally:
            signal.raise_signal(signal.SIGTERM)


def test_another_thread_ends_what_is_interruptible_by_its_error_and_nothing_else() -> None:
    end_by(OutageError("passed over: nothing is interruptible"))
    thread = threading.Thread(target=end_by, args=(OutageError("the cluster is gone"),))
    with pytest.raises(OutageError, match="the cluster is gone"), interruptible():  # noqa: PT012
        thread.start()
        threading.Event().wait(60)
    thread.join()
    with interruptible():
        pass


def test_an_answer_that_is_left_behind_is_taken_away() -> None:
    with interruptible():
        with handlers_kept():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_another_thread_than_the_first_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def inside() -> None:
        with interruptible(), handlers_kept():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before]


def test_a_start_of_ray_that_fails_is_tried_again_and_leaves_nothing() -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def init() -> None:
        processes.append(subprocess.Popen(["sh", "-c", "sleep 600 & wait", ray.__file__]))
        if len(processes) == 1:
            raise Exception("The current node timed out during startup.")  # as Ray does

    ray_cluster.started(init)
    first, second = processes
    assert first.wait(60) == -signal.SIGKILL
    assert second.poll() is None
    second.kill()
    with pytest.raises(OutageError, match="did not start on this machine, 2 times"):
        ray_cluster.started(raising)


def raising() -> None:
    raise RuntimeError("Can't find the node\nin the logs")


def test_an_address_where_nothing_answers_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(InputError, match=rf"RAY_ADDRESS: .*{address} \(Connection refused\)"):
        ray_cluster.join(address)
