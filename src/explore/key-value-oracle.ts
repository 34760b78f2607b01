import { equalBytes } from '../core/index.ts';
import type { History, HistoryEvent } from './history.ts';
import { shortHex } from './steps.ts';

/** An operation of a key-value store. A transaction shows as a whole or not at all. */
export type KeyValueOp =
  | { readonly kind: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly kind: 'delete'; readonly key: string }
  | { readonly kind: 'transaction'; readonly ops: readonly KeyValueOp[] };

/** All that a store holds. */
export type KeyValueContent = ReadonlyMap<string, Uint8Array>;

/** More operations than this, each of which may or may not have happened, are too many to tell apart. */
const MAX_CANDIDATES = 1024;

/** What a store promises of operations in flight. */
export interface KeyValueOracleOptions {
  /** Operations in flight survive a cut in the order in which they began: a later one only with all before it. */
  readonly inOrder?: boolean;
}

/**
 * What a key-value store may hold, given what happened:
 * - acknowledged puts and deletes are there, byte for byte;
 * - what was in flight at a cut is there entirely or not at all, a transaction as a whole;
 * - nothing else changed or appeared;
 * - what a recovery observed is settled: what it reported gone does not come back.
 *
 * `invariant: (content, history) => oracle.check(content, history)`
 */
export class KeyValueOracle {
  /** What a history that ends in a cut comes to; many recoveries share it. */
  readonly #known = new WeakMap<object, Candidates>();
  readonly #start: Candidates;

  /** @param initial what the formatted store holds; nothing by default */
  constructor(initial: KeyValueContent = new Map(), options: KeyValueOracleOptions = {}) {
    this.#start = new Candidates([initial], [], options.inOrder ?? false);
  }

  /** @throws Error naming the key, what was expected and what was found, where the content is not allowed */
  check(content: KeyValueContent, history: History<KeyValueOp, KeyValueContent>): void {
    const allowed = this.#candidatesOf(history).possible();
    if (allowed.some((candidate) => equalContent(candidate, content))) return;
    throw new Error(explainDifference(content, allowed));
  }

  /** Every content that the history allows. */
  allowed(history: History<KeyValueOp, KeyValueContent>): readonly KeyValueContent[] {
    return this.#candidatesOf(history).possible();
  }

  #candidatesOf(history: History<KeyValueOp, KeyValueContent>): Candidates {
    // Back to what is known already, then forward over the rest.
    const rest: History<KeyValueOp, KeyValueContent>[] = [];
    let at: typeof history | undefined = history;
    let known: Candidates | undefined;
    for (; at?.last !== undefined; at = at.previous) {
      known = this.#known.get(at);
      if (known !== undefined) break;
      rest.push(at);
    }
    let candidates = known ?? this.#start;
    for (const step of rest.reverse()) {
      candidates = candidates.after(step.last!);
      if (step.last!.kind === 'cut') this.#known.set(step, candidates);
    }
    return candidates;
  }
}

/** The contents that may be, and the operations in flight. Never changed once made. */
class Candidates {
  readonly #contents: readonly KeyValueContent[];
  readonly #inFlight: readonly KeyValueOp[];

  readonly #inOrder: boolean;

  constructor(contents: readonly KeyValueContent[], inFlight: readonly KeyValueOp[], inOrder: boolean) {
    this.#contents = contents;
    this.#inFlight = inFlight;
    this.#inOrder = inOrder;
  }

  /** With and without each operation in flight. */
  possible(): readonly KeyValueContent[] {
    if (this.#inOrder) return distinct(this.#contents.flatMap((content) => this.#stagesOf(content)));
    let contents = this.#contents;
    for (const op of this.#inFlight) {
      contents = distinct([...contents, ...contents.map((content) => applied(content, op))]);
      if (contents.length > MAX_CANDIDATES) {
        throw new Error(
          `oracle: more than ${MAX_CANDIDATES} contents are possible: fewer operations in flight, please`,
        );
      }
    }
    return contents;
  }

  after(event: HistoryEvent<KeyValueOp, KeyValueContent>): Candidates {
    switch (event.kind) {
      case 'begin':
        return this.#with(this.#contents, [...this.#inFlight, event.op]);
      case 'acknowledge':
        return this.#with(
          this.#contents.map((content) => applied(content, event.op)),
          this.#without(event.op),
        );
      case 'fail':
        return this.#with(this.#contents, this.#without(event.op));
      case 'cut':
        return this.#with(this.possible(), []);
      case 'fault':
        return this;
      case 'observe':
        return this.#pinned(event.observation);
    }
  }

