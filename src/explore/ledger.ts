import type { PointSurvey } from './session.ts';
import type { Unit, UnitStart } from './unit.ts';

/** Of a number of machines, which one this is. */
export interface Shard {
  /** From 0 on. */
  readonly index: number;
  readonly count: number;
}

/** Order of units: that in which one thread runs them. */
export function compareStarts(a: UnitStart, b: UnitStart): number {
  if (a.point !== b.point) return a.point - b.point;
  const length = Math.min(a.start.length, b.start.length);
  for (let i = 0; i < length; i++) if (a.start[i] !== b.start[i]) return a.start[i]! - b.start[i]!;
  return a.start.length - b.start.length;
}

/** Which units are done and which are to be run. Each that is done tells where its part goes on. */
export class Ledger {
  readonly #done = new Map<string, Unit>();
  /** Neither done nor handed out; the next one at the end. */
  readonly #open: UnitStart[];
  /** Handed out. */
  readonly #running = new Map<string, UnitStart>();
  /** Nothing behind this counts: one thread would have ended there. */
  #horizon: Unit | undefined;

  /**
   * @param shard takes every so manieth crash point; all where it is undefined
   * @param before how many crash points other explorations had before: the shards go on taking turns
   */
  constructor(points: readonly PointSurvey[], shard: Shard | undefined, before: number) {
    const mine = points.filter((_, at) => shard === undefined || (before + at) % shard.count === shard.index);
    this.#open = mine.map(({ index }) => ({ point: index, start: [], fixed: 0, share: 1 })).reverse();
  }

  /** Units that are done, in order, up to and with the first that ends everything. */
  get done(): Unit[] {
    const units = [...this.#done.values()].sort(compareStarts);
    const horizon = this.#horizon;
    return horizon === undefined ? units : units.filter((unit) => compareStarts(unit, horizon) <= 0);
  }

  /** Units that are done, in order, up to the first that is not. */
  get prefix(): Unit[] {
    const first = [...this.#running.values(), ...this.#open.slice(-1)].sort(compareStarts)[0];
    return first === undefined ? this.done : this.done.filter((unit) => compareStarts(unit, first) < 0);
  }

  /** Whether anything is left to run. */
  get isOpen(): boolean {
    return this.#open.length > 0;
  }

  /** The next to be run, which is no longer open then. */
  take(): UnitStart | undefined {
    const next = this.#open.at(-1);
    if (next === undefined || (this.#horizon !== undefined && compareStarts(next, this.#horizon) > 0)) return undefined;
    this.#open.pop();
    this.#running.set(keyOf(next), next);
    return next;
  }

  /** @param ends whether one thread would end with it, whatever came before */
  add(unit: Unit, ends: boolean): void {
    this.#running.delete(keyOf(unit));
    this.#done.set(keyOf(unit), unit);
    if (ends && (this.#horizon === undefined || compareStarts(unit, this.#horizon) < 0)) this.#horizon = unit;
    for (const rest of unit.rest) this.#open.push({ point: unit.point, ...rest });
    this.#open.sort((a, b) => compareStarts(b, a));
  }

  /**
   * Takes over what an earlier run, or another machine, has done, as far as it is a part of this exploration.
   * @returns the units that were taken
   */
  adopt(units: readonly Unit[], ends: (unit: Unit) => boolean): Unit[] {
    const known = new Map(units.map((unit) => [keyOf(unit), unit]));
    const taken: Unit[] = [];
    for (let found = true; found; ) {
      found = false;
      for (const start of [...this.#open]) {
        const unit = known.get(keyOf(start));
        if (unit === undefined) continue;
        this.#open.splice(this.#open.indexOf(start), 1);
        this.add(unit, ends(unit));
        taken.push(unit);
        found = true;
      }
    }
    return taken;
  }
}

function keyOf({ point, start }: UnitStart): string {
  return `${point}:${start.join(',')}`;
}
