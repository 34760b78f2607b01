import { describe, expect, test } from 'vitest';
import { VirtualClock, VirtualTimers } from '../../src/core/index.ts';
import {
  type ChannelHandlers,
  type Connector,
  deriveFilter,
  encodeError,
  encodeResponse,
  inProcess,
  StateFsClient,
  type StateFsClientError,
} from '../../src/statefsd/index.ts';
import { codeOfRejection, formattedDevice, POLICY, payloadOf, World } from './helpers.ts';

const KEY = '/state/apps/a/x';

/** A server by hand: it sees frames, and answers, breaks or refuses as the test says. */
class Line {
  readonly clock = new VirtualClock();
  readonly timers = new VirtualTimers(this.clock);
  readonly frames: Uint8Array[] = [];
  /** When connections were asked for, in milliseconds. */
  readonly attempts: number[] = [];
  isUp = true;
  #handlers: ChannelHandlers | undefined;

  readonly connect: Connector = (handlers) => {
    this.attempts.push(this.clock.monotonicMs());
    this.#handlers = handlers;
    if (this.isUp) {
      handlers.opened({
        write: (frame) => void this.frames.push(frame),
        close: () => {
          this.#handlers = undefined;
        },
      });
    } else handlers.closed('nobody listens');
    return () => {};
  };

  get isOpen(): boolean {
    return this.#handlers !== undefined;
  }

  client(options: object = {}): StateFsClient {
    return new StateFsClient({ connect: this.connect, clock: this.clock, timers: this.timers, ...options });
  }

  answer(bytes: Uint8Array): void {
    this.#handlers?.received(bytes);
  }

  cut(): void {
    const handlers = this.#handlers;
    this.#handlers = undefined;
    handlers?.closed('the line was cut');
  }
}

function settled(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    (value) => `done ${JSON.stringify(value)}`,
    ({ code, inDoubt }: StateFsClientError) => `${code}${inDoubt ? ', in doubt' : ''}`,
  );
}

const later = () => new Promise<void>((resolve) => queueMicrotask(() => queueMicrotask(resolve)));
const isAgain = (frame: Uint8Array) => frame[16 + 2 + KEY.length + 16] === 1;

describe('an answer that is lost with the connection', () => {
  test('leaves a put, a delete and a sync in doubt; what only reads is asked again', async () => {
    const line = new Line();
    const client = line.client();
    const all = [
      client.putAtomic(KEY, payloadOf(1)),
      client.put(KEY, payloadOf(1), { atomic: false }),
      client.delete(KEY),
      client.sync(),
      client.list(),
    ].map(settled);
    await later();
    expect(line.frames.length).toBe(5);
    line.cut();
    expect(await Promise.all(all.slice(0, 4))).toEqual(Array(4).fill('EIO, in doubt'));
    line.timers.advance(100);
    expect(line.frames.length).toBe(6);
    line.answer(encodeResponse('list', 5, { keys: [KEY], more: false }));
    expect(await all[4]).toBe(`done ["${KEY}"]`);
  });

  test('has a put with a nonce asked again, and says so', async () => {
    const line = new Line();
    const client = line.client();
    const put = client.putAtomic(KEY, payloadOf(1), {}, { nonce: true });
    await later();
    expect(line.frames.map(isAgain)).toEqual([false]);
    line.cut();
    line.timers.advance(100);
    line.cut();
    line.timers.advance(100);
    expect(line.frames.map(isAgain)).toEqual([false, true, true]);
    line.answer(encodeResponse('put_atomic', 1, { sequence: 4, repeated: true, slowMs: 0 }));
    expect(await put).toEqual({ sequence: 4, repeated: true, slowMs: 0 });
  });

  test('that never comes leaves even that in doubt, after the time-out', async () => {
    const line = new Line();
    const client = line.client({ timeoutMs: 1000 });
    const put = settled(client.putAtomic(KEY, payloadOf(1), {}, { nonce: true }));
    const get = settled(client.get(KEY));
    await later();
    line.isUp = false;
    line.cut();
    line.timers.advance(2000);
    expect(await put).toBe('EIO, in doubt');
    expect(await get).toBe('EIO');
  });

  test('of puts that were not durable makes the next sync say that they may be lost', async () => {
    const line = new Line();
    const client = line.client();
    const put = client.put(KEY, payloadOf(1), { atomic: false });
    await later();
    line.answer(encodeResponse('put', 1, { slowMs: 0 }));
    await put;
    line.cut();
    expect(await settled(client.sync())).toBe('EIO, in doubt');
    // It was said once. What is put from now on can be synced.
    const sync = settled(client.sync());
    line.timers.advance(100);
    line.answer(encodeResponse('sync', 2, { slowMs: 0 }));
    expect(await sync).toBe('done undefined');
  });
});

