import type { BlockDevice } from '../../blockdev/index.ts';
import { codeOf, VirtualClock } from '../../core/index.ts';
import { type KeyValueContent, type KeyValueOp, KeyValueOracle, type Run, type Scenario } from '../../explore/index.ts';
import type { ProfileName } from '../../faults/index.ts';
import {
  type FrameInfo,
  format,
  fsck,
  inspect,
  open,
  type StateFs,
  type StoreRules,
  soundRules,
} from '../../statefs/index.ts';

/** What the medium does to a store that is in use, before the scrub comes by. */
export type ScrubCase = 'superblock-newer' | 'superblock-older' | 'commit-frame' | 'dead-group' | 'second-copy';

export const scrubCases: readonly ScrubCase[] = [
  'superblock-newer',
  'superblock-older',
  'commit-frame',
  'dead-group',
  'second-copy',
];

/** What each case is, by the name of its scenario. */
export const scrubs: Readonly<Record<string, ScrubCase>> = Object.fromEntries(
  scrubCases.map((name) => [`scrub-${name}`, name]),
);

/** A scrub with a rule taken away, and the scenario that can't go without it. */
export interface ScrubBreak {
  readonly what: string;
  readonly rules: StoreRules;
  readonly scenario: ScrubCase;
  /** The medium on which it shows. */
  readonly profile: ProfileName;
}

export const scrubBreaks: Readonly<Record<string, ScrubBreak>> = {
  'scrub-cache': {
    what: 'a scrub believes what the store holds in memory',
    rules: { ...soundRules, scrub: { ...soundRules.scrub, reads: false } },
    scenario: 'dead-group',
    profile: 'nvme-512',
  },
  'scrub-place': {
    what: 'a scrub mends the newer superblock copy by writing over the older one, which is all that is left',
    rules: { ...soundRules, scrub: { ...soundRules.scrub, ownPlace: false } },
    scenario: 'superblock-newer',
    profile: '512e',
  },
  'scrub-flush': {
    what: 'a scrub reports a superblock copy as mended before the flush',
    rules: { ...soundRules, barriers: { ...soundRules.barriers, scrub: false } },
    scenario: 'superblock-newer',
    profile: 'nvme-512',
  },
};

export interface ScrubScenarioOptions {
  /** A store with a rule taken away, to see the explorer object. */
  readonly rules?: StoreRules;
}

const STORE_ID = Uint8Array.from({ length: 16 }, (_, i) => i);
const CLOCK = new VirtualClock(1_700_000_000_000);
const SECTOR_COUNT = 1024;
/** A piece of a scrub: less than the log, so that a put comes between two. */
const STEP_BYTES = 1024;
const UNSYNCED_PUTS = 2;

const LIVE = '/state/live';
const LARGE = '/state/large';
const IN_FLIGHT = '/state/in-flight';
/** Stands for a value that does not read. */
const LOST = Uint8Array.of(0xde, 0xad);
/** Not a key of the store: 1 where fsck finds nothing damaged, 0 where it does. */
const SOUND = '/fsck';

const value = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);
const put = (key: string, bytes: Uint8Array): KeyValueOp => ({ kind: 'put', key, value: bytes });
const YES = Uint8Array.of(1);
const NO = Uint8Array.of(0);

const BEFORE: KeyValueContent = new Map([
  [LIVE, value(90, 2)],
  [LARGE, value(2500, 3)],
]);

/** What the medium does; of a value that is spoiled only the open store knows a second copy. */
function spoiling(damage: ScrubCase): KeyValueOp[] {
  return damage === 'second-copy' ? [put(SOUND, NO), put(LIVE, LOST)] : [put(SOUND, NO)];
}

/** What a scrub does that says that all is mended. */
function mending(damage: ScrubCase): KeyValueOp[] {
  const right = put(LIVE, BEFORE.get(LIVE) as Uint8Array);
  return damage === 'second-copy' ? [put(SOUND, YES), right] : [put(SOUND, YES)];
}

/**
 * The medium spoils something of a store while it is in use, and a scrub that goes on beside puts finds and mends it. At
 * any cut everything is there, byte for byte; and once the scrub has said that all is mended, nothing is damaged any
 * more, whatever the cut.
 */
