// A worker in Node.js: takes tasks of one action, keeps its lease alive, reports how it ended. npm install kafkajs
// Usage: node worker.mjs BOOTSTRAP ACTION. The protocol is described in contracts/PROTOCOL.md.
import { createHash, randomUUID } from 'node:crypto';
import { Kafka, logLevel } from 'kafkajs';

const [bootstrap, action] = process.argv.slice(2);
const kafka = new Kafka({ clientId: 'acme', brokers: bootstrap.split(','), logLevel: logLevel.ERROR });
const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 });
const tasks = kafka.consumer({ groupId: `workers.${action}`, sessionTimeout: 10_000 });
const cancellations = kafka.consumer({ groupId: `workers.${action}.${randomUUID()}` });
const name = `node-${process.pid}`;
const cancelled = new Set();

// Same attempt, same role, same id: a report sent twice counts once.
const idOf = (...words) => {
  const hex = createHash('sha256').update(words.join('\x1f')).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
};

async function report(task, status, role, more, traceparent) {
  const { job_id, tenant_id, file_id, step, action, attempt, lease } = task;
  const reported_at = new Date().toISOString();
  const report_id = idOf(lease, name, role);
  const value = { report_id, job_id, tenant_id, file_id, step, action, attempt, lease, reported_at, status, worker: name, client: 'acme/1.0', ...more };
  const headers = {
    'content-type': 'application/json', ce_specversion: '1.0', ce_id: report_id, ce_source: '/acme/worker',
    ce_type: 'stageline.stage.report.v1', ce_time: reported_at, ce_subject: job_id, ...(traceparent && { traceparent }),
  };
  await producer.send({ topic: 'stage.reports', acks: -1, messages: [{ key: job_id, value: JSON.stringify(value), headers }] });
}

async function work(task, signal) { // your code: return a result object, or throw { status: 'KO' | 'ERR', code, message }
  if (signal() || task.config.fail) throw { status: 'KO', code: 'not_wanted', message: 'told to fail' };
  return { language: 'node', shout: String(task.config.text ?? '').toUpperCase() };
}

async function run({ message, heartbeat }) {
  const task = JSON.parse(message.value.toString());
  const trace = message.headers.traceparent?.toString();
  if (cancelled.has(task.lease)) return;
  let beats = 0;
  const beat = setInterval(() => { heartbeat(); report(task, 'RUN', `beat-${++beats}`, {}, trace); }, task.heartbeat_s * 1000);
  try {
    await report(task, 'OK', 'end', { result: await work(task, () => cancelled.has(task.lease)) }, trace);
  } catch ({ status = 'ERR', code = 'worker_error', message }) {
    await report(task, status, 'end', { code, message }, trace);
  } finally {
    clearInterval(beat);
  }
}

await Promise.all([producer.connect(), tasks.connect(), cancellations.connect()]);
await tasks.subscribe({ topic: `stage.tasks.${action}`, fromBeginning: true });
await cancellations.subscribe({ topic: 'stage.cancellations', fromBeginning: true });
await cancellations.run({ eachMessage: async ({ message }) => { cancelled.add(JSON.parse(message.value.toString()).lease); } });
await tasks.run({ eachMessage: run }); // kafkajs commits an offset when its message is done: a crash repeats, nothing is lost
process.on('SIGTERM', async () => { await Promise.all([tasks.disconnect(), cancellations.disconnect()]); process.exit(0); });
console.log('ready');
