import type { BlockDevice } from '../blockdev/index.ts';
import { codeOf, messageOf } from '../core/index.ts';
import { StateFsError } from './errors.ts';
import { type DamagedGroup, GroupWatch } from './fsck-groups.ts';
import type { CheckResult, Finding, SpaceAccount } from './fsck-report.ts';
import { alignUp } from './geometry.ts';
import type { IndexEntry } from './index-entry.ts';
import { KIND_LOST } from './layout.ts';
import { RecordReader } from './record-reader.ts';
import type { Row } from './recovery-table.ts';
import type { StoreRules } from './rules.ts';
import { type Survey, survey } from './survey.ts';

/** Called now and then with how many live values have been verified, of how many. */
export type FsckProgress = (done: number, total: number) => void;

/** A check, and what a repair needs to know of the store; undefined where none can be opened. */
export interface Checked {
  readonly result: CheckResult;
  readonly survey: Survey | undefined;
}

/**
 * Looks at everything that is live, and at the log as recovery does. Writes nothing. Holds the index in memory and one
 * value's frames at a time.
 * @throws StateFsError EIO only where the device fails as a whole
 */
export function check(device: BlockDevice, rules: StoreRules, onProgress: FsckProgress): Checked {
  const groups = new GroupWatch();
  let found: Survey;
  try {
    found = survey(device, rules, (group, row, current) => groups.take(group, row, current));
  } catch (error) {
    if (!(error instanceof StateFsError)) throw error;
    return { result: notOpenable(error), survey: undefined };
  }
  return { result: new Check(found, groups, rules, onProgress).run(), survey: found };
}

function notOpenable(error: StateFsError): CheckResult {
  const finding: Finding = {
    kind: 'not-openable',
    severity: 'damage',
    sector: 0,
    offsetBytes: 0,
    keys: [],
    what: error.message,
    lost: 'everything, unless an older image is restored',
    repair: undefined,
    code: error.code,
  };
  return {
    findings: [error.code === 'EPROTO' ? { ...finding, lost: 'nothing' } : finding],
    keys: 0,
    verifiedValues: 0,
    verifiedBytes: 0,
    rows: {},
    lastSequence: 0,
    closed: false,
    space: undefined,
  };
}

/** What a finding says, beside its address in bytes. */
type Found = Omit<Finding, 'offsetBytes'>;

/** The look at a store that could be opened. */
class Check {
  readonly #survey: Survey;
  readonly #groups: GroupWatch;
  readonly #records: RecordReader;
  readonly #onProgress: FsckProgress;
  readonly #findings: Finding[] = [];
  /** Live keys whose value does not verify. */
  readonly #lost = new Set<string>();
  #verifiedValues = 0;
  #verifiedBytes = 0;

  constructor(found: Survey, groups: GroupWatch, rules: StoreRules, onProgress: FsckProgress) {
    const { device, codec, geometry, payloads } = found;
    this.#survey = found;
    this.#groups = groups;
    this.#records = new RecordReader(device, codec, geometry, payloads, rules, () => {});
    this.#onProgress = onProgress;
  }

  run(): CheckResult {
    const { keys, recovered } = this.#survey;
    this.#checkSuperblocks();
    this.#checkValues();
    this.#checkGroups();
    this.#checkEnd();
    const space = this.#checkSpace();
    return {
      findings: this.#findings,
      keys: keys.size,
      verifiedValues: this.#verifiedValues,
      verifiedBytes: this.#verifiedBytes,
      rows: Object.fromEntries(recovered.rows) as Partial<Record<Row, number>>,
      lastSequence: recovered.lastSequence,
      closed: this.#isClosed(),
      space,
    };
  }

