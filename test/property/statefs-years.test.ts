/** Years of use of a small partition: all that a store can do, with restarts and cuts, beside a map. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { equalBytes, Sfc32, VirtualClock } from '../../src/core/index.ts';
import { SimulatedDisk } from '../../src/faults/index.ts';
import {
  exportStore,
  format,
  open,
  type Snapshot,
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
const QUOTA = '/state/a/';
const KEYS = Array.from({ length: 24 }, (_, i) => `/state/${i % 3 === 0 ? 'a' : 'b'}/${i}`);

type Content = Map<string, Uint8Array>;
type Changes = readonly (readonly [key: string, value: Uint8Array | undefined])[];

/** What happened in a case. */
class Totals {
  operations = 0;
  cuts = 0;
  moves = 0;
  full = 0;
  scrubs = 0;
  snapshotReads = 0;
  exports = 0;
}

type View = Pick<Snapshot, 'list' | 'has' | 'get' | 'close'>;

/** A snapshot, and what it has to show for as long as it is open. */
interface Frozen {
  readonly snapshot: View;
  readonly content: Content;
}

class Years {
  readonly totals = new Totals();
  readonly #random: Sfc32;
  readonly #rules: StoreRules;
  readonly #snapshotOf: (store: StateFs) => View;
  readonly #clock = new VirtualClock(1_700_000_000_000);
  readonly #disk: SimulatedDisk;
  #store: StateFs;
  #durable: Content = new Map();
  #pending: Changes[] = [];
  #frozen: Frozen[] = [];

  constructor(seed: number, rules: StoreRules, snapshotOf: (store: StateFs) => View = (store) => store.snapshot()) {
    this.#random = new Sfc32(seed);
    this.#rules = rules;
    this.#snapshotOf = snapshotOf;
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
    } else if (dice < 58) {
      const durable = this.#below(2) === 0;
      this.#change([[key, undefined]], durable, () => void store.delete(key, { durable }));
    } else if (dice < 73) this.#transaction();
    else if (dice < 77) this.#compact(() => store.compactStep(1 + this.#below(20_000)));
    else if (dice < 78) {
      if (this.#compact(() => store.compact())) this.#settle();
    } else if (dice < 83) store.scrubStep(1 + this.#below(20_000));
    else if (dice < 86) this.#snapshot(key);
    else if (dice < 89) {
      store.sync();
      this.#settle();
    } else if (dice < 90) this.#reopen();
    else if (dice < 92) this.#cut();
    else this.#read(key);
  }

  /** @returns whether it could be done: an open snapshot may stand where it would write to */
  #compact(run: () => unknown): boolean {
    try {
      run();
      return true;
    } catch (error) {
      if (!(error instanceof StateFsError) || error.code !== 'EBUSY' || this.#frozen.length === 0) throw error;
      return false;
    }
  }

  /** Takes one, or looks at one; one that has been looked at often enough is closed. */
  #snapshot(key: string): void {
    if (this.#frozen.length < 3 && this.#below(2) === 0) {
      this.#frozen.push({ snapshot: this.#snapshotOf(this.#store), content: this.#live() });
      return;
    }
    const at = this.#below(Math.max(1, this.#frozen.length));
    const one = this.#frozen[at];
    if (one === undefined) return;
    const { snapshot, content } = one;
    const shown = snapshot.list();
    expectThat(shown.join() === [...content.keys()].sort().join(), 'a snapshot shows other keys');
    const value = content.get(key);
    expectThat(snapshot.has(key) === (value !== undefined), `a snapshot: has ${key} is wrong`);
    if (value !== undefined) expectThat(equalBytes(snapshot.get(key), value), `a snapshot: ${key} has other bytes`);
    this.totals.snapshotReads++;
    if (this.#below(4) === 0) return;
    snapshot.close();
    this.#frozen.splice(at, 1);
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
      const mayBeFull = liveBytes + bytes > 0.4 * PARTITION_BYTES || this.#frozen.length > 0;
      expectThat(mayBeFull, `full with ${liveBytes} live bytes: ${error.message}`);
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
    if (this.#below(8) === 0) this.#export();
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
    const counted = [...found].filter(([key]) => key.startsWith(QUOTA));
    const bytes = counted.reduce((sum, [key, value]) => sum + key.length + value.length, 0);
    const [usage] = this.#store.stats().quotas;
    expectThat(
      usage?.keys === counted.length && usage.bytes === bytes,
      'the quota counts something else than there is',
    );
  }

  /** A store of the same contents and no history gives the same export. */
  #export(): void {
    const device = new MemoryDevice({ sectorCount: 2 * (PARTITION_BYTES / 512) });
    format(device);
    const plain = open(device, { clock: this.#clock });
    for (const [key, value] of this.#live()) plain.put(key, value);
    const bytesOf = (store: StateFs): Buffer => Buffer.concat([...exportStore(store)].map((chunk) => chunk.slice()));
    expectThat(bytesOf(plain).equals(bytesOf(this.#store)), 'equal contents give other exports');
    this.totals.exports++;
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
      const isBad = event.type === 'damage' || event.type === 'latched' || event.type === 'scrub-damage';
      expectThat(!isBad, `${event.type} where nothing was damaged`);
      if (event.type === 'scrub' && event.phase === 'finished') this.totals.scrubs++;
      if (event.type === 'compaction' && event.phase === 'finished') this.totals.moves++;
    };
    this.#frozen = [];
    const quotas = [{ prefix: QUOTA }];
    const store = open(this.#disk, { clock: this.#clock, rules: this.#rules, onEvent, quotas });
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

function yearsProperty(rules: StoreRules, operations: number, totals: Totals[], snapshotOf?: (store: StateFs) => View) {
  return fc.property(fc.integer({ min: 1 }), (seed) => {
    const years = new Years(seed, rules, snapshotOf);
    years.run(operations);
    totals.push(years.totals);
  });
}

test('a store of 256 KiB follows a map over 5,000 operations, whatever they are', () => {
  const name = 'a store of 256 KiB follows a map over 5,000 operations, whatever they are';
  holdProperty(FILE, name, yearsProperty(soundRules, OPERATIONS, []), { numRuns: 2 });
});

test('a case has all of it in plenty', () => {
  const totals: Totals[] = [];
  holdProperty(FILE, '', yearsProperty(soundRules, OPERATIONS, totals), { numRuns: 1, seed: 1 });
  if (isReplaying) return;
  for (const { cuts, moves, scrubs, snapshotReads, exports } of totals) {
    expect(cuts).toBeGreaterThan(50);
    expect(moves).toBeGreaterThan(50);
    expect(scrubs).toBeGreaterThan(10);
    expect(snapshotReads).toBeGreaterThan(20);
    expect(exports).toBeGreaterThan(2);
  }
});

test.each([
  ['tombstones', { ...soundRules, tombstones: false }],
  ['commit barrier', { ...soundRules, barriers: { ...soundRules.barriers, commit: false } }],
] as const)('it sees a store without its %s', (_name, rules) => {
  expect(isCaught(yearsProperty(rules, 1000, []), { numRuns: 3, seed: 1 })).toBe(true);
});

test('it sees a snapshot that goes on with its store', () => {
  const live = (store: StateFs): View => ({
    list: () => store.list(),
    has: (key) => store.has(key),
    get: (key) => store.get(key),
    close: () => {},
  });
  expect(isCaught(yearsProperty(soundRules, 1000, [], live), { numRuns: 3, seed: 1 })).toBe(true);
});
