import { describe, expect, test } from 'vitest';
import { DeviceError, VirtualClock } from '../../src/core/index.ts';
import { fixedLatency, SimulatedDisk } from '../../src/faults/index.ts';
import { type CommitMode, format } from '../../src/statefs/index.ts';
import {
  type AuditSink,
  checkPolicy,
  encodeRequest,
  inProcess,
  type Policy,
  StateFsClient,
  type StateFsClientError,
} from '../../src/statefsd/index.ts';
import { FailingDevice } from '../statefs/helpers.ts';
import { codeOfRejection, formattedDevice, POLICY, payloadOf, World } from './helpers.ts';

const KEY = '/state/apps/a/x';

describe('what a client asks for is done', () => {
  test('it puts, reads, lists and deletes', async () => {
    const world = new World();
    const client = world.client('app.a');
    const value = payloadOf(3000);
    const receipt = await world.settle(client.putAtomic(KEY, value, { purpose: 'a test', ts: 1_700_000_000_001 }));
    expect(receipt).toEqual({ sequence: 1, repeated: false, slowMs: 0 });
    const stored = await world.settle(client.read(KEY));
    expect(stored.payload).toEqual(value);
    // The subject is the channel's: the client named none.
    expect(stored.meta).toEqual({ subject: 'app.a', purpose: 'a test', ts: 1_700_000_000_001 });
    expect(await world.settle(client.list())).toEqual([KEY]);
    expect(await world.settle(client.delete(KEY))).toBe(true);
    expect(await world.settle(client.delete(KEY))).toBe(false);
    expect(await codeOfRejection(world.settle(client.get(KEY)))).toBe('ENOENT');
    expect((await world.settle(client.stats())).keys).toBe(0);
  });

  test('payloads from nothing to the cap go through, and are copied when they are handed in', async () => {
    const world = new World({ device: formattedDevice(16_384) });
    const client = world.client('app.a');
    for (const length of [0, 1, 4095, 65_536, 1_048_576]) {
      const value = payloadOf(length, length + 1);
      const put = client.putAtomic(KEY, value);
      const meant = value.slice();
      value.fill(0);
      await world.settle(put);
      expect(Buffer.compare(await world.settle(client.get(KEY)), meant)).toBe(0);
    }
  });

  test('a list of more keys than one answer holds arrives in full, in order', async () => {
    const world = new World({ device: formattedDevice(40_000) });
    const client = world.client('root');
    const keys = Array.from({ length: 4200 }, (_, i) => `/state/many/${String(i).padStart(5, '0')}`);
    for (let i = 0; i < keys.length; i += 500) {
      const puts = keys.slice(i, i + 500).map((key) => client.put(key, payloadOf(1), { atomic: false }));
      await world.settle(Promise.all(puts));
    }
    expect(await world.settle(client.list('/state/many/'))).toEqual(keys);
    expect(await world.settle(client.list('/state/many/', 4150))).toEqual(keys.slice(0, 4150));
    expect(await world.settle(client.list('/state/many/0419'))).toEqual(keys.slice(4190));
  });

  test('a put that is not atomic is durable only with a sync', async () => {
    const disk = new SimulatedDisk({ sectorCount: 2048 });
    format(disk, { storeId: new Uint8Array(16).fill(3) });
    const world = new World({ device: disk });
    const client = world.client('app.a');
    await world.settle(client.putAtomic(KEY, payloadOf(9)));
    await world.settle(client.put('/state/apps/a/lost', payloadOf(9), { atomic: false }));
    disk.cut();
    disk.powerOn('all-lost');
    expect(new World({ device: disk }).service.store.list()).toEqual([KEY]);
  });

  test('put is atomic unless told otherwise', async () => {
    const disk = new SimulatedDisk({ sectorCount: 2048 });
    format(disk, { storeId: new Uint8Array(16).fill(3) });
    const world = new World({ device: disk });
    const client = world.client('app.a');
    await world.settle(client.put(KEY, payloadOf(9)));
    await world.settle(client.put('/state/apps/a/y', payloadOf(9), { atomic: false }));
    await world.settle(client.sync());
    disk.cut();
    disk.powerOn('all-lost');
    expect(new World({ device: disk }).service.store.list()).toEqual([KEY, '/state/apps/a/y']);
  });
});

