import { Sfc32 } from '../../core/index.ts';
import type { KeyValueContent, KeyValueOp } from '../../explore/index.ts';
import type { StateFsWorkload } from './statefs-scenario.ts';

function value(sizeBytes: number, number: number): Uint8Array {
  const bytes = new Uint8Array(sizeBytes);
  new Sfc32(number).fill(bytes);
  return bytes;
}

const put = (key: string, sizeBytes: number, number: number): KeyValueOp => ({
  kind: 'put',
  key,
  value: value(sizeBytes, number),
});

const CONFIG = '/state/net/config';
const SECRET = '/state/net/secret';
const LEASE = '/state/net/lease';
const ROUTES = '/state/net/routes';

/** Three keys that belong together: one is overwritten, one changes its size and place, one goes; and back again. */
export const transaction: StateFsWorkload = {
  name: 'transaction',
  description: 'three keys in one transaction: overwritten, moved out of line, deleted',
  sectorCount: 512,
  before: [put(CONFIG, 40, 1), put(SECRET, 32, 2), put(LEASE, 20, 3)],
  operations: [
    { kind: 'transaction', ops: [put(CONFIG, 44, 4), put(SECRET, 600, 5), { kind: 'delete', key: LEASE }] },
    'reopen',
    { kind: 'transaction', ops: [put(ROUTES, 2500, 6), { kind: 'delete', key: SECRET }, put(LEASE, 21, 7)] },
    put(CONFIG, 45, 8),
  ],
};

/** Long enough that the entries of seven of them need two commit frames. */
const longKey = (number: number): string => `/state/long/${number}/${'k'.repeat(238)}`;
const LONG_KEYS = [0, 1, 2, 3, 4, 5, 6].map(longKey);

/** All keys are of one version. */
function isOneVersion(content: KeyValueContent): void {
  const versions = new Set(LONG_KEYS.map((key) => content.get(key)?.[0]));
  if (versions.size > 1) throw new Error(`versions ${[...versions].join(', ')} are mixed: a transaction shows in part`);
}

const allOf = (version: number): KeyValueOp => ({
  kind: 'transaction',
  ops: LONG_KEYS.map((key) => ({ kind: 'put', key, value: Uint8Array.of(version) })),
});

/** A transaction whose commit takes several frames: it counts once all of them are there. */
export const longTransaction: StateFsWorkload = {
  name: 'long-transaction',
  description: 'seven long keys in one transaction, whose commit takes two frames',
  sectorCount: 1024,
  before: [allOf(1)],
  operations: [allOf(2), 'reopen', allOf(3)],
  rule: isOneVersion,
};
