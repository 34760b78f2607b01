import { describe, expect, test } from 'vitest';
import { CodedError, viewOf } from '../../src/core/index.ts';
import { profiles } from '../../src/faults/index.ts';
import { openHost, REQUEST, VhostUserFrontEnd } from '../../src/serve/index.ts';
import { BLK_F_CONFIG_WCE, BLK_F_FLUSH, CONFIG, CONFIG_BYTES, F_IN_ORDER } from '../../src/virtio/index.ts';
import { pattern } from './harness.ts';
import { noVhost, serveVhost, testHost, turn, until } from './vhost-harness.ts';

const because = noVhost === undefined ? '' : ` (${noVhost})`;

function words(low: number, high: number): Uint8Array {
  const bytes = new Uint8Array(8);
  viewOf(bytes).setUint32(0, low, true);
  viewOf(bytes).setUint32(4, high, true);
  return bytes;
}

/** A front end that has said that it wants answers (REPLY_ACK) and nothing else. */
async function frontEndOf(path: string): Promise<VhostUserFrontEnd> {
  const frontEnd = new VhostUserFrontEnd(await testHost(), path);
  frontEnd.send(REQUEST.setProtocolFeatures, words((1 << 3) | (1 << 9) | (1 << 12) | (1 << 13), 0));
  return frontEnd;
}

/** A message with a table of one region. */
function table(guest: number, sizeBytes: number, mmapOffset = 0): Uint8Array {
  const payload = new Uint8Array(40);
  const view = viewOf(payload);
  view.setUint32(0, 1, true);
  view.setBigUint64(8, BigInt(guest), true);
  view.setBigUint64(16, BigInt(sizeBytes), true);
  view.setBigUint64(24, 0x7000_0000n, true);
  view.setBigUint64(32, BigInt(mmapOffset), true);
  return payload;
}

test('without koffi there is one line that says what to do', async () => {
  const missing = (): Promise<never> => Promise.reject(new Error("Cannot find package 'koffi'\nand more"));
  const error = await openHost(missing).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(CodedError);
  expect((error as CodedError).code).toBe('EINVAL');
  expect((error as CodedError).message).toMatch(/^vhost-user: .*npm install koffi.*$/);
});

