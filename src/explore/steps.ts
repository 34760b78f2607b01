import { isDeepStrictEqual } from 'node:util';
import { type DiskState, describeFault, type Resolution } from '../faults/index.ts';
import type { HistoryEvent } from './history.ts';

/** One thing that a recovery did or met, in order. */
export type Step =
  | {
      readonly kind: 'read' | 'write' | 'fua' | 'flush' | 'discard' | 'writeZeroes';
      readonly sector: number;
      readonly sectorCount: number;
      /** A copy of what was written. */
      readonly bytes?: Uint8Array;
    }
  /** An open sector was touched, and turned out so. `newest` and `kept` are copies of its bytes. */
  | { readonly kind: 'keep'; readonly resolution: Resolution; readonly newest: Uint8Array; readonly kept: Uint8Array }
  | { readonly kind: 'tell'; readonly event: HistoryEvent<unknown, unknown> };

/** Writes down a recovery step by step: to compare two, or to tell one. */
export class StepLog {
  readonly steps: Step[] = [];

  operation(
    kind: 'read' | 'write' | 'fua' | 'flush' | 'discard' | 'writeZeroes',
    sector: number,
    sectorCount: number,
    source?: Uint8Array,
  ): void {
    this.steps.push({ kind, sector, sectorCount, ...(source === undefined ? {} : { bytes: source.slice() }) });
  }

  keep(state: DiskState, resolution: Resolution): void {
    const newest = state.versionBytes(resolution.sector, 0);
    const kept = resolution.kind === 'version' ? state.versionBytes(resolution.sector, resolution.index) : newest;
    this.steps.push({ kind: 'keep', resolution, newest, kept });
  }

  tell(event: HistoryEvent<unknown, unknown>): void {
    this.steps.push({ kind: 'tell', event });
  }
}

/** The first step at which two runs of one recovery differ, with both in words; undefined where they agree. */
export function firstDifference(
  one: readonly Step[],
  other: readonly Step[],
): { step: number; first: string; second: string } | undefined {
  for (let step = 0; step < Math.max(one.length, other.length); step++) {
    if (isDeepStrictEqual(one[step], other[step])) continue;
    return { step, first: describeStep(one[step]), second: describeStep(other[step]) };
  }
  return undefined;
}

/** A step in a few words. */
export function describeStep(step: Step | undefined): string {
  if (step === undefined) return 'nothing more';
  if (step.kind === 'flush') return 'flush';
  if (step.kind === 'tell') return step.event.kind === 'fault' ? describeFault(step.event.fault) : step.event.kind;
  if (step.kind === 'keep') return describeResolution(step.resolution);
  const bytes = step.bytes === undefined ? '' : `: ${shortHex(step.bytes)}`;
  return `${step.kind} ${describeSectors(step.sector, step.sectorCount)}${bytes}`;
}

function describeResolution(resolution: Resolution): string {
  const { sector, kind, index, versionCount, stamp } = resolution;
  if (kind === 'damaged') return `physical sector at ${sector} is damaged`;
  if (kind === 'intact') return `physical sector at ${sector} is intact`;
  const torn = stamp < 0 ? ', torn' : '';
  const age = index === 0 ? 'newest' : stamp === 0 ? 'old' : 'earlier';
  return `sector ${sector} keeps its ${age} version (${index + 1} of ${versionCount}${torn})`;
}

export function describeSectors(sector: number, sectorCount: number): string {
  return sectorCount === 1 ? `sector ${sector}` : `sectors ${sector}..${sector + sectorCount - 1}`;
}

/** The first bytes, in hexadecimal, from `offsetBytes` on. */
export function shortHex(bytes: Uint8Array, offsetBytes = 0): string {
  const part = bytes.subarray(offsetBytes, offsetBytes + 16);
  const hex = Array.from(part, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return offsetBytes + part.length < bytes.length ? `${hex}...` : hex;
}
