import { type Choices, describeValue, type Prng } from '../core/index.ts';

/** The kinds of operation that a disk carries out. */
export type OperationKind = 'read' | 'write' | 'flush' | 'discard' | 'writeZeroes';

/** How long a simulated operation takes; the disk moves its virtual clock on by that. */
export interface LatencyPlan {
  /** Milliseconds, fractions allowed, at least 0. */
  latencyMs(kind: OperationKind, sectorCount: number): number;
}

/** The same for every operation of a kind; kinds left out take no time. */
export function fixedLatency(byKindMs: Partial<Readonly<Record<OperationKind, number>>>): LatencyPlan {
  for (const [kind, value] of Object.entries(byKindMs)) checkMs(value, `${kind} latency`);
  return { latencyMs: (kind) => byKindMs[kind] ?? 0 };
}

/** Uniform between two bounds, from a seeded source. */
export function randomLatency(prng: Prng, minimumMs: number, maximumMs: number): LatencyPlan {
  checkMs(minimumMs, 'minimumMs');
  checkMs(maximumMs, 'maximumMs');
  const spanMs = maximumMs - minimumMs;
  if (spanMs < 0) throw new RangeError(`maximumMs: expected at least ${minimumMs}, got ${maximumMs}`);
  return { latencyMs: () => minimumMs + (spanMs * prng.nextU32()) / 0xffff_ffff };
}

/** One of a list, chosen for each operation; the first is the undisturbed one. */
export function chosenLatency(choices: Choices, alternativesMs: readonly number[]): LatencyPlan {
  if (alternativesMs.length === 0) throw new RangeError('alternativesMs: expected at least one, got none');
  for (const value of alternativesMs) checkMs(value, 'alternativesMs');
  return { latencyMs: () => alternativesMs[choices.choose(alternativesMs.length, 'latency')]! };
}

function checkMs(value: unknown, label: string): void {
  if (typeof value !== 'number') throw new TypeError(`${label}: expected a number, got ${describeValue(value)}`);
  if (!(value >= 0 && Number.isFinite(value))) {
    throw new RangeError(`${label}: expected a finite number of at least 0, got ${value}`);
  }
}
