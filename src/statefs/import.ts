import type { BlockDevice } from '../blockdev/index.ts';
import type { Clock } from '../core/index.ts';
import { wrapDeviceError } from './errors.ts';
import type { ExportSummary } from './export-format.ts';
import { type ExportedRecord, readExport } from './export-reader.ts';
import { type FormatOptions, format, planFormat } from './format.ts';
import { HeldSuperblocks } from './held-superblocks.ts';
import { MAX_GROUP_OPERATIONS, MAX_PAYLOAD_BYTES } from './layout.ts';
import { open, type StateFs } from './store.ts';

/** Of payloads in one group; below what a transaction may hold. */
const BATCH_BYTES = 1024 * 1024;

export interface ImportOptions extends FormatOptions {
  /** Default: the machine's. */
  readonly clock?: Clock;
  /** For tests of the tests: false lets a store be seen before it is whole. */
  readonly isHeld?: boolean;
}

/**
 * Makes a store of the whole device that holds what an export says. What was on the device is gone with the first write;
 * until this returns there is no store on it, whatever happens, and then a whole one, durably.
 * @param chunks the export, in pieces of any size; read as needed
 * @throws StateFsError as `format`; EINVAL for what is no export, EPROTO for a newer one, EINTEGRITY for a damaged one,
 *   ENOSPC where the device is too small for it
 */
export function importStore(
  device: BlockDevice,
  chunks: Iterable<Uint8Array>,
  options: ImportOptions = {},
): ExportSummary {
  const { clock, isHeld = true, ...formatOptions } = options;
  const records = readExport(chunks);
  // What is no export leaves the device alone.
  let next = records.next();
  try {
    const { storeId, unitBytes, geometry } = planFormat(device, formatOptions);
    const held = isHeld ? new HeldSuperblocks(device, geometry.superblockSectors) : undefined;
    const target = held ?? device;
    format(target, { storeId, unitBytes });
    const store = open(target, {
      budgets: { payloadBytes: MAX_PAYLOAD_BYTES },
      ...(clock === undefined ? {} : { clock }),
    });
    const batch = new Batch(store);
    for (; next.done !== true; next = records.next()) batch.add(next.value);
    batch.write();
    store.close();
    held?.publish();
    return next.value;
  } catch (error) {
    throw wrapDeviceError(error, 'import');
  }
}

/** Records that are written as one group, where they are small: so they stand as close as compaction would put them. */
class Batch {
  readonly #store: StateFs;
  #records: ExportedRecord[] = [];
  #bytes = 0;

  constructor(store: StateFs) {
    this.#store = store;
  }

  add(record: ExportedRecord): void {
    if (this.#records.length === MAX_GROUP_OPERATIONS || this.#bytes + record.payload.length > BATCH_BYTES)
      this.write();
    this.#records.push(record);
    this.#bytes += record.payload.length;
  }

  write(): void {
    const records = this.#records;
    this.#records = [];
    this.#bytes = 0;
    const [first] = records;
    if (first === undefined) return;
    // A long value is more than a transaction takes.
    if (records.length === 1) this.#store.put(first.key, first.payload, { meta: first.envelope.meta });
    else {
      this.#store.transaction(
        (transaction) => {
          for (const { key, payload, envelope } of records) transaction.put(key, payload, { meta: envelope.meta });
        },
        { commit: 'checksummed', durable: false },
      );
    }
  }
}
