import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { profiles } from '../../src/faults/index.ts';
import {
  ClientHandshake,
  COMMAND,
  INFO,
  infoData,
  metaContextData,
  NbdClient,
  NbdServer,
  OPTION,
  REPLY,
  ServedDisk,
  TRANSMISSION,
} from '../../src/serve/index.ts';
import { serving, untilClosed } from './harness.ts';

/** The clauses are headings of doc/proto.md of the nbd project. */
describe('the handshake', () => {
  test('NBD_OPT_LIST names the export, and refuses data', async () => {
    const { address } = await serving({ exportName: 'disk', description: 'a disk' });
    const client = await ClientHandshake.start(address);
    expect(await client.list()).toEqual(['disk']);
    expect((await client.option(OPTION.list, Buffer.from('x')))[0]?.type).toBe(REPLY.errInvalid);
    client.socket.destroy();
  });

  test('NBD_OPT_INFO and NBD_OPT_GO tell size, flags, block sizes, and the same both times', async () => {
    const { address } = await serving({ exportName: 'disk', description: 'a disk' });
    const client = await ClientHandshake.start(address);
    await client.expect(OPTION.structuredReply);
    const types = [INFO.export, INFO.name, INFO.description, INFO.blockSize];
    const info = await client.info(OPTION.info, 'disk', types);
    expect(info.sizeBytes).toBe(4096 * 512);
    expect(info.blockSizes).toEqual([512, 4096, 2 ** 25]);
    const wanted =
      TRANSMISSION.hasFlags |
      TRANSMISSION.sendFlush |
      TRANSMISSION.sendFua |
      TRANSMISSION.sendTrim |
      TRANSMISSION.sendWriteZeroes |
      TRANSMISSION.sendDf |
      TRANSMISSION.canMultiConn |
      TRANSMISSION.sendCache |
      TRANSMISSION.sendFastZero;
    expect(info.transmissionFlags).toBe(wanted);
    const replies = await client.expect(OPTION.info, infoData('disk', types));
    const texts = replies.map(({ data }) => [data.readUInt16BE(0), data.subarray(2).toString()] as const);
    expect(new Map(texts).get(INFO.name)).toBe('disk');
    expect(new Map(texts).get(INFO.description)).toBe('a disk');
    expect(await client.info(OPTION.go, 'disk', types)).toEqual(info);
    client.socket.destroy();
  });

  test('NBD_FLAG_SEND_DF is left clear without structured replies', async () => {
    const { address } = await serving();
    const client = await ClientHandshake.start(address);
    const info = await client.info(OPTION.info, '', []);
    expect(info.transmissionFlags & TRANSMISSION.sendDf).toBe(0);
    client.socket.destroy();
  });

  test('a read-only export says so, and offers nothing that writes', async () => {
    const disk = new ServedDisk(new MemoryDevice({ sectorCount: 64, readOnly: true }));
    const { connect } = await serving({ disk });
    const { info } = await connect();
    expect(info.transmissionFlags & TRANSMISSION.readOnly).not.toBe(0);
    const writing = TRANSMISSION.sendTrim | TRANSMISSION.sendWriteZeroes | TRANSMISSION.sendFastZero;
    expect(info.transmissionFlags & writing).toBe(0);
  });

  test('an export that there is not is NBD_REP_ERR_UNKNOWN, and ends the session of NBD_OPT_EXPORT_NAME', async () => {
    const { address } = await serving({ exportName: 'disk' });
    const client = await ClientHandshake.start(address);
    for (const option of [OPTION.info, OPTION.go]) {
      const replies = await client.option(option, infoData('other', []));
      expect(replies.map(({ type }) => type)).toEqual([REPLY.errUnknown]);
    }
    await expect(client.exportName('other')).rejects.toThrow(/closed/);
  });

  test.each([
    ['the default export', ''],
    ['its name', 'disk'],
  ])('NBD_OPT_EXPORT_NAME with %s begins transmission, with and without 124 zeros', async (_what, name) => {
    const { address } = await serving({ exportName: 'disk' });
    for (const flags of [1, 3]) {
      const client = await ClientHandshake.start(address, flags);
      const { sizeBytes } = await client.exportName(name);
      expect(sizeBytes).toBe(4096 * 512);
      client.socket.destroy();
    }
  });

  test('NBD_OPT_ABORT is acknowledged, whatever data it has, and the connection ends', async () => {
    const { address } = await serving();
    const client = await ClientHandshake.start(address);
    const closed = untilClosed(client.socket);
    expect((await client.option(OPTION.abort, Buffer.from('why'))).map(({ type }) => type)).toEqual([REPLY.ack]);
    await closed;
  });

  test('options that there are not, TLS among them, are NBD_REP_ERR_UNSUP, and haggling goes on', async () => {
    const { address } = await serving();
    const client = await ClientHandshake.start(address);
    for (const option of [4, OPTION.startTls, 11, 77, 0xffff_ffff]) {
      const replies = await client.option(option, Buffer.from('data'));
      expect(replies.map(({ type }) => type)).toEqual([REPLY.errUnsup]);
    }
    expect(await client.list()).toEqual(['']);
    client.socket.destroy();
  });

  test('metadata contexts need structured replies; base: is a wildcard for the list alone', async () => {
    const { address } = await serving();
    const client = await ClientHandshake.start(address);
    const { listMetaContext, setMetaContext } = OPTION;
    for (const option of [listMetaContext, setMetaContext]) {
      const replies = await client.option(option, metaContextData('', ['base:allocation']));
      expect(replies.map(({ type }) => type)).toEqual([REPLY.errInvalid]);
    }
    await client.expect(OPTION.structuredReply);
    const names = async (option: number, queries: string[]) => [
      ...(await client.metaContexts(option, '', queries)).keys(),
    ];
    expect(await names(listMetaContext, [])).toEqual(['base:allocation']);
    expect(await names(listMetaContext, ['base:'])).toEqual(['base:allocation']);
    expect(await names(listMetaContext, ['qemu:', 'base:other'])).toEqual([]);
    expect(await names(setMetaContext, ['base:'])).toEqual([]);
    expect(await names(setMetaContext, ['x-a:b', 'base:allocation'])).toEqual(['base:allocation']);
    expect(await names(setMetaContext, [])).toEqual([]);
    const unknown = await client.option(setMetaContext, metaContextData('other', ['base:allocation']));
    expect(unknown.at(-1)?.type).toBe(REPLY.errUnknown);
    client.socket.destroy();
  });

  test('a context that was selected for another export, or replaced by a failure, is not selected', async () => {
    const { address } = await serving({ exportName: 'disk' });
    const attempts: [string, (client: ClientHandshake) => Promise<unknown>][] = [
      ['another name', (client) => client.metaContexts(OPTION.setMetaContext, 'disk', ['base:allocation'])],
      [
        'a failure',
        async (client) => {
          await client.metaContexts(OPTION.setMetaContext, '', ['base:allocation']);
          await client.option(OPTION.setMetaContext, Buffer.from('bad'));
        },
      ],
    ];
    for (const [what, attempt] of attempts) {
      const client = await ClientHandshake.start(address);
      await client.expect(OPTION.structuredReply);
      await attempt(client);
      await client.info(OPTION.go, '', []);
      const request = Buffer.alloc(28);
      request.writeUInt32BE(0x2560_9513, 0);
      request.writeUInt16BE(COMMAND.blockStatus, 6);
      request.writeUInt32BE(512, 24);
      client.socket.write(request);
      const reply = await client.input.take(24);
      expect(reply.readUInt16BE(6), what).toBe(0x8001);
      expect(reply.readUInt32BE(20), what).toBe(22);
      client.socket.destroy();
    }
  });

  test('the block sizes are those of the profile', async () => {
    const { connect } = await serving({ profile: profiles['4kn'], sectorCount: 64 });
    expect((await connect()).info.blockSizes).toEqual([4096, 4096, 2 ** 25]);
    const other = await serving({ profile: profiles['512e'], sectorCount: 64 });
    expect((await other.connect()).info.blockSizes).toEqual([512, 4096, 2 ** 25]);
  });
});

