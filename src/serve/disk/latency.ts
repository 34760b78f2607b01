import { describeValue } from '../../core/index.ts';
import type { OperationKind } from '../../faults/index.ts';
import { MAX_DELAY_MS } from './served-faults.ts';

const KINDS: readonly OperationKind[] = ['read', 'write', 'flush', 'discard', 'writeZeroes'];

/** How long, in milliseconds, the success of an operation of a kind is held back; fractions allowed. */
export type ServedLatency = Partial<Readonly<Record<OperationKind, number>>>;

/** The latencies of a served disk, to be changed while it is served. */
export class LatencyTable {
  readonly #byKindMs: Record<OperationKind, number> = { read: 0, write: 0, flush: 0, discard: 0, writeZeroes: 0 };

  /** Milliseconds. */
  of(kind: OperationKind): number {
    return this.#byKindMs[kind];
  }

  /**
   * Replaces all: a kind that is left out has none.
   * @throws TypeError, RangeError, and nothing is changed
   */
  set(latency: ServedLatency): void {
    for (const [kind, value] of Object.entries(latency)) {
      if (!(KINDS as readonly string[]).includes(kind)) {
        throw new RangeError(`latency: expected kinds of ${KINDS.join(', ')}, got ${describeValue(kind)}`);
      }
      if (typeof value !== 'number') throw new TypeError(`${kind}: expected milliseconds, got ${describeValue(value)}`);
      if (!(value >= 0 && value <= MAX_DELAY_MS)) {
        throw new RangeError(`${kind}: expected from 0 to ${MAX_DELAY_MS} ms, got ${value}`);
      }
    }
    for (const kind of KINDS) this.#byKindMs[kind] = latency[kind] ?? 0;
  }

  /** All of them. */
  get all(): Readonly<Record<OperationKind, number>> {
    return { ...this.#byKindMs };
  }
}