  #find(found: Found): void {
    this.#findings.push({ ...found, offsetBytes: found.sector * this.#survey.geometry.sectorBytes });
  }

  #isClosed(): boolean {
    const { verdict, recovered } = this.#survey;
    return verdict.current.clean && recovered.lostEpoch === 0;
  }

  #checkSuperblocks(): void {
    const { copies, verdict, recovered } = this.#survey;
    const { currentCopy, otherWhy, current } = verdict;
    const { lostEpoch } = recovered;
    const other = currentCopy === 0 ? 1 : 0;
    const serves = `copy ${currentCopy}, generation ${current.generation}, serves`;
    if (copies[currentCopy].state === 'misplaced') {
      this.#findSuperblock(currentCopy, true, `${otherWhy}; it is the newer one, and ${serves}`);
    } else if (otherWhy !== undefined) {
      this.#findSuperblock(other, copies[other].state !== 'valid', `it is unusable: ${otherWhy}; ${serves}`);
    } else if (lostEpoch > 0) {
      const what = `a newer one was lost: the log goes on with epoch ${lostEpoch}, which neither copy knows; ${serves}`;
      this.#findSuperblock(other, true, what);
    }
  }

  #findSuperblock(copy: 0 | 1, isLost: boolean, what: string): void {
    this.#find({
      kind: isLost ? 'superblock-lost' : 'superblock-stale',
      severity: isLost ? 'damage' : 'residue',
      sector: this.#survey.geometry.superblockSectors[copy],
      keys: [],
      what: `superblock copy ${copy}: ${what}`,
      lost: 'nothing',
      repair: isLost ? 'restore-superblock' : undefined,
    });
  }

  #checkValues(): void {
    const { keys } = this.#survey;
    let done = 0;
    for (const entry of keys.entries()) {
      if (entry.kind === KIND_LOST) this.#loseValue(entry, 'its record was committed, and is unreadable');
      else this.#verify(entry);
      this.#onProgress(++done, keys.size);
    }
  }

  #verify(entry: IndexEntry): void {
    try {
      this.#records.verify(entry);
    } catch (error) {
      const code = codeOf(error);
      if (code !== 'EINTEGRITY' && code !== 'EIO') throw error;
      const brief = messageOf(error).replace(`${entry.key}: `, '').replace(': put it again, or restore it', '');
      if (code === 'EINTEGRITY') this.#loseValue(entry, brief);
      else this.#findUnreadable(entry, brief);
      return;
    }
    this.#verifiedValues++;
    this.#verifiedBytes += entry.payloadBytes;
  }

  #loseValue({ key, tempSector, payloadBytes, sequence }: IndexEntry, what: string): void {
    this.#lost.add(key);
    const size = payloadBytes > 0 ? `${payloadBytes} bytes, ` : '';
    this.#find({
      kind: 'value-lost',
      severity: 'damage',
      sector: tempSector,
      keys: [key],
      what: `${key}: ${what}`,
      lost: `the value of ${key} (${size}group ${sequence})`,
      repair: 'delete-key',
    });
  }

  /** The next read may succeed, on another machine if not on this: no repair throws the value away. */
  #findUnreadable({ key, tempSector }: IndexEntry, what: string): void {
    this.#lost.add(key);
    this.#find({
      kind: 'value-unreadable',
      severity: 'damage',
      sector: tempSector,
      keys: [key],
      what: `${key}: the medium could not be read (${what}): copy the disk to a sound one, then check again`,
      lost: `the value of ${key}, unless a copy gives it`,
      repair: undefined,
    });
  }

  #checkGroups(): void {
    const { verdict, recovered, geometry, reader } = this.#survey;
    for (const group of this.#groups.damaged) this.#findGroup(group);
    const { lostSequence, activeRegion } = verdict.current;
    if (lostSequence > 0) {
      this.#findUnknown(geometry.regionSectors[activeRegion], lostSequence, 'it was left behind when the log moved');
    }
    for (const { sector, sequence } of this.#groups.outOfSequence) {
      const last = verdict.current.frontierSequence;
      this.#findAccounting(sector, [], `group ${sequence} lies below a frontier that ends with group ${last}`);
    }
    // Behind a log that was closed nothing stands.
    const unreadable = reader.unreadableSectors(this.#isClosed() ? recovered.tailSector : undefined);
    if (unreadable > 0) {
      this.#find({
        kind: 'log-unreadable',
        severity: 'damage',
        sector: recovered.tailSector,
        keys: [],
        what:
          `the medium could not be read at ${unreadable} sectors of the log, or behind it: copy the disk ` +
          'to a sound one, then check again',
        lost: 'what stands there, unless a copy gives it',
        repair: undefined,
      });
    }
    for (const { sector, keys, what, isCertain } of recovered.damage) {
      if (isCertain || reader.hasUnreadable(sector, 1)) continue;
      const lost = 'a last group, if there was one';
      this.#find({ kind: 'tail-in-doubt', severity: 'damage', sector, keys, what, lost, repair: 'end-log' });
    }
  }

  #findGroup({ sector, sequence, row, keysUnknown, live }: DamagedGroup): void {
    if (keysUnknown) {
      this.#findUnknown(sector, sequence, row === 'contradiction' ? 'its commit contradicts it' : 'it is unreadable');
      return;
    }
    const isLive = live.size > 0;
    const mendable = [...live].filter((key) => !this.#lost.has(key));
    const which = row === 'commit-lost' ? 'commit' : 'temp frames';
    this.#find({
      kind: 'group-damaged',
      severity: isLive ? 'damage' : 'settled',
      sector,
      keys: [...live],
      what:
        `group ${sequence}: its ${which} can't be read; it was committed` +
        (isLive ? '' : ', and later groups replace all that it put'),
      lost: isLive && mendable.length < live.size ? 'see the keys' : 'nothing',
      repair: isLive ? (mendable.length > 0 ? 'write-anew' : 'delete-key') : undefined,
    });
  }

  #findUnknown(sector: number, sequence: number, why: string): void {
    this.#find({
      kind: 'keys-unknown',
      severity: 'damage',
      sector,
      keys: [],
      what:
        `group ${sequence} was committed and lost with its keys, ${why}: every older value may be stale, and is refused ` +
        'unless the store is opened with acceptStale',
      lost: 'changes to keys that nothing tells',
      repair: undefined,
    });
  }

  #checkEnd(): void {
    const { torn } = this.#groups;
    if (torn === undefined) return;
    const { sector, row, keys } = torn;
    this.#find({
      kind: 'torn-tail',
      severity: 'residue',
      sector,
      keys,
      what: `the log ends in a group that never became durable (${row}): a power cut interrupted it`,
      lost: 'nothing that was acknowledged as durable',
      repair: undefined,
    });
  }

  #findAccounting(sector: number, keys: readonly string[], what: string): void {
    this.#find({ kind: 'accounting', severity: 'damage', sector, keys, what, lost: 'nothing yet', repair: undefined });
  }

  #checkSpace(): SpaceAccount {
    const { geometry, codec, payloads, keys, recovered, verdict } = this.#survey;
    const { sectorBytes, unitSectors, regionSectorCount, regionSectors } = geometry;
    const { frontierSector, activeRegion } = verdict.current;
    const start = regionSectors[activeRegion];
    const { tailSector, payloadFloor } = recovered;
    if (tailSector < frontierSector || tailSector > payloadFloor) {
      const what = `the log ends at ${tailSector}, with a frontier at ${frontierSector} and payloads from ${payloadFloor} on`;
      this.#findAccounting(tailSector, [], what);
    }
    let liveLog = 0;
    let livePayload = 0;
    const used: { readonly from: number; readonly to: number; readonly key: string }[] = [];
    for (const entry of keys.entries()) {
      if (entry.kind === KIND_LOST) continue;
      const frames = codec.sectorsFor(entry.tempBodyBytes);
      liveLog += frames;
      used.push({ from: entry.tempSector, to: entry.tempSector + frames, key: entry.key });
      if (entry.extentFrames === 0) continue;
      const sectors = payloads.sectorsFor(entry.payloadBytes);
      livePayload += alignUp(sectors, unitSectors, 0);
      used.push({ from: entry.extentSector, to: entry.extentSector + sectors, key: entry.key });
      const isInside = entry.extentSector >= payloadFloor && (entry.extentSector - start) % unitSectors === 0;
      if (!isInside)
        this.#findAccounting(entry.extentSector, [entry.key], `${entry.key}: its extent stands in the log`);
    }
    used.sort((a, b) => a.from - b.from);
    for (let i = 1; i < used.length; i++) {
      const [before, next] = [used[i - 1], used[i]] as [(typeof used)[0], (typeof used)[0]];
      if (next.from >= before.to) continue;
      this.#findAccounting(next.from, [before.key, next.key], `${next.key}: it overlaps ${before.key}`);
    }
    return {
      regionBytes: regionSectorCount * sectorBytes,
      logBytes: (tailSector - start) * sectorBytes,
      liveLogBytes: liveLog * sectorBytes,
      payloadBytes: (start + regionSectorCount - payloadFloor) * sectorBytes,
      livePayloadBytes: livePayload * sectorBytes,
      freeBytes: (payloadFloor - tailSector) * sectorBytes,
    };
  }
}
