import fc from 'fast-check';
import { assertInteger, type Choices } from '../core/index.ts';
import type { KeyValueOp } from '../explore/index.ts';
import { type ProfileName, profiles, type ScheduledCut } from '../faults/index.ts';
import type { KeyValueStep } from './key-value-scenario.ts';

/** What a random workload is made of. */
export interface WorkloadOptions {
  /** Few, so that they are overwritten. Default: `a`, `b`, `c`. */
  readonly keys?: readonly string[];
  /** Largest value in bytes. Default 2000: a few sectors. */
  readonly maxBytes?: number;
  /** Default 6: short enough for every crash of theirs. */
  readonly maxSteps?: number;
  /** Whether the store is closed and opened in between. Default true. */
  readonly reopens?: boolean;
  /** Whether some operations are transactions. Default false. */
  readonly transactions?: boolean;
}

/** Sizes about the edges of sectors. */
const EDGES = [0, 1, 511, 512, 513, 1023, 1024, 1025];
const MAX_PARTS = 4;

/**
 * Workloads of a key-value store, for `keyValueScenario`. They shrink to fewer steps, and to smaller values. No two
 * values are alike, unless they are empty or of one byte: so none is taken for another.
 */
export function workloads(options: WorkloadOptions = {}): fc.Arbitrary<KeyValueStep[]> {
  const { keys = ['a', 'b', 'c'], maxBytes = 2000, maxSteps = 6, reopens = true, transactions = false } = options;
  assertInteger(maxBytes, 'maxBytes');
  assertInteger(maxSteps, 'maxSteps', 1);
  const sizes = fc.oneof(fc.constantFrom(...EDGES.filter((edge) => edge <= maxBytes)), fc.nat({ max: maxBytes }));
  const key = fc.constantFrom(...keys);
  const change: fc.Arbitrary<Draft> = fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('put' as const), key, bytes: sizes }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('delete' as const), key }) },
  );
  const parts = fc.array(change, { minLength: 1, maxLength: MAX_PARTS });
  const transaction = parts.map((ops): Draft => ({ kind: 'transaction', ops }));
  const step = fc.oneof(
    { weight: 6, arbitrary: change },
    { weight: transactions ? 2 : 0, arbitrary: transaction },
    { weight: reopens ? 1 : 0, arbitrary: fc.constant('reopen' as const) },
  );
  return fc.array(step, { minLength: 1, maxLength: maxSteps }).map((drafts) => {
    let count = 0;
    return drafts.map((draft) => (draft === 'reopen' ? draft : filled(draft, () => ++count)));
  });
}

type Draft =
  | { readonly kind: 'put'; readonly key: string; readonly bytes: number }
  | { readonly kind: 'delete'; readonly key: string }
  | { readonly kind: 'transaction'; readonly ops: readonly Draft[] };

/** Bytes that tell in which put, and where in it, they were written. */
function filled(draft: Draft, next: () => number): KeyValueOp {
  if (draft.kind === 'delete') return draft;
  if (draft.kind === 'transaction') return { kind: 'transaction', ops: draft.ops.map((op) => filled(op, next)) };
  const number = next();
  const value = new Uint8Array(draft.bytes);
  for (let i = 0; i < value.length; i++) value[i] = i % 2 === 0 ? number : i >> 1;
  return { kind: 'put', key: draft.key, value };
}

/** A power cut of a live disk, and what it leaves. */
export class PowerCut {
  /** For `disk.scheduleCut`. */
  readonly at: Required<Pick<ScheduledCut, 'nth' | 'when'>>;
  /** Which version each sector that is read keeps, in turn and over and over; 0 is the newest. */
  readonly answers: readonly number[];

  constructor(at: PowerCut['at'], answers: readonly number[]) {
    this.at = at;
    this.answers = answers;
  }

  /** For `new SimulatedDisk({ choices })`; a new one for each disk, as it counts. */
  choices(): Choices {
    let asked = 0;
    return { choose: (options) => (this.answers[asked++ % this.answers.length] as number) % options };
  }
}

export interface PowerCutOptions {
  /** The cut comes within so many device operations. Default 40. */
  readonly maxOperations?: number;
}

/** Power cuts for a `SimulatedDisk`. They shrink to the next operation, and to a disk that kept everything. */
export function powerCuts(options: PowerCutOptions = {}): fc.Arbitrary<PowerCut> {
  const { maxOperations = 40 } = options;
  assertInteger(maxOperations, 'maxOperations', 1);
  const at = fc.record({
    nth: fc.integer({ min: 1, max: maxOperations }),
    when: fc.constantFrom('during' as const, 'before' as const),
  });
  const answers = fc.array(fc.nat({ max: 11 }), { minLength: 1, maxLength: 64 });
  return fc.tuple(at, answers).map(([when, values]) => new PowerCut(when, values));
}

/** The disks that there are, the simplest first. */
export function diskProfiles(): fc.Arbitrary<ProfileName> {
  return fc.constantFrom(...(Object.keys(profiles) as ProfileName[]));
}