describe('what the policy does not allow is denied', () => {
  test('each application has its folder and sees nothing else; nobody has nothing', async () => {
    const world = new World();
    const [a, b, root, nobody] = ['app.a', 'app.b', 'root', 'nobody'].map((subject) => world.client(subject));
    await world.settle(a!.putAtomic(KEY, payloadOf(1)));
    await world.settle(b!.putAtomic('/state/apps/b/x', payloadOf(2)));
    await world.settle(root!.putAtomic('/state/apps/ab/x', payloadOf(3)));
    expect(await world.settle(a!.list('/state/'))).toEqual([KEY]);
    expect(await world.settle(root!.list())).toEqual(['/state/apps/a/x', '/state/apps/ab/x', '/state/apps/b/x']);
    for (const attempt of [
      () => b!.get(KEY),
      () => b!.putAtomic(KEY, payloadOf(9)),
      () => b!.put(KEY, payloadOf(9), { atomic: false }),
      () => b!.delete(KEY),
      () => b!.reopen(),
      () => nobody!.get(KEY),
      () => nobody!.list(),
      () => nobody!.sync(),
      () => nobody!.stats(),
      () => world.client('stranger').get(KEY),
    ]) {
      expect(await codeOfRejection(world.settle<unknown>(attempt()))).toBe('EPERM');
    }
    expect(await world.settle(a!.get(KEY))).toEqual(payloadOf(1));
  });

  test('an envelope that names another subject is refused, whatever the policy allows its channel', async () => {
    const world = new World();
    const client = world.client('root');
    expect(await codeOfRejection(world.settle(client.putAtomic(KEY, payloadOf(1), { subject: 'app.a' })))).toBe(
      'EPERM',
    );
    await world.settle(client.putAtomic(KEY, payloadOf(1), { subject: 'root' }));
  });

  test("the server's own tree is closed to everyone, and listed to no one", async () => {
    const world = new World();
    const client = world.client('root');
    await world.settle(client.putAtomic('/state/x', payloadOf(1), {}, { nonce: true }));
    expect(world.service.store.list('/state/.statefsd/')).toEqual(['/state/.statefsd/once/root/0']);
    expect(await world.settle(client.list())).toEqual(['/state/x']);
    const own = '/state/.statefsd/once/root/0';
    for (const attempt of [
      () => client.get(own),
      () => client.putAtomic(own, payloadOf(1)),
      () => client.delete(own),
    ]) {
      expect(await codeOfRejection(world.settle<unknown>(attempt()))).toBe('EPERM');
    }
  });

  test('a malformed key is EINVAL, one that is too long E2BIG, before anything is done', async () => {
    const world = new World();
    const client = world.client('root');
    for (const key of ['', 'state/x', '/state/', '/state/a//b', '/state/../x', '/state/a\u0000']) {
      expect(await codeOfRejection(world.settle(client.putAtomic(key, payloadOf(1))))).toBe('EINVAL');
    }
    expect(await codeOfRejection(client.get('/state/\ud800'))).toBe('EINVAL');
    expect(await codeOfRejection(client.get(`/state/${'x'.repeat(250)}`))).toBe('E2BIG');
    expect(world.service.store.stats().lastSequence).toBe(0);
  });

  test('a policy that is replaced holds from the next request on', async () => {
    const world = new World();
    const client = world.client('app.a');
    await world.settle(client.putAtomic(KEY, payloadOf(1)));
    world.authority.replace({ ...POLICY, rules: [] });
    expect(await codeOfRejection(world.settle(client.get(KEY)))).toBe('EPERM');
  });
});

