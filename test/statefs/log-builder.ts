import { MemoryDevice } from '../../src/blockdev/index.ts';
import { viewOf } from '../../src/core/index.ts';
import { encode, sha256, wrap } from '../../src/envelope/index.ts';
import { FrameCodec, FrameHeader } from '../../src/statefs/frame.ts';
import { storeGeometry } from '../../src/statefs/geometry.ts';
import {
  COMMIT,
  DIGEST_BYTES,
  FLAG_LAST,
  FRAME_COMMIT,
  FRAME_HEADER_BYTES,
  FRAME_PAYLOAD,
  FRAME_TEMP,
  KIND_PUT,
} from '../../src/statefs/layout.ts';
import { appendEntry, writeCommitBody, writeTempBody } from '../../src/statefs/records.ts';
import { type StoreRules, soundRules } from '../../src/statefs/rules.ts';
import { encodeSuperblock, type Superblock } from '../../src/statefs/superblock.ts';
import { type Survey, survey } from '../../src/statefs/survey.ts';
import { STORE_ID } from './helpers.ts';

/** What every frame says; what is left out is said by {@link LogBuilder}. */
export type Said = Partial<FrameHeader>;

export interface TempSaid extends Said {
  readonly key?: string;
  readonly kind?: number;
  readonly payload?: Uint8Array;
  /** What the body says, whatever stands in it. */
  readonly body?: Partial<Parameters<typeof writeTempBody>[3]>;
}

export interface CommitSaid extends Said {
  readonly body?: Partial<Parameters<typeof writeCommitBody>[2]> & { readonly entryCount?: number };
  readonly entries: readonly (Partial<Parameters<typeof appendEntry>[4]> & { readonly key: string })[];
}

export interface LogOptions {
  readonly sectorCount?: number;
  readonly sectorBytes?: number;
  readonly unitBytes?: number;
  /** What the current superblock says. */
  readonly superblock?: Partial<Superblock>;
  /** The copy before it is lost. */
  readonly otherLost?: boolean;
}

/** Room for the longest frame, and for the marks of one that lies about its length. */
const STAGING = new Uint8Array(16_384);

/** Writes logs frame by frame: each may say anything, under good checksums. */
export class LogBuilder {
  readonly device: MemoryDevice;
  readonly codec: FrameCodec;
  readonly start: number;
  readonly end: number;
  readonly frameSectors: number;
  readonly #sectorBytes: number;

  constructor(options: LogOptions = {}) {
    const { sectorCount = 256, sectorBytes = 512, unitBytes = sectorBytes, otherLost = false } = options;
    const geometry = storeGeometry(sectorBytes, sectorCount, unitBytes);
    this.device = new MemoryDevice({ sectorCount, sectorBytes });
    this.codec = new FrameCodec(STORE_ID, sectorBytes);
    this.#sectorBytes = sectorBytes;
    this.frameSectors = geometry.frameSectors;
    const region = options.superblock?.activeRegion ?? 0;
    this.start = geometry.regionSectors[region];
    this.end = this.start + geometry.regionSectorCount;
    const current: Superblock = {
      sectorBytes,
      unitBytes,
      sectorCount,
      storeId: STORE_ID,
      activeRegion: region,
      clean: false,
      features: 3,
      generation: 10,
      epoch: 10,
      frontierSector: this.start,
      frontierSequence: 0,
      payloadFloor: this.end,
      regionEpoch: 0,
      lostSequence: 0,
      ...options.superblock,
    };
    const sector = new Uint8Array(sectorBytes);
    encodeSuperblock(current, 1, sector);
    this.device.write(geometry.superblockSectors[1], sector);
    if (otherLost) return;
    encodeSuperblock(
      { ...current, generation: current.generation - 1, epoch: current.epoch - 1, regionEpoch: 0 },
      0,
      sector,
    );
    this.device.write(geometry.superblockSectors[0], sector);
  }