  /** The content after none, one, two, ... of the operations in flight. */
  #stagesOf(content: KeyValueContent): KeyValueContent[] {
    const stages = [content];
    for (const op of this.#inFlight) stages.push(applied(stages.at(-1) as KeyValueContent, op));
    return stages;
  }

  #with(contents: readonly KeyValueContent[], inFlight: readonly KeyValueOp[]): Candidates {
    return new Candidates(contents, inFlight, this.#inOrder);
  }

  #without(op: KeyValueOp): KeyValueOp[] {
    return this.#inFlight.filter((other) => other !== op);
  }

  /** What is in flight stays so, shown or not: only its acknowledgement says that it is durable. */
  #pinned(observed: KeyValueContent): Candidates {
    const agrees = (content: KeyValueContent) =>
      this.#with([content], this.#inFlight)
        .possible()
        .some((possible) => equalContent(possible, observed));
    return this.#with(this.#contents.filter(agrees), this.#inFlight);
  }
}

function applied(content: KeyValueContent, op: KeyValueOp): KeyValueContent {
  const changed = new Map(content);
  apply(changed, op);
  return changed;
}

function apply(content: Map<string, Uint8Array>, op: KeyValueOp): void {
  if (op.kind === 'put') content.set(op.key, op.value);
  else if (op.kind === 'delete') content.delete(op.key);
  else for (const part of op.ops) apply(content, part);
}

function distinct(contents: readonly KeyValueContent[]): KeyValueContent[] {
  const kept: KeyValueContent[] = [];
  for (const content of contents) if (!kept.some((other) => equalContent(other, content))) kept.push(content);
  return kept;
}

function equalContent(a: KeyValueContent, b: KeyValueContent): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) {
    const other = b.get(key);
    if (other === undefined || (other !== value && !equalBytes(other, value))) return false;
  }
  return true;
}

function explainDifference(content: KeyValueContent, allowed: readonly KeyValueContent[]): string {
  const keys = new Set([...content.keys(), ...allowed.flatMap((candidate) => [...candidate.keys()])]);
  for (const key of keys) {
    const expected = allowed.map((candidate) => candidate.get(key));
    if (!expected.some((value) => equalValue(value, content.get(key)))) {
      return explainKey(key, content.get(key), expected);
    }
  }
  const changing = [...keys].filter((key) => !allowed.every((c) => equalValue(c.get(key), allowed[0]?.get(key))));
  return `only a part of an operation is visible: ${changing.map((key) => JSON.stringify(key)).join(', ')} do not belong together`;
}

function equalValue(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : equalBytes(a, b);
}

function explainKey(key: string, got: Uint8Array | undefined, expected: readonly (Uint8Array | undefined)[]): string {
  const alternatives = expected.filter((value, i) => expected.findIndex((other) => equalValue(other, value)) === i);
  const wanted = alternatives.map((value, i) => `${i === 0 ? '' : 'or '}${describeContent(value)}`).join(' ');
  const named = alternatives.length > 1 ? `${wanted} (old or new)` : wanted;
  const differs = alternatives.map((value) => firstDifferingByte(value, got)).filter((at) => at !== undefined);
  const where = differs.length === 0 ? '' : `; first differing byte ${Math.max(...differs)}`;
  return `key ${JSON.stringify(key)}: expected ${named}, got ${describeContent(got)}${where}`;
}

function describeContent(value: Uint8Array | undefined): string {
  return value === undefined ? 'nothing' : `${value.length} bytes ${shortHex(value)}`;
}

/** Of the alternative that agrees longest the difference tells most. */
function firstDifferingByte(expected: Uint8Array | undefined, got: Uint8Array | undefined): number | undefined {
  if (expected === undefined || got === undefined) return undefined;
  const length = Math.min(expected.length, got.length);
  for (let i = 0; i < length; i++) if (expected[i] !== got[i]) return i;
  return length;
}
