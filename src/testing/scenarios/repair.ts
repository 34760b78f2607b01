import type { BlockDevice } from '../../blockdev/index.ts';
import { VirtualClock } from '../../core/index.ts';
import { type KeyValueContent, type KeyValueOp, KeyValueOracle, type Scenario } from '../../explore/index.ts';
import {
  type FsckReport,
  format,
  fsck,
  open,
  type RepairRules,
  type StoreRules,
  soundRepair,
  soundRules,
} from '../../statefs/index.ts';

/** What a medium may lose of a store, in terms of the store that the repair scenarios start from. */
export type RepairCase =
  | 'superblock-newer'
  | 'superblock-older'
  | 'payload'
  | 'temp-frame'
  | 'commit-frame'
  | 'everything';

export const repairCases: readonly RepairCase[] = [
  'superblock-newer',
  'superblock-older',
  'payload',
  'temp-frame',
  'commit-frame',
  'everything',
];

/** What each case is, by the name of its scenario. */
export const repairs: Readonly<Record<string, RepairCase>> = Object.fromEntries(
  repairCases.map((name) => [`repair-${name}`, name]),
);

/** A repair with a rule taken away, and the store under it. */
export interface RepairBreak {
  readonly what: string;
  readonly repairRules: RepairRules;
  readonly rules: StoreRules;
}

/** Repairs with a rule taken away. */
export const repairBreaks: Readonly<Record<string, RepairBreak>> = {
  'new-life': {
    what: "a lost superblock copy is filled in with the predecessor of the other, by a store that can't tell",
    repairRules: { ...soundRepair, newLife: false },
    // A sound store notices the life that neither copy knows.
    rules: { ...soundRules, lostSuperblocks: false },
  },
};

export interface RepairScenarioOptions {
  /** A store, or a repair, with a rule taken away, to see the explorer object. */
  readonly rules?: StoreRules;
  readonly repairRules?: RepairRules;
}

const STORE_ID = Uint8Array.from({ length: 16 }, (_, i) => i);
const CLOCK = new VirtualClock(1_700_000_000_000);
const SECTOR_COUNT = 512;
/** Stands for a value that does not read; no key has it. */
const LOST = Uint8Array.of(0xde, 0xad);

const EXTENT = '/state/extent';
const RECORD = '/state/record';
const COMMIT = '/state/commit';
const LAST = '/state/last';

const value = (length: number, seed: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 7 + seed) & 0xff);

/** Values of the store before it is damaged. */
const CONTENT: KeyValueContent = new Map([
  [EXTENT, value(2500, 1)],
  [RECORD, value(100, 2)],
  [COMMIT, value(120, 3)],
  [LAST, value(30, 4)],
]);

/** Keys whose value each case loses. */
const LOSES: Readonly<Record<RepairCase, readonly string[]>> = {
  'superblock-newer': [],
  'superblock-older': [],
  payload: [EXTENT],
  'temp-frame': [RECORD],
  'commit-frame': [],
  everything: [EXTENT, RECORD],
};

/**
 * `fsck --repair` of a store that the medium has damaged, cut at any point, and repaired again: whatever the damage
 * left is there, byte for byte, before, during and after; a value that is lost is never given as something else; and
 * what a repair has reported stays repaired.
 */
export function repairScenario(
  damage: RepairCase,
  options: RepairScenarioOptions = {},
): Scenario<KeyValueOp, KeyValueContent> {
  const { rules = soundRules, repairRules = soundRepair } = options;
  const lost = LOSES[damage];
  const initial = new Map([...CONTENT].map(([key, bytes]) => [key, lost.includes(key) ? LOST : bytes]));
  const oracle = new KeyValueOracle(initial);
  const deletions = (): KeyValueOp[] => lost.map((key) => ({ kind: 'delete', key }));
  return {
    name: `repair-${damage}`,
    description: `fsck --repair after the medium lost: ${damage}`,
    disk: { sectorCount: SECTOR_COUNT },
    format: (device) => {
      makeStore(device);
      applyDamage(device, damage);
    },
    workload: (device, run) => {
      const operations = deletions();
      for (const operation of operations) run.begin(operation);
      checkRepaired(fsck(device, { repair: true, rules, repairRules }));
      for (const operation of operations) run.acknowledge(operation);
    },
    recover: (device, run) => {
      run.observe(contentOf(device, rules));
      const operations = deletions();
      for (const operation of operations) run.begin(operation);
      checkRepaired(fsck(device, { repair: true, rules, repairRules }));
      for (const operation of operations) run.acknowledge(operation);
      checkSettled(device, rules);
      return contentOf(device, rules);
    },
    invariant: (content, history) => oracle.check(content, history),
    describe: (operation) => (operation.kind === 'delete' ? `repair, deleting ${operation.key}` : 'repair'),
  };
}

function makeStore(device: BlockDevice): void {
  format(device, { storeId: STORE_ID });
  const store = open(device, { clock: CLOCK });
  for (const [key, bytes] of CONTENT) store.putAtomic(key, bytes);
  // Not closed: the newer superblock alone knows of the life that wrote all this.
}

/** The sectors that a case loses; the log starts at 16, and its groups take 2, 2, 2 and 2. */
function applyDamage(device: BlockDevice, damage: RepairCase): void {
  const unit = Math.max(device.sectorBytes, device.physicalSectorBytes) / device.sectorBytes;
  if (unit !== 1) throw new RangeError('repair: expected a disk whose groups start at each sector of 512 bytes');
  const zeros = new Uint8Array(device.sectorBytes);
  const lose = (sector: number): void => device.write(sector, zeros);
  const regionEnd = 16 + (SECTOR_COUNT - 16) / 2;
  if (damage === 'superblock-newer' || damage === 'everything') lose(0);
  if (damage === 'superblock-older') lose(8);
  if (damage === 'payload' || damage === 'everything') lose(regionEnd - 6 + 1);
  if (damage === 'temp-frame' || damage === 'everything') lose(18);
  if (damage === 'commit-frame' || damage === 'everything') lose(21);
  device.flush();
}

function checkRepaired({ verdict, check }: FsckReport): void {
  if (verdict === 'repaired' || verdict === 'clean') return;
  throw new Error(`fsck --repair says ${verdict}: ${check.findings.map(({ what }) => what).join('; ')}`);
}

/** What a repair has reported done is nothing to find any more. */
function checkSettled(device: BlockDevice, rules: StoreRules): void {
  const { verdict } = fsck(device, { rules });
  if (verdict !== 'clean') throw new Error(`after a repair fsck says ${verdict}`);
}

/** All that the store says; a value that it refuses as damaged is {@link LOST}. */
function contentOf(device: BlockDevice, rules: StoreRules): KeyValueContent {
  const store = open(device, { clock: CLOCK, rules });
  const content = new Map<string, Uint8Array>();
  for (const key of store.list())
    content.set(
      key,
      readOrLost(() => store.get(key)),
    );
  return content;
}

function readOrLost(read: () => Uint8Array): Uint8Array {
  try {
    return read();
  } catch (error) {
    if ((error as { code?: string }).code === 'EINTEGRITY') return LOST;
    throw error;
  }
}