describe('malformed options', () => {
  const long = Buffer.alloc(5000, 'a').toString();
  test.each([
    ['a name longer than the data', OPTION.go, Buffer.from([0, 0, 1, 0, 0, 0])],
    ['a name of 4 GiB', OPTION.info, Buffer.from([255, 255, 255, 255, 0, 0])],
    ['no number of requests', OPTION.info, Buffer.from([0, 0, 0, 0])],
    ['fewer requests than it says', OPTION.info, Buffer.from([0, 0, 0, 0, 0, 9, 0, 3])],
    ['bytes left over', OPTION.go, Buffer.concat([infoData('', []), Buffer.from('xx')])],
    ['a name that is too long', OPTION.info, infoData(long, [])],
    ['a name with NUL', OPTION.info, infoData('a\0b', [])],
    ['a name that is no UTF-8', OPTION.info, Buffer.from([0, 0, 0, 2, 0xc3, 0x28, 0, 0])],
    ['more queries than there are', OPTION.listMetaContext, Buffer.from([0, 0, 0, 0, 255, 255, 255, 255])],
    ['a query longer than the data', OPTION.setMetaContext, Buffer.from([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9, 65])],
    ['data where there are none', OPTION.structuredReply, Buffer.from('x')],
  ])('%s is NBD_REP_ERR_INVALID, and haggling goes on', async (_what, option, data) => {
    const { address } = await serving();
    const client = await ClientHandshake.start(address);
    if (option === OPTION.listMetaContext || option === OPTION.setMetaContext)
      await client.expect(OPTION.structuredReply);
    const replies = await client.option(option, data);
    expect(replies.map(({ type }) => type)).toEqual([REPLY.errInvalid]);
    expect(await client.list()).toEqual(['']);
    client.socket.destroy();
  });

  test('an option with too much data is skipped, and refused', async () => {
    const { address } = await serving();
    const client = await ClientHandshake.start(address);
    const replies = await client.option(OPTION.list, Buffer.alloc(300_000));
    expect(replies.map(({ type }) => type)).toEqual([REPLY.errTooBig]);
    expect(await client.list()).toEqual(['']);
    client.socket.destroy();
  });

  test.each([
    ['unknown client flags', (): Buffer => Buffer.from([0, 0, 0, 7])],
    ['no option', (): Buffer => Buffer.concat([Buffer.from([0, 0, 0, 3]), Buffer.alloc(16, 'x')])],
    [
      'options without an end',
      (): Buffer => {
        const option = Buffer.concat([Buffer.from('49484156454f5054', 'hex'), Buffer.from([0, 0, 0, 3, 0, 0, 0, 0])]);
        return Buffer.concat([Buffer.from([0, 0, 0, 3]), ...Array.from({ length: 300 }, () => option)]);
      },
    ],
  ])('%s ends the connection', async (_what, bytes) => {
    const { raw } = await serving();
    const socket = await raw();
    const closed = untilClosed(socket);
    socket.write(bytes());
    await closed;
  });
});

