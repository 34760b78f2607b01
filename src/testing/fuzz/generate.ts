import type { Prng } from '../../core/index.ts';
import { explorableFaultKinds, type MediaFaultKind, type ProfileName, profiles } from '../../faults/index.ts';
import type { CommitMode } from '../../statefs/index.ts';
import type { FuzzCase, FuzzFaults, FuzzPart, FuzzSearch, FuzzStep } from './case.ts';

const KEYS = ['/state/a', '/state/b', '/state/boot/control', `/state/long/${'k'.repeat(243)}`];
/** Seven of them in one transaction take a second commit frame. */
const LONG_KEYS = Array.from({ length: 7 }, (_, i) => `/state/long/${i}/${'k'.repeat(238)}`);
const MAX_PARTS = 5;
/** None; within a sector; about its edge; about the largest inline value; extents of one frame, two, and several. */
const SIZES = [0, 1, 31, 32, 300, 511, 512, 513, 1024, 1983, 1984, 1985, 2048, 3968, 3969, 4096, 9000];
const MAX_SIZE_BYTES = 6000;
/** Short enough for all its crashes. */
const MAX_SHORT = 5;
const MAX_LONG = 24;
const RANDOM_RUNS = 60;
const MAX_MUTATIONS = 3;
/** Every so manieth case has a fault of the medium. */
const FAULTY_EVERY = 3;
/** Of the requests and sectors that a fault could hit first, about as many as a short workload has. */
const MAX_SKIP = 60;

/** What a random case is held to. */
export interface FuzzSpace {
  /** Default: any. */
  readonly profile?: ProfileName;
  /** Default: any. */
  readonly commit?: CommitMode;
  /** Default: any. */
  readonly through?: FuzzCase['through'];
  /** Kinds of faults that a case may have; none: the medium is sound in all. Default: any. */
  readonly faults?: readonly MediaFaultKind[];
}

/** A random case: a short one, all of whose crashes are to be explored, or a long one, some of whose are. */
export function randomCase(prng: Prng, space: FuzzSpace): FuzzCase {
  const profile = space.profile ?? pick(prng, Object.keys(profiles) as ProfileName[]);
  const isShort = prng.below(4) > 0;
  const length = 1 + prng.below(isShort ? MAX_SHORT : MAX_LONG);
  const faults = prng.below(FAULTY_EVERY) === 0 ? randomFaults(prng, space) : undefined;
  return {
    profile,
    through: space.through ?? pick(prng, ['direct', 'virtio'] as const),
    diskBytes: diskBytesOf(prng, profile),
    search: isShort ? { strategy: 'exhaustive', depth: 1 + prng.below(2) } : randomSearch(prng),
    ...(faults === undefined ? {} : { faults }),
    steps: Array.from({ length }, () => randomStep(prng, space)),
  };
}

/** A case one to three changes away. */
export function mutatedCase(prng: Prng, from: FuzzCase, space: FuzzSpace): FuzzCase {
  let changed = from;
  for (let left = 1 + prng.below(MAX_MUTATIONS); left > 0; left--) changed = mutatedOnce(prng, changed, space);
  const isShort = changed.steps.length <= MAX_SHORT;
  // What has grown too long for all of its crashes gets some of them.
  if (!isShort && changed.search.strategy === 'exhaustive') return { ...changed, search: randomSearch(prng) };
  return changed;
}

/** Whether a case, from an earlier session perhaps, is one that may be drawn. */
export function isWithin(theCase: FuzzCase, { profile, commit, through, faults }: FuzzSpace): boolean {
  if (profile !== undefined && theCase.profile !== profile) return false;
  if (through !== undefined && theCase.through !== through) return false;
  if (faults !== undefined && theCase.faults !== undefined && !faults.includes(theCase.faults.kind)) return false;
  return commit === undefined || theCase.steps.every((step) => !('commit' in step) || step.commit === commit);
}