export function scrubScenario(
  damage: ScrubCase,
  options: ScrubScenarioOptions = {},
): Scenario<KeyValueOp, KeyValueContent> {
  const { rules = soundRules } = options;
  const openStore = (device: BlockDevice): StateFs =>
    open(device, { clock: CLOCK, rules, compaction: 'manual', acceptStale: true });
  const oracle = new KeyValueOracle(new Map([...BEFORE, [SOUND, YES]]));
  return {
    name: `scrub-${damage}`,
    description: `a scrub beside puts, after the medium spoiled: ${damage}`,
    disk: { sectorCount: SECTOR_COUNT },
    format: (device) => {
      format(device, { storeId: STORE_ID });
      const store = openStore(device);
      store.putAtomic(LIVE, value(80, 1));
      for (const [key, bytes] of BEFORE) store.putAtomic(key, bytes);
      store.close();
    },
    workload: (device, run) => {
      const store = openStore(device);
      const putAtomic = (length: number): void => {
        const op = put(IN_FLIGHT, value(length, 4));
        run.begin(op);
        apply(store, op);
        run.acknowledge(op);
      };
      // A superblock that is torn while it is written counts as damaged, on media that tear.
      const torn = put(SOUND, NO);
      run.begin(torn);
      if (damage === 'second-copy') store.compact();
      putAtomic(30);
      run.fail(torn);
      const spoiled = spoiling(damage);
      for (const op of spoiled) run.begin(op);
      spoil(device, damage);
      for (const op of spoiled) run.acknowledge(op);
      const mended = mending(damage);
      for (const op of mended) run.begin(op);
      if (scrubBesidePuts(store, run)) for (const op of mended) run.acknowledge(op);
      putAtomic(40);
    },
    recover: (device, run) => {
      run.observe(contentOf(device, openStore));
      const torn = put(SOUND, NO);
      const mended = mending(damage);
      for (const op of [torn, ...mended]) run.begin(op);
      const report = openStore(device).scrub();
      // What only the store that was open knew is lost with it.
      const end = report.damaged === report.mended ? run.acknowledge : run.fail;
      for (const op of mended) end.call(run, op);
      run.fail(torn);
      return contentOf(device, openStore);
    },
    invariant: (content, history) => oracle.check(content, history),
    describe: (op) => {
      if (op.kind !== 'put') return op.kind;
      if (op.value === LOST || op.value === NO) return 'the medium spoils something';
      return op.value === YES || op.key === LIVE ? 'scrub' : `put ${op.key} (${op.value.length} bytes)`;
    },
  };
}

/** Scrubs to the end, with unsynced puts between the steps. @returns whether it says that all is mended */
function scrubBesidePuts(store: StateFs, run: Run<KeyValueOp>): boolean {
  for (let puts = 0; ; puts++) {
    const report = store.scrubStep(STEP_BYTES);
    if (report !== undefined) return report.damaged === report.mended;
    if (puts >= UNSYNCED_PUTS) continue;
    // Never acknowledged: durable only with a later flush.
    const op = put(IN_FLIGHT, value(31 + puts, 5));
    run.begin(op);
    if (op.kind === 'put') store.put(op.key, op.value);
  }
}

function apply(store: StateFs, op: KeyValueOp): void {
  if (op.kind === 'put') store.putAtomic(op.key, op.value);
}

function contentOf(device: BlockDevice, openStore: (device: BlockDevice) => StateFs): KeyValueContent {
  const isSound = fsck(device).verdict === 'clean';
  const store = openStore(device);
  const content = new Map<string, Uint8Array>();
  for (const key of store.list()) content.set(key, readOrLost(store, key));
  content.set(SOUND, isSound ? YES : NO);
  return content;
}

function readOrLost(store: StateFs, key: string): Uint8Array {
  try {
    return store.get(key);
  } catch (error) {
    if (codeOf(error) === 'EINTEGRITY') return LOST;
    throw error;
  }
}

/** Spoils sectors of the medium, durably. */
function spoil(device: BlockDevice, damage: ScrubCase): void {
  const noise = new Uint8Array(device.sectorBytes).fill(0xa5);
  for (const sector of spoiledSectors(device, damage)) device.write(sector, noise);
  device.flush();
}

function spoiledSectors(device: BlockDevice, damage: ScrubCase): number[] {
  const { superblocks, groups, regionSectors } = inspect(device);
  if (damage === 'superblock-newer' || damage === 'superblock-older') {
    const copy = superblocks.find(({ inUse }) => inUse === (damage === 'superblock-newer'))?.copy;
    // The second copy stands half-way to the first region.
    return [copy === 0 ? 0 : regionSectors[0] / 2];
  }
  const ofKey = groups.filter(({ frames }) =>
    frames.some(({ operations }) => operations.some(({ key }) => key === LIVE)),
  );
  const framesOf = (which: number, types: readonly string[]): number[] =>
    (ofKey.at(which)?.frames ?? [])
      .filter(({ type, operations }) => types.includes(type) && operations.some(({ key }) => key === LIVE))
      .flatMap(sectorsOf);
  if (damage === 'dead-group') return framesOf(0, ['temp', 'commit']);
  return framesOf(-1, damage === 'commit-frame' ? ['commit'] : ['temp']);
}

function sectorsOf({ sector, sectorCount }: FrameInfo): number[] {
  return Array.from({ length: sectorCount }, (_, i) => sector + i);
}
