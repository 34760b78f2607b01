import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FileDevice, MemoryDevice } from '../../src/blockdev/index.ts';
import { DeviceError, equalBytes } from '../../src/core/index.ts';
import {
  COMMAND,
  ERROR,
  FLAG,
  MAX_PAYLOAD_BYTES,
  type NbdClient,
  type NbdClientOptions,
  ServedDisk,
  STATE,
} from '../../src/serve/index.ts';
import { parseReplay, replayLine } from '../property/replay.ts';
import { pattern, type Serving, serving, temporaryFolder } from './harness.ts';

const FILE = 'test/serve/nbd-transmission.test.ts';
const MODES: [string, NbdClientOptions][] = [
  ['structured replies', {}],
  ['structured replies, any alignment', { blockSizes: false }],
  ['simple replies', { structured: false }],
  ['simple replies, NBD_OPT_EXPORT_NAME', { structured: false, oldStyle: true }],
];
const MiB = 1024 * 1024;

function errorOf(value: number): { value: number } {
  return expect.objectContaining({ name: 'NbdError', value });
}

describe.each(MODES)('with %s', (_name, options) => {
  test.each([512, 4096, 65_536, 131_072, 131_584, 262_144, 262_656, MiB + 512, 3 * MiB])(
    'what was written is read, %i bytes',
    async (length) => {
      const { connect } = await serving({ sectorCount: 16_384 });
      const client = await connect(options);
      const bytes = pattern(length, 3);
      await client.write(5 * 512, bytes);
      expect(equalBytes(await client.read(5 * 512, length), bytes)).toBe(true);
      const around = await client.read(0, length + 10 * 512);
      expect(around.subarray(0, 5 * 512).every((byte) => byte === 0)).toBe(true);
      expect(around.subarray(5 * 512 + length).every((byte) => byte === 0)).toBe(true);
      await client.disconnect();
    },
  );

  test('the longest payload goes both ways', async () => {
    const { connect } = await serving({ sectorCount: 2 * 65_536, profile: null });
    const client = await connect(options);
    const bytes = pattern(MAX_PAYLOAD_BYTES, 9);
    await client.write(512, bytes);
    expect(equalBytes(await client.read(512, MAX_PAYLOAD_BYTES), bytes)).toBe(true);
  });

  test('zeros are written, with and without room, and trims read as anything', async () => {
    const { connect } = await serving();
    const client = await connect(options);
    await client.write(0, pattern(64 * 512, 1));
    await client.writeZeroes(512, 1024);
    await client.writeZeroes(4096, 4096, FLAG.noHole | FLAG.fua);
    await client.trim(16_384, 4096, FLAG.fua);
    const found = await client.read(0, 64 * 512);
    const wanted = pattern(64 * 512, 1);
    wanted.fill(0, 512, 512 + 1024);
    wanted.fill(0, 4096, 8192);
    wanted.fill(0, 16_384, 20_480);
    expect(equalBytes(found, wanted)).toBe(true);
  });

  test('what is wrong gets the error that the protocol names, and the connection goes on', async () => {
    const { connect, server } = await serving({ sectorCount: 2 ** 18 });
    const client = await connect(options);
    const size = client.info.sizeBytes;
    const { read, write, flush, trim, cache, writeZeroes, blockStatus } = COMMAND;
    const tooLong = options.structured === false ? ERROR.invalid : ERROR.overflow;
    const cases: [string, number, number, number, number, number][] = [
      ['a read past the end', read, size - 512, 1024, 0, ERROR.invalid],
      ['a read from far beyond', read, Number.MAX_SAFE_INTEGER, 512, 0, ERROR.invalid],
      ['a trim past the end', trim, size, 512, 0, ERROR.invalid],
      ['a write past the end', write, size - 512, 1024, 0, ERROR.noSpace],
      ['zeros past the end', writeZeroes, size - 512, 1024, 0, ERROR.noSpace],
      ['a read of nothing', read, 0, 0, 0, ERROR.invalid],
      ['a write of nothing', write, 0, 0, 0, ERROR.invalid],
      ['a flush with a length', flush, 0, 512, 0, ERROR.invalid],
      ['a flush with an offset', flush, 512, 0, 0, ERROR.invalid],
      ['a read that is too long', read, 0, MAX_PAYLOAD_BYTES + 512, 0, tooLong],
      ['a write that is too long', write, 0, MAX_PAYLOAD_BYTES + 512, 0, ERROR.invalid],
      ['a flag of another command', read, 0, 512, FLAG.noHole, ERROR.invalid],
      ['a flag that there is not', write, 0, 512, 1 << 9, ERROR.invalid],
      ['a flag on a cache request', cache, 0, 512, FLAG.df, ERROR.invalid],
      ['a command that there is not', 8, 0, 0, 0, ERROR.invalid],
      ['another', 0xffff, 0, 512, 0, ERROR.invalid],
      ['fast zeros that must occupy room', writeZeroes, 0, 512, FLAG.fastZero | FLAG.noHole, ERROR.notSupported],
    ];
    if (options.structured === false) {
      cases.push(['a block status without a context', blockStatus, 0, 512, 0, ERROR.invalid]);
      cases.push(['NBD_CMD_FLAG_DF', read, 0, 512, FLAG.df, ERROR.invalid]);
    }
    for (const [what, type, offset, length, flags, value] of cases) {
      const data = type === write ? new Uint8Array(length) : undefined;
      await expect(client.request(type, offset, length, flags, data), what).rejects.toEqual(errorOf(value));
    }
    expect(server.statistics.requestsFailed).toBe(cases.length);
    expect((await client.read(0, 512)).every((byte) => byte === 0)).toBe(true);
  });

  test('a write over a part of a sector keeps the rest, or is refused to a client that was told the block size', async () => {
    const { connect } = await serving();
    const client = await connect(options);
    const isTold = options.blockSizes !== false && options.oldStyle !== true;
    if (isTold) {
      for (const [offset, length] of [
        [1, 512],
        [0, 100],
        [511, 2],
      ] as const) {
        await expect(client.write(offset, new Uint8Array(length))).rejects.toEqual(errorOf(ERROR.invalid));
        await expect(client.read(offset, length)).rejects.toEqual(errorOf(ERROR.invalid));
      }
      return;
    }
    const wanted = pattern(300_000, 5);
    await client.write(0, wanted.slice(0, 299_520));
    wanted.fill(0, 299_520);
    const parts: [number, number][] = [
      [1, 3],
      [510, 4],
      [100, 512],
      [700, 5000],
      [1023, 1026],
      [7, 280_001],
    ];
    for (const [i, [offset, length]] of parts.entries()) {
      const bytes = pattern(length, 100 + i);
      await client.write(offset, bytes, FLAG.fua);
      wanted.set(bytes, offset);
      expect(equalBytes(await client.read(offset, length), bytes), `${offset}+${length}`).toBe(true);
    }
    await client.writeZeroes(333, 3333);
    wanted.fill(0, 333, 3666);
    await client.trim(5000, 600);
    expect(equalBytes(await client.read(0, 299_520), wanted.subarray(0, 299_520))).toBe(true);
  });

  test('requests that overlap are all answered, each with its own bytes', async () => {
    const { connect } = await serving({ sectorCount: 65_536 });
    const client = await connect(options);
    const writes = Array.from({ length: 200 }, (_, i) => client.write(i * 8192, pattern(4096 + (i % 8) * 512, i)));
    await Promise.all(writes);
    const reads = await Promise.all(Array.from({ length: 200 }, (_, i) => client.read(i * 8192, 4096 + (i % 8) * 512)));
    for (const [i, bytes] of reads.entries())
      expect(equalBytes(bytes, pattern(4096 + (i % 8) * 512, i)), `${i}`).toBe(true);
  });
});

