import { equalBytes, toHex } from '../../core/index.ts';
import type { History, HistoryEvent, KeyValueContent, KeyValueOp } from '../../explore/index.ts';
import { isPassing, type MediaFaultKind } from '../../faults/index.ts';
import { shortKey } from '../short-key.ts';
import { applyChange, changesOf, type Found } from './store.ts';

/**
 * What a store that carries out one operation after another may hold, given what happened:
 * - what was acknowledged is there, byte for byte; what was in flight at a cut is there as a whole or not at all;
 *   nothing else is there; what a recovery observed is settled;
 * - without a media fault that is all: a power cut alone must leave nothing unreadable and no store that won't open;
 * - with one, a value may be missing that the store reports as damaged, and it may refuse to open with EIO or
 *   EINTEGRITY where its design says so. Never other bytes, never silence; but for one thing: the last acknowledged
 *   operation may be gone as if it had never been: no store on one disk can tell its loss from a torn tail. Under a read
 *   that goes wrong until the power fails, only until then. A write or a flush that fails says so: it excuses nothing.
 */
export class StoreOracle {
  readonly #mayRefuse: boolean;
  readonly #known = new WeakMap<object, Allowed>();

  /** @param mayRefuse under a media fault the store may refuse to open: it has parts that are there once only */
  constructor(mayRefuse: boolean) {
    this.#mayRefuse = mayRefuse;
  }

  /** @throws Error that says what was expected and what was found */
  check(found: Found, history: History<KeyValueOp, Found>): void {
    const allowed = this.#allowedBy(history);
    if (found.refused !== undefined) {
      const isExcused = allowed.faults.isHung || (allowed.faults.any && this.#mayRefuse);
      // To call a store with something in it none invites to format it.
      if (isExcused && (!found.isBlank || allowed.contents().some(({ size }) => size === 0))) return;
      throw new Error(`the store does not open: ${found.refused}`);
    }
    if (!allowed.faults.any) checkUndamaged(found);
    const contents = allowed.contents();
    if (!contents.some((content) => agrees(found, content))) throw new Error(explain(found, contents));
  }

  #allowedBy(history: History<KeyValueOp, Found>): Allowed {
    const rest: History<KeyValueOp, Found>[] = [];
    let at: typeof history | undefined = history;
    let known: Allowed | undefined;
    for (; at?.last !== undefined; at = at.previous) {
      known = this.#known.get(at);
      if (known !== undefined) break;
      rest.push(at);
    }
    let allowed = known ?? new Allowed([{ content: EMPTY, before: undefined }], [], NO_FAULT);
    for (const step of rest.reverse()) {
      allowed = allowed.after(step.last!);
      if (step.last!.kind === 'cut') this.#known.set(step, allowed);
    }
    return allowed;
  }
}

const EMPTY: KeyValueContent = new Map();

/**
 * Acknowledged when the store was opened again with the power on. What a fault has hidden from it then, and what only the
 * last operation could tell of, it may go on without.
 */
export const RESTART: KeyValueOp = { kind: 'transaction', ops: [] };

/** One content that may be there, and what it was before its last operation. */
interface Candidate {
  readonly content: KeyValueContent;
  readonly before: KeyValueContent | undefined;
}

/**
 * What has gone wrong with the medium: anything; since the power came, a read that may go right the next time; and so
 * much that nothing can be read until the power is back.
 */
interface Faults {
  readonly any: boolean;
  /** One that may have taken bytes from the medium, or kept them from it. */
  readonly isLasting: boolean;
  readonly isPassing: boolean;
  readonly isHung: boolean;
}

const NO_FAULT: Faults = { any: false, isLasting: false, isPassing: false, isHung: false };

/** What may be there. Never changed once made. */
class Allowed {
  readonly faults: Faults;
  readonly #settled: readonly Candidate[];
  readonly #inFlight: readonly KeyValueOp[];

  constructor(settled: readonly Candidate[], inFlight: readonly KeyValueOp[], faults: Faults) {
    this.#settled = settled;
    this.#inFlight = inFlight;
    this.faults = faults;
  }

  contents(): readonly KeyValueContent[] {
    const all = this.#settled.flatMap((one) => this.#continuationsOf(one));
    return this.#withLost(all).map(({ content }) => content);
  }

