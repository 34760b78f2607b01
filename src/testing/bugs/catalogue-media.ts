import { type MediaFaultKind, type MediaOptions, mediaFaultKinds } from '../../faults/index.ts';
import { type BenchmarkCase, batch, put } from './bug.ts';
import { checkpointStore, soundCheckpoint } from './checkpoint-store.ts';
import { IgnoredWriteError, RetriedFlush } from './devices.ts';
import { logStore, soundLog } from './log-store.ts';
import { ROOT_BLOCKS, rootStore, soundRoot } from './root-store.ts';
import { stateFsStore } from './statefs-store.ts';
import type { Step, Store } from './store.ts';

interface MediaCase {
  readonly id: number | string;
  readonly title: string;
  readonly source: string;
  readonly store: Store;
  readonly steps: readonly Step[];
  readonly media: MediaOptions;
  readonly mayRefuse?: boolean;
}

function bug(theCase: MediaCase): BenchmarkCase {
  return { ...theCase, family: 'M', isControl: false };
}

const two: readonly Step[] = [put('a', 1), put('b', 2)];
const three: readonly Step[] = [put('a', 1), put('b', 2), put('a', 3)];

/** Bugs that a fault of the medium exposes, alone or with a power cut. */
export const mediaBugs: readonly BenchmarkCase[] = [
  bug({
    id: 8,
    title: 'checksum leaves out the length',
    source: 'talon#425',
    store: logStore({ ...soundLog, coversLength: false }),
    steps: three,
    media: { kinds: ['bit-rot'], rotStepBytes: 4 },
  }),
  bug({
    id: 9,
    title: 'length used before it is verified',
    source: 'Cask#35',
    store: logStore({ ...soundLog, checksLength: false }),
    steps: three,
    media: { kinds: ['bit-rot'], rotStepBytes: 2 },
  }),
  bug({
    id: 15,
    title: 'replay goes on past a damaged record',
    source: 'Typhon#587',
    store: logStore({ ...soundLog, reportsLoss: false }),
    steps: three,
    media: { kinds: ['bit-rot'] },
  }),
  bug({
    id: 16,
    title: 'damage in the middle silently drops what follows',
    source: 'nats-server#7549',
    store: logStore({ ...soundLog, looksAhead: false }),
    steps: three,
    media: { kinds: ['bit-rot'] },
  }),
  bug({
    id: 28,
    title: 'a flush error is retried as if nothing were lost',
    source: "Rebello et al., ATC'20",
    store: stateFsStore({ through: (device) => new RetriedFlush(device) }),
    steps: two,
    media: { kinds: ['flush-error'] },
  }),
  bug({
    id: 29,
    title: 'writing goes on after an ambiguous partial write',
    source: 'acoustid-index#157',
    store: logStore({ ...soundLog, latches: false }),
    steps: [put('a', 1), put('b', 2, 600), put('a', 3)],
    media: { kinds: ['write-error'] },
  }),
  bug({
    id: 30,
    title: 'an error of the log write is ignored',
    source: 'a planted bug of Berkeley DB',
    store: stateFsStore({ through: (device) => new IgnoredWriteError(device) }),
    steps: two,
    media: { kinds: ['write-error'] },
  }),
  bug({
    id: 32,
    title: 'the address is not part of the checksum',
    source: 'the data-file documentation of TigerBeetle',
    store: rootStore({ ...soundRoot, coversAddress: false }),
    steps: [batch(put('a', 1), put('b', 2)), put('c', 3)],
    // Of the roots there are two copies only, and a root that lands on the other one takes both.
    media: { kinds: ['misdirected-write'], zone: ROOT_BLOCKS },
    mayRefuse: true,
  }),
  bug({
    id: 33,
    title: 'a misdirected superblock read is accepted',
    source: 'the superblock of TigerBeetle',
    store: rootStore({ ...soundRoot, checksPlace: false }),
    steps: three,
    media: { kinds: ['misdirected-read'] },
    mayRefuse: true,
  }),
  bug({
    id: 34,
    title: 'stale metadata is adopted',
    source: 'libdb#104',
    store: checkpointStore({ ...soundCheckpoint, noticesNewerLog: false }),
    steps: [put('a', 1), 'checkpoint', put('b', 2), put('a', 3)],
    media: { kinds: ['stale-read'] },
    mayRefuse: true,
  }),
  bug({
    id: 36,
    title: 'one unreadable last block blocks the mount',
    source: 'littlefs#1102',
    store: logStore({ ...soundLog, toleratesUnreadable: false }),
    steps: three,
    media: { kinds: ['latent-error'] },
  }),
];

function control(
  name: string,
  store: Store,
  kinds: readonly MediaFaultKind[],
  steps: readonly Step[],
  mayRefuse = false,
): BenchmarkCase {
  const source = 'the sound store that the bugs differ from';
  const title = `${store.name} under ${kinds.join(', ')}`;
  return {
    id: name,
    family: 'M',
    title,
    source,
    isControl: true,
    store,
    steps,
    media: { kinds, rotStepBytes: 128 },
    mayRefuse,
  };
}

/** Every kind that an exploration can make happen: no time passes in one. */
const EXPLORED: readonly MediaFaultKind[] = mediaFaultKinds.filter((kind) => kind !== 'latency-spike');

/** The sound stores under the faults that they are made for. */
export const mediaControls: readonly BenchmarkCase[] = [
  ...EXPLORED.map((kind) => control(`statefs-${kind}`, stateFsStore(), [kind], two)),
  control('record-log-rot', logStore(), ['bit-rot', 'latent-error'], three),
  control('record-log-errors', logStore(), ['read-error', 'write-error', 'flush-error'], three),
  control('record-log-losses', logStore(), ['lost-write', 'lying-flush', 'stale-read', 'misdirected-read'], three),
  control('root-switching-reads', rootStore(), ['misdirected-read'], three, true),
  {
    ...control('root-switching-writes', rootStore(), ['misdirected-write'], three, true),
    media: { kinds: ['misdirected-write'], zone: ROOT_BLOCKS },
  },
  control(
    'checkpointing-media',
    checkpointStore(),
    ['stale-read', 'read-error', 'hung-request'],
    [put('a', 1), 'checkpoint', put('b', 2)],
    true,
  ),
];
