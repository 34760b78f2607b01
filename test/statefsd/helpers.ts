import { type BlockDevice, MemoryDevice } from '../../src/blockdev/index.ts';
import { type Clock, VirtualClock, VirtualTimers } from '../../src/core/index.ts';
import { format, MAX_PAYLOAD_BYTES, open, type StateFs } from '../../src/statefs/index.ts';
import {
  Audit,
  type AuditSink,
  Authority,
  type ClientOptions,
  checkPolicy,
  inProcess,
  type Policy,
  type ServiceEvent,
  type ServiceOptions,
  StateFsClient,
  StateFsService,
} from '../../src/statefsd/index.ts';

export const EVERYTHING = ['put_atomic', 'put', 'get', 'delete', 'list'];

/** Two applications, each with its own folder; `root` may do everything; `nobody` is listed and may do nothing. */
export const POLICY: Policy = checkPolicy({
  subjects: ['app.a', 'app.b', 'root', 'nobody'],
  rules: [
    { subject: 'app.{id}', operations: EVERYTHING, path: '/state/apps/{id}/', effect: 'allow' },
    { subject: 'app.{id}', operations: ['list'], path: '/state/', effect: 'allow' },
    { subject: 'app.{id}', operations: ['sync', 'stats'], path: '/state/', effect: 'allow' },
    { subject: 'root', operations: EVERYTHING, path: '/state/', effect: 'allow' },
    { subject: 'root', operations: ['sync', 'stats', 'reopen'], path: '/state/', effect: 'allow' },
  ],
});

export interface WorldOptions {
  readonly device?: BlockDevice;
  readonly clock?: VirtualClock;
  readonly timers?: VirtualTimers;
  readonly policy?: Policy;
  readonly sinks?: readonly AuditSink[];
  readonly service?: Partial<ServiceOptions>;
}

/** A service on a store in memory, in virtual time. */
export class World {
  readonly clock: VirtualClock;
  readonly timers: VirtualTimers;
  readonly device: BlockDevice;
  readonly audit: Audit;
  readonly authority: Authority;
  readonly service: StateFsService;
  readonly events: ServiceEvent[] = [];

  constructor(options: WorldOptions = {}) {
    this.clock = options.clock ?? new VirtualClock(1_700_000_000_000);
    this.timers = options.timers ?? new VirtualTimers(this.clock);
    this.device = options.device ?? formattedDevice();
    this.audit = new Audit({ clock: this.clock, sinks: options.sinks ?? [] });
    this.authority = new Authority(options.policy ?? POLICY);
    this.service = new StateFsService({
      store: openStore(this.device, this.clock),
      authority: this.authority,
      audit: this.audit,
      clock: this.clock,
      timers: this.timers,
      onEvent: (event) => this.events.push(event),
      ...options.service,
    });
  }

  client(subject: string, options: Partial<ClientOptions> = {}): StateFsClient {
    return new StateFsClient({
      connect: inProcess(this.service, subject),
      clock: this.clock,
      timers: this.timers,
      ...options,
    });
  }

  /** Lets the service work until `promise` is settled, moving the clock on by a millisecond where nothing is due. */
  async settle<T>(promise: Promise<T>, limitMs = 100_000): Promise<T> {
    let isSettled = false;
    const mark = (): void => {
      isSettled = true;
    };
    promise.then(mark, mark);
    const endMs = this.clock.monotonicMs() + limitMs;
    for (;;) {
      for (let i = 0; i < 8; i++) await Promise.resolve();
      if (isSettled) return promise;
      if (this.timers.runDue() > 0) continue;
      if (this.clock.monotonicMs() > endMs) throw new Error(`nothing came of it within ${limitMs} ms of virtual time`);
      this.timers.advance(1);
    }
  }
}

export function formattedDevice(sectorCount = 2048): MemoryDevice {
  const device = new MemoryDevice({ sectorCount });
  format(device, { storeId: new Uint8Array(16).fill(7) });
  return device;
}

export function openStore(device: BlockDevice, clock: Clock): StateFs {
  return open(device, { clock, budgets: { payloadBytes: MAX_PAYLOAD_BYTES, softLatencyMs: Number.POSITIVE_INFINITY } });
}

/** The code with which a promise is rejected; 'none' where it is fulfilled. */
export async function codeOfRejection(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return (error as { code?: string }).code ?? `${(error as Error).name}: ${(error as Error).message}`;
  }
  return 'none';
}

/** Bytes that say which they are. */
export function payloadOf(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (Math.imul(i + 1, seed * 2_654_435_761) >>> 24) & 0xff);
}
