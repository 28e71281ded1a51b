// A worker in Node.js: takes tasks of one action, keeps their leases, reports how they ended.
// Usage: node worker.mjs BOOTSTRAP ACTION. The protocol is described in contracts/PROTOCOL.md.
import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { Kafka, logLevel } from 'kafkajs';

const [bootstrap, action] = process.argv.slice(2);
// The user of `stageline env`, which sets KAFKA_*.
const { KAFKA_SECURITY_PROTOCOL: protocol = 'PLAINTEXT', KAFKA_SASL_USERNAME: username, KAFKA_SASL_PASSWORD: password } = process.env;
const sasl = protocol.startsWith('SASL') ? { mechanism: 'scram-sha-512', username, password } : undefined;
const kafka = new Kafka({ clientId: 'acme', brokers: bootstrap.split(','), ssl: protocol.endsWith('SSL'), sasl, logLevel: logLevel.ERROR });
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
const tasks = kafka.consumer({ groupId: `workers.${action}`, sessionTimeout: 10_000 });
const cancellations = kafka.consumer({ groupId: `workers.${action}.${randomUUID()}` });
const name = `node-${process.pid}`;
const cancelled = new Set();
const running = new Map(); // lease -> AbortController

// Your code: return a result object, or throw a Failed (KO: it can never work) or any other error (ERR: tried again).
async function shout(task, signal) {
  if (!task.config.text) throw new Failed("The step's configuration has no text.");
  await pause((task.config.takes_s ?? 0) * 1000, undefined, { signal });
  return { shout: task.config.text.toUpperCase() };
}
class Failed extends Error {}

// The same attempt and the same role make the same id, so a report sent twice counts once.
const idOf = (...words) => {
  const hex = createHash('sha256').update(words.join('\x1f')).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
};

async function report(task, role, traceparent, said) {
  const { job_id, tenant_id, file_id, step, action, attempt, lease } = task;
  const reported_at = new Date().toISOString();
  const report_id = idOf(lease, name, role);
  const value = { report_id, job_id, tenant_id, file_id, step, action, attempt, lease, reported_at, worker: name, client: 'acme/1.0', ...said };
  const headers = {
    'content-type': 'application/json', ce_specversion: '1.0', ce_id: report_id, ce_source: '/acme/worker',
    ce_type: 'stageline.stage.report.v1', ce_time: reported_at, ce_subject: job_id, ...(traceparent && { traceparent }),
  };
  await producer.send({ topic: 'stage.reports', acks: -1, messages: [{ key: job_id, value: JSON.stringify(value), headers }] });
}

// Returns what to report at the end of a task, or null when it was cancelled: then nothing is reported.
async function outcome(task) {
  const stop = new AbortController();
  running.set(task.lease, stop);
  const limit = setTimeout(() => stop.abort(), task.timeout_s * 1000);
  try {
    return { status: 'OK', result: await shout(task, stop.signal) };
  } catch (error) {
    if (cancelled.has(task.lease)) return null;
    if (stop.signal.aborted) return { status: 'ERR', code: 'limit_time', message: `It took longer than ${task.timeout_s} s.` };
    return error instanceof Failed
      ? { status: 'KO', code: 'failed', message: error.message }
      : { status: 'ERR', code: 'worker_error', message: String(error) };
  } finally {
    clearTimeout(limit);
    running.delete(task.lease);
  }
}

function parsed(message) { // null for a task that cannot be read: its lease ends, and it comes anew
  try { return JSON.parse(message.value.toString()); } catch (error) { console.error(`left out: ${error}`); return null; }
}

// kafkajs commits an offset when this has ended without an error: a crash repeats the task, and one report of the two counts.
async function onTask({ message, heartbeat }) {
  const task = parsed(message);
  if (!task?.lease || cancelled.has(task.lease)) return;
  const trace = message.headers.traceparent?.toString();
  const unheard = (error) => console.error(`a heartbeat was not sent: ${error}`);
  let beats = 0;
  const member = setInterval(() => heartbeat().catch(unheard), 3000); // stay in the group
  const beat = setInterval(() => report(task, `beat-${++beats}`, trace, { status: 'RUN' }).catch(unheard), task.heartbeat_s * 1000);
  try {
    const end = await outcome(task);
    if (end) await report(task, 'end', trace, end);
  } finally {
    clearInterval(beat);
    clearInterval(member);
  }
}

function onCancelled({ message }) {
  const lease = parsed(message)?.lease;
  cancelled.add(lease);
  if (cancelled.size > 10_000) cancelled.delete(cancelled.values().next().value);
  running.get(lease)?.abort();
}

await Promise.all([producer.connect(), tasks.connect(), cancellations.connect()]);
await tasks.subscribe({ topic: `stage.tasks.${action}`, fromBeginning: true });
await cancellations.subscribe({ topic: 'stage.cancellations', fromBeginning: true });
await cancellations.run({ eachMessage: async (record) => onCancelled(record) });
await tasks.run({ eachMessage: onTask });
process.on('SIGTERM', async () => { await Promise.all([tasks.disconnect(), cancellations.disconnect()]); await producer.disconnect(); process.exit(0); });
console.log('ready');
