/** A store on a simulated disk beside a model of what it may hold: commands are run on both, and compared. */
import type { BlockDevice } from '../../src/blockdev/index.ts';
import { type Choices, equalBytes, Sfc32, VirtualClock } from '../../src/core/index.ts';
import { type FaultCounts, type ProfileName, profiles, SimulatedDisk } from '../../src/faults/index.ts';
import {
  type CommitMode,
  format,
  open,
  type RecoveryRow,
  type StateFs,
  StateFsError,
  type StoreRules,
} from '../../src/statefs/index.ts';
import { type VirtioStack, virtioStack } from '../../src/virtio/index.ts';

export type Through = 'virtio' | 'direct';

/** What a run starts from. */
export interface Setup {
  readonly profile: ProfileName;
  readonly through: Through;
  readonly diskBytes: number;
  readonly choices: Choices;
  readonly rules: StoreRules;
}

export type Command =
  | { readonly kind: 'putAtomic'; readonly key: string; readonly size: number; readonly commit: CommitMode }
  | { readonly kind: 'put'; readonly key: string; readonly size: number }
  | { readonly kind: 'delete'; readonly key: string; readonly commit: CommitMode }
  | { readonly kind: 'get' | 'list'; readonly key: string }
  /** `kill`: the program dies and the power stays on. */
  | { readonly kind: 'sync' | 'reopen' | 'kill' }
  /**
   * The power fails between two commands (`cut`), or at the nth device operation from here, within a command. It fails
   * once more at device operation `again` of the recovery that follows; 0: it does not.
   */
  | { readonly kind: 'cut'; readonly again: number }
  | { readonly kind: 'cutAt'; readonly nth: number; readonly when: 'before' | 'during'; readonly again: number };

type Content = ReadonlyMap<string, Uint8Array>;
type Change = readonly [key: string, value: Uint8Array | undefined];

/** What happened in all the runs of a property: one that fired no fault has shown nothing. */
export class Totals {
  cuts = 0;
  cutsInCommands = 0;
  cutsInRecovery = 0;
  lostSectors = 0;
  tornSectors = 0;
  tornWrites = 0;
  damagedPhysicalSectors = 0;
  fullStores = 0;
  readonly rows = new Set<RecoveryRow>();

  add(counts: Readonly<FaultCounts>): void {
    this.cuts += counts.cuts;
    this.lostSectors += counts.lostSectors;
    this.tornSectors += counts.tornSectors;
    this.tornWrites += counts.tornWrites;
    this.damagedPhysicalSectors += counts.damagedPhysicalSectors;
  }
}

const STORE_ID = new Uint8Array(16).fill(0x33);
/** Runs commands on a fresh store; throws at the first thing that the model does not allow. */
export function runCommands(setup: Setup, commands: readonly Command[], totals: Totals): void {
  const world = new World(setup, totals);
  for (const command of commands) world.run(command);
  world.run({ kind: 'cut', again: 0 });
  totals.add(world.disk.counts);
}

class World {
  readonly disk: SimulatedDisk;
  readonly #setup: Setup;
  readonly #totals: Totals;
  readonly #clock = new VirtualClock(1_700_000_000_000);
  readonly #stack: VirtioStack | undefined;
  #store: StateFs;
  /** What must be there after a cut. */
  #durable: Content = new Map();
  /** What was done since, in order; after a cut, some first part of it is there. */
  #pending: Change[] = [];
  #valueCount = 0;
  /** Operation of the next recovery at which the power fails again; 0: none. */
  #cutAgainAt = 0;

  constructor(setup: Setup, totals: Totals) {
    this.#setup = setup;
    this.#totals = totals;
    const { profile, choices } = setup;
    const sectorCount = setup.diskBytes / profiles[profile].sectorBytes;
    this.disk = new SimulatedDisk({ profile, choices, sectorCount });
    this.#stack = setup.through === 'virtio' ? virtioStack(this.disk) : undefined;
    format(this.#device, { storeId: STORE_ID });
    this.#store = this.#open();
  }

  run(command: Command): void {
    switch (command.kind) {
      case 'putAtomic': {
        const { key, commit } = command;
        const value = this.#nextValue(command.size);
        this.#change([key, value], true, () => this.#store.putAtomic(key, value, { commit }));
        break;
      }
      case 'put': {
        const { key } = command;
        const value = this.#nextValue(command.size);
        this.#change([key, value], false, () => this.#store.put(key, value));
        break;
      }
      case 'delete':
        this.#delete(command.key, command.commit);
        break;
      case 'sync':
        if (this.#attempt(() => this.#store.sync()) === 'done') this.#settle();
        break;
      case 'reopen':
        if (this.#attempt(() => this.#store.close()) === 'done') this.#settle();
        this.#restart();
        break;
      case 'kill':
        this.#restart();
        break;
      case 'cut':
        this.#cutAgainAt = command.again;
        this.disk.cut();
        this.#recover();
        break;
      case 'cutAt':
        this.#cutAgainAt = command.again;
        this.disk.scheduleCut(command);
        break;
      default:
        this.#read(command);
    }
  }

  #delete(key: string, commit: CommitMode): void {
    const existed = this.#live().has(key);
    let found: boolean | undefined;
    const remove = (): void => {
      found = this.#store.delete(key, { commit });
    };
    if (existed) this.#change([key, undefined], true, remove);
    else if (this.#attempt(remove) === 'done') this.#settle();
    if (found !== undefined) expectThat(found === existed, `delete ${key} said ${found}, expected ${existed}`);
  }

  #read(command: Command & { kind: 'get' | 'list' }): void {
    const { key, kind } = command;
    const live = this.#live();
    this.#attempt(() => {
      if (kind === 'list') {
        const prefix = key.slice(0, -1);
        const expected = [...live.keys()].filter((name) => name.startsWith(prefix)).sort();
        expectThat(this.#store.list(prefix).join() === expected.join(), `list ${prefix}: other keys than put`);
      } else {
        expectThat(this.#store.has(key) === live.has(key), `has ${key} is wrong`);
        if (live.has(key)) expectValue(key, this.#store.get(key), live.get(key));
      }
    });
  }

  /** Runs what changes one key; a cut on the way leaves it old or new. */
  #change(change: Change, durable: boolean, run: () => void): void {
    const before = this.#pending;
    this.#pending = [...before, change];
    const outcome = this.#attempt(run);
    if (outcome === 'full') {
      expectThat(change[1] !== undefined, `delete ${change[0]}: refused by a full store`);
      this.#totals.fullStores++;
      this.#pending = before;
    } else if (outcome === 'done' && durable) this.#settle();
  }

  /** Runs part of a command; a power cut in it is recovered from. */
  #attempt(run: () => void): 'done' | 'cut' | 'full' {
    try {
      run();
      return 'done';
    } catch (error) {
      if (!(error instanceof StateFsError)) throw error;
      if (this.disk.powered) {
        if (error.code === 'ENOSPC') return 'full';
        throw error;
      }
    }
    this.#totals.cutsInCommands++;
    this.#recover();
    return 'cut';
  }

  #settle(): void {
    this.#durable = this.#live();
    this.#pending = [];
  }

