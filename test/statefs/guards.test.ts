import { describe, expect, test } from 'vitest';
import { MemoryDevice } from '../../src/blockdev/index.ts';
import { DeviceError, VirtualClock } from '../../src/core/index.ts';
import { fail, wrapDeviceError } from '../../src/statefs/errors.ts';
import { format, StateFsError, type StoreEvent, storeSectorBytes } from '../../src/statefs/index.ts';
import type { IndexEntry } from '../../src/statefs/index-entry.ts';
import { Latch } from '../../src/statefs/latch.ts';
import { Latency } from '../../src/statefs/latency.ts';
import { KIND_LOST, KIND_PUT } from '../../src/statefs/layout.ts';
import type { LogWriter } from '../../src/statefs/log-writer.ts';
import { Visibility } from '../../src/statefs/visibility.ts';
import { codeThrown } from './helpers.ts';

describe('errors', () => {
  test('keep the cause, and have none where there is none', () => {
    const thrown = (run: () => never): StateFsError => {
      try {
        return run();
      } catch (error) {
        return error as StateFsError;
      }
    };
    const without = thrown(() => fail('EIO', 'why'));
    expect([without.code, without.message, 'cause' in without]).toEqual(['EIO', 'why', false]);
    const cause = new Error('below');
    expect(thrown(() => fail('EIO', 'why', cause)).cause).toBe(cause);
  });
  test('of a device keep the codes that mean something to the caller; all others are EIO', () => {
    for (const [code, wanted] of [
      ['EROFS', 'EROFS'],
      ['EBUSY', 'EBUSY'],
      ['ENOSPC', 'ENOSPC'],
      ['EIO', 'EIO'],
      ['ECLOSED', 'EIO'],
      ['EINVAL', 'EIO'],
    ] as const) {
      const cause = new DeviceError(code, 'the device says so');
      const wrapped = wrapDeviceError(cause, 'put') as StateFsError;
      expect(wrapped).toBeInstanceOf(StateFsError);
      expect([wrapped.code, wrapped.message, wrapped.cause]).toEqual([wanted, 'put: the device says so', cause]);
    }
  });
  test('that are not the device speaking pass through untouched', () => {
    for (const error of [new TypeError('wrong'), new StateFsError('E2BIG', 'large'), 'text', undefined]) {
      expect(wrapDeviceError(error, 'put')).toBe(error);
    }
  });
});

describe('a latch', () => {
  const doubtful = new Error('in doubt');

  function latch(): { latch: Latch; writer: { inDoubt: unknown }; events: StoreEvent[] } {
    const events: StoreEvent[] = [];
    const writer = { inDoubt: undefined as unknown };
    return { latch: new Latch(writer as LogWriter, (event) => events.push(event)), writer, events };
  }
  const failing = () => {
    throw new RangeError('this call');
  };

  test('passes on what is returned and thrown, and tells nothing while nothing is in doubt', () => {
    const { latch: one, events } = latch();
    expect(one.run(() => 7)).toBe(7);
    expect(() => one.run(failing)).toThrow('this call');
    one.check();
    expect([one.isSet, events]).toEqual([false, []]);
  });
  test('tells once of what is in doubt, and refuses from then on, with the reason', () => {
    const { latch: one, writer, events } = latch();
    writer.inDoubt = doubtful;
    // What ends well tells nothing: the one that brought the doubt has thrown.
    expect(one.run(() => 8)).toBe(8);
    expect(events).toEqual([]);
    for (let i = 0; i < 3; i++) expect(() => one.run(failing)).toThrow('this call');
    expect(events).toEqual([{ type: 'latched', error: doubtful }]);
    expect(one.isSet).toBe(true);
    expect(() => one.check()).toThrow(expect.objectContaining({ code: 'EIO', cause: doubtful }));
  });
});