describe('puts with nonces of one client', () => {
  test('are sent one after the other', async () => {
    const line = new Line();
    const client = line.client();
    const puts = [1, 2].map((seed) => client.putAtomic(KEY, payloadOf(1, seed), {}, { nonce: true }));
    await later();
    expect(line.frames.length).toBe(1);
    line.answer(encodeResponse('put_atomic', 1, { sequence: 1, repeated: false, slowMs: 0 }));
    await puts[0];
    await later();
    expect(line.frames.length).toBe(2);
    line.answer(encodeResponse('put_atomic', 2, { sequence: 2, repeated: false, slowMs: 0 }));
    expect((await puts[1])?.sequence).toBe(2);
  });

  test('one that fails does not hold up the next', async () => {
    const world = new World();
    const client = world.client('app.a');
    const puts = [
      client.putAtomic('/state/apps/b/x', payloadOf(1), {}, { nonce: true }),
      client.putAtomic(KEY, payloadOf(1), {}, { nonce: true }),
    ].map(codeOfRejection);
    expect(await world.settle(Promise.all(puts))).toEqual(['EPERM', 'none']);
  });
});

describe('a server that is not there', () => {
  test('is looked for with back-off, up to the time-out; nothing is in doubt', async () => {
    const line = new Line();
    line.isUp = false;
    const client = line.client({ timeoutMs: 10_000, backOff: { firstMs: 100, lastMs: 800 } });
    const put = settled(client.putAtomic(KEY, payloadOf(1)));
    await later();
    line.timers.advance(10_000);
    expect(await put).toBe('EIO');
    const waits = line.attempts.slice(1).map((at, i) => at - (line.attempts[i] as number));
    const fullMs = [100, 200, 400, 800, 800, 800];
    for (const [i, full] of fullMs.entries()) {
      expect(waits[i]).toBeGreaterThanOrEqual(full / 2);
      expect(waits[i]).toBeLessThanOrEqual(full);
    }
    // Jitter: the waits at the end are not all the same.
    expect(new Set(waits.slice(3)).size).toBeGreaterThan(1);
  });

  test('gets what waited once it is there, in order', async () => {
    const line = new Line();
    line.isUp = false;
    const client = line.client();
    void settled(client.putAtomic(KEY, payloadOf(1)));
    void settled(client.get(KEY));
    await later();
    line.isUp = true;
    expect(line.frames.length).toBe(0);
    line.timers.advance(100);
    expect(line.frames.map((frame) => frame[5])).toEqual([1, 3]);
    client.close();
  });

  test('or that refuses the connection has read nothing: no doubt, and it is asked again', async () => {
    const line = new Line();
    const client = line.client();
    const put = settled(client.putAtomic(KEY, payloadOf(1)));
    await later();
    line.answer(encodeError(undefined, 0, { status: 'EBUSY', inDoubt: false, message: 'too many' }));
    line.cut();
    line.timers.advance(100);
    expect(line.frames.length).toBe(2);
    line.answer(encodeResponse('put_atomic', 1, { sequence: 1, repeated: false, slowMs: 0 }));
    expect(await put).toMatch(/^done/);
  });
});

describe('an answer', () => {
  test('that is none ends the connection', async () => {
    const line = new Line();
    const events: string[] = [];
    const client = line.client({ onEvent: (event: { type: string; reason?: string }) => events.push(`${event.type}`) });
    const put = settled(client.putAtomic(KEY, payloadOf(1)));
    await later();
    line.answer(new Uint8Array(16).fill(0xff));
    expect(await put).toBe('EIO, in doubt');
    expect(line.isOpen).toBe(false);
    expect(events).toEqual(['connected', 'lost']);
    client.close();
  });

  test('to a question that nobody asks any more is dropped', async () => {
    const line = new Line();
    const client = line.client();
    const get = settled(client.get(KEY));
    await later();
    line.answer(encodeResponse('list', 77, { keys: [], more: false }));
    line.answer(encodeError('get', 1, { status: 'ENOENT', inDoubt: false, message: 'no such key' }));
    expect(await get).toBe('ENOENT');
  });

  test('whose payload is not what its envelope vouches for is EINTEGRITY', async () => {
    const world = new World();
    await world.settle(world.client('root').putAtomic(KEY, payloadOf(30)));
    const client = world.client('root', {
      connect: (handlers) =>
        inProcess(
          world.service,
          'root',
        )({
          opened: (channel) => handlers.opened(channel),
          closed: (reason) => handlers.closed(reason),
          received: (frame) => {
            frame[frame.length - 1]! ^= 1;
            handlers.received(frame);
          },
        }),
    });
    expect(await codeOfRejection(world.settle(client.get(KEY)))).toBe('EINTEGRITY');
  });
});

