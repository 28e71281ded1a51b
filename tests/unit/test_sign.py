"""Signatures: valid over every byte, valid beside earlier ones, and a clear error without a key."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pikepdf
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, NoEncryption
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from pyhanko.keys import load_certs_from_pemder_data
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

from contracts import FileRef, StageTask
from services.stage_worker.adapters.documents.sign import describe_key, prepare, sign_digest
from services.stage_worker.conversion import Conversion
from services.stage_worker.core.document_fault import DocumentFault
from services.stage_worker.core.signature_gap import digest_around, fill_gap
from services.stage_worker.settings import WorkerSettings
from shared.errors import Stop
from shared.objects.object_store import open_objects
from stageline_kit import Task
from tests.conftest import SAMPLES
from tests.unit.test_pdf import protected, put, quiet

NDA = (SAMPLES / "contract-nda.pdf").read_bytes()


def key_file(password: str | None = "open") -> tuple[bytes, x509.Certificate]:
    """PKCS#12 of a fresh self-signed key, and its certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Stageline test")])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(True, True, False, False, False, False, False, False, False)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9)).add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    how = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return serialize_key_and_certificates(b"test", key, certificate, None, how), certificate


@pytest.fixture(scope="module")
def key() -> Iterator[tuple[bytes, x509.Certificate]]:
    yield key_file()


def valid(data: bytes, certificate: x509.Certificate) -> list[bool]:
    """Of each signature: whether it is intact, trusted, and covers the file as it was signed."""
    from cryptography.hazmat.primitives.serialization import Encoding

    [root] = load_certs_from_pemder_data(certificate.public_bytes(Encoding.DER))
    context = ValidationContext(trust_roots=[root], allow_fetching=False)
    found = []
    for embedded in PdfFileReader(io.BytesIO(data)).embedded_signatures:
        status = validate_pdf_signature(embedded, context)
        found.append(bool(status.intact and status.valid and status.trusted))
    return found


def sign(path: Path, config: dict[str, str | list[str]]) -> dict[str, Any]:
    """Sign as the worker does: prepare without the key, sign the digest without the document. Returns the properties."""
    key = {name: config[name] for name in ("key", "key_password")}
    described = describe_key(path, key, quiet)
    found = prepare(path, {**config, "key": None, "key_password": None, "reserved": described["reserved"]}, quiet)
    output = path.parent / "output"
    data = output.read_bytes()
    made = sign_digest(Path("no document"), {**key, "digest": digest_around(data, found["gap"])}, quiet)
    output.write_bytes(fill_gap(data, found["gap"], made["signature"]))
    return {**found["properties"], "signed_by": described["signed_by"]}


def test_a_signature_is_valid_and_stays_valid_after_a_second(tmp_path: Path, key: tuple[bytes, x509.Certificate]) -> None:
    config = {"kind": "pdf", "key": base64.b64encode(key[0]).decode(), "key_password": "open", "reason": "Agreed"}
    properties = sign(put(tmp_path, NDA), config)
    once = (tmp_path / "output").read_bytes()
    assert once.startswith(NDA) and properties["page_count"] == 1 and "Stageline test" in properties["signed_by"]
    assert valid(once, key[1]) == [True]
    sign(put(tmp_path, once), config)
    twice = (tmp_path / "output").read_bytes()
    assert twice.startswith(once) and valid(twice, key[1]) == [True, True]
    bent = bytearray(once)
    at = bent.find(b"stream", 200) + 12
    bent[at] ^= 1
    assert valid(bytes(bent), key[1]) == [False]


