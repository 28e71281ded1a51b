"""Kafka settings of programs: the kit reads what `stageline env` prints, files are the owner's alone, compose has no open listener."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from cli.local import broker_setup, keys
from cli.local.plan import SERVICES, Plan
from services.ingest.settings import IngestSettings
from shared.errors import Stop
from shared.kafka.connection import KafkaAccess
from shared.kafka.credentials import PROGRAMS, Credentials
from stageline_kit import kafka_options

ROOT = Path(__file__).parents[2]
USER = {
    "KAFKA_BOOTSTRAP_SERVERS": "k:1", "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_USERNAME": "worker",
    "KAFKA_SASL_PASSWORD": "secret",
}  # fmt: skip


def test_the_kit_reads_addresses_and_user_from_the_environment(tmp_path: Path) -> None:
    expected = {
        "bootstrap_servers": "k:1", "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "worker", "sasl_plain_password": "secret",
    }  # fmt: skip
    assert kafka_options(None, {}, USER) == expected
    (tmp_path / "p").write_text("secret\n")
    by_file = {**USER, "KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "p")}
    assert kafka_options(None, {}, by_file) == expected


def test_what_a_program_says_itself_comes_first() -> None:
    assert kafka_options("other:1", {"client_id": "c"}, USER)["bootstrap_servers"] == "other:1"
    given = {"security_protocol": "PLAINTEXT"}
    assert kafka_options(None, given, USER) == {"bootstrap_servers": "k:1", **given}
    assert kafka_options(None, {}, {}) == {"bootstrap_servers": "127.0.0.1:29092"}


@pytest.mark.parametrize("missing", ["KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD"])
def test_what_is_missing_is_named(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        kafka_options(None, {}, {name: value for name, value in USER.items() if name != missing})


def test_passwords_are_made_once_and_are_their_owners_alone(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path / "users")
    password = credentials.password("billing")
    assert len(password) >= 40 and credentials.password("billing") == password and credentials.known() == ["billing"]
    assert stat.S_IMODE(credentials.file("billing").stat().st_mode) == 0o600
    for name in ("../admin", "a/b", "", ".hidden", "a" * 101):
        with pytest.raises(Stop, match="user"):
            credentials.password(name)


def test_a_service_connects_as_itself_whatever_the_shell_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in USER.items():
        monkeypatch.setenv(name, value)
    plan = Plan(tmp_path, port=0, kafka_port=0)
    plan.resolve()
    for service in SERVICES:
        environment = plan.environment(service)
        assert environment["KAFKA_SASL_USERNAME"] == f"stageline-{service}" and "KAFKA_SASL_PASSWORD" not in environment
        assert environment["KAFKA_BOOTSTRAP_SERVERS"] == plan.bootstrap


COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


@pytest.mark.parametrize("broker", ["kafka", "kafka-2", "kafka-3"])
def test_no_listener_of_the_compose_brokers_is_open(broker: str) -> None:
    environment = COMPOSE[broker]["environment"]
    protocols = [entry.split(":")[1] for entry in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(",")]
    assert len(protocols) == 3 and set(protocols) == {"SASL_PLAINTEXT"}
    assert (
        environment["KAFKA_ALLOW_EVERYONE_IF_NO_ACL_FOUND"] == "false"
        and "StandardAuthorizer" in environment["KAFKA_AUTHORIZER_CLASS_NAME"]
    )
    assert "broker-keys:/keys:ro" in COMPOSE[broker]["volumes"] and not any(
        v.startswith("keys:") for v in COMPOSE[broker]["volumes"]
    )


@pytest.mark.parametrize("service", SERVICES)
def test_each_compose_service_has_its_own_user_and_waits_for_its_rights(service: str) -> None:
    environment = COMPOSE[service]["environment"]
    assert environment["KAFKA_SASL_USERNAME"] == f"stageline-{service}"
    assert environment["KAFKA_SASL_PASSWORD_FILE"] == f"/keys/{service}/kafka"
    assert COMPOSE[service]["depends_on"]["kafka-setup"] == {"condition": "service_completed_successfully"}


def test_the_secrets_of_compose_are_made_once(tmp_path: Path) -> None:
    folder, broker = tmp_path / "keys", tmp_path / "broker"
    folder.mkdir()
    broker.mkdir()
    keys.main(folder, tmp_path / "objects", broker)
    files = keys.kafka_files(folder)
    assert set(files) == {*broker_setup.USERS, "admin"} and len({path.read_text() for path in files.values()}) == len(files)
    before = {path: path.read_text() for path in (*files.values(), broker / "jaas.conf")}
    keys.main(folder, tmp_path / "objects", broker)
    assert before == {path: path.read_text() for path in before}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o400}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in files.values()} == {0o700}
    jaas = (broker / "jaas.conf").read_text()
    assert f'user_admin="{files["admin"].read_text().strip()}"' in jaas and "host.KafkaServer" in jaas
    assert set(PROGRAMS) < set(files) and broker_setup.outside("consumer", "p")["KAFKA_SASL_PASSWORD"] == "p"


@pytest.mark.parametrize("service", SERVICES)
def test_each_compose_service_mounts_its_own_secrets_alone(service: str) -> None:
    """The gateway alone mounts `keys` too, which holds the admin key."""
    secrets = {volume for volume in COMPOSE[service]["volumes"] if "/keys" in volume}
    assert secrets == {f"{service}-keys:/keys/{service}:ro"} | ({"keys:/keys:ro"} if service == "ingest" else set())
    made = {volume.split(":")[1] for volume in COMPOSE["keys"]["volumes"]}
    assert f"/keys/{service}" in made and {"/keys/database", "/keys/kafka-admin", "/keys/programs"} <= made


@pytest.mark.parametrize("service", SERVICES)
def test_each_compose_service_has_its_own_user_in_the_database(service: str) -> None:
    environment = COMPOSE[service]["environment"]
    if service == "stage_worker":
        assert (
            "STAGELINE_DATABASE_URL" not in environment and environment["STAGELINE_SANDBOX"] == "${STAGELINE_SANDBOX:-required}"
        )
        return
    assert environment["STAGELINE_DATABASE_URL"] == f"postgresql://stageline_{service}@postgres/stageline"
    assert environment["STAGELINE_DATABASE_PASSWORD_FILE"] == f"/keys/{service}/database"


def test_the_database_keeps_the_password_of_an_older_deployment(tmp_path: Path) -> None:
    (tmp_path / "postgres").write_text("of-0.3\n")
    keys.main(tmp_path, tmp_path / "objects", tmp_path / "broker")
    assert keys.superuser_file(tmp_path).read_text() == "of-0.3\n" and not (tmp_path / "postgres").exists()
    assert len({path.read_text() for path in keys.database_files(tmp_path).values()}) == 4


def test_the_gateway_reaches_dead_letters_as_a_user_of_its_own(tmp_path: Path) -> None:
    password = tmp_path / "letters"
    password.write_text("x")
    kafka = KafkaAccess(security_protocol="SASL_PLAINTEXT", sasl_username="stageline-ingest", sasl_password=SecretStr("y"))
    own = IngestSettings(kafka=kafka, letters_kafka_username="letters", letters_kafka_password_file=password).letters_kafka()
    assert (own.options["sasl_plain_username"], own.options["sasl_plain_password"]) == ("letters", "x")
    assert IngestSettings(kafka=kafka).letters_kafka() is kafka
