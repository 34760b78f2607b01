import { expect, test } from 'vitest';
import { systemTimers, VirtualClock, VirtualTimers } from '../../src/core/index.ts';

test('virtual timers run when they are due, in order, and not before', () => {
  const clock = new VirtualClock();
  const timers = new VirtualTimers(clock);
  const ran: string[] = [];
  timers.after(20, () => ran.push(`late at ${clock.monotonicMs()}`));
  timers.after(10, () => ran.push(`early at ${clock.monotonicMs()}`));
  timers.after(10, () => ran.push('second of two'));
  timers.soon(() => ran.push('soon'));
  expect(ran).toEqual([]);
  expect(timers.runDue()).toBe(1);
  timers.advance(9);
  expect(ran).toEqual(['soon']);
  timers.advance(30);
  expect(ran).toEqual(['soon', 'early at 10', 'second of two', 'late at 20']);
  expect(clock.monotonicMs()).toBe(39);
  expect(timers.size).toBe(0);
});

test('a virtual timer that is called off does not run, and one may set another', () => {
  const clock = new VirtualClock();
  const timers = new VirtualTimers(clock);
  const ran: number[] = [];
  const cancel = timers.after(5, () => ran.push(-1));
  timers.after(3, () => timers.after(3, () => ran.push(clock.monotonicMs())));
  cancel();
  cancel();
  timers.advance(10);
  expect(ran).toEqual([6]);
});

test('time that work takes makes later timers late, never early', () => {
  const clock = new VirtualClock();
  const timers = new VirtualTimers(clock);
  const ran: number[] = [];
  timers.after(1, () => clock.advance(50));
  timers.after(10, () => ran.push(clock.monotonicMs()));
  timers.advance(20);
  expect(ran).toEqual([51]);
  expect(clock.monotonicMs()).toBe(51);
});

test("the machine's timers run, and can be called off", async () => {
  const ran: string[] = [];
  systemTimers.after(0, () => ran.push('never'))();
  systemTimers.soon(() => ran.push('never'))();
  await new Promise<void>((resolve) => {
    systemTimers.soon(() => ran.push('soon'));
    systemTimers.after(1, () => {
      ran.push('after');
      resolve();
    });
  });
  expect(ran).toEqual(['soon', 'after']);
});