describe('the ABI filter', () => {
  test('lets nothing be sent that it does not allow', async () => {
    const line = new Line();
    const client = line.client({ filter: deriveFilter(POLICY, 'app.a') });
    for (const attempt of [
      client.putAtomic('/state/boot/slot', payloadOf(1)),
      client.put('/state/boot/slot', payloadOf(1), { atomic: false }),
      client.get('/state/apps/b/x'),
      client.delete('/state/apps/b/x'),
      client.reopen(),
    ]) {
      expect(await codeOfRejection(attempt)).toBe('EPERM');
    }
    expect(line.attempts.length).toBe(0);
    void settled(client.get(KEY));
    await later();
    expect(line.frames.length).toBe(1);
    client.close();
  });
});

describe('arguments and bounds', () => {
  test('a wrong type is a TypeError, a wrong value a RangeError', async () => {
    const client = new Line().client();
    await expect(client.putAtomic(1 as never, payloadOf(1))).rejects.toThrow(TypeError);
    await expect(client.putAtomic(KEY, 'text' as never)).rejects.toThrow(TypeError);
    await expect(client.putAtomic(KEY, payloadOf(1), {}, { deadlineMs: -1 })).rejects.toThrow(RangeError);
    await expect(client.get(undefined as never)).rejects.toThrow(TypeError);
    await expect(client.list('/state/', -1)).rejects.toThrow(RangeError);
    expect(() => new StateFsClient({} as never)).toThrow(TypeError);
    expect(() => new Line().client({ timeoutMs: 0 })).toThrow(RangeError);
    expect(() => new Line().client({ clientId: new Uint8Array(8) })).toThrow(RangeError);
  });

  test('metadata over its cap is E2BIG, and nothing is sent', async () => {
    const line = new Line();
    expect(await codeOfRejection(line.client().putAtomic(KEY, payloadOf(1), { purpose: 'x'.repeat(200) }))).toBe(
      'E2BIG',
    );
    expect(line.attempts.length).toBe(0);
  });

  test('more calls than may wait are EBUSY', async () => {
    const line = new Line();
    const client = line.client({ maxPending: 2 });
    const gets = [client.get(KEY), client.get(KEY), client.get(KEY)].map(settled);
    expect(await gets[2]).toBe('EBUSY');
    client.close();
    expect(await Promise.all(gets)).toEqual(['ECLOSED', 'ECLOSED', 'EBUSY']);
  });

  test('a client that is closed takes no calls, says what is in doubt, and leaves no timer', async () => {
    const line = new Line();
    const client = line.client();
    const put = settled(client.putAtomic(KEY, payloadOf(1)));
    await later();
    client.close();
    client.close();
    expect(await put).toBe('ECLOSED, in doubt');
    expect(await settled(client.get(KEY))).toBe('ECLOSED');
    expect(line.timers.size).toBe(0);
  });
});

test('a client rides out restarts of its server: every put that was acknowledged is there', async () => {
  const device = formattedDevice(8192);
  const clock = new VirtualClock(1_700_000_000_000);
  const timers = new VirtualTimers(clock);
  let world = new World({ device, clock, timers });
  let kill = (): void => {};
  const connect: Connector = (handlers) =>
    inProcess(
      world.service,
      'root',
    )({
      ...handlers,
      opened: (channel) => {
        handlers.opened(channel);
        kill = () => {
          // What the server had not begun is gone with it.
          channel.close();
          handlers.closed('the server was killed');
        };
      },
    });
  const client = new StateFsClient({ connect, clock, timers });
  for (let i = 0; i < 40; i++) {
    const put = client.putAtomic(`/state/${i % 7}`, payloadOf(20, i), {}, { nonce: true });
    if (i % 3 === 0) {
      await later();
      kill();
      world = new World({ device, clock, timers });
    }
    await world.settle(put);
    expect(await world.settle(client.get(`/state/${i % 7}`))).toEqual(payloadOf(20, i));
  }
});