describe('structured replies', () => {
  test('NBD_CMD_FLAG_DF: one content chunk, whatever the length; without it long reads come in several', async () => {
    const { connect } = await serving({ sectorCount: 65_536 });
    const client = await connect();
    const bytes = pattern(MiB, 2);
    await client.write(0, bytes);
    for (const length of [512, 65_536, 131_072, MiB]) {
      const whole = await client.request(COMMAND.read, 0, length, FLAG.df);
      expect(whole.contentCount).toBe(1);
      expect(equalBytes(whole.data as Buffer, bytes.subarray(0, length))).toBe(true);
    }
    expect((await client.request(COMMAND.read, 0, MiB, 0)).contentCount).toBeGreaterThan(1);
  });

  test('a long read of a hole brings no zeros over the wire', async () => {
    const { connect, server } = await serving({ sectorCount: 65_536 });
    const client = await connect();
    expect((await client.read(0, 16 * MiB)).every((byte) => byte === 0)).toBe(true);
    expect(server.statistics.bytesRead).toBe(0);
  });

  test.each([0, FLAG.df])('an error in the midst of a long read is an error chunk (flags %i)', async (flags) => {
    const disk = new ServedDisk(new BadSector({ sectorCount: 8192 }, 5000));
    const { connect } = await serving({ disk });
    const client = await connect();
    await client.write(0, pattern(512, 1));
    await expect(client.request(COMMAND.read, 0, 4 * MiB, flags)).rejects.toMatchObject({
      value: ERROR.io,
      message: expect.stringContaining('sector 5000'),
    });
    expect(equalBytes(await client.read(0, 512), pattern(512, 1))).toBe(true);
    await expect(client.read(5000 * 512, 512)).rejects.toEqual(errorOf(ERROR.io));
  });

  test('an error in the midst of a long simple reply ends the connection: its header promised success', async () => {
    const disk = new ServedDisk(new BadSector({ sectorCount: 8192 }, 5000));
    const { connect } = await serving({ disk });
    const client = await connect({ structured: false });
    await expect(client.read(0, 4 * MiB)).rejects.toMatchObject({ code: 'EIO' });
    const other = await connect({ structured: false });
    await expect(other.read(5000 * 512, 512)).rejects.toEqual(errorOf(ERROR.io));
    expect((await other.read(0, 512)).length).toBe(512);
  });
});

