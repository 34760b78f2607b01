import { Sfc32, viewOf } from '../../core/index.ts';
import type { KeyValueContent } from '../../explore/index.ts';
import type { StateFsWorkload } from './statefs-scenario.ts';

const KEY = '/state/boot/control';
const MANIFEST_KEY = '/state/boot/manifest';
/** A signed manifest of an update: large enough to be torn. */
const MANIFEST_BYTES = 3000;

/** One of two system images that a boot loader may start. */
interface Slot {
  /** 0 is not bootable; the higher one is tried first. */
  readonly priority: number;
  readonly triesLeft: number;
  /** It has come up before. */
  readonly isConfirmed: boolean;
}

const MAGIC = 0x4c544342;

/** An A/B boot-control record: magic, generation, and four bytes a slot. */
function bootRecord(generation: number, a: Slot, b: Slot): Uint8Array {
  const record = new Uint8Array(16);
  const view = viewOf(record);
  view.setUint32(0, MAGIC, true);
  view.setUint32(4, generation, true);
  for (const [at, slot] of [a, b].entries()) {
    record[8 + 4 * at] = slot.priority;
    record[9 + 4 * at] = slot.triesLeft;
    record[10 + 4 * at] = slot.isConfirmed ? 1 : 0;
  }
  return record;
}

function manifest(build: number): Uint8Array {
  const bytes = new Uint8Array(MANIFEST_BYTES);
  new Sfc32(build).fill(bytes);
  return bytes;
}

/** There is exactly one slot to boot, at every moment. */
function hasOneChoice(content: KeyValueContent): void {
  const record = content.get(KEY);
  if (record === undefined || record.length !== 16 || viewOf(record).getUint32(0, true) !== MAGIC) {
    throw new Error(
      `${KEY}: expected a boot-control record, got ${record?.length ?? 'no'} bytes: the device can't boot`,
    );
  }
  const [a, b] = [8, 12].map((at) => {
    const [priority = 0, triesLeft = 0, isConfirmed = 0] = record.subarray(at, at + 3);
    return triesLeft > 0 || isConfirmed === 1 ? priority : 0;
  }) as [number, number];
  if (a === b) throw new Error(`${KEY}: slots A and B have priority ${a} both: the boot loader has no choice`);
}

const good: Slot = { priority: 14, triesLeft: 0, isConfirmed: true };

/** An update of slot B: its manifest is stored, it is marked for the next boot, counted down over three tries, confirmed; then A is retired. */
export const bootControl: StateFsWorkload = {
  name: 'boot-control',
  description: 'an A/B boot-control record that is switched and counted down',
  // Its extents stand out of reach of the search for the log's end: a torn superblock makes that read on for some 400 sectors.
  sectorCount: 2048,
  before: [{ kind: 'put', key: KEY, value: bootRecord(1, good, { priority: 0, triesLeft: 0, isConfirmed: false }) }],
  operations: [
    { kind: 'put', key: MANIFEST_KEY, value: manifest(2) },
    { kind: 'put', key: KEY, value: bootRecord(2, good, { priority: 15, triesLeft: 3, isConfirmed: false }) },
    'reopen',
    { kind: 'put', key: KEY, value: bootRecord(3, good, { priority: 15, triesLeft: 2, isConfirmed: false }) },
    { kind: 'put', key: KEY, value: bootRecord(4, good, { priority: 15, triesLeft: 1, isConfirmed: false }) },
    { kind: 'put', key: KEY, value: bootRecord(5, good, { priority: 15, triesLeft: 0, isConfirmed: true }) },
    { kind: 'delete', key: MANIFEST_KEY },
  ],
  rule: hasOneChoice,
};
