import { assertInteger, Sfc32 } from '../../core/index.ts';
import type { StateFsWorkload } from './statefs-scenario.ts';

/** Sectors beyond the value's own: superblocks, log, frame headers, room for probes. */
const SPARE_SECTORS = 512;
/** The largest that the scenario is offered for; recoveries grow with it. */
const MAX_SIZE = 8 * 1024 * 1024;

/**
 * One large value that replaces a small one.
 * @param sizeBytes default 1 MiB
 */
export function largeValue(sizeBytes: number = 1024 * 1024): StateFsWorkload {
  assertInteger(sizeBytes, 'size', 1, MAX_SIZE);
  const value = new Uint8Array(sizeBytes);
  new Sfc32(1).fill(value);
  const key = '/state/large/value';
  return {
    name: 'large-value',
    description: `a value of ${sizeBytes} bytes that replaces a small one`,
    // Two regions, each with room for the value in frames of a little less than 2 KiB.
    sectorCount: 2 * (Math.ceil(sizeBytes / 1900) * 4 + SPARE_SECTORS),
    before: [{ kind: 'put', key, value: value.slice(0, 100) }],
    operations: [{ kind: 'put', key, value }],
  };
}