/** A disk with a sector that can't be read. */
class BadSector extends MemoryDevice {
  readonly #bad: number;

  constructor(geometry: { sectorCount: number }, bad: number) {
    super(geometry);
    this.#bad = bad;
  }

  override read(sector: number, target: Uint8Array): void {
    if (sector <= this.#bad && this.#bad < sector + target.length / 512)
      throw new DeviceError('EIO', `sector ${this.#bad} can't be read`);
    super.read(sector, target);
  }

  /** So that nothing is taken for a hole. */
  override extent(_sector: number, sectorCount: number): number {
    return sectorCount;
  }
}

describe('NBD_CMD_BLOCK_STATUS', () => {
  const HOLE = STATE.hole | STATE.zero;
  const total = (extents: readonly { lengthBytes: number }[]): number =>
    extents.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);

  test('tells holes from what was written, in the cache and on the medium', async () => {
    const { connect } = await serving({ sectorCount: 65_536 });
    const client = await connect();
    expect(await client.blockStatus(0, 32 * MiB)).toEqual([{ lengthBytes: 32 * MiB, flags: HOLE }]);
    await client.write(MiB, pattern(4096, 1));
    const unflushed = await client.blockStatus(0, 32 * MiB);
    expect(unflushed).toEqual([
      { lengthBytes: MiB, flags: HOLE },
      { lengthBytes: 4096, flags: 0 },
      { lengthBytes: 31 * MiB - 4096, flags: HOLE },
    ]);
    await client.flush();
    expect((await client.blockStatus(0, 32 * MiB)).map(({ flags }) => flags)).toEqual([HOLE, 0, HOLE]);
    await client.writeZeroes(0, 32 * MiB);
    await client.flush();
    for (const { flags } of await client.blockStatus(0, MiB)) expect(flags).toBe(HOLE);
  });

  test('NBD_CMD_FLAG_REQ_ONE: one extent, not longer than asked for', async () => {
    const { connect } = await serving({ sectorCount: 65_536 });
    const client = await connect();
    await client.write(8192, pattern(4096, 1));
    expect(await client.blockStatus(0, 8704, FLAG.reqOne)).toEqual([{ lengthBytes: 8192, flags: HOLE }]);
    expect(await client.blockStatus(8704, 512, FLAG.reqOne)).toEqual([{ lengthBytes: 512, flags: 0 }]);
  });

  test('never says more than was asked for, and goes on where it ended', async () => {
    const { connect } = await serving({ sectorCount: 2 ** 20, profile: null });
    const client = await connect();
    for (let i = 0; i < 1500; i++) await client.write(i * 2 * 65_536, pattern(512, i));
    const size = client.info.sizeBytes;
    const counts: number[] = [];
    for (let at = 0; at < size; ) {
      const extents = await client.blockStatus(at, size - at);
      counts.push(extents.length);
      at += total(extents);
      expect(at).toBeLessThanOrEqual(size);
    }
    expect(counts).toEqual([1024, 1024, 952]);
  });

  test('of an image is data: its blocks are written out', async () => {
    const disk = new ServedDisk(FileDevice.create(join(temporaryFolder(), 'disk.img'), { sectorCount: 128 }));
    const { connect } = await serving({ disk });
    const client = await connect();
    expect(await client.blockStatus(0, 65_536)).toEqual([{ lengthBytes: 65_536, flags: 0 }]);
    // And to zero it is no faster than to write it.
    await expect(client.writeZeroes(0, 512, FLAG.fastZero)).rejects.toEqual(errorOf(ERROR.notSupported));
    await client.writeZeroes(0, 512);
  });
});

