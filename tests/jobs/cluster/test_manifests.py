"""The files for Kubernetes and for `ray up` are what those that read them expect."""

import copy
import json
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
from ruamel.yaml import YAML

from jobs import cli

CLUSTER = Path(__file__).parents[3] / "jobs" / "cluster"
SCHEMAS = json.loads(Path(__file__).with_name("kubernetes.json").read_text())
DEFINITIONS = {
    "RayCluster": "RayCluster",
    "RayJob": "RayJob",
    "PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
    "ConfigMap": "io.k8s.api.core.v1.ConfigMap",
}


def documents(name: str) -> list[Any]:
    return list(YAML(typ="safe").load_all(CLUSTER / name))


def problems(manifest: Any) -> list[str]:
    definition = {"$ref": f"#/$defs/{DEFINITIONS[manifest['kind']]}", "$defs": SCHEMAS["$defs"]}
    return [
        each.message for each in jsonschema.Draft202012Validator(definition).iter_errors(manifest)
    ]


@pytest.mark.parametrize("name", ["storage", "raycluster", "rayjob"])
def test_kubernetes_and_kuberay_know_every_field(name: str) -> None:
    manifests = documents(f"kuberay/{name}.yaml")
    assert manifests
    for manifest in manifests:
        assert not problems(manifest)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("headGroupSpec", "template", "spec", "containers", 0, "envfrom"), []),
        (("workerGroupSpecs", 0, "maxReplica"), 2),
        (("workerGroupSpecs", 1, "template", "spec", "volumes", 0, "name"), None),
        (("rayVersion",), 2.6),
    ],
)
def test_a_slip_is_found(path: tuple[str | int, ...], value: Any) -> None:
    (manifest,) = documents("kuberay/raycluster.yaml")
    place = manifest["spec"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert problems(manifest)


def test_a_job_s_own_cluster_is_the_standing_one_with_the_configuration_mounted() -> None:
    (cluster,) = documents("kuberay/raycluster.yaml")
    (job,) = documents("kuberay/rayjob.yaml")
    own = copy.deepcopy(job["spec"]["rayClusterSpec"])
    for group in [own["headGroupSpec"], *own["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        pod["volumes"] = [each for each in pod["volumes"] if each["name"] != "config"]
        (container,) = pod["containers"]
        mounts = container["volumeMounts"]
        container["volumeMounts"] = [each for each in mounts if each["name"] != "config"]
    assert own == cluster["spec"]


def test_nothing_secret_is_in_them_and_what_is_secret_comes_by_reference() -> None:
    (cluster,) = documents("kuberay/raycluster.yaml")
    spec = cluster["spec"]
    assert spec["authOptions"] == {"mode": "token"} and "secretName" not in spec["authOptions"]
    _, told = documents("kuberay/storage.yaml")
    assert not [name for name in told["data"] if "TOKEN" in name or "PASSWORD" in name]
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        (container,) = group["template"]["spec"]["containers"]
        assert "env" not in container
        assert {"secretRef": {"name": "dsnet-mlflow", "optional": True}} in container["envFrom"]
        assert container["securityContext"]["runAsNonRoot"]


def test_they_run_this_ray_and_a_command_that_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = documents("kuberay/rayjob.yaml")
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    program, *words = shlex.split(job["spec"]["entrypoint"])
    assert program == "dsnet" and words[-2:] == ["--config", "/config/config.yaml"]
    monkeypatch.setenv("DSNET_HOME", str(tmp_path))
    config = CLUSTER.parent / "configs" / "digits.yaml"
    assert cli.run([*words[:-1], str(config), "--print-config"]) == 0


def test_ray_up_takes_its_file() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    (config,) = documents("ray-up.yaml")
    jsonschema.validate(config, schema)
    for name in ("head", "worker"):
        commands = config[f"{name}_start_ray_commands"]
        assert "RAY_AUTH_MODE=token" in commands[-1]
        assert all(each.startswith(("ulimit", "/shared/dsnet/.venv/bin/ray")) for each in commands)