// Skipped: where koffi or Linux is missing; the name says which.
describe.skipIf(noVhost !== undefined)(`vhost-user, message by message${because}`, () => {
  test('what is offered: the device, and what is negotiated beside it', async () => {
    const serving = await serveVhost({ queueCount: 5 });
    const frontEnd = await frontEndOf(serving.path);
    const features = viewOf((await frontEnd.ask(REQUEST.getFeatures)).payload).getBigUint64(0, true);
    const has = (bit: number): boolean => ((features >> BigInt(bit)) & 1n) === 1n;
    expect([BLK_F_FLUSH, BLK_F_CONFIG_WCE, 28, 29, 30, 32, 34].map(has)).toEqual(Array(7).fill(true));
    // In order, and the log of a migration.
    expect([F_IN_ORDER, 26].map(has)).toEqual([false, false]);
    expect(viewOf((await frontEnd.ask(REQUEST.getProtocolFeatures)).payload).getUint32(0, true)).toBe(0x3209);
    expect((await frontEnd.ask(REQUEST.getQueueNum)).payload[0]).toBe(5);
  });

  test('the configuration: as the device has it, zeros behind its end, nothing past 256 bytes', async () => {
    const serving = await serveVhost({ sectorCount: 1000 });
    const frontEnd = await frontEndOf(serving.path);
    const ask = async (offset: number, sizeBytes: number): Promise<Uint8Array> => {
      const payload = new Uint8Array(12 + sizeBytes);
      viewOf(payload).setUint32(0, offset, true);
      viewOf(payload).setUint32(4, sizeBytes, true);
      return (await frontEnd.ask(REQUEST.getConfig, payload)).payload;
    };
    const whole = await ask(0, 256);
    expect(whole.length).toBe(12 + 256);
    expect(viewOf(whole).getUint32(12, true)).toBe(1000);
    expect(whole.subarray(12 + CONFIG_BYTES).every((byte) => byte === 0)).toBe(true);
    expect((await ask(CONFIG.numQueues, 2)).subarray(12)).toEqual(Uint8Array.of(8, 0));
    expect((await ask(255, 2)).length).toBe(0);
  });

  test.each([
    ['a ring that does not exist', REQUEST.setVringNum, words(8, 16)],
    ['a ring of no entries', REQUEST.setVringNum, words(0, 0)],
    ['a ring of too many entries', REQUEST.setVringNum, words(0, 1025)],
    ['features that were not offered', REQUEST.setFeatures, words(1 << 26, 1)],
    ['protocol features that were not offered', REQUEST.setProtocolFeatures, words(2, 0)],
    ['a log', REQUEST.setLogBase, words(0, 0)],
    ['a request of a feature that was not offered', 37, new Uint8Array(0)],
    ['a kick before there is a ring', REQUEST.setVringKick, words(0x100, 0)],
  ])('refused, and the connection goes on: %s', async (_name, request, payload) => {
    const serving = await serveVhost();
    const frontEnd = await frontEndOf(serving.path);
    expect(await frontEnd.confirm(request, payload)).toBe(1);
    expect(await frontEnd.confirm(REQUEST.setVringNum, words(0, 16))).toBe(0);
    expect(serving.events.filter((event) => event.startsWith('refused'))).toHaveLength(1);
  });

  test('memory: more than its file has, no file at all, and one that could be made shorter', async () => {
    const serving = await serveVhost();
    const frontEnd = await frontEndOf(serving.path);
    const host = await testHost();
    const file = host.createMemory('test', 0x10000);
    const event = host.createEvent();
    const { openSync, closeSync, writeFileSync } = await import('node:fs');
    writeFileSync(`${serving.path}.mem`, new Uint8Array(0x10000));
    const plain = openSync(`${serving.path}.mem`, 'r+');
    const tryTable = (payload: Uint8Array, fd: number): Promise<number> =>
      frontEnd.confirm(REQUEST.setMemTable, payload, [fd]);
    expect(await tryTable(table(0, 0x10000), file)).toBe(0);
    expect(await tryTable(table(0, 0x10001), file)).toBe(1);
    expect(await tryTable(table(0, 0x1000, 0xf001), file)).toBe(1);
    expect(await tryTable(table(0, 2 ** 45), file)).toBe(1);
    expect(await tryTable(table(0, 0x1000), event)).toBe(1);
    expect(await tryTable(table(0, 0x1000), plain)).toBe(1);
    expect(serving.events.at(-1)).toMatch(/memory-backend-memfd, or --allow-unsealed/);
    expect(await tryTable(table(0x1_0000_0000, 0x1000, 0x1000), file)).toBe(0);
    for (const fd of [file, event]) host.close(fd);
    closeSync(plain);
  });

  test.each([
    ['another version', [1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]],
    ['a reply', [1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]],
    ['four gigabytes to come', [5, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]],
    ['a payload of the wrong size', [2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]],
    ['regions without their files', [5, 0, 0, 0, 1, 0, 0, 0, 40, 0, 0, 0, 1, ...Array(39).fill(0)]],
  ])('the connection ends at %s; the next one is served', async (_name, bytes) => {
    const serving = await serveVhost();
    const frontEnd = new VhostUserFrontEnd(await testHost(), serving.path);
    frontEnd.sendRaw(Uint8Array.from(bytes as number[]));
    await frontEnd.closed;
    expect(serving.server.statistics.clientsDropped).toBe(1);
    const guest = await serving.connect();
    await guest.write(0, pattern(512, 1));
  });

  test('one front end at a time; a machine that dies makes room', async () => {
    const serving = await serveVhost();
    const first = await serving.connect();
    const second = new VhostUserFrontEnd(await testHost(), serving.path);
    await second.closed;
    await first.write(0, pattern(512, 1));
    first.machine.dispose();
    const third = await serving.connect();
    expect(await third.read(0, 1)).toEqual(pattern(512, 1));
  });

  test('regions in any place, with offsets; the driver in the last, above 4 GiB', async () => {
    const serving = await serveVhost({ profile: profiles['4kn'], sectorCount: 64 });
    const start = 0x1_4000_0000;
    const guest = await serving.connect({
      machine: {
        regions: [
          { guestAddress: 0, sizeBytes: 0xa0000 },
          { guestAddress: 0x10_0000, sizeBytes: 0x10_0000, mmapOffset: 0x5000 },
          { guestAddress: start, sizeBytes: 0x20_0000, mmapOffset: 0x3000 },
        ],
      },
      driver: { start },
    });
    await guest.write(3, pattern(8192, 5));
    expect(await guest.read(3, 2)).toEqual(pattern(8192, 5));
  });

  test('a driver that resets the device, and begins anew', async () => {
    const serving = await serveVhost();
    const guest = await serving.connect({ packed: true, eventIdx: true });
    await guest.write(0, pattern(512, 1));
    for (let i = 0; i < 3; i++) {
      guest.driver.restart();
      await guest.settled();
      expect(await guest.read(0, 1)).toEqual(pattern(512, 1));
      await guest.write(8, pattern(4096, i));
    }
    expect(serving.events.filter((event) => event.startsWith('refused'))).toEqual([]);
  });

  test('write through, once chosen, holds for a machine that connects again', async () => {
    const serving = await serveVhost();
    const guest = await serving.connect();
    const config = new Uint8Array(13);
    viewOf(config).setUint32(0, CONFIG.writeback, true);
    viewOf(config).setUint32(4, 1, true);
    await guest.write(0, pattern(512, 1));
    expect(serving.disk.dirtySectorCount).toBe(1);
    await guest.flush();
    expect(await guest.machine.frontEnd.confirm(REQUEST.setConfig, config)).toBe(0);
    await guest.write(1, pattern(512, 2));
    expect(serving.disk.dirtySectorCount).toBe(0);
    await guest.reconnect();
    expect(guest.machine.config[CONFIG.writeback]).toBe(0);
    await guest.write(2, pattern(512, 3));
    expect(serving.disk.dirtySectorCount).toBe(0);
  });

  test('a server that is stopped leaves nothing behind, and another takes its place', async () => {
    const serving = await serveVhost();
    const guest = await serving.connect({ queueCount: 2 });
    await guest.write(5, pattern(512, 7));
    serving.server.close();
    await guest.machine.frontEnd.closed;
    await serving.restart();
    await guest.reconnect();
    expect(await guest.read(5, 1)).toEqual(pattern(512, 7));
  });
});

