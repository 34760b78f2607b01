import type { BlockDevice } from '../../blockdev/index.ts';
import { codeOf, VirtualClock } from '../../core/index.ts';
import type { KeyValueOp } from '../../explore/index.ts';
import {
  type CommitMode,
  format,
  open,
  type StateFs,
  type StoreEvent,
  type StoreRules,
  soundRules,
} from '../../statefs/index.ts';
import { changesOf, type Found, type OpenStore, type Store } from './store.ts';

/** How statefs is run in the benchmark. */
export interface StateFsStoreOptions {
  /** Default `checksummed`. */
  readonly commit?: CommitMode;
  /** Default: the sound ones. */
  readonly rules?: StoreRules;
  /** What stands between statefs and the disk while it works; not while it is formatted. */
  readonly through?: (device: BlockDevice) => BlockDevice;
  /** What keys begin with in statefs. Default `/state/`. */
  readonly prefix?: string;
  /** In units of 512 bytes. Default 128. */
  readonly sectorCount?: number;
  /** How an operation is committed; undefined: as all others are. */
  readonly commitOf?: (op: KeyValueOp) => CommitMode | undefined;
  readonly onEvent?: (event: StoreEvent) => void;
  /** Told of each store that was opened, once it is. */
  readonly onOpen?: (store: StateFs) => void;
}

const STORE_ID = Uint8Array.from({ length: 16 }, (_, i) => i);
/** The same in every run: time is no part of a scenario. */
const CLOCK = new VirtualClock(1_700_000_000_000);

/** statefs as a store of the benchmark: key `a` is `/state/a`. */
export function stateFsStore(options: StateFsStoreOptions = {}): Store {
  const { commit = 'checksummed', rules = soundRules, through = (device) => device, sectorCount = 128 } = options;
  const { prefix = '/state/', commitOf = () => undefined, onEvent = () => {}, onOpen } = options;
  return {
    name: `statefs, ${commit}`,
    sectorCount,
    format(device) {
      format(device, { storeId: STORE_ID });
      open(device, { commit, clock: CLOCK }).close();
    },
    open(device) {
      const store = open(through(device), { commit, rules, clock: CLOCK, onEvent });
      onOpen?.(store);
      return new StateFsStore(store, prefix, commitOf);
    },
  };
}

class StateFsStore implements OpenStore {
  hasLatched = false;
  readonly #store: StateFs;
  readonly #prefix: string;
  readonly #commitOf: (op: KeyValueOp) => CommitMode | undefined;

  constructor(store: StateFs, prefix: string, commitOf: (op: KeyValueOp) => CommitMode | undefined) {
    this.#store = store;
    this.#prefix = prefix;
    this.#commitOf = commitOf;
  }

  apply(op: KeyValueOp): void {
    const commit = this.#commitOf(op);
    const how = commit === undefined ? {} : { commit };
    try {
      if (op.kind === 'put') this.#store.putAtomic(this.#prefix + op.key, op.value, how);
      else if (op.kind === 'delete') this.#store.delete(this.#prefix + op.key, how);
      else {
        this.#store.transaction((transaction) => {
          for (const change of changesOf(op)) {
            if (change.kind === 'put') transaction.put(this.#prefix + change.key, change.value);
            else transaction.delete(this.#prefix + change.key);
          }
        }, how);
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
        values.set(key, this.#store.get(this.#prefix + key));
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
      return this.#store.list().map((key) => key.slice(this.#prefix.length));
    } catch (error) {
      if (codeOf(error) !== 'EINTEGRITY') throw error;
      return [];
    }
  }
}
