import { assertInteger, describeValue } from '../core/index.ts';

/**
 * What a medium does wrong, power or no power.
 * - `bit-rot`: a bit of a sector is flipped, on every read until the sector is rewritten.
 * - `latent-error`: a sector can't be read, EIO, until it is rewritten.
 * - `stale-read`: a sector reads as it was before its last write, until it is rewritten or the power fails.
 * - `misdirected-read`: a request reads another place, until the power fails.
 * - `misdirected-write`: a request writes another place.
 * - `lost-write`: a request is acknowledged, and flushed with the others, and never written.
 * - `lying-flush`: a flush returns and has made nothing durable; a later one does.
 * - `read-error`: EIO once; the next try succeeds.
 * - `write-error`: EIO once; nothing, a first part or all of it was written.
 * - `flush-error`: EIO once; the cache has given up what it held: reads still see it, and no later flush makes it
 *   durable, until it is written again (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020).
 * - `latency-spike`: an operation takes long.
 * - `hung-request`: a request never completes. After the time-out it fails with EIO, and so does every later one until
 *   the power fails; a write may have been carried out.
 */
export type MediaFaultKind =
  | 'bit-rot'
  | 'latent-error'
  | 'stale-read'
  | 'misdirected-read'
  | 'misdirected-write'
  | 'lost-write'
  | 'lying-flush'
  | 'read-error'
  | 'write-error'
  | 'flush-error'
  | 'latency-spike'
  | 'hung-request';

export const mediaFaultKinds: readonly MediaFaultKind[] = [
  'bit-rot',
  'latent-error',
  'stale-read',
  'misdirected-read',
  'misdirected-write',
  'lost-write',
  'lying-flush',
  'read-error',
  'write-error',
  'flush-error',
  'latency-spike',
  'hung-request',
];

/** Those that need no time to pass: what an exploration can make happen. */
export const explorableFaultKinds: readonly MediaFaultKind[] = mediaFaultKinds.filter(
  (kind) => kind !== 'latency-spike',
);

/** A stretch of the disk. */
export interface MediaZone {
  readonly firstSector: number;
  readonly sectorCount: number;
}

/** Which faults may fire. */
export interface MediaOptions {
  readonly kinds: readonly MediaFaultKind[];
  /** In one run, from the start of the workload to the end of the last recovery. Default 1. */
  readonly maxFaults?: number;
  /** Only requests that start in it, and sectors in it, go wrong; elsewhere the medium is sound. Default: the disk. */
  readonly zone?: MediaZone;
  /** Bit rot flips one bit in every so many bytes of a sector, one place at a time. Default 64. */
  readonly rotStepBytes?: number;
}

/** A fault that fired. */
export interface MediaFault {
  readonly kind: MediaFaultKind;
  /** First sector of what it concerns; of a flush 0. */
  readonly sector: number;
  /** Of a flush 0. */
  readonly sectorCount: number;
  /**
   * Of bit rot the bit in the sector; of something misdirected the sector that it went to; of a write that failed how
   * many sectors were written; otherwise 0.
   */
  readonly detail: number;
}

/** A fault that stays at work. */
export interface ActiveFault {
  readonly fault: MediaFault;
  /** The version of the sector that it concerns, as the disk state numbers them: another one is not harmed. */
  readonly version: number;
}

/** What has fired so far, and what of it is still at work. Never changed once made. */
export interface MediaState {
  readonly fired: number;
  /** Bit rot and latent errors, as long as what they harmed is there; reads that go wrong, until the power fails. */
  readonly active: readonly ActiveFault[];
  /** A request hangs, and with it the disk. */
  readonly isHung: boolean;
}

export const noMediaFaults: MediaState = { fired: 0, active: [], isHung: false };

