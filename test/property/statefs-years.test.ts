/** Years of use of a small partition: every kind of change, compaction, restarts and cuts, beside a map. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { equalBytes, Sfc32, VirtualClock } from '../../src/core/index.ts';
import { SimulatedDisk } from '../../src/faults/index.ts';
import {
  format,
  open,
  type StateFs,
  StateFsError,
  type StoreEvent,
  type StoreRules,
  soundRules,
} from '../../src/statefs/index.ts';
import { holdProperty, isCaught, isReplaying } from './replay.ts';

const FILE = 'test/property/statefs-years.test.ts';
const PARTITION_BYTES = 256 * 1024;
const OPERATIONS = 5000;
const KEYS = Array.from({ length: 24 }, (_, i) => `/state/${i % 3 === 0 ? 'a' : 'b'}/${i}`);

type Content = Map<string, Uint8Array>;
type Changes = readonly (readonly [key: string, value: Uint8Array | undefined])[];

/** What happened in a case. */
class Totals {
  operations = 0;
  cuts = 0;
  moves = 0;
  full = 0;
}

class Years {
  readonly totals = new Totals();
  readonly #random: Sfc32;
  readonly #rules: StoreRules;
  readonly #clock = new VirtualClock(1_700_000_000_000);
  readonly #disk: SimulatedDisk;
  #store: StateFs;
  #durable: Content = new Map();
  #pending: Changes[] = [];

  constructor(seed: number, rules: StoreRules) {
    this.#random = new Sfc32(seed);
    this.#rules = rules;
    const choices = { choose: (options: number) => this.#below(options) };
    this.#disk = new SimulatedDisk({ profile: 'nvme-512', sectorCount: PARTITION_BYTES / 512, choices });
    format(this.#disk, { storeId: new Uint8Array(16).fill(9) });
    this.#store = this.#open();
  }

  run(operations: number): void {
    for (; this.totals.operations < operations; this.totals.operations++) this.#step(this.#below(100));
    this.#cut();
  }

  #step(dice: number): void {
    const key = this.#key();
    const store = this.#store;
    if (dice < 30) {
      const value = this.#value(9000);
      const commit = this.#below(2) === 0 ? 'ordered' : 'checksummed';
      this.#change([[key, value]], true, () => store.putAtomic(key, value, { commit }));
    } else if (dice < 48) {
      const value = this.#value(2500);
      this.#change([[key, value]], false, () => store.put(key, value));
    } else if (dice < 60) {
      const durable = this.#below(2) === 0;
      this.#change([[key, undefined]], durable, () => void store.delete(key, { durable }));
    } else if (dice < 78) this.#transaction();
    else if (dice < 83) store.compactStep(1 + this.#below(20_000));
    else if (dice < 84) {
      store.compact();
      this.#settle();
    } else if (dice < 88) {
      store.sync();
      this.#settle();
    } else if (dice < 90) this.#reopen();
    else if (dice < 92) this.#cut();
    else this.#read(key);
  }

  #transaction(): void {
    const durable = this.#below(2) === 0;
    const changes = Array.from({ length: 1 + this.#below(12) }, () => {
      const value = this.#below(3) === 0 ? undefined : this.#value(1500);
      return [this.#key(), value] as const;
    });
    this.#change(changes, durable, () =>
      this.#store.transaction(
        (tx) => {
          for (const [key, value] of changes) {
            if (value === undefined) tx.delete(key);
            else tx.put(key, value);
            expectThat(tx.has(key) === (value !== undefined), `${key}: a transaction does not see its own change`);
          }
        },
        { durable },
      ),
    );
  }