  /** What a reader must see now. */
  #live(): Content {
    return applied(this.#durable, this.#pending);
  }

  /** The program starts anew while the power is on: everything that was written is there. */
  #restart(): void {
    if (!this.#tryOpen()) {
      this.#recover();
      return;
    }
    this.#expectContent([this.#live()]);
  }

  /** Power on, and open; again and again where the power fails in recovery. Then everything is compared. */
  #recover(): void {
    this.disk.powerOn();
    if (this.#cutAgainAt > 0) this.disk.scheduleCut({ nth: this.#cutAgainAt });
    this.#cutAgainAt = 0;
    while (!this.#tryOpen()) {
      this.#totals.cutsInRecovery++;
      this.disk.powerOn();
    }
    const allowed = this.#pending.map((_, count) => applied(this.#durable, this.#pending.slice(0, count)));
    this.#expectContent([...allowed, this.#live()]);
  }

  #tryOpen(): boolean {
    try {
      this.#store = this.#open();
      return true;
    } catch (error) {
      if (error instanceof StateFsError && !this.disk.powered) return false;
      throw error;
    }
  }

  /** The store holds one of `allowed`, which is what must be there from now on. */
  #expectContent(allowed: readonly Content[]): void {
    const outcome = this.#attemptContent();
    if (outcome === undefined) return;
    const match = allowed.find((content) => equalContent(content, outcome));
    // Described only where it is wanted: it costs more than all the rest of a run.
    if (match === undefined) throw new Error(describeMismatch(outcome, allowed));
    this.#durable = match;
    this.#pending = [];
  }

  /** What the store holds; undefined where the power failed while it was read, which was recovered from. */
  #attemptContent(): Content | undefined {
    const content = new Map<string, Uint8Array>();
    const outcome = this.#attempt(() => {
      const { damage, recoveryRows } = this.#store.stats();
      expectThat(damage.length === 0, `a cut was taken for damage: ${damage[0]?.what}`);
      for (const row of recoveryRows.keys()) this.#totals.rows.add(row);
      for (const key of this.#store.list()) content.set(key, this.#store.get(key));
    });
    return outcome === 'done' ? content : undefined;
  }

  get #device(): BlockDevice {
    return this.#stack?.driver ?? this.disk;
  }

  #open(): StateFs {
    this.#stack?.restart(this.disk);
    return open(this.#device, { rules: this.#setup.rules, clock: this.#clock });
  }

  /** No two values are alike, unless they are empty. */
  #nextValue(size: number): Uint8Array {
    const value = new Uint8Array(size);
    new Sfc32(++this.#valueCount).fill(value);
    return value;
  }
}

function applied(content: Content, changes: readonly Change[]): Content {
  const result = new Map(content);
  for (const [key, value] of changes) {
    if (value === undefined) result.delete(key);
    else result.set(key, value);
  }
  return result;
}

function equalContent(a: Content, b: Content): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) {
    const other = b.get(key);
    if (other === undefined || !equalBytes(value, other)) return false;
  }
  return true;
}

function expectValue(key: string, got: Uint8Array, expected: Uint8Array | undefined): void {
  expectThat(expected !== undefined && equalBytes(got, expected), `get ${key}: other bytes than put`);
}

function describeMismatch(got: Content, allowed: readonly Content[]): string {
  const texts = allowed.map(describeContent);
  return `the store holds ${describeContent(got)}; allowed: ${[...new Set(texts)].join(' or ')}`;
}

function describeContent(content: Content): string {
  const parts = [...content].sort().map(([key, value]) => {
    const start = Buffer.from(value.subarray(0, 4)).toString('hex');
    return `${key}=${value.length}:${start}`;
  });
  return `{${parts.join(', ')}}`;
}

function expectThat(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(message);
}