describe('a payload is held to its envelope and its budget', () => {
  const small: Policy = checkPolicy({
    ...POLICY,
    budgets: [
      { subject: 'app.a', path: '/state/apps/a/small/', payloadBytes: 10 },
      { subject: '*', path: '/state/', payloadBytes: 100 },
    ],
  });

  test('what the envelope does not vouch for is EINTEGRITY', async () => {
    const world = new World();
    const answers: Uint8Array[] = [];
    const peer = world.client('root', {
      connect: (handlers) =>
        inProcess(
          world.service,
          'root',
        )({
          ...handlers,
          opened: (channel) =>
            handlers.opened({
              ...channel,
              write: (frame) => {
                // A bit of the payload is turned on the way.
                frame[frame.length - 1]! ^= 1;
                answers.push(frame);
                channel.write(frame);
              },
            }),
        }),
    });
    expect(await codeOfRejection(world.settle(peer.putAtomic(KEY, payloadOf(50))))).toBe('EINTEGRITY');
    expect(world.service.store.list()).toEqual([]);
    expect(answers.length).toBe(1);
  });

  test('the budget of the subject and prefix holds, else the general one', async () => {
    const world = new World({ policy: small });
    const client = world.client('app.a');
    const put = (key: string, length: number) =>
      codeOfRejection(world.settle(client.putAtomic(key, payloadOf(length))));
    expect(await put('/state/apps/a/small/x', 10)).toBe('none');
    expect(await put('/state/apps/a/small/x', 11)).toBe('E2BIG');
    expect(await put('/state/apps/a/x', 100)).toBe('none');
    expect(await put('/state/apps/a/x', 101)).toBe('E2BIG');
    expect(await world.settle(client.get('/state/apps/a/small/x'))).toEqual(payloadOf(10));
  });

  test('a frame over every budget is E2BIG too, with its payload never kept, and the connection goes on', async () => {
    const world = new World();
    const client = world.client('app.a');
    await world.settle(client.putAtomic(KEY, payloadOf(5)));
    expect(await codeOfRejection(world.settle(client.putAtomic(KEY, new Uint8Array(40 * 1024 * 1024))))).toBe('E2BIG');
    expect(await world.settle(client.get(KEY))).toEqual(payloadOf(5));
    expect(world.service.connectionCount).toBe(1);
    expect(world.audit.recent().map(({ code, size }) => `${code} ${size > 40 * 1024 * 1024}`)).toEqual([
      'OK false',
      'E2BIG true',
      'OK false',
    ]);
  });

  test('who may not put is told that, not the budget', async () => {
    const world = new World();
    const tooLarge = new Uint8Array(2 * 1024 * 1024);
    expect(await codeOfRejection(world.settle(world.client('app.b').putAtomic(KEY, tooLarge)))).toBe('EPERM');
  });
});

