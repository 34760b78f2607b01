import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { codeOf } from '../../src/core/index.ts';
import { StateFsError } from '../../src/statefs/index.ts';
import {
  activate,
  BOOT_CONTROL_PATH,
  BOOT_RECORD_BYTES,
  type BootState,
  beginUpdate,
  bootAttempt,
  confirm,
  decodeBootState,
  encodeBootState,
  initialState,
  isBootable,
  nextSlot,
  reject,
  type SlotName,
  Updated,
} from '../../src/statefsd/index.ts';
import { codeThrown } from './code-thrown.ts';
import { MemoryPort } from './memory-port.ts';

/** One step; what may not be done now is not done, and a coded error says so. */
function step(state: BootState, what: string, slot: SlotName): BootState {
  try {
    if (what === 'begin') return beginUpdate(state).state;
    if (what === 'activate') return activate(state, 2);
    if (what === 'boot') return bootAttempt(state).state;
    return what === 'confirm' ? confirm(state, slot) : reject(state, slot);
  } catch (error) {
    if (error instanceof StateFsError && (error.code === 'EBUSY' || error.code === 'EINVAL')) return state;
    throw error;
  }
}

const steps = fc.array(
  fc.tuple(fc.constantFrom('begin', 'activate', 'boot', 'confirm', 'reject'), fc.constantFrom<SlotName>('a', 'b')),
  { maxLength: 40 },
);

describe('boot control', () => {
  test('has exactly one choice, whatever is done in whatever order', () => {
    let updates = 0;
    const property = fc.property(fc.constantFrom<SlotName>('a', 'b'), steps, (factory, list) => {
      let state = initialState(factory);
      for (const [what, slot] of list) {
        const before = state;
        state = step(state, what, slot);
        if (what === 'activate' && state !== before) updates++;
        expect(isBootable(state.a) || isBootable(state.b)).toBe(true);
        expect(state.a.priority).not.toBe(state.b.priority);
        expect(decodeBootState(encodeBootState(state))).toEqual(state);
        expect(state.generation).toBeGreaterThanOrEqual(before.generation);
      }
    });
    fc.assert(property, { numRuns: 300 });
    expect(updates).toBeGreaterThan(50);
  });

  test('an update that never says that it is well is started so often, and then the old one for good', () => {
    let state = activate(beginUpdate(initialState('a')).state, 3);
    const started: SlotName[] = [];
    for (let i = 0; i < 5; i++) {
      const attempt = bootAttempt(state);
      started.push(attempt.slot);
      ({ state } = attempt);
    }
    expect(started).toEqual(['b', 'b', 'b', 'a', 'a']);
    expect(state.b).toEqual({ priority: 0, triesLeft: 0, isHealthy: false });
    expect(codeThrown(() => confirm(state, 'b'))).toBe('EINVAL');
  });

  test('an update that says so on its last try stays', () => {
    let state = activate(beginUpdate(initialState('a')).state, 1);
    ({ state } = bootAttempt(state));
    // The record says what is started next: were the power cut now, it would be the old one.
    expect(nextSlot(state)).toBe('a');
    state = confirm(state, 'b');
    expect(nextSlot(state)).toBe('b');
    expect(confirm(state, 'b')).toBe(state);
    expect(bootAttempt(state)).toEqual({ state, slot: 'b' });
    // And the old one is still there to go back to.
    expect(nextSlot(reject(state, 'b'))).toBe('a');
  });

  test('a slot is not bootable while an image is written into it', () => {
    const { state, target } = beginUpdate(initialState('b'));
    expect(target).toBe('a');
    expect(isBootable(state.a)).toBe(false);
    expect(nextSlot(state)).toBe('b');
  });

  test('refuses what would leave no way back', () => {
    const onTrial = activate(beginUpdate(initialState('a')).state, 1);
    expect(codeThrown(() => beginUpdate(onTrial))).toBe('EBUSY');
    expect(codeThrown(() => activate(onTrial, 1))).toBe('EBUSY');
    expect(codeThrown(() => beginUpdate(bootAttempt(onTrial).state))).toBe('EBUSY');
    expect(codeThrown(() => reject(initialState('a'), 'a'))).toBe('EINVAL');
    expect(codeThrown(() => confirm(onTrial, 'a'))).toBe('EINVAL');
    const settled = confirm(onTrial, 'b');
    expect(codeThrown(() => activate(settled, 1))).toBe('EINVAL');
    expect(() => activate(beginUpdate(settled).state, 0)).toThrow(RangeError);
    expect(() => activate(beginUpdate(settled).state, 8)).toThrow(RangeError);
  });

  test('no byte of a record can be another without being noticed, or being another sound record', () => {
    const record = encodeBootState(activate(beginUpdate(initialState('a')).state, 3));
    let refused = 0;
    for (let at = 0; at < record.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const mutated = record.slice();
        mutated[at] = (mutated[at] as number) ^ (1 << bit);
        try {
          expect(encodeBootState(decodeBootState(mutated))).toEqual(mutated);
        } catch (error) {
          expect(codeOf(error)).toBe('EINTEGRITY');
          refused++;
        }
      }
    }
    expect(refused).toBeGreaterThan(60);
    expect(codeThrown(() => decodeBootState(record.subarray(1)))).toBe('EINTEGRITY');
    expect(codeThrown(() => decodeBootState(new Uint8Array(BOOT_RECORD_BYTES)))).toBe('EINTEGRITY');
  });
});

describe('updated', () => {
  test('keeps one record, and writes it only when something changes', async () => {
    const store = new MemoryPort();
    const updated = new Updated(store);
    await updated.open();
    await updated.open();
    expect(await updated.boot()).toBe('a');
    expect(store.puts).toHaveLength(1);
    expect(await updated.beginUpdate()).toBe('b');
    await updated.activate();
    expect(await updated.boot()).toBe('b');
    await updated.confirm('b');
    await updated.reject('b');
    expect(await updated.boot()).toBe('a');
    expect([...store.values.keys()]).toEqual([BOOT_CONTROL_PATH]);
    expect(store.puts.map(({ purpose }) => purpose.replace('boot control: ', ''))).toEqual([
      'factory',
      'begin update',
      'activate',
      'boot',
      'confirm',
      'reject',
    ]);
  });

  test('a try is durable before the slot is named', async () => {
    const store = new MemoryPort();
    const updated = new Updated(store);
    await updated.open();
    await updated.beginUpdate();
    await updated.activate(1);
    store.onPut = () => {
      throw new StateFsError('EIO', 'the disk failed');
    };
    await expect(updated.boot()).rejects.toThrow('the disk failed');
    store.onPut = () => {};
    // Nothing was remembered of the failed start: the record decides.
    expect(await updated.boot()).toBe('b');
    expect(await updated.boot()).toBe('a');
  });

  test('does one thing at a time, and goes on after one that failed', async () => {
    const store = new MemoryPort();
    const updated = new Updated(store);
    const results = await Promise.allSettled([
      updated.open(),
      updated.reject('a'),
      updated.beginUpdate(),
      updated.activate(),
      updated.boot(),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', ...Array(3).fill('fulfilled')]);
    expect(decodeBootState(store.values.get(BOOT_CONTROL_PATH) as Uint8Array).generation).toBe(4);
  });

  test('does not make a new record of a damaged one', async () => {
    const store = new MemoryPort();
    store.values.set(BOOT_CONTROL_PATH, new Uint8Array(16));
    await expect(new Updated(store).open()).rejects.toThrow(/expected a record with one choice/);
    expect(store.puts).toEqual([]);
  });
});
