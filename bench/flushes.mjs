import { readFileSync, statSync } from 'node:fs';

/** Fields of /proc/diskstats (Documentation/admin-guide/iostats.rst): flush requests completed is the 16th figure. */
const FLUSHES_FIELD = 18;

/**
 * Counts the flushes that the disk under `path` has completed, on Linux 5.5 and later: it shows whether a put that says
 * it is durable asked the disk for it.
 * @returns {(() => number) | undefined} undefined where the system does not tell
 */
export function flushCounter(path) {
  const { dev } = statSync(path);
  // makedev(3), for the 32-bit numbers that Linux gives out.
  const major = (dev >>> 8) & 0xfff;
  const minor = ((dev >>> 12) & 0xfff00) | (dev & 0xff);
  const count = () => readCount(major, minor);
  return count() === undefined ? undefined : count;
}

function readCount(major, minor) {
  let text;
  try {
    text = readFileSync('/proc/diskstats', 'latin1');
  } catch {
    return undefined;
  }
  for (const line of text.split('\n')) {
    const fields = line.trim().split(/\s+/);
    if (Number(fields[0]) !== major || Number(fields[1]) !== minor) continue;
    return fields.length > FLUSHES_FIELD ? Number(fields[FLUSHES_FIELD]) : undefined;
  }
  return undefined;
}
