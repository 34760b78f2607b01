import type { MediaFault } from '../faults/index.ts';

/** What happened, as the world outside of the disk saw it. */
export type HistoryEvent<Op, Observation> =
  /** The operation was issued; from now on its effect may be there. */
  | { readonly kind: 'begin'; readonly op: Op }
  /** Success was reported; from now on its effect must be there. */
  | { readonly kind: 'acknowledge'; readonly op: Op }
  /** Failure was reported; its effect must not be there. */
  | { readonly kind: 'fail'; readonly op: Op }
  /** A recovery reported this. */
  | { readonly kind: 'observe'; readonly observation: Observation }
  | { readonly kind: 'cut' }
  /** Something failed beside the power: from now on what this may do to a store is allowed, as the invariant sees it. */
  | { readonly kind: 'fault'; readonly fault: MediaFault };

/**
 * A list of events that is never changed, only continued: histories that share a beginning share it in memory, and the
 * same object always means the same past. So an invariant may remember, by identity, what it made of a history.
 */
export class History<Op = unknown, Observation = unknown> implements Iterable<HistoryEvent<Op, Observation>> {
  /** The last event; undefined in the empty history. */
  readonly last: HistoryEvent<Op, Observation> | undefined;
  /** The history before `last`. */
  readonly previous: History<Op, Observation> | undefined;
  readonly length: number;

  constructor(previous?: History<Op, Observation>, last?: HistoryEvent<Op, Observation>) {
    this.previous = previous;
    this.last = last;
    this.length = previous === undefined ? 0 : previous.length + 1;
  }

  with(event: HistoryEvent<Op, Observation>): History<Op, Observation> {
    return new History(this, event);
  }

  /** The events, oldest first, in a new array. */
  get events(): HistoryEvent<Op, Observation>[] {
    const events: HistoryEvent<Op, Observation>[] = [];
    for (let at: History<Op, Observation> | undefined = this; at?.last !== undefined; at = at.previous) {
      events.push(at.last);
    }
    return events.reverse();
  }

  /** Operations that have begun and have not ended, oldest first; those of earlier lives, cut short, too. */
  get inFlight(): Op[] {
    const open: Op[] = [];
    for (const event of this.events) {
      if (event.kind === 'begin') open.push(event.op);
      else if (event.kind === 'acknowledge' || event.kind === 'fail') open.splice(open.indexOf(event.op), 1);
    }
    return open;
  }

  [Symbol.iterator](): Iterator<HistoryEvent<Op, Observation>> {
    return this.events.values();
  }
}