  /** Writes the frame that says `header` with the body in `staging`, at `sector`. @returns its sectors */
  #write(sector: number, staging: Uint8Array, header: FrameHeader, bodyBytes: number): number {
    const view = viewOf(staging);
    const sectors = this.codec.sectorsFor(bodyBytes);
    const room = this.device.sectorCount - sector;
    // A length that is a lie is sealed as it would be read.
    this.codec.seal(staging, view, 0, header);
    this.device.write(sector, staging.subarray(0, Math.min(sectors, room) * this.#sectorBytes));
    return sectors;
  }

  #header(type: number, sector: number, bodyBytes: number, said: Said): FrameHeader {
    const {
      body: _body,
      key: _key,
      kind: _kind,
      payload: _payload,
      entries: _entries,
      ...fields
    } = said as Said & {
      [name: string]: unknown;
    };
    const truth = { type, flags: FLAG_LAST, bodyBytes, epoch: 10, sector, windowSectors: 0 };
    return Object.assign(new FrameHeader(), truth, fields);
  }

  temp(sector: number, said: TempSaid = {}): number {
    const { key = '/state/a', kind = KIND_PUT, payload = new Uint8Array(0) } = said;
    const staging = STAGING.fill(0);
    const isPut = kind === KIND_PUT;
    const bodyBytes = writeTempBody(staging, viewOf(staging), 0, {
      kind,
      keyBytes: new TextEncoder().encode(key),
      envelope: isPut ? encode(wrap(payload, { subject: '', purpose: '', ts: 0 })) : new Uint8Array(0),
      payloadBytes: isPut ? payload.length : 0,
      inline: isPut && !said.body?.extentFrames ? payload : undefined,
      extentFrames: 0,
      extentSector: 0,
      ...said.body,
    });
    return this.#write(sector, staging, this.#header(FRAME_TEMP, sector, bodyBytes, said), bodyBytes);
  }

  commit(sector: number, said: CommitSaid): number {
    const staging = STAGING.fill(0);
    const view = viewOf(staging);
    const { entryCount, ...body } = said.body ?? {};
    const content = {
      groupSector: sector - 1,
      payloadFloor: this.end,
      operationCount: said.entries.length,
      firstEntry: 0,
    };
    let bodyBytes = writeCommitBody(view, 0, { ...content, ...body });
    for (const { key, ...entry } of said.entries) {
      bodyBytes = appendEntry(staging, view, 0, bodyBytes, {
        kind: KIND_PUT,
        keyBytes: new TextEncoder().encode(key),
        payloadBytes: 0,
        extentSector: 0,
        digest: (entry.kind ?? KIND_PUT) === KIND_PUT ? sha256(new Uint8Array(0)) : new Uint8Array(DIGEST_BYTES),
        ...entry,
      });
    }
    if (entryCount !== undefined) view.setUint16(FRAME_HEADER_BYTES + COMMIT.entryCount, entryCount, true);
    return this.#write(sector, staging, this.#header(FRAME_COMMIT, sector, bodyBytes, said), bodyBytes);
  }

  /** A payload frame with `chunk`. */
  payload(sector: number, chunk: Uint8Array, said: Said): number {
    const staging = STAGING.fill(0);
    staging.set(chunk, FRAME_HEADER_BYTES);
    return this.#write(sector, staging, this.#header(FRAME_PAYLOAD, sector, chunk.length, said), chunk.length);
  }

