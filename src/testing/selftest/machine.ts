import { type Clock, Sfc32, VirtualClock } from '../../core/index.ts';
import { type CutOutcome, SimulatedDisk } from '../../faults/index.ts';
import { format, open, type StoreRules, soundRules } from '../../statefs/index.ts';
import {
  Audit,
  Authority,
  baselinePolicy,
  type Connector,
  inProcess,
  type Policy,
  StateFsClient,
  StateFsService,
  type StatePort,
} from '../../statefsd/index.ts';
import { virtioStack } from '../../virtio/index.ts';

/** For tests of the tests: a machine with something wrong. What is left out is sound. */
export interface SelfTestVariant {
  /** The store, without one of its rules. */
  readonly rules?: StoreRules;
  /** The policy in force. */
  readonly policy?: Policy;
  /** Largest payload that the server takes; the self-test goes by {@link PAYLOAD_BYTES}. */
  readonly payloadBytes?: number;
  /** What stands between each client and the server. */
  readonly between?: (connector: Connector, subject: string) => Connector;
  /** What stands between a service and its client. */
  readonly port?: (client: StatePort, subject: string) => StatePort;
}

/** Largest payload on the machine. */
export const PAYLOAD_BYTES: number = 8 * 1024;
/** The application whose client the self-test is. */
export const APPLICATION = 'app.selftest';

/** 2 MiB. */
const SECTOR_COUNT = 4096;
const STORE_ID = Uint8Array.from({ length: 16 }, (_, i) => 0x40 + i);
const EPOCH_MS = 1_700_000_000_000;

/**
 * A machine: a disk that can lose power, behind a virtio ring, with the store on it, the server, and its clients. In
 * virtual time; the same every time.
 */
export class Machine {
  readonly disk: SimulatedDisk;
  readonly #variant: SelfTestVariant;
  readonly #clock: Clock = new VirtualClock(EPOCH_MS);
  readonly #service: StateFsService;
  readonly #clients: StateFsClient[] = [];
  /** Everything that the audit has of this life. */
  readonly audit: Audit = new Audit({ clock: this.#clock });

  /** A machine with a new disk. */
  static factory(variant: SelfTestVariant): Machine {
    const disk = new SimulatedDisk({ sectorCount: SECTOR_COUNT });
    format(virtioStack(disk).driver, { storeId: STORE_ID });
    return new Machine(disk, variant);
  }

  /** Boots from what is on `disk`. */
  private constructor(disk: SimulatedDisk, variant: SelfTestVariant) {
    this.disk = disk;
    this.#variant = variant;
    this.#service = new StateFsService({
      store: open(virtioStack(disk).driver, { clock: this.#clock, rules: variant.rules ?? soundRules }),
      authority: new Authority(variant.policy ?? baselinePolicy([APPLICATION.slice('app.'.length)])),
      audit: this.audit,
      budgets: { payloadBytes: variant.payloadBytes ?? PAYLOAD_BYTES },
      clock: this.#clock,
    });
  }

  /** A client on a channel of its own. */
  client(
    subject: string = APPLICATION,
    tampering: (connector: Connector) => Connector = (connector) => connector,
  ): StateFsClient {
    const between = this.#variant.between ?? ((connector) => connector);
    const connect = tampering(between(inProcess(this.#service, subject), subject));
    // The seed of the id only spreads clients over time; here there is one at a time.
    const client = new StateFsClient({ connect, clientId: clientIdOf(subject), clock: this.#clock });
    this.#clients.push(client);
    return client;
  }

  /** What a service has of the store. */
  port(subject: string): StatePort {
    const client = this.client(subject);
    return this.#variant.port?.(client, subject) ?? client;
  }

  /** Another machine, booted from a copy of the disk. */
  fork(): Machine {
    return new Machine(this.disk.clone(), this.#variant);
  }

  /** The power fails, unless it has already, and comes back: a copy of the machine, booted from what the cut left. */
  afterCut(outcome: CutOutcome): Machine {
    const disk = this.disk.clone();
    disk.cut();
    disk.powerOn(outcome);
    return new Machine(disk, this.#variant);
  }

  /** Lets go of clients and server. The disk stays as it is. */
  stop(): void {
    for (const client of this.#clients.splice(0)) client.close();
    this.#service.stop();
  }
}

function clientIdOf(subject: string): Uint8Array {
  const id = new Uint8Array(8);
  new Sfc32(subject.length).fill(id);
  return id;
}
