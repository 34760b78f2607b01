import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Sfc32 } from '../../src/core/index.ts';
import { type ExploreOptions, type ExploreResult, explore, replay, type Scenario } from '../../src/explore/index.ts';
import { type DiskProfile, type MediaFaultKind, profiles } from '../../src/faults/index.ts';
import { checksumOf } from '../../src/faults/version-index.ts';
import { VersionPool } from '../../src/faults/version-pool.ts';
import { brokenRules, stateFsScenario, workloads } from '../../src/testing/index.ts';
import {
  type Action,
  action,
  allows,
  coarse,
  type Program,
  program,
  recover,
  SECTORS,
  small512e,
  work,
} from './random-scenarios.ts';

/** What an exploration says, but for how it got there, and for how far the units were whose rest a limit left. */
function verdictOf(result: ExploreResult): Partial<ExploreResult> {
  const { knownRecoveries: _known, rechecks: _rechecks, elapsedMs: _elapsed, coveredShare, ...verdict } = result;
  return result.complete ? { ...verdict, coveredShare } : verdict;
}

interface Outcome {
  /** Everything that any recovery observed, with what it was allowed to by then. */
  readonly observed: readonly string[];
  readonly result: ExploreResult;
}

/** @param judged false: nothing is wrong, so that recoveries are followed to their ends */
function outcomeOf(actions: readonly Action[], how: Program, options: ExploreOptions, judged: boolean): Outcome {
  const observed = new Set<string>();
  const scenario: Scenario<number, number> = {
    name: 'random',
    disk: { sectorCount: SECTORS },
    format() {},
    workload: (device, run) => work(device, actions, run),
    recover: (device, run) => recover(device, how, run),
    invariant(observation, history) {
      let [acknowledged, inFlight] = [0, 0];
      for (const { kind } of history) {
        if (kind === 'begin') inFlight++;
        if (kind === 'acknowledge') [acknowledged, inFlight] = [acknowledged + 1, inFlight - 1];
      }
      observed.add(`${observation} after ${acknowledged}, ${inFlight}: ${history.length}`);
      if (judged && !allows(observation, acknowledged, inFlight)) throw new Error(`${observation} is not allowed`);
    },
  };
  const result = explore(scenario, { ...options, shrinkRuns: 5 });
  return { observed: [...observed].sort(), result };
}

/** Runs it with and without reductions, and compares. @returns the one with */
function compared(actions: readonly Action[], how: Program, options: ExploreOptions, judged: boolean): ExploreResult {
  const [reduced, plain] = [false, true].map((isPlain) =>
    outcomeOf(actions, how, { ...options, plain: isPlain }, judged),
  );
  expect(plain!.result.knownRecoveries).toBe(0);
  expect(verdictOf(reduced!.result)).toEqual(verdictOf(plain!.result));
  expect(reduced!.observed).toEqual(plain!.observed);
  return reduced!.result;
}

const OPTIONS: [string, ExploreOptions, number, number][] = [
  ['1 cut', { depth: 1 }, 8, 40],
  ['2 cuts', { depth: 2 }, 6, 60],
  ['3 cuts', { depth: 3 }, 4, 25],
  ['bounded', { depth: 2, strategy: 'bounded', bound: 2 }, 6, 20],
  ['random', { depth: 3, strategy: 'random', runs: 60, seed: 5 }, 6, 20],
  ['prefix', { depth: 2, strategy: 'prefix' }, 6, 20],
  ['prefix, torn', { depth: 2, strategy: 'prefix-torn' }, 6, 20],
];

