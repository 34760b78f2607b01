import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { explore, type Run, type Scenario } from '../../src/explore/index.ts';
import { type DiskProfile, profiles } from '../../src/faults/index.ts';
import { BruteDisk, blankImage, type Image } from './brute-force.ts';

/** Small enough for every image to be built. */
const SECTORS = 4;

type Action =
  | { kind: 'write' | 'fua'; sector: number; count: number; value: number }
  | { kind: 'flush' }
  | { kind: 'begin' }
  | { kind: 'end' }
  | { kind: 'discard' | 'writeZeroes'; sector: number };

const sector = fc.nat({ max: SECTORS - 1 });
const write = fc
  .record({
    kind: fc.constantFrom('write' as const, 'fua' as const),
    sector,
    count: fc.integer({ min: 1, max: 2 }),
    value: fc.nat({ max: 2 }),
  })
  .map((w) => ({ ...w, count: Math.min(w.count, SECTORS - w.sector) }));
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 6, arbitrary: write.map((w) => ({ ...w, kind: 'write' as const })) },
  { weight: 1, arbitrary: write },
  {
    weight: 2,
    arbitrary: fc.constantFrom({ kind: 'flush' as const }, { kind: 'begin' as const }, { kind: 'end' as const }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('discard' as const, 'writeZeroes' as const), sector }) },
);

/** A recovery that is a function of what it reads: a few steps, each decided by all that was read before. */
interface Program {
  seed: number;
  stepCount: number;
  writes: boolean;
}
const program: fc.Arbitrary<Program> = fc.record({
  seed: fc.nat({ max: 1_000_000 }),
  stepCount: fc.integer({ min: 1, max: 5 }),
  writes: fc.boolean(),
});

/** 512 bytes that differ early and late, so that a tear shows. */
function content(value: number): Uint8Array {
  const bytes = new Uint8Array(512).fill(value);
  if (value > 0) bytes[511] = value + 10;
  return bytes;
}

function mix(hash: number, word: number): number {
  return Math.imul(hash ^ word, 0x9e3779b1) ^ (hash >>> 15);
}

function recover(device: BlockDevice, { seed, stepCount, writes }: Program, run: Run<number>): number {
  const bytes = new Uint8Array(512);
  let hash = seed;
  let probes = 0;
  for (let step = 0; step < stepCount; step++) {
    const at = (hash >>> 4) % SECTORS;
    device.read(at, bytes);
    for (const i of [0, 200, 300, 511]) hash = mix(hash, bytes[i]!);
    if (!writes) continue;
    const kind = (hash >>> 9) % 6;
    if (kind === 0) device.flush();
    else if (kind === 1) device.write((hash >>> 13) % SECTORS, content((hash >>> 17) % 3), { fua: true });
    else if (kind === 2) run.begin(1000 + probes);
    else if (kind < 5) device.write((hash >>> 13) % SECTORS, content((hash >>> 17) % 3));
    if (kind === 2) {
      device.write((hash >>> 13) % SECTORS, content(1));
      run.acknowledge(1000 + probes++);
    }
  }
  return hash >>> 16;
}

function work(device: BlockDevice, actions: readonly Action[], run: Run<number>): void {
  const open: number[] = [];
  for (const [i, a] of actions.entries()) {
    if (a.kind === 'write' || a.kind === 'fua') {
      const bytes = Buffer.concat(new Array<Uint8Array>(a.count).fill(content(a.value)));
      device.write(a.sector, bytes, { fua: a.kind === 'fua' });
    } else if (a.kind === 'flush') device.flush();
    else if (a.kind === 'begin') {
      open.push(i);
      run.begin(i);
    } else if (a.kind === 'end') {
      const op = open.shift();
      if (op !== undefined) run.acknowledge(op);
    } else if (a.kind === 'discard') device.discard(a.sector, 1);
    else if (a.kind === 'writeZeroes') device.writeZeroes(a.sector, 1);
  }
}

/** Narrowed by every acknowledgement, widened by every begin, as the contract of scenarios asks for. */
function allows(observation: number, acknowledged: number, inFlight: number): boolean {
  return observation % 8 >= acknowledged - inFlight;
}

interface Verdict {
  observations: Set<number>;
  violated: boolean;
}

/** Cuts at every moment of everything, builds every image, recovers from each. */
function bruteForce(actions: readonly Action[], how: Program, depth: number, profile: DiskProfile): Verdict {
  const verdict: Verdict = { observations: new Set(), violated: false };
  const seen = new Set<string>();
  function attempt(image: Image, acknowledged: number, inFlight: number, left: number): void {
    const key = `${left} ${acknowledged} ${inFlight} ${image.join('')}`;
    if (seen.has(key)) return;
    seen.add(key);
    live(image, acknowledged, inFlight, left, (device, run, counts) => {
      const observation = recover(device, how, run);
      verdict.observations.add(observation);
      if (!allows(observation, counts.acknowledged, counts.inFlight)) verdict.violated = true;
    });
  }
  function live(
    image: Image,
    acknowledged: number,
    inFlight: number,
    left: number,
    body: (device: BlockDevice, run: Run<number>, counts: { acknowledged: number; inFlight: number }) => void,
  ): void {
    const disk = new BruteDisk(image, profile);
    const counts = { acknowledged, inFlight };
    disk.moment = () => {
      if (left === 0) return;
      for (const next of disk.images()) attempt(next, counts.acknowledged, counts.inFlight, left - 1);
    };
    const change = (acks: number, flying: number) => {
      counts.acknowledged += acks;
      counts.inFlight += flying;
      disk.moment();
    };
    body(disk, { begin: () => change(0, 1), acknowledge: () => change(1, -1), fail: () => change(0, -1) }, counts);
    disk.moment();
  }
  live(blankImage(SECTORS), 0, 0, depth, (device, run) => {
    (device as BruteDisk).moment();
    work(device, actions, run);
  });
  return verdict;
}

