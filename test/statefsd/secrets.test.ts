import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { Sfc32, toHex, VirtualClock } from '../../src/core/index.ts';
import { sha256 } from '../../src/envelope/index.ts';
import { format, open } from '../../src/statefs/index.ts';
import {
  Audit,
  AuditFile,
  AuditLogd,
  Authority,
  baselinePolicy,
  DEVICE_KEY_PATH,
  inProcess,
  Keystored,
  type LogdConnector,
  StateFsClient,
  StateFsService,
} from '../../src/statefsd/index.ts';
import { codeRejected } from './code-thrown.ts';

const PAYLOAD = new TextEncoder().encode('correct horse battery staple');
const PURPOSE = 'purpose-tr0ub4dor-and-3';
const SEEDS = [11, 12].map((seed) => {
  const bytes = new Uint8Array(32);
  new Sfc32(seed).fill(bytes);
  return bytes;
});

/** Every way in which somebody may write bytes down. */
function spellings(bytes: Uint8Array): string[] {
  const buffer = Buffer.from(bytes);
  const encodings = ['latin1', 'hex', 'base64', 'base64url'] as const;
  const texts = encodings.map((encoding) => buffer.toString(encoding).replace(/=+$/, ''));
  return [...texts, JSON.stringify(buffer.toString('latin1')).slice(1, -1), [...bytes].join(',')];
}

function secretsIn(text: string, secrets: readonly Uint8Array[]): string[] {
  const lower = text.toLowerCase();
  return secrets.flatMap(spellings).filter((one) => text.includes(one) || lower.includes(one.toLowerCase()));
}

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'powercut-secrets-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Everything that every sink got, of a server that secrets went through in every way, also where it refused them. */
async function auditOfSecrets(required: boolean): Promise<string> {
  const clock = new VirtualClock(1_700_000_000_000);
  const logged: string[] = [];
  const connect: LogdConnector = (_path, opened) => {
    queueMicrotask(opened);
    return { write: (text) => void logged.push(text), end: () => {}, destroy: () => {} };
  };
  const file = new AuditFile({ path: join(folder, 'audit.jsonl'), rotateBytes: 2000, keepFiles: 100, required });
  const audit = new Audit({ clock, sinks: [file, new AuditLogd({ path: '/run/logd', connect })] });
  const device = new MemoryDevice({ sectorCount: 4096 });
  format(device);
  const store = open(device, { clock });
  const authority = new Authority(baselinePolicy(['calc']));
  const service = new StateFsService({ store, authority, audit, clock, budgets: { payloadBytes: 4096 } });
  const client = (subject: string) => new StateFsClient({ connect: inProcess(service, subject), clock });
  await new Promise((resolve) => setImmediate(resolve));

  const app = client('app.calc');
  const path = '/state/apps/calc/password';
  await app.putAtomic(path, PAYLOAD, { purpose: PURPOSE });
  await app.put(path, PAYLOAD, { atomic: false, meta: { purpose: PURPOSE } });
  await app.get(path);
  const refused = [
    () => app.putAtomic('/state/boot/x', PAYLOAD),
    () => app.putAtomic(path, new Uint8Array(Buffer.from(Buffer.from(PAYLOAD).toString('latin1').repeat(400)))),
    () => app.putAtomic(path, PAYLOAD, { subject: 'updated' }),
    () => app.get('/state/apps/calc/absent'),
  ];
  const codes: (string | undefined)[] = [];
  for (const run of refused) codes.push(await codeRejected(run));
  expect(codes).toEqual(['EPERM', 'E2BIG', 'EPERM', 'ENOENT']);

  const seeds = SEEDS.map((seed) => seed.slice());
  const keystored = new Keystored(client('keystored'), { generateSeed: () => seeds.shift() as Uint8Array });
  await keystored.open();
  await keystored.sign(PAYLOAD);
  await keystored.rotate();
  const digest = toHex(sha256(store.get(DEVICE_KEY_PATH)));
  expect(await codeRejected(() => app.get(DEVICE_KEY_PATH))).toBe('EPERM');
  service.stop();
  audit.close();

  const files = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
  const told = [JSON.stringify(audit.recent()), ...files, ...logged].join('\n');
  // They were there: the ring, the files and the log service have a record of each.
  for (const text of [JSON.stringify(audit.recent()), files.join('\n'), logged.join('\n')]) {
    for (const part of [path, DEVICE_KEY_PATH, 'E2BIG', toHex(sha256(PAYLOAD))]) expect(text).toContain(part);
    expect(text).not.toContain(digest);
  }
  return told;
}

describe('no secret is in an audit record, in no sink', () => {
  test.each([false, true])('required: %s', async (required) => {
    const told = await auditOfSecrets(required);
    expect(secretsIn(told, [PAYLOAD, new TextEncoder().encode(PURPOSE), ...SEEDS])).toEqual([]);
    expect(told.includes('"event":"intent"')).toBe(required);
  });

  test('and it would be found', () => {
    for (const [at, secret] of [PAYLOAD, ...SEEDS].entries()) {
      for (const one of spellings(secret)) {
        expect([at, secretsIn(`{"path":"x","extra":"${one}"}`, [secret]).length > 0]).toEqual([at, true]);
      }
    }
  });
});