  #change(changes: Changes, durable: boolean, run: () => void): void {
    const { liveBytes } = this.#store.stats();
    const bytes = changes.reduce((sum, [, value]) => sum + (value === undefined ? 1024 : value.length + 2048), 0);
    try {
      run();
    } catch (error) {
      if (!(error instanceof StateFsError) || error.code !== 'ENOSPC') throw error;
      expectThat(liveBytes + bytes > 0.4 * PARTITION_BYTES, `full with ${liveBytes} live bytes: ${error.message}`);
      expectThat(
        changes.some(([, value]) => value !== undefined),
        'a deletion was refused by a full store',
      );
      this.totals.full++;
      return;
    }
    this.#pending.push(changes);
    if (durable) this.#settle();
  }

  #read(key: string): void {
    const expected = this.#live().get(key);
    expectThat(this.#store.has(key) === (expected !== undefined), `has ${key} is wrong`);
    if (expected !== undefined) expectThat(equalBytes(this.#store.get(key), expected), `get ${key}: other bytes`);
  }

  #reopen(): void {
    this.#store.close();
    this.#settle();
    this.#store = this.#open();
    this.#compare([this.#live()]);
  }

  #cut(): void {
    this.#disk.cut();
    this.#disk.powerOn();
    this.totals.cuts++;
    this.#store = this.#open();
    const allowed = [new Map(this.#durable)];
    for (const changes of this.#pending) allowed.push(applied(allowed[allowed.length - 1] as Content, changes));
    this.#compare(allowed);
  }

  #compare(allowed: readonly Content[]): void {
    const found: Content = new Map(this.#store.list().map((key) => [key, this.#store.get(key)]));
    // Compaction may have made durable what was not asked to be: the latest that fits is what is there.
    const match = allowed.findLast((content) => isEqual(content, found));
    expectThat(match !== undefined, `the store holds ${found.size} keys that no order of what was done gives`);
    this.#durable = match;
    this.#pending = [];
  }

  #settle(): void {
    this.#durable = this.#live();
    this.#pending = [];
  }

  #live(): Content {
    return this.#pending.reduce(applied, this.#durable);
  }

  #open(): StateFs {
    const onEvent = (event: StoreEvent): void => {
      expectThat(event.type !== 'damage' && event.type !== 'latched', `${event.type} where nothing was damaged`);
      if (event.type === 'compaction' && event.phase === 'finished') this.totals.moves++;
    };
    const store = open(this.#disk, { clock: this.#clock, rules: this.#rules, onEvent });
    expectThat(store.stats().damage.length === 0, 'a cut was taken for damage');
    return store;
  }

  #below(limit: number): number {
    return this.#random.below(limit);
  }

  #key(): string {
    return KEYS[this.#below(KEYS.length)] as string;
  }

  #value(limit: number): Uint8Array {
    const value = new Uint8Array(this.#below(4) === 0 ? this.#below(limit) : this.#below(300));
    this.#random.fill(value.subarray(0, 64));
    return value;
  }
}

function applied(content: Content, changes: Changes): Content {
  const result = new Map(content);
  for (const [key, value] of changes) {
    if (value === undefined) result.delete(key);
    else result.set(key, value);
  }
  return result;
}

function isEqual(a: Content, b: Content): boolean {
  return a.size === b.size && [...a].every(([key, value]) => b.has(key) && equalBytes(value, b.get(key) as Uint8Array));
}

function expectThat(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message);
}

function yearsProperty(rules: StoreRules, operations: number, totals: Totals[]) {
  return fc.property(fc.integer({ min: 1 }), (seed) => {
    const years = new Years(seed, rules);
    years.run(operations);
    totals.push(years.totals);
  });
}

test('a store of 256 KiB follows a map over 5,000 operations, whatever they are', () => {
  const name = 'a store of 256 KiB follows a map over 5,000 operations, whatever they are';
  const totals: Totals[] = [];
  holdProperty(FILE, name, yearsProperty(soundRules, OPERATIONS, totals), { numRuns: 2 });
  if (isReplaying) return;
  for (const { cuts, moves } of totals) {
    expect(cuts).toBeGreaterThan(20);
    expect(moves).toBeGreaterThan(20);
  }
});

test.each([
  ['tombstones', { ...soundRules, tombstones: false }],
  ['commit barrier', { ...soundRules, barriers: { ...soundRules.barriers, commit: false } }],
] as const)('it sees a store without its %s', (_name, rules) => {
  expect(isCaught(yearsProperty(rules, 1000, []), { numRuns: 3, seed: 1 })).toBe(true);
});
