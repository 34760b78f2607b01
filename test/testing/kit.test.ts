import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { explore, exploreAsync, type KeyValueOp, type Scenario } from '../../src/explore/index.ts';
import {
  assertSurvivesEveryCrash,
  crashMatchers,
  type KeyValueStep,
  type KeyValueStore,
  keyValueScenario,
} from '../../src/testing/index.ts';
import '../../src/testing/vitest.ts';
import { powerCuts, workloads } from '../../src/testing/fast-check.ts';

/** One value in one sector; the flush can be left out. */
function register(flushes: boolean): Scenario<number, number> {
  return {
    name: 'register',
    disk: { sectorCount: 8 },
    format() {},
    workload(device, run) {
      run.begin(7);
      device.write(0, new Uint8Array(512).fill(7));
      if (flushes) device.flush();
      run.acknowledge(7);
    },
    recover(device) {
      const sector = new Uint8Array(512);
      device.read(0, sector);
      return sector[0]!;
    },
    invariant(value, history) {
      const acknowledged = history.events.some(({ kind }) => kind === 'acknowledge');
      if (value !== 7 && (acknowledged || value !== 0)) throw new Error(`got ${value}`);
    },
  };
}

let calls = 0;
const moody: Scenario<number, number> = { ...register(true), recover: () => calls++, invariant() {} };

describe('toSurviveEveryCrash', () => {
  it('holds for what survives', async () => {
    await expect(register(true)).toSurviveEveryCrash();
    await expect(register(true)).toSurviveEveryCrash({ depth: 3, profile: 'harsh' });
  });

  it('fails with the story of the crash, and the line that repeats it', async () => {
    const failing = expect(expect(register(false)).toSurviveEveryCrash()).rejects;
    await failing.toThrow(/^register does not survive a power cut/);
    await failing.toThrow(/write sector 0 \(not durable yet\)[\s\S]*POWER CUT[\s\S]*VIOLATION: got 0/);
    await failing.toThrow(/repeat it alone: await replayAsync\(scenario, 'pc1\.\S+'\)/);
  });

  it('not: fails for what survives, holds for what breaks', async () => {
    await expect(register(false)).not.toSurviveEveryCrash();
    const surviving = expect(expect(register(true)).not.toSurviveEveryCrash()).rejects;
    await surviving.toThrow(/register: survives every crash: \d+ crash points, \d+ disk images, \d+ recoveries/);
  });

  it('fails either way where not every crash was explored', async () => {
    const partly = { maxRecoveries: 1 };
    for (const once of [expect(register(true)), expect(register(true)).not]) {
      await expect(once.toSurviveEveryCrash(partly)).rejects.toThrow(/not every crash was explored: stopped after 1/);
    }
  });

  it('fails for a recovery that is not deterministic', async () => {
    await expect(expect(moody).toSurviveEveryCrash()).rejects.toThrow(/two recoveries of one image differ/);
  });

  it('takes an asynchronous scenario, and refuses what is none', async () => {
    const { recover } = register(true);
    const later: Scenario<number, number> = { ...register(true), recover: async (device, run) => recover(device, run) };
    await expect(later).toSurviveEveryCrash();
    await expect(expect(5).toSurviveEveryCrash()).rejects.toThrow(/scenario: expected an object/);
  });

  it('is there for other test runners too', async () => {
    await assertSurvivesEveryCrash(register(true));
    await expect(assertSurvivesEveryCrash(register(false))).rejects.toThrow(/VIOLATION: got 0/);
    expect((await crashMatchers.toSurviveEveryCrash.call({}, register(false))).pass).toBe(false);
    expect((await crashMatchers.toSurviveEveryCrash.call({ isNot: true }, register(false))).pass).toBe(false);
  });
});

const mistakes = ['none', 'no flush', 'keeps the deleted', 'half a transaction', 'refuses after a crash'] as const;

/** All that it holds as JSON in one of two slots, by turns; sound but for one mistake. */
class JsonStore implements KeyValueStore {
  readonly #device: BlockDevice;
  readonly #mistake: (typeof mistakes)[number];
  #values: Record<string, string> = {};
  #generation = 0;

