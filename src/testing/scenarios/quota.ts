import type { KeyValueContent, KeyValueOp } from '../../explore/index.ts';
import type { StateFsWorkload } from './statefs-scenario.ts';

const PREFIX = '/state/app/';
const MAX_KEYS = 2;
/** Of two keys of twelve bytes and two values of thirty. */
const MAX_BYTES = 84;

const put = (name: string, sizeBytes: number): KeyValueOp => ({
  kind: 'put',
  key: `${PREFIX}${name}`,
  value: new Uint8Array(sizeBytes).fill(sizeBytes),
});

function isWithinQuota(content: KeyValueContent): void {
  const own = [...content].filter(([key]) => key.startsWith(PREFIX));
  const bytes = own.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (own.length > MAX_KEYS || bytes > MAX_BYTES) {
    throw new Error(
      `${PREFIX}: expected ${MAX_KEYS} keys of ${MAX_BYTES} bytes at most, got ${own.length} of ${bytes}`,
    );
  }
}

/** A prefix is filled up to its quota exactly; what is beyond is refused, before and after a restart, and after a move. */
export const quota: StateFsWorkload = {
  name: 'quota',
  description: 'a prefix that is filled up to its quota, over restarts and a move of the log',
  sectorCount: 256,
  quotas: [{ prefix: PREFIX, hard: { keys: MAX_KEYS, bytes: MAX_BYTES } }],
  operations: [
    put('a', 30),
    { kind: 'transaction', ops: [put('b', 30), { kind: 'delete', key: `${PREFIX}none` }] },
    { refused: put('c', 1) },
    'reopen',
    { refused: put('a', 31) },
    { refused: { kind: 'transaction', ops: [put('a', 29), put('c', 1)] } },
    { kind: 'transaction', ops: [{ kind: 'delete', key: `${PREFIX}a` }, put('c', 30)] },
    'compact',
    { refused: put('a', 1) },
    put('c', 29),
    put('b', 31),
  ],
  rule: isWithinQuota,
};
