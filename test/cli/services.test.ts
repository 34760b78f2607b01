import { describe, expect, test } from 'vitest';
import { run } from './helpers.ts';

describe('powercut explore updated, keystored', () => {
  test('is complete and clean', async () => {
    const { code, out } = await run('explore', 'updated', '--depth', '1', '--json', '--require-complete');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ scenario: 'updated', through: 'virtio', complete: true, violations: [] });
  });

  test('a service that is run wrongly loses its state, and the token shows how', async () => {
    const { code, out } = await run('explore', 'keystored', '--break', 'two-keys', '--max-violations', '1', '--json');
    expect(code).toBe(1);
    const [violation] = JSON.parse(out).violations;
    expect(violation.message).toContain('expected a whole key');
    const replayed = await run('replay', violation.token);
    expect(replayed.code).toBe(1);
    expect(replayed.out).toContain(violation.message);
    const told = await run('explore', 'keystored', '--break', 'two-keys', '--max-violations', '1', '--depth', '1');
    expect(told.out).toContain('without a rule: a record is stored as two values, one after the other');
  });

  test('is asked rightly', async () => {
    const wrong = await run('explore', 'keystored', '--break', 'nothing');
    expect([wrong.code, wrong.err]).toEqual([2, expect.stringContaining('two-keys, unsynced')]);
    expect((await run('explore', 'updated', '--size', '4K')).code).toBe(2);
    // A store has no two keys to take: the way to break a service is not one to break the store.
    expect((await run('explore', 'boot-control', '--break', 'two-keys')).code).toBe(2);
  });
});
