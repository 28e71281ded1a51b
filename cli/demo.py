"""`make demo`: runs the pipeline on the sample documents and shows the results. Exit code 0 only if every check passed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import shutil
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from aiohttp import web
from rich.console import Console
from rich.table import Table

from cli.client import Client, CliError, Target
from cli.commands.submit import submit_files, submit_urls, watch
from cli.local.otlp_receiver import OtlpReceiver, ReceivedSpan, roots
from cli.local.plan import FOR_OTHERS, Plan
from cli.local.supervisor import Supervisor
from shared.errors import Outcome

SAMPLES = Path(__file__).parent.parent / "samples" / "documents"
DATA_DIR = Path(".stageline") / "demo"
REMOTE = ("invoice-acme-2026-0042.pdf", "contract-nda.pdf", "letter-offer.docx")
EXPECTED_TROUBLE = {"locked-invoice.pdf": "encrypted", "damaged-contract.pdf": "damaged"}
out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


class Outside:
    """The world outside the pipeline: a web server with documents, and a webhook receiver that verifies signatures."""

    def __init__(self) -> None:
        self.secret = ""
        self.verified: Counter[str] = Counter()
        self.rejected = 0
        self.ids: set[str] = set()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free loopback port."""
        app = web.Application()
        app.router.add_static("/files", SAMPLES)
        app.router.add_post("/hook", self._hook)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _hook(self, request: web.Request) -> web.Response:
        body = await request.read()
        h = request.headers
        key = base64.b64decode(self.secret.removeprefix("whsec_"))
        signed = f"{h['webhook-id']}.{h['webhook-timestamp']}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        fresh = abs(time.time() - int(h["webhook-timestamp"])) < 300
        if not fresh or expected not in h["webhook-signature"].split():
            self.rejected += 1
            return web.Response(status=400)
        if h["webhook-id"] not in self.ids:
            self.ids.add(h["webhook-id"])
            self.verified[h["stageline-event-type"]] += 1
        return web.Response(status=204)

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()


async def main() -> int:
    """Run the demo; returns the exit code."""
    started = time.monotonic()
    os.umask(FOR_OTHERS)
    shutil.rmtree(DATA_DIR, ignore_errors=True)
    outside, telemetry = Outside(), OtlpReceiver()
    await outside.start()
    await telemetry.start()
    plan = Plan(DATA_DIR, port=0, kafka_port=0, allow_loopback=True, otlp_endpoint=telemetry.endpoint)
    supervisor = Supervisor(plan, lambda line: out.print(f"[yellow]{line}[/yellow]"))
    out.print("[bold]Starting a real Kafka broker and five services …[/bold]")
    try:
        await supervisor.start()
        out.print(f"  up after {time.monotonic() - started:.1f} s; gateway {plan.url}, Kafka 127.0.0.1:{plan.ports['kafka']}\n")
        key = (await asyncio.to_thread(plan.key_file.read_text)).strip()
        async with Client(Target(plan.url, plan.notifier_url, key)) as client:
            faults = await tour(client, outside, telemetry)
    finally:
        await supervisor.stop()
        await telemetry.stop()
        await outside.stop()
    for fault in faults:
        out.print(f"[red]CHECK FAILED: {fault}[/red]")
    out.print(
        f"\n[bold]{'All checks passed' if not faults else 'Some checks failed'}[/bold] after {time.monotonic() - started:.1f} s."
    )
    return 1 if faults else 0