  constructor(device: BlockDevice, mistake: (typeof mistakes)[number]) {
    this.#device = device;
    this.#mistake = mistake;
    for (const slot of [0, 1]) {
      const sector = Buffer.alloc(512);
      device.read(slot, sector);
      const end = sector.indexOf(0);
      if (end <= 0) continue;
      const { generation, values } = JSON.parse(sector.toString('utf8', 0, end));
      if (generation > this.#generation) [this.#generation, this.#values] = [generation, values];
    }
  }
  put(key: string, value: Uint8Array): void {
    if (key.startsWith('powercut') && this.#mistake === 'refuses after a crash') throw new Error('no more');
    this.#values[key] = Buffer.from(value).toString('hex');
    this.#save();
  }
  delete(key: string): void {
    if (this.#mistake !== 'keeps the deleted') delete this.#values[key];
    this.#save();
  }
  transaction(ops: Parameters<NonNullable<KeyValueStore['transaction']>>[0]): void {
    for (const op of ops) {
      if (op.kind === 'put') this.#values[op.key] = Buffer.from(op.value).toString('hex');
      else if (op.kind === 'delete') delete this.#values[op.key];
      if (this.#mistake === 'half a transaction') this.#save();
    }
    this.#save();
  }
  entries(): [string, Uint8Array][] {
    return Object.entries(this.#values).map(([key, hex]) => [key, Buffer.from(hex, 'hex')]);
  }
  #save(): void {
    const sector = Buffer.alloc(512);
    sector.write(JSON.stringify({ generation: ++this.#generation, values: this.#values }));
    this.#device.write(this.#generation % 2, sector);
    if (this.#mistake !== 'no flush') this.#device.flush();
  }
}

const target = (mistake: (typeof mistakes)[number]) => ({
  name: 'json-store',
  sectorCount: 8,
  format: (device: BlockDevice) => device.writeZeroes(0, 2),
  open: (device: BlockDevice) => new JsonStore(device, mistake),
});

describe('keyValueScenario', () => {
  const put = (key: string, ...bytes: number[]): KeyValueStep => ({ kind: 'put', key, value: Uint8Array.from(bytes) });
  const same = put('a', 1);
  const steps: KeyValueStep[] = [
    same,
    same,
    'reopen',
    { kind: 'transaction', ops: [put('a', 2), put('b', 3)].filter((step) => step !== 'reopen') },
    { kind: 'delete', key: 'a' },
  ];

  it.each(mistakes)('a store with the mistake: %s', async (mistake) => {
    const scenario = keyValueScenario(target(mistake), steps);
    if (mistake === 'none') await expect(scenario).toSurviveEveryCrash();
    else await expect(scenario).not.toSurviveEveryCrash();
  });

  it.each(mistakes)('an asynchronous store is explored alike: %s', async (mistake) => {
    const later = {
      ...target(mistake),
      format: async (device: BlockDevice) => target(mistake).format(device),
      open: async (device: BlockDevice) => {
        const store = new JsonStore(device, mistake);
        return {
          put: async (key: string, value: Uint8Array) => store.put(key, value),
          delete: async (key: string) => store.delete(key),
          transaction: async (ops: readonly KeyValueOp[]) => store.transaction(ops),
          async *entries() {
            yield* store.entries();
          },
          close: async () => {},
        };
      },
    };
    const options = { maxViolations: 1 };
    const [now, waited] = [
      explore(keyValueScenario(target(mistake), steps), options),
      await exploreAsync(keyValueScenario(later, steps), options),
    ];
    expect({ ...waited, elapsedMs: 0 }).toEqual({ ...now, elapsedMs: 0 });
    expect(waited.clean).toBe(mistake === 'none');
  });

  it('says so where a workload has a transaction and the store has none', async () => {
    const { put, delete: remove, entries } = JsonStore.prototype;
    const plain = {
      ...target('none'),
      open: (device: BlockDevice) => {
        const store = new JsonStore(device, 'none');
        return { put: put.bind(store), delete: remove.bind(store), entries: entries.bind(store) };
      },
    };
    const exploring = expect(keyValueScenario(plain, steps)).toSurviveEveryCrash();
    await expect(exploring).rejects.toThrow('transaction: the store under test has none');
  });
});

describe('arbitraries', () => {
  it('workloads of all kinds, within their bounds, no two values alike', () => {
    const options = { keys: ['x', 'y'], maxBytes: 600, maxSteps: 9, transactions: true };
    const kinds = new Set<string>();
    const property = fc.property(workloads(options), (steps) => {
      const changes = steps.flatMap((step) =>
        step === 'reopen' ? [] : step.kind === 'transaction' ? step.ops : [step],
      );
      const values = changes.flatMap((op) => (op.kind === 'put' && op.value.length > 1 ? [op.value.join()] : []));
      for (const step of steps) kinds.add(step === 'reopen' ? step : step.kind);
      expect(new Set(values).size).toBe(values.length);
      expect(steps.length).toBeLessThanOrEqual(9);
      for (const op of changes) {
        if (op.kind !== 'transaction') expect(options.keys).toContain(op.key);
        if (op.kind === 'put') expect(op.value.length).toBeLessThanOrEqual(600);
      }
    });
    fc.assert(property, { seed: 1, numRuns: 100 });
    expect([...kinds].sort()).toEqual(['delete', 'put', 'reopen', 'transaction']);
    const plain = fc.sample(workloads({ reopens: false }), { seed: 1, numRuns: 100 }).flat();
    expect(plain.some((step) => step === 'reopen' || step.kind === 'transaction')).toBe(false);
  });

  it('a workload that breaks a store shrinks to what is needed', async () => {
    const property = fc.asyncProperty(workloads({ maxBytes: 20 }), async (steps) => {
      await expect(keyValueScenario(target('keeps the deleted'), steps)).toSurviveEveryCrash({ depth: 1 });
    });
    const { counterexample } = await fc.check(property, { seed: 1, numRuns: 50 });
    const [steps] = counterexample as [KeyValueStep[]];
    const changes = steps.flatMap((step) => (step === 'reopen' || step.kind === 'transaction' ? [] : [step]));
    expect(steps.length).toBeLessThanOrEqual(3);
    expect(changes.slice(0, 2)).toMatchObject([
      { kind: 'put' },
      { kind: 'delete', key: (changes[0] as { key: string }).key },
    ]);
    for (const op of changes) if (op.kind === 'put') expect(op.value.length).toBe(0);
  });

  it('power cuts answer again for each disk, and shrink to the next operation and a disk that kept everything', () => {
    const property = fc.property(powerCuts({ maxOperations: 9 }), (cut) => {
      const ask = () => {
        const choices = cut.choices();
        return Array.from({ length: 5 }, () => choices.choose(4, 'version'));
      };
      expect(ask()).toEqual(ask());
      expect(cut.at.nth).toBeLessThanOrEqual(9);
    });
    fc.assert(property, { seed: 1, numRuns: 100 });
    const never = fc.check(
      fc.property(powerCuts(), () => false),
      { seed: 1 },
    );
    expect(never.counterexample?.[0]).toMatchObject({ at: { nth: 1, when: 'during' }, answers: [0] });
  });
});
