"""The manifests of `deploy/kubernetes`: their settings, secrets and probes are ours, and kubeconform finds each field in the schemas."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.docs.settings import SERVICES
from services.stage_worker.app import GROUP
from tests.tiers import needs

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kubernetes"
LOCK = Path(__file__).parent / "requirements.lock"
SCHEMAS = "v1.34.0-local-strict"
TOOLS = {
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0",
    "kustomize": "sigs.k8s.io/kustomize/kustomize/v5@v5.7.1",
}
KEDA = "github.com/kedacore/keda/v2@v2.17.2"
OF_THE_STORE = {"AWS_REGION"}


def documents() -> list[dict[str, Any]]:
    """All objects of the manifests, without kustomize's own file."""
    paths = [p for p in sorted(FOLDER.glob("*.yaml")) if p.name != "kustomization.yaml"]
    return [found for path in paths for found in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    """Name → object."""
    return {d["metadata"]["name"]: d for d in documents() if d["kind"] == kind}


def known(service: str) -> set[str]:
    """The environment variables that a service reads."""
    fields = SERVICES[service].model_fields
    kafka: Any = fields["kafka"].annotation
    return (
        {f"STAGELINE_{name}".upper() for name in fields} | {f"KAFKA_{name}".upper() for name in kafka.model_fields} | OF_THE_STORE
    )


def test_kustomize_names_every_file() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(p.name for p in FOLDER.glob("*.yaml") if p.name != "kustomization.yaml")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_settings_that_it_has_and_secrets_of_its_own(service: str) -> None:
    pod = of_kind("Deployment")[service.replace("_", "-")]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    shared = of_kind("ConfigMap")["stageline"]["data"]
    given = {e["name"]: e["value"] for e in container["env"]}
    assert container["args"] == [service] and given.keys() <= known(service)
    assert shared.keys() <= set.union(*map(known, SERVICES)), "a name is misspelled"
    assert given["KAFKA_SASL_USERNAME"] == f"stageline-{service}"
    [keys] = [v["projected"]["sources"] for v in pod["volumes"] if v["name"] == "keys"]
    items = [(s["secret"]["name"], i["key"], i["path"]) for s in keys for i in s["secret"]["items"]]
    assert {key for name, key, _ in items if name != "stageline-keys"} == {service}, "no other service's password"
    mounted = {f"/keys/{path}" for _, _, path in items}
    assert {v for v in given.values() if v.startswith("/keys/")} == mounted, "each file is used, and each that is used is there"


def test_every_pod_has_probes_walls_and_no_links() -> None:
    for name, deployment in of_kind("Deployment").items():
        pod = deployment["spec"]["template"]["spec"]
        [container] = pod["containers"]
        probes = {k: v["httpGet"]["path"] for k, v in container.items() if k.endswith("Probe")}
        assert probes == {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health/ready"}, (
            name
        )
        assert pod["enableServiceLinks"] is False and pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsUser"] == 10001 and container["securityContext"]["readOnlyRootFilesystem"]
        assert pod["terminationGracePeriodSeconds"] > SERVICES[name.replace("-", "_")].model_fields["drain_timeout_s"].default


def test_the_ingress_routes_as_the_proxy_does() -> None:
    paths = of_kind("Ingress")["stageline"]["spec"]["rules"][0]["http"]["paths"]
    routed = {p["path"].strip("/"): p["backend"]["service"]["name"] for p in paths}
    proxied = (ROOT / "deploy" / "nginx" / "stageline.conf").read_text()
    [notifier] = re.findall(r"location ~ \^/\(([^)]*)\)", proxied)
    theirs = {part.replace("\\", "").strip("/") for part in notifier.split("|")}
    assert routed == {"": "ingest", **dict.fromkeys(theirs, "notifier")}


def test_workers_scale_by_the_lag_of_their_group() -> None:
    [scaled] = [
        d for d in yaml.safe_load_all((FOLDER / "autoscaling/stage-worker.yaml").read_text()) if d["kind"] == "ScaledObject"
    ]
    [trigger] = scaled["spec"]["triggers"]
    shared = of_kind("ConfigMap")["stageline"]["data"]
    assert trigger["metadata"]["consumerGroup"] == GROUP and scaled["spec"]["scaleTargetRef"]["name"] in of_kind("Deployment")
    assert trigger["metadata"]["bootstrapServers"] == shared["KAFKA_BOOTSTRAP_SERVERS"]
    assert scaled["spec"]["maxReplicaCount"] == int(shared["STAGELINE_PARTITIONS"])


def installed(folder: Path, tool: str) -> Path:
    """The program, built from its Go module."""
    environment = {"GOBIN": str(folder), "GOFLAGS": "-mod=mod"}
    run(["go", "install", TOOLS[tool]], folder, **environment)
    return folder / tool


def run(command: list[str], folder: Path, given: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(command, cwd=folder, env=own | environment, input=given, capture_output=True, text=True, timeout=400)


def schemas(folder: Path) -> str:
    """A folder with a schema for each kind that the manifests have; returns kubeconform's name for it."""
    run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r", str(LOCK), "-d", "."], folder)
    [wheel] = folder.glob("kubernetes_validate-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        place = f"kubernetes_validate/kubernetes-json-schema/{SCHEMAS}"
        local = lambda text: text.replace("/api/_definitions.json#", "#").replace("_definitions.json#", "#")  # noqa: E731
        parts = json.loads(local(packed.read(f"{place}/_definitions.json").decode()))["$defs"]
        for found in documents():
            group = found["apiVersion"].split("/")
            kind = "-".join([found["kind"].lower(), *(p.split(".")[0] for p in group)])
            schema = json.loads(local(packed.read(f"{place}/{kind}.json").decode()))
            (folder / f"{kind}.json").write_text(json.dumps(schema | {"$defs": parts}))
    module = json.loads(run(["go", "mod", "download", "-json", KEDA], folder).stdout)["Dir"]
    for name in ("scaledobjects", "triggerauthentications"):
        definition = yaml.safe_load((Path(module) / f"config/crd/bases/keda.sh_{name}.yaml").read_text())
        [version] = [v for v in definition["spec"]["versions"] if v["name"] == "v1alpha1"]
        kind = definition["spec"]["names"]["kind"].lower()
        (folder / f"{kind}-keda-v1alpha1.json").write_text(json.dumps(closed(version["schema"]["openAPIV3Schema"])))
    return f"{folder}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"


def closed(schema: Any) -> Any:
    """The schema, which refuses fields that it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: closed(value) for key, value in schema.items()}
    named = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    return inner | ({"additionalProperties": False} if named and "additionalProperties" not in schema else {})


@pytest.mark.slow
@pytest.mark.timeout(600)
@needs("go")
def test_kubeconform_knows_every_field(tmp_path: Path) -> None:
    conform, build, place = installed(tmp_path, "kubeconform"), installed(tmp_path, "kustomize"), schemas(tmp_path)
    command = [str(conform), "-strict", "-summary", "-output", "json", "-schema-location", place]
    built = run([str(build), "build", str(FOLDER)], tmp_path)
    scaling = (FOLDER / "autoscaling/stage-worker.yaml").read_text()
    for given, count in ((built.stdout, len(documents())), (scaling, 2)):
        answer = json.loads(run(command, tmp_path, given).stdout)
        assert answer["summary"] == {"valid": count, "invalid": 0, "errors": 0, "skipped": 0}, answer.get("resources")
    assert built.stdout.count("namespace: stageline") == len(documents()) and "image: stageline\n" not in built.stdout
    for wrong in (built.stdout.replace("httpGet:", "httpGett:", 1), scaling.replace("minReplicaCount", "minReplicas")):
        assert json.loads(run(command, tmp_path, wrong).stdout)["summary"]["invalid"] == 1, "a field that is misspelled is found"
