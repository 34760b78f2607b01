import type { BlockDevice } from '../blockdev/index.ts';
import { describeValue } from '../core/index.ts';
import { fail, wrapDeviceError } from './errors.ts';
import { check, type FsckProgress } from './fsck-check.ts';
import { type RepairRules, repair, soundRepair } from './fsck-repair.ts';
import { type FsckReport, verdictOf } from './fsck-report.ts';
import { type StoreRules, soundRules } from './rules.ts';

export interface FsckOptions {
  /** Puts in order what can be; see docs/storage/fsck.md for what that is. Default false: nothing is written. */
  readonly repair?: boolean;
  /** Called after each live value that was verified. */
  readonly onProgress?: FsckProgress;
  /** For tests of the tests: see {@link StoreRules} and {@link RepairRules}. */
  readonly rules?: StoreRules;
  readonly repairRules?: RepairRules;
}

/**
 * Checks the store on `device`: both superblocks, the log group by group as recovery reads it, every live value against
 * its SHA-256, and the accounts of space. What is wrong with the store is in the report, never thrown. The device stays
 * the caller's.
 * @throws StateFsError EROFS where a read-only device is to be repaired, EIO where the device fails
 */
export function fsck(device: BlockDevice, options: FsckOptions = {}): FsckReport {
  if (typeof options !== 'object' || options === null) {
    throw new TypeError(`options: expected an object, got ${describeValue(options)}`);
  }
  const { rules = soundRules, repairRules = soundRepair, onProgress = () => {} } = options;
  if (options.repair && device.readOnly)
    fail('EROFS', 'fsck: the device is read-only: open it for writing to repair it');
  try {
    // What is reported must not be what a device's cache can still lose.
    if (options.repair && rules.barriers.open) device.flush();
    const first = check(device, rules, onProgress);
    const verdict = verdictOf(first.result);
    const isMendable = first.result.findings.some((finding) => finding.repair !== undefined);
    if (!options.repair || !isMendable || first.survey === undefined) {
      return { verdict, check: first.result, repairs: [], after: undefined };
    }
    const repairs = repair(first.survey, first.result, rules, repairRules);
    const after = check(device, rules, onProgress).result;
    const isClean = verdictOf(after) === 'clean';
    return { verdict: isClean ? 'repaired' : 'beyond-repair', check: first.result, repairs, after };
  } catch (error) {
    throw wrapDeviceError(error, 'fsck');
  }
}