describe('what is known need not be run: the result is that of running everything', () => {
  for (const profile of [profiles['nvme-512'], small512e, coarse]) {
    for (const [name, options, maxLength, numRuns] of OPTIONS) {
      it(`${profile.name}, ${name}`, () => {
        fc.assert(
          fc.property(fc.array(action, { maxLength }), program, fc.boolean(), (actions, how, judged) => {
            compared(actions, how, { ...options, profile, maxViolations: judged ? 5 : 1 }, judged);
          }),
          { numRuns },
        );
      });
    }
  }

  it('also beside faults of the medium', () => {
    const kinds: MediaFaultKind[] = ['bit-rot', 'read-error', 'lost-write', 'lying-flush', 'misdirected-read'];
    fc.assert(
      fc.property(fc.array(action, { maxLength: 3 }), program, fc.constantFrom(...kinds), (actions, how, kind) => {
        const media = { kinds: [kind], rotStepBytes: 256 };
        const catching: Program = { ...how, stepCount: Math.min(how.stepCount, 3) };
        compared(actions, catching, { depth: 2, media, maxRecoveries: 2000 }, false);
      }),
      { numRuns: 30 },
    );
  });

  it('on a fixed seed: with sound and with broken ones, most of them known', () => {
    const totals = { recoveries: 0, known: 0, violating: 0, sound: 0 };
    fc.assert(
      fc.property(fc.array(action, { maxLength: 6 }), program, (actions, how) => {
        const result = compared(actions, how, { depth: 3 }, true);
        totals.recoveries += result.recoveries;
        totals.known += result.knownRecoveries;
        if (result.clean) totals.sound++;
        else totals.violating++;
      }),
      { numRuns: 60, seed: 7 },
    );
    expect(totals).toMatchInlineSnapshot(`
      {
        "known": 519,
        "recoveries": 678,
        "sound": 44,
        "violating": 16,
      }
    `);
  });
});

describe('of the scenarios that ship with powercut', () => {
  it.each([
    ['boot-control', undefined, 'nvme-512'],
    ['boot-control', 'epoch', 'nvme-512'],
    ['device-key', 'checksums', '512e'],
    ['transaction', undefined, 'harsh'],
    ['region-reuse', undefined, 'nvme-512'],
  ] as const)('%s without %s on %s', (name, broken, profile) => {
    const workload = workloads[name]!();
    const rules = broken === undefined ? undefined : brokenRules[broken]?.rules;
    const scenario = () => stateFsScenario(workload, rules === undefined ? {} : { rules });
    const options: ExploreOptions = { profile: profiles[profile] as DiskProfile, depth: 2, maxRecoveries: 1500 };
    const reduced = explore(scenario(), options);
    expect(verdictOf(reduced)).toEqual(verdictOf(explore(scenario(), { ...options, plain: true })));
    expect(reduced.knownRecoveries).toBeGreaterThan(0);
    for (const { token, message } of reduced.violations) expect(replay(scenario(), token).violation).toBe(message);
  });
});

/** A recovery with an input that it does not read from the device. */
function withHidden(observe: (read: number, call: number) => number, after: (call: number) => boolean): Scenario {
  let calls = 0;
  return {
    name: 'hidden',
    disk: { sectorCount: 8 },
    format() {},
    workload(device, run) {
      run.begin(1);
      for (let sector = 0; sector < 4; sector++) device.write(sector, new Uint8Array(512).fill(1));
      device.flush();
      run.acknowledge(1);
    },
    recover(device, run) {
      const call = ++calls;
      const bytes = new Uint8Array(512);
      for (let sector = 0; sector < 4; sector++) device.read(sector, bytes);
      run.observe(observe(bytes[0]!, call));
      // Something to cut, so that another recovery finds what this one found.
      device.write(7, bytes.fill(9));
      if (after(call)) device.read(6, bytes);
      device.flush();
    },
    invariant() {},
  };
}

describe('what it presupposes is checked', () => {
  const sound = withHidden(
    (read) => read,
    () => false,
  );
  it('a recovery without hidden inputs is clean', () => {
    const result = explore(sound, { depth: 2 });
    expect(result).toMatchObject({ clean: true, nondeterminism: undefined });
    expect(result.knownRecoveries).toBeGreaterThan(result.recoveries / 3);
  });
  it.each([
    [
      'one that observes something else each time',
      withHidden(
        (_read, call) => call,
        () => false,
      ),
      /"observe"/,
    ],
    [
      'one that reads one sector more from some time on',
      withHidden(
        (read) => read,
        // The first two are a recovery and its repetition; the third is run to check one that was known.
        (call) => call > 2,
      ),
      /"read sector 6"/,
    ],
  ])('%s', (_name, scenario, message) => {
    const result = explore(scenario, { depth: 2 });
    expect(result).toMatchObject({ complete: false, clean: false });
    expect(result.nondeterminism?.message).toMatch(message);
  });
});

