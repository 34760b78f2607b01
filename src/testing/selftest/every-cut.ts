import { CodedError } from '../../core/index.ts';
import type { CutOutcome } from '../../faults/index.ts';
import type { Machine } from './machine.ts';

/** Nothing of what was not durable, and all of it. */
const EXTREMES: readonly CutOutcome[] = ['all-lost', 'all-kept'];
/** And mixtures, each sector old or new by itself. */
const MIXTURES: readonly CutOutcome[] = Array.from({ length: 16 }, (_, i) => ({ seed: i + 1 }));
/** An action with more device operations than this has not ended. */
const MAX_OPERATIONS = 1000;

/** How often each answer was found, and how many cuts there were. */
export interface Tally {
  readonly cuts: number;
  readonly found: ReadonlyMap<string, number>;
}

/**
 * Does `act` again and again on copies of `machine`, and cuts the power at each write and each flush of it in turn, and
 * after it; boots from what the cut may have left; and asks `judge` what is there. What a cut at a write can leave, one
 * at the flush after it can leave too: so mixtures are looked at there.
 * @param judge a word for what is found; throws for what must not be
 */
export async function atEveryCut(
  machine: Machine,
  act: (machine: Machine) => Promise<unknown>,
  judge: (machine: Machine, isAcknowledged: boolean) => Promise<string>,
): Promise<Tally> {
  const found = new Map<string, number>();
  let cuts = 0;
  for (const kind of ['write', 'flush'] as const) {
    const outcomes = kind === 'write' ? EXTREMES : [...EXTREMES, ...MIXTURES];
    let isOver = false;
    for (let nth = 1; !isOver; nth++) {
      const running = machine.fork();
      running.disk.scheduleCut({ nth, of: kind });
      const failure = await failureOf(() => act(running));
      isOver = running.disk.cutPending;
      running.stop();
      if (isOver && failure !== undefined) throw failure;
      if (isOver && nth === 1) throw new Error(`it came to no ${kind}: nothing is shown`);
      if (nth > MAX_OPERATIONS) throw new Error(`it did not end within ${MAX_OPERATIONS} operations of the disk`);
      for (const outcome of outcomes) {
        const word = await judgeAfter(running, outcome, (after) => judge(after, failure === undefined));
        found.set(word, (found.get(word) ?? 0) + 1);
        cuts++;
      }
    }
  }
  return { cuts, found };
}

async function judgeAfter(
  running: Machine,
  outcome: CutOutcome,
  judge: (after: Machine) => Promise<string>,
): Promise<string> {
  const after = running.afterCut(outcome);
  try {
    return await judge(after);
  } finally {
    after.stop();
  }
}

/** A tally in words, for one in which each of `words` was found and nothing else. @throws Error otherwise */
export function describeTally({ cuts, found }: Tally, words: readonly string[]): string {
  for (const word of words) {
    // Old only, or new only, would be no cut at all: then nothing was shown.
    if (!found.has(word)) throw new Error(`${cuts} power cuts, and none of them left ${word}: nothing is shown`);
  }
  return `${cuts} power cuts: ${words.map((word) => `${found.get(word)} ${word}`).join(', ')}, nothing else`;
}

/** What `run` failed with; undefined where it succeeded. A defect of ours is no failure: it is thrown on. */
export async function failureOf(run: () => Promise<unknown>): Promise<CodedError | undefined> {
  try {
    await run();
    return undefined;
  } catch (error) {
    if (error instanceof CodedError) return error;
    throw error;
  }
}