describe('budgets of time', () => {
  function timed(budgets: { softLatencyMs: number; deadlineMs: number }) {
    const clock = new VirtualClock();
    const events: StoreEvent[] = [];
    const all = { payloadBytes: 1, ...budgets };
    return { clock, events, latency: new Latency(clock, all as never, (event) => events.push(event)) };
  }

  test('tell of what took longer than the soft one, and not of what took as long', () => {
    const { clock, events, latency } = timed({ softLatencyMs: 5, deadlineMs: 100 });
    const startMs = latency.begin();
    clock.advance(5);
    latency.end('put', 'key', startMs);
    expect(events).toEqual([]);
    clock.advance(1);
    latency.end('put', 'key', startMs);
    expect(events).toEqual([{ type: 'slow', operation: 'put', key: 'key', elapsedMs: 6, budgetMs: 5 }]);
  });
  test('refuse a commit past its deadline, its own before that of all, and not one just in time', () => {
    const { clock, latency } = timed({ softLatencyMs: 5, deadlineMs: 10 });
    const startMs = latency.begin();
    const [common, own, none] = [undefined, 3, 0].map((ms) => latency.deadline('put', startMs, ms));
    none?.();
    clock.advance(3);
    own?.();
    expect(codeThrown(() => none?.())).toBe('EDEADLINE');
    clock.advance(7);
    common?.();
    expect(codeThrown(() => own?.())).toBe('EDEADLINE');
    clock.advance(1);
    expect(() => common?.()).toThrow('put: expected to commit within 10 ms, but 11 had passed: the old value stays');
    expect(() => latency.deadline('put', startMs, -1)).toThrow(RangeError);
  });
});

describe('visibility', () => {
  const entry = (sequence: number, kind: number = KIND_PUT) => ({ sequence, kind }) as IndexEntry;
  const outcomes = (visibility: Visibility, one: IndexEntry | undefined) => [
    codeThrown(() => visibility.check('/a', one)),
    codeThrown(() => visibility.checkPresence('/a', one)),
  ];

  test('where no group was lost hides only what is unreadable', () => {
    const visibility = new Visibility(0, false);
    expect(visibility.mayBeHidden).toBe(false);
    expect(outcomes(visibility, undefined)).toEqual(['none', 'none']);
    expect(outcomes(visibility, entry(1))).toEqual(['none', 'none']);
    expect(outcomes(visibility, entry(1, KIND_LOST))).toEqual(['EINTEGRITY', 'none']);
    expect(codeThrown(() => visibility.checkList())).toBe('none');
  });
  test('where a group was lost hides what is older, absence included, and no key written since', () => {
    const visibility = new Visibility(5, false);
    expect(visibility.mayBeHidden).toBe(true);
    expect(outcomes(visibility, undefined)).toEqual(['EINTEGRITY', 'EINTEGRITY']);
    expect(outcomes(visibility, entry(4))).toEqual(['EINTEGRITY', 'EINTEGRITY']);
    expect(outcomes(visibility, entry(5))).toEqual(['none', 'none']);
    expect(outcomes(visibility, entry(6))).toEqual(['none', 'none']);
    // That it is there is known.
    expect(outcomes(visibility, entry(4, KIND_LOST))).toEqual(['EINTEGRITY', 'none']);
    expect(codeThrown(() => visibility.checkList())).toBe('EINTEGRITY');
  });
  test('shows what may be stale where that is asked for, and still not what is unreadable', () => {
    const visibility = new Visibility(5, true);
    expect(outcomes(visibility, undefined)).toEqual(['none', 'none']);
    expect(outcomes(visibility, entry(4))).toEqual(['none', 'none']);
    expect(outcomes(visibility, entry(9, KIND_LOST))).toEqual(['EINTEGRITY', 'none']);
    expect(codeThrown(() => visibility.checkList())).toBe('none');
  });
});

describe('the sector size of a store', () => {
  test('is found through sectors of 512 bytes, from either copy', () => {
    for (const sectorBytes of [512, 1024, 4096]) {
      const device = new MemoryDevice({ sectorCount: (2 ** 21 / sectorBytes) | 0, sectorBytes });
      format(device);
      const image = new Uint8Array(2 ** 21);
      device.read(0, image);
      const small = new MemoryDevice({ sectorCount: 2 ** 12, sectorBytes: 512 });
      small.write(0, image);
      expect(storeSectorBytes(small)).toBe(sectorBytes);
      small.write(0, new Uint8Array(512));
      expect(storeSectorBytes(small)).toBe(sectorBytes);
      small.writeZeroes(0, 4096);
      expect(storeSectorBytes(small)).toBe(undefined);
    }
  });
});