describe('latency budgets', () => {
  interface SlowWorld extends World {
    /** Milliseconds that operations of the disk take, from now on. */
    readonly speed: { write: number; flush: number };
  }

  /** A store on a disk that takes its time, in virtual time. */
  function slowWorld(
    speed: Partial<SlowWorld['speed']>,
    policy: Policy,
    sinks: AuditSink[] = [],
    commit: CommitMode = 'checksummed',
  ): SlowWorld {
    const clock = new VirtualClock(1_700_000_000_000);
    const now = { write: 0, flush: 0 };
    const latency = { latencyMs: (kind: string) => now[kind as 'write'] ?? 0 };
    const disk = new SimulatedDisk({ sectorCount: 8192, latency, clock });
    format(disk, { storeId: new Uint8Array(16).fill(3) });
    const world = new World({ device: disk, clock, policy, sinks, service: { commit } });
    return Object.assign(world, { speed: Object.assign(now, speed) });
  }

  const budgets = (fields: object): Policy => checkPolicy({ ...POLICY, budgets: [{ path: '/state/', ...fields }] });

  function slowSink(clock: () => VirtualClock, delayMs: number, required: boolean): AuditSink {
    return { name: 'slow', required, write: () => clock().advance(delayMs) };
  }

  test('over the soft one, a put on a slow disk succeeds, and the measured time is told on both sides', async () => {
    const world = slowWorld({ write: 10, flush: 300 }, budgets({ softLatencyMs: 250 }));
    const told: unknown[] = [];
    const client = world.client('app.a', { onEvent: (event) => event.type === 'slow' && told.push(event) });
    const receipt = await world.settle(client.putAtomic(KEY, payloadOf(10)));
    expect(receipt.slowMs).toBeGreaterThan(300);
    const slow = { type: 'slow', operation: 'put_atomic', path: KEY, elapsedMs: receipt.slowMs };
    expect(told).toEqual([slow]);
    expect(world.events).toEqual([{ ...slow, subject: 'app.a', budgetMs: 250 }]);
    expect(world.audit.recent()[0]).toMatchObject({ code: 'OK', duration: receipt.slowMs });
  });

  test('within it nothing is told', async () => {
    const world = slowWorld({ flush: 10 }, budgets({ softLatencyMs: 250 }));
    expect((await world.settle(world.client('app.a').putAtomic(KEY, payloadOf(10)))).slowMs).toBe(0);
    expect(world.events).toEqual([]);
  });

  test('past the deadline on a slow disk it is EDEADLINE, and the old bytes are in place', async () => {
    const world = slowWorld({}, budgets({ deadlineMs: 50 }));
    const client = world.client('app.a');
    await world.settle(client.putAtomic(KEY, payloadOf(20_000, 1)));
    // The payload's write takes 60 ms: the commit would be issued after the deadline.
    world.speed.write = 60;
    expect(await codeOfRejection(world.settle(client.putAtomic(KEY, payloadOf(20_000, 2))))).toBe('EDEADLINE');
    expect(await world.settle(client.get(KEY))).toEqual(payloadOf(20_000, 1));
    world.speed.write = 0;
    await world.settle(client.putAtomic(KEY, payloadOf(20_000, 3)));
    expect(await world.settle(client.get(KEY))).toEqual(payloadOf(20_000, 3));
  });

  test('a slow required audit sink counts: past the deadline nothing is written', async () => {
    let world: World | undefined;
    const sink = slowSink(() => world!.clock, 80, true);
    world = slowWorld({}, budgets({ deadlineMs: 50 }), [sink]);
    const client = world.client('app.a');
    const before = world.service.store.stats().lastSequence;
    expect(await codeOfRejection(world.settle(client.putAtomic(KEY, payloadOf(1))))).toBe('EDEADLINE');
    expect(await codeOfRejection(world.settle(client.delete(KEY)))).toBe('EDEADLINE');
    expect(world.service.store.stats().lastSequence).toBe(before);
    expect(world.audit.recent().map(({ event, code }) => `${event} ${code}`)).toEqual([
      'intent ',
      'outcome EDEADLINE',
      'intent ',
      'outcome EDEADLINE',
    ]);
  });

  test('a slow best-effort sink delays the answer, and denies nothing', async () => {
    let world: World | undefined;
    const sink = slowSink(() => world!.clock, 80, false);
    world = slowWorld({}, budgets({ deadlineMs: 50 }), [sink]);
    await world.settle(world.client('app.a').putAtomic(KEY, payloadOf(1)));
    expect(world.service.store.list()).toEqual([KEY]);
  });

  test('a required sink that fails denies the change, and only changes', async () => {
    const failing: AuditSink = {
      name: 'failing',
      required: true,
      write: () => {
        throw new Error('no space left');
      },
    };
    const world = new World({ sinks: [failing] });
    const client = world.client('app.a');
    expect(await codeOfRejection(world.settle(client.putAtomic(KEY, payloadOf(1))))).toBe('EPERM');
    expect(await codeOfRejection(world.settle(client.get(KEY)))).toBe('ENOENT');
    expect(world.service.store.stats().lastSequence).toBe(0);
  });

  test("the caller's own deadline tightens the budget and never loosens it", async () => {
    const world = slowWorld({ write: 60 }, budgets({ deadlineMs: 500 }));
    const client = world.client('app.a');
    const value = payloadOf(20_000);
    expect(await codeOfRejection(world.settle(client.putAtomic(KEY, value, {}, { deadlineMs: 50 })))).toBe('EDEADLINE');
    expect(await codeOfRejection(world.settle(client.putAtomic(KEY, value, {}, { deadlineMs: 60_000 })))).toBe('none');
    const tight = slowWorld({ write: 60 }, budgets({ deadlineMs: 50 }));
    const there = tight.client('app.a');
    expect(await codeOfRejection(tight.settle(there.putAtomic(KEY, value, {}, { deadlineMs: 60_000 })))).toBe(
      'EDEADLINE',
    );
  });

  test('time in the queue counts', async () => {
    const world = slowWorld({}, budgets({ deadlineMs: 70 }), [], 'ordered');
    const client = world.client('app.a');
    // In ordered mode each flushes on its own, twice: the third has waited for two.
    for (const name of ['a', 'b', 'c', 'd']) await world.settle(client.put(`/state/apps/a/${name}`, payloadOf(1)));
    world.speed.flush = 20;
    const deletes = ['a', 'b', 'c', 'd'].map((name) => codeOfRejection(client.delete(`/state/apps/a/${name}`)));
    expect(await world.settle(Promise.all(deletes))).toEqual(['none', 'none', 'EDEADLINE', 'EDEADLINE']);
  });

  test('fixed latencies of the disk model are what is measured', async () => {
    const clock = new VirtualClock();
    const disk = new SimulatedDisk({ sectorCount: 2048, latency: fixedLatency({ flush: 7 }), clock });
    format(disk, { storeId: new Uint8Array(16).fill(3) });
    const world = new World({ device: disk, clock, policy: budgets({ softLatencyMs: 0 }) });
    const client = world.client('app.a');
    await world.settle(client.putAtomic(KEY, payloadOf(1)));
    // The first put opened a life of the log; the second pays for its one flush.
    expect((await world.settle(client.putAtomic(KEY, payloadOf(1)))).slowMs).toBe(7);
  });
});

