"""Drives every public method of Alfred's Python client, unmodified, in an environment that has nothing else installed.

Reads what to do from standard input as JSON (see `tests/clients/alfred.py`) and prints one JSON object per method:
`{"method", "error"}`, where `error` is null for a method that worked. Then it prints `{"public": […]}`.
"""

import io
import json
import logging
import os
import sys
import threading
import time

from alfred.base import Configuration, EventType, FileEvent, JobEvent
from alfred.http.typed import HttpMethod
from alfred.realtime import AlfredRealTimeClient
from alfred.rest import AlfredClient

WAIT_S = 60


def config(given):
    """How a user names another host than the vendor's."""
    return Configuration.v1({"base_url": given["url"], "realtime_url": given["realtime_url"]})


class Drive:
    """One credential. Each method of this class drives one method of the client, and raises if its result is wrong."""

    def __init__(self, given):
        self.given = given
        self.client = AlfredClient(config(given), given["credential"], {"timeout": 30})
        self.session = self.job = self.file = None

    def sessions_create(self):
        self.session = self.client.sessions.create()["session_id"]

    def sessions_get(self):
        found = self.client.sessions.get(self.session)
        assert found["id"] == self.session and found["status"] == "open", found

    def files_upload_file(self):
        with open(self.given["file"], "rb") as stream:
            answer = self.client.files.upload_file({"file": stream, "session_id": self.session, "metadata": {"own": 1}})
        self.file = answer["file_id"]
        named = {"file": io.BytesIO(b"one line of text"), "filename": "März 1.txt", "session_id": self.session, "metadata": None}
        assert self.client.files.upload_file(named)["file_id"]

    def jobs_create(self):
        job = {
            "session_id": self.session, "metadata": {"case": "42"}, "propagate_metadata": True, "merge": None, "decompose": False,
            "channel": None, "parent_file_prefix": None, "page_rotation": None, "container": None, "file_name": None, "file_names": None,
        }  # fmt: skip
        self.job = self.client.jobs.create(job)["job_id"]

    def jobs_get(self):
        self.job = self.job or self.given["job_id"]
        job = self.ended(self.job)
        assert job["metadata"] == {"case": "42"} and job["file_count"] == 2, job

    def jobs_get_all(self):
        found = self.client.jobs.get_all(page_size=40, current_page=1)
        assert isinstance(found["result"], list) and found["result"][0]["id"], found

    def files_get(self):
        self.file = self.file or self.given["file_id"]
        found = self.client.files.get(self.file)
        assert found["metadata"] == {"own": 1, "case": "42"} and found["file_name"] == os.path.basename(self.given["file"]), found

    def files_download(self):
        found = self.client.files.download(self.file)
        with open(self.given["file"], "rb") as stream:
            assert found["file"].read() == stream.read()
        assert found["original_name"] == os.path.basename(self.given["file"]), found["original_name"]
        assert found["mime_type"] == "application/pdf", found["mime_type"]
        other = next(f for f in self.client.jobs.get(self.job)["files"] if f["id"] != self.file)
        assert self.client.files.download(other["id"])["original_name"] == "März 1.txt"

    def files_upload(self):
        remote = {
            "container": "samples", "source": "local", "filenames": [os.path.basename(self.given["file"])], "merge": False,
            "metadata": {"case": "7"}, "propagate_metadata": True, "parent_file_prefix": None, "url": None, "urls": None, "filename": None,
        }  # fmt: skip
        self.fetched(self.client.files.upload(remote))
        self.fetched(self.client.files.upload({"url": self.given["remote"], "metadata": {"case": "7"}}))

    def fetched(self, answer):
        assert self.ended(answer["job_id"])["metadata"] == {"case": "7"}
        assert self.client.files.get(answer["file_id"])["metadata"] == {"case": "7"}

    def ended(self, job_id):
        deadline = time.monotonic() + WAIT_S
        while True:
            job = self.client.jobs.get(job_id)
            if job["stage"] in ("completed", "failed", "invalid", "cancelled") or time.monotonic() > deadline:
                assert job["stage"] == "completed", job
                return job
            threading.Event().wait(0.2)

    def data_points_get_values(self):
        values = {v["metadata_name"]: v["value"] for v in self.client.data_points.get_values(self.file)}
        assert values["invoice_number"] == "INV-2026-0042", values

    def http_client_get(self):
        body, response = self.client.http_client.get("/api/job/all", params={"pageSize": 1, "currentPage": 1})
        assert response.status_code == 200 and body["pageSize"] == 1

    def http_client_post(self):
        body, _ = self.client.http_client.post("/api/deferred/create")
        assert body["session_id"]

    def http_client_put(self):
        body, _ = self.client.http_client.put("/v1/tags/client", data={"description": "made by a client"})
        assert body

    def http_client_delete(self):
        self.client.http_client.delete("/v1/tags/client")

    def http_client_request(self):
        body, _ = self.client.http_client.request(HttpMethod.GET, "/api/tagshelf/who-am-i")
        assert body["authentication_type"] == self.given["kind"], body

    def http_client_should_throttle(self):
        assert self.client.http_client.rate_limit["limit"] > 0 and not self.client.http_client.should_throttle()

    def http_client_throttle_request(self):
        began = time.monotonic()
        self.client.http_client.throttle_request(5)
        assert time.monotonic() - began < 1


