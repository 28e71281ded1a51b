// Submits a job, waits for its end and reads its results, by the types that openapi-typescript generated. Prints what came out.
import createClient from "openapi-fetch";
import type { paths as NotifierPaths } from "./notifier.js";
import type { paths } from "./stageline.js";

const { STAGELINE_URL, STAGELINE_KEY } = process.env as Record<string, string>;
const [remote, mark] = process.argv.slice(2) as [string, string];
const headers = { "X-API-Key": STAGELINE_KEY! };
const client = createClient<paths>({ baseUrl: STAGELINE_URL!, headers });

const about = await client.GET("/v1/about");
const body = { workflow: "documents", urls: [remote] };
const made = await client.POST("/v1/jobs", { body, params: { header: { "Idempotency-Key": mark } } });
if (!made.data || !about.data?.notifier_url) throw new Error(made.error?.detail);
const path = { job_id: made.data.job_id };
const job = await client.GET("/v1/jobs/{job_id}", { params: { path, header: { Prefer: "wait=60" } } });
const results = await client.GET("/v1/jobs/{job_id}/results", { params: { path }, parseAs: "json" });
const refused = await client.POST("/v1/jobs", { body: { workflow: "documnts" } });
// The notifier by the gateway's address alone: fetch follows the redirect.
const notifier = createClient<NotifierPaths>({ baseUrl: STAGELINE_URL!, headers });
const endpoints = await notifier.GET("/v1/webhooks");
if (!job.data || !results.data || typeof results.data === "string" || !endpoints.data?.result) throw new Error("no answer");
const file = results.data.files[0]!;
console.log(JSON.stringify({ stage: job.data.stage, tag: file.tag, fields: file.fields, refused: refused.error?.detail }));