describe('puts that arrive together share a flush', () => {
  function counted(): { device: FailingDevice; world: World } {
    const device = new FailingDevice(formattedDevice());
    return { device, world: new World({ device }) };
  }

  test('eight connections, one flush; one after the other, eight', async () => {
    const { device, world } = counted();
    const policy = checkPolicy({ ...POLICY });
    expect(policy.subjects.length).toBe(4);
    const clients = Array.from({ length: 8 }, () => world.client('root'));
    await world.settle(clients[0]!.putAtomic('/state/first', payloadOf(1)));
    device.flushes = 0;
    await world.settle(Promise.all(clients.map((client, i) => client.putAtomic(`/state/${i}`, payloadOf(i)))));
    expect(device.flushes).toBe(1);
    device.flushes = 0;
    for (const [i, client] of clients.entries()) await world.settle(client.putAtomic(`/state/${i}`, payloadOf(i)));
    expect(device.flushes).toBe(8);
    for (let i = 0; i < 8; i++) expect(await world.settle(clients[0]!.get(`/state/${i}`))).toEqual(payloadOf(i));
  });

  test('deletes share it too, with puts', async () => {
    const { device, world } = counted();
    const client = world.client('root');
    for (const i of [0, 1, 2]) await world.settle(client.putAtomic(`/state/${i}`, payloadOf(1)));
    device.flushes = 0;
    const deletes = [0, 1, 2, 3].map((i) => client.delete(`/state/${i}`));
    const put = client.putAtomic('/state/4', payloadOf(1));
    expect(await world.settle(Promise.all(deletes))).toEqual([true, true, true, false]);
    await world.settle(put);
    expect(device.flushes).toBe(1);
    expect(await world.settle(client.list())).toEqual(['/state/4']);
  });

  test('in ordered mode each put has its own two', async () => {
    const device = new FailingDevice(formattedDevice());
    const world = new World({ device, service: { commit: 'ordered' } });
    const client = world.client('root');
    await world.settle(client.putAtomic('/state/first', payloadOf(1)));
    device.flushes = 0;
    await world.settle(Promise.all([0, 1, 2].map((i) => client.putAtomic(`/state/${i}`, payloadOf(i)))));
    expect(device.flushes).toBe(6);
  });

  test('no answer leaves before the flush: not to the puts, and not to who read them', async () => {
    const { device, world } = counted();
    const [writer, reader] = [world.client('root'), world.client('root')];
    await world.settle(writer.putAtomic(KEY, payloadOf(1, 1)));
    const settled: string[] = [];
    const note = (name: string) => () => void settled.push(name);
    device.before = (kind) => {
      if (kind === 'flush') settled.push('flush');
    };
    const both = [
      writer.putAtomic(KEY, payloadOf(1, 2)).then(note('put')),
      reader.get(KEY).then((value) => settled.push(`read ${value[0] === payloadOf(1, 2)[0] ? 'new' : 'old'}`)),
    ];
    await world.settle(Promise.all(both));
    expect(settled).toEqual(['flush', 'put', 'read new']);
  });

  test('a flush that fails leaves every put that shared it in doubt, and no read of it is answered', async () => {
    const { device, world } = counted();
    const client = world.client('root');
    await world.settle(client.putAtomic(KEY, payloadOf(1)));
    device.before = (kind) => {
      if (kind === 'flush') throw new DeviceError('EIO', 'the medium failed');
    };
    const outcome = (promise: Promise<unknown>) =>
      promise.then(
        () => 'done',
        ({ code, inDoubt }: StateFsClientError) => `${code}${inDoubt ? ', in doubt' : ''}`,
      );
    const all = [
      outcome(client.get(KEY)),
      outcome(client.putAtomic('/state/1', payloadOf(1))),
      outcome(client.putAtomic('/state/2', payloadOf(2))),
      outcome(client.get('/state/1')),
      outcome(client.delete(KEY)),
    ];
    expect(await world.settle(Promise.all(all))).toEqual([
      'done',
      'EIO, in doubt',
      'EIO, in doubt',
      'EIO',
      'EIO, in doubt',
    ]);
    device.before = () => {};
    // The store has latched: what comes later is refused, and that is no doubt.
    expect(await world.settle(outcome(client.putAtomic('/state/3', payloadOf(3))))).toBe('EIO');
    expect(await world.settle(outcome(client.get('/state/none')))).toBe('ENOENT');
  });
});