function lazily(actions: readonly Action[], how: Program, depth: number, profile: DiskProfile): Verdict {
  // A recovery that violates is not followed any further: what is observed is collected without judging.
  const { observations } = lazilyOnce(actions, how, depth, profile, false);
  return { observations, violated: lazilyOnce(actions, how, depth, profile, true).violated };
}

function lazilyOnce(
  actions: readonly Action[],
  how: Program,
  depth: number,
  profile: DiskProfile,
  judged: boolean,
): Verdict {
  const observations = new Set<number>();
  const scenario: Scenario<number, number> = {
    name: 'random',
    disk: { sectorCount: SECTORS },
    format() {},
    workload: (device, run) => work(device, actions, run),
    recover: (device, run) => recover(device, how, run),
    invariant(observation, history) {
      observations.add(observation);
      let [acknowledged, inFlight] = [0, 0];
      for (const { kind } of history) {
        if (kind === 'begin') inFlight++;
        if (kind === 'acknowledge') [acknowledged, inFlight] = [acknowledged + 1, inFlight - 1];
      }
      if (judged && !allows(observation, acknowledged, inFlight)) throw new Error('not allowed');
    },
  };
  const result = explore(scenario, { depth, profile, maxViolations: Number.POSITIVE_INFINITY, shrinkRuns: 0 });
  expect(result.nondeterminism).toBeUndefined();
  expect(result.complete).toBe(true);
  return { observations, violated: result.violatingRecoveries > 0 };
}

const small512e: DiskProfile = { ...profiles['512e'], name: 'small 512e', physicalSectorBytes: 1024 };
const coarse: DiskProfile = { ...profiles.harsh, name: 'coarse tears', tearStepBytes: 256 };

describe('lazy exploration finds what building every image finds', () => {
  for (const profile of [profiles['nvme-512'], small512e, coarse]) {
    for (const [depth, numRuns, maxLength] of [
      [1, 300, 8],
      [2, 120, 5],
      [3, 30, 3],
    ] as const) {
      it(`${profile.name}, ${depth} cuts in a row`, () => {
        fc.assert(
          fc.property(fc.array(action, { maxLength }), program, (actions, how) => {
            const lazy = lazily(actions, how, depth, profile);
            const brute = bruteForce(actions, how, depth, profile);
            expect([...lazy.observations].sort()).toEqual([...brute.observations].sort());
            expect(lazy.violated).toBe(brute.violated);
          }),
          { numRuns },
        );
      });
    }
  }
});

describe('the comparison is not blind', () => {
  const actions: Action[] = [
    { kind: 'write', sector: 0, count: 2, value: 1 },
    { kind: 'write', sector: 2, count: 2, value: 1 },
  ];
  const reading: Program = { seed: 5, stepCount: 5, writes: false };
  const writing: Program = { seed: 3, stepCount: 5, writes: true };
  const countOf = (how: Program, depth: number, profile: DiskProfile) =>
    [lazily, bruteForce].map((search) => search(actions, how, depth, profile).observations.size);

  it('a profile with more images is seen to have them', () => {
    const [lazy, brute] = countOf(reading, 1, profiles['nvme-512']);
    expect(lazy).toBe(brute);
    for (const profile of [small512e, coarse]) {
      const [lazyMore, bruteMore] = countOf(reading, 1, profile);
      expect(lazyMore).toBe(bruteMore);
      expect(bruteMore).toBeGreaterThan(brute!);
    }
  });
  it('another cut leads to observations that were not there before', () => {
    const [shallow] = countOf(writing, 1, profiles['nvme-512']);
    const [deep] = countOf(writing, 2, profiles['nvme-512']);
    expect(deep).toBeGreaterThan(shallow!);
  });
});

describe('images are counted exactly', () => {
  for (const profile of [profiles['nvme-512'], small512e, coarse]) {
    it(profile.name, () => {
      const writes = fc.array(
        action.filter(({ kind }) => kind !== 'begin' && kind !== 'end'),
        { maxLength: 8 },
      );
      fc.assert(
        fc.property(writes, (actions) => {
          const disk = new BruteDisk(blankImage(SECTORS), profile);
          const run: Run<number> = { begin() {}, acknowledge() {}, fail() {} };
          // A point of its own at the very end, whatever the last action was.
          const last: Action = { kind: 'write', sector: 0, count: 1, value: 2 };
          work(disk, [...actions, last], run);
          const scenario: Scenario<number, number> = {
            name: 'count',
            disk: { sectorCount: SECTORS },
            format() {},
            workload: (device) => work(device, [...actions, last], run),
            recover: () => 0,
            invariant() {},
          };
          const result = explore(scenario, { depth: 1, profile });
          expect(result.points.at(-1)?.images).toBe(BigInt(disk.images().length));
          expect(result.images).toBe(result.points.reduce((sum, { images }) => sum + images, 0n));
        }),
        { numRuns: 150 },
      );
    });
  }
});
