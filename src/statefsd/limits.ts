import { assertInteger } from '../core/index.ts';

/** What the server gives to peers at most: a slow, dead or hostile one can't hold it. */
export interface Limits {
  /** Connections in all. Default 64. */
  readonly connections: number;
  /** Connections of one subject. Default 16. */
  readonly connectionsPerSubject: number;
  /** Requests of one connection that wait; then no more is read from it until some are answered. Default 16. */
  readonly queuedRequests: number;
  /** Requests that are carried out together and share a flush. Default 64. */
  readonly batchRequests: number;
  /** Bytes of answers that a peer has not taken; above, its requests wait. Default 256 KiB. */
  readonly unsentBytes: number;
  /** A frame that began to arrive has to end within this time. Default 10 s. */
  readonly frameTimeoutMs: number;
  /** Answers have to be taken within this time. Default 10 s. */
  readonly writeTimeoutMs: number;
  /** A connection on which nothing happens is closed after this time; clients connect again by themselves. Default 5 min. */
  readonly idleTimeoutMs: number;
}

const DEFAULTS: Limits = {
  connections: 64,
  connectionsPerSubject: 16,
  queuedRequests: 16,
  batchRequests: 64,
  unsentBytes: 256 * 1024,
  frameTimeoutMs: 10_000,
  writeTimeoutMs: 10_000,
  idleTimeoutMs: 300_000,
};

/** Fills in defaults. @throws TypeError, RangeError for what is no limit */
export function resolveLimits(limits: Partial<Limits> = {}): Limits {
  for (const [name, value] of Object.entries(limits)) {
    if (!Object.hasOwn(DEFAULTS, name)) throw new RangeError(`limits.${name}: there is no such limit`);
    assertInteger(value, `limits.${name}`, 1);
  }
  return { ...DEFAULTS, ...limits };
}
