// Judges what a power cut left of a disk against the trace of what its clients did: each sector has to hold what was
// durable, or something that was written to it since. That is all that a flush promises; who finds a file system broken
// knows by this whether the disk is to blame. For disks whose sectors are whole after a cut: nvme-512 and 4kn.
import { closeSync, openSync, readSync } from 'node:fs';
import { TraceFile } from '../../dist/serve/index.js';

/**
 * @param tracePath a trace that ends with the cut
 * @param imagePath the image that was saved after it was resolved
 * @returns the number of sectors that were undecided
 * @throws naming the first sector that holds what it must not
 */
export function judgeCut(tracePath, imagePath) {
  const trace = new TraceFile(tracePath);
  const { sectorBytes, sectorCount } = trace.header;
  const zeros = Buffer.alloc(sectorBytes);
  const durable = new Map();
  const since = new Map();
  // A trim stays undecided until the sector is written again, flushed or not.
  const trimmed = new Set();
  const add = (sector, bytes, isTrim) => {
    if (!since.has(sector)) since.set(sector, []);
    since.get(sector).push(bytes);
    if (isTrim) trimmed.add(sector);
    else trimmed.delete(sector);
  };
  const settle = (sector) => {
    durable.set(sector, since.get(sector).at(-1));
    since.delete(sector);
  };
  for (const line of trace.lines()) {
    if (line.kind === 'cut') break;
    const data = 'data' in line ? Buffer.from(line.data, 'base64') : undefined;
    const count = data === undefined ? (line.sectorCount ?? 0) : data.length / sectorBytes;
    for (let i = 0; i < count; i++) {
      const bytes = data?.subarray(i * sectorBytes, (i + 1) * sectorBytes) ?? zeros;
      if (line.kind === 'base') durable.set(line.sector + i, bytes);
      else add(line.sector + i, bytes, line.kind === 'discard');
      if (line.fua) settle(line.sector + i);
    }
    if (line.kind === 'flush') for (const sector of [...since.keys()]) if (!trimmed.has(sector)) settle(sector);
  }
  const fd = openSync(imagePath, 'r');
  try {
    const found = Buffer.alloc(sectorBytes);
    for (let sector = 0; sector < sectorCount; sector++) {
      readSync(fd, found, 0, sectorBytes, sector * sectorBytes);
      const allowed = [durable.get(sector) ?? zeros, ...(since.get(sector) ?? [])];
      if (allowed.some((bytes) => bytes.equals(found))) continue;
      throw new Error(`sector ${sector} holds neither what was durable nor anything that was written to it since`);
    }
  } finally {
    closeSync(fd);
  }
  return [...since].filter(([, versions]) => versions.length > 0).length;
}