describe('the audit has every request', () => {
  test('once, with what was decided and how it ended', async () => {
    const world = new World();
    const client = world.client('app.a');
    const value = payloadOf(12);
    await world.settle(client.putAtomic(KEY, value));
    await codeOfRejection(world.settle(client.putAtomic('/state/boot/slot', value)));
    await world.settle(client.get(KEY));
    await world.settle(client.list('/state/apps/'));
    await codeOfRejection(world.settle(client.get('/state/apps/a/none')));
    await world.settle(client.delete(KEY));
    await world.settle(client.sync());
    const told = world.audit
      .recent()
      .map(({ event, decision, subject, operation, path, size, digest, code }) =>
        [event, decision, subject, operation, path, size, digest.slice(0, 4), code].join(' '),
      );
    const digest = world.audit.recent()[0]?.digest.slice(0, 4);
    expect(told).toEqual([
      `outcome allow app.a put_atomic ${KEY} 12 ${digest} OK`,
      'outcome deny app.a put_atomic /state/boot/slot 0  EPERM',
      `outcome allow app.a get ${KEY} 12 ${digest} OK`,
      'outcome allow app.a list /state/apps/ 0  OK',
      'outcome allow app.a get /state/apps/a/none 0  ENOENT',
      `outcome allow app.a delete ${KEY} 0  OK`,
      'outcome allow app.a sync  0  OK',
    ]);
  });
});

describe('reopen', () => {
  test('is refused, unless the server was started for tests', async () => {
    const world = new World();
    expect(await codeOfRejection(world.settle(world.client('root').reopen()))).toBe('EPERM');
  });

  test('then serves from the store that it was given', async () => {
    const device = formattedDevice();
    const other = new World({ device: formattedDevice() });
    other.service.store.putAtomic('/state/other', payloadOf(1));
    const world = new World({ device, service: { reopen: () => other.service.store } });
    const client = world.client('root');
    await world.settle(client.putAtomic(KEY, payloadOf(1)));
    expect((await world.settle(client.reopen())).keys).toBe(1);
    expect(await world.settle(client.list())).toEqual(['/state/other']);
  });
});