async def tour(client: Client, outside: Outside, telemetry: OtlpReceiver) -> list[str]:
    """Submit jobs, watch them and print their results; returns the failed checks."""
    endpoint = await client.call(
        "POST", "/v1/webhooks", notifier=True, json={"url": outside.url + "/hook", "events": ["job.*", "file.done"]}
    )
    outside.secret = endpoint["secret"]
    files = sorted(SAMPLES.iterdir())
    out.print(
        f"[bold]Submitting {len(files)} documents as a deferred session, {len(REMOTE)} as remote URLs, one locked PDF alone[/bold]"
    )
    ids = [
        await submit_files(client, files, {"metadata": {"case": "demo"}}),
        await submit_urls(client, [f"{outside.url}/files/{name}" for name in REMOTE], {}),
        await submit_files(client, [SAMPLES / "locked-invoice.pdf"], {}),
    ]
    jobs = await watch(client, ids, out, live=out.is_terminal)
    show_outcomes(jobs)
    invoices = show_invoices(jobs[0])
    hits = await show_search(client)
    log = await settled_log(client, endpoint["id"])
    show_webhooks(outside, log)
    spans = await settled_trace(telemetry, ids[1])
    show_trace(spans)
    show_stages(telemetry.spans)
    return check(jobs, invoices, hits, outside, log, spans)


def show_outcomes(jobs: list[dict[str, Any]]) -> None:
    """Print the jobs by outcome, and every file that did not finish, with its reason."""
    out.print("\n[bold]Jobs by outcome[/bold]")
    for job in jobs:
        statuses = ", ".join(f"{n} {s}" for s, n in Counter(f["status"] for f in job["files"]).most_common())
        out.print(f"  {job['id']}  {job['stage']:<10} {statuses}")
        for f in job["files"]:
            if f["status"] != "finished":
                out.print(f"      {f['file_name']}: {f['status']}: {f['message']} \\[{f['code']}]")


