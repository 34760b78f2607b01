import type { BlockDevice } from '../../blockdev/index.ts';
import { codeOf, VirtualClock } from '../../core/index.ts';
import type { KeyValueOp } from '../../explore/index.ts';
import { type CommitMode, format, open, type StateFs, type StoreRules, soundRules } from '../../statefs/index.ts';
import { changesOf, type Found, type OpenStore, type Store } from './store.ts';

/** How statefs is run in the benchmark. */
export interface StateFsStoreOptions {
  /** Default `checksummed`. */
  readonly commit?: CommitMode;
  /** Default: the sound ones. */
  readonly rules?: StoreRules;
  /** What stands between statefs and the disk while it works; not while it is formatted. */
  readonly through?: (device: BlockDevice) => BlockDevice;
}

const STORE_ID = Uint8Array.from({ length: 16 }, (_, i) => i);
/** The same in every run: time is no part of a scenario. */
const CLOCK = new VirtualClock(1_700_000_000_000);
const PREFIX = '/state/';

/** statefs as a store of the benchmark: key `a` is `/state/a`. */
export function stateFsStore(options: StateFsStoreOptions = {}): Store {
  const { commit = 'checksummed', rules = soundRules, through = (device) => device } = options;
  return {
    name: `statefs, ${commit}`,
    sectorCount: 128,
    format(device) {
      format(device, { storeId: STORE_ID });
      open(device, { commit, clock: CLOCK }).close();
    },
    open(device) {
      const layered = through(device);
      return new StateFsStore(open(layered, { commit, rules, clock: CLOCK }));
    },
  };
}

class StateFsStore implements OpenStore {
  hasLatched = false;
  readonly #store: StateFs;

  constructor(store: StateFs) {
    this.#store = store;
  }

  apply(op: KeyValueOp): void {
    try {
      if (op.kind === 'put') this.#store.putAtomic(PREFIX + op.key, op.value);
      else if (op.kind === 'delete') this.#store.delete(PREFIX + op.key);
      else {
        this.#store.transaction((transaction) => {
          for (const change of changesOf(op)) {
            if (change.kind === 'put') transaction.put(PREFIX + change.key, change.value);
            else transaction.delete(PREFIX + change.key);
          }
        });
      }
    } catch (error) {
      // Opening it again is always allowed, and settles what is in doubt.
      this.hasLatched = codeOf(error) === 'EIO';
      throw error;
    }
  }

  /** Its log is all that it has; at a checkpoint it looks whether everything is there. */
  checkpoint(): void {
    this.#store.scrub();
  }

  find(keys: readonly string[]): Found {
    const values = new Map<string, Uint8Array>();
    const damaged = new Set<string>();
    for (const key of new Set([...keys, ...this.#listed()])) {
      try {
        values.set(key, this.#store.get(PREFIX + key));
      } catch (error) {
        const code = codeOf(error);
        if (code === 'EINTEGRITY' || code === 'EIO') damaged.add(key);
        else if (code !== 'ENOENT') throw error;
      }
    }
    return { values, damaged, hasUnknownLoss: false, refused: undefined };
  }

  close(): void {
    this.#store.close();
  }

  /** All keys; none where it reports that it does not know them all. */
  #listed(): string[] {
    try {
      return this.#store.list().map((key) => key.slice(PREFIX.length));
    } catch (error) {
      if (codeOf(error) !== 'EINTEGRITY') throw error;
      return [];
    }
  }
}
