import type { BlockDevice } from '../blockdev/index.ts';
import { codeOf, equalBytes, messageOf } from '../core/index.ts';
import { createSha256, type EnvelopeMetadata, type Sha256 } from '../envelope/index.ts';
import { StateFsError, wrapDeviceError } from './errors.ts';
import type { FrameCodec } from './frame.ts';
import { alignUp, type StoreGeometry } from './geometry.ts';
import { type Group, GroupReader } from './group-reader.ts';
import type { IndexEntry } from './index-entry.ts';
import type { KeySpace } from './key-space.ts';
import type { Latch } from './latch.ts';
import { KIND_LOST } from './layout.ts';
import { LogReader } from './log-reader.ts';
import type { LogEnd, LogWriter } from './log-writer.ts';
import type { StoreEvent } from './options.ts';
import type { PayloadStore } from './payload.ts';
import { RecordReader } from './record-reader.ts';
import { ACTIONS, decide, type Row } from './recovery-table.ts';
import type { StoreRules } from './rules.ts';
import type { ScrubFinding, ScrubMend, ScrubReport } from './scrub-report.ts';
import type { SpaceKeeper } from './space-keeper.ts';

/** What a scrub works on. */
export interface ScrubberInput {
  readonly device: BlockDevice;
  readonly codec: FrameCodec;
  readonly geometry: StoreGeometry;
  readonly payloads: PayloadStore;
  readonly writer: LogWriter;
  readonly keys: KeySpace;
  readonly keeper: SpaceKeeper;
  readonly latch: Latch;
  readonly rules: StoreRules;
  readonly readOnly: boolean;
  /** A group with unknown keys was lost at this number before the store was opened; 0: none. */
  readonly lostSequence: number;
  readonly onEvent: (event: StoreEvent) => void;
  /** Puts a value again, durably, with the metadata that it has. */
  readonly putAnew: (key: string, payload: Uint8Array, meta: EnvelopeMetadata) => void;
}

/** A payload outside the log that is being verified. */
interface ExtentCheck {
  readonly entry: IndexEntry;
  readonly digest: Uint8Array;
  readonly sha: Sha256;
  frame: number;
}

/** A walk over the log, and what it has read ahead. */
interface LogWalk {
  readonly reader: LogReader;
  readonly groups: GroupReader;
}

type Phase = 'superblocks' | 'log' | 'values' | 'move';

/** Findings that a report keeps. */
const MAX_FINDINGS = 1000;

/** What recovery would make of a damaged group, in words. */
const LOG_DAMAGE: Readonly<Partial<Record<Row, string>>> = {
  'commit-lost': 'its commit is unreadable',
  'temp-lost': 'temp frames of it are unreadable',
  'group-lost': 'neither its temp frames nor its commit can be read in full',
  contradiction: 'its commit contradicts its temp frames',
};

/**
 * One pass over everything that the store is made of, a bounded piece at a time, while changes go on: both superblock
 * copies, every frame of the log, the value of every live key. It reads from the device and believes nothing else.
 *
 * Where the log moves meanwhile, what was looked at is no more: the pass begins anew in the other region.
 */
export class Scrubber {
  readonly #in: ScrubberInput;
  readonly #records: RecordReader;
  readonly #findings: ScrubFinding[] = [];
  /** Values that were told of, by key and number: a pass that begins anew meets them again. */
  readonly #told = new Set<string>();
  #phase: Phase = 'superblocks';
  /** Of the log, as the pass found it. */
  #moves: number;
  /** This pass has moved the log on its own account. */
  #hasMoved = false;
  /** What had been issued when it began in the log at hand: whatever comes later is not looked at. */
  #until: LogEnd;
  /** Reads the log in this step. */
  #walk: LogWalk | undefined;
  /** Where the walk over the log goes on, and what it knows of the groups before. */
  #at = 0;
  #lastSequence = 0;
  #lastEpoch = 0;
  #source: Iterator<IndexEntry> | undefined;
  #extent: ExtentCheck | undefined;
  #verifiedBytes = 0;
  #verifiedValues = 0;
  #damaged = 0;
  #mended = 0;

  constructor(input: ScrubberInput) {
    const { device, codec, geometry, payloads, rules, keeper, writer } = input;
    this.#in = input;
    this.#records = new RecordReader(device, codec, geometry, payloads, rules, () => {});
    this.#moves = keeper.compactionCount;
    this.#until = writer.end;
    this.#begin();
  }

  get verifiedBytes(): number {
    return this.#verifiedBytes;
  }

