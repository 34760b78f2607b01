import type { BlockDevice } from '../../blockdev/index.ts';
import { VirtualClock } from '../../core/index.ts';
import { type KeyValueContent, type KeyValueOp, KeyValueOracle, type Run, type Scenario } from '../../explore/index.ts';
import { type CommitMode, format, open, type StateFs, type StoreRules, soundRules } from '../../statefs/index.ts';
import type { StatePort } from '../../statefsd/index.ts';
import { RecordingPort, TwoKeysPort, valueIn } from './service-ports.ts';
import { contentOf, describeOperation, KnownValues } from './statefs-scenario.ts';

/** A service on the store, run as it is: what it does, and what it does again after a power cut. */
export interface ServiceWorkload {
  readonly name: string;
  readonly description: string;
  /** Size of the disk in units of 512 bytes. */
  readonly sectorCount: number;
  /** Done before the recording starts. */
  before?(store: StatePort): Promise<void>;
  /** The service at work. `restart` closes the store and opens it again, as an orderly restart does. */
  work(store: StatePort, restart: () => void): Promise<void>;
  /** What the service does when the device comes up. A function of what it finds in the store. Throws if it can't. */
  comeUp(store: StatePort): Promise<void>;
  /** What has to hold of the service's values at every moment; throws where it does not. */
  rule(found: (path: string) => Uint8Array | undefined): void;
}

/** Ways to run a service wrongly. Each loses what it has to keep, and the explorer must show it. */
export const serviceBreaks = {
  'two-keys': 'a record is stored as two values, one after the other',
  unsynced: 'a put is reported done before it is durable',
} as const;

export type ServiceBreak = keyof typeof serviceBreaks;

export interface ServiceScenarioOptions {
  /** Default 'checksummed'. */
  readonly commit?: CommitMode;
  /** A store with a rule taken away. Default: the sound one. */
  readonly rules?: StoreRules;
  /** Runs the service wrongly. */
  readonly broken?: ServiceBreak;
}

const CLOCK = new VirtualClock(1_700_000_000_000);
const STORE_ID = Uint8Array.from({ length: 16 }, (_, i) => 16 + i);

/**
 * A service on statefs: at every cut its rule holds, what it was told is done is there, and it comes up again and can go
 * on. Asynchronous, as services are: explore it with `exploreAsync`.
 */
export function serviceScenario(
  workload: ServiceWorkload,
  options: ServiceScenarioOptions = {},
): Scenario<KeyValueOp, KeyValueContent> {
  const { commit = 'checksummed', rules = soundRules, broken } = options;
  const openStore = (device: BlockDevice): StateFs => open(device, { commit, rules, clock: CLOCK });
  const isInTwoKeys = broken === 'two-keys';
  const portOf = (store: () => StateFs, run: Run<KeyValueOp>): StatePort => {
    const port = new RecordingPort(store, run, broken !== 'unsynced');
    return isInTwoKeys ? new TwoKeysPort(port) : port;
  };
  const values = new KnownValues();
  let oracle = new KeyValueOracle();
  return {
    name: workload.name,
    description: workload.description,
    disk: { sectorCount: workload.sectorCount },
    format: async (device) => {
      format(device, { storeId: STORE_ID });
      const store = openStore(device);
      await workload.before?.(portOf(() => store, UNRECORDED));
      oracle = new KeyValueOracle(contentOf(store, values));
      store.close();
    },
    workload: async (device, run) => {
      let store = openStore(device);
      const port = portOf(() => store, run);
      await workload.work(port, () => {
        store.close();
        store = openStore(device);
      });
    },
    recover: async (device, run) => {
      const store = openStore(device);
      run.observe(contentOf(store, values));
      await workload.comeUp(portOf(() => store, run));
      return contentOf(openStore(device), values);
    },
    invariant: (content, history) => {
      oracle.check(content, history);
      workload.rule((path) => valueIn(content, path, isInTwoKeys));
    },
    describe: describeOperation,
  };
}

/** What is done before the recording starts. */
const UNRECORDED: Run<KeyValueOp> = { begin: () => {}, acknowledge: () => {}, fail: () => {} };