describe('where it listens', () => {
  test('TCP, at a port that it finds, for this machine only', async () => {
    const disk = new ServedDisk(new MemoryDevice({ sectorCount: 64 }));
    const { address, server, connect } = await serving({ disk, address: { host: '127.0.0.1', port: 0 } });
    expect(address).toEqual({ host: '127.0.0.1', port: expect.any(Number) });
    expect(server.uri).toBe(`nbd://127.0.0.1:${(address as { port: number }).port}/`);
    const client = await connect();
    expect(client.info.sizeBytes).toBe(64 * 512);
    await client.disconnect();
  });

  test('a path that no socket address has room for is refused in words', async () => {
    const path = `/tmp/${'x'.repeat(120)}`;
    const refused = NbdServer.start({ disk: new ServedDisk(new MemoryDevice({ sectorCount: 8 })), address: { path } });
    await expect(refused).rejects.toMatchObject({
      code: 'E2BIG',
      message: expect.stringMatching(/at most 103 bytes, got 125/),
    });
  });

  test('a Unix socket that a dead server left is replaced, one in use is not', async () => {
    const { address, disk } = await serving();
    await expect(NbdServer.start({ disk, address })).rejects.toMatchObject({ code: 'EBUSY' });
    await (await NbdClient.connect(address)).disconnect();
  });

  test('clients beyond the most are turned away, and served when there is room again', async () => {
    const { connect, server } = await serving({ maxConnections: 2 });
    const [first] = [await connect(), await connect()];
    await expect(connect()).rejects.toThrow();
    await first.disconnect();
    // The server hears of the end when it comes.
    while (server.statistics.connections > 1) await new Promise((resolve) => setImmediate(resolve));
    await (await connect()).disconnect();
    expect(server.statistics.connectionsTotal).toBe(3);
  });
});