def test_a_protected_pdf_is_opened_first(tmp_path: Path, key: tuple[bytes, x509.Certificate]) -> None:
    config = {"kind": "pdf", "key": base64.b64encode(key[0]).decode(), "key_password": "open", "passwords": ["secret"]}
    sign(put(tmp_path, protected("secret")), config)
    assert valid((tmp_path / "output").read_bytes(), key[1]) == [True]
    with pikepdf.open(tmp_path / "output") as made:
        assert not made.is_encrypted


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"kind": "pdf"}, "not_configured"), ({"kind": "image", "reserved": 100}, "unsupported_type"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_signed_is_reported(config: dict[str, Any], code: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentFault) as refused:
        prepare(put(tmp_path, NDA), config, quiet)
    assert refused.value.code == code


def test_a_key_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DocumentFault) as refused:
        describe_key(tmp_path, {"key": "eA==", "key_password": "open"}, quiet)
    assert refused.value.code == "not_configured"


@pytest.mark.parametrize("gap", [(0, 4), (1, 400), (1, 3), (2, 7), (7, 1)])
def test_a_place_that_is_none_is_not_signed(gap: tuple[int, int]) -> None:
    with pytest.raises(DocumentFault):
        digest_around(b"x<0000>y", gap)
    assert digest_around(b"x<0000>y", (1, 7)) == hashlib.sha256(b"xy").hexdigest()


class InProcess:
    """A `DocumentReader` that notes what each process would have been given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.given: list[tuple[str, bytes, dict[str, Any]]] = []

    async def run_action(
        self, action: str, data: bytes, config: dict[str, Any], timeout_s: float, progress: Any
    ) -> dict[str, Any]:
        self.given.append((action, data, config))
        act = {"pdf.sign": prepare, "sign.describe": describe_key, "sign.digest": sign_digest}[action]
        path = put(self.folder, data)
        result = await asyncio.to_thread(act, path, config, quiet)
        made = self.folder / "output"
        return result | ({"output": made.read_bytes()} if action == "pdf.sign" else {})


async def test_the_key_and_the_document_meet_in_no_process(tmp_path: Path, key: tuple[bytes, x509.Certificate]) -> None:
    objects = open_objects(f"file://{tmp_path}/objects")
    stored = await objects.of("acme").put_object(NDA)
    reader = InProcess(tmp_path)
    secret = {"key": base64.b64encode(key[0]).decode(), "key_password": "open"}
    conversion = Conversion(objects, reader, secret, ["acme"])  # type: ignore[arg-type]
    file = FileRef(file_id="f", file_name="nda.pdf", blob_name=stored.name, sha256=stored.sha256)
    inputs = {"identify": {"kind": "pdf"}}
    message = StageTask.trusted(
        tenant_id="acme", job_id="job-1", step="sign", action="pdf.sign", config={}, inputs=inputs, file=file, timeout_s=60
    )
    result = await conversion.sign_file(Task(message))
    assert result is not None and "Stageline test" in result["properties"]["signed_by"]
    made = await objects.of("acme").get_object(result["outputs"][0]["blob_name"])
    assert await asyncio.to_thread(valid, made, key[1]) == [True]
    for action, data, config in reader.given:
        holds_key = secret["key"] in json.dumps(config)
        assert holds_key is (action != "pdf.sign"), action
        assert not (holds_key and data), "the process with the key gets no document"


async def test_a_key_signs_for_its_tenants_alone() -> None:
    class Unreached:
        """The object store and the reader are not used."""

    conversion = Conversion(Unreached(), Unreached(), {"key": "eA=="}, ["acme"])  # type: ignore[arg-type]
    message = StageTask.trusted(tenant_id="globex", step="sign", action="pdf.sign", config={}, inputs={})
    with pytest.raises(DocumentFault, match="not this tenant's") as refused:
        await conversion.sign_file(Task(message))
    assert refused.value.code == "not_configured"


def test_the_key_comes_from_files(tmp_path: Path) -> None:
    (tmp_path / "key.p12").write_bytes(b"bytes")
    (tmp_path / "word").write_text("open\n")
    settings = WorkerSettings(signing_key_file=tmp_path / "key.p12", signing_password_file=tmp_path / "word")
    assert settings.signing() == {"key": base64.b64encode(b"bytes").decode(), "key_password": "open"}
    assert WorkerSettings().signing() == {}
    with pytest.raises(Stop, match="nowhere"):
        WorkerSettings(signing_key_file=tmp_path / "nowhere").signing()