  /**
   * Looks at some more, and mends what it can.
   * @param sectors about how many to read or write
   * @returns what the pass came to; undefined while it goes on
   * @throws StateFsError EIO where the store has latched
   */
  step(sectors: number): ScrubReport | undefined {
    // What was read ahead in an earlier step is not the device any more.
    this.#walk = undefined;
    try {
      for (let left = sectors; left > 0; ) {
        if (this.#moves !== this.#in.keeper.compactionCount) this.#beginAnew();
        const done = this.#work(left);
        if (done === undefined) return this.#report();
        left -= done;
      }
      return undefined;
    } catch (error) {
      throw wrapDeviceError(error, 'scrub');
    }
  }

  /** @returns about how many sectors were read or written; undefined where nothing is left to do */
  #work(sectors: number): number | undefined {
    switch (this.#phase) {
      case 'superblocks':
        this.#phase = 'log';
        return this.#scrubSuperblocks();
      case 'log':
        return this.#scrubGroup(sectors);
      case 'values':
        return this.#scrubValue();
      case 'move':
        return this.#move(sectors);
    }
  }

  #begin(): void {
    const { geometry, writer } = this.#in;
    this.#until = writer.end;
    this.#walk = undefined;
    this.#at = geometry.regionSectors[writer.region];
    this.#lastSequence = 0;
    this.#lastEpoch = 0;
    this.#source = undefined;
    this.#extent = undefined;
    this.#phase = 'superblocks';
  }

  /** The log has moved: what was damaged in it has been left behind. */
  #beginAnew(): void {
    this.#moves = this.#in.keeper.compactionCount;
    this.#mend(({ part }) => part === 'log', 'moved');
    this.#begin();
  }

  #scrubSuperblocks(): number {
    const { writer, geometry, rules } = this.#in;
    if (!rules.scrub.reads) return 2;
    const found = writer.readSuperblocks();
    // What reads right the second time is no damage.
    const again = found.some((why) => why !== undefined) ? writer.readSuperblocks() : found;
    const wrong = ([0, 1] as const).filter((copy) => found[copy] !== undefined && again[copy] !== undefined);
    for (const copy of [0, 1] as const) {
      if (!wrong.includes(copy)) this.#verified(1);
    }
    const lost = wrong.length === 2 && !this.#mayWrite ? 'the store, once it is closed' : 'nothing';
    for (const copy of wrong) {
      const what = `superblock copy ${copy} is unusable: ${again[copy]}`;
      this.#find({ part: 'superblock', sector: geometry.superblockSectors[copy], keys: [], what, lost });
    }
    if (wrong.length === 0 || !this.#mayWrite) return 2;
    this.#in.latch.run(() => writer.mendSuperblocks(wrong));
    const after = rules.scrub.verifies ? writer.readSuperblocks() : [];
    for (const copy of wrong) {
      if (after[copy] !== undefined) continue;
      this.#mend(
        ({ part, sector }) => part === 'superblock' && sector === geometry.superblockSectors[copy],
        'rewritten',
      );
    }
    return 2 + 2 * wrong.length;
  }

  /** Looks at the next group of the log, as recovery would: all of it was issued whole, and has to be there. */
  #scrubGroup(sectors: number): number {
    const { writer, geometry, rules } = this.#in;
    const { tailSector } = this.#until;
    if (this.#at >= tailSector || !rules.scrub.reads) {
      this.#scrubLostGroup();
      this.#phase = 'values';
      return 1;
    }
    const at = this.#at;
    let { group, row, unreadable } = this.#readGroup(sectors);
    if (ACTIONS[row] !== 'apply') {
      // What reads right the second time is no damage.
      this.#walk = undefined;
      ({ group, row, unreadable } = this.#readGroup(sectors));
    }
    this.#at = Math.min(tailSector, alignUp(group.end, geometry.unitSectors, geometry.regionSectors[writer.region]));
    this.#lastSequence = Math.max(this.#lastSequence, group.sequence);
    this.#lastEpoch = Math.max(this.#lastEpoch, group.epoch);
    const read = this.#at - at;
    if (ACTIONS[row] === 'apply') this.#verified(group.end - at);
    else this.#findGroup(group, row, unreadable);
    return read;
  }

  #readGroup(sectors: number): { group: Group; row: Row; unreadable: number } {
    this.#walk ??= this.#startWalk(sectors);
    const { reader, groups } = this.#walk;
    groups.lastSequence = this.#lastSequence;
    groups.lastEpoch = this.#lastEpoch;
    const before = reader.unreadableSectors();
    const group = groups.read(this.#at);
    const row = decide(group.temp, group.commitState, group.proof, 'unread');
    return { group, row, unreadable: reader.unreadableSectors() - before };
  }

  #startWalk(sectors: number): LogWalk {
    const { device, codec, geometry, payloads, writer, rules } = this.#in;
    const { tailSector, payloadFloor, lastSequence } = this.#until;
    const frontier = { frontierSector: tailSector, frontierSequence: lastSequence, payloadFloor, clean: true };
    const current = { ...writer.superblock, ...frontier };
    const verdict = { current, currentCopy: 0, otherLost: false, otherWhy: undefined } as const;
    // It reads ahead no further than this step goes.
    const reader = new LogReader(device, this.#at, Math.min(tailSector, this.#at + sectors), undefined);
    return { reader, groups: new GroupReader({ reader, codec, geometry, payloads, verdict, rules }, () => {}) };
  }

  #findGroup(group: Group, row: Row, unreadable: number): void {
    const keys: string[] = [];
    for (const { key, tempSector, kind } of this.#in.keys.entries()) {
      if (kind !== KIND_LOST && tempSector >= group.sector && tempSector < this.#at) keys.push(key);
    }
    const why = unreadable > 0 ? ' (the medium does not give some of its sectors)' : '';
    this.#find({
      part: 'log',
      sector: group.sector,
      keys,
      what: `group ${group.sequence}: ${LOG_DAMAGE[row] ?? row}${why}`,
      // The index knows what recovery would not: of its keys only a value that does not read is lost.
      lost: 'nothing',
    });
  }

  /** What recovery could not know any more no scrub finds out. */
  #scrubLostGroup(): void {
    const { lostSequence, geometry, writer } = this.#in;
    if (lostSequence === 0 || !this.#isNew(`group ${lostSequence}`)) return;
    this.#find({
      part: 'log',
      sector: geometry.regionSectors[writer.region],
      keys: [],
      what: `group ${lostSequence} was committed and lost with its keys before the store was opened: restore a backup`,
      lost: 'changes to keys that nothing tells',
    });
  }

  #scrubValue(): number {
    if (this.#extent !== undefined) return this.#scrubFrames(this.#extent);
    this.#source ??= this.#in.keys.entries();
    const { done, value: entry } = this.#source.next();
    if (done === true || entry.sequence > this.#until.lastSequence) {
      this.#phase = 'move';
      return 1;
    }
    if (entry.kind === KIND_LOST) {
      this.#loseValue(entry, 'its newest value is unreadable');
      return 1;
    }
    if (!this.#in.rules.scrub.reads) return 1;
    const sectors = this.#in.codec.sectorsFor(entry.tempBodyBytes);
    this.#looking(entry, () => {
      if (entry.extentFrames === 0) {
        this.#records.verify(entry);
        this.#passValue(sectors);
      } else {
        const { digest } = this.#records.envelope(entry);
        this.#extent = { entry, digest, sha: createSha256(), frame: 0 };
        this.#verified(sectors);
      }
    });
    return sectors;
  }

  #scrubFrames(check: ExtentCheck): number {
    const { payloads, keys, geometry } = this.#in;
    const { entry, digest, sha } = check;
    this.#extent = undefined;
    if (keys.get(entry.key) !== entry) return 1;
    let sectors = 1;
    this.#looking(entry, () => {
      const frames = payloads.verify(entry, check.frame, (chunk) => sha.update(chunk));
      const all = payloads.sectorsFor(entry.payloadBytes);
      sectors = Math.min(frames * geometry.frameSectors, all - check.frame * geometry.frameSectors);
      check.frame += frames;
      if (check.frame < entry.extentFrames) {
        this.#verified(sectors);
        this.#extent = check;
      } else if (!this.#in.rules.checksums || equalBytes(sha.digest(), digest)) {
        this.#passValue(sectors);
      } else {
        this.#damage(entry, 'its payload does not match its SHA-256');
      }
    });
    return sectors;
  }

  /** Runs a look at `entry`; what it finds wrong twice is damage. */
  #looking(entry: IndexEntry, look: () => void): void {
    try {
      look();
    } catch (error) {
      const code = codeOf(error);
      if (code !== 'EINTEGRITY' && code !== 'EIO') throw error;
      this.#extent = undefined;
      try {
        this.#records.verify(entry);
        this.#passValue(0);
      } catch (second) {
        if (codeOf(second) !== 'EINTEGRITY' && codeOf(second) !== 'EIO') throw second;
        this.#damage(entry, causeOf(entry, second));
      }
    }
  }

  #passValue(sectors: number): void {
    this.#verified(sectors);
    this.#verifiedValues++;
  }

  /** A live value does not read. A second copy of it is proven by the SHA-256 of the commit, and put again. */
  #damage(entry: IndexEntry, what: string): void {
    const copy = this.#mayWrite ? this.#in.keeper.copyOf(entry) : undefined;
    const found = copy === undefined ? undefined : this.#readCopy(entry, copy);
    if (found === undefined) {
      this.#loseValue(entry, what);
      return;
    }
    const { key, tempSector } = entry;
    this.#told.add(idOf(entry));
    this.#find({ part: 'value', sector: tempSector, keys: [key], what: `${key}: ${what}`, lost: 'nothing' });
    try {
      this.#in.putAnew(key, found.payload, found.meta);
    } catch (error) {
      if (!(error instanceof StateFsError) || this.#in.latch.isSet) throw error;
      return;
    }
    this.#mend((finding) => finding.part === 'value' && finding.keys[0] === key, 'copied');
  }

  #readCopy(entry: IndexEntry, copy: IndexEntry): { payload: Uint8Array; meta: EnvelopeMetadata } | undefined {
    try {
      const payload = this.#records.read(copy);
      const { digest, meta } = this.#records.envelope(copy);
      return entry.digest !== undefined && equalBytes(digest, entry.digest) ? { payload, meta } : undefined;
    } catch (error) {
      if (codeOf(error) !== 'EINTEGRITY' && codeOf(error) !== 'EIO') throw error;
      return undefined;
    }
  }

  #loseValue(entry: IndexEntry, what: string): void {
    if (!this.#isNew(idOf(entry))) return;
    const { key, tempSector, payloadBytes, sequence } = entry;
    const size = payloadBytes > 0 ? `${payloadBytes} bytes, ` : '';
    this.#find({
      part: 'value',
      sector: tempSector,
      keys: [key],
      what: `${key}: ${what}: put it again, or restore it`,
      lost: `the value of ${key} (${size}group ${sequence})`,
    });
  }

  /** Leaves damage in the log behind, by moving all that is live: nothing that is committed is written over. */
  #move(sectors: number): number | undefined {
    const isDamaged = this.#findings.some(({ part, lost, mended }) => part === 'log' && lost === 'nothing' && !mended);
    if (!isDamaged || this.#hasMoved || !this.#mayWrite) return undefined;
    try {
      this.#hasMoved = this.#in.keeper.compactStep(Math.max(1, Math.min(sectors, Number.MAX_SAFE_INTEGER)));
      return sectors;
    } catch (error) {
      // Too little room, or a record that the medium may give later: it stays as it is, and was told.
      if (!(error instanceof StateFsError) || this.#in.latch.isSet) throw error;
      this.#hasMoved = true;
      return undefined;
    }
  }

  get #mayWrite(): boolean {
    return !this.#in.readOnly && !this.#in.latch.isSet;
  }

  #verified(sectors: number): void {
    this.#verifiedBytes += sectors * this.#in.geometry.sectorBytes;
  }

  #isNew(id: string): boolean {
    if (this.#told.has(id)) return false;
    this.#told.add(id);
    return true;
  }

  #find(found: Omit<ScrubFinding, 'offsetBytes' | 'mended'>): void {
    const offsetBytes = found.sector * this.#in.geometry.sectorBytes;
    const finding: ScrubFinding = { ...found, offsetBytes, mended: undefined };
    this.#damaged++;
    if (this.#findings.length < MAX_FINDINGS) this.#findings.push(finding);
    this.#in.onEvent({ type: 'scrub-damage', finding });
  }

  #mend(which: (finding: ScrubFinding) => boolean, mended: ScrubMend): void {
    for (let i = 0; i < this.#findings.length; i++) {
      const before = this.#findings[i] as ScrubFinding;
      if (before.mended !== undefined || before.lost !== 'nothing' || !which(before)) continue;
      const finding = { ...before, mended };
      this.#findings[i] = finding;
      this.#mended++;
      this.#in.onEvent({ type: 'scrub-mended', finding });
    }
  }

  #report(): ScrubReport {
    return {
      verifiedBytes: this.#verifiedBytes,
      verifiedValues: this.#verifiedValues,
      damaged: this.#damaged,
      mended: this.#mended,
      findings: this.#findings,
    };
  }
}

function idOf({ key, sequence }: IndexEntry): string {
  return `${sequence} ${key}`;
}

/** What is wrong with `entry`, without the advice that goes with reading it. */
function causeOf(entry: IndexEntry, error: unknown): string {
  return messageOf(error).replace(`${entry.key}: `, '').replace(': put it again, or restore it', '');
}
