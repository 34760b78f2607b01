import { describe, expect, test } from 'vitest';
import { systemClock, VirtualClock } from '../../src/core/index.ts';
import { type OpenOptions, soundRules } from '../../src/statefs/index.ts';
import {
  assertCommit,
  assertMs,
  resolveOptions,
  type StoreBudgets,
  type StoreEvent,
} from '../../src/statefs/options.ts';

const KIB = 1024;
const MIB = 1024 * KIB;

describe('options', () => {
  test('have the defaults that docs/storage/statefs.md tells', () => {
    const { onEvent, ...rest } = resolveOptions({});
    expect(rest).toEqual({
      readOnly: false,
      commit: 'checksummed',
      compaction: 'auto',
      quotas: [],
      budgets: {
        payloadBytes: MIB,
        softLatencyMs: 250,
        deadlineMs: Number.POSITIVE_INFINITY,
        transactionBytes: 4 * MIB,
        openTransactions: 16,
        openSnapshots: 4,
      },
      clock: systemClock,
      acceptStale: false,
      rules: soundRules,
    });
    expect(onEvent({ type: 'superblock', what: 'nobody listens' })).toBeUndefined();
  });

  test('are taken as they are given', () => {
    const events: StoreEvent[] = [];
    const given: OpenOptions = {
      readOnly: true,
      commit: 'ordered',
      compaction: 'manual',
      quotas: [{ prefix: '/state/', soft: { keys: 1 }, hard: { bytes: 2 } }],
      budgets: {
        payloadBytes: 1,
        softLatencyMs: 2,
        deadlineMs: 3,
        transactionBytes: 4,
        openTransactions: 5,
        openSnapshots: 6,
      },
      clock: new VirtualClock(),
      acceptStale: true,
      rules: { ...soundRules, epochs: false },
    };
    const { onEvent, ...rest } = resolveOptions({ ...given, onEvent: (event) => events.push(event) });
    expect(rest).toEqual(given);
    expect(rest.clock).toBe(given.clock);
    onEvent({ type: 'superblock', what: 'somebody listens' });
    expect(events).toEqual([{ type: 'superblock', what: 'somebody listens' }]);
  });

  test.each<[keyof StoreBudgets, number, number]>([
    ['payloadBytes', 0, 64 * MIB],
    ['softLatencyMs', 0, Number.POSITIVE_INFINITY],
    ['deadlineMs', 0, Number.POSITIVE_INFINITY],
    ['transactionBytes', 0, Number.MAX_SAFE_INTEGER],
    ['openTransactions', 1, Number.MAX_SAFE_INTEGER],
    ['openSnapshots', 1, Number.MAX_SAFE_INTEGER],
  ])('%s: goes from %d to %d, and is named where it does not', (name, least, most) => {
    const resolved = (value: unknown): number => resolveOptions({ budgets: { [name]: value } }).budgets[name];
    for (const value of [least, most]) expect(resolved(value)).toBe(value);
    for (const value of [least - 1, Number.NaN]) {
      expect(() => resolved(value)).toThrow(RangeError);
      expect(() => resolved(value)).toThrow(`budgets.${name}`);
    }
    if (most !== Number.POSITIVE_INFINITY) expect(() => resolved(most + 1)).toThrow(RangeError);
    expect(() => resolved('7')).toThrow(TypeError);
    expect(() => resolved('7')).toThrow(`budgets.${name}`);
  });

  test('that are none are refused by their type, or their value', () => {
    for (const wrong of [null, undefined, 7, 'ordered']) {
      expect(() => resolveOptions(wrong as unknown as OpenOptions)).toThrow(/options: expected an object/);
    }
    for (const compaction of ['often', 7]) {
      expect(() => resolveOptions({ compaction } as unknown as OpenOptions)).toThrow(RangeError);
    }
    expect(() => resolveOptions({ commit: 'never' } as unknown as OpenOptions)).toThrow(RangeError);
    expect(() => resolveOptions({ commit: 7 } as unknown as OpenOptions)).toThrow(TypeError);
    for (const commit of ['ordered', 'checksummed']) expect(assertCommit(commit)).toBeUndefined();
    for (const ms of [0, 0.5, Number.POSITIVE_INFINITY]) expect(assertMs(ms, 'x')).toBeUndefined();
    expect(() => assertMs(-0.5, 'x')).toThrow(RangeError);
  });
});
