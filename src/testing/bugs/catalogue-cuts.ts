import { soundRules } from '../../statefs/index.ts';
import { type BenchmarkCase, batch, del, put } from './bug.ts';
import { checkpointStore, soundCheckpoint } from './checkpoint-store.ts';
import { EarlyFlush, LastWriteFlush, NoFlush } from './devices.ts';
import { logStore, soundLog } from './log-store.ts';
import { rootStore, soundRoot } from './root-store.ts';
import { segmentStore, soundSegments } from './segment-store.ts';
import { stateFsStore } from './statefs-store.ts';
import type { Step, Store } from './store.ts';
import { soundWal, walStore } from './wal-store.ts';

function bug(id: number, title: string, source: string, store: Store, steps: readonly Step[]): BenchmarkCase {
  return { id, family: 'C', title, source, isControl: false, store, steps };
}

/** Larger than a frame of statefs: the payload stands outside the record. */
const LARGE = 2100;
const { barriers } = soundRules;

/** Bugs that a power cut exposes. */
export const cutBugs: readonly BenchmarkCase[] = [
  bug(
    1,
    'no flush between payload and commit record',
    'littlefs#948; xv6-riscv#534',
    stateFsStore({ commit: 'ordered', rules: { ...soundRules, barriers: { ...barriers, temp: false } } }),
    [put('b', 1, LARGE), put('a', 2), put('b', 3)],
  ),
  bug(
    2,
    'success reported before the flush',
    'nats-server#7564',
    stateFsStore({ rules: { ...soundRules, barriers: { ...barriers, commit: false } } }),
    [put('a', 1), put('b', 2), put('a', 3)],
  ),
  bug(
    3,
    'the flush does nothing',
    'firecracker#2172; cloud-hypervisor#399',
    stateFsStore({ through: (device) => new NoFlush(device) }),
    [put('a', 1), put('b', 2), put('a', 3)],
  ),
  bug(
    4,
    'a weaker flush than needed: of one request, not of the device',
    'tigerbeetle#2090',
    stateFsStore({ through: (device) => new LastWriteFlush(device) }),
    [put('b', 1, LARGE), put('a', 2), put('b', 3)],
  ),
  bug(
    5,
    'flush issued before the last write completed',
    'virtio 5.2, stable writes',
    stateFsStore({ through: (device) => new EarlyFlush(device) }),
    [put('a', 1), put('b', 2), put('a', 3)],
  ),
  bug(
    6,
    'commit record written before the payload',
    'the ordering class of ALICE (Pillai et al., OSDI 2014)',
    walStore({ ...soundWal, entryFirst: false }),
    [put('a', 1, 600), put('b', 2, 600), put('a', 3, 600)],
  ),
  bug(
    7,
    'no checksum over the payload',
    'a planted bug of Berkeley DB (libdb#55)',
    stateFsStore({ rules: { ...soundRules, checksums: false } }),
    [put('a', 1, 600), put('b', 2), put('a', 3, 600)],
  ),
  bug(
    10,
    'a torn tail makes recovery fail altogether',
    'samyama-graph#1335',
    logStore({ ...soundLog, acceptsTornTail: false }),
    [put('a', 1), put('b', 2, 600), put('a', 3)],
  ),
  bug(
    11,
    'appends after a torn tail are lost by the next recovery',
    'amelie#17',
    logStore({ ...soundLog, appendsAtEnd: false }),
    [put('a', 1), put('b', 2, 600), put('a', 3)],
  ),
  bug(
    12,
    'a rewrite of the same length revives its old successor',
    'kura#47',
    stateFsStore({ rules: { ...soundRules, epochs: false } }),
    [put('b', 1, LARGE), put('a', 2), put('b', 3)],
  ),
  bug(
    13,
    'the log is reused without a generation',
    'pebble#580',
    checkpointStore({ ...soundCheckpoint, generations: false }),
    [put('a', 1), put('a', 2), put('a', 3), put('b', 4), put('a', 5)],
  ),
  bug(
    14,
    'a hole between segments is skipped over',
    'rocksdb#7701, #12918',
    segmentStore({ ...soundSegments, endsAtHole: false }),
    [put('a', 1), batch(put('a', 2), put('b', 3)), put('c', 4)],
  ),
  bug(
    17,
    'replay is not idempotent',
    'a planted bug of Berkeley DB (libdb#104)',
    walStore({ ...soundWal, physical: false }),
    [put('a', 1), put('b', 2), put('a', 3)],
  ),
  bug(
    18,
    'a cut during repair loses committed data',
    'the changelog of redb',
    walStore({ ...soundWal, flushesInRecovery: false }),
    [put('a', 1), put('b', 2), put('a', 3)],
  ),
  bug(
    19,
    'a checkpoint does not flush the home locations',
    'a planted bug of Berkeley DB',
    walStore({ ...soundWal, flushesInCheckpoint: false }),
    [put('a', 1), put('b', 2), 'checkpoint', put('a', 3)],
  ),
  bug(
    20,
    "the checkpoint's frontier is wrong",
    'libdb#61; the WAL-reset bug of SQLite',
    checkpointStore({ ...soundCheckpoint, frontierIsNext: false }),
    [put('a', 1), 'checkpoint', put('b', 2), put('a', 3)],
  ),
  bug(21, 'replacing the superblock is not atomic', 'etcd#16596', rootStore({ ...soundRoot, hasTwoCopies: false }), [
    put('a', 1),
    put('b', 2),
    put('a', 3),
  ]),
  bug(
    22,
    'both superblock copies in one flush window',
    'a class of designs',
    rootStore({ ...soundRoot, oneAtATime: false }),
    [put('a', 1), put('b', 2), put('a', 3)],
  ),
  bug(
    23,
    'a shared header is updated before the growth that it names is durable',
    'the crash tests of redb',
    segmentStore({ ...soundSegments, growsFirst: false }),
    [put('a', 1), put('b', 2), put('a', 3)],
  ),
  bug(24, 'size metadata is not synced', 'boltdb#284', segmentStore({ ...soundSegments, syncsSize: false }), [
    put('a', 1),
    put('b', 2),
    put('a', 3),
  ]),
  bug(
    25,
    'the fallback superblock points at reused space',
    'boltdb#744',
    rootStore({ ...soundRoot, sparesOld: false }),
    [put('a', 1), put('b', 2), batch(put('a', 3), put('b', 4))],
  ),
  bug(
    26,
    'a failed durable commit damages earlier state',
    'the changelog of redb',
    rootStore({ ...soundRoot, alternates: false }),
    [put('a', 1), put('b', 2), put('a', 3)],
  ),
  bug(27, 'part of a batch becomes visible', 'leveldb#251', logStore({ ...soundLog, batches: false }), [
    put('a', 1),
    batch(put('a', 2), put('b', 3)),
    put('c', 4),
  ]),
  bug(
    31,
    'a dirty page is silently skipped',
    'a planted bug of Berkeley DB',
    walStore({ ...soundWal, writesAllPages: false }),
    [put('a', 1), put('b', 2), 'checkpoint', put('a', 3)],
  ),
  bug(35, 'recovery crashes on a torn structure', 'redb#888', logStore({ ...soundLog, verifiesFirst: false }), [
    put('a', 1),
    put('b', 2, 600),
    put('a', 3),
  ]),
  bug(
    37,
    'the root pointer switch is not made durable',
    'CCF#7030; the directory-fsync class',
    rootStore({ ...soundRoot, flushes: false }),
    [put('a', 1), put('b', 2), put('a', 3)],
  ),
  bug(
    38,
    'the clean-up that hides stale frames is in another sector than the append that needs it',
    'a published state store',
    logStore({ ...soundLog, hides: 'zero block' }),
    [put('a', 1), batch(put('b', 2), put('c', 3)), put('a', 4)],
  ),
  bug(
    39,
    'the first checkpoint of an old log lands where replay of the old log runs into it',
    'a published state store',
    checkpointStore({ ...soundCheckpoint, ownArea: false }),
    [put('a', 1), put('b', 2), 'checkpoint', put('a', 3)],
  ),
  bug(
    40,
    'identifiers are reused after a restart: re-seeded from live data only',
    'a published state store',
    logStore({ ...soundLog, seedsFromLog: false }),
    [put('a', 1), del('a'), 'reopen', put('b', 2)],
  ),
];