describe('an operation of a recovery', () => {
  it('may end otherwise than in the recovery that it is known from', () => {
    let told: string[] = [];
    const scenario: Scenario<{ readonly n: number }, number> = {
      name: 'ends',
      disk: { sectorCount: 8 },
      format() {},
      workload(device) {
        device.write(0, new Uint8Array(512).fill(1));
      },
      recover(device, run) {
        // Objects of each recovery's own, equal and not the same.
        const [one, other] = [{ n: 1 }, { n: 1 }];
        const bytes = new Uint8Array(512);
        run.begin(one);
        run.begin(other);
        device.write(1, bytes.fill(5));
        device.flush();
        device.read(0, bytes);
        if (bytes[0] === 1) run.acknowledge(other);
        else run.fail(one);
        run.acknowledge(bytes[0] === 1 ? one : other);
        run.observe(bytes[0] as number);
        device.write(2, bytes);
        device.flush();
        return undefined;
      },
      invariant(_found, history) {
        told.push(Array.from(history, (event) => event.kind).join(' '));
        const open = new Set<unknown>();
        for (const event of history) {
          if (event.kind === 'begin') open.add(event.op);
          else if (event.kind === 'acknowledge' || event.kind === 'fail') expect(open.delete(event.op)).toBe(true);
        }
      },
    };
    const reduced = explore(scenario, { depth: 3 });
    const known = told;
    told = [];
    const plain = explore(scenario, { depth: 3, plain: true });
    expect(reduced).toMatchObject({ complete: true, clean: true });
    expect(reduced.knownRecoveries).toBeGreaterThan(0);
    expect(verdictOf(reduced)).toEqual(verdictOf(plain));
    expect([...new Set(known)].sort()).toEqual([...new Set(told)].sort());
  });
});

describe('versions are known by their bytes, not by a checksum', () => {
  const twins = withEqualChecksums();
  it('two sectors with equal checksums', () => {
    expect(checksumOf(twins[0])).toBe(checksumOf(twins[1]));
    const pool = new VersionPool(512, true);
    const [one, other] = twins.map((bytes) => pool.add(bytes, 0));
    expect(one).not.toBe(other);
    expect([pool.add(twins[0], 0), pool.add(twins[1], 0)]).toEqual([one, other]);
    pool.rewind(other!);
    expect([pool.add(twins[0], 0), pool.add(twins[1], 0)]).toEqual([one, other]);
  });
  it('are two outcomes of a recovery', () => {
    const found = new Set<number>();
    const scenario: Scenario<number, number> = {
      name: 'twins',
      disk: { sectorCount: 8 },
      format(device) {
        device.write(0, twins[0]);
      },
      workload(device) {
        device.write(0, twins[1]);
      },
      recover(device, run) {
        const bytes = new Uint8Array(512);
        device.read(0, bytes);
        run.observe(Buffer.from(bytes).readUInt32LE(0));
        device.write(1, bytes);
        return undefined;
      },
      invariant: (observation) => void found.add(observation),
    };
    expect(explore(scenario, { depth: 2 }).knownRecoveries).toBeGreaterThan(0);
    expect(found).toEqual(new Set(twins.map((bytes) => Buffer.from(bytes).readUInt32LE(0))));
  });
});

/** By the birthday paradox, some 80,000 tries. */
function withEqualChecksums(): [Uint8Array, Uint8Array] {
  const prng = new Sfc32(1);
  const seen = new Map<number, Uint8Array>();
  for (;;) {
    const bytes = new Uint8Array(512);
    prng.fill(bytes.subarray(0, 8));
    const other = seen.get(checksumOf(bytes));
    if (other !== undefined) return [other, bytes];
    seen.set(checksumOf(bytes), bytes);
  }
}