  erase(...sectors: number[]): void {
    for (const sector of sectors) this.device.write(sector, new Uint8Array(this.#sectorBytes));
  }
}

/** What recovery finds on a device. */
export interface Found {
  /** One text for each group. */
  readonly groups: readonly string[];
  /** The end of the log, and what is known of numbers. */
  readonly end: string;
  /** One text for each key, in the order of the log: `!` where its value was lost, `?` where no commit gives its SHA-256. */
  readonly keys: readonly string[];
  readonly damage: readonly string[];
}

/** Reads `device` as opening does. Lives other than the tenth are told. */
export function recoveryOf(device: Survey['device'], rules: StoreRules = soundRules): Found {
  const groups: string[] = [];
  const { recovered, keys } = survey(device, rules, ({ sector, end, sequence, epoch, proof }, row) => {
    groups.push(`${row} ${sector}-${end} #${sequence}${lifeOf(epoch)}${proof === 'none' ? '' : ` ${proof}`}`);
  });
  const { tailSector, lastSequence, payloadFloor, lostSequence, lostEpoch, damage } = recovered;
  return {
    groups,
    end:
      `ends at ${tailSector}, #${lastSequence}, floor ${payloadFloor}` +
      (lostSequence > 0 ? `, lost #${lostSequence}` : '') +
      (lostEpoch > 0 ? `, lost life ${lostEpoch}` : ''),
    keys: [...keys.entries()].map(({ key, kind, sequence, epoch, tempSector, extentSector, digest }) => {
      const mark = kind === KIND_PUT ? '' : '!';
      const place = extentSector > 0 ? `${tempSector}+${extentSector}` : `${tempSector}`;
      return `${key.slice('/state/'.length)}${mark}${digest === undefined ? '?' : ''} #${sequence}${lifeOf(epoch)} ${place}`;
    }),
    damage: damage.map(
      ({ sector, keys: named, isCertain }) =>
        `${isCertain ? 'damage' : 'doubt'} at ${sector} of [${named.map((key) => key.slice('/state/'.length)).join(' ')}]`,
    ),
  };
}

function lifeOf(epoch: number): string {
  return epoch === 10 ? '' : ` life ${epoch}`;
}

/** The same in one text. */
export function textOf({ groups, end, keys, damage }: Found): string {
  return [groups.join(', '), end, keys.join(', '), ...damage].join(' | ');
}

/** A whole group; what is left out is the truth. */
export interface Transaction {
  readonly sequence: number;
  readonly keys: readonly string[];
  readonly stamp?: TempSaid;
  readonly flags?: number;
  readonly hasWindow?: boolean;
  readonly tempSaid?: (index: number) => TempSaid;
  readonly commitSaid?: (index: number) => Partial<CommitSaid>;
  readonly kinds?: readonly number[];
}

/** Writes a whole group at `sector`. @returns its sectors */
export function putAll(builder: LogBuilder, sector: number, group: Transaction): number {
  const { keys, sequence, stamp = {}, flags = 0, hasWindow = true, tempSaid, commitSaid, kinds = [] } = group;
  const perCommit = 6;
  const commitCount = Math.ceil(keys.length / perCommit);
  const sectorsOf = (entries: number): number =>
    builder.codec.sectorsFor(24 + entries * (48 + (keys[0] as string).length));
  let commitSectors = 0;
  for (let i = 0; i < keys.length; i += perCommit) commitSectors += sectorsOf(Math.min(perCommit, keys.length - i));
  const total = keys.length + commitSectors;
  const window = (offset: number): number => (hasWindow ? total - offset : 0);
  const common = { sequence, durableSequence: sequence - 1, ...stamp };
  keys.forEach((key, index) => {
    const last = index === keys.length - 1 ? 1 : 0;
    const said = { ...common, index, key, flags: flags | last, windowSectors: window(index), kind: kinds[index] ?? 1 };
    builder.temp(sector + index, { ...said, ...tempSaid?.(index) });
  });
  let offset = keys.length;
  for (let index = 0; index < commitCount; index++) {
    const first = index * perCommit;
    const entries = keys.slice(first, first + perCommit).map((key, i) => ({ key, kind: kinds[first + i] ?? 1 }));
    const last = index === commitCount - 1 ? 1 : 0;
    const body = { groupSector: sector, operationCount: keys.length, firstEntry: first };
    const said = commitSaid?.(index) ?? {};
    offset += builder.commit(sector + offset, {
      ...common,
      index,
      flags: flags | last,
      windowSectors: window(offset),
      entries,
      ...said,
      body: { ...body, ...said.body },
    });
  }
  return total;
}

/** Adds to a log. */
export type Build = (builder: LogBuilder) => void;

/** A case by its name: group 1 at sector 16, and what `build` adds. */
export function log(name: string, options: LogOptions, ...builds: Build[]): [string, () => LogBuilder] {
  return [
    name,
    () => {
      const builder = new LogBuilder(options);
      group(builder.start, 1)(builder);
      for (const build of builds) build(builder);
      return builder;
    },
  ];
}

/** A whole group of one key. */
export function group(sector: number, sequence: number, more: Partial<Transaction> = {}): Build {
  return (builder) => {
    putAll(builder, sector, { sequence, keys: [`/state/${sequence}`], ...more });
  };
}

export const temp =
  (sector: number, said: TempSaid): Build =>
  (builder) =>
    builder.temp(sector, said);
export const commit =
  (sector: number, said: CommitSaid): Build =>
  (builder) =>
    builder.commit(sector, said);
export const erased =
  (...sectors: number[]): Build =>
  (builder) =>
    builder.erase(...sectors);

/** Options of a log with its frontier there. */
export const at = (
  frontierSector: number,
  frontierSequence: number,
  more: LogOptions['superblock'] = {},
): LogOptions => ({
  superblock: { frontierSector, frontierSequence, ...more },
});
