import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { codeOf, VirtualClock, VirtualTimers } from '../../src/core/index.ts';
import {
  Audit,
  AuditLogd,
  type AuditLogdOptions,
  type LogdConnector,
  type LogdEntry,
} from '../../src/statefsd/index.ts';
import { ENTRY } from './audit-entry.ts';

/** A service that comes and goes as the test says. */
class FakeService {
  /** Connections that were asked for, newest last. */
  readonly asked: { open: () => void; close: () => void; texts: string[]; written: (() => void)[]; ended: string }[] =
    [];

  readonly connect: LogdConnector = (_path, open, close) => {
    const one = { open, close, texts: [] as string[], written: [] as (() => void)[], ended: '' };
    this.asked.push(one);
    return {
      write: (text, onWritten) => {
        one.texts.push(text);
        one.written.push(onWritten);
      },
      end: () => {
        one.ended += 'end ';
      },
      destroy: () => {
        one.ended += 'destroy ';
        close();
      },
    };
  };

  get last() {
    return this.asked.at(-1) as (typeof this.asked)[number];
  }
}

function setUp(options: Partial<AuditLogdOptions> = {}) {
  const clock = new VirtualClock();
  const timers = new VirtualTimers(clock);
  const service = new FakeService();
  const sink = new AuditLogd({ path: '/run/logd', timers, connect: service.connect, ...options });
  const audit = new Audit({ clock, sinks: [sink] });
  const sequences = () => service.last.texts.map((text) => (JSON.parse(text) as LogdEntry).fields.sequence);
  return { clock, timers, service, sink, audit, sequences };
}

describe('an entry for the log service', () => {
  test('has level, scope, message and the record', () => {
    const { audit, service } = setUp();
    service.last.open();
    audit.outcome(ENTRY);
    audit.outcome({ ...ENTRY, decision: 'deny', code: 'EPERM' });
    audit.outcome({ ...ENTRY, code: 'EIO' });
    audit.tell('server', 'start', 'OK');
    const entries = service.last.texts.map((text) => JSON.parse(text) as LogdEntry);
    expect(entries.map(({ level, scope, message }) => [level, scope, message])).toEqual([
      ['info', 'statefsd.audit', 'allow put_atomic /state/boot/bootctl for updated: OK'],
      ['warn', 'statefsd.audit', 'deny put_atomic /state/boot/bootctl for updated: EPERM'],
      ['error', 'statefsd.audit', 'allow put_atomic /state/boot/bootctl for updated: EIO'],
      ['info', 'statefsd.audit', 'start: OK'],
    ]);
    expect(entries.map(({ fields }) => fields)).toEqual(audit.recent());
    for (const text of service.last.texts) expect(text.indexOf('\n')).toBe(text.length - 1);
  });
});

describe('the queue', () => {
  test('holds records until there is a connection', () => {
    const { audit, service, sink, sequences } = setUp();
    audit.outcome(ENTRY);
    audit.outcome(ENTRY);
    expect([sink.waiting, service.last.texts.length, sink.isConnected]).toEqual([2, 0, false]);
    service.last.open();
    expect(sequences()).toEqual([1, 2]);
    for (const written of service.last.written) written();
    expect([sink.waiting, sink.dropped, audit.stats.sinkFailures]).toEqual([0, 0, 0]);
  });

  test('drops the oldest over its size, and counts it', () => {
    const { audit, service, sink, sequences } = setUp({ queueRecords: 3 });
    for (let i = 0; i < 5; i++) audit.outcome(ENTRY);
    expect([sink.waiting, sink.dropped, audit.stats.sinkFailures]).toEqual([3, 2, 2]);
    service.last.open();
    expect(sequences()).toEqual([3, 4, 5]);
  });

  test('never grows beyond its size while the service does not read', () => {
    const { audit, service, sink, sequences } = setUp({ queueRecords: 3 });
    service.last.open();
    for (let i = 0; i < 5; i++) audit.outcome(ENTRY);
    expect(sequences()).toEqual([1, 2, 3]);
    expect([sink.waiting, sink.dropped]).toEqual([3, 2]);
  });
});