function mutatedOnce(prng: Prng, from: FuzzCase, space: FuzzSpace): FuzzCase {
  const { steps } = from;
  if (steps.length === 0) return { ...from, steps: [randomStep(prng, space)] };
  const at = prng.below(steps.length);
  switch (prng.below(7)) {
    case 0:
      return steps.length < MAX_LONG ? { ...from, steps: steps.toSpliced(at, 0, randomStep(prng, space)) } : from;
    case 1:
      return steps.length > 1 ? { ...from, steps: steps.toSpliced(at, 1) } : from;
    case 2:
      return { ...from, steps: steps.with(at, randomStep(prng, space)) };
    case 3:
      return { ...from, steps: swapped(steps, at, prng.below(steps.length)) };
    case 4: {
      const profile = space.profile ?? pick(prng, Object.keys(profiles) as ProfileName[]);
      return { ...from, profile, diskBytes: diskBytesOf(prng, profile) };
    }
    case 5:
      return withFaults(from, prng.below(2) === 0 ? undefined : randomFaults(prng, space));
    default:
      return { ...from, search: from.search.strategy === 'random' ? randomSearch(prng) : deeper(from.search) };
  }
}

function withFaults({ faults: _, ...sound }: FuzzCase, faults: FuzzFaults | undefined): FuzzCase {
  return faults === undefined ? sound : { ...sound, faults };
}

function randomFaults(prng: Prng, { faults: kinds = explorableFaultKinds }: FuzzSpace): FuzzFaults | undefined {
  return kinds.length === 0 ? undefined : { kind: pick(prng, kinds), skip: prng.below(MAX_SKIP) };
}

function deeper(search: FuzzSearch): FuzzSearch {
  return { ...search, depth: search.depth === 1 ? 2 : 1 };
}

function swapped(steps: readonly FuzzStep[], a: number, b: number): FuzzStep[] {
  return steps.with(a, steps[b] as FuzzStep).with(b, steps[a] as FuzzStep);
}

function randomSearch(prng: Prng): FuzzSearch {
  return { strategy: 'random', depth: 2, seed: prng.nextU32(), runs: RANDOM_RUNS };
}

/** A store that is soon full, or one that is not. */
function diskBytesOf(prng: Prng, profile: ProfileName): number {
  const smallKiB = profiles[profile].physicalSectorBytes === 512 ? 96 : 192;
  return (prng.below(2) === 0 ? smallKiB : 1024) * 1024;
}

function randomStep(prng: Prng, space: FuzzSpace): FuzzStep {
  const roll = prng.below(18);
  if (roll >= 16) return randomTransaction(prng, space);
  if (roll === 15) return { do: 'sync' };
  if (roll >= 12) return { do: pick(prng, ['reopen', 'kill'] as const) };
  const key = pick(prng, KEYS);
  const commit = randomCommit(prng, space);
  if (roll >= 9) return { do: 'delete', key, commit };
  const bytes = randomSize(prng);
  const seed = prng.nextU32();
  return roll >= 6 ? { do: 'put-lazily', key, bytes, seed } : { do: 'put', key, bytes, seed, commit };
}

/** A few keys, one of them twice perhaps; or one of many long keys. */
function randomTransaction(prng: Prng, space: FuzzSpace): FuzzStep {
  const commit = randomCommit(prng, space);
  if (prng.below(2) === 0) {
    const parts = LONG_KEYS.map((key): FuzzPart => ({ key, bytes: 1, seed: prng.nextU32() }));
    return { do: 'transaction', parts, commit };
  }
  const parts = Array.from({ length: 1 + prng.below(MAX_PARTS) }, (): FuzzPart => {
    const key = pick(prng, KEYS);
    return prng.below(3) === 0 ? { key } : { key, bytes: randomSize(prng), seed: prng.nextU32() };
  });
  return { do: 'transaction', parts, commit };
}

function randomCommit(prng: Prng, { commit }: FuzzSpace): CommitMode {
  return commit ?? pick(prng, ['ordered', 'checksummed'] as const);
}

function randomSize(prng: Prng): number {
  return prng.below(2) === 0 ? pick(prng, SIZES) : prng.below(MAX_SIZE_BYTES);
}

function pick<T>(prng: Prng, from: readonly T[]): T {
  return from[prng.below(from.length)] as T;
}