describe('a peer that misbehaves', () => {
  /** A peer by hand: it sends bytes, and counts what it gets. */
  function raw(world: World, subject = 'root', pendingBytes = () => 0) {
    const answers: Uint8Array[] = [];
    const seen = { ended: false, destroyed: false, paused: false };
    const peer = {
      send: (frame: Uint8Array) => void answers.push(frame),
      get pendingBytes() {
        return pendingBytes();
      },
      pause: () => {
        seen.paused = true;
      },
      resume: () => {
        seen.paused = false;
      },
      end: () => {
        seen.ended = true;
      },
      destroy: () => {
        seen.destroyed = true;
      },
    };
    const admission = world.service.connect(subject, peer);
    return { answers, seen, session: 'session' in admission ? admission.session : undefined };
  }

  const get = (nonce: number) => encodeRequest('get', nonce, { path: '/state/none' });

  test('does not finish a frame: it is put out after the time for one', () => {
    const world = new World({ service: { limits: { frameTimeoutMs: 1000 } } });
    const { session, seen } = raw(world);
    session?.receive(get(1).subarray(0, 9));
    world.timers.advance(900);
    expect(seen.destroyed).toBe(false);
    world.timers.advance(600);
    expect(seen.destroyed).toBe(true);
    expect(world.service.connectionCount).toBe(0);
    expect(world.events.at(-1)).toMatchObject({ type: 'closed', reason: 'the client did not finish a frame' });
  });

  test('drips a frame byte by byte: the time is for the frame, not for the byte', () => {
    const world = new World({ service: { limits: { frameTimeoutMs: 1000 } } });
    const { session, seen } = raw(world);
    for (const byte of get(1)) {
      session?.receive(new Uint8Array([byte]));
      world.timers.advance(100);
    }
    expect(seen.destroyed).toBe(true);
  });

  test('can not finish a frame as it is not read: its time does not run', () => {
    const world = new World({ service: { limits: { frameTimeoutMs: 1000, queuedRequests: 1, unsentBytes: 10 } } });
    let pending = 100;
    const { session, seen } = raw(world, 'root', () => pending);
    session?.receive(get(1));
    session?.receive(get(2).subarray(0, 9));
    expect(seen.paused).toBe(true);
    world.timers.advance(5000);
    expect(seen.destroyed).toBe(false);
    pending = 0;
    session?.drained();
    world.timers.advance(900);
    expect(seen.paused).toBe(false);
    expect(seen.destroyed).toBe(false);
    world.timers.advance(700);
    expect(seen.destroyed).toBe(true);
  });

  test('is not blamed for a stall of the server', () => {
    const world = new World({ service: { limits: { frameTimeoutMs: 1000 } } });
    const { session, seen, answers } = raw(world);
    session?.receive(get(1).subarray(0, 9));
    // The disk takes ten seconds; the rest of the frame waits in the system meanwhile, and is read right after.
    world.clock.advance(10_000);
    world.timers.runDue();
    session?.receive(get(1).subarray(9));
    world.timers.advance(500);
    expect(answers.length).toBe(1);
    expect(seen.destroyed).toBe(false);
  });

  test('takes no answers: nothing more is carried out for it, then it is put out', () => {
    const world = new World({ service: { limits: { writeTimeoutMs: 1000, unsentBytes: 10 } } });
    let pending = 0;
    const { session, answers, seen } = raw(world, 'root', () => pending);
    session?.receive(get(1));
    pending = 100;
    world.timers.runDue();
    expect(answers.length).toBe(0);
    pending = 0;
    session?.drained();
    world.timers.runDue();
    expect(answers.length).toBe(1);
    pending = 100;
    session?.receive(get(2));
    session?.send(new Uint8Array(20));
    world.timers.advance(1500);
    expect(seen.destroyed).toBe(true);
  });

  test('does nothing: it is closed after the idle time', () => {
    const world = new World({ service: { limits: { idleTimeoutMs: 5000 } } });
    const { session, seen, answers } = raw(world);
    session?.receive(get(1));
    world.timers.advance(4000);
    expect(answers.length).toBe(1);
    expect(seen.ended).toBe(false);
    world.timers.advance(1500);
    expect(seen.ended).toBe(true);
  });

  test('sends more than may wait: it is read no further until some is answered', () => {
    const world = new World({ service: { limits: { queuedRequests: 4 } } });
    const { session, answers, seen } = raw(world);
    session?.receive(new Uint8Array(Buffer.concat(Array.from({ length: 1000 }, (_, i) => get(i + 1)))));
    expect(seen.paused).toBe(true);
    expect(answers.length).toBe(0);
    world.timers.advance(1);
    expect(answers.length).toBe(1000);
    expect(seen.paused).toBe(false);
  });

  test('breaks the frames: what came before is answered, then EPROTO, then it is closed', () => {
    const world = new World();
    const { session, answers, seen } = raw(world);
    const broken = new Uint8Array(8).fill(0xff);
    session?.receive(new Uint8Array(Buffer.concat([get(1), broken, get(2)])));
    world.timers.runDue();
    expect(answers.length).toBe(2);
    expect(seen.ended).toBe(true);
    expect(world.service.connectionCount).toBe(0);
  });

  test('sends a frame of another version: EPROTO, and it is closed', () => {
    const world = new World();
    const { session, answers, seen } = raw(world);
    const frame = get(1);
    frame[4] = 2;
    session?.receive(frame);
    world.timers.runDue();
    expect(answers.length).toBe(1);
    expect(seen.ended).toBe(true);
  });

  test('sends a request that makes no sense: EPROTO, and its next one is answered', () => {
    const world = new World();
    const { session, answers, seen } = raw(world);
    const wrong = get(1);
    wrong[5] = 99;
    session?.receive(new Uint8Array(Buffer.concat([wrong, get(2)])));
    world.timers.runDue();
    expect(answers.map((frame) => frame[6])).toEqual([12, 2]);
    expect(seen.ended).toBe(false);
  });

  test('comes too often: connections are capped, in all and for each subject, and the others are served', async () => {
    const world = new World({ service: { limits: { connections: 5, connectionsPerSubject: 3 } } });
    const many = Array.from({ length: 4 }, () => raw(world, 'app.a'));
    expect(many.map(({ session }) => session !== undefined)).toEqual([true, true, true, false]);
    expect(many[3]?.seen.ended).toBe(true);
    expect(many[3]?.answers.length).toBe(1);
    await world.settle(world.client('root').putAtomic(KEY, payloadOf(1)));
    raw(world, 'app.b');
    expect(raw(world, 'app.b').session).toBe(undefined);
    many[0]?.session?.lost('gone');
    expect(raw(world, 'app.b').session).not.toBe(undefined);
  });

  test('floods: another one is still served in turn', () => {
    const world = new World({ service: { limits: { batchRequests: 4 } } });
    const [flood, modest] = [raw(world), raw(world)];
    flood.session?.receive(new Uint8Array(Buffer.concat(Array.from({ length: 500 }, (_, i) => get(i + 1)))));
    modest.session?.receive(get(1));
    world.service.runBatch();
    expect(modest.answers.length).toBe(1);
    expect(flood.answers.length).toBeLessThan(4);
  });

  test('goes away in the middle: what it had asked for is not carried out', () => {
    const world = new World();
    const { session, answers } = raw(world);
    session?.receive(get(1));
    session?.lost('gone');
    world.timers.advance(10);
    expect(answers.length).toBe(0);
    expect(world.audit.recent().length).toBe(0);
  });

  test('ends its side: what it had asked for is answered, then it is closed', () => {
    const world = new World();
    const { session, answers, seen } = raw(world);
    session?.receive(get(1));
    session?.inputEnded();
    expect(seen.ended).toBe(false);
    world.timers.runDue();
    expect(answers.length).toBe(1);
    expect(seen.ended).toBe(true);
  });

  test('asks for more than may wait and ends its side, or the server stops: all that arrived is answered', () => {
    for (const end of ['its side', 'the server'] as const) {
      const world = new World({ service: { limits: { queuedRequests: 4 } } });
      const { session, answers, seen } = raw(world);
      const wrong = get(50);
      wrong[5] = 99;
      const frames = Array.from({ length: 100 }, (_, i) => (i === 49 ? wrong : get(i + 1)));
      session?.receive(new Uint8Array(Buffer.concat(frames)));
      if (end === 'its side') session?.inputEnded();
      else world.service.stop();
      // More that comes now is too late.
      session?.receive(get(101));
      world.timers.advance(1);
      expect(answers.length).toBe(100);
      expect(seen.ended).toBe(true);
    }
  });

  test('a limit that is none is refused', () => {
    expect(() => new World({ service: { limits: { connections: 0 } } })).toThrow(/limits.connections: expected/);
    expect(() => new World({ service: { limits: { speed: 1 } as object } })).toThrow(/there is no such limit/);
  });
});

