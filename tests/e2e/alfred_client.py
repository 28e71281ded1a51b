"""A client of Alfred, written from its documentation with the library of its Python SDK (reference/vendor-apis.md §1)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
import uuid
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import requests


class AmxAuth(requests.auth.AuthBase):
    """Signs a prepared request (§1.7)."""

    def __init__(self, secret_key: str, api_key: str, query: bool = True) -> None:
        self.secret_key = secret_key
        self.api_key = api_key
        self.query = query

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        url = str(request.url) if self.query else str(request.url).partition("?")[0]
        uri = quote(url, safe="").lower()
        timestamp, nonce = str(int(time.time())), str(uuid.uuid4())
        body = request.body.encode() if isinstance(request.body, str) else request.body
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode() if body else ""
        text = self.secret_key + str(request.method).upper() + uri + timestamp + nonce + digest
        signed = base64.b64encode(hmac.new(base64.b64decode(self.api_key), text.encode(), hashlib.sha256).digest()).decode()
        request.headers["Authorization"] = f"amx {self.secret_key}:{signed}:{nonce}:{timestamp}"
        return request


class Alfred:
    """`auth_method` as in the SDK: an API key, a user's password, or signed requests."""

    def __init__(self, base: str, **credentials: Any) -> None:
        self.base = base
        self.http = requests.Session()
        self.http.trust_env = False
        if "api_key" in credentials and "secret_key" not in credentials:
            self.http.headers["X-TagshelfAPI-Key"] = credentials["api_key"]
        elif "secret_key" in credentials:
            self.http.auth = AmxAuth(credentials["secret_key"], credentials["api_key"], credentials.get("query", True))
        else:
            self.http.headers["Authorization"] = "Bearer " + self.sign_in(credentials["username"], credentials["password"])

    def sign_in(self, username: str, password: str) -> str:
        answer = self.http.post(
            f"{self.base}/token", data={"grant_type": "password", "username": username, "password": password}, timeout=30
        )
        answer.raise_for_status()
        assert answer.json()["token_type"] == "bearer" and answer.json()["userName"] == username
        return str(answer.json()["access_token"])

    def call(self, method: Literal["GET", "POST"], path: str, **more: Any) -> Any:
        answer = self.http.request(method, f"{self.base}/api/{path}", timeout=60, **more)
        answer.raise_for_status()
        return answer.json()

    def process(self, *files: Path, **job: Any) -> str:
        """A deferred session from opening to its job."""
        session = self.call("POST", "deferred/create")["session_id"]
        for path in files:
            with path.open("rb") as stream:
                form = {"session_id": session, "metadata": '{"source": "test"}'}
                assert self.call("POST", "file/uploadfile", files={"file": (path.name, stream)}, data=form)["file_id"]
        return str(self.call("POST", "job/create", json={"session_id": session, **job})["job_id"])