def show_invoices(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Print the extracted fields of the invoices; returns the invoices."""
    invoices = [f for f in job["files"] if f["tag_name"] == "invoice" and f["fields"]]
    table = Table(
        "invoice",
        "number",
        "total",
        "IBAN",
        "VAT",
        "dates",
        box=None,
        title="\nExtracted fields of the invoices",
        title_justify="left",
    )
    for f in invoices:
        d = f["fields"]
        total = d.get("total") or {}
        table.add_row(
            f["file_name"], d.get("invoice_number", ""), f"{total.get('value', '')} {total.get('currency', '')}",
            ", ".join(d.get("ibans", [])), ", ".join(d.get("vat_numbers", [])), ", ".join(d.get("dates", [])),
        )  # fmt: skip
    out.print(table)
    return invoices


async def show_search(client: Client) -> list[dict[str, Any]]:
    """Print the hits of a full-text search; returns them. Repeats while the index catches up."""
    hits: list[dict[str, Any]] = []
    for _ in range(50):
        hits = (await client.call("GET", "/v1/search", params={"q": "hydraulic pump"}))["result"]
        if hits:
            break
        await asyncio.sleep(0.1)
    out.print("\n[bold]Search for: hydraulic pump[/bold]")
    for hit in hits:
        out.print(f"  {hit['file_name']}: {hit['snippet']}", markup=False)
    return hits


async def settled_log(client: Client, endpoint_id: str) -> dict[str, Any]:
    """The delivery log, once no delivery is pending."""
    log: dict[str, Any] = {}
    for _ in range(100):
        log = await client.call("GET", f"/v1/webhooks/{endpoint_id}/log?limit=1000", notifier=True)
        if log["deliveries"] and set(log["deliveries"]) == {"delivered"}:
            break
        await asyncio.sleep(0.1)
    return log


def show_webhooks(outside: Outside, log: dict[str, Any]) -> None:
    """Print the number of verified webhooks by type."""
    out.print(f"\n[bold]Webhooks[/bold]  {sum(outside.verified.values())} delivered and verified, {outside.rejected} rejected")
    out.print("  " + ", ".join(f"{name} {n}" for name, n in sorted(outside.verified.items())))
    out.print(f"  the notifier's own log: {log['deliveries']}")


async def settled_trace(telemetry: OtlpReceiver, job_id: str) -> list[ReceivedSpan]:
    """The job's spans, once all are exported: one tree that includes the webhook of the last event."""
    spans: list[ReceivedSpan] = []
    for _ in range(80):
        before = len(spans)
        spans = telemetry.trace_of_job(job_id)
        if len(spans) == before and before and len(roots(spans)) == 1 and any(s.name == "POST" for s in spans):
            break
        await asyncio.sleep(0.25)
    return spans


def show_trace(spans: list[ReceivedSpan]) -> None:
    """Print the job's trace as a tree. Of identical branches the first is drawn and the others are counted."""
    out.print(
        f"\n[bold]Trace of the remote job[/bold]  {len(spans)} spans, {len({s.service for s in spans})} services, {len(roots(spans))} root"
    )
    children: dict[str, list[ReceivedSpan]] = defaultdict(list)
    for span in spans:
        children[span.parent_id].append(span)
    for root in roots(spans):
        _draw(root, children, root.start, 0)


def _draw(span: ReceivedSpan, children: dict[str, list[ReceivedSpan]], origin: int, depth: int) -> None:
    service = span.service.removeprefix("stageline-")
    out.print(
        f"  {'  ' * depth}{span.name}  [dim]{service}  +{(span.start - origin) / 1e6:.0f} ms, took {span.duration_ms:.1f} ms[/dim]"
    )
    groups: dict[tuple[str, str], list[ReceivedSpan]] = defaultdict(list)
    for child in children[span.span_id]:
        # A message's `create` span has no duration of interest; show the receivers' spans in its place.
        for shown in children[child.span_id] if child.name.startswith("create ") else [child]:
            groups[shown.name, shown.service].append(shown)
    for same in groups.values():
        _draw(same[0], children, origin, depth + 1)
        if len(same) > 1:
            out.print(f"  {'  ' * (depth + 1)}[dim]… and {len(same) - 1} more like it[/dim]")


def show_stages(spans: list[ReceivedSpan]) -> None:
    """Print the time per stage, from the workers' spans."""
    table = Table("stage", "runs", "mean ms", "max ms", box=None, title="\nTime per stage", title_justify="left")
    by_topic: dict[str, list[float]] = defaultdict(list)
    for span in spans:
        if span.name.startswith("process stage.tasks."):
            by_topic[span.name.removeprefix("process stage.tasks.")].append(span.duration_ms)
    for name, times in by_topic.items():
        table.add_row(name, str(len(times)), f"{sum(times) / len(times):.1f}", f"{max(times):.1f}")
    out.print(table)


def check(
    jobs: list[dict[str, Any]],
    invoices: list[Any],
    hits: list[Any],
    outside: Outside,
    log: dict[str, Any],
    spans: list[ReceivedSpan],
) -> list[str]:
    """The failed checks, one sentence each."""
    ocr = shutil.which("tesseract") is not None
    faults: list[str] = []
    if [j["stage"] for j in jobs] != ["completed", "completed", "invalid"]:
        faults.append(f"stages of the jobs: {[j['stage'] for j in jobs]}")
    for f in jobs[0]["files"]:
        expected = EXPECTED_TROUBLE.get(f["file_name"])
        if (f["code"] if f["status"] != "finished" else None) != expected:
            faults.append(f"{f['file_name']} ended {f['status']} with {f['code']}, expected {expected or 'finished'}")
    totals = {f["fields"].get("total", {}).get("value") for f in invoices}
    for value in ("5474.48", "18081.00", "1357.92") + (("590.40",) if ocr else ()):
        if value not in totals:
            faults.append(f"no invoice with the total {value}: {sorted(map(str, totals))}")
    if not hits:
        faults.append("the search found nothing")
    if outside.rejected or sum(outside.verified.values()) != sum(log["deliveries"].values()):
        faults.append(
            f"webhooks: {sum(outside.verified.values())} verified, {outside.rejected} rejected, log {log['deliveries']}"
        )
    if outside.verified["job.finished"] != 2 or outside.verified["job.invalid"] != 1:
        faults.append(f"webhooks by type: {dict(outside.verified)}")
    if len(roots(spans)) != 1 or not any(s.name == "POST" for s in spans):
        faults.append(f"the trace has {len(roots(spans))} roots, webhook in it: {any(s.name == 'POST' for s in spans)}")
    return faults


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (Outcome, CliError) as error:
        out.print(f"[red]stageline: {error}[/red]")
        sys.exit(1)