function control(id: string, store: Store, steps: readonly Step[]): BenchmarkCase {
  const source = 'the sound store that the bugs differ from';
  return { id, family: 'C', title: store.name, source, isControl: true, store, steps };
}

/** The sound stores: whatever is found in them is a defect. */
export const cutControls: readonly BenchmarkCase[] = [
  control('statefs-checksummed', stateFsStore(), [
    put('a', 1, 600),
    put('b', 2, LARGE),
    'reopen',
    del('b'),
    put('a', 3),
  ]),
  control('statefs-ordered', stateFsStore({ commit: 'ordered' }), [
    put('a', 1, 600),
    put('b', 2, LARGE),
    'reopen',
    del('b'),
    put('a', 3),
  ]),
  control('record-log', logStore(), [
    put('a', 1),
    put('b', 2, 600),
    batch(put('a', 3), put('c', 4)),
    del('a'),
    'reopen',
    put('b', 5),
  ]),
  control('write-ahead', walStore(), [
    put('a', 1, 600),
    put('b', 2, 600),
    'checkpoint',
    put('a', 3, 600),
    del('b'),
    'reopen',
  ]),
  control('root-switching', rootStore(), [
    put('a', 1),
    put('b', 2),
    batch(put('a', 3), put('b', 4)),
    del('a'),
    put('c', 5),
  ]),
  control('checkpointing', checkpointStore(), [
    put('a', 1),
    put('a', 2),
    'checkpoint',
    put('a', 3),
    put('b', 4),
    put('a', 5),
    put('b', 6),
  ]),
  control('segmented-log', segmentStore(), [
    put('a', 1),
    batch(put('a', 2), put('b', 3)),
    put('c', 4),
    batch(put('b', 5), del('a'), put('c', 6)),
  ]),
];
