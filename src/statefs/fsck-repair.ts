import { messageOf, VirtualClock } from '../core/index.ts';
import { StateFsError } from './errors.ts';
import type { CheckResult } from './fsck-report.ts';
import { MAX_PAYLOAD_BYTES } from './layout.ts';
import type { StoreRules } from './rules.ts';
import { open, type StateFs } from './store.ts';
import { encodeSuperblock } from './superblock.ts';
import { type Frontier, SuperblockPair } from './superblock-pair.ts';
import type { Survey } from './survey.ts';

/**
 * What makes the repair sound, one switch each; taken away only in tests that see a checker object.
 */
export interface RepairRules {
  /**
   * A lost superblock copy may have been the newer one: both are written anew, with the end of the log as it was found,
   * under numbers that the lost one can't have used. Without: the survivor's predecessor is written in its place.
   */
  readonly newLife: boolean;
}

export const soundRepair: RepairRules = { newLife: true };

/**
 * Puts in order what `result` says can be, by operations of the store itself: each is atomic and durable when it
 * returns, so a repair that is cut short is done again from where it got to. Nothing that is committed is written over:
 * superblocks are written in turn, everything else is appended.
 * @returns what was done, one line each
 */
export function repair(found: Survey, result: CheckResult, rules: StoreRules, repairRules: RepairRules): string[] {
  const done: string[] = [];
  const { findings } = result;
  const isLost = findings.some((finding) => finding.repair === 'restore-superblock');
  const isInDoubt = findings.some((finding) => finding.repair === 'end-log');
  if (isLost || isInDoubt) restoreSuperblocks(found, rules, repairRules);
  if (isLost) done.push('restored the lost superblock copy');
  if (isInDoubt) done.push('recorded where the log ends');
  const lost = new Set(findings.flatMap(({ kind, keys }) => (kind === 'value-lost' ? keys : [])));
  const anew = new Set(findings.flatMap((finding) => (finding.repair === 'write-anew' ? finding.keys : [])));
  for (const key of lost) anew.delete(key);
  if (lost.size + anew.size === 0) return done;
  const store = open(found.device, {
    rules,
    clock: new VirtualClock(),
    acceptStale: true,
    budgets: { payloadBytes: MAX_PAYLOAD_BYTES },
  });
  for (const key of lost) done.push(attempt(() => store.delete(key), `deleted ${key}: its value is lost`));
  for (const key of anew) done.push(attempt(() => writeAnew(store, key), `wrote ${key} anew, as it was`));
  store.close();
  return done;
}

/** A store that is full or used up ends the repair of one key, not of the others. */
function attempt(run: () => void, what: string): string {
  try {
    run();
    return what;
  } catch (error) {
    if (!(error instanceof StateFsError) || error.code === 'EIO') throw error;
    return `not done, ${what}: ${messageOf(error)}`;
  }
}

function writeAnew(store: StateFs, key: string): void {
  const value = store.get(key);
  const { meta } = store.stat(key);
  store.putAtomic(key, value, { meta });
}

/** Writes both copies anew, with the end of the log as it was found. */
function restoreSuperblocks(found: Survey, rules: StoreRules, { newLife }: RepairRules): void {
  const { device, geometry, verdict, recovered } = found;
  const flush = (): void => device.flush();
  if (!newLife) {
    const copy = verdict.currentCopy === 0 ? 1 : 0;
    const sector = new Uint8Array(device.sectorBytes);
    encodeSuperblock({ ...verdict.current, generation: verdict.current.generation - 1 }, copy, sector);
    device.write(geometry.superblockSectors[copy], sector);
    flush();
    return;
  }
  const frontier: Frontier = {
    frontierSector: recovered.tailSector,
    frontierSequence: recovered.lastSequence,
    payloadFloor: recovered.payloadFloor,
  };
  const pair = new SuperblockPair(device, geometry, verdict, rules, recovered.lostEpoch);
  pair.openLife(frontier, flush);
  pair.close(frontier, flush);
  flush();
}