def public():
    """The public methods of the client's objects, by the names of this file."""
    client = AlfredClient(Configuration.v1({"base_url": "http://127.0.0.1:9"}), {"api_key": "x"})
    domains = ("sessions", "files", "jobs", "data_points", "http_client")
    found = [
        f"{d}.{m}"
        for d in domains
        for m in dir(getattr(client, d))
        if m[0] != "_" and callable(getattr(type(getattr(client, d)), m, None))
    ]
    return found + [f"realtime.{m}" for m in vars(AlfredRealTimeClient) if m[0] != "_"]


class RealTime:
    """Listens by kind and by each name, and counts what it hears."""

    def __init__(self, given):
        self.heard = {}
        self.client = AlfredRealTimeClient(config(given), given["listener"])
        self.client.on_job_event(lambda event: self.note("on_job_event", event))
        self.client.on_file_event(lambda event: self.note("on_file_event", event))
        self.names = [kind.value for kind in (*JobEvent, *FileEvent)]
        for name in self.names:
            self.client.on(name, lambda event, name=name: self.note(f"on({name})", event))

    def note(self, method, event):
        self.heard.setdefault(method, []).append(event)

    def fault(self, method):
        """What is wrong with what a method heard; None if nothing is."""
        events = self.heard.get(method, [])
        if not events:
            return "nothing heard"
        if method.startswith("on("):
            return None if {e["event"]["event_name"] for e in events} == {method[3:-1]} else f"heard {events}"
        kind = EventType.JOB_EVENT if method == "on_job_event" else EventType.FILE_EVENT
        names = {name for name in self.names if name.startswith(kind.value.partition("_")[0])}
        heard = {e["event"]["event_name"] for e in events}
        return None if {e["event_type"] for e in events} == {kind.value} and heard == names else f"heard {sorted(heard)}"

    def wait(self):
        deadline = time.monotonic() + WAIT_S
        methods = ["on_job_event", "on_file_event", *(f"on({name})" for name in self.names)]
        while any(self.fault(m) for m in methods) and time.monotonic() < deadline:
            threading.Event().wait(0.1)
        return {f"realtime.{m}": self.fault(m) for m in methods}


def tell(**said):
    print(json.dumps(said), flush=True)


def outcome(act):
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:500]
    return None


def main():
    given = json.loads(sys.stdin.readline())
    logging.disable(logging.CRITICAL)
    drive = Drive(given)
    for name in [n for n in vars(Drive) if n.partition("_")[0] in ("sessions", "files", "jobs", "data", "http")]:
        domain = next(d for d in ("sessions", "files", "jobs", "data_points", "http_client") if name.startswith(d))
        tell(method=f"{domain}.{name[len(domain) + 1 :]}", error=outcome(getattr(drive, name)))
    tell(known={"job_id": drive.job, "file_id": drive.file})
    try:
        listening = RealTime(given)
    except Exception as error:
        tell(method="realtime", error=f"{type(error).__name__}: {error}"[:500])
    else:
        tell(listening=True)
        for method, error in listening.wait().items():
            tell(method=method, error=error)
        tell(method="realtime.disconnect", error=outcome(listening.client.disconnect))
    tell(public=public())


main()
