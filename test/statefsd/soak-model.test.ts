import { expect, test } from 'vitest';
import { ABSENT, KeyModel, makeValue, versionOf } from '../../scripts/soak-model.mjs';

test('a value says which it is, and any other byte makes it none', () => {
  const value = makeValue(3, 5, 7, 500);
  expect(value.length).toBe(500);
  expect(versionOf(3, 5, value)).toBe(7);
  for (const at of [0, 8, 12, 16, 250, 499]) {
    const torn = value.slice();
    torn[at]! ^= 1;
    expect(versionOf(3, 5, torn)).toBe(undefined);
  }
  expect(versionOf(3, 5, value.subarray(0, 499))).toBe(undefined);
  expect(versionOf(3, 5, new Uint8Array(3))).toBe(undefined);
  expect(versionOf(3, 6, value)).toBe(undefined);
  // Half of one version and half of another.
  const mixed = value.slice();
  mixed.set(makeValue(3, 5, 8, 500).subarray(250), 250);
  expect(versionOf(3, 5, mixed)).toBe(undefined);
});

test('the model tells what may be found from what may not', () => {
  const model = new KeyModel();
  expect(model.faultOf(ABSENT)).toBe(undefined);
  expect(model.faultOf(1)).toBe('came back');
  model.settle(4);
  expect(model.faultOf(4)).toBe(undefined);
  expect(model.faultOf(ABSENT)).toBe('lost');
  expect(model.faultOf(3)).toBe('older');
  expect(model.faultOf(5)).toBe('came back');
  expect(model.faultOf(undefined)).toBe('torn');
  model.doubt(5);
  model.doubt(ABSENT);
  for (const version of [4, 5, ABSENT]) expect(model.faultOf(version)).toBe(undefined);
  expect(model.faultOf(3)).toBe('older');
  expect(KeyModel.from(JSON.parse(JSON.stringify(model)))).toMatchObject({ acked: 4, maybe: new Set([5, ABSENT]) });
  model.settle(5);
  expect(model.faultOf(4)).toBe('older');
});