// Skipped: where koffi or Linux is missing; the name says which.
describe.skipIf(noVhost !== undefined)(`power cuts over vhost-user${because}`, () => {
  test('stall: no answer any more; a driver that starts anew works with what the cut left', async () => {
    const serving = await serveVhost();
    const guest = await serving.connect();
    await guest.write(0, pattern(512, 1));
    await guest.flush();
    await guest.write(0, pattern(512, 2));
    serving.disk.scheduleCut({ nth: 1, of: 'write', when: 'during' });
    guest.driver.submitWrite(9, pattern(512, 3));
    guest.driver.poll();
    await until(() => serving.disk.power === 'off');
    serving.disk.resolve('all-lost');
    serving.disk.powerOn();
    for (let i = 0; i < 50; i++) await turn();
    // Who does not begin anew does not know what was lost.
    expect(guest.driver.poll()).toBeUndefined();
    guest.driver.restart();
    await guest.settled();
    expect(await guest.read(0, 1)).toEqual(pattern(512, 1));
  });

  test('disconnect: the connection ends; while the power is off there is no other', async () => {
    const serving = await serveVhost({ onCut: 'disconnect' });
    const guest = await serving.connect();
    const ticket = guest.driver.submitWrite(9, pattern(512, 3));
    serving.disk.scheduleCut({ nth: 1, of: 'write', when: 'during' });
    guest.driver.poll();
    await guest.machine.frontEnd.closed;
    const early = new VhostUserFrontEnd(await testHost(), serving.path);
    await early.closed;
    serving.disk.resolve('all-kept');
    serving.disk.powerOn();
    await guest.reconnect();
    // It was in flight, and is carried out again.
    await guest.finish(ticket);
    expect(await guest.read(9, 1)).toEqual(pattern(512, 3));
  });

  test('latency holds success back; faults are answers, and one that hangs goes on when it is let go', async () => {
    const serving = await serveVhost();
    const guest = await serving.connect();
    serving.disk.latency.set({ write: 20 });
    const held = guest.driver.submitWrite(1, pattern(512, 1));
    guest.driver.poll();
    await until(() => serving.disk.counts.writes === 1);
    expect(guest.driver.poll()).toBeUndefined();
    await guest.finish(held);
    serving.disk.latency.set({});
    serving.disk.faults.add({ kind: 'write-error', times: 1 });
    await expect(guest.write(2, pattern(512, 1))).rejects.toThrow(/I\/O error/);
    serving.disk.faults.add({ kind: 'hung-request', of: 'flush', times: 1 });
    const flush = guest.driver.submitFlush();
    guest.driver.poll();
    for (let i = 0; i < 20; i++) await turn();
    expect([guest.driver.poll(), serving.disk.counts.flushes]).toEqual([undefined, 0]);
    serving.disk.faults.clear();
    await guest.finish(flush);
    expect(serving.disk.counts.flushes).toBe(1);
  });
});