/** @throws TypeError, RangeError for options that make no sense */
export function resolveMedia(options: MediaOptions): Required<MediaOptions> {
  if (!Array.isArray(options.kinds)) {
    throw new TypeError(`faults.kinds: expected a list of kinds, got ${describeValue(options.kinds)}`);
  }
  const kinds = options.kinds as readonly MediaFaultKind[];
  if (kinds.length === 0) throw new RangeError(`faults.kinds: expected at least one of ${mediaFaultKinds.join(', ')}`);
  for (const kind of kinds) {
    if (mediaFaultKinds.includes(kind)) continue;
    throw new RangeError(`faults.kinds: expected some of ${mediaFaultKinds.join(', ')}, got ${describeValue(kind)}`);
  }
  const maxFaults = options.maxFaults ?? 1;
  const rotStepBytes = options.rotStepBytes ?? 64;
  assertInteger(maxFaults, 'faults.maxFaults', 1, 16);
  assertInteger(rotStepBytes, 'faults.rotStepBytes', 1, 4096);
  const zone = options.zone ?? { firstSector: 0, sectorCount: Number.MAX_SAFE_INTEGER };
  assertInteger(zone.firstSector, 'faults.zone.firstSector');
  assertInteger(zone.sectorCount, 'faults.zone.sectorCount', 1);
  return { kinds: mediaFaultKinds.filter((kind) => kinds.includes(kind)), maxFaults, rotStepBytes, zone };
}

/** One word that {@link parseMedia} reads. */
export function formatMedia(options: Required<MediaOptions>): string {
  const { kinds, maxFaults, rotStepBytes, zone } = options;
  return [kinds.join(','), maxFaults, rotStepBytes, zone.firstSector, zone.sectorCount].join('/');
}

/** @throws TypeError, RangeError for what {@link formatMedia} does not write */
export function parseMedia(text: string): Required<MediaOptions> {
  const [kinds = '', maxFaults, rotStepBytes, firstSector, sectorCount] = text.split('/');
  return resolveMedia({
    kinds: kinds.split(',') as MediaFaultKind[],
    maxFaults: Number(maxFaults),
    rotStepBytes: Number(rotStepBytes),
    zone: { firstSector: Number(firstSector), sectorCount: Number(sectorCount) },
  });
}

/** The fault in a few words. */
export function describeFault({ kind, sector, sectorCount, detail }: MediaFault): string {
  const where = sectorCount <= 1 ? `sector ${sector}` : `sectors ${sector}..${sector + sectorCount - 1}`;
  switch (kind) {
    case 'bit-rot':
      return `bit rot: bit ${detail & 7} of byte ${detail >>> 3} of ${where} is flipped`;
    case 'latent-error':
      return `latent error: ${where} can't be read`;
    case 'stale-read':
      return `stale read: ${where} reads as before its last write`;
    case 'misdirected-read':
      return `misdirected read: ${where} reads from sector ${detail}`;
    case 'misdirected-write':
      return `misdirected write: ${where} goes to sector ${detail}`;
    case 'lost-write':
      return `lost write: ${where} is acknowledged, and not written`;
    case 'write-error':
      return `write error: ${where}, of which ${detail} written`;
    case 'read-error':
      return `read error: ${where}, once`;
    case 'lying-flush':
      return 'lying flush: it makes nothing durable';
    case 'flush-error':
      return 'flush error: what was in the cache will not be made durable';
    case 'latency-spike':
      return 'latency spike';
    case 'hung-request':
      return `hung request: ${sectorCount === 0 ? 'a flush' : where} never completes`;
  }
}

/**
 * The state without what a rewrite of the sector mends.
 * @param version what was written; undefined: whatever was there before is gone for good
 */
export function mended(state: MediaState, sector: number, version: number | undefined): MediaState {
  const isMended = (one: ActiveFault) =>
    one.fault.kind !== 'misdirected-read' &&
    one.fault.sector === sector &&
    (version === undefined || one.version === version);
  return state.active.some(isMended) ? { ...state, active: state.active.filter((one) => !isMended(one)) } : state;
}

/** The state after a power cut: what is on the medium stays, what was in the controller goes. */
export function afterPowerCut(state: MediaState): MediaState {
  if (!state.isHung && state.active.every(isPersistent)) return state;
  return { fired: state.fired, active: state.active.filter(isPersistent), isHung: false };
}

function isPersistent({ fault }: ActiveFault): boolean {
  return fault.kind === 'bit-rot' || fault.kind === 'latent-error';
}

/** Whether what a recovery does not find because of this fault may be back after the next power cut. */
export function isPassing(kind: MediaFaultKind): boolean {
  return kind === 'stale-read' || kind === 'misdirected-read' || kind === 'read-error' || kind === 'hung-request';
}