describe('a lost connection', () => {
  test('is made again, later each time, and at once shorter after it worked', () => {
    const { clock, timers, service, audit } = setUp({ minDelayMs: 100, maxDelayMs: 450 });
    const waits: number[] = [];
    for (let i = 0; i < 5; i++) {
      const asked = service.asked.length;
      const sinceMs = clock.monotonicMs();
      service.last.close();
      while (service.asked.length === asked) timers.advance(10);
      waits.push(clock.monotonicMs() - sinceMs);
    }
    expect(waits).toEqual([100, 200, 400, 450, 450]);
    service.last.open();
    audit.outcome(ENTRY);
    service.last.written[0]?.();
    service.last.close();
    timers.advance(100);
    expect(service.asked).toHaveLength(7);
  });

  test('loses nothing: what was on its way is sent again', () => {
    const { timers, service, sink, audit, sequences } = setUp();
    service.last.open();
    for (let i = 0; i < 3; i++) audit.outcome(ENTRY);
    const first = service.last;
    first.written[0]?.();
    first.close();
    audit.outcome(ENTRY);
    timers.advance(100);
    service.last.open();
    expect(sequences()).toEqual([2, 3, 4]);
    // A late word of the old connection is about nothing that the new one sent.
    first.written[1]?.();
    expect(sink.waiting).toBe(3);
  });
});

describe('required', () => {
  test('denies the change without a connection, or with a full queue', () => {
    const { audit, service } = setUp({ required: true, queueRecords: 2 });
    const code = () => {
      try {
        audit.intent(ENTRY);
        return 'taken';
      } catch (error) {
        return codeOf(error);
      }
    };
    expect(code()).toBe('EPERM');
    service.last.open();
    expect([code(), code(), code()]).toEqual(['taken', 'taken', 'EPERM']);
    service.last.written[0]?.();
    expect(code()).toBe('taken');
    service.last.close();
    expect(code()).toBe('EPERM');
  });
});

describe('closing', () => {
  test('lets the service take what is left, but not for ever', () => {
    const { timers, service, sink, audit } = setUp({ closeMs: 50 });
    service.last.open();
    audit.outcome(ENTRY);
    audit.close();
    audit.close();
    expect(service.last.ended).toBe('end ');
    timers.advance(50);
    expect(service.last.ended).toBe('end destroy ');
    expect(sink.dropped).toBe(1);
    expect(timers.size).toBe(0);
    audit.outcome(ENTRY);
    expect(audit.stats.sinkFailures).toBe(1);
  });

  test('without a connection tries no more', () => {
    const { timers, service, sink, audit } = setUp();
    audit.outcome(ENTRY);
    service.last.close();
    audit.close();
    timers.advance(100_000);
    expect([service.asked.length, sink.dropped, timers.size]).toEqual([1, 1, 0]);
  });
});

// Skipped: Unix sockets in the file system are no part of Windows' Node.
describe.skipIf(process.platform === 'win32')('over a real socket', () => {
  test('records arrive', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'powercut-logd-'));
    const path = join(folder, 'logd');
    const server = createServer();
    try {
      await new Promise<void>((resolve) => server.listen(path, resolve));
      const received = new Promise<string>((resolve) => {
        server.on('connection', (socket) => {
          let text = '';
          socket.on('data', (chunk) => {
            text += chunk.toString();
          });
          socket.on('end', () => resolve(text));
        });
      });
      const connected = new Promise((resolve) => server.once('connection', resolve));
      const sink = new AuditLogd({ path });
      const audit = new Audit({ clock: new VirtualClock(), sinks: [sink] });
      audit.outcome(ENTRY);
      await connected;
      audit.outcome(ENTRY);
      while (sink.waiting > 0) await new Promise((resolve) => setImmediate(resolve));
      audit.close();
      const lines = (await received).trimEnd().split('\n');
      expect(lines.map((line) => (JSON.parse(line) as LogdEntry).fields.sequence)).toEqual([1, 2]);
      expect(sink.dropped).toBe(0);
    } finally {
      server.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test('a service that is not there breaks nothing', async () => {
    const sink = new AuditLogd({ path: join(tmpdir(), 'powercut-no-such-service') });
    const audit = new Audit({ clock: new VirtualClock(), sinks: [sink] });
    audit.outcome(ENTRY);
    await new Promise((resolve) => setImmediate(resolve));
    expect(sink.isConnected).toBe(false);
    audit.close();
    expect(sink.dropped).toBe(1);
  });
});
