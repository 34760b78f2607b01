import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Sfc32 } from '../../src/core/index.ts';
import { explore, type KeyValueOp } from '../../src/explore/index.ts';
import { type DiskProfile, type ProfileName, profiles } from '../../src/faults/index.ts';
import { type CommitMode, type StoreRules, soundRules } from '../../src/statefs/index.ts';
import { brokenRules, type StateFsWorkload, stateFsScenario } from '../../src/testing/index.ts';
import { holdProperty, isCaught, isReplaying } from './replay.ts';

/** Those that single puts and deletes need. */
const simpleRules = Object.entries(brokenRules).filter(([, { scenario }]) => scenario === 'boot-control');
const FILE = 'test/property/theorem.test.ts';
const NAME = 'old or new bytes at any crash';
const REACH = 'is put to thousands of images';

/** None; one sector; its edge; the largest inline values; an extent of one frame, of two, of three. */
const size = fc.oneof(
  fc.constantFrom(0, 1, 300, 512, 1024, 1984, 1985, 4096),
  fc.integer({ min: 1700, max: 1900 }),
  fc.nat({ max: 4500 }),
);
const key = fc.constantFrom('/state/a', '/state/b');
/** Sizes of values; a delete is one without. */
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ key, size }) },
  { weight: 1, arbitrary: fc.record({ key, size: fc.constant(undefined) }) },
  { weight: 1, arbitrary: fc.constant('reopen' as const) },
);
type Step = { key: string; size: number | undefined } | 'reopen';

interface Script {
  readonly before: readonly Step[];
  readonly steps: readonly Step[];
}

const script: fc.Arbitrary<Script> = fc.record({
  before: fc.array(step, { maxLength: 2 }),
  steps: fc.array(step, { minLength: 1, maxLength: 4, size: 'max' }),
});

function operationOf(step: Exclude<Step, 'reopen'>, tag: number, maxSize: number): KeyValueOp {
  if (step.size === undefined) return { kind: 'delete', key: step.key };
  const value = new Uint8Array(Math.min(step.size, maxSize));
  new Sfc32(tag).fill(value);
  return { kind: 'put', key: step.key, value };
}

function workloadOf({ before, steps }: Script, maxSize: number): StateFsWorkload {
  return {
    name: 'theorem',
    description: 'any few puts and deletes',
    sectorCount: 1024,
    before: before.filter((one) => one !== 'reopen').map((one, i) => operationOf(one, 100 + i, maxSize)),
    operations: steps.map((one, i) => (one === 'reopen' ? one : operationOf(one, 200 + i, maxSize))),
  };
}

/** What all the runs covered together. */
interface Coverage {
  images: bigint;
  recoveries: number;
}

interface Medium {
  readonly profile: ProfileName | DiskProfile;
  /** Larger values are made as small as this. */
  readonly maxSize: number;
}

/**
 * Under `harsh` each sector of a frame has nine states, so that a frame of four has thousands: there values that fit
 * into a sector are explored, and larger ones where a sector tears in its middle only.
 */
const media: readonly Medium[] = [
  { profile: 'nvme-512', maxSize: 4500 },
  { profile: '4kn', maxSize: 4500 },
  { profile: '512e', maxSize: 4500 },
  { profile: 'harsh', maxSize: 300 },
  { profile: { ...profiles.harsh, name: 'harsh-256', tearStepBytes: 256 }, maxSize: 1900 },
];

function theorem(rules: StoreRules, coverage: Coverage) {
  const commit = fc.constantFrom<CommitMode>('ordered', 'checksummed');
  return fc.property(script, commit, fc.constantFrom(...media), (steps, mode, { profile, maxSize }) => {
    const scenario = stateFsScenario(workloadOf(steps, maxSize), { commit: mode, rules });
    const result = explore(scenario, { depth: 2, profile, maxViolations: 1, shrinkRuns: 0 });
    coverage.images += result.images;
    coverage.recoveries += result.recoveries;
    const [violation] = result.violations;
    if (violation !== undefined) throw new Error(`${violation.message}\n${violation.token}`);
    if (!result.clean) throw new Error(result.incompleteReason ?? result.nondeterminism?.message ?? 'not clean');
  });
}

describe('the theorem', () => {
  test(NAME, () => {
    holdProperty(FILE, NAME, theorem(soundRules, { images: 0n, recoveries: 0 }), { numRuns: 60 });
  });

  /** In runs that are the same every time: how many images a few scripts of a new seed have is left to chance. */
  test(REACH, () => {
    const coverage = { images: 0n, recoveries: 0 };
    holdProperty(FILE, REACH, theorem(soundRules, coverage), { numRuns: 25, seed: 3 });
    if (isReplaying) return;
    expect(coverage.recoveries).toBeGreaterThan(10_000);
    expect(coverage.images).toBeGreaterThan(5000n);
  });

  test.each(simpleRules)('does not hold where %s is broken', (_name, { rules }) => {
    const coverage = { images: 0n, recoveries: 0 };
    expect(isCaught(theorem(rules, coverage), { numRuns: 50, seed: 1 })).toBe(true);
  });
});
