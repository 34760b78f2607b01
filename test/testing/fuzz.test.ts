import { describe, expect, it } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { replay } from '../../src/explore/index.ts';
import { explorableFaultKinds, type MediaFaultKind } from '../../src/faults/index.ts';
import { brokenRules, type FuzzCase, Fuzzer, fuzzBreaks, fuzzCaseOf, fuzzScenario } from '../../src/testing/index.ts';
import { virtioThrough } from '../../src/virtio/index.ts';

/** Those that a case can reach: it has no quotas, and too few puts for a second region. */
const brokenNames = ['temp-flush', 'commit-flush', 'checksum', 'epoch', 'whole-transaction'];
const broken = (name: string) => ({ name, rules: fuzzBreaks[name]!.rules });

describe('the fuzzer', () => {
  it('finds nothing wrong with the sound store, and many ways through its recovery', () => {
    const fuzzer = new Fuzzer({ seed: 11, maxRecoveries: 60 });
    let complete = 0;
    for (let run = 0; run < 12; run++) {
      const outcome = fuzzer.next();
      expect(outcome.failure).toBeUndefined();
      expect(outcome.recoveries).toBeGreaterThan(0);
      if (outcome.complete) complete++;
    }
    expect(fuzzer.paths.size).toBeGreaterThan(15);
    expect(complete).toBeGreaterThan(0);
  });

  it('draws the same cases again from the same seed and corpus, and others from another seed', () => {
    const draw = (seed: number) => {
      const fuzzer = new Fuzzer({ seed, maxRecoveries: 20 });
      return Array.from({ length: 6 }, () => fuzzer.next());
    };
    expect(draw(5)).toEqual(draw(5));
    expect(draw(5).map((outcome) => outcome.case)).not.toEqual(draw(6).map((outcome) => outcome.case));
  });

  it.each(brokenNames)('finds a store without the rule "%s", and makes the failure small and replayable', (name) => {
    const held =
      name === 'temp-flush' || name === 'whole-transaction'
        ? { commit: brokenRules[name]!.commit, profile: 'nvme-512' as const }
        : {};
    const fuzzer = new Fuzzer({ seed: 1, broken: broken(name), through: 'virtio', maxRecoveries: 150, ...held });
    let failure: ReturnType<Fuzzer['next']>['failure'];
    for (let run = 0; run < 40 && failure === undefined; run++) failure = fuzzer.next().failure;
    expect(failure).toBeDefined();
    expect(failure!.operations).toBeLessThanOrEqual(3);
    expect(failure!.deviations).toBeLessThanOrEqual(3);
    const story = (rules = brokenRules[name]!.rules) =>
      replay(fuzzScenario(failure!.case, { rules }), failure!.token, { through: virtioThrough() });
    expect(story().violation).toBe(failure!.message);
  });

  it('finds nothing wrong with the sound store on a medium that does wrong, and never calls that complete', () => {
    const fuzzer = new Fuzzer({ seed: 4, maxRecoveries: 40 });
    const outcomes = Array.from({ length: 36 }, () => fuzzer.next());
    expect(outcomes.flatMap(({ failure }) => failure?.message ?? [])).toEqual([]);
    const faulty = outcomes.filter(({ case: { faults } }) => faults !== undefined);
    expect(faulty.length).toBeGreaterThan(6);
    expect(new Set(faulty.map(({ case: { faults } }) => faults!.kind)).size).toBeGreaterThan(4);
    expect(faulty.filter(({ complete }) => complete)).toEqual([]);
    const { kind } = faulty[0]!.case.faults!;
    expect([...fuzzer.paths].some((path) => path.startsWith(`${kind} `))).toBe(true);
  });

  it.each([
    ['checksum', 'bit-rot'],
    ['unreadable', 'hung-request'],
    ['lost-superblocks', 'lost-write'],
  ] as const)('finds a store without the rule "%s" under %s, and the token replays the fault', (name, kind) => {
    const options = { seed: 1, broken: broken(name), through: 'direct', profile: 'nvme-512' } as const;
    const failureWith = (faults: readonly MediaFaultKind[], runs: number) => {
      const fuzzer = new Fuzzer({ ...options, faults, maxRecoveries: 300 });
      for (let run = 0; run < runs; run++) {
        const { failure } = fuzzer.next();
        if (failure !== undefined) return failure;
      }
      return undefined;
    };
    const failure = failureWith([kind], 40)!;
    expect(failure.case.faults!.kind).toBe(kind);
    expect(failure.operations).toBeLessThanOrEqual(3);
    const read = fuzzCaseOf(JSON.parse(JSON.stringify(failure.case)));
    const story = replay(fuzzScenario(read, { rules: fuzzBreaks[name]!.rules }), failure.token);
    expect(story.violation).toBe(failure.message);
    expect(replay(fuzzScenario(read), failure.token).violation).toBeUndefined();
    // The rules that only a bad medium needs are not missed on a sound one.
    if (name !== 'checksum') expect(failureWith([], 40)).toBeUndefined();
  });

  it('draws only the faults that are asked for, from a corpus too', () => {
    const from = (kind: MediaFaultKind | undefined): FuzzCase => ({
      profile: 'nvme-512',
      through: 'direct',
      diskBytes: 1024 * 1024,
      search: { strategy: 'exhaustive', depth: 1 },
      ...(kind === undefined ? {} : { faults: { kind, skip: 0 } }),
      steps: [{ do: 'put', key: `/state/from/${kind}`, bytes: 1, seed: 1, commit: 'ordered' }],
    });
    const drawn = (faults: readonly MediaFaultKind[]) => {
      const corpus = [from(undefined), from('bit-rot'), from('stale-read')];
      const fuzzer = new Fuzzer({ seed: 2, maxRecoveries: 5, corpus, faults });
      const cases = Array.from({ length: 40 }, () => fuzzer.next().case);
      return new Set(cases.map(({ faults: one }) => one?.kind));
    };
    expect(drawn([])).toEqual(new Set([undefined]));
    expect(drawn(['bit-rot'])).toEqual(new Set([undefined, 'bit-rot']));
  });

  it.each(explorableFaultKinds)('%s: a full store is no failure, what is no error of a store is one', (kind) => {
    const diskBytes = 96 * 1024;
    const search = { strategy: 'exhaustive', depth: 1 } as const;
    const key = (name: string, seed: number) => ({ key: name, bytes: 9000, seed, commit: 'checksummed' }) as const;
    const base = { profile: 'nvme-512', through: 'direct', diskBytes, search, faults: { kind, skip: 3 } } as const;
    const full = Array.from({ length: 8 }, (_, seed) => ({ do: 'put' as const, ...key(`/state/${seed}`, seed) }));
    expect(new Fuzzer({ maxRecoveries: 30 }).run({ ...base, steps: full }).failure).toBeUndefined();
    const none = [...full.slice(0, 1), { do: 'put' as const, ...key('no key of statefs', 1) }];
    const { failure } = new Fuzzer({ maxRecoveries: 30 }).run({ ...base, faults: { kind, skip: 0 }, steps: none });
    expect(failure?.message).toMatch(/^(the workload|recovery) failed: key: expected/);
  });

  it('goes on from what took a new path: a corpus leads to cases that the seed alone does not draw', () => {
    const from: FuzzCase = {
      profile: 'nvme-512',
      through: 'direct',
      diskBytes: 1024 * 1024,
      search: { strategy: 'exhaustive', depth: 1 },
      steps: [{ do: 'put', key: '/state/corpus/only', bytes: 7, seed: 1, commit: 'ordered' }, { do: 'kill' }],
    };
    const keysOf = (corpus: FuzzCase[]) => {
      const fuzzer = new Fuzzer({ seed: 3, maxRecoveries: 10, corpus });
      return Array.from({ length: 12 }, () => fuzzer.next().case.steps).flatMap((steps) =>
        steps.flatMap((step) => ('key' in step ? step.key : [])),
      );
    };
    expect(keysOf([from])).toContain('/state/corpus/only');
    expect(keysOf([])).not.toContain('/state/corpus/only');
  });

  it('holds what goes wrong with the power on against the recoveries after it', () => {
    const theCase: FuzzCase = {
      profile: 'nvme-512',
      through: 'direct',
      diskBytes: 96 * 1024,
      search: { strategy: 'exhaustive', depth: 1 },
      steps: [{ do: 'put', key: 'no key of statefs', bytes: 1, seed: 1, commit: 'ordered' }],
    };
    const { failure } = new Fuzzer().run(theCase);
    expect(failure?.message).toMatch(/^the workload's step 1, put no key of statefs .* failed: /);
  });

  it('a full store is met, and is no failure', () => {
    const steps = Array.from({ length: 12 }, (_, seed) => ({
      do: 'put' as const,
      key: `/state/${seed}`,
      bytes: 9000,
      seed,
      commit: 'checksummed' as const,
    }));
    const diskBytes = 96 * 1024;
    const search = { strategy: 'random', depth: 1, seed: 1, runs: 5 } as const;
    const theCase: FuzzCase = { profile: 'nvme-512', through: 'direct', diskBytes, search, steps };
    expect(new Fuzzer().run(theCase).failure).toBeUndefined();
    const failed: unknown[] = [];
    const run = { begin() {}, acknowledge() {}, fail: (op: unknown) => failed.push(op) };
    const scenario = fuzzScenario(theCase);
    const device = new MemoryDevice({ sectorCount: diskBytes / 512 });
    scenario.format(device);
    scenario.workload(device, run);
    expect(failed.length).toBeGreaterThan(0);
  });
});

describe('a case read from a file', () => {
  const sound = {
    profile: '4kn',
    through: 'virtio',
    diskBytes: 1024 * 1024,
    search: { strategy: 'random', depth: 2, seed: 1, runs: 3 },
    steps: [
      { do: 'put', key: '/state/a', bytes: 1, seed: 2, commit: 'ordered' },
      { do: 'sync' },
      {
        do: 'transaction',
        parts: [{ key: '/state/a' }, { key: '/state/b', bytes: 3, seed: 4 }],
        commit: 'checksummed',
      },
    ],
  };

  it('is the case that was written', () => {
    expect(fuzzCaseOf(JSON.parse(JSON.stringify(sound)))).toEqual(sound);
    const faulty = { ...sound, faults: { kind: 'lost-write', skip: 12 } };
    expect(fuzzCaseOf(JSON.parse(JSON.stringify(faulty)))).toEqual(faulty);
  });

  it.each([
    ['nothing', null, /case: expected an object, got null/],
    ['another profile', { ...sound, profile: 'floppy' }, /profile: expected nvme-512 or .*, got string "floppy"/],
    ['a disk of another size', { ...sound, diskBytes: 1e12 }, /diskBytes: expected a whole number/],
    ['steps that are no list', { ...sound, steps: {} }, /steps: expected a list/],
    ['too many steps', { ...sound, steps: new Array(10_001).fill({ do: 'sync' }) }, /steps: expected at most 10000/],
    ['an unknown step', { ...sound, steps: [{ do: 'format' }] }, /steps\[0\].do: expected put or/],
    ['a step without a key', { ...sound, steps: [{ do: 'delete' }] }, /steps\[0\].key: expected a string/],
    [
      'a transaction of nothing',
      { ...sound, steps: [{ do: 'transaction', parts: [], commit: 'ordered' }] },
      /parts: expected 1 to 64 parts/,
    ],
    ['a huge value', { ...sound, steps: [{ ...sound.steps[0], bytes: 1e15 }] }, /steps\[0\].bytes: expected/],
    ['faults that are no object', { ...sound, faults: 'bit-rot' }, /faults: expected an object, got string "bit-rot"/],
    ['an unknown fault', { ...sound, faults: { kind: 'moth', skip: 0 } }, /faults.kind: expected bit-rot or/],
    ['a fault that takes time', { ...sound, faults: { kind: 'latency-spike', skip: 0 } }, /faults.kind: expected/],
    ['a huge skip', { ...sound, faults: { kind: 'bit-rot', skip: 1e9 } }, /faults.skip: expected a whole number/],
    ['a search without a seed', { ...sound, search: { strategy: 'random', depth: 1, runs: 1 } }, /search.seed/],
  ])('%s is refused', (_name, value, message) => {
    expect(() => fuzzCaseOf(value)).toThrow(message);
  });
});