  /** Each candidate, and what it was before its last operation where a fault may have taken that. */
  #withLost(candidates: readonly Candidate[]): Candidate[] {
    const isExcused = this.faults.isLasting || this.faults.isPassing;
    const lost = isExcused ? candidates.flatMap(({ before }) => before ?? []) : [];
    return [...candidates, ...lost.map((content) => ({ content, before: undefined }))];
  }

  after(event: HistoryEvent<KeyValueOp, Found>): Allowed {
    const inFlight = this.#inFlight;
    switch (event.kind) {
      case 'begin':
        return new Allowed(this.#settled, [...inFlight, event.op], this.faults);
      case 'acknowledge': {
        const earlier = this.#settled.flatMap((one) => this.#continuationsOf(one, event.op));
        if (event.op === RESTART) return new Allowed(this.#withLost(earlier), this.#without(event.op), this.faults);
        return new Allowed(
          earlier.map((one) => applied(one, event.op)),
          this.#without(event.op),
          this.faults,
        );
      }
      case 'fail':
        return new Allowed(this.#settled, this.#without(event.op), this.faults);
      case 'cut': {
        const faults = { ...this.faults, isPassing: false, isHung: false };
        return new Allowed(
          this.#settled.flatMap((one) => this.#continuationsOf(one)),
          [],
          faults,
        );
      }
      case 'observe':
        return this.#pinned(event.observation);
      case 'fault': {
        const isHung = this.faults.isHung || event.fault.kind === 'hung-request';
        const passes = isPassing(event.fault.kind);
        return new Allowed(this.#settled, inFlight, {
          any: true,
          isLasting: this.faults.isLasting || (!passes && !isReported(event.fault.kind)),
          isPassing: this.faults.isPassing || passes,
          isHung,
        });
      }
    }
  }

  /** With and without each operation in flight: one that failed in doubt stays in flight beside the next. */
  #continuationsOf(from: Candidate, until?: KeyValueOp): Candidate[] {
    let row = [from];
    for (const op of this.#inFlight) {
      if (op === until) break;
      row = [...row, ...row.map((one) => applied(one, op))];
    }
    return row;
  }

  #without(op: KeyValueOp): KeyValueOp[] {
    return this.#inFlight.slice(this.#inFlight.indexOf(op) + 1);
  }

  /** What was observed is settled; but what a fault hides may be gone for good, or be back when the fault is. */
  #pinned(found: Found): Allowed {
    if (found.refused !== undefined) return this;
    const fits = (one: Candidate) => this.#continuationsOf(one).some(({ content }) => agrees(found, content));
    const settled = this.#settled.filter(fits);
    if (settled.length > 0 && !this.faults.isPassing) return new Allowed(settled, this.#inFlight, this.faults);
    const lost = this.#settled.flatMap(({ before }) =>
      before !== undefined && agrees(found, before) ? [{ content: before, before: undefined }] : [],
    );
    return new Allowed([...this.#settled, ...lost], this.#inFlight, this.faults);
  }
}

/** Whether whoever writes is told that nothing became durable. */
function isReported(kind: MediaFaultKind): boolean {
  return kind === 'write-error' || kind === 'flush-error';
}

function applied(from: Candidate, op: KeyValueOp): Candidate {
  const { content } = from;
  const changes = changesOf(op);
  // Nothing is written for it: the last operation is still the one before.
  if (changes.every(({ kind, key }) => kind === 'delete' && !content.has(key))) return from;
  const changed = new Map(content);
  for (const change of changes) applyChange(changed, change);
  return { content: changed, before: content };
}

function checkUndamaged(found: Found): void {
  if (found.hasUnknownLoss) throw new Error('the store reports a loss, and nothing but the power has failed');
  for (const key of found.damaged) throw new Error(`${key}: reported as damaged, and nothing but the power has failed`);
}

/** Nothing in `found` contradicts the content; what is missing is reported. */
function agrees(found: Found, content: KeyValueContent): boolean {
  for (const [key, value] of found.values) {
    const expected = content.get(key);
    if (expected === undefined || !equalBytes(expected, value)) return false;
  }
  for (const key of content.keys()) {
    if (!found.values.has(key) && !found.damaged.has(key) && !found.hasUnknownLoss) return false;
  }
  return true;
}

function explain(found: Found, contents: readonly KeyValueContent[]): string {
  const lines = contents.map((content) => describe(content));
  const distinct = lines.filter((line, at) => lines.indexOf(line) === at);
  const reported = [...found.damaged].map((key) => `, ${shortKey(key)} damaged`).join('');
  return `expected ${distinct.join(' or ')}, got ${describe(found.values)}${reported}${firstDifference(found, contents)}`;
}

/** Where a value that looks like an allowed one is another; of each only the start is shown. */
function firstDifference(found: Found, contents: readonly KeyValueContent[]): string {
  for (const [key, value] of found.values) {
    const alike = contents.flatMap((content) => content.get(key) ?? []).filter(({ length }) => length === value.length);
    const [expected] = alike;
    if (expected === undefined || alike.some((one) => equalBytes(one, value))) continue;
    return `; ${shortKey(key)} differs first at byte ${value.findIndex((byte, at) => byte !== expected[at])}`;
  }
  return '';
}

/** Keys with the start of their values. */
function describe(values: KeyValueContent): string {
  const parts = [...values.keys()].sort().map((key) => {
    const value = values.get(key)!;
    return `${shortKey(key)}=${toHex(value.subarray(0, 4))}(${value.length})`;
  });
  return `{${parts.join(' ')}}`;
}
