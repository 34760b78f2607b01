import { Sfc32 } from '../../core/index.ts';
import type { KeyValueOp } from '../../explore/index.ts';
import type { StateFsWorkload } from './statefs-scenario.ts';

const LIVE_KEYS = 20;

function put(number: number, version: number, sizeBytes = 24): KeyValueOp {
  const value = new Uint8Array(sizeBytes);
  new Sfc32(1000 * version + number).fill(value);
  return { kind: 'put', key: `/state/record/${number}`, value };
}

const versionOf = (version: number): KeyValueOp[] =>
  Array.from({ length: LIVE_KEYS }, (_, i) => put(i, version, i === 7 ? 2500 : 24));

/**
 * Twenty live records and twenty dead ones are moved to the other region while keys are put and deleted; then everything
 * is moved back, onto the region that was used before; and the first writes follow.
 */
export const compaction: StateFsWorkload = {
  name: 'compaction',
  description: 'twenty live and twenty dead records moved to the other region and back, with changes meanwhile',
  sectorCount: 2048,
  compaction: 'manual',
  before: [...versionOf(1), ...versionOf(2)],
  operations: [
    'compact-step',
    put(3, 3),
    { kind: 'delete', key: '/state/record/1' },
    'compact-step',
    {
      kind: 'transaction',
      ops: [
        put(1, 4),
        put(4, 4),
        { kind: 'delete', key: '/state/record/2' },
        { kind: 'delete', key: '/state/record/3' },
      ],
    },
    'compact',
    put(5, 5),
    'reopen',
    put(6, 6),
    'compact-step',
    { kind: 'delete', key: '/state/record/0' },
    'compact',
    put(7, 7, 30),
    put(8, 8),
  ],
};

/**
 * Unsynced puts of which the cut leaves some; recovery moves the log away and back. What stands there from before follows
 * exactly on the first new record.
 */
export const regionReuse: StateFsWorkload = {
  name: 'region-reuse',
  description: 'unsynced puts that a cut tears, and two moves of the log in recovery, back onto what is left of them',
  sectorCount: 128,
  operations: [1, 2, 3].map((number) => ({ unsynced: put(number, 1) })),
  compactionsInRecovery: 2,
};