describe('stop', () => {
  test('answers what has arrived, then receives nothing', async () => {
    const world = new World();
    const client = world.client('root');
    const put = client.putAtomic(KEY, payloadOf(1));
    const late = world.client('root', { timeoutMs: 500 });
    world.service.stop();
    expect((await put).sequence).toBe(1);
    world.service.store.close();
    const refused = late.get(KEY).catch((error: StateFsClientError) => error);
    const error = (await world.settle(refused)) as StateFsClientError;
    expect([error.code, error.inDoubt]).toEqual(['EIO', false]);
    expect(error.message).toMatch(/ECLOSED: the server is shutting down/);
    expect(world.service.connectionCount).toBe(0);
    client.close();
  });
});

test('a listener that throws costs nobody an answer', async () => {
  const policy = checkPolicy({ ...POLICY, budgets: [{ path: '/state/', softLatencyMs: 0 }] });
  const clock = new VirtualClock();
  const disk = new SimulatedDisk({ sectorCount: 2048, latency: fixedLatency({ flush: 7 }), clock });
  format(disk, { storeId: new Uint8Array(16).fill(3) });
  const onEvent = () => {
    throw new Error('a listener of no use');
  };
  const world = new World({ device: disk, clock, policy, service: { onEvent } });
  const client = new StateFsClient({ connect: inProcess(world.service, 'root'), clock, timers: world.timers });
  expect((await world.settle(client.putAtomic(KEY, payloadOf(1)))).slowMs).toBeGreaterThan(0);
});
