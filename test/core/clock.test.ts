import { expect, test } from 'vitest';
import { systemClock, VirtualClock } from '../../src/core/index.ts';

test('a virtual clock moves only when told to', () => {
  const clock = new VirtualClock(1_700_000_000_000);
  expect([clock.monotonicMs(), clock.wallMs()]).toEqual([0, 1_700_000_000_000]);
  clock.advance(0.75);
  clock.advance(0.5);
  expect([clock.monotonicMs(), clock.wallMs()]).toEqual([1.25, 1_700_000_000_001]);
  clock.advance(0);
  expect(clock.monotonicMs()).toBe(1.25);
});

test('a virtual clock never goes back, and refuses what is no time', () => {
  const clock = new VirtualClock();
  for (const ms of [-1, Number.NaN, Number.POSITIVE_INFINITY]) expect(() => clock.advance(ms)).toThrow(RangeError);
  expect(() => clock.advance('1' as never)).toThrow(TypeError);
  expect(() => new VirtualClock(-1)).toThrow(RangeError);
  expect(() => new VirtualClock(0.5)).toThrow(RangeError);
  expect(clock.monotonicMs()).toBe(0);
});

test('the system clock does not go back, and tells whole milliseconds of this century', () => {
  const first = systemClock.monotonicMs();
  expect(systemClock.monotonicMs()).toBeGreaterThanOrEqual(first);
  expect(Number.isInteger(systemClock.wallMs())).toBe(true);
  expect(systemClock.wallMs()).toBeGreaterThan(946_684_800_000);
});
