import type { BlockDevice } from '../../blockdev/index.ts';
import { CodedError } from '../../core/index.ts';
import type { KeyValueOp } from '../../explore/index.ts';

/** A change of one key. */
export type Change = Exclude<KeyValueOp, { readonly kind: 'transaction' }>;

/** One step of a workload: an operation, a restart without a power cut, the same without closing, or a checkpoint. */
export type Step = KeyValueOp | 'reopen' | 'kill' | 'checkpoint';

/** What a store gives when everything in it is read, and what it says that it can't give. */
export interface Found {
  readonly values: ReadonlyMap<string, Uint8Array>;
  /** Keys that it has and reports as unreadable. */
  readonly damaged: ReadonlySet<string>;
  /** It reports a loss without knowing of which keys. */
  readonly hasUnknownLoss: boolean;
  /** It refuses to open, with a coded error that says so. */
  readonly refused: string | undefined;
  /** It refuses because it sees no sign that there ever was a store. */
  readonly isBlank?: boolean;
}

/** A store of the benchmark, as made anew on a device. */
export interface OpenStore {
  /** Durable on return. @throws whatever the device throws; what the disk then holds is in doubt */
  apply(op: KeyValueOp): void;
  /** Does nothing in a store that has none. */
  checkpoint(): void;
  /** Everything under `keys` and whatever else there is. */
  find(keys: readonly string[]): Found;
  /** Ends this use, the power staying on. */
  close(): void;
  /** After a failure: it takes no more changes until it is opened anew. */
  readonly hasLatched: boolean;
}

/** How a store is made. */
export interface Store {
  readonly name: string;
  /** In units of 512 bytes; the stores of the benchmark but statefs want sectors of that size. */
  readonly sectorCount: number;
  format(device: BlockDevice): void;
  open(device: BlockDevice): OpenStore;
}

/** Damage that the store has noticed: the one kind of error, beside EIO, with which it may refuse. */
export function damaged(what: string): never {
  throw new CodedError('EINTEGRITY', what);
}

/** Contents without anything wrong, as they are now. */
export function intact(values: ReadonlyMap<string, Uint8Array>): Found {
  return { values: new Map(values), damaged: NONE, hasUnknownLoss: false, refused: undefined };
}

const NONE: ReadonlySet<string> = new Set();

/** The changes of an operation, in order. */
export function changesOf(op: KeyValueOp): readonly Change[] {
  return op.kind === 'transaction' ? op.ops.flatMap(changesOf) : [op];
}

/** Makes the change in a map. */
export function applyChange(values: Map<string, Uint8Array>, change: Change): void {
  if (change.kind === 'put') values.set(change.key, change.value);
  else values.delete(change.key);
}