describe('flush and FUA', () => {
  test('a flush on one connection covers the writes that were answered on all', async () => {
    const { connect, disk } = await serving();
    const [first, second] = [await connect(), await connect()];
    await first.write(0, pattern(512, 1));
    await second.write(512, pattern(512, 2));
    await second.flush();
    await first.write(1024, pattern(512, 3));
    disk.cut();
    disk.resolve('all-lost');
    disk.powerOn();
    const client = await connect();
    const found = await client.read(0, 1536);
    expect(equalBytes(found.subarray(0, 512), pattern(512, 1))).toBe(true);
    expect(equalBytes(found.subarray(512, 1024), pattern(512, 2))).toBe(true);
    expect(found.subarray(1024).every((byte) => byte === 0)).toBe(true);
  });

  test.each([
    ['a write', (client: NbdClient) => client.write(4096, pattern(4096, 1), FLAG.fua), pattern(4096, 1)],
    ['zeros', (client: NbdClient) => client.writeZeroes(4096, 4096, FLAG.fua), new Uint8Array(4096)],
  ])('%s with NBD_CMD_FLAG_FUA is durable when it is answered, and without it is not', async (_what, write, wanted) => {
    const { connect, disk } = await serving();
    const client = await connect();
    await client.write(4096, pattern(4096, 77));
    await client.write(8192, pattern(512, 78));
    await write(client);
    disk.cut();
    disk.resolve('all-lost');
    disk.powerOn();
    const again = await connect();
    expect(equalBytes(await again.read(4096, 4096), wanted)).toBe(true);
  });
});

