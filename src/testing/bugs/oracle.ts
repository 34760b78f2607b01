import { equalBytes, toHex } from '../../core/index.ts';
import type { History, HistoryEvent, KeyValueContent, KeyValueOp } from '../../explore/index.ts';
import { applyChange, changesOf, type Found } from './store.ts';

/**
 * What a store that carries out one operation after another may hold, given what happened:
 * - what was acknowledged is there, byte for byte; what was in flight at a cut is there as a whole or not at all;
 *   nothing else is there; what a recovery observed is settled;
 * - without a media fault that is all: a power cut alone must leave nothing unreadable and no store that won't open;
 * - with one, a value may be missing that the store reports as damaged, and it may refuse to open with EIO or
 *   EINTEGRITY where its design says so. Never other bytes, never silence; but for one thing: the last acknowledged
 *   operation may be gone as if it had never been. No store on one disk can tell its loss from a torn tail.
 */
export class StoreOracle {
  readonly #mayRefuse: boolean;
  readonly #known = new WeakMap<object, Allowed>();

  /** @param mayRefuse under a media fault the store may refuse to open: it has parts that it keeps once only */
  constructor(mayRefuse: boolean) {
    this.#mayRefuse = mayRefuse;
  }

  /** @throws Error that says what was expected and what was found */
  check(found: Found, history: History<KeyValueOp, Found>): void {
    const allowed = this.#allowedBy(history);
    if (found.refused !== undefined) {
      if (allowed.hasFault && this.#mayRefuse) return;
      throw new Error(`the store does not open: ${found.refused}`);
    }
    if (!allowed.hasFault) checkUndamaged(found);
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
    let allowed = known ?? new Allowed([EMPTY], [], [], false);
    for (const step of rest.reverse()) {
      allowed = allowed.after(step.last!);
      if (step.last!.kind === 'cut') this.#known.set(step, allowed);
    }
    return allowed;
  }
}

const EMPTY: KeyValueContent = new Map();

/** What may be there. Never changed once made. */
class Allowed {
  readonly hasFault: boolean;
  /** With every operation that has ended. */
  readonly #settled: readonly KeyValueContent[];
  /** Without the last one that was acknowledged. */
  readonly #before: readonly KeyValueContent[];
  readonly #inFlight: readonly KeyValueOp[];

  constructor(
    settled: readonly KeyValueContent[],
    before: readonly KeyValueContent[],
    inFlight: readonly KeyValueOp[],
    hasFault: boolean,
  ) {
    this.#settled = settled;
    this.#before = before;
    this.#inFlight = inFlight;
    this.hasFault = hasFault;
  }

  contents(): readonly KeyValueContent[] {
    const certain = this.#settled.flatMap((content) => this.#continuationsOf(content));
    return this.hasFault ? [...certain, ...this.#before] : certain;
  }

  after(event: HistoryEvent<KeyValueOp, Found>): Allowed {
    switch (event.kind) {
      case 'begin':
        return this.#with({ inFlight: [...this.#inFlight, event.op] });
      case 'acknowledge': {
        const before = this.#settled.flatMap((content) => this.#continuationsOf(content, event.op));
        const settled = before.map((content) => applied(content, event.op));
        return this.#with({ settled, before, inFlight: this.#without(event.op) });
      }
      case 'fail':
        return this.#with({ inFlight: this.#without(event.op) });
      case 'cut':
        return this.#with({ settled: this.#settled.flatMap((c) => this.#continuationsOf(c)), inFlight: [] });
      case 'observe':
        return this.#pinned(event.observation);
      default:
        return this.#with({ hasFault: true });
    }
  }

  #with(change: {
    settled?: readonly KeyValueContent[];
    before?: readonly KeyValueContent[];
    inFlight?: readonly KeyValueOp[];
    hasFault?: boolean;
  }): Allowed {
    return new Allowed(
      change.settled ?? this.#settled,
      change.before ?? this.#before,
      change.inFlight ?? this.#inFlight,
      change.hasFault ?? this.hasFault,
    );
  }

  /** The content with and without each operation in flight: one that failed in doubt stays in flight beside the next. */
  #continuationsOf(content: KeyValueContent, until?: KeyValueOp): KeyValueContent[] {
    let row = [content];
    for (const op of this.#inFlight) {
      if (op === until) break;
      row = [...row, ...row.map((one) => applied(one, op))];
    }
    return row;
  }

  #without(op: KeyValueOp): KeyValueOp[] {
    return this.#inFlight.slice(this.#inFlight.indexOf(op) + 1);
  }

  #pinned(found: Found): Allowed {
    if (found.refused !== undefined) return this;
    const fits = (content: KeyValueContent) => this.#continuationsOf(content).some((one) => agrees(found, one));
    const settled = this.#settled.filter(fits);
    const before = this.#before.filter((content) => agrees(found, content));
    if (settled.length > 0) return this.#with({ settled });
    return this.#with({ settled: before });
  }
}

function applied(content: KeyValueContent, op: KeyValueOp): KeyValueContent {
  const changed = new Map(content);
  for (const change of changesOf(op)) applyChange(changed, change);
  return changed;
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
  const reported = [...found.damaged].map((key) => `, ${key} damaged`).join('');
  return `expected ${distinct.join(' or ')}, got ${describe(found.values)}${reported}`;
}

/** Keys with the start of their values. */
function describe(values: KeyValueContent): string {
  const parts = [...values.keys()].sort().map((key) => {
    const value = values.get(key)!;
    return `${key}=${toHex(value.subarray(0, 4))}(${value.length})`;
  });
  return `{${parts.join(' ')}}`;
}
