"""A real MLflow server on this machine that can be killed and started again."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

USER = "somebody"


class MLflowServer:
    """Serves runs, the registry and artifacts from `folder`, always at one address."""

    def __init__(self, folder: Path, password: str | None = None) -> None:
        """password: of the user `USER`, whom alone it lets in then; None: it lets in everybody."""
        self._folder, self._password = folder, password
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self._port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": "",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        if self._password is not None:
            command += ["--app-name", "basic-auth"]
            environment |= {
                "MLFLOW_AUTH_CONFIG_PATH": str(self._users()),
                "MLFLOW_AUTH_ADMIN_PASSWORD": self._password,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(),
            }
        log = self._folder / "server.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, env=environment, start_new_session=True
            )
        self._process = process
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            time.sleep(0.1)
        raise RuntimeError(f"MLflow did not start:\n{log.read_text()}")

    def _users(self) -> Path:
        """The file that says where the server keeps its users."""
        file = self._folder / "auth.ini"
        file.write_text(
            "[mlflow]\n"
            f"database_uri = sqlite:///{self._folder / 'users.db'}\n"
            f"admin_username = {USER}\n"
            "default_permission = NO_PERMISSIONS\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            # A password is checked in a tenth of a second of computing, once a minute is enough.
            "auth_cache_ttl_seconds = 60\n"
        )
        return file

    def stop(self, signum: int = signal.SIGTERM) -> None:
        """End it and its workers; SIGKILL as an outage does."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signum)
            self._process.wait(30)
            self._process = None
