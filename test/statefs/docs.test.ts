import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { MAX_PURPOSE_BYTES, MAX_SUBJECT_BYTES } from '../../src/envelope/index.ts';
import { MAX_KEY_BYTES, MAX_PAYLOAD_BYTES } from '../../src/statefs/index.ts';
import { resolveOptions } from '../../src/statefs/options.ts';

const MIB = 1024 * 1024;
const doc = readFileSync(new URL('../../docs/storage/statefs.md', import.meta.url), 'utf8');

describe('docs/storage/statefs.md', () => {
  test('tells every error code that the store throws, and no other', () => {
    const folder = new URL('../../src/statefs/', import.meta.url);
    const source = readdirSync(folder).map((name) => readFileSync(new URL(name, folder), 'utf8'));
    const thrown = new Set([...source.join('\n').matchAll(/'(E[A-Z0-9]{2,})'/g)].map(([, code]) => code));
    const errors = doc.split('## Errors')[1] as string;
    const told = [...errors.matchAll(/^\| `(E\w+)` \|/gm)].map(([, code]) => code);
    expect(told.sort()).toEqual([...thrown].sort());
  });

  test('tells the budgets as they are', () => {
    const { budgets } = resolveOptions({});
    expect(budgets).toEqual({
      payloadBytes: MIB,
      softLatencyMs: 250,
      deadlineMs: Number.POSITIVE_INFINITY,
      transactionBytes: 4 * MIB,
      openTransactions: 16,
      openSnapshots: 4,
    });
    expect(doc).toContain('| transaction | 64 keys; 4 MiB of keys and payloads,');
    expect(doc).toContain('| open transactions, snapshots | 16, 4;');
    expect(doc).toContain(`| payload | 1 MiB; \`budgets.payloadBytes\`, up to ${MAX_PAYLOAD_BYTES / MIB} MiB |`);
    expect(doc).toContain(`| key | ${MAX_KEY_BYTES} bytes of UTF-8;`);
    expect(MAX_SUBJECT_BYTES).toBe(MAX_PURPOSE_BYTES);
    expect(doc).toContain(`| envelope metadata | subject and purpose ${MAX_SUBJECT_BYTES} bytes each |`);
    expect(doc).toContain(`| latency, soft | ${budgets.softLatencyMs} ms;`);
    expect(doc).toContain('| latency, deadline | off;');
  });
});
