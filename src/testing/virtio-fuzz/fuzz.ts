import { assertInteger, messageOf, Sfc32 } from '../../core/index.ts';
import { type FuzzTarget, HostileGuest, QUEUE_SIZE } from './hostile-guest.ts';
import { operate } from './operations.ts';

export interface VirtioFuzzOptions {
  /** Hostile operations in all: register accesses, writes to memory and rings, notifications, initialisations. */
  readonly operationCount: number;
  /** Of the first episode; each next one has the next number. */
  readonly seed: number;
  /** What is fuzzed, where it is not the device as it is. */
  readonly target?: FuzzTarget;
  /** Called after each episode with how many operations are done. */
  readonly onProgress?: (doneCount: number) => void;
}

/** What no guest may bring about, and did. */
export interface VirtioFuzzFailure {
  /** Seed of the episode: a run that starts with it fails again in its first one. */
  readonly seed: number;
  /** How many operations of that episode were done. */
  readonly operationCount: number;
  readonly what: string;
}

export interface VirtioFuzzReport {
  readonly operationCount: number;
  readonly episodeCount: number;
  /** Operations that reached the disk: 0 would be a guest that never got through. */
  readonly diskOperationCount: number;
  /** Accesses to guest memory. */
  readonly accessCount: number;
  /** Most accesses in one operation. */
  readonly accessCountMax: number;
  /** Why rings broke, and how often. */
  readonly breaks: ReadonlyMap<string, number>;
  readonly failure: VirtioFuzzFailure | undefined;
}

/** Operations of one episode: one guest, one device, and its reset at the end. */
export const EPISODE_OPERATIONS = 200;

/**
 * Most accesses to guest memory in one operation: for each entry of the queue a request of as many descriptors, each read
 * in some six accesses, and a header and four ranges that are read byte by byte.
 */
const ACCESSES_MAX = QUEUE_SIZE * (6 * QUEUE_SIZE + 128);
/** Likewise for the disk: each segment or sector of each request, or each range with its flush. */
const DISK_OPERATIONS_MAX = QUEUE_SIZE * (QUEUE_SIZE + 32);

/**
 * A hostile guest against the virtio block device, over and over with other seeds. What must hold: no exception leaves
 * the device, nothing outside guest memory is touched and no word written but in the rings, the work for one operation is bounded by the queue, and after a
 * reset the device answers, on either ring. Stops at the first failure.
 */
export function fuzzVirtio(options: VirtioFuzzOptions): VirtioFuzzReport {
  assertInteger(options.operationCount, 'operationCount', 1);
  assertInteger(options.seed, 'seed');
  const totals = new Totals();
  let episodeCount = 0;
  let doneCount = 0;
  let failure: VirtioFuzzFailure | undefined;
  while (doneCount < options.operationCount && failure === undefined) {
    const seed = options.seed + episodeCount++;
    const count = Math.min(EPISODE_OPERATIONS, options.operationCount - doneCount);
    const episode = runEpisode(seed, count, options.target ?? {}, totals);
    doneCount += episode.operationCount;
    if (episode.what !== undefined) failure = { seed, operationCount: episode.operationCount, what: episode.what };
    options.onProgress?.(doneCount);
  }
  return { ...totals, operationCount: doneCount, episodeCount, failure };
}

class Totals {
  diskOperationCount = 0;
  accessCount = 0;
  accessCountMax = 0;
  readonly breaks: Map<string, number> = new Map();
}

interface Episode {
  readonly operationCount: number;
  readonly what: string | undefined;
}

function runEpisode(seed: number, count: number, target: FuzzTarget, totals: Totals): Episode {
  const prng = new Sfc32(seed);
  const guest = new HostileGuest(prng, target);
  guest.bringUpSomehow();
  // A third of the guests have one processor only.
  guest.memory.disturb(prng.below(3) === 0 ? 0 : 2 + prng.below(400), () => guest.changeByte());
  let broken: string | undefined;
  for (let done = 1; done <= count; done++) {
    const [accesses, operations] = [guest.memory.accessCount, guest.disk.operationCount];
    const thrown = attempt(() => operate(guest, prng));
    const accessed = guest.memory.accessCount - accesses;
    totals.accessCountMax = Math.max(totals.accessCountMax, accessed);
    const what = thrown ?? whatWentWrong(guest, accessed, guest.disk.operationCount - operations);
    if (what !== undefined) return { operationCount: done, what };
    const why = guest.transport.needsResetWhy;
    if (why !== undefined && why !== broken) totals.breaks.set(why, (totals.breaks.get(why) ?? 0) + 1);
    broken = why;
  }
  totals.accessCount += guest.memory.accessCount;
  totals.diskOperationCount += guest.disk.operationCount;
  return { operationCount: count, what: whatIsLeft(guest) };
}

function whatWentWrong(guest: HostileGuest, accesses: number, diskOperations: number): string | undefined {
  const { transport, memory, disk } = guest;
  if (transport.halted !== undefined)
    return `an exception came out of the device: ${messageOf(transport.halted.error)}`;
  if (memory.strayAccess !== undefined) return `access outside guest memory: ${memory.strayAccess}`;
  if (memory.strayWord !== undefined) return `a word written where no ring is: ${memory.strayWord}`;
  if (disk.strayBuffer !== undefined) return `a buffer outside guest memory: ${disk.strayBuffer}`;
  if (accesses > ACCESSES_MAX) return `${accesses} accesses to guest memory in one operation`;
  return diskOperations > DISK_OPERATIONS_MAX ? `${diskOperations} disk operations in one operation` : undefined;
}

function whatIsLeft(guest: HostileGuest): string | undefined {
  for (const packed of [false, true]) {
    let answers = false;
    const thrown = attempt(() => {
      answers = guest.answersAgain(packed);
    });
    if (thrown !== undefined) return thrown;
    if (!answers) return `no answer on a ${packed ? 'packed' : 'split'} ring after a reset`;
  }
  return guest.arena.wallsStand() ? undefined : 'something was written outside guest memory';
}

/** @returns what was thrown, in words */
function attempt(run: () => void): string | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    return `an exception came out of the transport: ${messageOf(error)}`;
  }
}
