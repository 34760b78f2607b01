import type { KeyValueOp } from '../../explore/index.ts';
import type { MediaOptions } from '../../faults/index.ts';
import type { Step, Store } from './store.ts';

/** C: a power cut suffices to expose it. M: it takes a fault of the medium as well. */
export type BugFamily = 'C' | 'M';

/** One row of the benchmark: a store with one bug, or, as a control, a sound one. */
export interface BenchmarkCase {
  /** Of a bug, its number; of a control, its name. */
  readonly id: number | string;
  readonly family: BugFamily;
  readonly title: string;
  /** Where the bug was seen. */
  readonly source: string;
  /** Nothing is wrong with it, and nothing must be found. */
  readonly isControl: boolean;
  readonly store: Store;
  /** Faults of the medium that could expose it; undefined: a power cut does. */
  readonly media?: MediaOptions;
  /** Under a media fault the store may refuse to open: it has parts that it keeps once only. */
  readonly mayRefuse?: boolean;
  /** The operations that could expose it. */
  readonly steps: readonly Step[];
}

/** A value of one byte, repeated: what is torn shows. */
export function put(key: string, fill: number, bytes = 40): KeyValueOp {
  return { kind: 'put', key, value: new Uint8Array(bytes).fill(fill) };
}

export function del(key: string): KeyValueOp {
  return { kind: 'delete', key };
}

/** Several changes, all or none. */
export function batch(...ops: readonly KeyValueOp[]): KeyValueOp {
  return { kind: 'transaction', ops };
}
