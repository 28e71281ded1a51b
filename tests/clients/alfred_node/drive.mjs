// Drives every public method of Alfred's Node.js client, unmodified. Input and output as in ../alfred_python/drive.py.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';

const require = createRequire(import.meta.url);
const { AlfredClient, AlfredRealTimeClient, Configuration } = require('@tagshelf/alfred');
// The package's own entry point leaves the names of events out.
const { AlfredEvent } = require('@tagshelf/alfred/lib/enums');
const WAIT_MS = 60_000;

const given = JSON.parse(readFileSync(0, 'utf8').split('\n')[0]);
const bytes = readFileSync(given.file);
const tell = (said) => process.stdout.write(JSON.stringify(said) + '\n');

// How a user names another host than the vendor's.
const config = Configuration.v1('production', { baseURL: given.url, realTimeURL: given.realtime_url });
const auth = given.credential.hmac
  ? { hmac: { apiKey: given.credential.hmac.api_key, secretKey: given.credential.hmac.secret_key } }
  : given.credential.api_key ? { apiKey: given.credential.api_key } : given.credential;
const client = new AlfredClient(config, auth);

function expect(right, seen) {
  if (!right) throw new Error(`unexpected: ${JSON.stringify(seen)}`);
}

async function ended(id) {
  for (const until = Date.now() + WAIT_MS; ;) {
    const job = await client.jobs.get(id);
    if (['completed', 'failed', 'invalid', 'cancelled'].includes(job.stage) || Date.now() > until) {
      expect(job.stage === 'completed', job);
      return job;
    }
    await sleep(200);
  }
}

async function fetched(answer) {
  expect(isDeepStrictEqual((await ended(answer.jobId)).metadata, { case: '7' }), answer);
  expect(isDeepStrictEqual((await client.files.get(answer.fileId)).metadata, { case: '7' }), answer);
}

let session, job, file;
const calls = {
  version: async () => expect(client.version() === '1.1.8', client.version()),
  'accounts.whoAmI': async () => {
    const { data } = await client.accounts.whoAmI();
    expect(data.authenticationType === given.kind && data.companyId, data);
  },
  'sessions.create': async () => { session = (await client.sessions.create()).sessionId; expect(session, session); },
  'sessions.get': async () => {
    const found = await client.sessions.get(session);
    expect(found.id === session && found.status === 'open', found);
  },
  'files.uploadFile': async () => {
    const local = { buffer: bytes, originalName: basename(given.file), mimetype: 'application/pdf' };
    file = (await client.files.uploadFile({ file: local, sessionId: session, metadata: { own: 1 } })).fileId;
    const named = { buffer: Buffer.from('one line of text'), originalName: 'März 1.txt', mimetype: 'text/plain' };
    expect((await client.files.uploadFile({ file: named, sessionId: session })).fileId, named);
  },
  'jobs.create': async () => {
    const wanted = {
      sessionId: session ?? given.session_id, metadata: { case: '42' }, propagateMetadata: true, merge: null, decompose: false, channel: null,
      parentFilePrefix: null, pageRotation: null, container: null, fileName: null, fileNames: null,
    };
    if (given.credential.hmac) Object.assign(wanted, { container: 'samples', fileNames: [basename(given.file)] });
    job = (await client.jobs.create(wanted)).jobId;
    expect(job, job);
  },
  'jobs.get': async () => {
    const found = await ended(job);
    expect(isDeepStrictEqual(found.metadata, { case: '42' }) && found.fileCount === found.files.length, found);
    file ??= found.files[0].id;
  },
  'files.get': async () => {
    const found = await client.files.get(file);
    expect(found.fileName === basename(given.file) && found.metadata.case === '42', found);
  },
  'files.download': async () => {
    const found = await client.files.download(file);
    expect(found.buffer.equals(bytes), found.buffer.length);
    expect(found.originalName === basename(given.file) && found.mimetype === 'application/pdf', [found.originalName, found.mimetype]);
  },
  'files.upload': async () => {
    const remote = { container: 'samples', source: 'local', filenames: [basename(given.file)], metadata: { case: '7' } };
    await fetched(await client.files.upload({ ...remote, propagateMetadata: true, parentFilePrefix: 'invoices/2025', merge: false }));
    await fetched(await client.files.upload({ url: given.remote, metadata: { case: '7' } }));
  },
  'dataPoints.getValues': async () => {
    const found = await client.dataPoints.getValues(file);
    expect(found.some((v) => v.metadataName === 'invoice_number' && v.value === 'INV-2026-0042'), found);
  },
};

async function outcome(act) {
  try {
    await act();
  } catch (error) {
    return `${error.name}: ${error.message} ${JSON.stringify(error.data ?? '')}`.slice(0, 500);
  }
  return null;
}

function methods(made) {
  return Object.getOwnPropertyNames(Object.getPrototypeOf(made)).filter((name) => name !== 'constructor' && !name.startsWith('_'));
}

// What a method heard, and what is wrong with that. The client turns names of fields into camel case.
const heard = {};
const names = Object.values(AlfredEvent);

function fault(method) {
  const events = heard[method] ?? [];
  if (events.length === 0) return 'nothing heard';
  const seen = [...new Set(events.map((e) => e.event.eventName))].sort();
  if (method.startsWith('on(')) return seen.length === 1 && `alfred_event_${seen[0].slice(0, -6)}` === method.slice(3, -1) ? null : `heard ${seen}`;
  const kind = method === 'onJobEvent' ? 'job' : 'file';
  const wanted = names.map((n) => n.slice(13)).filter((n) => n.startsWith(kind)).map((n) => `${n}_event`).sort();
  return isDeepStrictEqual(seen, wanted) && events.every((e) => e.eventType === `${kind}_event`) ? null : `heard ${seen}`;
}

async function listen() {
  const realTime = new AlfredRealTimeClient(config, given.listener.api_key);
  const note = (method) => (event) => { (heard[method] ??= []).push(event); };
  realTime.onJobEvent(note('onJobEvent'));
  realTime.onFileEvent(note('onFileEvent'));
  for (const name of names) realTime.on(name, note(`on(${name})`));
  // The client keeps its socket to itself in TypeScript; only its start is looked at here.
  const connected = await new Promise((resolve) => {
    process.once('uncaughtException', (error) => resolve(`${error.name}: ${error.message}`));
    realTime.socket.on('connect', () => resolve(null));
  });
  if (connected !== null) {
    tell({ method: 'realtime', error: connected });
    return realTime;
  }
  tell({ listening: true });
  const all = ['onJobEvent', 'onFileEvent', ...names.map((n) => `on(${n})`)];
  for (const until = Date.now() + WAIT_MS; all.some(fault) && Date.now() < until;) await sleep(100);
  for (const method of all) tell({ method: `realtime.${method}`, error: fault(method) });
  tell({ method: 'realtime.disconnect', error: await outcome(async () => realTime.disconnect()) });
  return realTime;
}

for (const [method, act] of Object.entries(calls)) tell({ method, error: await outcome(act) });
tell({ known: { job_id: job, file_id: file } });
const realTime = await listen();
const domains = ['accounts', 'sessions', 'files', 'jobs', 'dataPoints'];
const found = domains.flatMap((domain) => methods(client[domain]).map((m) => `${domain}.${m}`));
tell({ public: ['version', ...found, ...methods(realTime).map((m) => `realtime.${m}`)] });
process.exit(0);