/** Everything that clients may do, on three connections, against bytes in memory. */
describe('any requests of several clients', () => {
  const SIZE = 600 * 512;
  const range = fc.record({ offset: fc.nat({ max: SIZE - 1 }), length: fc.integer({ min: 1, max: 40_000 }) });
  const step = fc.record({
    client: fc.nat({ max: 2 }),
    kind: fc.constantFrom('write', 'write', 'read', 'writeZeroes', 'flush', 'trim', 'blockStatus' as const),
    range,
    fua: fc.boolean(),
    noHole: fc.boolean(),
  });
  type Steps = {
    client: number;
    kind: string;
    range: { offset: number; length: number };
    fua: boolean;
    noHole: boolean;
  }[];

  async function run(world: Serving, steps: Steps): Promise<void> {
    const clients = [
      await world.connect({ structured: false, oldStyle: true }),
      await world.connect({ blockSizes: false }),
      await world.connect(),
    ];
    const model = new Uint8Array(SIZE);
    await (clients[0] as NbdClient).writeZeroes(0, SIZE);
    for (const [
      i,
      {
        client: index,
        kind,
        range: { offset: start, length: most },
        fua,
        noHole,
      },
    ] of steps.entries()) {
      const client = clients[index] as NbdClient;
      const unit = index === 2 ? 512 : 1;
      const offset = start - (start % unit);
      const length = Math.min(SIZE - offset, Math.ceil(most / unit) * unit);
      const flags = fua ? FLAG.fua : 0;
      if (kind === 'write') {
        const bytes = pattern(length, i);
        await client.write(offset, bytes, flags);
        model.set(bytes, offset);
      } else if (kind === 'writeZeroes') {
        await client.writeZeroes(offset, length, flags | (noHole ? FLAG.noHole : 0));
        model.fill(0, offset, offset + length);
      } else if (kind === 'trim') {
        await client.trim(offset, length, flags);
        // What was trimmed reads as anything: it is written again.
        const bytes = pattern(length, i + 1000);
        await client.write(offset, bytes);
        model.set(bytes, offset);
      } else if (kind === 'flush') {
        await client.flush();
      } else if (kind === 'blockStatus' && index > 0) {
        await expectHolesAreZeros(client, model, offset, length);
      } else {
        const found = await client.read(offset, length);
        if (!equalBytes(found, model.subarray(offset, offset + length)))
          throw new Error(`a read at ${offset} is wrong`);
      }
    }
    const last = await (clients[1] as NbdClient).read(0, SIZE);
    if (!equalBytes(last, model)) throw new Error('the disk is wrong in the end');
    for (const client of clients) client.destroy();
  }

  async function expectHolesAreZeros(
    client: NbdClient,
    model: Uint8Array,
    from: number,
    length: number,
  ): Promise<void> {
    let at = from;
    for (const { lengthBytes, flags } of await client.blockStatus(from, length)) {
      const part = model.subarray(at, at + lengthBytes);
      if (flags !== 0 && part.some((byte) => byte !== 0)) throw new Error(`what is no zeros is called a hole at ${at}`);
      at += lengthBytes;
    }
    if (at > from + length) throw new Error('a block status says more than was asked for');
  }

  const NAME = 'read what was written last';
  const script = fc.array(step, { minLength: 1, maxLength: 30 });

  test(NAME, async () => {
    const world = await serving({ sectorCount: 600 });
    await holdAsync(
      FILE,
      NAME,
      fc.asyncProperty(script, (steps) => run(world, steps)),
      40,
    );
  });

  test('and a disk that forgets a part of a sector is noticed', async () => {
    /** Loses what a write of a part of a sector should have kept. */
    class Careless extends MemoryDevice {
      #wasRead = -1;
      override read(sector: number, target: Uint8Array): void {
        super.read(sector, target);
        this.#wasRead = target.length === 512 ? sector : -1;
      }
      override write(...[sector, source, options]: Parameters<MemoryDevice['write']>): void {
        const isKept = this.#wasRead !== sector || source.length !== 512;
        super.write(sector, isKept ? source : source.map((byte, i) => (i === 511 ? byte ^ 1 : byte)), options);
      }
    }
    const world = await serving({ disk: new ServedDisk(new Careless({ sectorCount: 600 })) });
    const details = await fc.check(
      fc.asyncProperty(script, (steps) => run(world, steps)),
      { numRuns: 60, seed: 1, endOnFailure: true },
    );
    expect(details.failed).toBe(true);
  });
});

/** Holds an asynchronous property, or throws with the line that repeats the failure. */
async function holdAsync<T>(
  file: string,
  name: string,
  property: fc.IAsyncProperty<T>,
  numRuns: number,
): Promise<void> {
  const details = await fc.check(property, { numRuns, ...parseReplay(process.env['POWERCUT_SEED']) });
  if (!details.failed) return;
  const line = replayLine(file, name, details.seed, details.counterexamplePath);
  throw new Error(`${fc.defaultReportMessage(details)}\n\nrepeat it: ${line}\n`, { cause: details.errorInstance });
}
