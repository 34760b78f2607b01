import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { gunzipSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { VirtualClock, viewOf } from '../../src/core/index.ts';
import { encode, sha256, wrap } from '../../src/envelope/index.ts';
import { FrameCodec, FrameHeader } from '../../src/statefs/frame.ts';
import { format, open, type StateFs, StateFsError } from '../../src/statefs/index.ts';
import {
  COMMIT_FIELDS,
  ENTRY_FIELDS,
  type Field,
  FLAG_LAST,
  FLAG_ORDERED,
  FRAME_COMMIT,
  FRAME_FIELDS,
  FRAME_HEADER_BYTES,
  FRAME_MAGIC,
  FRAME_PAYLOAD,
  FRAME_TEMP,
  KIND_PUT,
  SUPERBLOCK_FIELDS,
  TEMP_FIELDS,
} from '../../src/statefs/layout.ts';
import {
  appendEntry,
  readCommitBody,
  readTempBody,
  writeCommitBody,
  writeTempBody,
} from '../../src/statefs/records.ts';
import { holdProperty } from '../property/replay.ts';
import { bytes, codeThrown, deviceOf, formatted, imageOf, STORE_ID } from './helpers.ts';

const FILE = 'test/statefs/format.test.ts';

describe('docs/storage/statefs.md shows the bytes as they are:', () => {
  const doc = readFileSync(new URL('../../docs/storage/statefs.md', import.meta.url), 'utf8');
  const tables: [string, readonly Field[]][] = [
    ['superblock', SUPERBLOCK_FIELDS],
    ['frame header', FRAME_FIELDS],
    ['temp body', TEMP_FIELDS],
    ['commit body', COMMIT_FIELDS],
    ['commit entry', ENTRY_FIELDS],
  ];

  test.each(tables)('%s', (_name, fields) => {
    expect(doc).toContain(`| offset | bytes | field | meaning |\n|---|---|---|---|\n${rowsOf(fields)}\n\n`);
  });

  function rowsOf(fields: readonly Field[]): string {
    let offset = 0;
    const rows = fields.map(([name, size, meaning]) => {
      const row = `| ${offset} | ${size} | \`${name}\` | ${meaning} |`;
      offset += size;
      return row;
    });
    return rows.join('\n');
  }
});

describe('the golden image of format 1', () => {
  /** Set it to write the image anew: only where the format changes, and then under a new version. */
  const REGENERATE = 'POWERCUT_REGENERATE_GOLDEN';
  const place = new URL('./golden/v1.img.gz', import.meta.url);

  /** Every kind of record, two lives, both commit modes, a key deleted, space left. */
  function generate(): { image: Uint8Array; content: Map<string, Uint8Array> } {
    const device = new MemoryDevice({ sectorCount: 256 });
    format(device, { storeId: Uint8Array.from({ length: 16 }, (_, i) => 0xa0 + i) });
    const content = new Map<string, Uint8Array>();
    const put = (store: StateFs, key: string, size: number, commit: 'ordered' | 'checksummed'): void => {
      const value = bytes(size, size);
      store.putAtomic(key, value, { commit, meta: { subject: 'golden', purpose: 'format 1', ts: 1_700_000_000_123 } });
      content.set(key, value);
    };
    const first = open(device, { clock: new VirtualClock() });
    put(first, '/state/empty', 0, 'checksummed');
    put(first, '/state/small', 32, 'ordered');
    put(first, '/state/inline', 1500, 'checksummed');
    put(first, '/state/extent', 5000, 'ordered');
    put(first, '/state/gone', 10, 'checksummed');
    const second = open(device, { clock: new VirtualClock() });
    put(second, '/state/small', 33, 'checksummed');
    second.delete('/state/gone');
    content.delete('/state/gone');
    put(second, `/state/${'ü'.repeat(124)}`, 2100, 'checksummed');
    second.close();
    return { image: imageOf(device), content };
  }

  test('is what the store writes today, and reads as it always has', () => {
    const { image, content } = generate();
    if (process.env[REGENERATE] !== undefined) writeFileSync(place, gzipSync(image, { level: 9 }));
    if (!existsSync(place)) throw new Error(`there is no golden image: set ${REGENERATE}=1 once to write it`);
    const golden = new Uint8Array(gunzipSync(readFileSync(place)));
    expect(firstDifference(golden, image)).toBe('none');
    const store = open(deviceOf(golden));
    expect(store.stats().damage).toEqual([]);
    expect(store.list()).toEqual([...content.keys()].sort());
    for (const [key, value] of content) {
      expect(Buffer.compare(store.get(key), value), key).toBe(0);
      const { meta, payloadBytes } = store.stat(key);
      expect({ ...meta, payloadBytes }).toEqual({
        subject: 'golden',
        purpose: 'format 1',
        ts: 1_700_000_000_123,
        payloadBytes: value.length,
      });
    }
  });

  function firstDifference(a: Uint8Array, b: Uint8Array): string {
    if (a.length !== b.length) return `${a.length} and ${b.length} bytes`;
    const at = a.findIndex((byte, i) => byte !== b[i]);
    return at < 0
      ? 'none'
      : `byte ${at % 512} of sector ${Math.floor(at / 512)}: run with ${REGENERATE}=1 if it is meant`;
  }
});

describe('frames', () => {
  const FRAME_BYTES = 2048;
  const codec = new FrameCodec(STORE_ID, 512);

  function seal(body: Uint8Array, fields: Partial<FrameHeader>): Uint8Array {
    const frame = new Uint8Array(Math.ceil((FRAME_HEADER_BYTES + body.length) / 512) * 512);
    frame.set(body, FRAME_HEADER_BYTES);
    const header = Object.assign(new FrameHeader(), { bodyBytes: body.length, sequence: 1, ...fields });
    codec.seal(frame, viewOf(frame), 0, header);
    return frame;
  }

  test('give back header and body, and no sector inside one starts as its user wanted', () => {
    const name = 'give back header and body, and no sector inside one starts as its user wanted';
    const word = fc.constantFrom(FRAME_MAGIC, 0x2e634653, 0, 0x54415453);
    const property = fc.property(
      fc.integer({ min: 0, max: FRAME_BYTES - FRAME_HEADER_BYTES }),
      word,
      fc.nat({ max: 2 ** 32 - 1 }),
      fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
      (length, pattern, epoch, sequence) => {
        const body = new Uint8Array(length);
        for (let at = 0; at + 4 <= length; at += 4) viewOf(body).setUint32(at, pattern, true);
        const frame = seal(body, { type: FRAME_TEMP, epoch, sequence, sector: 99, windowSectors: 3 });
        for (let edge = 512; edge < frame.length; edge += 512) {
          expect(viewOf(frame).getUint32(edge, true)).toBe(0x2e634653);
        }
        const header = new FrameHeader();
        expect(codec.parse(frame, viewOf(frame), 0, 99, header)).toBe(true);
        expect(header).toMatchObject({ type: FRAME_TEMP, epoch, sequence, bodyBytes: length, windowSectors: 3 });
        expect(codec.verify(frame, viewOf(frame), 0, header)).toBe(true);
        codec.restore(viewOf(frame), 0, header);
        const back = frame.subarray(FRAME_HEADER_BYTES, FRAME_HEADER_BYTES + length);
        expect(Buffer.compare(back, body)).toBe(0);
      },
    );
    holdProperty(FILE, name, property, { numRuns: 300 });
  });

  test('count nowhere else, in no other store, and with no bit changed', () => {
    const frame = seal(bytes(1200), { type: FRAME_TEMP, epoch: 3, sector: 40 });
    const header = new FrameHeader();
    const holds = (own: FrameCodec, sector: number): boolean =>
      own.parse(frame, viewOf(frame), 0, sector, header) && own.verify(frame, viewOf(frame), 0, header);
    expect(holds(codec, 40)).toBe(true);
    expect(holds(codec, 41)).toBe(false);
    expect(holds(new FrameCodec(new Uint8Array(16).fill(1), 512), 40)).toBe(false);
    for (let bit = 0; bit < (FRAME_HEADER_BYTES + 1200) * 8; bit++) {
      frame[bit >> 3] = (frame[bit >> 3] as number) ^ (1 << (bit & 7));
      expect(holds(codec, 40), `bit ${bit}`).toBe(false);
      frame[bit >> 3] = (frame[bit >> 3] as number) ^ (1 << (bit & 7));
    }
  });

  test('of arbitrary bytes, held to their checksums or not, throw nowhere', () => {
    const name = 'of arbitrary bytes, held to their checksums or not, throw nowhere';
    const noise = fc.uint8Array({ minLength: FRAME_BYTES, maxLength: FRAME_BYTES });
    const small = fc.oneof(fc.nat({ max: 64 }), fc.nat({ max: 0xffff }));
    const property = fc.property(noise, small, fc.boolean(), (frame, bodyBytes, checksums) => {
      const view = viewOf(frame);
      view.setUint32(0, FRAME_MAGIC, true);
      const own = new FrameCodec(STORE_ID, 512, checksums);
      const header = new FrameHeader();
      own.parse(frame, view, 0, 5, header);
      header.bodyBytes = bodyBytes;
      own.verify(frame, view, 0, header);
      // Bodies are read only once they fit into a frame.
      const fitting = Math.min(bodyBytes, FRAME_BYTES - FRAME_HEADER_BYTES);
      readTempBody(frame, view, 0, fitting);
      readCommitBody(frame, view, 0, fitting);
    });
    holdProperty(FILE, name, property, { numRuns: 500 });
  });
});

describe('lies under good checksums', () => {
  const REGION_END = 16 + 120;
  const GOOD_VALUE = bytes(600, 3);

  /** What a frame of the hostile group may lie about; what is left out is the truth. */
  interface Lies {
    readonly frame?: Partial<FrameHeader>;
    readonly temp?: Partial<Parameters<typeof writeTempBody>[3]>;
    readonly commit?: Partial<Parameters<typeof writeCommitBody>[2]>;
    readonly commitFrame?: Partial<FrameHeader>;
    readonly entry?: Partial<Parameters<typeof appendEntry>[4]>;
    /** Bytes to be changed in the body of the temp frame, and of the commit, before they are sealed. */
    readonly tempPatch?: readonly [number, number];
    readonly commitPatch?: readonly [number, number];
  }

  /** A store with one good key, and behind it a group that whoever wrote it sealed with the store's own checksums. */
  function hostile(lies: Lies, isFollowed = false): Uint8Array {
    const device = formatted(256);
    const store = open(device, { clock: new VirtualClock() });
    store.putAtomic('/state/good', GOOD_VALUE);
    const { epoch, lastSequence } = store.stats();
    if (isFollowed) {
      // The group that is about to be replaced, and one behind it; all of them below the frontier.
      store.putAtomic('/state/evil', bytes(40, 9));
      store.putAtomic('/state/after', GOOD_VALUE);
      store.close();
    }
    const image = imageOf(device);
    const codec = new FrameCodec(STORE_ID, 512);
    // The good group: a temp frame of two sectors, and its commit.
    const sector = 19;
    const payload = bytes(40, 9);
    const keyBytes = new TextEncoder().encode('/state/evil');
    const staging = new Uint8Array(8192);
    const view = viewOf(staging);
    const envelope = encode(wrap(payload, { subject: '', purpose: '', ts: 0 }));
    const extentFrames = lies.temp?.extentFrames ?? 0;
    const content = {
      kind: KIND_PUT,
      keyBytes,
      envelope,
      payloadBytes: 40,
      inline: payload,
      extentFrames,
      extentSector: 0,
    };
    const header = new FrameHeader();
    const common = { epoch, sequence: lastSequence + 1, durableSequence: lastSequence, windowSectors: 2 };
    const inline = extentFrames > 0 ? undefined : payload;
    let bodyBytes = writeTempBody(staging, view, 0, { ...content, inline, ...lies.temp });
    patch(staging, lies.tempPatch, bodyBytes);
    Object.assign(header, {
      type: FRAME_TEMP,
      flags: FLAG_LAST,
      bodyBytes,
      index: 0,
      sector,
      ...common,
      ...lies.frame,
    });
    codec.seal(staging, view, 0, header);
    image.set(staging.subarray(0, 512), sector * 512);
    staging.fill(0);
    bodyBytes = writeCommitBody(view, 0, {
      groupSector: sector,
      payloadFloor: REGION_END,
      operationCount: 1,
      firstEntry: 0,
      ...lies.commit,
    });
    const digest = sha256(payload);
    bodyBytes = appendEntry(staging, view, 0, bodyBytes, {
      kind: KIND_PUT,
      keyBytes,
      payloadBytes: 40,
      extentSector: lies.temp?.extentSector ?? 0,
      digest,
      ...lies.entry,
    });
    patch(staging, lies.commitPatch, bodyBytes);
    const flags = FLAG_LAST | FLAG_ORDERED;
    Object.assign(header, { type: FRAME_COMMIT, flags, bodyBytes, sector: sector + 1, ...common, windowSectors: 1 });
    Object.assign(header, lies.commitFrame);
    codec.seal(staging, view, 0, header);
    image.set(staging.subarray(0, 512), (sector + 1) * 512);
    return image;
  }

  function patch(staging: Uint8Array, change: readonly [number, number] | undefined, bodyBytes: number): void {
    if (change === undefined) return;
    staging[FRAME_HEADER_BYTES + (change[0] % bodyBytes)] = change[1];
  }

  /** Opens and reads everything: coded errors only, and the good key is there. */
  function withstand(image: Uint8Array): StateFs {
    const store = openCoded(image);
    expect(Buffer.compare(store.get('/state/good'), GOOD_VALUE)).toBe(0);
    for (const key of store.list()) {
      try {
        store.get(key);
      } catch (error) {
        if (!(error instanceof StateFsError)) throw error;
      }
    }
    return store;
  }

  function openCoded(image: Uint8Array): StateFs {
    return open(deviceOf(image), { acceptStale: true, clock: new VirtualClock() });
  }

  test('the group of the tests is good as long as it tells the truth', () => {
    const store = withstand(hostile({}));
    expect(store.list()).toEqual(['/state/evil', '/state/good']);
    expect(store.get('/state/evil')).toEqual(bytes(40, 9));
  });

  const HUGE = Number.MAX_SAFE_INTEGER;
  const extent = (extentSector: number, extentFrames: number, payloadBytes: number): Lies => ({
    temp: { extentSector, extentFrames, payloadBytes },
    entry: { payloadBytes, extentSector },
    commit: { payloadFloor: Math.min(extentSector, REGION_END) },
  });
  const lies: [string, Lies][] = [
    ['a temp frame of 65535 bytes', { frame: { bodyBytes: 0xffff } }],
    ['a temp frame of no bytes', { frame: { bodyBytes: 0 } }],
    ['a commit frame of 65535 bytes', { commitFrame: { bodyBytes: 0xffff } }],
    ['a payload of 4 GiB, inline', { temp: { payloadBytes: 0xffff_ffff }, entry: { payloadBytes: 0xffff_ffff } }],
    ['a payload of 64 MiB in an extent of one frame', extent(100, 1, 64 << 20)],
    ['a payload of 64 MiB in all its frames', extent(100, Math.ceil((64 << 20) / 1984), 64 << 20)],
    ['2^32 - 1 payload frames', extent(100, 0xffff_ffff, 3000)],
    ['an extent before the log', extent(2, 2, 3000)],
    ['an extent over the superblocks', extent(0, 2, 3000)],
    ['an extent over the group itself', extent(19, 2, 3000)],
    ['an extent over the good group', extent(16, 2, 3000)],
    ['an extent past the region', extent(REGION_END - 2, 2, 3000)],
    ['an extent past the device', extent(10_000, 2, 3000)],
    ['an extent past 2^53', extent(HUGE, 2, 3000)],
    ['a commit of another group', { commit: { groupSector: 16 } }],
    ['a commit of a group past the device', { commit: { groupSector: HUGE } }],
    ['a commit of 65535 operations', { commit: { operationCount: 0xffff } }],
    ['a commit of 64 operations', { commit: { operationCount: 64 } }],
    ['a payload floor of zero', { commit: { payloadFloor: 0 } }],
    ['a payload floor inside the group', { commit: { payloadFloor: 20 } }],
    ['a payload floor past the region', { commit: { payloadFloor: HUGE } }],
    ['another key in the commit', { entry: { keyBytes: new TextEncoder().encode('/state/else') } }],
    ['a key outside the root', { temp: { keyBytes: new TextEncoder().encode('/other/evil') } }],
    ['the last sequence number that there is', { frame: { sequence: HUGE }, commitFrame: { sequence: HUGE } }],
    ['proof of everything', { frame: { durableSequence: HUGE }, commitFrame: { durableSequence: HUGE } }],
    ['a window of 2^32 - 1 sectors', { frame: { windowSectors: 0xffff_ffff, bodyBytes: 0 } }],
    ['a frame number that is not the first', { frame: { index: 7 } }],
    ['more temp frames to come', { frame: { flags: 0 } }],
    ['the type of a payload frame', { frame: { type: FRAME_PAYLOAD } }],
    ['an epoch to come', { frame: { epoch: 0xffff_ffff }, commitFrame: { epoch: 0xffff_ffff } }],
  ];

  test.each(lies)('%s: nothing good is lost, and the wrong value is never given', (_name, lie) => {
    const image = hostile(lie);
    const store = withstand(image);
    const code = codeThrown(() => {
      expect(Buffer.compare(store.get('/state/evil'), bytes(40, 9))).toBe(0);
    });
    expect(['none', 'ENOENT', 'EINTEGRITY', 'EIO']).toContain(code);
  });

  test.each(lies)('%s, in the midst of the log: what follows is there, or its loss is reported', (_name, lie) => {
    const store = withstand(hostile(lie, true));
    const isThere = codeThrown(() => store.get('/state/after')) === 'none';
    if (isThere) expect(Buffer.compare(store.get('/state/after'), GOOD_VALUE)).toBe(0);
    else expect(store.stats().damage).not.toEqual([]);
  });

  test.each(lies)('%s: allocates nothing in proportion', (_name, lie) => {
    const image = hostile(lie);
    const before = process.memoryUsage().arrayBuffers;
    const store = openCoded(image);
    codeThrown(() => store.get('/state/evil'));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 << 20);
  });

  test('any byte of a sealed record may lie', () => {
    const name = 'any byte of a sealed record may lie';
    const change = fc.tuple(fc.nat({ max: 500 }), fc.integer({ min: 0, max: 255 }));
    const edge = fc.constantFrom(0, 1, 15, 16, 18, 19, 20, 21, REGION_END - 1, REGION_END, 255, 256, 2 ** 32, HUGE);
    const property = fc.property(
      fc.option(change, { nil: undefined }),
      fc.option(change, { nil: undefined }),
      fc.record({ groupSector: edge, payloadFloor: edge, operationCount: fc.nat({ max: 70 }) }, { requiredKeys: [] }),
      fc.record({ flags: fc.nat({ max: 3 }), sequence: edge, durableSequence: edge }, { requiredKeys: [] }),
      fc.record({ flags: fc.nat({ max: 3 }), sequence: edge, durableSequence: edge }, { requiredKeys: [] }),
      (tempPatch, commitPatch, commit, frame, commitFrame) => {
        const patches = {
          ...(tempPatch === undefined ? {} : { tempPatch }),
          ...(commitPatch === undefined ? {} : { commitPatch }),
        };
        withstand(hostile({ ...patches, commit, frame, commitFrame }));
      },
    );
    holdProperty(FILE, name, property, { numRuns: 400 });
  });

  test('noise in place of the log, with a frame header on every sector, throws nothing', () => {
    const name = 'noise in place of the log, with a frame header on every sector, throws nothing';
    const codec = new FrameCodec(STORE_ID, 512);
    const word = fc.record({
      type: fc.integer({ min: 0, max: 4 }),
      flags: fc.nat({ max: 3 }),
      bodyBytes: fc.nat({ max: 448 }),
      epoch: fc.integer({ min: 1, max: 4 }),
      index: fc.nat({ max: 2 }),
      sequence: fc.integer({ min: 1, max: 6 }),
      durableSequence: fc.nat({ max: 6 }),
      windowSectors: fc.nat({ max: 8 }),
    });
    const property = fc.property(fc.array(word, { minLength: 1, maxLength: 40 }), (headers) => {
      const image = hostile({});
      for (const [i, fields] of headers.entries()) {
        const sector = image.subarray((19 + i) * 512, (20 + i) * 512);
        codec.seal(sector, viewOf(sector), 0, Object.assign(new FrameHeader(), { ...fields, sector: 19 + i }));
      }
      withstand(image);
    });
    holdProperty(FILE, name, property, { numRuns: 400 });
  });
});
